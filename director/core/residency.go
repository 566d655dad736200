package core

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
)

// Bounds of what a policy may make of residency: it is in each plan, which has room for
// MaxManifest.
const (
	MaxResidency     = 64 << 10 // octets as encoded
	MaxResidencySets = 256
	MaxResidencyWhy  = 200 // octets
	maxStranded      = 5   // that a refusal names
)

// Resided is what the policy that is in force once a command is carried out says of
// residency (S11).
type Resided struct {
	Spec  *plan.Residency // of the spec that all have then; nil: it says nothing
	Trial *plan.Residency // of the one that some directors try
	// Kept: it could not be asked, and the command goes on with what stands (break-glass, a
	// restore). The plan says so, since who can ask would find its sets to be others.
	Kept bool
}

// reside puts what the policy says of a spec into the next plan, and gives the spec with it.
func (w *work) reside(set *spec.Set) *spec.Set {
	switch r := w.s.Resided; {
	case len(w.c.Canary) > 0:
		w.next.CanaryResidency = w.next.GetResidency() // no break-glass passes S11
		w.next.CanaryResidencyKept = w.next.GetResidencyKept()
		if r != nil {
			w.next.CanaryResidencyKept = r.Kept
		}
		if r != nil && !r.Kept {
			w.next.CanaryResidency = r.Trial
		}
		return steer.Narrow(set, w.next, true)
	case w.c.Verb == GoOn: // it was asked when some began
		w.next.Residency, w.next.ResidencyKept = w.next.GetCanaryResidency(), w.next.GetCanaryResidencyKept()
	case r != nil && r.Kept:
		w.next.ResidencyKept = true
	case r != nil:
		w.next.Residency, w.next.ResidencyKept = r.Spec, false
	}
	return steer.Narrow(set, w.next, false)
}

// asksAnew tells whether a person's apply that changes nothing asks the policy what it could
// not be asked before.
func (w *work) asksAnew() bool {
	return w.next.GetResidencyKept() && w.c.Verb == Apply && w.c.Folder == "" && len(w.c.Canary) == 0 && len(w.c.Objects) > 0
}

// resideAnew does it where the policy changes and no spec does, and says what that moves.
func (w *work) resideAnew() {
	was := []*plan.Residency{w.next.GetResidency(), w.next.GetCanaryResidency()}
	w.next.Residency, w.next.CanaryResidency = nil, nil
	w.next.ResidencyKept, w.next.CanaryResidencyKept = false, false
	if r := w.s.Resided; r != nil && w.next.GetPolicy() != nil {
		w.next.Residency = r.Spec
		if w.next.Soaking() != nil {
			w.next.CanaryResidency = r.Trial
		}
	}
	if proto.Equal(was[0], w.next.GetResidency()) && proto.Equal(was[1], w.next.GetCanaryResidency()) {
		return
	}
	w.set = steer.Narrow(w.s.Spec, w.next, false)
	v := w.compare()
	w.prev.Effects = v.effects()
	w.prev.Warnings = append(w.prev.Warnings, v.newAlerts()...)
}

// stranded refuses what a policy leaves nobody to answer for: S11 comes before S1, so that
// those clients would have no answer as long as it stands.
func (w *work) stranded() error {
	if w.s.Resided == nil || w.s.Resided.Kept {
		return nil
	}
	sets := []*spec.Set{w.set}
	switch t := w.tries; {
	case t != nil:
		sets = append(sets, t)
	case w.s.Trial != nil && w.next.Soaking() != nil && w.c.Verb == PolicyAdopt:
		sets = append(sets, steer.Narrow(w.s.Trial.Spec, w.next, true))
	}
	for _, set := range sets {
		if set == w.s.Spec {
			continue
		}
		if out := set.Stranded(maxStranded); len(out) > 0 {
			return &Refusal{
				Reason: "residency by policy would leave clients without an answer: " + strings.Join(out, "; "),
				Remedy: "`divert policy eval DIR --input FILE --point residency` shows what it allows: add endpoints where it does, label clusters so, or change the policy",
			}
		}
	}
	return nil
}

