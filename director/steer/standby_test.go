package steer

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

func standbySet(change func(*spec.GlobalService)) *spec.Set {
	cluster := func(name, domain, jurisdiction string) *spec.Cluster {
		return &spec.Cluster{Name: name, FaultDomain: domain, Environment: "prod", Labels: map[string]string{"jurisdiction": jurisdiction}}
	}
	end := func(cluster string, weight int64, addrs ...string) spec.Endpoint {
		e := spec.Endpoint{Cluster: cluster, Weight: weight}
		for _, a := range addrs {
			e.Addresses = append(e.Addresses, netip.MustParseAddr(a))
		}
		return e
	}
	svc := &spec.GlobalService{
		Name: "shop", Hosts: []string{"shop.example.org"}, Environment: "prod",
		Endpoints: []spec.Endpoint{
			end("ams", 100, "192.0.2.12", "192.0.2.11"), end("fra", 100, "192.0.2.20", "2001:db8::20"),
			end("nyc", 0, "192.0.2.30"), end("lab", 100, "192.0.2.40"),
		},
		Steering: spec.Steering{Policy: spec.PolicyFailover, Order: []string{"fra", "nyc", "ams", "lab"}},
	}
	if change != nil {
		change(svc)
	}
	clusters := []*spec.Cluster{cluster("ams", "a", "eu"), cluster("fra", "f", "eu"), cluster("nyc", "n", "us"), cluster("lab", "l", "eu")}
	clusters[3].Environment = "staging"
	return &spec.Set{Clusters: clusters, Services: []*spec.GlobalService{svc}}
}

func standbyOf(set *spec.Set, drains []*plan.Override) Standby {
	return StandbysOf(set, &plan.Plan{Overrides: drains}).Of(set.Services[0])
}

func lines(addrs []netip.Addr) string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return strings.Join(out, " ")
}

// SEMANTICS section 3, AXFR out: what is undrained, in order, of what residency
// lets every client have (S11); never nothing because of drains (S1).
func TestStandby(t *testing.T) {
	drain := func(revision uint64, scope string, last bool) *plan.Override {
		return &plan.Override{Id: scope, Kind: plan.Override_DRAIN, Scope: scope, Revision: revision, LastResort: last}
	}
	eu := []spec.ResidencyRule{{Clients: spec.Clients{Continents: []string{"EU"}}, Clusters: map[string]string{"jurisdiction": "eu"}}}
	all := append(slices.Clone(eu), spec.ResidencyRule{Clients: spec.Clients{Continents: []string{"NA"}}, Clusters: map[string]string{"jurisdiction": "us"}})
	tests := []struct {
		name   string
		change func(*spec.GlobalService)
		drains []*plan.Override
		v4, v6 string
	}{
		{"in order", nil, nil, "192.0.2.20 192.0.2.30 192.0.2.11 192.0.2.12", "2001:db8::20"},
		{"a drain", nil, []*plan.Override{drain(2, "cluster/fra", false)}, "192.0.2.30 192.0.2.11 192.0.2.12", "2001:db8::20"},
		{"a drain of another service's", nil, []*plan.Override{drain(2, "service/api@fra", false)}, "192.0.2.20 192.0.2.30 192.0.2.11 192.0.2.12", "2001:db8::20"},
		{"a domain and one endpoint", nil, []*plan.Override{drain(2, "domain/f", false), drain(3, "service/shop@nyc", true)}, "192.0.2.11 192.0.2.12", "2001:db8::20"},
		{"all, one as a last resort", nil, []*plan.Override{drain(4, "cluster/fra", false), drain(2, "cluster/nyc", true), drain(3, "cluster/ams", false)}, "192.0.2.30", "2001:db8::20"},
		{"all, the last stays", nil, []*plan.Override{drain(2, "cluster/fra", false), drain(3, "cluster/nyc", false), drain(4, "cluster/ams", false)}, "192.0.2.11 192.0.2.12", "2001:db8::20"},
		{"all, since the oldest drain of each", nil, []*plan.Override{drain(2, "cluster/fra", false), drain(3, "cluster/nyc", false), drain(2, "cluster/ams", false), drain(5, "domain/a", false)}, "192.0.2.30", "2001:db8::20"},
		{"all at once", nil, []*plan.Override{drain(2, "fleet", false)}, "192.0.2.20 192.0.2.30 192.0.2.11 192.0.2.12", "2001:db8::20"},
		{"weight 0", func(s *spec.GlobalService) { s.Steering.Policy = spec.PolicyWeighted }, nil, "192.0.2.20 192.0.2.11 192.0.2.12", "2001:db8::20"},
		{"residency", func(s *spec.GlobalService) { s.Residency = eu }, nil, "192.0.2.20 192.0.2.11 192.0.2.12", "2001:db8::20"},
		{"residency with allow", func(s *spec.GlobalService) { s.Residency, s.ResidencyUnknown = eu, spec.ResidencyUnknownAllow }, nil, "192.0.2.20 192.0.2.11 192.0.2.12", "2001:db8::20"},
		{"residency that divides all", func(s *spec.GlobalService) { s.Residency = all }, nil, "", ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got := standbyOf(standbySet(tc.change), tc.drains)
			if lines(got.V4) != tc.v4 || lines(got.V6) != tc.v6 || got.Sites != nil {
				t.Errorf("got %q, %q, sites %v; want %q, %q", lines(got.V4), lines(got.V6), got.Sites, tc.v4, tc.v6)
			}
		})
	}
	sites := standbyOf(standbySet(func(s *spec.GlobalService) { s.SiteNames, s.Residency = true, eu }), []*plan.Override{drain(2, "cluster/fra", false)}).Sites
	var got []string
	for _, s := range sites {
		got = append(got, s.Cluster+": "+lines(s.V4)+" "+lines(s.V6))
	}
	// That site alone, drained or not, but within residency and the environment.
	if want := []string{"ams: 192.0.2.11 192.0.2.12 ", "fra: 192.0.2.20 2001:db8::20", "nyc:  ", "lab:  "}; !slices.Equal(got, want) {
		t.Errorf("site names: got %q, want %q", got, want)
	}
}

