package core

import (
	"fmt"
	"slices"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// reader is what a director must know to read the next plan.
func (w *work) reader() uint32 {
	least := heldTo(w.s.Plan, w.next, w.set)
	// A policy whose end takes two persons is for those who know it, where it is adopted so:
	// else the fleet would ask it of whoever is upgraded last.
	if w.next.GetPolicy() != nil && w.set.Fleet.TwoPersons && w.c.Verb == PolicyAdopt {
		least = max(least, plan.ReaderResidency)
	}
	if k := w.next.GetGossipKey(); w.s.Plan != nil && w.s.Plan.Plan.GetGossipKey().GetTurn() != nil && k.GetTurn() == nil && k.GetCurrent() == "" {
		least = plan.ReaderDangers // an older one takes it for a phase that is left out
	}
	if w.set.Fleet.TwoPersons && w.allKnow() {
		least = plan.ReaderDangers
	}
	return max(least, minReader(w.set, w.next), w.tried())
}

// oneWay says so where a plan takes more of its readers than any before, since all know it and
// not for what is commanded: from it no director goes back to a version that reads less.
func (w *work) oneWay() {
	if w.s.Plan == nil || w.noop || !fleetOf(w.s.Spec).TwoPersons {
		return
	}
	before, after := w.s.Plan.Plan.GetMinReader(), w.reader()
	if before >= plan.ReaderDangers || after < plan.ReaderDangers {
		return
	}
	w.prev.Warnings = append(w.prev.Warnings, fmt.Sprintf("the plan's format goes from %d to %d, since every director knows it: versions of divert that read less cannot read it any more, so that from here none can be put back to the one before", before, after))
}

// heldTo is what the plan after one has to take of its readers, so that the one after that is
// still held to all dangers that this one is.
func heldTo(before *plan.Sealed, after *plan.Plan, set *spec.Set) uint32 {
	switch {
	case before == nil || !fleetOf(set).TwoPersons:
		return 0
	case before.Plan.GetMinReader() >= plan.ReaderDangers:
		return plan.ReaderDangers
	case after.GetPolicy() != nil && knowsPolicyDangers(before.Plan):
		return plan.ReaderResidency
	}
	return 0
}

// allKnow tells whether the plans of a fleet may be held to all that takes two persons now:
// where that begins, or every director of the roster says that it knows. A
// fleet is not to wait for one that is upgraded last.
func (w *work) allKnow() bool {
	if !fleetOf(w.s.Spec).TwoPersons {
		return !w.own() // a rollout's end asks nobody who is too old, and leaves nobody behind
	}
	old, silent := w.tooOld(plan.ReaderDangers)
	return w.s.Readers != nil && len(old)+len(silent) == 0
}

// minReader is what a director must know to read a plan of a spec, no more: while a
// fleet is upgraded, the old read along until something new is written.
func minReader(set *spec.Set, p *plan.Plan) uint32 {
	switch {
	case p.GetResidency() != nil || p.GetCanaryResidency() != nil || slices.ContainsFunc(p.GetRequests(), asksForPolicy):
		return plan.ReaderResidency
	case len(p.GetSecrets()) > 0:
		return plan.ReaderSecrets
	case p.GetGossipKey().GetTurn() != nil:
		return plan.ReaderFleet
	case len(p.GetTokens()) > 0:
		return plan.ReaderAccess
	case p.GetPolicy() != nil:
		return plan.ReaderPolicy
	case set.Fleet.TwoPersons || len(p.GetRequests())+len(p.GetGlass()) > 0:
		return plan.ReaderPersons
	case len(p.GetOperators()) > 0:
		return plan.ReaderOperators
	case set.NeedsSpill() || len(p.GetSpill().GetPools()) > 0 || len(p.GetSpill().GetTrips()) > 0:
		return plan.ReaderSpill
	case len(set.Interlocks) > 0:
		return plan.ReaderInterlocks
	case slices.ContainsFunc(p.GetOverrides(), asksForPaces):
		return plan.ReaderPaced
	case set.NeedsProbes():
		return plan.ReaderProbes
	case set.HasHostnames():
		return plan.ReaderHostnames
	}
	return plan.ReaderFirst
}

func asksForPolicy(r *plan.Request) bool { return r.GetBundle() != nil }

// readable refuses what some director of the roster is too old to read, where the plan in
// force is not so already: it would stay behind, and hold up whatever waits for all.
func (w *work) readable() error {
	need := w.reader()
	if w.s.Readers == nil || w.noop || need <= w.s.Plan.Plan.GetMinReader() {
		return nil
	}
	old, silent := w.tooOld(need)
	if len(silent) > 0 {
		w.prev.Warnings = append(w.prev.Warnings, "may be too new for who is silent, and would then stay on the plan before: "+list(silent))
	}
	if len(old) == 0 {
		return nil
	}
	what := fmt.Sprintf("is too new for %s: the plan would take a divert that reads format %d", list(old), need)
	if !w.c.Force {
		return &Refusal{
			Reason: "this " + what,
			Remedy: "upgrade first who is too old; or repeat it with --force, which is recorded, and who is too old stays on the plan before", Force: true,
		}
	}
	w.forced = true
	w.prev.Warnings = append(w.prev.Warnings, what)
	return nil
}

// tooOld lists who of the roster cannot read a plan that needs so much, and of whom nobody
// knows it. None are, where nobody has looked.
func (w *work) tooOld(need uint32) (old, silent []string) {
	if w.s.Readers == nil {
		return nil, nil
	}
	for _, d := range w.next.Active() {
		switch reads, heard := w.s.Readers[d.GetName()]; {
		case !heard:
			silent = append(silent, d.GetName())
		case reads < need:
			old = append(old, d.GetName())
		}
	}
	slices.Sort(old)
	slices.Sort(silent)
	return old, silent
}