// checkResidency holds what a plan says of residency by policy against what can be told of
// it without the policy: whose word it is, that each set is one, and how many.
func checkResidency(p *plan.Plan) error {
	if p.GetPolicy() == nil && (p.GetResidencyKept() || p.GetCanaryResidencyKept()) {
		return errors.New("it keeps residency by policy from before, and names no policy")
	}
	if (p.GetCanaryResidency() != nil || p.GetCanaryResidencyKept()) && p.Soaking() == nil {
		return errors.New("it has residency by policy for a rollout, and none is under way")
	}
	for _, r := range []*plan.Residency{p.GetResidency(), p.GetCanaryResidency()} {
		switch {
		case r == nil:
			continue
		case p.GetPolicy() == nil || !bytes.Equal(r.GetPolicy(), p.GetPolicy().GetBundle().GetHash()):
			return errors.New("its residency is by another policy than it names")
		case len(r.GetSets()) == 0 || len(r.GetSets()) > MaxResidencySets || proto.Size(r) > MaxResidency:
			return fmt.Errorf("its residency by policy has %d sets and %d KiB", len(r.GetSets()), proto.Size(r)>>10)
		}
		for _, s := range r.GetSets() {
			if err := CheckResidencySet(s); err != nil {
				return fmt.Errorf("its residency by policy: %w", err)
			}
		}
	}
	return nil
}

// CheckResidencySet says what is wrong with a set by itself; nil: nothing.
func CheckResidencySet(s *plan.ResidencySet) error {
	clients := len(s.GetContinents()) + len(s.GetCountries()) + len(s.GetPrefixes())
	switch {
	case len(s.GetServices()) == 0:
		return errors.New("a set is of no service")
	case len(s.GetClusters()) == 0:
		return fmt.Errorf("%s: clients are kept from every cluster", s.GetServices()[0])
	case s.GetEverybody() != (clients == 0):
		return fmt.Errorf("%s: a set is of everybody, or of some clients", s.GetServices()[0])
	case len(s.GetWhy()) > MaxResidencyWhy:
		return fmt.Errorf("%s: a reason of %d octets", s.GetServices()[0], len(s.GetWhy()))
	}
	for _, list := range [][]string{s.GetServices(), s.GetClusters(), s.GetContinents(), s.GetCountries(), s.GetPrefixes()} {
		for i, text := range list {
			if text == "" || i > 0 && list[i-1] >= text {
				return fmt.Errorf("%s: a list out of order at %q", s.GetServices()[0], text)
			}
		}
	}
	for _, c := range s.GetContinents() {
		if !spec.IsContinent(c) {
			return fmt.Errorf("%s: there is no continent %q", s.GetServices()[0], c)
		}
	}
	for _, c := range s.GetCountries() {
		if !spec.IsCountry(c) {
			return fmt.Errorf("%s: there is no country %q", s.GetServices()[0], c)
		}
	}
	for _, text := range s.GetPrefixes() {
		if p, err := netip.ParsePrefix(text); err != nil || p.String() != text || p.Masked() != p {
			return fmt.Errorf("%s: %q is no prefix", s.GetServices()[0], text)
		}
	}
	return nil
}

// checkResided holds residency by policy against the plan before: under the same policy and
// spec it stays as it is, and what all take of a rollout is what some were given. Whether it
// is what a policy says of another spec, who holds that finds out (director, policies).
func checkResided(cur, next *plan.Plan) error {
	same := func(a, b *plan.SpecRef) bool { return bytes.Equal(a.GetHash(), b.GetHash()) }
	if !same(cur.GetPolicy().GetBundle(), next.GetPolicy().GetBundle()) {
		return nil
	}
	was, is := cur.Soaking().GetCanary(), next.Soaking().GetCanary()
	switch {
	case same(cur.GetSpec(), next.GetSpec()) && cur.GetResidencyKept() && !next.GetResidencyKept():
		// The policy was asked at last; who holds it does so too.
	case same(cur.GetSpec(), next.GetSpec()):
		if !proto.Equal(cur.GetResidency(), next.GetResidency()) {
			return errors.New("its residency by policy is another, though neither policy nor spec is")
		}
	case was != nil && same(was, next.GetSpec()):
		if !proto.Equal(cur.GetCanaryResidency(), next.GetResidency()) {
			return errors.New("its residency by policy is another than that of the rollout that all take")
		}
	case next.GetResidencyKept() && !proto.Equal(cur.GetResidency(), next.GetResidency()):
		return errors.New("its residency by policy is another than before, which it says to have kept")
	}
	if next.GetCanaryResidencyKept() && was == nil && !proto.Equal(cur.GetResidency(), next.GetCanaryResidency()) {
		return errors.New("its rollout has another residency by policy than before, which it says to have kept")
	}
	if was != nil && is != nil && same(was, is) && !proto.Equal(cur.GetCanaryResidency(), next.GetCanaryResidency()) {
		return errors.New("its rollout has another residency by policy than before")
	}
	return nil
}
