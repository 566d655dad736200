package director

import (
	"slices"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/dnsserver/answer"
)

// describer turns decisions about clusters into zones of records. It keeps the
// names of the services whose decision is the last one still, so that
// answer.Compile can know them again. The zero describer is ready; it has one
// owner, and what it gives must not be written to.
type describer struct {
	spec     *spec.Set
	services []serviceNames
}

// serviceNames is the names of one service, and the decision and the standby that
// they are made from.
type serviceNames struct {
	from    steer.Service
	standby steer.Standby
	names   []steeredName
}

type steeredName struct {
	zone int // index in the spec's zones
	answer.Steered
}

func (d *describer) describe(f *inForce, decision steer.Decision) []answer.Zone {
	if d.spec != f.spec || len(d.services) != len(decision.Services) {
		d.spec, d.services = f.spec, make([]serviceNames, len(decision.Services))
	}
	count := make([]int, len(f.zones))
	for i := range decision.Services {
		s := &d.services[i]
		svc := &decision.Services[i]
		standby := &f.standbys[i]
		if !sameService(&s.from, svc) {
			s.names = namesOf(f.spec, svc, standby)
		} else if !sameStandby(&s.standby, standby) {
			// The views stay the very same, so that nothing is compiled for it.
			s.names = slices.Clone(s.names)
			for j, n := range namesOf(f.spec, svc, standby) {
				s.names[j].Standby = n.Standby
			}
		}
		s.from, s.standby = *svc, *standby
		for j := range s.names {
			count[s.names[j].zone]++
		}
	}
	zones := slices.Clone(f.zones)
	for i := range zones {
		zones[i].Steered = make([]answer.Steered, 0, count[i])
	}
	for i := range d.services {
		for _, n := range d.services[i].names {
			zones[n.zone].Steered = append(zones[n.zone].Steered, n.Steered)
		}
	}
	return zones
}

// namesOf lists a service's hosts and the names of its single sites.
func namesOf(set *spec.Set, svc *steer.Service, standby *steer.Standby) []steeredName {
	var out []steeredName
	add := func(host string, s answer.Steered) {
		z := set.ZoneOf(host)
		if z == nil {
			return // refused by the checks
		}
		s.Name = host + "."
		out = append(out, steeredName{zone: slices.Index(set.Zones, z), Steered: s})
	}
	ttl := uint32(svc.TTL.Seconds())
	base := answer.Steered{Service: svc.Name, TTL: ttl, Answers: svc.Answers, A: view(svc.V4), AAAA: view(svc.V6), Standby: answer.Standby{A: standby.V4, AAAA: standby.V6}}
	for _, host := range svc.Hosts {
		add(host, base)
	}
	def := set.Service(svc.Name)
	for i, s := range svc.SiteViews {
		site := answer.Steered{Service: svc.Name, TTL: ttl, Answers: svc.Answers, A: view(s.V4), AAAA: view(s.V6)}
		if i < len(standby.Sites) && standby.Sites[i].Cluster == s.Cluster {
			site.Standby = answer.Standby{A: standby.Sites[i].V4, AAAA: standby.Sites[i].V6}
		}
		for _, host := range def.SiteHosts(s.Cluster) {
			add(host, site)
		}
	}
	return out
}

// sameService tells whether two decisions answer alike; why they do may differ.
func sameService(a, b *steer.Service) bool {
	return a.Name == b.Name && a.TTL == b.TTL && a.Answers == b.Answers && same(a.Hosts, b.Hosts, equal) &&
		sameView(a.V4, b.V4) && sameView(a.V6, b.V6) &&
		same(a.SiteViews, b.SiteViews, func(a, b steer.SiteView) bool {
			return a.Cluster == b.Cluster && sameView(a.V4, b.V4) && sameView(a.V6, b.V6)
		})
}

func sameStandby(a, b *steer.Standby) bool {
	return same(a.V4, b.V4, equal) && same(a.V6, b.V6, equal) && same(a.Sites, b.Sites, func(a, b steer.StandbySite) bool {
		return a.Cluster == b.Cluster && same(a.V4, b.V4, equal) && same(a.V6, b.V6, equal)
	})
}

func sameView(a, b steer.View) bool {
	return same(a.ByPlace, b.ByPlace, equal) &&
		same(a.Sets, b.Sets, func(a, b steer.Set) bool {
			return a.Weighted == b.Weighted && a.FailOpen == b.FailOpen && same(a.Choices, b.Choices, sameChoice)
		}) &&
		same(a.ByPrefix, b.ByPrefix, func(a, b steer.PrefixPlaces) bool {
			return a.Prefix == b.Prefix && same(a.ByPlace, b.ByPlace, equal)
		})
}

func sameChoice(a, b steer.Choice) bool {
	return a.Cluster == b.Cluster && a.Domain == b.Domain && a.Weight == b.Weight && same(a.Addrs, b.Addrs, equal)
}

// same compares by identity first: steer.Decider hands out the last decision
// again where nothing has changed.
func same[T any](a, b []T, eq func(a, b T) bool) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.EqualFunc(a, b, eq))
}

func equal[T comparable](a, b T) bool { return a == b }

func view(v steer.View) answer.View {
	out := answer.View{ByPlace: v.ByPlace}
	for _, s := range v.Sets {
		set := answer.Set{Weighted: s.Weighted, FailOpen: s.FailOpen}
		for _, c := range s.Choices {
			set.Sites = append(set.Sites, answer.Site{Cluster: c.Cluster, Domain: c.Domain, Weight: c.Weight, Addrs: c.Addrs})
		}
		out.Sets = append(out.Sets, set)
	}
	for _, p := range v.ByPrefix {
		out.ByPrefix = append(out.ByPrefix, answer.PrefixPlaces{Prefix: p.Prefix, ByPlace: p.ByPlace})
	}
	return out
}
