// Package geo owns where in the world an address is: a country table with its
// ranges, and where each country lies. It never guesses: what nobody has placed
// is the unknown place.
package geo

import (
	_ "embed" // for the data
	"fmt"
	"strconv"
	"strings"
)

// Credit is what the licence of the data asks to be shown.
const Credit = "This product includes IP2Location LITE data available from https://lite.ip2location.com."

//go:generate go run -C internal/gen . -o ../../ranges.bin

//go:embed ranges.bin
var rangesData []byte

//go:embed countries.txt
var countriesData string

// Place is a country, or a cell of one. The first of a Table's places is the
// unknown one, with nothing set. Of others a part may be unknown.
type Place struct {
	Country   string // ISO 3166-1 alpha-2, upper case
	Continent string // AF AN AS EU NA OC SA
	// Subdivisions are ISO 3166-2 codes, the larger one first: "GB-ENG", "GB-LND".
	Subdivisions [2]string
	Lat, Lon     float64 // 0, 0 = unknown
}

// Known tells whether the place is one at all.
func (p Place) Known() bool { return p.Country != "" }

// Continents lists the codes that Place.Continent takes, sorted.
func Continents() []string { return []string{"AF", "AN", "AS", "EU", "NA", "OC", "SA"} }

// Countries lists all countries of ISO 3166-1, by code.
func Countries() []Place {
	var places []Place
	for line := range strings.Lines(countriesData) {
		if p, ok := parseCountry(line); ok {
			places = append(places, p)
		}
	}
	return places
}

// Centroid finds the middle of a country, in degrees.
func Centroid(country string) (lat, lon float64, ok bool) {
	for line := range strings.Lines(countriesData) {
		if len(country) != 2 || !strings.HasPrefix(line, country) {
			continue
		}
		p, found := parseCountry(line)
		return p.Lat, p.Lon, found
	}
	return 0, 0, false
}

// parseCountry reads a line of the embedded table. A line that cannot be read is
// a fault of the build, which the tests find.
func parseCountry(line string) (Place, bool) {
	f := strings.Fields(line)
	if len(f) != 4 || f[0] == "#" {
		return Place{}, false
	}
	lat, err1 := strconv.ParseFloat(f[2], 64)
	lon, err2 := strconv.ParseFloat(f[3], 64)
	if err1 != nil || err2 != nil || len(f[0]) != 2 {
		panic(fmt.Sprintf("geo: countries.txt: bad line %q", line))
	}
	return Place{Country: f[0], Continent: f[1], Lat: lat, Lon: lon}, true
}
