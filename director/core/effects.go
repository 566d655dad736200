package core

import (
	"iter"
	"slices"
	"strings"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
)

// lastSites names the services that would lose, for some client and family, the
// last site that is up: undrained, or drained and serving as the last resort.
func (v *verdict) lastSites() []string {
	var out []string
	for i := range v.services {
		c := &v.services[i]
		b, a := c.acting[0], c.acting[1]
		if b == nil || a == nil {
			continue
		}
		key := answersOf(b, a)
		l, known := v.losses[key]
		if !known || v.soft { // what is degraded is each service's own
			l = v.loses(c.svc, b, a)
			v.losses[key] = l
		}
		if l.lost != [2]int{} {
			out = append(out, c.name+whose(c.svc, l.up, l.lost))
		}
	}
	return out
}

func (v *verdict) loses(svc *spec.GlobalService, b, a *steer.Service) (l loss) {
	for p := range pairs(b, a) {
		switch tier := v.tier(svc, p.family, p.from); tier {
		case steer.TierHealthy, steer.TierDegraded, steer.TierLastResort:
			l.up[p.family]++
			if v.tier(svc, p.family, p.to) > tier {
				l.lost[p.family]++
			}
		}
	}
	return l
}

// tier is a set's tier; where only degraded sites rank as healthy, since they are
// too many to leave (S9), it is the tier that they are of.
func (v *verdict) tier(svc *spec.GlobalService, f steer.Family, s *steer.Set) steer.Tier {
	if !v.soft || svc == nil || s.Tier != steer.TierHealthy {
		return s.Tier
	}
	for _, c := range s.Choices {
		if e := svc.Endpoint(c.Cluster); e != nil && v.roller.Rollup(svc, e, f).Health != steer.Degraded {
			return steer.TierHealthy
		}
	}
	return steer.TierDegraded
}

// whose says which of a service's clients lose something, "" for all of them. A person
// is to know where that is of a family which a hostname may not have at all.
func whose(svc *spec.GlobalService, up, lost [2]int) string {
	var parts []string
	for f := range up {
		if other := 1 - f; lost[f] > 0 && up[other] > 0 && lost[other] == 0 {
			family := steer.Family(f)
			part := family.String()
			if svc != nil && !slices.ContainsFunc(svc.Endpoints, func(e spec.Endpoint) bool { return slices.ContainsFunc(e.Addresses, family.Has) }) {
				part += ", which its hostname is taken to have"
			}
			parts = append(parts, part)
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
	for i := range v.services {
		c := &v.services[i]
		m := v.moved(c.before, c.after)
		if len(m.from) == 0 && len(m.to) == 0 {
			continue
		}
		e := Effect{Service: c.name, From: m.from, To: m.to}
		if c.after != nil {
			e.Healthy = c.after.Well()
		}
		if c.svc != nil {
			e.MinWanted = c.svc.MinHealthy
		}
		out = append(out, e)
	}
	return out
}

// moved says which clusters lose clients of a service and which may have them: all of some
// clients, or a part where that is all that changes.
func (v *verdict) moved(b, a *steer.Service) moves {
	switch {
	case b == nil:
		return moves{to: serving(a)}
	case a == nil:
		return moves{from: serving(b)}
	}
	key := answersOf(b, a)
	m, known := v.moves[key]
	if known {
		return m
	}
	from, to := map[string]bool{}, map[string]bool{}
	for p := range pairs(b, a) {
		old, now := picked(p.from, b.Answers), picked(p.to, a.Answers)
		for c := range old {
			from[c] = from[c] || !now[c]
		}
		for c := range now {
			to[c] = to[c] || !old[c]
		}
	}
	if m = (moves{from: trueKeys(from), to: trueKeys(to)}); len(m.from) == 0 && len(m.to) == 0 {
		m = parted(b, a)
	}
	v.moves[key] = m
	return m
}

// parted says which clusters lose a part of a service's clients, and which gain one, where
// no site comes or goes: by weight, all of them serve at every step of a drain.
func parted(b, a *steer.Service) moves {
	loses, gains := map[string]bool{}, map[string]bool{}
	for p := range pairs(b, a) {
		if p.from == p.to {
			continue
		}
		more := map[string]float64{}
		for i, part := range p.from.Parts(b.Answers) {
			more[p.from.Choices[i].Cluster] -= part
		}
		for i, part := range p.to.Parts(a.Answers) {
			more[p.to.Choices[i].Cluster] += part
		}
		for c, part := range more {
			loses[c] = loses[c] || part < -negligible
			gains[c] = gains[c] || part > negligible
		}
	}
	return moves{from: trueKeys(loses), to: trueKeys(gains)}
}

func serving(s *steer.Service) []string {
	clusters := map[string]bool{}
	for _, site := range s.Sites() {
		clusters[site.Cluster] = site.Serving
	}
	return trueKeys(clusters)
}

// newAlerts lists the alerts that a change would raise.
func (v *verdict) newAlerts() []string {
	var out []string
	for i := range v.services {
		c := &v.services[i]
		if c.after == nil {
			continue
		}
		for _, alert := range c.after.Alerts {
			if c.before == nil || !slices.Contains(c.before.Alerts, alert) {
				out = append(out, c.name+": "+alert)
			}
		}
	}
	return out
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

// pair is two sets that the same clients have before and after a change.
type pair struct {
	family   steer.Family
	from, to *steer.Set
}

// pairs gives each pair of two decisions, of the families that have addresses both
// times.
func pairs(b, a *steer.Service) iter.Seq[pair] {
	return func(yield func(pair) bool) {
		for fam, views := range [][2]*steer.View{{&b.V4, &a.V4}, {&b.V6, &a.V6}} {
			from, to := views[0], views[1]
			if len(from.Sets) == 0 || len(to.Sets) == 0 {
				continue
			}
			for x, y := range steer.Pairs(from, to) {
				if !yield(pair{steer.Family(fam), &from.Sets[x], &to.Sets[y]}) {
					return
				}
			}
		}
	}
}

// answers names what two decisions say, by family, by the sets: services share them
// that steer alike and differ in their addresses alone.
type answers [4]*steer.Set

func answersOf(b, a *steer.Service) (out answers) {
	for i, v := range []*steer.View{&b.V4, &b.V6, &a.V4, &a.V6} {
		if len(v.Sets) > 0 {
			out[i] = &v.Sets[0]
		}
	}
	return out
}
