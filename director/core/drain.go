package core

import (
	"fmt"
	"slices"
	"time"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
)

// drainable are the scopes of a drain.
var drainable = [...]steer.ScopeKind{steer.ScopeCluster, steer.ScopeEndpoint, steer.ScopeDomain, steer.ScopeSelector}

func (w *work) drain() error {
	scope, err := parseScope(w.set, w.c.Scope, drainable[:]...)
	if err != nil {
		return err
	}
	end, err := w.deadline(Drain)
	if err != nil {
		return err
	}
	if err := checkPace(w.c); err != nil {
		return err
	}
	o := &plan.Override{
		Id: w.c.ID, Kind: plan.Override_DRAIN, Scope: scope.String(), Author: w.c.Who(), Reason: w.c.Reason,
		End: end, LastResort: w.c.LastResort,
	}
	old := w.find(o.GetKind(), o.GetScope(), false)
	w.put(o) // as a whole, which is what it is judged by
	v := w.compare(scope)
	whole, way := v, ""
	if undo := w.foresee(); undo != nil { // what others come to counts, not how far they are
		whole = w.compare(scope)
		undo()
	}
	hit := whole.lastSites()
	if len(hit) > len(v.lastSites()) {
		way = ", once the drains in steps that are on their way are complete"
	}
	if len(hit) > 0 {
		if !w.c.Force {
			return &Refusal{
				Reason: fmt.Sprintf("draining %s would take the last healthy site of %s%s", scope, list(hit), way),
				Remedy: "restore another site first, or repeat it with --force, which is recorded", Force: true,
			}
		}
		o.Forced, w.forced = true, true
		w.prev.Warnings = append(w.prev.Warnings, "takes the last healthy site of "+list(hit))
	}
	if err := w.admit(whole, scope, o); err != nil {
		return err
	}
	if len(covered(w.set, scope)) == 0 {
		w.prev.Warnings = append(w.prev.Warnings, fmt.Sprintf("no service has a site in %s yet", scope))
	}
	w.prev.Effects = v.effects()
	w.prev.Warnings = append(w.prev.Warnings, v.newAlerts()...)
	w.done = steer.DrainWhy(scope.String(), o)
	w.what = "drain " + scope.String() + " until " + steer.Until(w.s.Now, end.AsTime())
	if !w.c.Paced {
		return nil
	}
	if err := w.pace(o, old, scope); err != nil {
		return err
	}
	if n := len(w.prev.Steps); n > 0 {
		last := Seconds(w.prev.Steps[n-1].After)
		w.done += fmt.Sprintf(", in %s: the last in %s at the earliest", count(n, "step"), spec.FormatDuration(last.Round(time.Second)))
		w.what += fmt.Sprintf(", in %s", count(n, "step"))
	}
	return nil
}

func (w *work) undrain() error {
	scope, err := parseScope(w.set, w.c.Scope, drainable[:]...)
	held := w.drainsIn()
	if err != nil {
		// What has left the spec can still be drained, and undrained.
		if _, bad := steer.ParseScope(w.c.Scope); bad != nil || !slices.Contains(held, w.c.Scope) {
			return err
		}
		scope, _ = steer.ParseScope(w.c.Scope)
	}
	gone := w.drop(func(o *plan.Override) bool {
		return o.GetKind() == plan.Override_DRAIN && o.GetScope() == scope.String()
	})
	if len(gone) > 0 {
		v := w.compare(scope)
		w.prev.Effects = v.effects()
		w.prev.Utilisation = w.predicted(v, nil)
		unwell := w.unwell(scope, w.kept(gone[0]))
		w.prev.Warnings = append(w.prev.Warnings, unwell...)
		w.done = "undrained " + scope.String()
		w.what = "undrain " + scope.String()
		if gone[0].GetPace() != nil && !w.c.Now && len(w.prev.Effects) > 0 {
			w.returns(gone[0], len(unwell) == 0)
		}
		return nil
	}
	if wider := w.coveringDrains(scope); len(wider) > 0 {
		return &Refusal{
			Reason: fmt.Sprintf("%s is drained by the drain of %s, which has other sites too", scope, list(wider)),
			Remedy: "undrain " + wider[0],
		}
	}
	w.noop = true
	w.done = scope.String() + " is not drained"
	if len(held) > 0 {
		w.done += " (drained: " + list(held) + ")"
	}
	return nil
}

// returns puts a drain that was taken out of the next plan back, so that its clients come
// back in steps.
func (w *work) returns(o *plan.Override, well bool) {
	if o.Ends() {
		w.noop, w.done = true, fmt.Sprintf("%s returns already: %s of its clients are back", o.GetScope(), percent(o.Keep()))
		return
	}
	if w.giveBack(o, well) {
		return
	}
	w.next.Overrides = append(w.next.Overrides, o)
	w.previewSteps(o.GetPace())
	w.what += ", in steps"
	w.done = fmt.Sprintf("%s returns in %s, the last in %s at the earliest", o.GetScope(), count(len(w.prev.Steps), "step"),
		spec.FormatDuration(Seconds(w.prev.Steps[len(w.prev.Steps)-1].After).Round(time.Second)))
}

// drainsIn lists the scopes that are drained now.
func (w *work) drainsIn() []string {
	var out []string
	for _, o := range w.next.GetOverrides() {
		if o.GetKind() == plan.Override_DRAIN {
			out = append(out, o.GetScope())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// coveringDrains lists the drains that take away something of a scope.
func (w *work) coveringDrains(scope steer.Scope) []string {
	sites := covered(w.set, scope)
	var out []string
	for _, text := range w.drainsIn() {
		other, err := steer.ParseScope(text)
		if err != nil {
			continue
		}
		if slices.ContainsFunc(sites, func(s site) bool { return other.Covers(s.service.Name, s.cluster) }) {
			out = append(out, text)
		}
	}
	return out
}

// drainScopes gives what some drains of a plan cover.
func drainScopes(p *plan.Plan, which func(*plan.Override) bool) []steer.Scope {
	var out []steer.Scope
	for _, o := range p.GetOverrides() {
		if o.GetKind() != plan.Override_DRAIN || !which(o) {
			continue
		}
		if scope, err := steer.ParseScope(o.GetScope()); err == nil {
			out = append(out, scope)
		}
	}
	return out
}

// unwell warns of sites that come back while they are not known to be healthy.
// What other drains keep away does not come back.
func (w *work) unwell(scope steer.Scope, kept []steer.Scope) []string {
	var out []string
	for _, s := range covered(w.set, scope) {
		if slices.ContainsFunc(kept, func(k steer.Scope) bool { return k.Covers(s.service.Name, s.cluster) }) {
			continue
		}
		if why := w.waitsFor(s); why != "" {
			out = append(out, why)
		}
	}
	return out
}
