package mmdb

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"github.com/oschwald/maxminddb-golang/v2"
	"pgregory.net/rapid"

	"github.com/divertdns/divert/dnsserver/geo"
	"github.com/divertdns/divert/dnsserver/geo/mmdb/mmdbtest"
)

// The records of this package's tests are the helper's.
var text, city = mmdbtest.Text, mmdbtest.City

// write makes a database, of networks and records in the order given.
func write(t testing.TB, o mmdbwriter.Options, pairs ...any) []byte {
	t.Helper()
	var networks []mmdbtest.Network
	for i := 0; i+1 < len(pairs); i += 2 {
		networks = append(networks, mmdbtest.Network{Prefix: pairs[i].(string), Record: pairs[i+1].(mmdbtype.DataType)})
	}
	return mmdbtest.Make(t, o, networks...)
}

func network(t testing.TB, s string) *net.IPNet {
	t.Helper()
	_, n, err := net.ParseCIDR(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func read(t testing.TB, data []byte) *geo.Table {
	t.Helper()
	table, err := Read(data)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func placeOf(table *geo.Table, addr string) geo.Place {
	place, _ := table.Lookup(netip.MustParseAddr(addr))
	return table.Places()[place]
}

// TestSchemas reads what the makers of such databases write: MaxMind, DB-IP,
// ip-location-db and IPinfo.
func TestSchemas(t *testing.T) {
	f := mmdbtype.Float32(37.77)
	tests := []struct {
		name   string
		record mmdbtype.DataType
		want   geo.Place
	}{
		{"GeoIP2 Country", city("NA", "US", 0, 0), geo.Place{Country: "US", Continent: "NA"}},
		{"GeoIP2 City", city("NA", "US", 37.77, -122.42, "CA"), geo.Place{Country: "US", Continent: "NA", Subdivisions: [2]string{"US-CA"}, Lat: 37.75, Lon: -122.25}},
		{"two subdivisions", city("EU", "GB", 51.5, -0.1, "ENG", "LND"), geo.Place{Country: "GB", Continent: "EU", Subdivisions: [2]string{"GB-ENG", "GB-LND"}, Lat: 51.75, Lon: -0.25}},
		{"DB-IP City: names of subdivisions alone", mmdbtype.Map{
			"continent": text("code", "NA"), "country": text("iso_code", "US"), "subdivisions": mmdbtype.Slice{mmdbtype.Map{"names": text("en", "California")}},
			"location": mmdbtype.Map{"latitude": f, "longitude": mmdbtype.Float32(-122.42)},
		}, geo.Place{Country: "US", Continent: "NA", Lat: 37.75, Lon: -122.25}},
		{"ip-location-db country", text("country_code", "US"), geo.Place{Country: "US", Continent: "NA"}},
		{"ip-location-db city", mmdbtype.Map{
			"country_code": mmdbtype.String("US"), "state1": mmdbtype.String("California"), "city": mmdbtype.String("San Francisco"),
			"latitude": f, "longitude": mmdbtype.Float32(-122.42), "timezone": mmdbtype.String(""),
		}, geo.Place{Country: "US", Continent: "NA", Lat: 37.75, Lon: -122.25}},
		{"IPinfo location", text("country", "US", "region", "California", "region_code", "CA", "lat", "37.77", "lng", "-122.42"), geo.Place{Country: "US", Continent: "NA", Subdivisions: [2]string{"US-CA"}, Lat: 37.75, Lon: -122.25}},
		{"IPinfo Lite", text("country", "United States", "country_code", "US", "continent", "North America", "continent_code", "NA", "asn", "AS1"), geo.Place{Country: "US", Continent: "NA"}},
		{"the continent is our own table's to say", city("EU", "TR", 0, 0), geo.Place{Country: "TR", Continent: "AS"}},
		{"no country, but a continent", mmdbtype.Map{"continent": text("code", "EU"), "location": mmdbtype.Map{"latitude": f, "longitude": f}}, geo.Place{Continent: "EU"}},
		{"a code that is no country's", text("country_code", "A1"), geo.Place{}},
		{"the registered country says nothing of where the client is", mmdbtype.Map{"registered_country": text("iso_code", "DE")}, geo.Place{}},
		{"coordinates that are none", mmdbtype.Map{"country_code": mmdbtype.String("DE"), "latitude": mmdbtype.String("north"), "longitude": mmdbtype.Float64(1e9)}, geo.Place{Country: "DE", Continent: "EU"}},
		{"another type", mmdbtype.String("DE"), geo.Place{}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			data := write(t, mmdbwriter.Options{}, "198.51.100.0/24", tc.record, "2001:db8::/32", tc.record, "192.0.2.0/24", city("EU", "FR", 0, 0))
			table := read(t, data)
			if tc.want.Country != "" && tc.want.Lat == 0 {
				tc.want.Lat, tc.want.Lon, _ = geo.Centroid(tc.want.Country)
			}
			for _, addr := range []string{"198.51.100.7", "2001:db8::1", "::ffff:198.51.100.7", "2002:c633:6407::1"} {
				if got := placeOf(table, addr); got != tc.want {
					t.Errorf("%s is at %+v, want %+v", addr, got, tc.want)
				}
			}
			if got := placeOf(table, "203.0.113.1"); got != (geo.Place{}) {
				t.Errorf("an address that the database lacks is at %+v", got)
			}
		})
	}
}

func TestOrigin(t *testing.T) {
	data := write(t, mmdbwriter.Options{DatabaseType: "GeoLite2\x1b[31m City"}, "198.51.100.0/24", city("EU", "DE", 50, 8))
	o := read(t, data).Origin()
	if o.Name != "GeoLite2[31mCity" || !o.Built.Equal(time.Unix(1_800_000_000, 0)) || len(o.Hash) != 16 || o.Step != 0.5 || o.Found != 1 {
		t.Errorf("got %+v", o)
	}
	other := read(t, write(t, mmdbwriter.Options{}, "198.51.100.0/24", city("EU", "DE", 50, 9))).Origin()
	if other.Hash == o.Hash {
		t.Error("two databases have one hash")
	}
}

// random makes a database of n networks of many lengths, of both families where
// version is 6.
func random(t testing.TB, version, recordSize, n int, r *rand.Rand) []byte {
	countries := geo.Countries()
	var networks []any
	for i := range n {
		var p netip.Prefix
		if version == 6 && i%2 == 0 {
			var b [16]byte
			binary.BigEndian.PutUint64(b[:], 0x2400_0000_0000_0000+r.Uint64N(0x0800_0000_0000_0000))
			p = netip.PrefixFrom(netip.AddrFrom16(b), 20+r.IntN(60)).Masked()
		} else {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], r.Uint32())
			p = netip.PrefixFrom(netip.AddrFrom4(b), 8+r.IntN(25)).Masked()
		}
		c := countries[r.IntN(len(countries))]
		networks = append(networks, p.String(), city(c.Continent, c.Country, c.Lat+r.Float64()*4, c.Lon, []string{"A", "B", "C"}[r.IntN(3)]))
	}
	return write(t, mmdbwriter.Options{IPVersion: version, RecordSize: recordSize}, networks...)
}

