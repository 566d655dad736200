package api

import (
	"context"
	"net/http"
	"time"
)

// tokensPath lists the tokens of the plan in force.
const tokensPath = "/v1/tokens"

// Guarded is a Director whose plan has tokens.
type Guarded interface {
	Tokens() []Token
}

// Token is a bearer's, as the plan has it: its secret nobody has but its bearer.
type Token struct {
	Name     string    `json:"name"`
	Role     string    `json:"role"`
	Scopes   []string  `json:"scopes"`
	Expires  time.Time `json:"expires"`
	Expired  bool      `json:"expired,omitempty"`
	Author   string    `json:"author"`
	Reason   string    `json:"reason"`
	Since    time.Time `json:"since"`
	Revision uint64    `json:"revision"` // the plan revision that brought it
}

func (s *Server) tokens(w http.ResponseWriter, _ *http.Request) {
	g, ok := s.director.(Guarded)
	if !ok {
		fail(w, http.StatusNotImplemented, "this director knows no tokens", "")
		return
	}
	list := g.Tokens()
	if list == nil {
		list = []Token{}
	}
	reply(w, http.StatusOK, list)
}

// Tokens lists the tokens of the plan in force.
func (c *Client) Tokens(ctx context.Context) ([]Token, error) {
	var list []Token
	return list, c.get(ctx, tokensPath, nil, &list)
}
