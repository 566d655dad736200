package core

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

const (
	maxEnrolTokens = 32
	maxEnrolLife   = 7 * 24 * time.Hour
	enrolLabel     = "divert enrol v1"
)

// Enrol is what enrolment by tokens is about.
type Enrol struct {
	ID    string `json:"id,omitempty"`    // enrol-token-revoke
	Name  string `json:"name,omitempty"`  // the director that a token is for; "" = any new one
	Site  string `json:"site,omitempty"`  // the site that it is for; "" = any
	Key   []byte `json:"key,omitempty"`   // the token's public half
	Proof []byte `json:"proof,omitempty"` // director-enrol: ProofOf, by the token
}

// EnrolTokenID names a token by its public half.
func EnrolTokenID(key []byte) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:6])
}

// Claim is what a token signs: that one director, with one key, is meant. So what is sent
// is of no use to anybody else, and the token itself is sent to nobody.
func Claim(fleet string, d Director) []byte {
	return fmt.Appendf(nil, "%s\x00%s\x00%s\x00%s\x00%x", enrolLabel, fleet, d.Name, d.Site, d.Key)
}

func (w *work) enrolToken(key []byte) *plan.EnrolToken {
	for _, t := range w.next.GetEnrolTokens() {
		if bytes.Equal(t.GetKey(), key) {
			return t
		}
	}
	return nil
}

// addEnrolToken lists a token that takes one director into the roster.
func (w *work) addEnrolToken() error {
	e := w.c.Enrol
	switch {
	case e == nil || len(e.Key) != ed25519.PublicKeySize:
		return &Refusal{Reason: "no token is named by its public half", Remedy: "`divert director token create` makes one"}
	case w.c.Reason == "":
		return &Refusal{Reason: "a token needs a reason", Remedy: "give --reason, such as --reason \"fourth site\""}
	case w.c.For <= 0 || w.c.For > maxEnrolLife:
		return &Refusal{Reason: "a token needs an end, within " + spec.FormatDuration(maxEnrolLife), Remedy: "give --for, such as --for 1h"}
	case e.Name != "" && !operatorName(e.Name) || e.Site != "" && !operatorName(e.Site):
		return &Refusal{Reason: "what the token is for is no name of a director, or of a site"}
	case fleetOf(w.s.Spec).TwoPersons: // no other director could tell that its token was shown
		return &Refusal{Reason: "this fleet asks two persons who is in the roster, and a token is the word of one", Remedy: "start the director without one; then: divert director approve NAME, which another person approves"}
	case w.enrolToken(e.Key) != nil:
		w.noop, w.done = true, "token "+EnrolTokenID(e.Key)+" is listed"
		return nil
	}
	if d := w.next.Director(e.Name); e.Name != "" && d.GetStanding() == plan.Director_ACTIVE && len(d.GetKey()) > 0 {
		return &Refusal{Reason: e.Name + " is in the roster with a key", Remedy: "divert director remove " + e.Name + " first, if that one is gone for good"}
	}
	w.next.EnrolTokens = slices.DeleteFunc(w.next.EnrolTokens, func(t *plan.EnrolToken) bool { return w.s.Now.After(t.GetEnd().AsTime()) })
	if len(w.next.GetEnrolTokens()) >= maxEnrolTokens {
		next := slices.MinFunc(w.next.GetEnrolTokens(), func(a, b *plan.EnrolToken) int { return a.GetEnd().AsTime().Compare(b.GetEnd().AsTime()) })
		return &Refusal{
			Reason: fmt.Sprintf("there are %d tokens of directors, which is the most", maxEnrolTokens),
			Remedy: fmt.Sprintf("`divert director token list` shows them: revoke one that no director waits for, such as %s, which is the next to end (%s): divert director token revoke %s", next.GetId(), next.GetEnd().AsTime().UTC().Format(time.RFC3339), next.GetId()),
		}
	}
	id := EnrolTokenID(e.Key)
	w.next.EnrolTokens = append(w.next.EnrolTokens, &plan.EnrolToken{
		Id: id, Key: slices.Clone(e.Key), Name: e.Name, Site: e.Site, Author: w.c.Author, Reason: w.c.Reason,
		Since: timestamppb.New(w.s.Now), End: timestamppb.New(w.s.Now.Add(w.c.For)),
	})
	w.done = fmt.Sprintf("token %s takes one director into the roster, until %s", id, w.s.Now.Add(w.c.For).UTC().Format(time.RFC3339))
	w.what = "create token " + id + " for " + orText(e.Name, "a new director")
	return nil
}

