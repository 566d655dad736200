package core

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/director/plan"
)

func makeToken(name, role string, scopes ...string) Command {
	sum := sha256.Sum256([]byte("the secret of " + name))
	return Command{Verb: TokenCreate, Reason: "a test", For: time.Hour, Token: &Token{Name: name, Sum: sum[:], Role: role, Scopes: scopes}}
}

func revokeToken(name string) Command {
	return Command{Verb: TokenRevoke, Reason: "a test", Token: &Token{Name: name}}
}

// TestTokens: what is listed is a sum, what it is for and its end; and what is refused.
func TestTokens(t *testing.T) {
	w := newWorld(t)
	change := w.do(makeToken("ci", "operator", "cluster/fra", "service/shop"))
	if who, what := change.Audit.GetWho(), change.Audit.GetWhat(); who != "alice" || what != "make token ci, operator of cluster/fra, service/shop until 2026-01-02T14:00:00Z" {
		t.Errorf("the audit says %q of %q", what, who)
	}
	if p := w.s.Plan.Plan; p.GetMinReader() < plan.ReaderAccess || p.Token("ci").GetRevision() != p.GetRevision() {
		t.Errorf("the plan says %v, minReader %d", p.Token("ci"), p.GetMinReader())
	}
	list := Bearers(w.s.Plan.Plan)
	if len(list) != 1 || list[0].Sum != sha256.Sum256([]byte("the secret of ci")) || list[0].Grant.String() != "operator of cluster/fra, service/shop" {
		t.Errorf("got %+v", list)
	}
	if got := w.do(makeToken("ci", "operator", "cluster/fra", "service/shop")); !got.Noop {
		t.Error("the same again is another")
	}
	other := makeToken("ci", "operator", "cluster/fra")
	other.Token.Sum = slices.Clone(other.Token.Sum)
	other.Token.Sum[0] ^= 1
	w.refused(other, "there is a token ci until")
	same := makeToken("ci", "operator", "cluster/fra")
	same.Token.Name = "cd"
	w.refused(same, "this secret is that of token ci")
	for want, change := range map[string]func(*Command){
		"no token is named":         func(c *Command) { c.Token = nil },
		"no token is named as":      func(c *Command) { c.Token.Name = "a b" },
		"needs a reason":            func(c *Command) { c.Reason = "" },
		"has 31 octets, not 32":     func(c *Command) { c.Token.Sum = c.Token.Sum[1:] },
		`"root" is no role`:         func(c *Command) { c.Token.Role = "root" },
		`"nobody" is no role`:       func(c *Command) { c.Token.Role = "nobody" },
		"has 0 scopes":              func(c *Command) { c.Token.Scopes = nil },
		"has 17 scopes":             func(c *Command) { c.Token.Scopes = slices.Repeat([]string{"fleet"}, 17) },
		"is no scope":               func(c *Command) { c.Token.Scopes = []string{"domain/fra"} },
		"lasts up to 90d, and this": func(c *Command) { c.For = 91 * 24 * time.Hour },
		"this one would 0":          func(c *Command) { c.For = 0 },
	} {
		c := makeToken("other", "viewer", "fleet")
		change(&c)
		w.refused(c, want)
	}
	w.refused(revokeToken("none"), `there is no token "none"`)
	w.do(revokeToken("ci"))
	if n := len(w.s.Plan.Plan.GetTokens()); n != 0 {
		t.Errorf("%d tokens are left", n)
	}
	for i := range maxTokens {
		w.do(makeToken(fmt.Sprint("t", i), "viewer", "fleet"))
	}
	if r := w.refused(makeToken("one-more", "viewer", "fleet"), "there are 64 tokens"); !strings.Contains(r.Remedy, "divert token revoke t0") {
		t.Errorf("the remedy %q does not say which", r.Remedy)
	}
	w.s.Now = w.s.Now.Add(2 * time.Hour) // all have ended, and make room
	w.do(makeToken("one-more", "viewer", "fleet"))
	if n := len(w.s.Plan.Plan.GetTokens()); n != 1 {
		t.Errorf("%d tokens are left", n)
	}
}

