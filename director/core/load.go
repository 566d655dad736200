package core

import (
	"cmp"
	"slices"
	"time"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// Sample is what one director says of the load of sites.
type Sample struct {
	Answers map[steer.Scope]float64 // that it hands out, a second, by pool
	Numbers map[steer.Scope]float64 // what a Prometheus told it, by endpoint
	Trips   map[string]float64      // the least round trip to a cluster, in milliseconds
	Age     time.Duration           // since it was received
}

// Loads is what the samples of all directors come to.
type Loads struct {
	Pools map[steer.Scope]float64 // in the unit of capacities; what is missing is not known
	// Parts divides what a cluster's pool has among the endpoints in it: what this
	// director itself hands out of each. It is for predictions alone.
	Parts map[steer.Scope]float64
	Trips map[Trip]float64 // milliseconds
	// Beyond tells that the answers come to so much more than all capacities that these
	// cannot be meant in answers a second; then nothing is known of those pools.
	Beyond bool
}

// Trip is the way from a director's site to a cluster.
type Trip struct{ Site, Cluster string }

const (
	freshSample = 30 * time.Second
	// lastWord is for how long what a director said counts once it is silent. It may
	// still answer; later its clients ask the others.
	lastWord = 5 * time.Minute
	// beyond is how many times all capacities together a fleet that lives cannot answer:
	// then they are in another unit, or somebody floods the directors with queries, and
	// neither may move clients or refuse a drain.
	beyond = 2
	// firstWords is what a director that has just begun listens for before it takes one
	// of whom it has heard nothing for silent: all that live say their first within it,
	// also where all began at once.
	firstWords = 45 * time.Second
)

// Measured is a pool with the endpoints in it whose load a Prometheus is asked for.
type Measured struct {
	steer.Pool
	Asked []steer.Scope
}

// Pools lists the capacities of a spec, ordered by their scope.
func Pools(set *spec.Set) []Measured {
	clusters := clustersOf(set)
	at := map[steer.Scope]int{}
	var out []Measured
	for _, svc := range set.Services {
		for i := range svc.Endpoints {
			e := &svc.Endpoints[i]
			p, ok := poolOf(clusters, svc, e)
			if !ok {
				continue
			}
			n, known := at[p.Scope]
			if !known {
				n = len(out)
				at[p.Scope] = n
				out = append(out, Measured{Pool: p})
			}
			if e.Load != nil {
				out[n].Asked = append(out[n].Asked, endpoint(svc.Name, e.Cluster))
			}
		}
	}
	slices.SortFunc(out, func(a, b Measured) int { return cmp.Compare(a.Scope.String(), b.Scope.String()) })
	return out
}

func poolOf(clusters map[string]*spec.Cluster, svc *spec.GlobalService, e *spec.Endpoint) (steer.Pool, bool) {
	c := clusters[e.Cluster]
	if c == nil || c.Environment != svc.Environment {
		return steer.Pool{}, false
	}
	return steer.PoolOf(svc.Name, e, c)
}

// MergeLoads adds up what the directors of a roster say; nil where too few are heard to
// say anything: then what is in force stays. Listened is for how long this director has
// heard samples: at first those of whom it knows nothing may not have spoken yet, and a sum
// without them would be noted as the load for a whole epoch. What one Prometheus says to
// several is not added up: the one in the middle counts.
func MergeLoads(pools []Measured, roster []health.Director, heard map[string]Sample, parts map[steer.Scope]float64, listened time.Duration) *Loads {
	var said []Sample
	fresh := 0
	trips := map[Trip]float64{}
	for _, d := range roster {
		s, ok := heard[d.Name]
		if !ok && listened < firstWords {
			return nil
		}
		if ok && s.Age <= freshSample {
			fresh++
		}
		if ok && s.Age <= lastWord {
			said = append(said, s)
			for c, ms := range s.Trips {
				if least, ok := trips[Trip{d.Site, c}]; !ok || ms < least {
					trips[Trip{d.Site, c}] = ms
				}
			}
		}
	}
	if fresh <= len(roster)/2 {
		return nil
	}
	out := &Loads{Pools: make(map[steer.Scope]float64, len(pools)), Parts: parts, Trips: trips}
	for _, p := range pools {
		sum, known := 0.0, true
		for _, s := range said {
			sum += s.Answers[p.Scope]
		}
		for _, at := range p.Asked {
			n, ok := middle(said, at)
			known = known && ok
			sum += n
		}
		if known {
			out.Pools[p.Scope] = sum
		}
	}
	out.forgetBeyond(pools)
	return out
}

// forgetBeyond forgets the loads that are counted by answers, if they cannot be loads.
func (l *Loads) forgetBeyond(pools []Measured) {
	sum, capacity := 0.0, 0.0
	for _, p := range pools {
		if len(p.Asked) == 0 {
			sum, capacity = sum+l.Pools[p.Scope], capacity+float64(p.Capacity)
		}
	}
	if l.Beyond = sum > beyond*capacity; !l.Beyond {
		return
	}
	for _, p := range pools {
		if len(p.Asked) == 0 {
			delete(l.Pools, p.Scope)
		}
	}
}

// middle gives the number in the middle of what was heard of an endpoint.
func middle(said []Sample, at steer.Scope) (float64, bool) {
	var numbers []float64
	for _, s := range said {
		if n, ok := s.Numbers[at]; ok {
			numbers = append(numbers, n)
		}
	}
	if len(numbers) == 0 {
		return 0, false
	}
	slices.Sort(numbers)
	return numbers[(len(numbers)-1)/2], true
}

// pool is one capacity, with the sites that share it.
type pool struct {
	steer.Pool
	sites []site
	ttl   time.Duration // the longest of its services
}

// poolsOf lists the pools of a spec, ordered by their scope.
func poolsOf(set *spec.Set) []*pool {
	clusters := clustersOf(set)
	byScope := map[steer.Scope]*pool{}
	var out []*pool
	for _, svc := range set.Services {
		for i := range svc.Endpoints {
			e := &svc.Endpoints[i]
			of, ok := poolOf(clusters, svc, e)
			if !ok {
				continue
			}
			p := byScope[of.Scope]
			if p == nil {
				p = &pool{Pool: of}
				byScope[of.Scope] = p
				out = append(out, p)
			}
			p.sites = append(p.sites, site{service: svc, end: e, cluster: clusters[e.Cluster]})
			p.ttl = max(p.ttl, svc.TTL)
		}
	}
	slices.SortFunc(out, func(a, b *pool) int { return cmp.Compare(a.Scope.String(), b.Scope.String()) })
	return out
}

// scope names the endpoint.
func (s site) scope() steer.Scope { return endpoint(s.service.Name, s.end.Cluster) }

// per is a load in per cent of the capacity.
func (p *pool) per(load float64) float64 { return load / float64(p.Capacity) * 100 }
