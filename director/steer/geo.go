package steer

import (
	"math"

	"github.com/divertdns/divert/director/spec"
)

// far is the distance to or from where no coordinates are known: the order
// alone then decides.
const far = math.MaxInt32

// atlas holds the distance from every place to every cluster, in whole
// kilometres: whole, so that directors on machines whose floating point differs
// in the last bit still decide alike.
type atlas struct {
	places    []Place
	distances map[string][]int32 // cluster -> by place
	posts     []post             // from which round trips were measured
	keys      *keyer
	layouts   map[string]*layout // by all that they are made of
}

func newAtlas(set *spec.Set, places []Place) *atlas {
	a := &atlas{
		places: places, distances: make(map[string][]int32, len(set.Clusters)),
		keys: &keyer{known: map[any]int{}, texts: map[string]int{}, verdicts: map[string]int{}, defs: map[string]definition{}}, layouts: map[string]*layout{},
	}
	for _, c := range set.Clusters {
		lat, lon, ok := located(c, places)
		row := make([]int32, len(places))
		for i, p := range places {
			row[i] = far
			if ok && hasCoordinates(p) {
				row[i] = kilometres(p.Latitude, p.Longitude, lat, lon)
			}
		}
		a.distances[c.Name] = row
	}
	return a
}

// hasCoordinates: 0, 0 lies in the sea and stands for "unknown".
func hasCoordinates(p Place) bool {
	return !p.unknown() && (p.Latitude != 0 || p.Longitude != 0)
}

// located gives a cluster's coordinates: its own, else its country's as the
// geo table has them.
func located(c *spec.Cluster, places []Place) (lat, lon float64, ok bool) {
	if c.Location.Exact {
		return c.Location.Latitude, c.Location.Longitude, true
	}
	for _, p := range places {
		if p.Country != "" && p.Country == c.Location.Country && hasCoordinates(p) {
			return p.Latitude, p.Longitude, true
		}
	}
	return 0, 0, false
}

// kilometres is the great-circle distance by the haversine formula. The
// conversions keep the compiler from fusing multiplications with additions.
func kilometres(lat1, lon1, lat2, lon2 float64) int32 {
	const radius, rad = 6371.0, math.Pi / 180
	dlat, dlon := float64(lat2-lat1)*rad/2, float64(lon2-lon1)*rad/2
	a := float64(math.Sin(dlat)*math.Sin(dlat)) +
		float64(math.Cos(lat1*rad)*math.Cos(lat2*rad)*math.Sin(dlon)*math.Sin(dlon))
	return int32(math.Round(2 * radius * math.Asin(math.Sqrt(min(1, a)))))
}