// TestAgreesWithLibrary asks the library for each of 100,000 addresses.
func TestAgreesWithLibrary(t *testing.T) {
	for _, tc := range []struct{ version, record int }{{6, 24}, {6, 28}, {6, 32}, {4, 28}} {
		r := rand.New(rand.NewPCG(uint64(tc.version), uint64(tc.record)))
		data := random(t, tc.version, tc.record, 3000, r)
		table := read(t, data)
		db, err := maxminddb.OpenBytes(data)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for i := range 25_000 {
			addr := draw(r, tc.version == 6 && i%2 == 0)
			var want struct {
				Country struct {
					ISO string `maxminddb:"iso_code"`
				} `maxminddb:"country"`
				Location struct {
					Lat float64 `maxminddb:"latitude"`
				} `maxminddb:"location"`
				Subdivisions []struct {
					ISO string `maxminddb:"iso_code"`
				} `maxminddb:"subdivisions"`
			}
			inner, _ := geo.Normalise(addr)
			result := db.Lookup(inner)
			if err := result.Decode(&want); err != nil {
				t.Fatal(err)
			}
			if inner.Is6() && result.Prefix().Bits() > 64 {
				continue // see TestSeams
			}
			got := placeOf(table, addr.String())
			sub := ""
			if len(want.Subdivisions) > 0 {
				found++
				sub = want.Country.ISO + "-" + want.Subdivisions[0].ISO
				if d := got.Lat - want.Location.Lat; d > 0.5 || d < -0.5 {
					t.Fatalf("%s is at latitude %f, want about %f", addr, got.Lat, want.Location.Lat)
				}
			}
			if got.Country != want.Country.ISO || got.Subdivisions != [2]string{sub} {
				t.Fatalf("IPv%d/%d: %s is at %+v, want %+v", tc.version, tc.record, addr, got, want)
			}
		}
		if found < 1000 {
			t.Errorf("IPv%d/%d: only %d addresses are in the database", tc.version, tc.record, found)
		}
	}
}

