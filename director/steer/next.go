package steer

import (
	"slices"
	"time"

	"github.com/divertdns/divert/director/plan"
)

// next finds when the answers of a service's hosts change by schedule: the first
// end of overrides that leaves them other than they are. Most of what ends changes
// nothing, such as a drain of what is down.
func (c *compiled) next(name string, now *Service, in inputs) time.Time {
	if in.acting {
		return time.Time{} // it is asked what would be done, not what is answered
	}
	for _, end := range c.ends(name, in) {
		later := in
		later.drains = slices.DeleteFunc(slices.Clone(in.drains), func(d drain) bool { return endsBy(d.o, end) })
		if in.observe != nil && endsBy(in.observe, end) {
			later.observations = slices.DeleteFunc(slices.Clone(in.observations), func(d drain) bool { return endsBy(d.o, end) })
			if later.observe = observationOf(name, later.observations); later.observe != nil {
				later.frozen = frozenSource(later.observe)
			}
		}
		then := c.decide(name, later)
		if !sameAnswers(now, &then) {
			return end
		}
	}
	return time.Time{}
}

// ends lists when the overrides end that cover a service, in order.
func (c *compiled) ends(name string, in inputs) []time.Time {
	var out []time.Time
	for _, d := range in.drains {
		if d.o.GetEnd() != nil && slices.ContainsFunc(c.sites, func(s site) bool { return d.scope.Covers(name, s.cluster) }) {
			out = append(out, d.o.GetEnd().AsTime())
		}
	}
	if in.observe.GetEnd() != nil {
		out = append(out, in.observe.GetEnd().AsTime())
	}
	slices.SortFunc(out, time.Time.Compare)
	return slices.CompactFunc(out, time.Time.Equal)
}

func endsBy(o *plan.Override, at time.Time) bool {
	return o.GetEnd() != nil && !o.GetEnd().AsTime().After(at)
}

// sameAnswers tells whether all clients get from two decisions the same; why may
// differ.
func sameAnswers(a, b *Service) bool {
	return sameRows(a, b, &a.V4, &b.V4, IPv4) && sameRows(a, b, &a.V6, &b.V6, IPv6)
}

func sameRows(x, y *Service, a, b *View, f Family) bool {
	if len(a.Sets) == 0 || len(b.Sets) == 0 {
		return len(a.Sets) == len(b.Sets)
	}
	known := map[[2]uint16]bool{}
	row := func(p, q []uint16) bool {
		for i := range p {
			pair := [2]uint16{p[i], q[i]}
			same, ok := known[pair]
			if !ok {
				same = sameSet(x, y, &a.Sets[p[i]], &b.Sets[q[i]], f)
				known[pair] = same
			}
			if !same {
				return false
			}
		}
		return true
	}
	if !row(a.ByPlace, b.ByPlace) {
		return false
	}
	for i := range a.ByPrefix { // both have the prefixes of the spec
		if !row(a.ByPrefix[i].ByPlace, b.ByPrefix[i].ByPlace) {
			return false
		}
	}
	return true
}

func sameSet(x, y *Service, a, b *Set, f Family) bool {
	used := func(s *Set) []Choice {
		if x.Answers == 1 && !s.Weighted && len(s.Choices) > 1 {
			return s.Choices[:1]
		}
		return s.Choices
	}
	return a.Weighted == b.Weighted && a.FailOpen == b.FailOpen && slices.EqualFunc(used(a), used(b), func(p, q Choice) bool {
		return p.Cluster == q.Cluster && p.Weight == q.Weight && slices.Equal(x.Addrs(f, &p), y.Addrs(f, &q))
	})
}
