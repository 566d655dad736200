package mmdb

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"github.com/divertdns/divert/dnsserver/geo"
)

// cities writes a database of the size and kind of GeoLite2-City: 100,000 places
// around some thousands of centres, a place for each IPv4 /22 to /26 of most of
// the space, and for 300,000 IPv6 networks. What is beside one another is often in
// one country, as in the real one.
func cities(t testing.TB) string {
	path := filepath.Join(os.TempDir(), "divert-cities.mmdb")
	if _, err := os.Stat(path); err == nil && os.Getenv("KEEP") != "" {
		return path
	}
	r := rand.New(rand.NewPCG(9, 10))
	countries := geo.Countries()
	byCountry := make([][]mmdbtype.Map, len(countries))
	for range 100_000 {
		i := int(float64(len(countries)) * r.Float64() * r.Float64())
		c := countries[i]
		sub := string(rune('A' + r.IntN(20)))
		lat := max(-89, min(89, c.Lat+r.NormFloat64()*4))
		byCountry[i] = append(byCountry[i], city(c.Continent, c.Country, lat, max(-179, min(179, c.Lon+r.NormFloat64()*6)), sub))
	}
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "Test-City", BuildEpoch: 1_800_000_000, IncludeReservedNetworks: true})
	if err != nil {
		t.Fatal(err)
	}
	insert := func(p netip.Prefix, m mmdbtype.Map) {
		if err := tree.Insert(network(t, p.String()), m); err != nil {
			t.Fatal(err)
		}
	}
	for block := range 220 * 64 { // of a /14 each
		list := byCountry[int(float64(len(countries))*r.Float64()*r.Float64())]
		if len(list) == 0 {
			continue
		}
		for at := uint32(block) << 18; at>>18 == uint32(block); {
			bits := 22 + r.IntN(5)
			insert(netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(at >> 24), byte(at >> 16), byte(at >> 8), byte(at)}), bits).Masked(), list[r.IntN(len(list))])
			at = (at | (1<<(32-bits) - 1)) + 1
		}
	}
	for range 300_000 {
		list := byCountry[int(float64(len(countries))*r.Float64()*r.Float64())]
		if len(list) == 0 {
			continue
		}
		b := [16]byte{0x24 + byte(r.IntN(8)), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())}
		insert(netip.PrefixFrom(netip.AddrFrom16(b), 32+r.IntN(17)).Masked(), list[r.IntN(len(list))])
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tree.WriteTo(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// BenchmarkOpen opens a database of cities (DESIGN.md has what it took).
func BenchmarkOpen(b *testing.B) {
	path := cities(b)
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	debug.FreeOSMemory()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var table *geo.Table
	for b.Loop() {
		if table, err = Open(path); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	runtime.GC()
	runtime.ReadMemStats(&after)
	v4, v6 := table.Ranges()
	o := table.Origin()
	b.ReportMetric(float64(info.Size())/1e6, "MB-file")
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB-table")
	b.ReportMetric(float64(v4), "ranges-v4")
	b.ReportMetric(float64(v6), "ranges-v6")
	b.ReportMetric(float64(len(table.Places())), "places")
	b.ReportMetric(float64(o.Found), "found")
	b.ReportMetric(o.Step, "degrees")
	runtime.KeepAlive(table)
}

func BenchmarkLookup(b *testing.B) {
	table, err := Open(cities(b))
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(5, 6))
	var v4, v6 [1024]netip.Addr
	for i := range v4 {
		v4[i], v6[i] = draw(r, false), draw(r, true)
	}
	b.Run("v4", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			table.Lookup(v4[i%1024])
		}
	})
	b.Run("v6", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			table.Lookup(v6[i%1024])
		}
	})
}
