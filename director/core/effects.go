package core

import (
	"fmt"
	"slices"
	"strings"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// verdict compares what is answered before and after a change.
type verdict struct {
	before, after map[string]*steer.Service
	names         []string // of all services, in order
	acting        [2]map[string]*steer.Service
	set           *spec.Set
	states        map[health.Subject]health.State
	soft          bool // something is degraded
}

// compare decides for the plan in force and for the next one: as they are, and
// as if no automation observed, since a last site is counted by what is really
// up. With a scope, only the services that have a site in it are looked at.
func (w *work) compare(scope ...steer.Scope) *verdict {
	d := new(steer.Decider)
	oldSet, newSet := w.s.Spec, w.set
	if len(scope) > 0 {
		oldSet = touched(oldSet, scope[0])
		newSet = oldSet
	}
	var places []steer.Place
	if w.s.Places != nil {
		places = w.s.Places(w.s.Spec, w.set) // what they tell apart, a part of them does not tell better
	}
	run := func(set *spec.Set, p *plan.Plan, acting bool) map[string]*steer.Service {
		got := d.Decide(steer.Input{Spec: set, Plan: p, States: w.s.States, Places: places, Acting: acting})
		out := make(map[string]*steer.Service, len(got.Services))
		for i := range got.Services {
			out[got.Services[i].Name] = &got.Services[i]
		}
		return out
	}
	v := &verdict{set: w.set, states: w.s.States}
	for s, st := range w.s.States {
		v.soft = v.soft || s.Kind == health.KindSoft && st == health.Down
	}
	now, next := &plan.Plan{}, w.next
	if w.s.Plan != nil {
		now = w.s.Plan.Plan
	}
	v.before = run(oldSet, now, false)
	v.acting[0] = v.before
	if observes(v.before) {
		v.acting[0] = run(oldSet, now, true)
	}
	v.after = run(newSet, next, false)
	v.acting[1] = v.after
	if observes(v.after) {
		v.acting[1] = run(newSet, next, true)
	}
	for n := range v.before {
		v.names = append(v.names, n)
	}
	for n := range v.after {
		if v.before[n] == nil {
			v.names = append(v.names, n)
		}
	}
	slices.Sort(v.names)
	return v
}

// lastSites names the services that would lose, for some client and family, the
// last site that is up: undrained, or drained and serving as the last resort.
func (v *verdict) lastSites() []string {
	var out []string
	for _, name := range v.names {
		b, a := v.acting[0][name], v.acting[1][name]
		if b == nil || a == nil {
			continue
		}
		var up, lost [2]int // classes of clients, by family
		pairs(b, a, func(f steer.Family, from, to *steer.Set) {
			switch tier := v.tier(name, f, from); tier {
			case steer.TierHealthy, steer.TierDegraded, steer.TierLastResort:
				up[f]++
				if v.tier(name, f, to) > tier {
					lost[f]++
				}
			}
		})
		if lost != [2]int{} {
			out = append(out, name+whose(up, lost))
		}
	}
	return out
}

// tier is a set's tier; where only degraded sites rank as healthy, since they are
// too many to leave (S9), it is the tier that they are of.
func (v *verdict) tier(service string, f steer.Family, s *steer.Set) steer.Tier {
	svc := serviceOf(v.set, service)
	if !v.soft || svc == nil || s.Tier != steer.TierHealthy {
		return s.Tier
	}
	for _, c := range s.Choices {
		if e := svc.Endpoint(c.Cluster); e != nil && steer.Rollup(svc, e, v.states, f).Health != steer.Degraded {
			return steer.TierHealthy
		}
	}
	return steer.TierDegraded
}

// whose says which of a service's clients lose something, "" for all of them.
func whose(up, lost [2]int) string {
	var parts []string
	for f := range up {
		if other := 1 - f; lost[f] > 0 && up[other] > 0 && lost[other] == 0 {
			parts = append(parts, steer.Family(f).String())
		}
	}
	if lost[0] > 0 && lost[0] < up[0] || lost[1] > 0 && lost[1] < up[1] {
		parts = append(parts, "for some clients")
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// effects says, for each service whose answers change, who loses and who gains.
func (v *verdict) effects() []Effect {
	var out []Effect
	for _, name := range v.names {
		b, a := v.before[name], v.after[name]
		from, to := map[string]bool{}, map[string]bool{}
		switch {
		case b == nil:
			for _, s := range a.Sites {
				if s.Serving {
					to[s.Cluster] = true
				}
			}
		case a == nil:
			for _, s := range b.Sites {
				if s.Serving {
					from[s.Cluster] = true
				}
			}
		default:
			pairs(b, a, func(_ steer.Family, x, y *steer.Set) {
				old, now := picked(x, b.Answers), picked(y, a.Answers)
				for c := range old {
					from[c] = from[c] || !now[c]
				}
				for c := range now {
					to[c] = to[c] || !old[c]
				}
			})
		}
		e := Effect{Service: name, From: trueKeys(from), To: trueKeys(to)}
		if len(e.From) == 0 && len(e.To) == 0 {
			continue
		}
		if a != nil {
			e.Healthy = healthy(a)
		}
		if svc := serviceOf(v.set, name); svc != nil {
			e.MinWanted = svc.MinHealthy
		}
		out = append(out, e)
	}
	return out
}

// newAlerts lists the alerts that a change would raise.
func (v *verdict) newAlerts() []string {
	var out []string
	for _, name := range v.names {
		b, a := v.before[name], v.after[name]
		if a == nil {
			continue
		}
		for _, alert := range a.Alerts {
			if b == nil || !slices.Contains(b.Alerts, alert) {
				out = append(out, fmt.Sprintf("%s: %s", name, alert))
			}
		}
	}
	return out
}

func healthy(s *steer.Service) int {
	n := 0
	for _, site := range s.Sites {
		if site.Drained == "" && (site.Health == steer.Healthy || site.Health == steer.HealthUnknown) {
			n++
		}
	}
	return n
}

func picked(s *steer.Set, n int) map[string]bool {
	out := map[string]bool{}
	for _, c := range steer.Picked(s, n) {
		out[c.Cluster] = true
	}
	return out
}

func trueKeys(m map[string]bool) []string {
	var out []string
	for k, ok := range m {
		if ok {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

// pairs calls f with each pair of sets that the same clients have before and
// after. A prefix that only one of the two specs configures is compared with
// what its clients had, or will have, by place.
func pairs(b, a *steer.Service, f func(fam steer.Family, from, to *steer.Set)) {
	for fam, views := range [][2]*steer.View{{&b.V4, &a.V4}, {&b.V6, &a.V6}} {
		from, to := views[0], views[1]
		if len(from.Sets) == 0 || len(to.Sets) == 0 {
			continue
		}
		type pair [2]uint16
		seen := map[pair]bool{}
		row := func(x, y []uint16) {
			for i := range min(len(x), len(y)) {
				p := pair{x[i], y[i]}
				if !seen[p] {
					seen[p] = true
					f(steer.Family(fam), &from.Sets[p[0]], &to.Sets[p[1]])
				}
			}
		}
		row(from.ByPlace, to.ByPlace)
		for _, p := range from.ByPrefix {
			row(p.ByPlace, rowFor(to, p))
		}
		for _, p := range to.ByPrefix {
			row(rowFor(from, p), p.ByPlace)
		}
	}
}

// rowFor finds what the clients of a prefix have in another view: its longest
// prefix that covers them, else by place.
func rowFor(v *steer.View, p steer.PrefixPlaces) []uint16 {
	best, bits := v.ByPlace, -1
	for _, q := range v.ByPrefix {
		if q.Prefix.Bits() > bits && q.Prefix.Bits() <= p.Prefix.Bits() && q.Prefix.Contains(p.Prefix.Addr()) {
			best, bits = q.ByPlace, q.Prefix.Bits()
		}
	}
	return best
}

// touched is a spec with only those services that have a site in a scope.
func touched(set *spec.Set, scope steer.Scope) *spec.Set {
	out := *set
	out.Services = nil
	for _, s := range covered(set, scope) {
		if n := len(out.Services); n == 0 || out.Services[n-1] != s.service {
			out.Services = append(out.Services, s.service)
		}
	}
	return &out
}

func observes(services map[string]*steer.Service) bool {
	for _, s := range services {
		if s.Observing {
			return true
		}
	}
	return false
}
