package fleet

import (
	"crypto/ed25519"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// clusters are the sites of the made-up world, the first so many of which a scenario
// has. fra and ams share a jurisdiction, so that residency can run out of sites.
var clusters = []struct{ name, domain, country, law string }{
	{"fra", "fra-dc1", "DE", "eu"},
	{"ams", "ams-dc1", "NL", "eu"},
	{"nyc", "nyc-dc1", "US", "us"},
	{"sin", "sin-dc1", "SG", "sg"},
}

var places = []steer.Place{
	{},
	{Country: "DE", Continent: "EU", Latitude: 51, Longitude: 9},
	{Country: "US", Continent: "NA", Latitude: 38, Longitude: -97},
	{Country: "SG", Continent: "AS", Latitude: 1, Longitude: 104},
}

func placesFor(...*spec.Set) []steer.Place { return places }

// variants are the specs that people apply, by number: as it was; another TTL; another
// weight; without the last site; without most of them, which needs force; and one with a
// probe that only the first site passes, which some are to try; and, where two persons are
// asked for, one by which they are not.
const (
	variants = 7
	alone    = 6
	badPort  = 445
	leastTTL = 5 * time.Second // of a service
)

// ruled tells whether the fleet has interlocks, ramps whether shop returns in steps. Half
// of the scenarios have the one, a third the other.
func (s Scenario) ruled() bool { return s.Seed%2 == 0 }
func (s Scenario) ramps() bool { return s.Seed%3 == 0 }

// sized tells whether the clusters have capacities, so that loads count.
func (s Scenario) sized() bool { return s.Seed%5 == 0 }

func (s Scenario) ramp() time.Duration {
	if s.ramps() {
		return 6 * time.Second
	}
	return 0
}

// The interlocks: so many sites at least, and a switch that guards the second.
const (
	atLeast    = 2
	gated      = 1
	switchName = "maintenance"
)

// yamlOf writes a variant of the spec of a scenario.
func yamlOf(s Scenario, variant int) string {
	var b strings.Builder
	b.WriteString("apiVersion: divert.dev/v1alpha1\nkind: Zone\nmetadata: {name: example.org}\nspec:\n  nameservers: [ns1.example.org]\n  hostmaster: dns-admin@example.org\n  records: |\n    ns1 A 192.0.2.53\n")
	capacity := ""
	if s.sized() {
		capacity = ", capacity: 100"
	}
	for _, c := range clusters[:s.Clusters] {
		fmt.Fprintf(&b, "---\napiVersion: divert.dev/v1alpha1\nkind: Cluster\nmetadata: {name: %s, labels: {jurisdiction: %s}}\nspec: {location: {country: %s}, faultDomain: %s%s}\n", c.name, c.law, c.country, c.domain, capacity)
	}
	for n, svc := range []string{"shop", "pay"} {
		sites := s.Clusters
		switch {
		case variant == 3 && svc == "shop":
			sites--
		case variant == 4 && svc == "shop":
			sites = 1
		}
		ttl := int(leastTTL.Seconds())
		if variant == 1 {
			ttl = 7
		}
		fmt.Fprintf(&b, "---\napiVersion: divert.dev/v1alpha1\nkind: GlobalService\nmetadata: {name: %s}\nspec:\n  hosts: [%s.example.org]\n  ttl: %ds\n  endpoints:\n", svc, svc, ttl)
		var names []string
		for i, c := range clusters[:sites] {
			weight := 100
			if variant == 2 && i == 0 {
				weight = 50
			}
			fmt.Fprintf(&b, "  - {cluster: %s, addresses: [%s], weight: %d}\n", c.name, addressOf(n, i), weight)
			names = append(names, c.name)
		}
		if variant == 5 && svc == "shop" {
			fmt.Fprintf(&b, "  probes: [{tcp: {port: 443}}, {tcp: {port: %d}}]\n", badPort)
		} else {
			b.WriteString("  probes: [{tcp: {port: 443}}]\n")
		}
		if svc == "shop" {
			fmt.Fprintf(&b, "  steering: {policy: failover, order: [%s], ramp: %s}\n", strings.Join(names, ", "), s.ramp())
		} else {
			b.WriteString("  steering: {policy: weighted, ramp: 0s}\n  residency:\n  - {clients: {continents: [EU]}, clusters: {jurisdiction: eu}}\n")
		}
	}
	if s.ruled() {
		fmt.Fprintf(&b, "---\napiVersion: divert.dev/v1alpha1\nkind: Interlock\nmetadata: {name: sites}\nspec: {assert: {atLeast: %d, of: [{clusters: {}}]}}\n", atLeast)
		fmt.Fprintf(&b, "---\napiVersion: divert.dev/v1alpha1\nkind: Interlock\nmetadata: {name: guard}\nspec: {gate: {switch: %s, of: [cluster/%s]}}\n", switchName, clusters[gated].name)
	}
	b.WriteString("---\napiVersion: divert.dev/v1alpha1\nkind: Fleet\nmetadata: {name: default}\nspec:\n")
	if s.paired() {
		fmt.Fprintf(&b, "  safety: {twoPersons: %t}\n", variant != alone)
	}
	b.WriteString("  directors:\n")
	for i := range s.Directors {
		fmt.Fprintf(&b, "  - {name: %s, site: %s, key: %q}\n", nameOf(i), siteOf(i), spec.FormatKey(keyOf(nameOf(i)).Public().(ed25519.PublicKey)))
	}
	return b.String()
}

func nameOf(i int) string { return fmt.Sprintf("d%d", i+1) }
func siteOf(i int) string { return fmt.Sprintf("dc%d", i+1) }

func addressOf(service, cluster int) netip.Addr {
	return netip.AddrFrom4([4]byte{192, 0, 2, byte(10*(service+1) + cluster)})
}

// clusterOf says where an address is.
func clusterOf(a netip.Addr) string {
	if n := int(a.As4()[3]) % 10; n < len(clusters) {
		return clusters[n].name
	}
	return ""
}

func keyOf(name string) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, name)
	return ed25519.NewKeyFromSeed(seed)
}

// prepared is what follows from a spec document, made once for all directors.
type prepared struct {
	doc      *plan.SpecDoc
	bytes    []byte
	set      *spec.Set
	subjects []health.Subject
	steer    *steer.Prepared
}

// subjectsOf lists every subject of a spec, as a director's loop does.
func subjectsOf(set *spec.Set) []health.Subject {
	var out []health.Subject
	for _, svc := range set.Services {
		for _, e := range svc.Endpoints {
			for _, a := range e.Watched() {
				for _, s := range steer.Subjects(svc, a) {
					out = append(out, s.Subject)
					if s.Fast {
						out = append(out, health.Gray(s.Subject.Addr))
					}
				}
			}
		}
	}
	slices.SortFunc(out, health.Subject.Compare)
	return slices.Compact(out)
}