func draw(r *rand.Rand, v6 bool) netip.Addr {
	if !v6 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], r.Uint32())
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], 0x2400_0000_0000_0000+r.Uint64N(0x0800_0000_0000_0000))
	binary.BigEndian.PutUint64(b[8:], r.Uint64())
	return netip.AddrFrom16(b)
}

// TestSeams: of a /64 in pieces only what the pieces have in common is known.
func TestSeams(t *testing.T) {
	de, bavaria, fr := city("EU", "DE", 50, 8, "HE"), city("EU", "DE", 48, 11, "BY"), city("EU", "FR", 48, 2, "IDF")
	table := read(t, write(t, mmdbwriter.Options{},
		"2001:db8:0:1::/65", de, "2001:db8:0:1:8000::/65", bavaria, // one country
		"2001:db8:0:2::/65", de, "2001:db8:0:2:8000::/65", fr, // two
		"2001:db8:0:3::/66", de, // and nothing
		"2001:db8:0:4::/65", de, "2001:db8:0:4:8000::/66", de, "2001:db8:0:4:c000::/66", de, // one place
		"2001:db8:0:5::/64", fr,
	))
	tests := []struct{ addr, country, subdivision string }{
		{"2001:db8:0:1::1", "DE", ""}, {"2001:db8:0:2::1", "", ""}, {"2001:db8:0:3::1", "", ""}, {"2001:db8:0:4::1", "DE", "DE-HE"}, {"2001:db8:0:5::1", "FR", "FR-IDF"}, {"2001:db8:0:6::1", "", ""},
	}
	for _, tc := range tests {
		if got := placeOf(table, tc.addr); got.Country != tc.country || got.Subdivisions[0] != tc.subdivision {
			t.Errorf("%s is at %+v, want %s %s", tc.addr, got, tc.country, tc.subdivision)
		}
	}
}

