package geo

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

func TestLookup(t *testing.T) {
	table := Default()
	tests := []struct {
		addr, country string
		leaf          int // 0: not checked
	}{
		{addr: "81.2.69.142", country: "GB"},
		{addr: "122.96.43.186", country: "CN"},
		{addr: "23.16.28.232", country: "CA"},
		{addr: "2400:3200::1", country: "CN"},
		{addr: "2a04:4e42:600::223", country: "US"},
		{addr: "::ffff:81.2.69.142", country: "GB"},
		{addr: "2002:5102:458e::1", country: "GB"},                    // 6to4
		{addr: "64:ff9b::81.2.69.142", country: "GB"},                 // NAT64
		{addr: "2001:0:4136:e378:8000:63bf:aefd:ba71", country: "GB"}, // Teredo: inverted
		{addr: "10.1.2.3", country: "", leaf: 8},
		{addr: "172.20.0.1", country: "", leaf: 12},
		{addr: "192.168.1.1", country: "", leaf: 16},
		{addr: "100.64.0.1", country: "", leaf: 10},
		{addr: "fd00::1", country: "", leaf: 7},
		{addr: "fe80::1", country: "", leaf: 10},
		{addr: "::ffff:10.1.2.3", country: "", leaf: 104},
		{addr: "2002:a01:203::1", country: "", leaf: 24},
		{addr: "::1", country: ""},
		{addr: "::", country: ""},
		{addr: "255.255.255.255", country: ""},
		{addr: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", country: ""},
	}
	for _, tc := range tests {
		place, leaf := table.Lookup(netip.MustParseAddr(tc.addr))
		if got := table.Places()[place].Country; got != tc.country {
			t.Errorf("Lookup(%s) is in %q, want %q", tc.addr, got, tc.country)
		}
		if tc.leaf != 0 && leaf != tc.leaf {
			t.Errorf("Lookup(%s) has leaf /%d, want /%d", tc.addr, leaf, tc.leaf)
		}
	}
	if place, leaf := table.Lookup(netip.Addr{}); place != 0 || leaf != 0 {
		t.Errorf("Lookup(invalid) = %d, %d, want 0, 0", place, leaf)
	}
}

// linear is the obvious twin of Lookup: it walks all ranges.
func linear4(table *Table, key uint32) uint16 {
	place := uint16(0)
	for i, start := range table.v4 {
		if start > key {
			break
		}
		place = table.v4place[i]
	}
	return place
}

func TestLookupAgreesWithWalk(t *testing.T) {
	table := Default()
	random := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		key := random.Uint32()
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], key)
		addr := netip.AddrFrom4(b)
		if got, _ := table.Lookup(addr); got != linear4(table, key) {
			t.Errorf("Lookup(%s) = %d, want %d", addr, got, linear4(table, key))
		}
	}
}

// Leaves are a partition: an address anywhere in a leaf has the same leaf, and
// the same place. Scopes of RFC 7871 rest on it.
func TestLeavesNeverOverlap(t *testing.T) {
	table := Default()
	specials := []string{"::ffff:0:0", "64:ff9b::", "2001::", "2002::", "fc00::", "10.0.0.0", "2001:200::", "::"}
	rapid.Check(t, func(t *rapid.T) {
		var addr netip.Addr
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			addr = netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "v4")))
		case 1:
			addr = netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "v6")))
		case 2: // near the start of a range
			var b [16]byte
			key := table.v6[rapid.IntRange(0, len(table.v6)-1).Draw(t, "range")]
			binary.BigEndian.PutUint64(b[:], key-uint64(rapid.IntRange(0, 1).Draw(t, "before")))
			addr = netip.AddrFrom16(b)
		case 3: // near a special block
			addr = netip.MustParseAddr(rapid.SampledFrom(specials).Draw(t, "block"))
			if bit := rapid.IntRange(0, addr.BitLen()).Draw(t, "flip"); bit < addr.BitLen() {
				addr = flip(addr, bit)
			}
		}
		place, leaf := table.Lookup(addr)
		if leaf < 0 || leaf > addr.BitLen() {
			t.Fatalf("Lookup(%s) has leaf /%d", addr, leaf)
		}
		other := addr
		for bit := leaf; bit < addr.BitLen(); bit++ {
			if rapid.Bool().Draw(t, "bit") {
				other = flip(other, bit)
			}
		}
		if place2, leaf2 := table.Lookup(other); place2 != place || leaf2 != leaf {
			t.Fatalf("%s is in %d/%d, but %s of the same leaf in %d/%d", addr, place, leaf, other, place2, leaf2)
		}
	})
}