// TestRevokedAtOnce (S4): a command by a token that was revoked, made anew, or has ended
// since it came in is not committed; and a token makes none that outlives it.
func TestRevokedAtOnce(t *testing.T) {
	w := newWorld(t)
	w.do(makeToken("ci", "admin", "fleet"))
	by := Bearers(w.s.Plan.Plan)[0].Identity()
	command := func(c Command) Command {
		c.By, c.Author = &by, by.Who
		return c
	}
	w.do(command(w.drain("cluster/fra")))
	if got := w.override("cluster/fra").GetAuthor(); got != "token:ci" {
		t.Errorf("drained by %q", got)
	}
	longer := makeToken("child", "viewer", "fleet")
	longer.For++
	w.refused(command(longer), "lasts longer than itself")
	w.do(command(makeToken("child", "viewer", "fleet")))
	ended := w.s.Now
	w.s.Now = w.s.Now.Add(time.Hour)
	w.refused(command(Command{Verb: Undrain, Scope: "cluster/fra", Now: true}), "token:ci was revoked, or has expired")
	w.s.Now = ended
	w.do(revokeToken("ci"))
	w.refused(command(Command{Verb: Undrain, Scope: "cluster/fra", Now: true}), "token:ci was revoked, or has expired")
	again := makeToken("ci", "admin", "fleet")
	w.do(again) // the very same secret, listed anew by somebody else
	w.refused(command(Command{Verb: Undrain, Scope: "cluster/fra", Now: true}), "token:ci was revoked, or has expired")
}

// TestCheckTokens (S7): a plan whose tokens could not be told apart, or never end, is
// refused by every director.
func TestCheckTokens(t *testing.T) {
	w := newWorld(t)
	w.do(makeToken("ci", "operator", "fleet"))
	w.do(makeToken("cd", "operator", "fleet"))
	good := w.s.Plan.Plan
	if err := checkTokens(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(p *plan.Plan){
		"two of a name":   func(p *plan.Plan) { p.Tokens[0].Name = p.Tokens[1].Name },
		"two of a secret": func(p *plan.Plan) { p.Tokens[0].Sum = p.Tokens[1].Sum },
		"no name":         func(p *plan.Plan) { p.Tokens[0].Name = "" },
		"no secret":       func(p *plan.Plan) { p.Tokens[0].Sum = nil },
		"no end":          func(p *plan.Plan) { p.Tokens[0].Expires = nil },
		"a late end":      func(p *plan.Plan) { p.Tokens[0].Expires = timestamppb.New(w.s.Now.Add(100 * 24 * time.Hour)) },
		"too many": func(p *plan.Plan) {
			for i := range maxTokens {
				sum := sha256.Sum256([]byte{byte(i)})
				p.Tokens = append(p.Tokens, &plan.Token{Name: fmt.Sprint(i), Sum: sum[:], Expires: timestamppb.New(w.s.Now), Since: timestamppb.New(w.s.Now)})
			}
		},
	} {
		p := proto.CloneOf(good)
		change(p)
		if checkTokens(p) == nil {
			t.Errorf("%s: it passes", name)
		}
	}
	// What a newer version may have written lets nobody in here, and is no reason to refuse.
	p := proto.CloneOf(good)
	p.Tokens[0].Role = "auditor"
	if err := checkTokens(p); err != nil || len(Bearers(p)) != 1 {
		t.Errorf("got %v, bearers %v", err, Bearers(p))
	}
}

// TestTokensDoNotComeBack: a backup may be older than what revoked a token.
func TestTokensDoNotComeBack(t *testing.T) {
	w := newWorld(t)
	w.do(makeToken("ci", "admin", "fleet"))
	saved := w.saved()
	s := w.s
	s.Plan, s.Doc, s.Spec = nil, nil, nil
	c, err := Restored(s, Command{ID: "r1", Verb: Restore, Author: "unix:root", Reason: "lost"}, saved, Director{Name: "d1", Site: "fra-dc1", Key: public("d1")}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(c.Plan.GetTokens()); n != 0 || !strings.Contains(strings.Join(c.Preview.Warnings, "\n"), "does not come back: 1 token") {
		t.Errorf("%d tokens came back, warnings %q", n, c.Preview.Warnings)
	}
	if _, ok := access.Find(Bearers(c.Plan), sha256.Sum256([]byte("the secret of ci")), s.Now); ok {
		t.Error("its bearer is let in")
	}
}

// TestTokenIsNoPerson (S16): whoever asks could make a token and approve by it.
func TestTokenIsNoPerson(t *testing.T) {
	w := newPair(t)
	r := w.asked(Command{Verb: DirectorRemove, Director: &Director{Name: "d3"}, Reason: "gone"})
	by := access.Bearer{Name: "mine", Grant: access.Whole(""), Expires: w.s.Now.Add(time.Hour)}.Identity()
	if _, err := approve(w.s, Command{Verb: Approve, ID: "a1", Scope: r.GetId(), Author: by.Who, By: &by}); err == nil || !strings.Contains(err.Error(), "no second person") {
		t.Errorf("approved by a token: %v", err)
	}
	person := access.Identity{Who: "cert:ben", Method: access.Certificate, Grants: []access.Grant{access.Whole("")}}
	s := w.s
	s.Me = "d2"
	if _, err := approve(s, Command{Verb: Approve, ID: "a2", Scope: r.GetId(), Author: person.Who, By: &person}); err != nil {
		t.Errorf("by a person: %v", err)
	}
}
