package api

import (
	"context"
	"net/http"
	"time"

	"github.com/divertdns/divert/director/core"
)

// secretsPath lists the fleet's secrets.
const secretsPath = "/v1/secrets"

// Sharer is a Director whose fleet may have secrets.
type Sharer interface {
	Secrets() Secrets
}

// Secrets is what anybody may know of what the directors share.
type Secrets struct {
	Fleet      string                 `json:"fleet"` // its ID, which ciphertexts are bound to
	Recipients []core.SecretRecipient `json:"recipients"`
	Silent     []string               `json:"silent,omitempty"` // registered directors whose key is not known
	Secrets    []Secret               `json:"secrets"`
	Waits      []core.TurnWait        `json:"waits,omitempty"` // who does not go by them yet, as the asked director sees it
}

// Secret is one of them: never its value.
type Secret struct {
	Name     string          `json:"name"`
	Kind     string          `json:"kind"`          // cookie, tsig
	Use      uint32          `json:"use,omitempty"` // the version that is used; none: not all have the first one yet
	Versions []SecretVersion `json:"versions"`
}

// SecretVersion is one value of a secret, by the hash of its ciphertext.
type SecretVersion struct {
	Version  uint32     `json:"version"`
	State    string     `json:"state"` // next, used, before: all of them are accepted
	Sum      string     `json:"sum"`
	Readers  []string   `json:"readers"`
	Left     []string   `json:"left,omitempty"`  // could read it, and are no longer in the roster
	Until    *time.Time `json:"until,omitempty"` // of the one before
	Author   string     `json:"author"`
	Reason   string     `json:"reason"`
	Since    time.Time  `json:"since"`
	Revision uint64     `json:"revision"`
}

func (s *Server) secrets(w http.ResponseWriter, _ *http.Request) {
	k, ok := s.director.(Sharer)
	if !ok {
		fail(w, http.StatusNotImplemented, "this director knows no secrets", "")
		return
	}
	out := k.Secrets()
	if out.Recipients == nil {
		out.Recipients = []core.SecretRecipient{}
	}
	if out.Secrets == nil {
		out.Secrets = []Secret{}
	}
	reply(w, http.StatusOK, out)
}

// Secrets lists the fleet's secrets, and to whom they are encrypted.
func (c *Client) Secrets(ctx context.Context) (Secrets, error) {
	var out Secrets
	return out, c.get(ctx, secretsPath, nil, &out)
}
