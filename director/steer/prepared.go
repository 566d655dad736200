package steer

import (
	"slices"

	"github.com/divertdns/divert/director/spec"
)

// Prepared is what decisions about a spec have in common, whatever is up and
// whatever people say: the classes of clients of each kind of service. It never
// changes once made, and many may share it.
type Prepared struct {
	set    *spec.Set
	places []Place
	kinds  []prepared
	kindOf []int32 // of each service
}

// prepared is services that differ in their names and hosts alone.
type prepared struct {
	*compiled       // of the first
	members   []int // indices in the spec
}

// Prepare compiles a spec.
func Prepare(set *spec.Set, places []Place) *Prepared {
	if len(places) == 0 {
		places = []Place{{}}
	}
	p := &Prepared{set: set, places: places, kindOf: make([]int32, len(set.Services))}
	clusters := make(map[string]*spec.Cluster, len(set.Clusters))
	for _, c := range set.Clusters {
		clusters[c.Name] = c
	}
	a := newAtlas(set, places)
	known := map[string]int{}
	for i, svc := range set.Services {
		key := a.keys.service(svc)
		n, ok := known[key]
		if !ok {
			n = len(p.kinds)
			known[key] = n
			p.kinds = append(p.kinds, prepared{compiled: compile(svc, set, clusters, a)})
		}
		p.kinds[n].members = append(p.kinds[n].members, i)
		p.kindOf[i] = int32(n)
	}
	return p
}

// of tells whether it was made of these.
func (p *Prepared) of(set *spec.Set, places []Place) bool {
	return p != nil && p.set == set && samePlaces(p.places, places)
}

// samePlaces compares the tables, at once when they are the same one.
func samePlaces(a, b []Place) bool {
	if len(a) == len(b) && len(a) > 0 && &a[0] == &b[0] {
		return true
	}
	return slices.Equal(a, b)
}
