package core

import (
	"slices"
	"strings"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// Memo keeps what decisions one after the other have in common. Losing it costs
// time alone. The zero Memo is ready; it has one owner.
type Memo struct {
	decider steer.Decider
	trial   steer.Decider // of the spec that a rollout tries
	zones   zoneMemo
}

// verdict compares what is answered before and after a change.
type verdict struct {
	services []compared // in the order of their names
	roller   *steer.Roller
	soft     bool              // something is degraded
	moves    map[answers]moves // found already
	losses   map[answers]loss  // found already
	sets     [2]*spec.Set      // before and after
	places   []steer.Place
	census   Census // nil: nobody knows where clients are
	others   [2]int // services that are not compared, by the families that they have
}

// compared is one service, as it is, and as if no automation observed: a last site
// is counted by what is really up.
type compared struct {
	name          string
	svc           *spec.GlobalService // after the change; nil: it goes
	before, after *steer.Service      // nil: it is not there
	acting        [2]*steer.Service
}

// moves is what a change moves of a service's clients.
type moves struct {
	from, to []string // clusters that lose clients, and that may have them
}

// loss is what of a service's clients lose the last site that is up, by family, in
// classes of them.
type loss struct{ up, lost [2]int }

// compare decides for the plan in force and for the next one. With a scope, only
// the services that have a site in it are looked at.
func (w *work) compare(scope ...steer.Scope) *verdict {
	now := &plan.Plan{}
	if w.s.Plan != nil {
		now = w.s.Plan.Plan
	}
	v := w.compareTo(now, scope...)
	w.compared = v
	return v
}

// compareTo is compare, for another plan than the one in force.
func (w *work) compareTo(now *plan.Plan, scope ...steer.Scope) *verdict {
	v := &verdict{roller: steer.NewRoller(w.s.States), moves: map[answers]moves{}, losses: map[answers]loss{}}
	for s, st := range w.s.States {
		v.soft = v.soft || s.Kind == health.KindSoft && st == health.Down
	}
	var places []steer.Place
	if w.s.Places != nil {
		places = w.s.Places(w.s.Spec, w.set) // what they tell apart, a part of them does not tell better
	}
	old := decided{d: &w.memo().decider, observed: new(steer.Observed), in: steer.Input{Spec: w.s.Spec, Plan: now, States: w.s.States, Places: places, Prepared: w.s.Prepared}}
	next := old
	next.in.Plan = w.next
	if w.set != w.s.Spec {
		next.d, next.in.Spec = new(steer.Decider), w.set
	}
	if len(scope) > 0 {
		old.services = touched(w.set, scope[0])
		next.services = old.services
	} else {
		old.services, next.services = all(old.in.Spec), all(next.in.Spec)
	}
	before, was := old.decide()
	after, will := next.decide()
	v.sets, v.places = [2]*spec.Set{w.s.Spec, w.set}, places
	if w.s.Census != nil {
		v.census = w.s.Census(w.s.Spec, w.set)
	}
	if len(scope) > 0 {
		v.others = rest(w.set, next.services)
	}
	v.services = make([]compared, 0, len(after))
	i, j := 0, 0
	for i < len(before) || j < len(after) {
		var c compared
		order := 0
		switch {
		case i == len(before):
			order = 1
		case j == len(after):
			order = -1
		default:
			order = strings.Compare(before[i].Name, after[j].Name)
		}
		if order <= 0 {
			c.name, c.before, c.acting[0] = before[i].Name, &before[i], &was[i]
			i++
		}
		if order >= 0 {
			c.name, c.after, c.acting[1] = after[j].Name, &after[j], &will[j]
			c.svc = w.set.Services[next.services[j]]
			j++
		}
		v.services = append(v.services, c)
	}
	return v
}

func (w *work) memo() *Memo {
	if w.s.Memo == nil {
		w.s.Memo = new(Memo)
	}
	return w.s.Memo
}

// decided is what some services' answers are decided from.
type decided struct {
	d        *steer.Decider
	observed *steer.Observed // by both
	in       steer.Input
	services []int // by name, as the spec's
}

// decide gives the decisions as they are, and as if no automation observed.
func (d decided) decide() (plain, acting []steer.Service) {
	plain = d.d.DecideSome(d.in, d.services, d.observed)
	if !slices.ContainsFunc(plain, func(s steer.Service) bool { return s.Observing }) {
		return plain, plain
	}
	d.in.Acting = true
	return plain, d.d.DecideSome(d.in, d.services, d.observed)
}

func all(set *spec.Set) []int {
	out := make([]int, len(set.Services))
	for i := range out {
		out[i] = i
	}
	return out
}

// rest counts the services that are not among some, by family.
func rest(set *spec.Set, some []int) (out [2]int) {
	for i, svc := range set.Services {
		if _, found := slices.BinarySearch(some, i); found {
			continue
		}
		for f := range out {
			if slices.ContainsFunc(svc.Endpoints, func(e spec.Endpoint) bool { return slices.ContainsFunc(e.Watched(), steer.Family(f).Has) }) {
				out[f]++
			}
		}
	}
	return out
}

// touched lists the services that have a site in a scope.
func touched(set *spec.Set, scope steer.Scope) []int {
	clusters := clustersOf(set)
	var out []int
	for i, svc := range set.Services {
		if slices.ContainsFunc(svc.Endpoints, func(e spec.Endpoint) bool { return holds(clusters, scope, svc, &e) }) {
			out = append(out, i)
		}
	}
	return out
}