func orText(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// removeEnrolToken takes a token back.
func (w *work) removeEnrolToken() error {
	e := w.c.Enrol
	switch {
	case e == nil || e.ID == "":
		return &Refusal{Reason: "no token is named", Remedy: "`divert director token list` shows them"}
	case w.c.Reason == "":
		return &Refusal{Reason: "revoking a token needs a reason", Remedy: "give --reason"}
	case !slices.ContainsFunc(w.next.GetEnrolTokens(), func(t *plan.EnrolToken) bool { return t.GetId() == e.ID }):
		return &Refusal{Reason: fmt.Sprintf("there is no token %q: it was used, revoked, or never there", e.ID), Remedy: "`divert director token list` shows them"}
	}
	w.next.EnrolTokens = slices.DeleteFunc(w.next.EnrolTokens, func(t *plan.EnrolToken) bool { return t.GetId() == e.ID })
	w.done = "token " + e.ID + " is revoked"
	w.what = "revoke token " + e.ID
	return nil
}

// enrol takes a director that shows a token into the roster, and uses the token up.
func (w *work) enrol() error {
	d, err := w.subject(true)
	if err != nil {
		return err
	}
	if w.c.Enrol == nil {
		return &Refusal{Reason: d.Name + " shows no token"}
	}
	t := w.enrolToken(w.c.Enrol.Key)
	refused := func(why string) error {
		return &Refusal{Reason: fmt.Sprintf("%s is not taken in by its token: %s", d.Name, why), Remedy: "divert director approve " + d.Name + ", or divert director token create"}
	}
	site, given, _ := w.entryOf(d.Name)
	entry := w.next.Director(d.Name)
	switch {
	case t == nil:
		return refused("it was used, revoked, or never there")
	case w.s.Now.After(t.GetEnd().AsTime()):
		return refused("it ended at " + t.GetEnd().AsTime().UTC().Format(time.RFC3339))
	case t.GetName() != "" && t.GetName() != d.Name:
		return refused("it is for " + t.GetName())
	case t.GetSite() != "" && t.GetSite() != d.Site:
		return refused("it is for site " + t.GetSite())
	case !ed25519.Verify(t.GetKey(), Claim(w.s.Plan.Identity.Fleet, *d), w.c.Enrol.Proof):
		return refused("the token did not sign this name, site and key")
	case len(given) > 0 && !bytes.Equal(given, d.Key):
		return refused("Fleet.directors gives it another key")
	case entry.GetStanding() == plan.Director_ACTIVE && len(entry.GetKey()) > 0:
		return refused("it is in the roster with a key")
	case entry.GetStanding() == plan.Director_REMOVED && t.GetName() != d.Name:
		return refused("it was removed, and comes back only by a token for its name")
	}
	if entry == nil {
		entry = &plan.Director{Name: d.Name}
		w.next.Roster = append(w.next.Roster, entry)
	}
	if d.Site != "" {
		site = d.Site
	}
	entry.Site, entry.Key, entry.Gossip, entry.Standing = site, slices.Clone(d.Key), d.Gossip, plan.Director_ACTIVE
	w.next.EnrolTokens = slices.DeleteFunc(w.next.EnrolTokens, func(o *plan.EnrolToken) bool { return o == t })
	w.done = fmt.Sprintf("%s came into the roster by token %s, in %s: %s now", d.Name, t.GetId(), site, counting(len(w.next.Active()), "director"))
	w.what = fmt.Sprintf("enrol director %s by token %s of %s", d.Name, t.GetId(), t.GetAuthor())
	return nil
}

// checkEnrolTokens holds a plan's tokens against each other.
func checkEnrolTokens(p *plan.Plan) error {
	keys := map[string]bool{}
	for _, t := range p.GetEnrolTokens() {
		if len(t.GetKey()) != ed25519.PublicKeySize || keys[string(t.GetKey())] || t.GetEnd() == nil {
			return fmt.Errorf("enrolment token %q has no key of its own, or no end", t.GetId())
		}
		keys[string(t.GetKey())] = true
	}
	return nil
}
