package director

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"weak"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/dnsserver/geo"
	"github.com/divertdns/divert/dnsserver/geo/mmdb"
)

// earth is where clients are: a geo table, and what is left of it for the specs in
// use. A database of cities tells tens of thousands of places apart, which no spec
// does: deciding for each of them would cost what the merged ones do not.
type earth struct {
	table  *geo.Table
	places []steer.Place // the table's, as the steering knows them

	counting sync.Once
	counted  []float64 // see crowd

	mu   sync.Mutex
	fits []*fit // the last asked for, the newest last
}

// maxFits is what is kept: of the spec in force, of the next, and of the two
// together, by which a change is judged.
const maxFits = 3

func newEarth(t *geo.Table) *earth { return &earth{table: t, places: placesOf(t)} }

// fit is a geo table without the distinctions that some specs do not make: places
// and the merged table have the same indices.
type fit struct {
	sets   []weak.Pointer[spec.Set] // a spec may be large, and is nobody's because of this
	once   sync.Once
	places []steer.Place
	merged []uint16                   // of each place of the whole table, its index in places
	table  func() (*geo.Table, error) // made when first asked for
}

// fit gives the places that the specs tell apart. It is made where it is first
// asked for, which is not the loop, as a rule: of 65,000 places it takes some
// tenths of a second.
func (e *earth) fit(sets ...*spec.Set) *fit {
	sets = slices.Compact(slices.DeleteFunc(slices.Clone(sets), func(s *spec.Set) bool { return s == nil }))
	f := e.known(sets)
	f.once.Do(func() {
		places, of := steer.Merge(e.places, sets...)
		f.places, f.merged = places, of
		f.table = sync.OnceValues(func() (*geo.Table, error) {
			t, err := e.table.Merge(of, geoPlaces(places))
			if err != nil {
				return nil, fmt.Errorf("merging the places of %s: %w", e.table.Origin(), err)
			}
			return t, nil
		})
	})
	return f
}

// known finds the fit of some specs, or begins it. What makes it is not under the
// lock: nobody waits for a fit that he does not need.
func (e *earth) known(sets []*spec.Set) *fit {
	e.mu.Lock()
	defer e.mu.Unlock()
	f := &fit{}
	if i := slices.IndexFunc(e.fits, func(f *fit) bool { return f.of(sets) }); i >= 0 {
		f = e.fits[i]
		e.fits = slices.Delete(e.fits, i, i+1)
	} else {
		for _, s := range sets {
			f.sets = append(f.sets, weak.Make(s))
		}
	}
	e.fits = append(e.fits, f)
	if len(e.fits) > maxFits {
		e.fits = slices.Delete(e.fits, 0, 1)
	}
	return f
}

// compile makes the table of a decision for the places of the fit.
func (f *fit) compile(o answer.Options) (*answer.Table, error) {
	var err error
	if o.Geo, err = f.table(); err != nil {
		return nil, err
	}
	return answer.Compile(o)
}

func (f *fit) of(sets []*spec.Set) bool {
	return slices.EqualFunc(f.sets, sets, func(w weak.Pointer[spec.Set], s *spec.Set) bool { return w.Value() == s })
}

// placesFor is fit for whoever decides and answers nobody.
func (e *earth) placesFor(sets ...*spec.Set) []steer.Place { return e.fit(sets...).places }

// CheckDatabase says what is wrong with the file of a geo database.
func CheckDatabase(path string) error {
	_, err := mmdb.Open(path)
	return err
}

// placesOf gives the geo table's places to the steering.
func placesOf(t *geo.Table) []steer.Place {
	out := make([]steer.Place, 0, len(t.Places()))
	for _, p := range t.Places() {
		out = append(out, steer.Place{Country: p.Country, Continent: p.Continent, Latitude: p.Lat, Longitude: p.Lon})
	}
	return out
}

// geoPlaces is placesOf the other way round.
func geoPlaces(places []steer.Place) []geo.Place {
	out := make([]geo.Place, 0, len(places))
	for _, p := range places {
		out = append(out, geo.Place{Country: p.Country, Continent: p.Continent, Lat: p.Latitude, Lon: p.Longitude})
	}
	return out
}

// placeName says where a place is, as far as the table knows: "DE, EU", or
// "GB, EU, GB-ENG, GB-LND, near 51.8 -0.2" of a database of cities, whose places
// are cells.
func placeName(p geo.Place) string {
	parts := slices.DeleteFunc([]string{p.Country, p.Continent, p.Subdivisions[0], p.Subdivisions[1]}, func(s string) bool { return s == "" })
	if len(parts) == 0 {
		return "unknown place"
	}
	if lat, lon, ok := geo.Centroid(p.Country); ok && (lat != p.Lat || lon != p.Lon) {
		parts = append(parts, fmt.Sprintf("near %.1f %.1f", p.Lat, p.Lon))
	}
	return strings.Join(parts, ", ")
}