// A hostname's addresses are in no standby, since no serial would follow them (S13); a
// service that answers by a CNAME hands out one, by the same order.
func TestStandbyOfHostnames(t *testing.T) {
	drain := func(revision uint64, scope string) *plan.Override {
		return &plan.Override{Id: scope, Kind: plan.Override_DRAIN, Scope: scope, Revision: revision}
	}
	named := func(names ...string) func(*spec.GlobalService) {
		return func(s *spec.GlobalService) {
			s.SiteNames, s.CNAME = true, len(names) == len(s.Endpoints)
			for i, name := range names {
				s.Endpoints[i].Hostname, s.Endpoints[i].Addresses = name, nil
			}
		}
	}
	all := named("ams.example.net", "fra.example.net", "nyc.example.net", "lab.example.net")
	divided := func(s *spec.GlobalService) {
		all(s)
		s.Residency = []spec.ResidencyRule{
			{Clients: spec.Clients{Continents: []string{"EU"}}, Clusters: map[string]string{"jurisdiction": "eu"}},
			{Clients: spec.Clients{Continents: []string{"NA"}}, Clusters: map[string]string{"jurisdiction": "us"}},
		}
	}
	tests := []struct {
		name                  string
		change                func(*spec.GlobalService)
		drains                []*plan.Override
		target, v4, v6, sites string
	}{
		{"all", all, nil, "fra.example.net", "", "", "ams.example.net fra.example.net nyc.example.net "},
		{"a drain", all, []*plan.Override{drain(2, "cluster/fra")}, "nyc.example.net", "", "", "ams.example.net fra.example.net nyc.example.net "},
		{"all drained, the last stays", all, []*plan.Override{drain(2, "cluster/fra"), drain(3, "cluster/nyc"), drain(4, "cluster/ams")}, "ams.example.net", "", "", "ams.example.net fra.example.net nyc.example.net "},
		{"residency that divides all", divided, nil, "", "", "", "   "},
		{"mixed", named("ams.example.net"), nil, "", "192.0.2.20 192.0.2.30", "2001:db8::20", "   "},
		{"mixed, drained to what none can hand out", named("ams.example.net"), []*plan.Override{drain(2, "cluster/fra"), drain(3, "cluster/nyc")}, "", "192.0.2.30", "2001:db8::20", "   "},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got := standbyOf(standbySet(tc.change), tc.drains)
			var sites []string
			for _, s := range got.Sites {
				sites = append(sites, s.Target)
			}
			if got.Target != tc.target || lines(got.V4) != tc.v4 || lines(got.V6) != tc.v6 || strings.Join(sites, " ") != tc.sites {
				t.Errorf("got %q, %q, %q, sites %q", got.Target, lines(got.V4), lines(got.V6), sites)
			}
		})
	}
}

// What is configured in another order is the same standby, and what residency
// keeps from anybody is in none (S11).
func TestStandbyProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := draw(t)
		svc := *f.set.Services[0]
		svc.Endpoints = rapid.Permutation(svc.Endpoints).Draw(t, "endpoints'")
		permuted := &spec.Set{Clusters: rapid.Permutation(f.set.Clusters).Draw(t, "clusters'"), Services: []*spec.GlobalService{&svc}}
		two := standbyOf(permuted, rapid.Permutation(f.plan.Overrides).Draw(t, "overrides'"))
		all := StandbysOf(f.set, f.plan)
		for i, svc := range f.set.Services {
			s := all.Of(svc)
			if i == 0 && (!slices.Equal(s.V4, two.V4) || !slices.Equal(s.V6, two.V6)) {
				t.Fatalf("permuted: %v, as it was: %v", two, s)
			}
			for _, addr := range slices.Concat(s.V4, s.V6) {
				open := slices.ContainsFunc(svc.Endpoints, func(e spec.Endpoint) bool {
					cl := f.set.Cluster(e.Cluster)
					return slices.Contains(e.Addresses, addr) && cl.Environment == svc.Environment && openToAll(svc, cl)
				})
				if !open {
					t.Fatalf("%s: %s is not open to all", svc.Name, addr)
				}
			}
		}
	})
}

// TestStandbySince: a service's standby is another than before only where Since says
// that it may be; else a serial would stay (S13).
func TestStandbySince(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawMany(t)
		if rapid.Bool().Draw(t, "all drained") {
			for _, c := range f.set.Clusters {
				f.override(plan.Override_DRAIN, "cluster/"+c.Name, "alice", false)
			}
		}
		old := StandbysOf(f.set, f.plan)
		for range rapid.IntRange(1, 3).Draw(t, "steps") {
			f.step(t)
		}
		now := StandbysOf(f.set, f.plan)
		moved := now.Since(old)
		for _, svc := range f.set.Services {
			if a, b := old.Of(svc), now.Of(svc); !moved(svc) && !reflect.DeepEqual(a, b) {
				t.Fatalf("%s from %+v to %+v, and Since says no", svc.Name, a, b)
			}
		}
	})
}
