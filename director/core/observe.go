package core

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// fleetScope is what freeze and thaw are about unless they say otherwise.
const fleetScope = "fleet"

func (w *work) observed() (steer.Scope, error) {
	text := w.c.Scope
	if text == "" {
		text = fleetScope
	}
	return parseScope(w.set, text, steer.ScopeFleet, steer.ScopeService)
}

func (w *work) freeze() error {
	scope, err := w.observed()
	if err != nil {
		return err
	}
	end, err := w.deadline(Freeze)
	if err != nil {
		return err
	}
	o := &plan.Override{
		Id: w.c.ID, Kind: plan.Override_OBSERVE, Scope: scope.String(), Author: w.c.Who(), Reason: w.c.Reason, End: end,
	}
	old := w.find(plan.Override_OBSERVE, scope.String(), false)
	if old != nil {
		o.Down = slices.Clone(old.GetDown()) // frozen since then: nothing may move now either
	} else {
		o.Down = down(w.set, scope, w.s.States)
	}
	w.put(o)
	w.done = fmt.Sprintf("%s frozen by %s until %s (%s): nothing moves; %s as down",
		scope, o.GetAuthor(), steer.Until(w.s.Now, end.AsTime()), o.GetReason(), counting(len(o.GetDown()), "subject"))
	w.what = "freeze " + scope.String() + " until " + steer.Until(w.s.Now, end.AsTime())
	return nil
}

func (w *work) thaw() error {
	scope, err := w.observed()
	if err != nil {
		return err
	}
	gone := w.drop(func(o *plan.Override) bool {
		return o.GetKind() == plan.Override_OBSERVE && o.GetScope() == scope.String() && o.GetAuthor() != SpecAuthor
	})
	if len(gone) > 0 {
		v := w.compare()
		w.prev.Effects, w.prev.Warnings = v.effects(), v.newAlerts()
		w.done, w.what = scope.String()+" thawed: automation acts again", "thaw "+scope.String()
		if w.find(plan.Override_OBSERVE, scope.String(), true) != nil {
			w.done = scope.String() + " thawed, but its spec says automation: observe"
		}
		return nil
	}
	if w.find(plan.Override_OBSERVE, scope.String(), true) != nil {
		return &Refusal{
			Reason: scope.String() + " observes because its spec says automation: observe",
			Remedy: "change it there and apply it",
		}
	}
	w.noop, w.done = true, scope.String()+" is not frozen"
	return nil
}

// down lists the subjects of a scope that are down now, in order. Of the whole
// fleet too, only what the spec now watches is kept.
func down(set *spec.Set, scope steer.Scope, states map[health.Subject]health.State) []string {
	watched := map[string]bool{}
	roller := steer.NewRoller(states)
	for _, svc := range set.Services {
		if scope.Kind == steer.ScopeService && scope.Service != svc.Name {
			continue
		}
		for i := range svc.Endpoints {
			e := &svc.Endpoints[i]
			for _, f := range []steer.Family{steer.IPv4, steer.IPv6} {
				r := roller.Rollup(svc, e, f)
				for _, s := range slices.Concat(r.Down, r.Soft) {
					watched[s.String()] = true
				}
			}
		}
	}
	return trueKeys(watched)
}

// observeSpec keeps the observations that the spec asks for (automation:
// observe) in step with it. What is new in the spec is born with nothing down.
func (w *work) observeSpec() {
	want := map[string]steer.Scope{}
	born := map[string]bool{}
	if w.set.Fleet.Automation == spec.AutomationObserve {
		want[fleetScope] = steer.Scope{Kind: steer.ScopeFleet}
	}
	for _, svc := range w.set.Services {
		if svc.Automation == spec.AutomationObserve {
			s := steer.Scope{Kind: steer.ScopeService, Service: svc.Name}
			want[s.String()] = s
			born[s.String()] = w.s.Spec.Service(svc.Name) == nil
		}
	}
	w.drop(func(o *plan.Override) bool {
		_, wanted := want[o.GetScope()]
		return o.GetKind() == plan.Override_OBSERVE && o.GetAuthor() == SpecAuthor && !wanted
	})
	for text, scope := range want {
		if w.find(plan.Override_OBSERVE, text, true) != nil {
			continue
		}
		o := &plan.Override{
			Id: w.c.ID + "/" + text, Kind: plan.Override_OBSERVE, Scope: text, Author: SpecAuthor,
			Reason: "automation: observe", Start: timestamppb.New(w.s.Now), Revision: w.next.GetRevision(),
		}
		if !born[text] {
			o.Down = down(w.s.Spec, scope, w.s.States)
		}
		w.next.Overrides = append(w.next.Overrides, o)
	}
}

// readmitFor is how long a readmission lasts unless it says otherwise: long
// enough to reach everyone, short enough that flapping is damped again.
const (
	readmitFor     = time.Minute
	readmitLongest = time.Hour
)

func (w *work) readmit() error {
	scope, err := parseScope(w.set, w.c.Scope, drainable[:]...)
	if err != nil {
		return err
	}
	if w.c.For <= 0 {
		w.c.For = readmitFor
	}
	if w.c.Reason == "" {
		w.c.Reason = "readmitted by " + w.c.Who()
	}
	if w.c.For > readmitLongest {
		return &Refusal{
			Reason: fmt.Sprintf("%s is too long: for that time no flapping of %s would be damped", spec.FormatDuration(w.c.For), scope),
			Remedy: "give a --for of at most " + spec.FormatDuration(readmitLongest),
		}
	}
	end, err := w.deadline(Readmit)
	if err != nil {
		return err
	}
	o := &plan.Override{
		Id: w.c.ID, Kind: plan.Override_READMIT, Scope: scope.String(), Author: w.c.Who(), Reason: w.c.Reason, End: end,
	}
	if old := w.find(plan.Override_READMIT, scope.String(), false); old != nil {
		w.drop(func(other *plan.Override) bool { return other == old }) // a new word, with a new beginning
	}
	w.put(o)
	w.done = fmt.Sprintf("%s readmitted by %s: it returns as soon as its probes pass, without the wait for flapping", scope, o.GetAuthor())
	w.what = "readmit " + scope.String()
	return nil
}

// Readmitted lists the subjects whose wait for flapping (S10) a person has
// ended, with the override that says so.
func Readmitted(p *plan.Plan, set *spec.Set) map[health.Subject]*plan.Override {
	out := map[health.Subject]*plan.Override{}
	for _, o := range p.GetOverrides() {
		if o.GetKind() != plan.Override_READMIT {
			continue
		}
		scope, err := steer.ParseScope(o.GetScope())
		if err != nil {
			continue
		}
		for _, s := range covered(set, scope) {
			for _, a := range s.end.Watched() {
				for _, sub := range steer.Subjects(s.service, a) {
					out[sub.Subject] = o
					if sub.Fast {
						out[health.Gray(sub.Subject.Addr)] = o
					}
				}
			}
		}
	}
	return out
}
