package spec

import (
	"slices"
	"strings"
)

// NeedsSpill tells whether a reader must know of what is measured to read the spec.
func (s *Set) NeedsSpill() bool {
	return s.GoesByLatency() || slices.ContainsFunc(s.Services, func(g *GlobalService) bool {
		return slices.ContainsFunc(g.Endpoints, func(e Endpoint) bool { return e.Load != nil })
	})
}

// GoesByLatency tells whether a service goes by round trips.
func (s *Set) GoesByLatency() bool {
	return slices.ContainsFunc(s.Services, func(g *GlobalService) bool { return g.Steering.Policy == PolicyLatency })
}

// checkLatency reports what keeps round trips from being of use: they are measured by the
// fast signals, and count for clients near a director's site.
func (k *checker) checkLatency(o *object, g *GlobalService) {
	if !slices.ContainsFunc(g.Probes, func(p Probe) bool { return p.Fast > 0 }) {
		k.warn(o, "spec.steering.policy", "policy latency goes by the round trips of fast signals, and no probe here has one", "give a probe fast: 100ms; until then distance decides")
	}
	var nowhere []string
	for _, d := range k.set.Fleet.Directors {
		if !slices.ContainsFunc(k.set.Clusters, func(c *Cluster) bool {
			return c.FaultDomain == d.Site && (c.Location.Exact || c.Location.Country != "")
		}) {
			nowhere = append(nowhere, d.Name)
		}
	}
	slices.Sort(nowhere)
	if len(nowhere) > 0 {
		k.warn(o, "spec.steering.policy", "policy latency takes a director to be where the cluster of its site is, and there is no such place for "+strings.Join(nowhere, ", "), "give a cluster of that fault domain a location; what they measure counts for nobody")
	}
}
