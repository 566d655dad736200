package geo

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// TestSpread: what a prefix is spread over is what a look-up of its addresses says, and
// all of it.
func TestSpread(t *testing.T) {
	table := Default()
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		bits := 8 + random.IntN(25)
		var b [4]byte
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		p := netip.PrefixFrom(netip.AddrFrom4(b), bits).Masked()
		total, places := 0.0, map[uint16]bool{}
		table.Spread(p, func(place uint16, size float64) { total, places[place] = total+size, true })
		if want := float64(uint64(1) << (32 - bits)); total != want {
			t.Fatalf("%s: got %v addresses, want %v", p, total, want)
		}
		for range 20 {
			a := p.Addr().As4()
			for i := range a {
				a[i] |= byte(random.Uint32()) & ^mask(bits, i)
			}
			if place, _ := table.Lookup(netip.AddrFrom4(a)); !places[place] {
				t.Fatalf("%s: %v is at %d, which is not among %v", p, netip.AddrFrom4(a), place, places)
			}
		}
	}
	for _, tc := range []struct {
		prefix string
		want   float64
	}{
		{"0.0.0.0/0", 1 << 32},
		{"192.0.2.1/32", 1},
		{"::ffff:192.0.2.0/120", 256},
		{"2001:db8::/48", 1 << 16},
		{"2001:db8::1/128", 1},
	} {
		total := 0.0
		table.Spread(netip.MustParsePrefix(tc.prefix), func(_ uint16, size float64) { total += size })
		if total != tc.want {
			t.Errorf("%s: got %v, want %v", tc.prefix, total, tc.want)
		}
	}
	table.Spread(netip.Prefix{}, func(uint16, float64) { t.Error("a prefix that is none has clients") })
}

func mask(bits, octet int) byte {
	n := max(0, min(8, bits-8*octet))
	return byte(0xff << (8 - n))
}
