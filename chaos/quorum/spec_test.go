package quorum

import (
	"crypto/ed25519"
	"fmt"
	"strings"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

var sites = []string{"fra", "nyc", "sin", "syd"}

// specOf is a fleet of three directors and four sites. The variant is a TTL, so that to
// apply another changes something; the comment makes it as large as is wanted.
func specOf(variant int, comment string) []spec.Raw {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: divert.dev/v1alpha1\nkind: Zone\nmetadata: {name: example.org}\nspec:\n  nameservers: [ns1.example.org]\n  hostmaster: dns-admin@example.org\n  records: |\n    ns1 A 192.0.2.53\n%s", comment)
	for _, c := range sites {
		fmt.Fprintf(&b, "---\napiVersion: divert.dev/v1alpha1\nkind: Cluster\nmetadata: {name: %s}\nspec: {location: {country: DE}, faultDomain: %s-dc1}\n", c, c)
	}
	for n, svc := range []string{"shop", "pay"} {
		fmt.Fprintf(&b, "---\napiVersion: divert.dev/v1alpha1\nkind: GlobalService\nmetadata: {name: %s}\nspec:\n  hosts: [%s.example.org]\n  ttl: %ds\n  endpoints:\n", svc, svc, 5+variant)
		for i, c := range sites {
			fmt.Fprintf(&b, "  - {cluster: %s, addresses: [192.0.2.%d]}\n", c, 10*(n+1)+i)
		}
		fmt.Fprintf(&b, "  probes: [{tcp: {port: 443}}]\n  steering: {policy: failover, order: [%s]}\n", strings.Join(sites, ", "))
	}
	b.WriteString("---\napiVersion: divert.dev/v1alpha1\nkind: Fleet\nmetadata: {name: default}\nspec:\n  directors:\n")
	for i := 1; i <= directors; i++ {
		fmt.Fprintf(&b, "  - {name: %s, site: dc%d, key: %q}\n", named(i), i, spec.FormatKey(keyOf(named(i)).Public().(ed25519.PublicKey)))
	}
	raws, problems := spec.Parse("fleet.yaml", []byte(b.String()))
	if spec.Failed(problems) {
		panic(fmt.Sprint(problems))
	}
	return raws
}

func keyOf(name string) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, name)
	return ed25519.NewKeyFromSeed(seed)
}

// allUp is what fresh votes say here: nothing ever fails.
func allUp(set *spec.Set) (observed map[health.Subject]health.State) {
	observed = map[health.Subject]health.State{}
	for _, svc := range set.Services {
		for _, e := range svc.Endpoints {
			for _, a := range e.Watched() {
				for _, s := range steer.Subjects(svc, a) {
					observed[s.Subject] = health.Up
				}
			}
		}
	}
	return observed
}

// answering is what all directors have acknowledged here: whatever there is.
func answering(p *plan.Sealed) map[string]plan.Identity {
	acks := map[string]plan.Identity{}
	for _, d := range p.Plan.Active() {
		acks[d.GetName()] = p.Identity
	}
	return acks
}
