package core

import (
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/plan"
)

// A token takes one director in, once: not after its end, not for another name, site, key or
// fleet, not after it was revoked.
func TestEnrolByToken(t *testing.T) {
	w := newWorld(t)
	w.joinAll()
	token := keyOf("token")
	create := func(name, site string) {
		t.Helper()
		w.do(Command{Verb: EnrolTokenAdd, Reason: "fourth", For: time.Hour, Enrol: &Enrol{Name: name, Site: site, Key: public("token")}})
	}
	shows := func(d Director, fleet string, by ed25519.PrivateKey) Command {
		return Command{Verb: DirectorEnrol, Reason: "r", Director: &d, Enrol: &Enrol{Key: public("token"), Proof: ed25519.Sign(by, Claim(fleet, d))}}
	}
	d4 := Director{Name: "d4", Site: "lon", Key: public("d4"), Gossip: "192.0.2.4:7946"}

	w.refused(shows(d4, "fleet-1", token), "never there")
	create("d4", "lon")
	if c := w.do(Command{Verb: EnrolTokenAdd, Reason: "again", For: time.Hour, Enrol: &Enrol{Name: "d4", Key: public("token")}}); !c.Noop {
		t.Error("one token is listed twice")
	}
	other := d4
	other.Name = "d5"
	w.refused(shows(other, "fleet-1", token), "it is for d4")
	other = d4
	other.Site = "ams"
	w.refused(shows(other, "fleet-1", token), "it is for site lon")
	w.refused(shows(d4, "fleet-2", token), "did not sign")
	w.refused(shows(d4, "fleet-1", keyOf("d4")), "did not sign")
	stolen := shows(d4, "fleet-1", token) // what was heard, with the thief's key
	stolen.Director.Key = public("thief")
	w.refused(stolen, "did not sign")
	before := w.s.Now
	w.s.Now = before.Add(2 * time.Hour)
	w.refused(shows(d4, "fleet-1", token), "it ended at")
	w.s.Now = before

	was := w.s.Plan
	w.do(shows(d4, "fleet-1", token))
	if err := Check(was, w.s.Plan); err != nil {
		t.Error(err)
	}
	if d := w.s.Plan.Plan.Director("d4"); d.GetStanding() != plan.Director_ACTIVE || d.GetSite() != "lon" || len(w.s.Plan.Plan.GetEnrolTokens()) != 0 {
		t.Errorf("got %v, tokens %v", d, w.s.Plan.Plan.GetEnrolTokens())
	}
	w.refused(shows(d4, "fleet-1", token), "never there") // replayed

	// A removed name comes back only by a token for it.
	w.do(Command{Verb: DirectorRemove, Reason: "r", Director: &Director{Name: "d4"}})
	create("", "")
	w.refused(shows(d4, "fleet-1", token), "was removed")
	w.do(Command{Verb: EnrolTokenRemove, Reason: "r", Enrol: &Enrol{ID: EnrolTokenID(public("token"))}})
	w.refused(shows(d4, "fleet-1", token), "never there")
	create("d4", "")
	w.do(shows(d4, "fleet-1", token))

	w.refused(Command{Verb: EnrolTokenAdd, Reason: "r", For: time.Hour, Enrol: &Enrol{Name: "d1", Key: public("token")}}, "in the roster with a key")
	w.refused(Command{Verb: EnrolTokenAdd, For: time.Hour, Enrol: &Enrol{Key: public("token")}}, "needs a reason")
	w.refused(Command{Verb: EnrolTokenAdd, Reason: "r", Enrol: &Enrol{Key: public("token")}}, "needs an end")
	w.refused(Command{Verb: EnrolTokenAdd, Reason: "r", For: 8 * 24 * time.Hour, Enrol: &Enrol{Key: public("token")}}, "needs an end")
	w.refused(Command{Verb: EnrolTokenRemove, Reason: "r", Enrol: &Enrol{ID: "x"}}, "no token")
}

// TestTokenTakesNoTwo: where two persons are asked who is in the roster, a token takes nobody
// in, and who shows one from before makes no request: those would leave people none (S16).
func TestTokenTakesNoTwo(t *testing.T) {
	w := newWorld(t)
	w.joinAll()
	token := Command{Verb: EnrolTokenAdd, Reason: "fourth", For: time.Hour, Enrol: &Enrol{Name: "d4", Key: public("token")}}
	w.do(token)
	w.do(Command{Verb: Apply, Source: SourceFiles, Objects: w.twoPersons(true)})
	d4 := Director{Name: "d4", Site: "lon", Key: public("d4")}
	got, err := w.try(Command{Verb: DirectorEnrol, Author: "director d1", Reason: "r", Director: &d4, Enrol: &Enrol{Key: public("token"), Proof: ed25519.Sign(keyOf("token"), Claim("fleet-1", d4))}})
	if err == nil || got.Request != nil {
		t.Errorf("got %+v, %v, want no request", got, err)
	}
	token.Enrol = &Enrol{Name: "d5", Key: public("another")}
	w.refused(token, "a token is the word of one")
}

// TestEnrolTokensAreBounded: beyond so many none is made, and it says which one to revoke.
func TestEnrolTokensAreBounded(t *testing.T) {
	w := newWorld(t)
	create := func(i int) Command {
		return Command{Verb: EnrolTokenAdd, Reason: "more", For: time.Duration(i+1) * time.Hour, Enrol: &Enrol{Key: public(fmt.Sprint("token", i))}}
	}
	for i := range maxEnrolTokens {
		w.do(create(i))
	}
	r := w.refused(create(maxEnrolTokens), "there are 32 tokens of directors")
	if !strings.Contains(r.Remedy, "divert director token list") || !strings.Contains(r.Remedy, "divert director token revoke "+EnrolTokenID(public("token0"))) {
		t.Errorf("the remedy %q does not say which", r.Remedy)
	}
}
