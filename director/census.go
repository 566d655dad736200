package director

import (
	"net/netip"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/spec"
)

// crowd is how many IPv4 addresses are at each place of the whole table.
func (e *earth) crowd() []float64 {
	e.counting.Do(func() {
		e.counted = make([]float64, len(e.places))
		e.table.Spread(netip.PrefixFrom(netip.IPv4Unspecified(), 0), func(place uint16, size float64) {
			if int(place) < len(e.counted) {
				e.counted[place] += size
			}
		})
	})
	return e.counted
}

// censusFor tells whoever previews a change where clients are, by the places that the
// specs tell apart. What it gives has one user.
func (e *earth) censusFor(sets ...*spec.Set) core.Census {
	f := e.fit(sets...)
	sums := make([]float64, len(f.places))
	var at []uint16 // places that are in sums
	add := func(place uint16, size float64) {
		if int(place) >= len(f.merged) || size == 0 {
			return
		}
		n := f.merged[place]
		if sums[n] == 0 {
			at = append(at, n)
		}
		sums[n] += size
	}
	return func(p netip.Prefix) []core.Count {
		if p.Bits() == 0 && p.Addr().Is4() {
			for place, size := range e.crowd() {
				add(uint16(place), size)
			}
		} else {
			e.table.Spread(p, add)
		}
		out := make([]core.Count, len(at))
		for i, n := range at {
			out[i] = core.Count{Place: n, Clients: sums[n]}
			sums[n] = 0
		}
		at = at[:0]
		return out
	}
}
