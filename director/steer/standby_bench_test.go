package steer

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// BenchmarkStandbys is 100,000 services on 10 clusters, with a drain: what each new
// plan costs besides its decision.
func BenchmarkStandbys(b *testing.B) {
	set := &spec.Set{}
	for i := range 10 {
		name := fmt.Sprint("c", i)
		set.Clusters = append(set.Clusters, &spec.Cluster{Name: name, FaultDomain: name, Environment: "prod", Labels: map[string]string{"jurisdiction": "eu"}})
	}
	for n := range 100_000 {
		svc := &spec.GlobalService{Name: fmt.Sprint("s", n), Environment: "prod"}
		for i := range 10 {
			svc.Endpoints = append(svc.Endpoints, spec.Endpoint{
				Cluster: fmt.Sprint("c", i), Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i), 0, 1})},
			})
			svc.Steering.Order = append(svc.Steering.Order, fmt.Sprint("c", i))
		}
		set.Services = append(set.Services, svc)
	}
	p := &plan.Plan{Overrides: []*plan.Override{{Id: "a", Kind: plan.Override_DRAIN, Scope: "cluster/c3", Revision: 2}}}
	b.ReportAllocs()
	for b.Loop() {
		all := StandbysOf(set, p)
		for _, svc := range set.Services {
			all.Of(svc)
		}
	}
}
