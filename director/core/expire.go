package core

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// Due lists the leader's own writes that are due now, at most one: the next
// depends on the plan that this one makes. Its ID follows from the plan in
// force, so that two leaders cannot do it twice.
func Due(s State) []Command {
	if s.Plan == nil || s.Spec == nil {
		return nil
	}
	id := func(what string) string {
		return fmt.Sprintf("%s-%d.%d", what, s.Plan.Identity.Epoch, s.Plan.Identity.Revision+1)
	}
	if ended, _ := expired(s); len(ended) > 0 {
		return []Command{{ID: id("expire"), Verb: Expire, Author: s.Me, Reason: "past its end"}}
	}
	if d := listed(s); d != nil {
		return []Command{{
			ID: id("enrol-" + d.Name), Verb: DirectorJoin, Author: SpecAuthor, Reason: "listed in Fleet.directors", Director: d,
		}}
	}
	return nil
}

// Late is an override past its end that still stands.
type Late struct {
	Override *plan.Override
	Waits    []string // for what, one sentence for each site
}

// Overdue lists the overrides that are past their end, in the order of the
// plan, and what each waits for; with no leader they all stay (S18).
func Overdue(s State) []Late {
	if s.Plan == nil || s.Spec == nil {
		return nil
	}
	ended, late := expired(s)
	for _, o := range ended {
		late = append(late, Late{Override: o, Waits: []string{"the leader, which ends it by a plan write"}})
	}
	slices.SortStableFunc(late, func(a, b Late) int {
		return cmp.Or(cmp.Compare(a.Override.GetRevision(), b.Override.GetRevision()), strings.Compare(a.Override.GetId(), b.Override.GetId()))
	})
	return late
}

// expired divides the overrides past their end: those that can end now, and the
// drains that would bring clients onto a site that is not known to be well. What
// a drain with time left keeps away anyway holds no other up.
func expired(s State) (ended []*plan.Override, late []Late) {
	w := &work{s: s, set: s.Spec}
	kept := drainScopes(s.Plan.Plan, func(o *plan.Override) bool { return o.GetEnd() == nil || s.Now.Before(o.GetEnd().AsTime()) })
	for _, o := range s.Plan.Plan.GetOverrides() {
		if o.GetAuthor() == SpecAuthor || o.GetEnd() == nil || s.Now.Before(o.GetEnd().AsTime()) {
			continue
		}
		var waits []string
		if o.GetKind() == plan.Override_DRAIN {
			if scope, err := steer.ParseScope(o.GetScope()); err == nil {
				waits = w.unwell(scope, kept)
			}
		}
		if len(waits) > 0 {
			late = append(late, Late{Override: o, Waits: waits})
		} else {
			ended = append(ended, o)
		}
	}
	return ended, late
}

// expire ends what is past its end, in one revision.
func (w *work) expire() {
	ended, late := expired(w.s)
	ids := map[string]bool{}
	var texts []string
	for _, o := range ended {
		ids[o.GetId()] = true
		texts = append(texts, strings.ToLower(o.GetKind().String())+" of "+o.GetScope()+" by "+o.GetAuthor())
	}
	if len(ended) == 0 {
		w.noop, w.done = true, "nothing is past its end"
		if len(late) > 0 {
			w.done = fmt.Sprintf("%d past their end wait for a healthy site", len(late))
		}
		return
	}
	w.drop(func(o *plan.Override) bool { return ids[o.GetId()] })
	v := w.compare()
	w.prev.Effects = v.effects()
	w.done = "ended at the deadline: " + list(texts)
	w.what = "end " + list(texts)
}

// waitsFor says why a drained site is not fit to have clients back; "" when it
// is: each family that it has is known to be up, if only degraded. A service
// without probes has nothing to wait for.
func (w *work) waitsFor(s site) string {
	if !s.service.Probed() {
		return ""
	}
	for _, f := range []steer.Family{steer.IPv4, steer.IPv6} {
		r := w.known().Rollup(s.service, s.end, f)
		switch {
		case len(r.All) == 0:
		case r.Health == steer.Failed:
			return fmt.Sprintf("%s is failed: %s is down", s, r.Down[0])
		case r.Health == steer.HealthUnknown:
			return fmt.Sprintf("%s has not been seen healthy", s)
		}
	}
	return ""
}

// known is what certificates say, and fresh votes where no certificate exists.
func (w *work) known() *steer.Roller {
	if w.wellKnown == nil {
		states := make(map[health.Subject]health.State, len(w.s.States)+len(w.s.Observed))
		maps.Copy(states, w.s.Observed)
		for s, st := range w.s.States {
			if st != health.Unknown {
				states[s] = st
			}
		}
		w.wellKnown = steer.NewRoller(states)
	}
	return w.wellKnown
}

// listed finds the first director that files name and the roster lacks, or whose
// key they give and the roster lacks. A removed name returns by approval only.
func listed(s State) *Director {
	entries := slices.Clone(s.Spec.Fleet.Directors)
	slices.SortFunc(entries, func(a, b spec.RosterEntry) int { return strings.Compare(a.Name, b.Name) })
	for _, e := range entries {
		d := s.Plan.Plan.Director(e.Name)
		switch {
		case d == nil:
		case d.GetStanding() == plan.Director_ACTIVE && len(d.GetKey()) == 0 && len(e.Key) > 0:
		default:
			continue
		}
		if len(e.Key) > 0 && s.Plan.Plan.Holder(e.Key) != nil {
			continue // refused where it is applied; never retried for ever
		}
		return &Director{Name: e.Name, Site: e.Site, Key: e.Key}
	}
	return nil
}