func flip(addr netip.Addr, bit int) netip.Addr {
	b := addr.AsSlice()
	b[bit/8] ^= 0x80 >> (bit % 8)
	out, _ := netip.AddrFromSlice(b)
	return out
}

func TestCountries(t *testing.T) {
	places := Countries()
	if len(places) != 249 {
		t.Errorf("there are %d countries, want the 249 of ISO 3166-1", len(places))
	}
	seen, continents := map[string]bool{}, map[string]bool{}
	for _, p := range places {
		if seen[p.Country] {
			t.Errorf("%s comes twice", p.Country)
		}
		seen[p.Country] = true
		continents[p.Continent] = true
		if p.Lat < -90 || p.Lat > 90 || p.Lon < -180 || p.Lon > 180 {
			t.Errorf("%s lies at %f, %f", p.Country, p.Lat, p.Lon)
		}
	}
	for _, continent := range Continents() {
		if !continents[continent] {
			t.Errorf("no country in %s", continent)
		}
	}
	if lat, lon, ok := Centroid("DE"); !ok || lat != 51.20 || lon != 10.38 {
		t.Errorf("Centroid(DE) = %f, %f, %t", lat, lon, ok)
	}
	for _, bad := range []string{"", "#", "# ", "XX", "de", "DEU"} {
		if _, _, ok := Centroid(bad); ok {
			t.Errorf("Centroid(%q) is known", bad)
		}
	}
}

func TestNormalisePrefix(t *testing.T) {
	tests := []struct {
		prefix, inner string
		shift         int
	}{
		{"192.0.2.1/24", "192.0.2.0/24", 0},
		{"::ffff:192.0.2.0/120", "192.0.2.0/24", 96},
		{"2002:c000:200::/40", "192.0.2.0/24", 16},
		{"2002:c000:201:1::/64", "192.0.2.1/32", 16},
		{"64:ff9b::c000:200/120", "192.0.2.0/24", 96},
		{"2002::/15", "2002::/15", 0},
		{"::/0", "::/0", 0},
		{"2001:db8::1/32", "2001:db8::/32", 0},
	}
	for _, tc := range tests {
		inner, shift := NormalisePrefix(netip.MustParsePrefix(tc.prefix))
		if inner.String() != tc.inner || shift != tc.shift {
			t.Errorf("NormalisePrefix(%s) = %s, %d, want %s, %d", tc.prefix, inner, shift, tc.inner, tc.shift)
		}
	}
}

func TestDecodeRefusesDamage(t *testing.T) {
	for _, n := range []int{0, 1, 100, len(rangesData) / 2, len(rangesData) - 100} {
		if _, err := decode(rangesData[:n], Countries()); err == nil {
			t.Errorf("the first %d octets alone were accepted", n)
		}
	}
	if _, err := decode(rangesData, Countries()[:10]); err == nil {
		t.Error("a table with unknown countries was accepted")
	}
}

// A reply is made without allocating (STYLE 15); its look-up is part of it.
func TestLookupAllocatesNothing(t *testing.T) {
	table := Default()
	v4, v6 := netip.MustParseAddr("81.2.69.142"), netip.MustParseAddr("2a04:4e42:600::223")
	if n := testing.AllocsPerRun(100, func() { table.Lookup(v4); table.Lookup(v6) }); n != 0 {
		t.Errorf("Lookup allocates %f times", n)
	}
}

func BenchmarkLookup(b *testing.B) {
	table := Default()
	random := rand.New(rand.NewPCG(5, 6))
	var v4, v6 [1024]netip.Addr
	for i := range v4 {
		var b4 [4]byte
		binary.BigEndian.PutUint32(b4[:], random.Uint32())
		v4[i] = netip.AddrFrom4(b4)
		var b6 [16]byte
		binary.BigEndian.PutUint64(b6[:], table.v6[random.IntN(len(table.v6))])
		v6[i] = netip.AddrFrom16(b6)
	}
	b.Run("v4", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			table.Lookup(v4[i%1024])
		}
	})
	b.Run("v6", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			table.Lookup(v6[i%1024])
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			Default()
		}
	})
}