// Leaves are a partition with a database too, and when places are merged: an
// address anywhere in a leaf has the same leaf, and the same place. Scopes of RFC
// 7871 rest on it.
func TestLeavesNeverOverlap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	fine := read(t, random(t, 6, 28, 3000, r))
	of := make([]uint16, len(fine.Places()))
	for i := range of {
		of[i] = uint16(i % 7)
	}
	merged, err := fine.Merge(of, make([]geo.Place, 7))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		table := rapid.SampledFrom([]*geo.Table{fine, merged}).Draw(t, "table")
		var addr netip.Addr
		if rapid.Bool().Draw(t, "v4") {
			addr = netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "octets")))
		} else {
			addr = netip.AddrFrom16([16]byte(append([]byte{0x24 + rapid.Byte().Draw(t, "block")%8}, rapid.SliceOfN(rapid.Byte(), 15, 15).Draw(t, "octets")...)))
		}
		place, leaf := table.Lookup(addr)
		if p, _ := fine.Lookup(addr); table == merged && place != of[p] {
			t.Fatalf("%s is at %d, merged at %d", addr, p, place)
		}
		octets := addr.AsSlice()
		for bit := leaf; bit < addr.BitLen(); bit++ {
			if rapid.Bool().Draw(t, "bit") {
				octets[bit/8] ^= 0x80 >> (bit % 8)
			}
		}
		other, _ := netip.AddrFromSlice(octets)
		if place2, leaf2 := table.Lookup(other); place2 != place || leaf2 != leaf {
			t.Fatalf("%s is in %d/%d, but %s of the same leaf in %d/%d", addr, place, leaf, other, place2, leaf2)
		}
	})
}

// TestRounding: a database of more places than there may be is rounded until
// they fit, and says so.
func TestRounding(t *testing.T) {
	b := geo.NewBuilder()
	const lats, lons = 330, 360 // every half degree, and every degree
	for lat := range lats {
		for lon := range lons {
			n, err := b.Place(geo.Place{Country: "AQ", Lat: float64(lat)/2 - 89.9, Lon: float64(lon) - 179.9})
			if err != nil {
				t.Fatal(err)
			}
			var octets [4]byte
			binary.BigEndian.PutUint32(octets[:], uint32(lat*lons+lon)<<8)
			if err := b.Add(netip.PrefixFrom(netip.AddrFrom4(octets), 24), n); err != nil {
				t.Fatal(err)
			}
		}
	}
	table, err := b.Table(geo.Origin{Name: "t"})
	if err != nil {
		t.Fatal(err)
	}
	if o := table.Origin(); len(table.Places()) > geo.MaxPlaces || o.Found != lats*lons || o.Step != 1 {
		t.Errorf("%d places at %f degrees of %d found", len(table.Places()), o.Step, o.Found)
	}
	if p := placeOf(table, "0.0.0.1"); p.Lat != -89.5 || p.Lon != -179.5 {
		t.Errorf("the first cell is at %f, %f", p.Lat, p.Lon)
	}
}

// damaged lists what a file may be by accident.
func damaged(t testing.TB) map[string][]byte {
	good := random(t, 6, 28, 200, rand.New(rand.NewPCG(5, 6)))
	marker := bytes.LastIndex(good, []byte("\xab\xcd\xefMaxMind.com"))
	db, err := maxminddb.OpenBytes(good)
	if err != nil {
		t.Fatal(err)
	}
	tree := int(db.Metadata.NodeCount) * 7
	loop := bytes.Clone(good)
	clear(loop[:tree]) // every node leads to the first
	// Each node leads twice to the next: 2^128 ends, none of which holds anything.
	shared := bytes.Clone(good)
	for i := range int(db.Metadata.NodeCount) {
		next := uint32(i + 1)
		shared[7*i], shared[7*i+1], shared[7*i+2] = byte(next>>16), byte(next>>8), byte(next)
		shared[7*i+3] = byte(next>>24)<<4 | byte(next>>24)
		shared[7*i+4], shared[7*i+5], shared[7*i+6] = byte(next>>16), byte(next>>8), byte(next)
	}
	// And where the ends are aliases of IPv4, which are passed over.
	aliased := bytes.Clone(shared)
	for i := 97; i < 230; i++ {
		aliased[7*i], aliased[7*i+1], aliased[7*i+2], aliased[7*i+3] = 0, 0, 96, aliased[7*i+3]&15
	}
	flipped := bytes.Clone(good)
	for i := tree; i < marker; i++ {
		flipped[i] ^= 0xff
	}
	return map[string][]byte{
		"empty": {}, "not a database": []byte(strings.Repeat("no database ", 1000)), "text with the marker": []byte("\xab\xcd\xefMaxMind.com{}"),
		"cut in the tree": good[:tree/2], "cut behind the tree": good[:tree], "cut in the data": good[:(tree+marker)/2], "cut before the metadata": good[:marker],
		"cut in the metadata": good[:marker+20], "cut before the end": good[:len(good)-1],
		"without its first half": good[len(good)/2:], "a tree in circles": loop, "a tree of shared nodes": shared, "a tree of shared nodes and aliases": aliased, "data of noise": flipped,
		"zeros": make([]byte, 1<<16), "the metadata alone": good[marker:],
	}
}

