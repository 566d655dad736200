package spec

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

const longTTL = 5 * time.Minute

// What a service may ask of steering, which works out the classes of its clients
// for each rule, prefix and place.
const (
	maxRules    = 256
	maxPrefixes = 10_000
)

// checkService checks a service against the clusters.
func (k *checker) checkService(g *GlobalService) {
	o := k.object(KindGlobalService, g.Name)
	k.checkEndpoints(o, g)
	k.checkHostnames(o, g)
	k.checkProbes(o, g)
	k.checkSteering(o, g)
	k.checkPins(o, g)
	k.checkFallback(o, g)
	if k.checkSize(o, g) {
		k.checkResidency(o, g)
	}
	if g.TTL > longTTL {
		k.warn(o, "spec.ttl", "resolvers keep the address of a dead site for up to "+FormatDuration(g.TTL), "20s fails over sooner")
	}
}

// checkSize reports a service that asks too much.
func (k *checker) checkSize(o *object, g *GlobalService) bool {
	ok := true
	most := func(path string, n, most int, what, remedy string) {
		if n > most {
			ok = false
			k.fail(o, path, fmt.Sprintf("has %d %s, more than %d", n, what, most), remedy)
		}
	}
	most("spec.residency", len(g.Residency), maxRules, "rules", "join those that allow the same clusters: a rule may name many clients")
	most("spec.steering.regions", len(g.Steering.Regions), maxRules, "regions", "join those of the same order: a region may name many clients")
	prefixes := len(g.Pins)
	for _, r := range g.Residency {
		prefixes += len(r.Clients.Prefixes)
	}
	for _, r := range g.Steering.Regions {
		prefixes += len(r.Clients.Prefixes)
	}
	most("spec", prefixes, maxPrefixes, "prefixes", "name fewer and shorter ones, or countries and continents")
	return ok
}

// usable are the endpoints that a service can ever answer with.
func (k *checker) usable(g *GlobalService) []Endpoint {
	var out []Endpoint
	for _, e := range g.Endpoints {
		if c := k.set.Cluster(e.Cluster); c != nil && c.Environment == g.Environment {
			out = append(out, e)
		}
	}
	return out
}

func (k *checker) checkEndpoints(o *object, g *GlobalService) {
	clusters := map[string]int{}
	addresses := map[netip.Addr]int{}
	for i, e := range g.Endpoints {
		path := item("spec.endpoints", i)
		k.checkClusterName(o, path+".cluster", e.Cluster)
		if first, found := clusters[e.Cluster]; found {
			k.fail(o, path+".cluster", fmt.Sprintf("%s has an endpoint already, %s", e.Cluster, item("spec.endpoints", first)), "put all its addresses there")
		} else {
			clusters[e.Cluster] = i
		}
		k.checkNoStandIn(o, path+".addresses", e.Addresses)
		if c := k.set.Cluster(e.Cluster); e.Load != nil && !e.Sized && c != nil && !c.Sized {
			k.warn(o, path+".load", "is measured, and there is no capacity to hold it against", "give the endpoint or the cluster a capacity, in the same unit")
		}
		for _, a := range e.Addresses {
			if first, found := addresses[a]; found {
				k.fail(o, o.itemPath(path+".addresses", a.String()), fmt.Sprintf("%s is an address of %s too", a, g.Endpoints[first].Cluster), "give each endpoint its own")
			}
			addresses[a] = i
			if a.IsLinkLocalUnicast() {
				k.warn(o, o.itemPath(path+".addresses", a.String()), a.String()+" is link-local: no client beyond that link can connect to it", "write an address that clients reach")
			}
		}
	}
	k.checkEnvironment(o, g)
}

// checkClusterName reports a cluster that is not there.
func (k *checker) checkClusterName(o *object, path, name string) bool {
	if k.set.Cluster(name) != nil {
		return true
	}
	names := make([]string, len(k.set.Clusters))
	for i, c := range k.set.Clusters {
		names[i] = c.Name
	}
	remedy := "add a Cluster of that name"
	if near := nearest(name, names); near != "" {
		remedy = "did you mean " + near + "? Else " + remedy
	}
	k.fail(o, path, "there is no cluster "+quote(name), remedy)
	return false
}

