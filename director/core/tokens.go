package core

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// The bounds of tokens: each is some hundred octets of the plan, and each request that
// brings one is held against all.
const (
	maxTokens      = 64
	maxTokenScopes = 16
	maxTokenLife   = 90 * 24 * time.Hour
)

// Token is what a token-* command is about. Its secret is made by who asks and comes to
// no director: only the sum does.
type Token struct {
	Name   string   `json:"name"`
	Sum    []byte   `json:"sum,omitempty"` // SHA-256 of the secret
	Role   string   `json:"role,omitempty"`
	Scopes []string `json:"scopes,omitempty"`
}

// createToken lists the sum of a secret, and what whoever brings the secret may do.
func (w *work) createToken() error {
	t := w.c.Token
	if t == nil || !operatorName(t.Name) {
		return &Refusal{Reason: "no token is named as it must be", Remedy: fmt.Sprintf("give a name of 1 to %d letters, digits, dots, dashes and underscores", plan.MaxOperatorName)}
	}
	if w.c.Reason == "" {
		return &Refusal{Reason: "a token needs a reason", Remedy: "give --reason, such as --reason \"nightly drills\""}
	}
	if len(t.Sum) != sha256.Size {
		return &Refusal{Reason: fmt.Sprintf("the sum of %s's secret has %d octets, not %d", t.Name, len(t.Sum), sha256.Size), Remedy: "`divert token create` makes both"}
	}
	if _, err := grantOf(t.Role, t.Scopes); err != nil {
		return &Refusal{Reason: err.Error(), Remedy: "give --role viewer, operator or admin, and --scope, such as --scope cluster/fra"}
	}
	if w.c.For <= 0 || w.c.For > maxTokenLife {
		return &Refusal{Reason: fmt.Sprintf("a token lasts up to %s, and this one would %s", spec.FormatDuration(maxTokenLife), spec.FormatDuration(w.c.For)), Remedy: "give --for, such as --for 30d, and make another one before it ends"}
	}
	expires := w.s.Now.Add(w.c.For)
	if by := w.c.By; by != nil && by.Token != nil && expires.After(by.Token.Expires) {
		return &Refusal{Reason: fmt.Sprintf("a token makes none that lasts longer than itself, and %s ends %s", by.Who, by.Token.Expires.UTC().Format(time.RFC3339)), Remedy: "give a shorter --for, or have a person make it"}
	}
	w.next.Tokens = slices.DeleteFunc(w.next.GetTokens(), func(have *plan.Token) bool { return !w.s.Now.Before(have.GetExpires().AsTime()) })
	for _, have := range w.next.GetTokens() {
		same := slices.Equal(have.GetSum(), t.Sum)
		switch {
		case same && have.GetName() == t.Name:
			w.noop, w.done = true, fmt.Sprintf("token %s is listed with this secret since revision %d", t.Name, have.GetRevision())
			return nil
		case same:
			return &Refusal{Reason: "this secret is that of token " + have.GetName(), Remedy: "each has one of its own, so that what was done can be told apart"}
		case have.GetName() == t.Name:
			return &Refusal{Reason: fmt.Sprintf("there is a token %s until %s", t.Name, have.GetExpires().AsTime().UTC().Format(time.RFC3339)), Remedy: "divert token revoke " + t.Name + " first, or give this one another name"}
		}
	}
	if len(w.next.GetTokens()) >= maxTokens {
		next := slices.MinFunc(w.next.GetTokens(), func(a, b *plan.Token) int { return a.GetExpires().AsTime().Compare(b.GetExpires().AsTime()) })
		return &Refusal{
			Reason: fmt.Sprintf("there are %d tokens, which is the most", maxTokens),
			Remedy: fmt.Sprintf("`divert token list` shows them: revoke one that nobody uses, such as %s, which is the next to end (%s): divert token revoke %s", next.GetName(), next.GetExpires().AsTime().UTC().Format(time.RFC3339), next.GetName()),
		}
	}
	made := &plan.Token{
		Name: t.Name, Sum: slices.Clone(t.Sum), Role: t.Role, Scopes: slices.Clone(t.Scopes), Expires: timestamppb.New(expires),
		Author: w.c.Who(), Reason: w.c.Reason, Since: timestamppb.New(w.s.Now), Revision: w.next.GetRevision(),
	}
	w.next.Tokens = append(w.next.Tokens, made)
	w.done = fmt.Sprintf("token %s is %s until %s", t.Name, rightsOf(made), expires.UTC().Format(time.RFC3339))
	w.what = fmt.Sprintf("make token %s, %s until %s", t.Name, rightsOf(made), expires.UTC().Format(time.RFC3339))
	return nil
}

