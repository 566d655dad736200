package steer

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// nearby is how far from a client's place, in kilometres, a director may be for its round
// trips to say anything of the client's.
const nearby = 2000

// trip is the round trip from a director's site to a cluster, as the plan has it: the
// samples of all directors, so that all decide alike.
type trip struct {
	site, cluster string
	millis        int32
}

// tripsOf reads those of a plan, in order, if the spec has a service that goes by them.
func tripsOf(set *spec.Set, p *plan.Plan) []trip {
	list := p.GetSpill().GetTrips()
	if len(list) == 0 || !set.GoesByLatency() {
		return nil
	}
	out := make([]trip, 0, len(list))
	for _, t := range list {
		out = append(out, trip{site: t.GetSite(), cluster: t.GetCluster(), millis: int32(min(t.GetMillis(), math.MaxInt32))})
	}
	slices.SortFunc(out, func(a, b trip) int { return cmp.Or(cmp.Compare(a.site, b.site), cmp.Compare(a.cluster, b.cluster)) })
	return out
}

// post is a site with directors, from which round trips were measured.
type post struct {
	site      string
	distances []int32          // by place
	millis    map[string]int32 // by cluster
}

// posts finds where the sites of directors are: where the cluster of the same fault domain
// is. One that is nowhere says nothing.
func posts(set *spec.Set, places []Place, a *atlas, trips []trip) []post {
	var out []post
	for _, t := range trips {
		if n := len(out); n > 0 && out[n-1].site == t.site {
			out[n-1].millis[t.cluster] = t.millis
			continue
		}
		for _, c := range set.Clusters {
			if _, _, ok := located(c, places); ok && c.FaultDomain == t.site {
				out = append(out, post{site: t.site, distances: a.distances[c.Name], millis: map[string]int32{t.cluster: t.millis}})
				break
			}
		}
	}
	return out
}

// post finds the nearest post that is near a place and has measured some of the sites;
// -1 for none.
func (in *interner) post(place int) int {
	best := -1
	for i := range in.atlas.posts {
		p := &in.atlas.posts[i]
		if place >= len(p.distances) || p.distances[place] > nearby || best >= 0 && p.distances[place] >= in.atlas.posts[best].distances[place] {
			continue
		}
		if slices.ContainsFunc(in.c.sites, func(s site) bool { _, ok := p.millis[s.end.Cluster]; return ok }) {
			best = i
		}
	}
	return best
}

// byTrip orders sites by the round trips from a post; those that it has not measured
// follow, as they were.
func (p *post) byTrip(sites []site, idx []int) {
	of := func(i int) int32 {
		if ms, ok := p.millis[sites[i].end.Cluster]; ok {
			return ms
		}
		return math.MaxInt32
	}
	slices.SortStableFunc(idx, func(a, b int) int { return cmp.Compare(of(a), of(b)) })
}

// tripWhy says how sites were ordered.
func (p *post) tripWhy(sites []site, idx []int) string {
	var parts []string
	for _, i := range idx {
		if ms, ok := p.millis[sites[i].end.Cluster]; ok {
			parts = append(parts, sites[i].end.Cluster+" "+strconv.Itoa(int(ms))+" ms")
		}
	}
	return "latency: least round trip first, from the directors in " + p.site + ": " + strings.Join(parts, ", ")
}