func (k *checker) checkEnvironment(o *object, g *GlobalService) {
	usable := k.usable(g)
	known := 0
	for i, e := range g.Endpoints {
		c := k.set.Cluster(e.Cluster)
		if c == nil {
			continue
		}
		known++
		if c.Environment != g.Environment && len(usable) > 0 {
			k.warn(o, item("spec.endpoints", i)+".cluster", fmt.Sprintf("%s is of environment %s: never a target for a service of %s", c.Name, c.Environment, g.Environment), "take it out, or change one environment")
		}
	}
	// What is only half read counts as there: no guess about the rest.
	whole := known == len(g.Endpoints) && known > 0 && !o.isBroken("spec.environment")
	switch {
	case !whole:
	case len(usable) == 0:
		path := "spec.environment"
		if o.root.get("spec").get("environment") == nil {
			path = "spec.endpoints"
		}
		k.fail(o, path, "no endpoint is in a cluster of environment "+g.Environment, "change the service's environment, or that of a cluster")
	case g.MinHealthy > len(usable):
		k.fail(o, "spec.minHealthy", fmt.Sprintf("%d healthy endpoints are wanted and %d can ever be", g.MinHealthy, len(usable)), fmt.Sprintf("write at most %d", len(usable)))
	}
	if whole && g.Steering.Policy == PolicyWeighted && len(usable) > 0 &&
		!slices.ContainsFunc(usable, func(e Endpoint) bool { return e.Weight > 0 }) {
		k.fail(o, "spec.endpoints", "all weights are 0, which leaves no site for anybody", "give at least one endpoint a weight above 0")
	}
}

func (k *checker) checkProbes(o *object, g *GlobalService) {
	if !g.Probed() {
		k.warn(o, "spec.probes", "no probe asks whether this service is up: it never fails over", "add one, such as probes: [{tcp: {port: 443}}]")
	}
	seen := map[string]int{}
	for i, p := range g.Probes {
		definition := p.Definition()
		if first, found := seen[definition]; found {
			k.fail(o, item("spec.probes", i), "asks the same as "+item("spec.probes", first), "keep one of the two")
		}
		seen[definition] = i
		k.checkSoft(o, g, i)
	}
	k.checkCombine(o, g)
}

// checkTarget reports a cluster that this service cannot send anybody to.
func (k *checker) checkTarget(o *object, g *GlobalService, path, name string) bool {
	if name == "" || !k.checkClusterName(o, path, name) {
		return false
	}
	if g.Endpoint(name) == nil {
		if !o.isBroken("spec.endpoints") {
			k.fail(o, path, "this service has no endpoint in "+name, "add one, or take it out here")
		}
		return false
	}
	return true
}

func (k *checker) checkSteering(o *object, g *GlobalService) {
	s := &g.Steering
	for i, name := range s.Order {
		k.checkTarget(o, g, item("spec.steering.order", i), name)
	}
	if len(s.Regions) > 0 && s.Policy != PolicyGeo && s.Policy != PolicyUnknown {
		k.fail(o, "spec.steering.regions", "regions mean something under policy geo only, not under "+s.Policy.String(), "write policy: geo, or take them out")
	}
	k.checkRegions(o, g)
	var rest, lost []string
	for _, e := range k.usable(g) {
		if !slices.Contains(s.Order, e.Cluster) {
			rest = append(rest, e.Cluster)
		}
		if l := k.set.Cluster(e.Cluster).Location; !l.Exact && l.Country == "" {
			lost = append(lost, e.Cluster)
		}
	}
	slices.Sort(rest)
	slices.Sort(lost)
	if s.Policy == PolicyFailover && len(rest) > 0 && len(g.Endpoints) > 1 {
		k.warn(o, "spec.steering.order", "failover is in order, and it does not name "+strings.Join(rest, ", "), "name all: those left out come last, by name")
	}
	if s.Policy == PolicyLatency {
		k.checkLatency(o, g)
	}
	if s.Policy == PolicyGeo && len(lost) > 0 && len(g.Endpoints) > 1 {
		k.warn(o, "spec.steering", "policy geo goes by distance, and there is no location of "+strings.Join(lost, ", "), "give the cluster a location: {country: …}")
	}
}

