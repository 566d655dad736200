package steer

import (
	"fmt"
	"slices"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
)

// Prepared is what decisions about a spec have in common, whatever is up and
// whatever people say: the classes of clients of each kind of service. It never
// changes once made, and many may share it.
type Prepared struct {
	set    *spec.Set
	places []Place
	trips  []trip
	kinds  []prepared
	kindOf []int32 // of each service
	defs   map[string]definition
}

// prepared is services that differ in their names and hosts alone.
type prepared struct {
	*compiled       // of the first
	members   []int // indices in the spec
}

// Prepare compiles a spec.
func Prepare(set *spec.Set, places []Place) *Prepared { return prepare(set, places, nil) }

// prepare does it for what a plan has of round trips.
func prepare(set *spec.Set, places []Place, trips []trip) *Prepared {
	if len(places) == 0 {
		places = []Place{{}}
	}
	p := &Prepared{set: set, places: places, trips: trips, kindOf: make([]int32, len(set.Services))}
	clusters := make(map[string]*spec.Cluster, len(set.Clusters))
	for _, c := range set.Clusters {
		clusters[c.Name] = c
	}
	a := newAtlas(set, places)
	a.posts = posts(set, places, a, trips)
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
	p.defs = a.keys.defs
	return p
}

// Name says what people call what is watched: "http :8080/healthz", "fast :8080". What the
// spec does not have is named by its kind alone. A nil Prepared is of an empty spec.
func (p *Prepared) Name(s health.Subject) string {
	switch {
	case s.Kind == health.KindSignal:
		return fastText(s)
	case s == health.Gray(s.Addr):
		return fmt.Sprintf("gray :%d", s.Addr.Port())
	case p != nil && p.defs[s.Def].name != "":
		return p.defs[s.Def].name
	case s.Kind == health.KindSoft:
		return "soft probe that the spec does not have"
	default:
		return fmt.Sprintf("check :%d that the spec does not have", s.Addr.Port())
	}
}

// of tells whether it was made of these.
func (p *Prepared) of(set *spec.Set, places []Place, trips []trip) bool {
	return p != nil && p.set == set && slices.Equal(p.trips, trips) && samePlaces(p.places, places)
}

// samePlaces compares the tables, at once when they are the same one.
func samePlaces(a, b []Place) bool {
	if len(a) == len(b) && len(a) > 0 && &a[0] == &b[0] {
		return true
	}
	return slices.Equal(a, b)
}
