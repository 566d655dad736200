package answer

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/divertdns/divert/dnsserver/geo"
)

// RFC 7871 section 7.3: whatever address of a scope asks, the answer and the
// scope are the same. So no cached answer is wrong for anyone it is given to, and
// no two scopes overlap.
func TestScopeIsRight(t *testing.T) {
	table := geo.Default()
	rapid.Check(t, func(t *rapid.T) {
		zones := []Zone{{Origin: "example.org.", Records: rulesZones()[0].Records[:2]}}
		drawSteered(t, &zones[0], "x.example.org.", placesOf(table))
		compiled, err := Compile(Options{Zones: zones, Geo: table})
		if err != nil {
			t.Fatalf("Compile: %v", err)
		}
		view := &zones[0].Steered[0].A
		for range 10 {
			client := drawClient(t, "client")
			one := decideFor(compiled, client)
			if one.Set < 0 {
				return
			}
			if one.Scope < 0 || one.Scope > client.BitLen() {
				t.Fatalf("%s has scope /%d", client, one.Scope)
			}
			other := client
			for bit := one.Scope; bit < client.BitLen(); bit++ {
				if rapid.Bool().Draw(t, "other bit") {
					other = flipBit(other, bit)
				}
			}
			two := decideFor(compiled, other)
			one.Place, two.Place = 0, 0 // it may differ where it does not matter
			if diff := cmp.Diff(one, two, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
				cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Fatalf("%s and %s are in one scope but differ:\n%s", client, other, diff)
			}
			if len(view.ByPrefix) == 0 && uniform(view.ByPlace) && len(one.Picks) <= 1 && len(view.Sets[one.Set].Sites) <= 1 &&
				single(view) && one.Scope != 0 {
				t.Fatalf("scope /%d where the client does not matter", one.Scope)
			}
		}
	})
}

// decideFor is what a full-length client subnet gets from a resolver elsewhere.
func decideFor(table *Table, client netip.Addr) Trace {
	who := asker{resolver: addressOf(netip.MustParseAddr("198.51.100.53")), subnet: addressOf(client), named: true}
	trace, _ := table.trace("x.example.org.", false, who)
	return trace
}

func uniform(places []uint16) bool {
	for _, p := range places {
		if p != places[0] {
			return false
		}
	}
	return true
}

// answersOf is how many answers a site has: its addresses, or its target.
func answersOf(s Site) int {
	if s.Target != "" {
		return 1
	}
	return len(s.Addrs)
}

// single tells whether no set of a view has anything to choose from.
func single(view *View) bool {
	for _, s := range view.Sets {
		total := 0
		for _, site := range s.Sites {
			total += answersOf(site)
		}
		if total > 1 {
			return false
		}
	}
	return true
}

