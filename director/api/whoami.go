package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/director/core"
)

const (
	whoamiPath = "/v1/whoami"
	canPath    = "/v1/can"
)

// Judge is a Director that can say, by its spec, what somebody may do.
type Judge interface {
	// May is nil where somebody may do something to a scope.
	May(by access.Identity, action access.Action, scope string) error
}

// Whoami is who asks, as the director that is asked knows him.
type Whoami struct {
	Who     string     `json:"who"`
	Method  string     `json:"method"` // loopback, unix, cert, token, oidc, kube
	Groups  []string   `json:"groups,omitempty"`
	Grants  []Granted  `json:"grants"`
	Expires *time.Time `json:"expires,omitempty"` // of what it was authenticated by
}

// Granted is one role in some scopes.
type Granted struct {
	Role   string   `json:"role"`
	Scopes []string `json:"scopes"`
}

// Can is whether somebody may do something, and why.
type Can struct {
	Who    string `json:"who"`
	Action string `json:"action"`
	Scope  string `json:"scope,omitempty"`
	Can    bool   `json:"can"`
	Why    string `json:"why"`
}

func (s *Server) whoami(w http.ResponseWriter, r *http.Request) {
	if _, err := query(r); err != nil {
		fail(w, http.StatusBadRequest, err.Error(), "")
		return
	}
	id := access.From(r.Context())
	out := Whoami{Who: id.Who, Method: string(id.Method), Groups: id.Groups, Grants: []Granted{}}
	for _, g := range id.Grants {
		granted := Granted{Role: g.Role.String(), Scopes: []string{}}
		for _, scope := range g.Scopes {
			granted.Scopes = append(granted.Scopes, scope.String())
		}
		out.Grants = append(out.Grants, granted)
	}
	if !id.Expires.IsZero() {
		out.Expires = &id.Expires
	}
	reply(w, http.StatusOK, out)
}

// can says whether whoever asks may do something, without doing it. Only he is told.
func (s *Server) can(w http.ResponseWriter, r *http.Request) {
	q, err := query(r, "action", "scope")
	if err == nil {
		err = checkText("scope", q["scope"], 512)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error(), "ask for "+canPath+"?action=drain&scope=cluster/fra")
		return
	}
	action := access.Action(q["action"])
	if !action.Known() {
		fail(w, http.StatusBadRequest, fmt.Sprintf("there is no action %.40q", q["action"]), fmt.Sprintf("ask for one of %v, see, probe, backup, check, keep, tokens", personal()))
		return
	}
	id := access.From(r.Context())
	out := Can{Who: id.Who, Action: string(action), Scope: q["scope"], Can: true}
	may := func(by access.Identity, a access.Action, scope string) error { return core.May(nil, by, a, scope) }
	if judge, ok := s.director.(Judge); ok {
		may = judge.May
	}
	err = may(id, action, q["scope"])
	switch refusal := (*core.Refusal)(nil); {
	case err == nil:
		out.Why = id.Rights()
	case errors.As(err, &refusal):
		out.Can, out.Why = false, refusal.Reason
	default:
		out.Can, out.Why = false, err.Error()
	}
	reply(w, http.StatusOK, out)
}

// Whoami asks who this client is.
func (c *Client) Whoami(ctx context.Context) (Whoami, error) {
	var w Whoami
	return w, c.get(ctx, whoamiPath, nil, &w)
}

// Can asks whether this client may do something.
func (c *Client) Can(ctx context.Context, action, scope string) (Can, error) {
	q := url.Values{"action": {action}}
	if scope != "" {
		q.Set("scope", scope)
	}
	var out Can
	return out, c.get(ctx, canPath, q, &out)
}
