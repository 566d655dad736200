package steer

import (
	"slices"
	"time"

	"github.com/divertdns/divert/director/plan"
)

// next finds when the answers of a service's hosts change by schedule: the first
// end of overrides, or step of a drain, that leaves them other than they are. Most of what
// ends changes nothing, such as a drain of what is down.
func (c *compiled) next(name string, now *Ruling, in inputs, m *memory) time.Time {
	if in.acting {
		return time.Time{} // it is asked what would be done, not what is answered
	}
	for _, end := range c.ends(name, in) {
		later := in
		ended := func(d drain) bool { return endsBy(d.o, end) }
		later.drains = make([]drain, 0, len(in.drains))
		for i := range in.drains {
			if d := in.drains[i].at(end); d != nil {
				later.drains = append(later.drains, *d)
			}
		}
		if in.observe != nil && ended(*in.observe) {
			later.observe = observationOf(name, slices.DeleteFunc(slices.Clone(in.observations), ended))
			later.frozen = in.stored(later.observe)
		}
		if !m.sameAnswers(now, c.decide(name, later, now.real, m)) {
			return end
		}
	}
	return time.Time{}
}

// ends lists when the overrides end that cover a service, and when drains take steps, in
// order.
func (c *compiled) ends(name string, in inputs) []time.Time {
	var out []time.Time
	for i := range in.drains {
		d := &in.drains[i]
		if ahead := d.ahead(); len(ahead) > 0 && slices.ContainsFunc(c.sites, func(s site) bool { return d.scope.Covers(name, s.cluster) }) {
			out = append(out, ahead...)
		}
	}
	if in.observe != nil && in.observe.o.GetEnd() != nil {
		out = append(out, in.observe.o.GetEnd().AsTime())
	}
	slices.SortFunc(out, time.Time.Compare)
	return slices.CompactFunc(out, time.Time.Equal)
}

func endsBy(o *plan.Override, at time.Time) bool {
	return o.GetEnd() != nil && !o.GetEnd().AsTime().After(at)
}

// sameAnswers tells whether all clients get from two decisions the same; why may
// differ.
func (m *memory) sameAnswers(a, b *Ruling) bool {
	var key [4]*Set
	for i, v := range []*View{&a.V4, &a.V6, &b.V4, &b.V6} {
		if len(v.Sets) > 0 {
			key[i] = &v.Sets[0]
		}
	}
	// Services share sets that differ in their addresses alone.
	shared := len(a.used) == len(b.used) && (len(a.used) == 0 || &a.used[0] == &b.used[0])
	if same, known := m.same[key]; known && shared && a.Answers == b.Answers {
		return same
	}
	same := sameRows(a, b, &a.V4, &b.V4, IPv4, &shared) && sameRows(a, b, &a.V6, &b.V6, IPv6, &shared)
	if shared {
		if m.same == nil || len(m.same) >= maxKept {
			m.same = map[[4]*Set]bool{}
		}
		m.same[key] = same
	}
	return same
}

// sameRows clears shared where it had to look at addresses.
func sameRows(x, y *Ruling, a, b *View, f Family, shared *bool) bool {
	if len(a.Sets) == 0 || len(b.Sets) == 0 {
		return len(a.Sets) == len(b.Sets)
	}
	for p, q := range Pairs(a, b) {
		if !sameSet(x, y, &a.Sets[p], &b.Sets[q], f, shared) {
			return false
		}
	}
	return true
}

func sameSet(x, y *Ruling, a, b *Set, f Family, shared *bool) bool {
	used := func(s *Set) []Choice {
		if x.Answers == 1 && !s.Weighted && len(s.Choices) > 1 {
			return s.First()
		}
		return s.Choices
	}
	return a.Weighted == b.Weighted && a.FailOpen == b.FailOpen && slices.EqualFunc(used(a), used(b), func(p, q Choice) bool {
		if p.Cluster != q.Cluster || p.Weight != q.Weight || p.Share != q.Share || p.Level != q.Level {
			return false
		}
		if *shared && p.site == q.site && p.which == q.which && p.which != whichFallback {
			return true // of the very same sites
		}
		*shared = false
		return slices.Equal(x.Addrs(f, &p), y.Addrs(f, &q))
	})
}
