package steer

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/spec"
)

// variants are services that differ from a drawn one in one thing each, which its
// decision may depend on.
func variants(shop *spec.GlobalService) []*spec.GlobalService {
	var out []*spec.GlobalService
	add := func(change func(*spec.GlobalService)) {
		svc := *shop
		svc.Name = fmt.Sprintf("variant%02d", len(out))
		svc.Hosts = []string{svc.Name + ".example.org"}
		svc.Endpoints, svc.Probes = slices.Clone(shop.Endpoints), slices.Clone(shop.Probes)
		change(&svc)
		out = append(out, &svc)
	}
	last := len(shop.Endpoints) - 1
	clients := []spec.Clients{
		{Continents: []string{"EU"}},
		{Continents: []string{"NA"}},
		{Countries: []string{"DE"}},
		{Countries: []string{"US"}},
		{Prefixes: []netip.Prefix{netip.MustParsePrefix(somePrefixes[0])}},
		{Prefixes: []netip.Prefix{netip.MustParsePrefix(somePrefixes[2])}},
	}
	for _, c := range clients {
		add(func(s *spec.GlobalService) {
			s.Residency = []spec.ResidencyRule{{Clients: c, Clusters: map[string]string{"j": "eu"}}}
		})
		add(func(s *spec.GlobalService) {
			s.Steering.Policy = spec.PolicyGeo
			s.Steering.Regions = []spec.Region{{Clients: c, Order: []string{shop.Endpoints[last].Cluster}}}
		})
	}
	for _, j := range []string{"eu", "us"} {
		for _, unknown := range []spec.ResidencyUnknown{spec.ResidencyUnknownIntersect, spec.ResidencyUnknownAllow} {
			add(func(s *spec.GlobalService) {
				s.Residency = []spec.ResidencyRule{{Clients: clients[2], Clusters: map[string]string{"j": j}}}
				s.ResidencyUnknown = unknown
			})
		}
	}
	for i := range shop.Endpoints {
		add(func(s *spec.GlobalService) {
			s.Steering.Policy = spec.PolicyGeo
			s.Steering.Regions = []spec.Region{{Clients: clients[0], Order: []string{shop.Endpoints[i].Cluster}}}
		})
		for _, p := range somePrefixes[:2] {
			add(func(s *spec.GlobalService) {
				s.Pins = []spec.Pin{{Prefix: netip.MustParsePrefix(p), Cluster: shop.Endpoints[i].Cluster}}
			})
		}
		add(func(s *spec.GlobalService) { s.Endpoints[i].Weight += 10 })
		add(func(s *spec.GlobalService) { s.Endpoints[i].Capacity *= 10 })
		add(func(s *spec.GlobalService) {
			s.Endpoints[i].Hostname, s.Endpoints[i].Addresses = "", []netip.Addr{netip.MustParseAddr("198.51.100.1")}
		})
	}
	add(func(s *spec.GlobalService) {
		s.Endpoints[0].Cluster, s.Endpoints[last].Cluster = s.Endpoints[last].Cluster, s.Endpoints[0].Cluster
	})
	for _, p := range []spec.Policy{spec.PolicyGeo, spec.PolicyFailover, spec.PolicyWeighted} {
		add(func(s *spec.GlobalService) { s.Steering.Policy = p })
	}
	for _, a := range []spec.AllDown{spec.AllDownAlive, spec.AllDownAll, spec.AllDownFallback} {
		add(func(s *spec.GlobalService) { s.AllDown = a })
	}
	for _, a := range []string{"198.51.100.98", "2001:db8:9::98"} {
		add(func(s *spec.GlobalService) {
			s.AllDown, s.Fallback = spec.AllDownFallback, []netip.Addr{netip.MustParseAddr(a)}
		})
	}
	add(func(s *spec.GlobalService) { s.Environment = "test" })
	add(func(s *spec.GlobalService) { s.TTL += time.Second })
	add(func(s *spec.GlobalService) { s.MinHealthy++ })
	add(func(s *spec.GlobalService) { s.Automation = spec.AutomationObserve })
	add(func(s *spec.GlobalService) { s.SiteNames = !s.SiteNames })
	add(func(s *spec.GlobalService) { s.CNAME = !s.CNAME })
	add(func(s *spec.GlobalService) { s.Steering.Answers++ })
	add(func(s *spec.GlobalService) {
		s.Steering.Order = slices.Clone(s.Steering.Order)
		slices.Reverse(s.Steering.Order)
	})
	add(func(s *spec.GlobalService) { s.Probes[0].Fast = 0 })
	for _, h := range []spec.HTTPProbe{{Port: 80, Path: "/other"}, {Port: 81, Path: "/"}} {
		add(func(s *spec.GlobalService) {
			h.Scheme, h.Method, h.Host, h.Statuses = "http", "GET", s.Probes[0].HTTP.Host, []int{200}
			s.Probes[0].HTTP = &h
		})
	}
	return out
}

// TestAlikeIsAlone: whatever services share with others, each is decided as if there
// were no other (S1, S9, S11).
func TestAlikeIsAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := draw(t)
		f.set.Services = append(f.set.Services, variants(f.set.Services[0])...)
		for _, svc := range f.set.Services[1:] {
			if rapid.IntRange(0, 9).Draw(t, "otherwise") == 0 {
				drawStates(t, f, svc)
			}
		}
		f.size(t)
		f.drawPools(t)
		in := f.input()
		all := Decide(in)
		for i, svc := range f.set.Services {
			set := *f.set
			set.Services = []*spec.GlobalService{svc}
			in.Spec = &set
			got, want := all.Services[i], Decide(in).Services[0]
			g, w := dumpRuling(got.Ruling), dumpRuling(want.Ruling)
			if g != w || got.Name != want.Name || !slices.Equal(got.Hosts, want.Hosts) || !got.Next.Equal(want.Next) {
				t.Fatalf("%s among others:\n%s\nalone:\n%s", got.Name, g, w)
			}
		}
	})
}
