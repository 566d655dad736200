package steer

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// Standby is what a server that knows nothing but the zone may say of a service's
// names: to every client the same, whatever is up. It is a pure function of spec
// and plan, so that the zone's serial can follow it (S13).
type Standby struct {
	V4, V6 []netip.Addr  // of the hosts: sites in the service's order
	Sites  []StandbySite `json:",omitempty"` // of the names of single sites, in spec order
}

// StandbySite is what the names of a single site say.
type StandbySite struct {
	Cluster string
	V4, V6  []netip.Addr
}

// Standbys gives the standby of each service, by name, as in set.
//
// An address is in it that residency lets every client have (S11): a secondary
// cannot tell one client from another. Of those it is the undrained sites', where
// there are any, else those of the last resort, else what was drained last: never
// nothing because of a drain (S1).
func Standbys(set *spec.Set, p *plan.Plan) []Standby {
	clusters := make(map[string]*spec.Cluster, len(set.Clusters))
	for _, c := range set.Clusters {
		clusters[c.Name] = c
	}
	drains, _ := overrides(p)
	out := make([]Standby, len(set.Services))
	for i, svc := range set.Services {
		out[i] = standbyOf(svc, clusters, drains)
	}
	return out
}

// standbyRank orders sites by what a standby would rather send clients to.
type standbyRank struct {
	last  bool   // drained, as a last resort
	since uint64 // drained by that revision; 0 = undrained
}

// prefer compares a's claim with b's: below 0, a goes first.
func (a standbyRank) prefer(b standbyRank) int {
	claim := func(r standbyRank) int {
		switch {
		case r.since == 0:
			return 0
		case r.last:
			return 1
		}
		return 2
	}
	if by := cmp.Compare(claim(a), claim(b)); by != 0 || claim(a) < 2 {
		return by
	}
	return cmp.Compare(b.since, a.since)
}

func standbyOf(svc *spec.GlobalService, clusters map[string]*spec.Cluster, drains []drain) Standby {
	var out Standby
	ends := make([]int, 0, len(svc.Endpoints))
	for i := range svc.Endpoints {
		e := &svc.Endpoints[i]
		cl := clusters[e.Cluster]
		open := cl != nil && cl.Environment == svc.Environment && openToAll(svc, cl)
		if open {
			ends = append(ends, i)
		}
		if svc.SiteNames {
			site := StandbySite{Cluster: e.Cluster}
			if open {
				site.V4, site.V6 = ofFamily(e.Addresses, IPv4), ofFamily(e.Addresses, IPv6)
			}
			out.Sites = append(out.Sites, site)
		}
	}
	slices.SortStableFunc(ends, func(a, b int) int {
		x, y := svc.Endpoints[a].Cluster, svc.Endpoints[b].Cluster
		return cmp.Or(cmp.Compare(position(svc.Steering.Order, x), position(svc.Steering.Order, y)), cmp.Compare(x, y))
	})
	ranks := make(map[int]standbyRank, len(ends))
	for _, i := range ends {
		ranks[i] = rankStandby(svc.Name, clusters[svc.Endpoints[i].Cluster], drains)
	}
	out.V4 = standbyFamily(svc, ends, ranks, IPv4)
	out.V6 = standbyFamily(svc, ends, ranks, IPv6)
	return out
}

// openToAll tells whether no residency rule keeps a cluster from any client.
func openToAll(svc *spec.GlobalService, cl *spec.Cluster) bool {
	for i := range svc.Residency {
		if !selected(cl.Labels, svc.Residency[i].Clusters) {
			return false
		}
	}
	return true
}

func rankStandby(service string, cl *spec.Cluster, drains []drain) standbyRank {
	r := standbyRank{last: true}
	for _, d := range drains {
		if !d.scope.Covers(service, cl) {
			continue
		}
		r.last = r.last && d.o.GetLastResort()
		// A drain of revision 0 is none that a plan holds; it must not read as none.
		if since := max(1, d.o.GetRevision()); r.since == 0 || since < r.since {
			r.since = since
		}
	}
	return r
}

func standbyFamily(svc *spec.GlobalService, ends []int, ranks map[int]standbyRank, f Family) []netip.Addr {
	absent := func(i int) bool { return svc.Steering.Policy == spec.PolicyWeighted && svc.Endpoints[i].Weight <= 0 }
	var with []int
	for _, i := range ends {
		if len(ofFamily(svc.Endpoints[i].Addresses, f)) > 0 {
			with = append(with, i)
		}
	}
	// Weight 0 is absent, unless nothing else is there.
	if present := slices.DeleteFunc(slices.Clone(with), absent); len(present) > 0 {
		with = present
	}
	if len(with) == 0 {
		return nil
	}
	best := ranks[slices.MinFunc(with, func(a, b int) int { return ranks[a].prefer(ranks[b]) })]
	var out []netip.Addr
	for _, i := range with {
		if ranks[i].prefer(best) > 0 {
			continue
		}
		for _, a := range ofFamily(svc.Endpoints[i].Addresses, f) {
			if !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out
}

// ofFamily gives the addresses of a family, in order.
func ofFamily(addrs []netip.Addr, f Family) []netip.Addr {
	var out []netip.Addr
	for _, a := range sorted(addrs) {
		if FamilyOf(a) == f {
			out = append(out, a)
		}
	}
	return out
}
