package steer

import (
	"fmt"
	"testing"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
)

// bigFleet has 1,000 services on 3 clusters each and 250 places.
func bigFleet(t failer) (*fleet, []Place) {
	f := newFleet()
	for i := range 10 {
		f.cluster(t, fmt.Sprintf("c%d:%s", i, []string{"DE", "US", "SG", "BR", "NL"}[i%5]), "j=eu")
	}
	policies := []spec.Policy{spec.PolicyGeo, spec.PolicyFailover, spec.PolicyWeighted}
	for i := range 1000 {
		var sites []string
		for j := range 3 {
			sites = append(sites, fmt.Sprintf("c%d=10.%d.%d.%d,fd00::%x:%x", (i+3*j)%10, j, i/250, i%250+1, j, i))
		}
		svc := f.service(t, fmt.Sprintf("s%04d", i), policies[i%3], sites...)
		svc.Residency = []spec.ResidencyRule{{Clients: clients("EU"), Clusters: map[string]string{"j": "eu"}}}
		svc.Steering.Regions = []spec.Region{{Clients: clients("TR+198.51.100.0/24"), Order: svc.Steering.Order}}
		svc.Pins = []spec.Pin{{Prefix: clients("203.0.113.0/24").Prefixes[0], Cluster: svc.Steering.Order[1]}}
	}
	table := []Place{{}}
	for i := 1; i < 250; i++ {
		table = append(table, Place{
			Country: fmt.Sprintf("%c%c", 'A'+i/26, 'A'+i%26), Continent: []string{"EU", "AS", "NA"}[i%3],
			Latitude: float64(i%170 - 85), Longitude: float64((i*37)%360 - 180),
		})
	}
	return f, append(table, places[1:]...)
}

func BenchmarkDecideAnew(b *testing.B) {
	f, table := bigFleet(b)
	in := f.input()
	in.Places = table
	for b.Loop() {
		Decide(in)
	}
}

// BenchmarkFlip is one subject going down and up again, in a decider that
// remembers the rest.
func BenchmarkFlip(b *testing.B) {
	f, table := bigFleet(b)
	in := f.input()
	in.Places = table
	var d Decider
	d.Decide(in)
	down := false
	for b.Loop() {
		down = !down
		st := health.Up
		if down {
			st = health.Down
		}
		f.mark("s0500@c0", health.KindSignal, st)
		d.Decide(in)
	}
}

// BenchmarkDrain changes the overrides, so that every service is decided anew.
func BenchmarkDrain(b *testing.B) {
	f, table := bigFleet(b)
	in := f.input()
	in.Places = table
	var d Decider
	d.Decide(in)
	for b.Loop() {
		f.plan.Overrides = nil
		f.override(1, "cluster/c3", "alice", false)
		d.Decide(in)
	}
}