// TestDamaged: whatever a file holds, it is refused with a reason.
func TestDamaged(t *testing.T) {
	for name, data := range damaged(t) {
		t.Run(name, func(t *testing.T) {
			if table, err := Read(data); err == nil {
				t.Errorf("it was taken: %+v", table.Origin())
			} else if strings.Contains(err.Error(), "runtime error") {
				t.Logf("caught a panic of the library's: %v", err)
			}
		})
	}
	if _, err := Read(write(t, mmdbwriter.Options{DatabaseType: "ASN"}, "198.51.100.0/24", mmdbtype.Map{"autonomous_system_number": mmdbtype.Uint32(64496)})); err == nil {
		t.Error("a database without countries was taken")
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good.mmdb")
	if err := os.WriteFile(good, write(t, mmdbwriter.Options{}, "198.51.100.0/24", city("EU", "DE", 50, 8)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(good); err != nil {
		t.Error(err)
	}
	huge := filepath.Join(dir, "huge.mmdb")
	if err := os.WriteFile(huge, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(huge, 1<<40); err != nil {
		t.Skip(err)
	}
	for _, bad := range []string{huge, dir, filepath.Join(dir, "none.mmdb"), os.DevNull, pipe(t, dir)} {
		if _, err := Open(bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("Open(%s) = %v", bad, err)
		}
	}
}

// A reply is made without allocating (STYLE 15); its look-up is part of it.
func TestLookupAllocatesNothing(t *testing.T) {
	table := read(t, random(t, 6, 28, 1000, rand.New(rand.NewPCG(7, 8))))
	v4, v6 := netip.MustParseAddr("81.2.69.142"), netip.MustParseAddr("2a04:4e42:600::223")
	if n := testing.AllocsPerRun(100, func() { table.Lookup(v4); table.Lookup(v6) }); n != 0 {
		t.Errorf("Lookup allocates %f times", n)
	}
}

// FuzzRead: no file may crash it or keep it for long, and what it takes for a
// database has leaves that are a partition.
func FuzzRead(f *testing.F) {
	for _, data := range damaged(f) {
		if len(data) < 1<<14 {
			f.Add(data)
		}
	}
	f.Add(write(f, mmdbwriter.Options{IPVersion: 4, RecordSize: 24}, "198.51.100.0/24", city("EU", "DE", 50, 8, "HE")))
	f.Add(write(f, mmdbwriter.Options{RecordSize: 32}, "2001:db8::/70", text("country", "US", "lat", "1", "lng", "2")))
	addrs := []string{"198.51.100.1", "2001:db8::1", "::", "255.255.255.255", "ffff::"}
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := Read(data)
		if err != nil {
			return
		}
		for _, s := range addrs {
			addr := netip.MustParseAddr(s)
			place, leaf := table.Lookup(addr)
			if int(place) >= len(table.Places()) || leaf < 0 || leaf > addr.BitLen() {
				t.Fatalf("%s is at %d of %d, leaf %d", s, place, len(table.Places()), leaf)
			}
		}
	})
}
