package api

import "time"

// Policy is what people's commands are judged by.
type Policy struct {
	Hash     string    `json:"hash"` // SHA-256 of the bundle, as `divert policy test` prints it
	Author   string    `json:"author"`
	Reason   string    `json:"reason"`
	Since    time.Time `json:"since"`
	Revision uint64    `json:"revision"`
	Octets   uint64    `json:"octets"`
	Files    []string  `json:"files,omitempty"` // of the bundle; none where it is not at hand
	// Residency is what it says of the spec in force, one line a set: which clusters alone
	// serve which clients, besides the spec's own rules.
	Residency []string `json:"residency,omitempty"`
	Problem   string   `json:"problem,omitempty"` // why it cannot be used by the director that was asked, which refuses people's commands
}
