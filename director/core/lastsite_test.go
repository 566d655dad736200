package core

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// mixedYAML adds to the fleet a service with two families and residency.
const mixedYAML = fleetYAML + `
---
apiVersion: divert.dev/v1alpha1
kind: GlobalService
metadata: {name: mixed}
spec:
  hosts: [mixed.example.org]
  endpoints:
  - {cluster: fra, addresses: [192.0.2.30, "2001:db8::30"]}
  - {cluster: nyc, addresses: [192.0.2.31, "2001:db8::31"]}
  - {cluster: sin, addresses: [192.0.2.32]}
  probes: [{tcp: {port: 443}}]
  residency:
  - {clients: {continents: [NA]}, clusters: {jurisdiction: us}}
  residencyUnknown: allow
`

// standing counts, for each service, place and family, the sites that are up and
// may serve: undrained, or drained as a last resort. It is worked out from the
// rules alone, without steer's decisions.
func standing(w *world) map[string]int {
	out := map[string]int{}
	for _, svc := range w.s.Spec.Services {
		for _, e := range svc.Endpoints {
			c := w.s.Spec.Cluster(e.Cluster)
			drained, last := false, true
			for _, o := range w.s.Plan.Plan.GetOverrides() {
				scope, err := steer.ParseScope(o.GetScope())
				if err == nil && o.GetKind() == plan.Override_DRAIN && scope.Covers(svc.Name, c) {
					drained, last = true, last && o.GetLastResort()
				}
			}
			for _, f := range []steer.Family{steer.IPv4, steer.IPv6} {
				r := steer.Rollup(svc, &e, w.s.States, f)
				for i, p := range everywhere() {
					key := fmt.Sprint(svc.Name, " ", i, " ", f)
					allowed := !slices.ContainsFunc(svc.Residency, func(r spec.ResidencyRule) bool {
						return r.Clients.Has(p.Country, p.Continent) && !r.Allows(c)
					})
					out[key] += 0
					if allowed && len(r.Live) > 0 && (!drained || last) {
						out[key]++
					}
				}
			}
		}
	}
	return out
}

// TestNoWayRoundTheLastSite: whatever drains are combined, of clusters, domains
// and endpoints, with and without lastResort, frozen or not: without force no
// client of a service loses the last site that is up, in any family.
func TestNoWayRoundTheLastSite(t *testing.T) {
	scopes := []string{"cluster/fra", "cluster/nyc", "cluster/sin", "domain/fra-dc1", "domain/nyc", "service/shop@fra", "service/pay@nyc", "service/mixed@fra", "service/mixed@nyc", "service/mixed@sin"}
	all := raws(t, mixedYAML)
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		w.do(Command{Verb: Apply, Objects: all})
		if rapid.Bool().Draw(rt, "frozen") {
			w.do(Command{Verb: Freeze, Reason: "x", For: time.Hour})
		}
		passed := 0
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			if rapid.IntRange(0, 2).Draw(rt, "flip") == 0 {
				svc := rapid.SampledFrom(w.s.Spec.Services).Draw(rt, "service")
				e := rapid.SampledFrom(svc.Endpoints).Draw(rt, "site")
				a := rapid.SampledFrom(e.Addresses).Draw(rt, "address")
				st := rapid.SampledFrom([]health.State{health.Down, health.Down, health.Up}).Draw(rt, "state")
				for _, o := range steer.Subjects(svc, a) {
					w.s.States[o.Subject] = st
				}
			}
			before := standing(w)
			c := w.drain(rapid.SampledFrom(scopes).Draw(rt, "scope"))
			c.LastResort = rapid.Bool().Draw(rt, "lastResort")
			got, err := w.try(c)
			if err != nil {
				continue
			}
			w.take(got)
			passed++
			for key, n := range standing(w) {
				if n == 0 && before[key] > 0 {
					rt.Fatalf("%s (lastResort %v) took the last site of %s", c.Scope, c.LastResort, key)
				}
			}
		}
		rt.Logf("%d drains passed", passed)
	})
}
