package api

import "time"

// The states of a Request.
const (
	RequestWaits   = "waits"
	RequestDone    = "done" // approved, and done
	RequestDenied  = "denied"
	RequestExpired = "expired"
)

// Request is a command that takes two persons (S16).
type Request struct {
	ID       string     `json:"id"` // the command's
	State    string     `json:"state"`
	What     string     `json:"what"`
	Why      []string   `json:"why"` // one person is not enough
	Author   string     `json:"author"`
	Via      string     `json:"via"` // the director that took it: another one takes the approval
	Reason   string     `json:"reason,omitempty"`
	Asked    time.Time  `json:"asked"`
	Expires  time.Time  `json:"expires"`
	By       string     `json:"by,omitempty"`       // the second person
	At       *time.Time `json:"at,omitempty"`       // when that one said yes or no
	Revision uint64     `json:"revision,omitempty"` // of the plan that did it
}

// Glass is what was done at the word of one person, though it takes two.
type Glass struct {
	ID             string    `json:"id"` // the command's
	What           string    `json:"what"`
	Why            []string  `json:"why"` // one person was not enough
	Author         string    `json:"author"`
	Via            string    `json:"via"`
	Reason         string    `json:"reason"`
	At             time.Time `json:"at"`
	Revision       uint64    `json:"revision"`
	AcknowledgedBy string    `json:"acknowledgedBy,omitempty"`
}
