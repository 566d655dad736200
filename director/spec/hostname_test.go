package spec

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestStandIn pins what stands for a hostname: plans and votes of every director
// hold it (RFC 6666: the discard prefix).
func TestStandIn(t *testing.T) {
	want := netip.MustParseAddr("100::8fc4:876e:cec7:c4a4")
	for _, name := range []string{"lb-1.ams.example.net", "LB-1.Ams.Example.NET."} {
		if got := StandIn(name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	for addr, is := range map[string]bool{"100::": true, "100::ffff:ffff:ffff:ffff": true, "100:0:0:1::": false, "2001:db8::1": false, "192.0.2.1": false} {
		if got := IsStandIn(netip.MustParseAddr(addr)); got != is {
			t.Errorf("%s: got %v", addr, got)
		}
	}
	if !IsStandIn(want) {
		t.Error("a stand-in is none")
	}
}

func TestWatched(t *testing.T) {
	a := []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	if got := (&Endpoint{Addresses: a}).Watched(); !slices.Equal(got, a) {
		t.Errorf("addresses: got %v", got)
	}
	if got := (&Endpoint{Hostname: "lb.example.net"}).Watched(); !slices.Equal(got, []netip.Addr{StandIn("lb.example.net")}) {
		t.Errorf("a hostname: got %v", got)
	}
	if got := (&Endpoint{}).Watched(); len(got) != 0 {
		t.Errorf("neither: got %v", got)
	}
}

// TestStandInCollision: two hostnames of one stand-in would share their health and
// their answers, so the spec refuses the second.
func TestStandInCollision(t *testing.T) {
	objects, problems := decodeAll(docsOf(t, base+hostnamed("fra.example.net", "nyc.example.net")), true)
	if Failed(problems) {
		t.Fatal(problems)
	}
	k := newChecker(objects)
	k.nameHostnames(func(string) netip.Addr { return netip.MustParseAddr("100::1") })
	if len(k.problems) != 1 || !strings.Contains(k.problems[0].String(), "spec.endpoints[1].hostname: nyc.example.net and fra.example.net have the same") {
		t.Errorf("got %v", k.problems)
	}
	if got := k.set.Hostname(netip.MustParseAddr("100::1")); got != "fra.example.net" {
		t.Errorf("the stand-in is of %q", got)
	}
}

func docsOf(t *testing.T, text string) []document {
	t.Helper()
	docs, problems := parseYAML("test.yaml", []byte(text))
	if Failed(problems) {
		t.Fatal(problems)
	}
	return docs
}

func hostnamed(names ...string) string {
	text := "kind: GlobalService\nmetadata: {name: shop}\nspec:\n  hosts: [shop.example.org]\n  endpoints:\n"
	for i, cluster := range []string{"fra", "nyc"}[:len(names)] {
		text += "  - {cluster: " + cluster + ", hostname: " + names[i] + "}\n"
	}
	return text
}

// TestCNAME: the hosts have a CNAME where all endpoints are hostnames, no name of
// the service is an apex (RFC 1034 section 3.6.2) and nobody asks otherwise. It is a
// function of what is written, never of health or of the client (S14).
func TestCNAME(t *testing.T) {
	const more = "---\nkind: Zone\nmetadata: {name: fra.shop.example.org}\nspec: {nameservers: [ns1.example.net]}\n"
	tests := []struct {
		name, text string
		want       bool
	}{
		{"all", hostnamed("fra.example.net", "nyc.example.net"), true},
		{"one", hostnamed("fra.example.net"), true},
		{"wildcard", strings.Replace(hostnamed("fra.example.net"), "[shop.example.org]", `["*.example.org"]`, 1), true},
		{"alias", hostnamed("fra.example.net") + "  alias: true\n", false},
		{"apex", strings.Replace(hostnamed("fra.example.net"), "[shop.example.org]", "[shop.example.org, example.org]", 1), false},
		{"site name at an apex", hostnamed("fra.example.net") + "  siteNames: true\n" + more, false},
		{"no site names", hostnamed("fra.example.net") + more, true},
		{"mixed", hostnamed("fra.example.net") + "  - {cluster: nyc, addresses: [192.0.2.1]}\n", false},
		{"addresses", hostnamed() + "  - {cluster: nyc, addresses: [192.0.2.1]}\n", false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			set, _ := Resolve(parsed(t, base+tc.text))
			if got := set.Service("shop").CNAME; got != tc.want {
				t.Errorf("got %v", got)
			}
			var names []string
			if tc.want {
				names = set.Zone("example.org").Steered
			}
			if got := set.Zone("example.org").CNAMEs; !slices.Equal(got, names) {
				t.Errorf("CNAMEs: got %v, want %v", got, names)
			}
		})
	}
}

func TestHostnames(t *testing.T) {
	set, _ := Resolve(parsed(t, base+hostnamed("FRA.example.net.", "nyc.example.net")))
	fra := StandIn("fra.example.net")
	if got := set.Hostname(fra); got != "fra.example.net" || set.NameOf(fra) != got {
		t.Errorf("got %q", got)
	}
	if got := set.NameOf(netip.MustParseAddr("192.0.2.1")); got != "192.0.2.1" {
		t.Errorf("an address: got %q", got)
	}
	if got := (*Set)(nil).NameOf(fra); got != fra.String() {
		t.Errorf("no set: got %q", got)
	}
	if !set.HasHostnames() {
		t.Error("it has none")
	}
	if plain := resolved(t, base+hostnamed()+"  - {cluster: nyc, addresses: [192.0.2.1]}\n"); plain.HasHostnames() || plain.Hostname(fra) != "" {
		t.Error("one without has some")
	}
	if asked, _ := Resolve(parsed(t, base+hostnamed()+"  - {cluster: nyc, addresses: [192.0.2.1]}\n  alias: true\n")); !asked.HasHostnames() {
		t.Error("an alias is known to whoever knows no hostnames")
	}
}
