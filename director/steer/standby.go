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
	Target string        `json:",omitempty"` // of a service that answers by a CNAME: the one
	Sites  []StandbySite `json:",omitempty"` // of the names of single sites, as Service.SiteViews
}

// StandbySite is what the names of a single site say.
type StandbySite struct {
	Cluster string
	V4, V6  []netip.Addr
	Target  string `json:",omitempty"`
}

// Standbys makes the standbys of a spec's services under a plan. It may be used by
// many at once.
type Standbys struct {
	clusters map[string]*spec.Cluster
	drains   []drain
}

// StandbysOf reads what all services share.
func StandbysOf(set *spec.Set, p *plan.Plan) *Standbys {
	s := &Standbys{clusters: make(map[string]*spec.Cluster, len(set.Clusters))}
	for _, c := range set.Clusters {
		s.clusters[c.Name] = c
	}
	s.drains, _ = overrides(p)
	// A site that is drained in steps has clients until the last of them.
	s.drains = slices.DeleteFunc(s.drains, func(d drain) bool { return d.keep > 0 })
	return s
}

// Of gives a service's standby. Services that are decided as one have the same.
//
// An address is in it that residency lets every client have (S11): a secondary
// cannot tell one client from another. Of those it is the undrained sites', where
// there are any, else those of the last resort, else what was drained last: never
// nothing because of a drain (S1). What a hostname resolves to is never in it: that
// changes without a plan, so no serial would follow it.
func (s *Standbys) Of(svc *spec.GlobalService) Standby {
	var out Standby
	sites := make([]standbySite, 0, len(svc.Endpoints))
	for i := range svc.Endpoints {
		e := &svc.Endpoints[i]
		cl := s.clusters[e.Cluster]
		if cl == nil { // as in a decision
			continue
		}
		open := cl.Environment == svc.Environment && openToAll(svc, cl)
		if open {
			sites = append(sites, standbySite{end: e, position: position(svc.Steering.Order, e.Cluster), rank: s.rank(svc.Name, cl)})
		}
		if svc.SiteNames {
			site := StandbySite{Cluster: e.Cluster}
			if open {
				site.V4, site.V6 = ofFamily(nil, e.Addresses, IPv4), ofFamily(nil, e.Addresses, IPv6)
				if svc.CNAME {
					site.Target = e.Hostname
				}
			}
			out.Sites = append(out.Sites, site)
		}
	}
	slices.SortStableFunc(sites, func(a, b standbySite) int {
		return cmp.Or(cmp.Compare(a.position, b.position), cmp.Compare(a.end.Cluster, b.end.Cluster))
	})
	for _, s := range bestOf(svc, sites, func(s *standbySite) bool { return s.has(IPv4) }) {
		out.V4 = ofFamily(out.V4, s.end.Addresses, IPv4)
	}
	for _, s := range bestOf(svc, sites, func(s *standbySite) bool { return s.has(IPv6) }) {
		out.V6 = ofFamily(out.V6, s.end.Addresses, IPv6)
	}
	if svc.CNAME {
		if best := bestOf(svc, sites, func(s *standbySite) bool { return s.end.Hostname != "" }); len(best) > 0 {
			out.Target = best[0].end.Hostname
		}
	}
	return out
}

// standbySite is an endpoint that every client may have.
type standbySite struct {
	end      *spec.Endpoint
	position int // in the service's order
	rank     standbyRank
}

func (s *standbySite) has(f Family) bool {
	return slices.ContainsFunc(s.end.Addresses, func(a netip.Addr) bool { return FamilyOf(a) == f })
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

// openToAll tells whether no residency rule keeps a cluster from any client.
func openToAll(svc *spec.GlobalService, cl *spec.Cluster) bool {
	for i := range svc.Residency {
		if !svc.Residency[i].Allows(cl) {
			return false
		}
	}
	return true
}

func (s *Standbys) rank(service string, cl *spec.Cluster) standbyRank {
	r := standbyRank{last: true}
	for _, d := range s.drains {
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

// bestOf gives those of the sites that have what is asked for to which a standby would
// send clients, in their order.
func bestOf(svc *spec.GlobalService, sites []standbySite, has func(*standbySite) bool) []*standbySite {
	// Weight 0 is absent, unless nothing else is there.
	present := func(s *standbySite) bool { return svc.Steering.Policy != spec.PolicyWeighted || s.end.Weight > 0 }
	some := slices.ContainsFunc(sites, func(s standbySite) bool { return has(&s) && present(&s) })
	var out []*standbySite
	for i := range sites {
		s := &sites[i]
		if !has(s) || some && !present(s) {
			continue
		}
		switch {
		case len(out) == 0:
		case s.rank.prefer(out[0].rank) < 0:
			out = out[:0]
		case s.rank.prefer(out[0].rank) > 0:
			continue
		}
		out = append(out, s)
	}
	return out
}

// ofFamily appends the addresses of a family, ordered, each once.
func ofFamily(out, addrs []netip.Addr, f Family) []netip.Addr {
	from := len(out)
	for _, a := range addrs {
		if a = a.Unmap(); FamilyOf(a) == f && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	slices.SortFunc(out[from:], netip.Addr.Compare)
	return out
}

// Since tells of a service whether its standby may be another than it was in an
// older Standbys of the same spec; nil: it may.
func (s *Standbys) Since(old *Standbys) func(*spec.GlobalService) bool {
	if old == nil {
		return func(*spec.GlobalService) bool { return true }
	}
	moved := slices.Concat(without(s.drains, old.drains), without(old.drains, s.drains))
	return func(svc *spec.GlobalService) bool {
		for i := range moved {
			scope := &moved[i].scope
			switch scope.Kind {
			case ScopeEndpoint, ScopeService:
				if scope.Service == svc.Name {
					return true
				}
			default:
				if slices.ContainsFunc(svc.Endpoints, func(e spec.Endpoint) bool {
					c := s.clusters[e.Cluster]
					return c != nil && scope.Covers(svc.Name, c)
				}) {
					return true
				}
			}
		}
		return false
	}
}

// without lists the drains of one list that another lacks, by what a standby takes
// from them.
func without(list, other []drain) []drain {
	return slices.DeleteFunc(slices.Clone(list), func(d drain) bool {
		return slices.ContainsFunc(other, func(o drain) bool {
			return o.scope == d.scope && o.o.GetRevision() == d.o.GetRevision() && o.o.GetLastResort() == d.o.GetLastResort()
		})
	})
}
