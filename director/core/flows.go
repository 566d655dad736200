package core

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/divertdns/divert/director/steer"
)

// paired is one family of a service before and after; either view may be missing.
type paired struct {
	f             steer.Family
	b, a          *steer.Service
	before, after *steer.View
	few           [][]flow // by pair of sets, where there are few of them; nil: not asked for yet
	many          map[int][]flow
}

// fewPairs is how many pairs of sets have a place of their own.
const fewPairs = 4096

func newPaired(f steer.Family, b, a *steer.Service) *paired {
	p := &paired{f: f, b: b, a: a, before: viewOf(b, int(f)), after: viewOf(a, int(f))}
	if n := (sets(p.before) + 1) * (sets(p.after) + 1); n <= fewPairs {
		p.few = make([][]flow, n)
	} else {
		p.many = map[int][]flow{}
	}
	return p
}

func sets(v *steer.View) int {
	if v == nil {
		return 0
	}
	return len(v.Sets)
}

// at numbers a pair of sets at a place, the last of each standing for none.
func (p *paired) at(x, y []uint16, place int) (int, bool) {
	i, j := sets(p.before), sets(p.after)
	if place < len(x) {
		i = int(x[place])
	}
	if place < len(y) {
		j = int(y[place])
	}
	return i*(sets(p.after)+1) + j, i < sets(p.before) || j < sets(p.after)
}

// ranged is the clients of a prefix, who are none of those around it: what they have
// before and after, by place. The zero prefix is of all who are in no configured one.
type ranged struct {
	prefix netip.Prefix
	x, y   []uint16
}

// base is of the clients in no configured prefix.
func (p *paired) base() ranged {
	var out ranged
	if p.before != nil {
		out.x = p.before.ByPlace
	}
	if p.after != nil {
		out.y = p.after.ByPlace
	}
	return out
}

// prefixes gives those that either configures, each with the clients around it. Who does
// not configure one has for it what is around.
func (p *paired) prefixes(yield func(around, in ranged)) {
	var x, y []steer.PrefixPlaces // each in order: what holds another comes before it
	if p.before != nil {
		x = p.before.ByPrefix
	}
	if p.after != nil {
		y = p.after.ByPrefix
	}
	stack := []ranged{p.base()}
	for len(x) > 0 || len(y) > 0 {
		order := 0
		switch {
		case len(x) == 0:
			order = 1
		case len(y) == 0:
			order = -1
		default:
			order = cmp.Or(x[0].Prefix.Addr().Compare(y[0].Prefix.Addr()), cmp.Compare(x[0].Prefix.Bits(), y[0].Prefix.Bits()))
		}
		var r ranged
		if order <= 0 {
			r.prefix, r.x, x = x[0].Prefix, x[0].ByPlace, x[1:]
		}
		if order >= 0 {
			r.prefix, r.y, y = y[0].Prefix, y[0].ByPlace, y[1:]
		}
		for len(stack) > 1 && !stack[len(stack)-1].prefix.Contains(r.prefix.Addr()) {
			stack = stack[:len(stack)-1]
		}
		around := stack[len(stack)-1]
		if r.x == nil {
			r.x = around.x
		}
		if r.y == nil {
			r.y = around.y
		}
		stack = append(stack, r)
		yield(around, r)
	}
}

// sameRow tells at a glance whether two rows are one.
func sameRow(a, b []uint16) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// flows says which parts of the answers of a pair go where; none where all stay.
func (p *paired) flows(at int) []flow {
	if p.few != nil {
		if p.few[at] == nil {
			p.few[at] = p.made(at)
		}
		return p.few[at]
	}
	out, done := p.many[at]
	if !done {
		out = p.made(at)
		p.many[at] = out
	}
	return out
}

func (p *paired) made(at int) []flow {
	i, j := at/(sets(p.after)+1), at%(sets(p.after)+1)
	var x, y *steer.Set
	if i < sets(p.before) {
		x = &p.before.Sets[i]
	}
	if j < sets(p.after) {
		y = &p.after.Sets[j]
	}
	return flows(p.f, p.b, p.a, x, y)
}

// flows says which parts of the answers of a set go where when the same clients get
// another; either may be missing. What residency leaves nothing to, and a name that comes
// or goes, has no answer.
func flows(f steer.Family, b, a *steer.Service, x, y *steer.Set) []flow {
	parts := map[way]float64{}
	switch {
	case x == nil || len(x.Choices) == 0:
		if y == nil {
			break
		}
		for j, part := range y.Parts(a.Answers) {
			parts[way{to: y.Choices[j].Cluster}] += part
		}
	case y == nil || len(y.Choices) == 0:
		for i, part := range x.Parts(b.Answers) {
			parts[way{from: x.Choices[i].Cluster}] += part
		}
	default:
		for i, row := range x.Joint(y, max(b.Answers, a.Answers)) {
			for j, part := range row {
				w := way{x.Choices[i].Cluster, y.Choices[j].Cluster}
				if w.from == w.to {
					part *= replaced(f, b, a, &x.Choices[i], &y.Choices[j])
				}
				parts[w] += part
			}
		}
	}
	out := []flow{} // never nil
	for _, w := range slices.SortedFunc(maps.Keys(parts), compareWays) {
		if parts[w] > negligible {
			out = append(out, flow{w, parts[w]})
		}
	}
	return out
}

// negligible is below what sums of fractions are good to.
const negligible = 1e-9

// replaced says which part of a cluster's answers has other addresses than before.
func replaced(f steer.Family, b, a *steer.Service, x, y *steer.Choice) float64 {
	if b.Ruling == a.Ruling {
		return 0
	}
	was, is := b.Addrs(f, x), a.Addrs(f, y)
	if slices.Equal(was, is) {
		return 0
	}
	same := 0
	for _, addr := range was {
		if slices.Contains(is, addr) {
			same++
		}
	}
	return 1 - float64(same)/float64(max(len(was), len(is), 1))
}