func (k *checker) checkRegions(o *object, g *GlobalService) {
	claimed := map[string]int{}
	for i, r := range g.Steering.Regions {
		path := item("spec.steering.regions", i)
		for j, name := range r.Order {
			k.checkTarget(o, g, item(path+".order", j), name)
		}
		claim := func(key string, list string, j int) {
			if first, found := claimed[key]; found && first != i {
				k.fail(o, item(path+".clients."+list, j), key+" has an order already, "+item("spec.steering.regions", first), "keep one of the two")
				return
			}
			claimed[key] = i
		}
		for j, c := range r.Clients.Continents {
			claim("continent "+c, "continents", j)
		}
		for j, c := range r.Clients.Countries {
			claim("country "+c, "countries", j)
		}
		for j, p := range r.Clients.Prefixes {
			claim(p.String(), "prefixes", j)
		}
	}
}

func (k *checker) checkPins(o *object, g *GlobalService) {
	for i, p := range g.Pins {
		path := item("spec.pins", i) + ".cluster"
		if !k.checkTarget(o, g, path, p.Cluster) {
			continue
		}
		c := k.set.Cluster(p.Cluster)
		if c.Environment != g.Environment {
			k.fail(o, path, fmt.Sprintf("%s is of environment %s, never a target for a service of %s", c.Name, c.Environment, g.Environment), "pin to another cluster")
		}
		for j := range g.Residency {
			if r := &g.Residency[j]; p.Prefix.IsValid() && r.Clients.Covers(p.Prefix) && !r.Allows(c) {
				k.fail(o, path, fmt.Sprintf("%s forbids %s to clients of %s", item("spec.residency", j), c.Name, p.Prefix), "pin to a cluster that residency allows")
			}
		}
	}
}

func (k *checker) checkFallback(o *object, g *GlobalService) {
	switch {
	case g.AllDown != AllDownFallback && len(g.Fallback) > 0:
		k.fail(o, "spec.fallbackAddresses", "is used with allDown: fallback only, and that is "+g.AllDown.String(), "write allDown: fallback, or take the addresses out")
		return
	case g.AllDown != AllDownFallback:
		return
	case len(g.Fallback) == 0:
		if !o.isBroken("spec.fallbackAddresses") {
			k.fail(o, "spec.allDown", "fallback has no addresses", "add fallbackAddresses")
		}
		return
	}
	k.checkNoStandIn(o, "spec.fallbackAddresses", g.Fallback)
	if len(g.Residency) > 0 {
		k.fail(o, "spec.allDown", "fallback addresses are no cluster's, so residency cannot allow them to anybody", "write allDown: alive or all")
	}
	for _, family := range families() {
		has := familyOf(k.usable(g), family)
		if g.CNAME || has == familyNone || slices.ContainsFunc(g.Fallback, family.has) {
			continue
		}
		report, have := k.fail, "while the endpoints have"
		if has == familyAssumed {
			report, have = k.warn, "while endpoints that are hostnames may have"
		}
		report(o, "spec.fallbackAddresses", "has no "+family.name+" address, "+have, "add one, so that the name is never without")
	}
}

// family is one of the two address families.
type family struct {
	name string
	has  func(netip.Addr) bool
}

func families() []family {
	return []family{{"IPv4", netip.Addr.Is4}, {"IPv6", netip.Addr.Is6}}
}

// familyHad is whether endpoints have a family: a hostname may have both, and which
// it has only its resolver knows.
type familyHad int

const (
	familyNone    familyHad = iota
	familyAssumed           // of hostnames alone
	familyWritten
)

func familyOf(endpoints []Endpoint, f family) familyHad {
	had := familyNone
	for i := range endpoints {
		switch {
		case slices.ContainsFunc(endpoints[i].Addresses, f.has):
			return familyWritten
		case endpoints[i].Hostname != "":
			had = familyAssumed
		}
	}
	return had
}
