// Package mmdbtest owns the making of small MaxMind DB files for tests. It is
// nothing that a director is built with.
package mmdbtest

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// Built is when databases that say nothing else were built, in Unix seconds.
const Built = 1_800_000_000

// Network is a prefix and its record.
type Network struct {
	Prefix string
	Record mmdbtype.DataType
}

// Text makes a map of texts.
func Text(pairs ...string) mmdbtype.Map {
	m := mmdbtype.Map{}
	for i := 0; i+1 < len(pairs); i += 2 {
		m[mmdbtype.String(pairs[i])] = mmdbtype.String(pairs[i+1])
	}
	return m
}

// City is a record of GeoIP2's schema; at 0, 0 it has no coordinates.
func City(continent, country string, lat, lon float64, subdivisions ...string) mmdbtype.Map {
	m := mmdbtype.Map{
		"continent":          mmdbtype.Map{"code": mmdbtype.String(continent), "names": Text("en", "A continent", "de", "Ein Erdteil")},
		"country":            mmdbtype.Map{"iso_code": mmdbtype.String(country), "geoname_id": mmdbtype.Uint32(1), "names": Text("en", "A country")},
		"registered_country": Text("iso_code", "AQ"),
		"city":               mmdbtype.Map{"names": Text("en", "A city")},
	}
	if lat != 0 || lon != 0 {
		m["location"] = mmdbtype.Map{
			"latitude": mmdbtype.Float64(lat), "longitude": mmdbtype.Float64(lon), "accuracy_radius": mmdbtype.Uint16(20), "time_zone": mmdbtype.String("UTC"),
		}
	}
	var list mmdbtype.Slice
	for _, s := range subdivisions {
		list = append(list, mmdbtype.Map{"iso_code": mmdbtype.String(s), "names": Text("en", "A part")})
	}
	if list != nil {
		m["subdivisions"] = list
	}
	return m
}

// Make gives the octets of a database, of networks in the order given.
func Make(t testing.TB, o mmdbwriter.Options, networks ...Network) []byte {
	t.Helper()
	o.IncludeReservedNetworks = true
	if o.BuildEpoch == 0 {
		o.BuildEpoch = Built
	}
	if o.DatabaseType == "" {
		o.DatabaseType = "Test-City"
	}
	tree, err := mmdbwriter.New(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range networks {
		_, network, err := net.ParseCIDR(n.Prefix)
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.Insert(network, n.Record); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if _, err := tree.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Put puts a database in place as people should: whole, under another name, then
// by a rename.
func Put(t testing.TB, path string, data []byte) {
	t.Helper()
	next := filepath.Join(filepath.Dir(path), ".next-"+filepath.Base(path))
	if err := os.WriteFile(next, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}
