package steer

import "iter"

// Pairs gives, for two views, each pair of sets that the same clients have in the
// one and in the other, by their indices. A prefix that only one of the two
// configures is compared with what its clients have in the other by a shorter one,
// else by place. Neither may be the zero View.
func Pairs(a, b *View) iter.Seq2[uint16, uint16] {
	return func(yield func(uint16, uint16) bool) {
		seen := make([]bool, len(a.Sets)*len(b.Sets))
		rows := map[[2]*uint16]bool{} // most prefixes share theirs
		row := func(x, y []uint16) bool {
			n := min(len(x), len(y))
			if n == 0 {
				return true
			}
			id := [2]*uint16{&x[0], &y[0]}
			if rows[id] {
				return true
			}
			rows[id] = true
			for i := range n {
				if at := int(x[i])*len(b.Sets) + int(y[i]); !seen[at] {
					seen[at] = true
					if !yield(x[i], y[i]) {
						return false
					}
				}
			}
			return true
		}
		if !row(a.ByPlace, b.ByPlace) {
			return
		}
		if samePrefixes(a, b) {
			for i := range a.ByPrefix {
				if !row(a.ByPrefix[i].ByPlace, b.ByPrefix[i].ByPlace) {
					return
				}
			}
			return
		}
		for i := range a.ByPrefix {
			if p := &a.ByPrefix[i]; !row(p.ByPlace, b.rowFor(p)) {
				return
			}
		}
		for i := range b.ByPrefix {
			if p := &b.ByPrefix[i]; !row(a.rowFor(p), p.ByPlace) {
				return
			}
		}
	}
}

func samePrefixes(a, b *View) bool {
	if len(a.ByPrefix) != len(b.ByPrefix) {
		return false
	}
	for i := range a.ByPrefix {
		if a.ByPrefix[i].Prefix != b.ByPrefix[i].Prefix {
			return false
		}
	}
	return true
}

// rowFor finds what the clients of another view's prefix have: its longest prefix
// that covers them, else by place.
func (v *View) rowFor(p *PrefixPlaces) []uint16 {
	best, bits := v.ByPlace, -1
	for i := range v.ByPrefix {
		q := &v.ByPrefix[i]
		if q.Prefix.Bits() > bits && covers(q.Prefix, p.Prefix) {
			best, bits = q.ByPlace, q.Prefix.Bits()
		}
	}
	return best
}
