package geo

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// Spread tells where the clients of a prefix may be: add is called for each run of
// addresses at one place, as often as there are runs, with how many they are: of an IPv4
// prefix addresses, of an IPv6 prefix networks of 64 bits, one at least. An IPv4-mapped
// prefix is the IPv4 prefix that it holds.
func (t *Table) Spread(p netip.Prefix, add func(place uint16, size float64)) {
	if !p.IsValid() {
		return
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	p = p.Masked()
	if p.Addr().Is4() {
		b := p.Addr().As4()
		first := binary.BigEndian.Uint32(b[:])
		spread(t.v4, t.v4place, first, first|uint32(uint64(1)<<(32-p.Bits())-1), add)
		return
	}
	b := p.Addr().As16()
	first := binary.BigEndian.Uint64(b[:8])
	last := first
	switch bits := p.Bits(); {
	case bits == 0:
		last = ^uint64(0)
	case bits < 64:
		last = first | (uint64(1)<<(64-bits) - 1)
	}
	spread(t.v6, t.v6place, first, last, add)
}

func spread[T uint32 | uint64](starts []T, places []uint16, first, last T, add func(place uint16, size float64)) {
	at, found := slices.BinarySearch(starts, first)
	if !found {
		at-- // the first start is 0
	}
	for ; at < len(starts) && starts[at] <= last; at++ {
		end := last
		if at+1 < len(starts) {
			end = min(end, starts[at+1]-1)
		}
		add(places[at], float64(end-max(first, starts[at]))+1)
	}
}