// Scopes by hand: one row for each thing that can set them.
func TestScopes(t *testing.T) {
	table := geo.Default()
	eu := make([]uint16, len(table.Places()))
	for i, p := range table.Places() {
		if p.Continent == "EU" {
			eu[i] = 1
		}
	}
	site := func(cluster string, addrs ...string) Site {
		s := Site{Cluster: cluster, Domain: cluster, Weight: 1}
		for _, a := range addrs {
			s.Addrs = append(s.Addrs, netip.MustParseAddr(a))
		}
		return s
	}
	fra, nyc := site("fra", "192.0.2.1"), site("nyc", "192.0.2.2")
	two := []Set{{Sites: []Site{nyc}}, {Sites: []Site{fra}}}
	prefix := func(p string, set uint16) PrefixPlaces {
		return PrefixPlaces{Prefix: netip.MustParsePrefix(p), ByPlace: []uint16{set}}
	}
	tests := []struct {
		name   string
		view   View
		client string
		scope  int
		picks  string
	}{
		{"one for all", View{Sets: two[:1]}, "81.2.69.0/24", 0, "nyc"},
		{"all places alike", View{Sets: two, ByPlace: make([]uint16, len(eu))}, "81.2.69.0/24", 0, "nyc"},
		{"hash unit", View{Sets: []Set{{Weighted: true, Sites: []Site{fra, nyc}}}}, "81.2.0.0/16", 24, ""},
		{"hash unit, IPv6", View{Sets: []Set{{Weighted: true, Sites: []Site{fra, nyc}}}}, "2a04:4e42::/32", 48, ""},
		{"hash unit, 6to4", View{Sets: []Set{{Weighted: true, Sites: []Site{fra, nyc}}}}, "2002:5102:4500::/48", 40, ""},
		{"weighted, one site", View{Sets: []Set{{Weighted: true, Sites: []Site{fra}}}}, "81.2.69.0/24", 0, "fra"},
		{"addresses of a site", View{Sets: []Set{{Sites: []Site{site("fra", "192.0.2.1", "192.0.2.9")}}}}, "81.2.69.0/24", 24, "fra"},
		{"in a prefix", View{Sets: two, ByPrefix: []PrefixPlaces{prefix("81.2.69.0/24", 1)}}, "81.2.69.0/24", 24, "fra"},
		{"beside a prefix", View{Sets: two, ByPrefix: []PrefixPlaces{prefix("81.2.69.0/24", 1)}}, "81.2.68.0/24", 24, "nyc"},
		{"far from a prefix", View{Sets: two, ByPrefix: []PrefixPlaces{prefix("81.2.69.0/24", 1)}}, "200.2.68.0/24", 5, "nyc"},
		{"around a prefix", View{Sets: two, ByPrefix: []PrefixPlaces{prefix("81.2.0.0/16", 0), prefix("81.2.69.0/24", 1)}}, "81.2.0.0/16", 18, "nyc"},
		{"private, not configured", View{Sets: two, ByPlace: eu}, "10.1.2.0/24", 8, "nyc"},
		{"private, configured", View{Sets: two, ByPlace: eu, ByPrefix: []PrefixPlaces{prefix("10.1.0.0/16", 1)}}, "10.1.2.0/24", 16, "fra"},
		{"private, beside the configured", View{Sets: two, ByPlace: eu, ByPrefix: []PrefixPlaces{prefix("10.1.0.0/16", 1)}}, "10.200.2.0/24", 9, "nyc"},
		{"private, IPv6", View{Sets: two, ByPlace: eu}, "fd00::/48", 7, "nyc"},
		{"v4-mapped in a prefix", View{Sets: two, ByPrefix: []PrefixPlaces{prefix("81.2.69.0/24", 1)}}, "::ffff:81.2.69.0/120", 120, "fra"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			compiled, err := Compile(Options{Geo: table, Zones: []Zone{{
				Origin: "example.org.", Records: rulesZones()[0].Records[:2],
				Steered: []Steered{{Name: "x.example.org.", Service: "x", TTL: 20, Answers: 1, A: tc.view}},
			}}})
			if err != nil {
				t.Fatalf("Compile: %v", err)
			}
			trace, ok := compiled.Trace("x.example.org", false, netip.MustParsePrefix(tc.client))
			if !ok || trace.Scope != tc.scope || len(trace.Picks) != 1 {
				t.Fatalf("got %+v, %t, want scope %d", trace, ok, tc.scope)
			}
			if tc.picks != "" && trace.Picks[0].Cluster != tc.picks {
				t.Errorf("got %s, want %s", trace.Picks[0].Cluster, tc.picks)
			}
		})
	}
	if _, ok := mustCompile(t).Trace("ns1.example.org.", false, netip.Prefix{}); ok {
		t.Error("a static name was traced")
	}
	if trace, ok := mustCompile(t).Trace("www.example.org.", false, netip.Prefix{}); !ok || trace.Name != "shop.example.org." {
		t.Errorf("behind an alias: got %+v, %t", trace, ok)
	}
}

func mustCompile(t testing.TB) *Table { return compiled(t, nil) }
