package spec

import (
	"fmt"
	"net/netip"
	"strings"
)

// nameHostnames gives every hostname its stand-in, and says which services answer
// by a CNAME. It comes before all checks.
func (k *checker) nameHostnames(standIn func(string) netip.Addr) {
	for _, g := range k.set.Services {
		o := k.object(KindGlobalService, g.Name)
		for i := range g.Endpoints {
			e := &g.Endpoints[i]
			if e.Hostname == "" {
				continue
			}
			a := standIn(e.Hostname)
			if other := k.set.Hostname(a); other != "" && other != e.Hostname {
				k.fail(o, item("spec.endpoints", i)+".hostname", fmt.Sprintf("%s and %s have the same 64 bits of SHA-256, by which hostnames are told apart", e.Hostname, other),
					"give one of the two load balancers another name, such as by a CNAME of your own")
				continue
			}
			if k.set.Hostnames == nil {
				k.set.Hostnames = map[netip.Addr]string{}
			}
			if len(k.set.Hostnames) == MaxHostnames && k.set.Hostnames[a] == "" {
				k.fail(o, item("spec.endpoints", i)+".hostname", fmt.Sprintf("the fleet has more than %d hostnames, and each is resolved by every director", MaxHostnames),
					"write addresses, or a hostname that other services have")
				continue
			}
			k.set.Hostnames[a] = e.Hostname
		}
		g.CNAME = !g.Alias && k.apexOf(g) == "" && allHostnames(g.Endpoints)
	}
}

func allHostnames(endpoints []Endpoint) bool {
	for i := range endpoints {
		if endpoints[i].Hostname == "" {
			return false
		}
	}
	return len(endpoints) > 0
}

// apexOf gives the first of a service's names that is a zone's apex, where no CNAME
// can be (RFC 1034 section 3.6.2), "" for none.
func (k *checker) apexOf(g *GlobalService) string {
	for _, host := range g.Hosts {
		if k.set.Zone(host) != nil {
			return host
		}
	}
	for _, e := range g.Endpoints {
		for _, host := range g.SiteHosts(e.Cluster) {
			if k.set.Zone(host) != nil {
				return host
			}
		}
	}
	return ""
}

// checkHostnames checks the endpoints of a service that are hostnames, and that
// the answers can be what they ask for.
func (k *checker) checkHostnames(o *object, g *GlobalService) {
	some := false
	named := map[string]int{}
	for i := range g.Endpoints {
		e := &g.Endpoints[i]
		if e.Hostname == "" {
			continue
		}
		some = true
		path := item("spec.endpoints", i) + ".hostname"
		if z := k.set.ZoneOf(e.Hostname); z != nil {
			k.fail(o, path, fmt.Sprintf("%s is in zone %s of this fleet: its answers would lead back to this one", e.Hostname, z.Name),
				"write its addresses, or a name in a zone that others serve")
		}
		if first, found := named[e.Hostname]; found {
			k.fail(o, path, fmt.Sprintf("%s is the hostname of %s too", e.Hostname, g.Endpoints[first].Cluster), "give each endpoint its own")
		} else {
			named[e.Hostname] = i
		}
	}
	switch {
	case o.isBroken("spec.endpoints"): // whatever the rest may be
	case !some && g.Alias:
		k.warn(o, "spec.alias", "says nothing where no endpoint is a hostname", "take it out")
	case g.CNAME:
		k.checkCNAME(o, g)
	}
}

// remedyAlias is what to do where a CNAME cannot be.
const remedyAlias = "alias: true, which answers with the addresses of the hostname"

// checkCNAME refuses what the hosts of a service cannot have beside a CNAME. What
// stands in a zone's text is found there (zoneText.conflicts).
func (k *checker) checkCNAME(o *object, g *GlobalService) {
	if g.Steering.Answers > 1 {
		k.fail(o, "spec.steering.answers", fmt.Sprintf("%d are asked for, and all endpoints are hostnames: of a CNAME there is but one (RFC 2181 section 10.1)", g.Steering.Answers),
			"write 1, or "+remedyAlias)
	}
	if g.AllDown == AllDownFallback {
		k.fail(o, "spec.allDown", "fallback addresses cannot stand in for a CNAME, which the hosts have since all endpoints are hostnames: whether a name is one never depends on health (S14)",
			"write alive or all, or "+remedyAlias)
	}
}

// checkNoStandIn refuses addresses that are written and would be taken for a
// hostname.
func (k *checker) checkNoStandIn(o *object, path string, list []netip.Addr) {
	for _, a := range list {
		if IsStandIn(a) {
			k.fail(o, o.itemPath(path, strings.ToLower(a.String())), a.String()+" is in 100::/64, where everything is discarded (RFC 6666)", "write an address that clients reach")
		}
	}
}