// revokeToken takes a token out: nobody may do anything by it any more, on each director
// as soon as that has the plan, and no command by it is committed from now on.
func (w *work) revokeToken() error {
	t := w.c.Token
	switch {
	case t == nil || t.Name == "":
		return &Refusal{Reason: "no token is named", Remedy: "`divert token list` shows them"}
	case w.c.Reason == "":
		return &Refusal{Reason: "revoking a token needs a reason", Remedy: "give --reason, such as --reason \"it was in a log\""}
	case w.next.Token(t.Name) == nil:
		return &Refusal{Reason: fmt.Sprintf("there is no token %.80q", t.Name), Remedy: "`divert token list` shows them"}
	}
	w.next.Tokens = slices.DeleteFunc(w.next.GetTokens(), func(have *plan.Token) bool { return have.GetName() == t.Name })
	w.done = fmt.Sprintf("token %s is revoked: nobody may do anything by it any more", t.Name)
	w.what = "revoke token " + t.Name
	return nil
}

func rightsOf(t *plan.Token) string {
	g, err := grantOf(t.GetRole(), t.GetScopes())
	if err != nil {
		return "of no use"
	}
	return g.String()
}

// grantOf reads what a token may do.
func grantOf(role string, scopes []string) (access.Grant, error) {
	r, err := access.ParseRole(role)
	if err != nil {
		return access.Grant{}, err
	}
	if len(scopes) == 0 || len(scopes) > maxTokenScopes {
		return access.Grant{}, fmt.Errorf("a token has %d scopes, it takes 1 to %d", len(scopes), maxTokenScopes)
	}
	g := access.Grant{Role: r}
	for _, text := range scopes {
		s, err := access.ParseScope(text)
		if err != nil {
			return access.Grant{}, err
		}
		g.Scopes = append(g.Scopes, s)
	}
	return g, nil
}

// Bearers lists the tokens of a plan as who asks is held against them. One that cannot be
// read, as of a newer version, lets nobody in.
func Bearers(p *plan.Plan) []access.Bearer {
	out := make([]access.Bearer, 0, len(p.GetTokens()))
	for _, t := range p.GetTokens() {
		g, err := grantOf(t.GetRole(), t.GetScopes())
		if err != nil || len(t.GetSum()) != sha256.Size || t.GetExpires() == nil {
			continue
		}
		out = append(out, access.Bearer{
			Name: t.GetName(), Sum: [sha256.Size]byte(t.GetSum()), Grant: g, Expires: t.GetExpires().AsTime(), Revision: t.GetRevision(),
		})
	}
	return out
}

// stands refuses a command by a token that the plan which it would change does not have
// any more: it may have been revoked, or have ended, since the command came in.
func stands(p *plan.Plan, c Command, now time.Time) error {
	if c.By == nil || c.By.Token == nil {
		return nil
	}
	for _, b := range Bearers(p) {
		if b.Name == c.By.Token.Name && b.Revision == c.By.Token.Revision && b.Sum == c.By.Token.Sum && now.Before(b.Expires) {
			return nil
		}
	}
	return &Refusal{Reason: c.By.Who + " was revoked, or has expired", Remedy: "have a person make another one: divert token create"}
}

// checkTokens holds a plan's tokens against each other, and against how long one may last.
func checkTokens(p *plan.Plan) error {
	if n := len(p.GetTokens()); n > maxTokens {
		return fmt.Errorf("it has %d tokens, the most is %d", n, maxTokens)
	}
	names, sums := map[string]bool{}, map[string]bool{}
	for _, t := range p.GetTokens() {
		sum := string(t.GetSum())
		if !operatorName(t.GetName()) || len(sum) != sha256.Size || names[t.GetName()] || sums[sum] {
			return fmt.Errorf("token %q has no name or secret of its own", t.GetName())
		}
		if life := t.GetExpires().AsTime().Sub(t.GetSince().AsTime()); t.GetExpires() == nil || life > maxTokenLife+clockSlack {
			return fmt.Errorf("token %s has no end, or one that is too far away", t.GetName())
		}
		names[t.GetName()], sums[sum] = true, true
	}
	return nil
}
