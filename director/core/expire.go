package core

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// Due lists the leader's own writes that are due now. The ID of each follows from what it
// does or from the plan in force, so that two leaders cannot do it twice; each is decided
// anew on the plan that it finds.
func Due(s State) []Command {
	if s.Plan == nil || s.Spec == nil {
		return nil
	}
	id := func(what string) string {
		return fmt.Sprintf("%s-%d.%d", what, s.Plan.Identity.Epoch, s.Plan.Identity.Revision+1)
	}
	var out []Command // one that is refused holds no other up
	if ended, _ := expired(s); len(ended) > 0 {
		out = append(out, Command{ID: id("expire"), Verb: Expire, Author: s.Me, Reason: "past its end"})
	}
	if c := rolloutDue(s); c != nil {
		out = append(out, *c)
	}
	out = append(append(out, settlingDue(s)...), steps(s)...)
	if c := turnDue(s); c != nil {
		out = append(out, *c)
	}
	if d := listed(s); d != nil {
		out = append(out, Command{
			ID: id("enrol-" + d.Name), Verb: DirectorJoin, Author: SpecAuthor, Reason: "listed in Fleet.directors", Director: d,
		})
	}
	if s.Loads != nil {
		if next, _ := begin(s, Command{}).nextSpill(); next != nil {
			out = append(out, Command{ID: spillID(s.Plan), Verb: Spill, Author: "director " + s.Me, Reason: "the load of the sites"})
		}
	}
	return out
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
	kept := drainScopes(s.Plan.Plan, func(o *plan.Override) bool {
		return o.GetEnd() == nil || s.Now.Before(o.GetEnd().AsTime()) && !o.Ends() && o.Keep() == 0
	})
	for _, o := range s.Plan.Plan.GetOverrides() {
		if o.GetAuthor() == SpecAuthor || o.GetEnd() == nil || s.Now.Before(o.GetEnd().AsTime()) || o.Ends() {
			continue
		}
		var waits []string
		if o.GetKind() == plan.Override_DRAIN && o.Keep() < plan.Whole {
			if scope, err := steer.ParseScope(o.GetScope()); err == nil {
				waits = append(w.unwell(scope, kept), w.closedGates(scope, kept)...)
				if by := w.frozen(scope, s.Now); by != "" { // as the steps of its return would
					waits = append(waits, by)
				}
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

// expire ends what is past its end, in one revision. A drain that has clients to give back
// begins to do so: their return is the dangerous half, and goes in steps (S18).
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
	for _, o := range w.drop(func(o *plan.Override) bool { return ids[o.GetId()] }) {
		if o.GetKind() == plan.Override_DRAIN && w.misses(o) && !w.giveBack(o, true) {
			w.next.Overrides = append(w.next.Overrides, o)
		}
	}
	w.prev.Effects = w.compare().effects()
	w.done = "ended at the deadline: " + list(texts)
	w.what = "end " + list(texts)
}

// misses tells whether the next plan moves clients that it would leave where they are with
// an override that was taken out of it.
func (w *work) misses(o *plan.Override) bool {
	scope, err := steer.ParseScope(o.GetScope())
	if err != nil {
		return false
	}
	with := *w.s.Plan
	with.Plan = proto.CloneOf(w.next)
	with.Plan.Overrides = append(with.Plan.Overrides, o)
	trial := *w
	trial.s.Plan = &with
	return len(trial.compare(scope).effects()) > 0
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
			return fmt.Sprintf("%s is failed: %s is down", s, w.named(s, r.Down[0]))
		case !r.Seen: // also where soft evidence, which is another's, makes it degraded
			return fmt.Sprintf("%s has not been seen healthy", s)
		}
	}
	return ""
}

// known is what certificates say is down, and fresh votes is up. A certificate of a return,
// however old, says of a site that nobody has seen since what none says of one that never
// fell: nothing (S17). The directors that were to see it die may all have stood still.
func (w *work) known() *steer.Roller {
	if w.wellKnown == nil {
		states := make(map[health.Subject]health.State, len(w.s.States)+len(w.s.Observed))
		maps.Copy(states, w.s.Observed)
		for s, st := range w.s.States {
			if st == health.Down {
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
