package steer

import (
	"encoding/binary"
	"slices"

	"github.com/divertdns/divert/director/spec"
)

// Merge joins the places that nothing in the specs tells apart: no country or
// continent that a rule names, and no order of the clusters by distance. A
// database of cities has tens of thousands of places, and each service has arrays
// by place; what is left are some hundred. of[i] is the index in merged of what is
// i in places. Deciding for the merged places and for all of them is the same,
// which TestMergeChangesNothing holds.
//
// The unknown place stays the first. After it come the places by which clusters
// without coordinates of their own are located, each the first of its country
// still, then the others in the order of places.
func Merge(places []Place, sets ...*spec.Set) (merged []Place, of []uint16) {
	m := newMerger(places, sets)
	numbers := map[string]uint16{}
	of = make([]uint16, len(places))
	add := func(i int) {
		key := m.key(i)
		if n, ok := numbers[string(key)]; ok {
			of[i] = n
			return
		}
		n := uint16(len(merged))
		numbers[string(key)], of[i] = n, n
		merged = append(merged, places[i])
	}
	if len(places) > 0 {
		add(0)
	}
	for _, i := range m.located {
		before := len(merged)
		if add(i); len(merged) == before && i > 0 {
			merged = append(merged, places[i]) // nobody is there: it only locates a cluster
		}
	}
	for i := range places {
		add(i)
	}
	return merged, of
}

// merger knows what tells places apart.
type merger struct {
	places     []Place
	countries  map[string]bool // that a rule names
	continents map[string]bool
	distances  [][]int32 // of each cluster that is steered to by distance, by place
	posts      bool      // it matters who is near
	located    []int     // places that locate clusters
	order      []int     // scratch
	out        []byte    // scratch
}

func newMerger(places []Place, sets []*spec.Set) *merger {
	m := &merger{places: places, countries: map[string]bool{}, continents: map[string]bool{}}
	note := func(c *spec.Clients) {
		for _, s := range c.Countries {
			m.countries[s] = true
		}
		for _, s := range c.Continents {
			m.continents[s] = true
		}
	}
	for _, set := range sets {
		if set == nil {
			continue
		}
		near := map[string]bool{} // clusters of services that go by distance
		for _, svc := range set.Services {
			for i := range svc.Residency {
				note(&svc.Residency[i].Clients)
			}
			if svc.Steering.Policy == spec.PolicyLatency {
				m.posts = true
				for _, c := range set.Clusters { // where directors may be
					near[c.Name] = true
				}
			}
			if svc.Steering.Policy != spec.PolicyGeo {
				continue
			}
			for i := range svc.Steering.Regions {
				note(&svc.Steering.Regions[i].Clients)
			}
			for i := range svc.Endpoints {
				near[svc.Endpoints[i].Cluster] = true
			}
		}
		a := newAtlas(set, places)
		for _, c := range set.Clusters {
			if i := locates(c, places); i >= 0 && !slices.Contains(m.located, i) {
				m.located = append(m.located, i)
			}
			if near[c.Name] {
				m.distances = append(m.distances, a.distances[c.Name])
			}
		}
	}
	slices.Sort(m.located)
	return m
}

// locates finds the place that a cluster without coordinates is located by; -1
// for none.
func locates(c *spec.Cluster, places []Place) int {
	if c.Location.Exact || c.Location.Country == "" {
		return -1
	}
	return slices.IndexFunc(places, func(p Place) bool { return p.Country == c.Location.Country && hasCoordinates(p) })
}

// key is all that decisions depend on of a place. Continents are always in it:
// queries are counted by them.
func (m *merger) key(i int) []byte {
	p := &m.places[i]
	out := append(m.out[:0], bit(p.Country != ""), bit(p.Continent != ""))
	out = append(append(out, p.Continent...), 0)
	if m.countries[p.Country] {
		out = append(out, p.Country...)
	}
	out = append(out, 0)
	order := m.order[:0]
	for n := range m.distances {
		order = append(order, n)
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(m.distances[a][i]) - int(m.distances[b][i]) })
	for n, c := range order {
		// Clusters that are as far are told apart by a service's own order.
		tie := n > 0 && m.distances[order[n-1]][i] == m.distances[c][i]
		out = append(out, bit(tie), bit(m.distances[c][i] == far), bit(m.posts && m.distances[c][i] <= nearby))
		out = binary.BigEndian.AppendUint32(out, uint32(c))
	}
	m.order, m.out = order, out
	return out
}
