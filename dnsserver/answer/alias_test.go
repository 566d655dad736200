package answer

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/dnsserver/geo"
)

// aliasZones is names whose answers are a CNAME that depends on the client.
func aliasZones(table *geo.Table) []Zone {
	zones := serviceZone(`
		web2.example.org. 300 CNAME lb.example.org.
		tree.example.org. 300 DNAME lb.example.org.
		below.lb.example.org. 300 TXT "below an alias"
		deleg.example.org. 300 NS ns.deleg.example.org.
		ns.deleg.example.org. 300 A 198.51.100.11`)
	site := func(cluster string) Site {
		return Site{Cluster: cluster, Domain: cluster, Weight: 1, Target: cluster + ".example.net."}
	}
	places := make([]uint16, len(table.Places()))
	for i, p := range table.Places() {
		if p.Continent == "EU" {
			places[i] = 1
		}
	}
	geoView := View{ByPlace: places, Sets: []Set{{Sites: []Site{site("nyc"), site("fra")}}, {Sites: []Site{site("fra"), site("nyc")}}}}
	divided := View{ByPlace: places, Sets: []Set{{}, {Sites: []Site{site("fra")}}}}
	one := View{Sets: []Set{{Sites: []Site{site("fra")}}}}
	z := &zones[0]
	z.Steered = append(
		z.Steered,
		Steered{Name: "lb.example.org.", Service: "lb", TTL: 20, CNAME: true, A: one},
		Steered{Name: "*.any.example.org.", Service: "lb", TTL: 20, CNAME: true, A: one},
		Steered{Name: "opened.example.org.", Service: "lb", TTL: 20, CNAME: true, A: View{Sets: []Set{{FailOpen: true, Sites: []Site{site("fra")}}}}},
		Steered{Name: "geo.example.org.", Service: "geo", TTL: 20, Answers: 4, CNAME: true, A: geoView},
		Steered{Name: "divided.example.org.", Service: "divided", TTL: 20, CNAME: true, A: divided},
		Steered{Name: "weighted.example.org.", Service: "weighted", TTL: 20, CNAME: true, A: View{Sets: []Set{{Weighted: true, Sites: []Site{site("fra"), site("nyc")}}}}},
		Steered{Name: "soon.example.org.", Service: "soon", TTL: 20, CNAME: true, A: one, Next: testNow.Add(12 * time.Second)},
		Steered{Name: "here.example.org.", Service: "lb", TTL: 20, CNAME: true, A: View{Sets: []Set{{Sites: []Site{{Cluster: "a", Target: "shop.example.org."}}}}}},
	)
	return zones
}

var testNow = time.Unix(1_800_000_000, 0)

// A name whose sites are hostnames has a CNAME for every type, and nothing follows
// it out of here.
func TestAliases(t *testing.T) {
	table := compiled(t, func(o *Options) { o.Geo = geo.Default(); o.Zones = aliasZones(o.Geo) })
	lb := "lb.example.org. 20 CNAME fra.example.net."
	tests := []struct {
		name, ask string
		qtype     uint16
		rcode     int
		want      string
	}{
		{"RFC 1034 section 3.6.2: A", "lb", dns.TypeA, 0, lb},
		{"RFC 1034 section 3.6.2: AAAA", "lb", dns.TypeAAAA, 0, lb},
		{"RFC 1034 section 3.6.2: any other type", "lb", dns.TypeMX, 0, lb},
		{"RFC 1034 section 3.6.2: asked for the CNAME itself", "lb", dns.TypeCNAME, 0, lb},
		{"RFC 9460 section 2.4.2: HTTPS, which the target's owner answers", "lb", dns.TypeHTTPS, 0, lb},
		{"RFC 8482 section 4.2: ANY is the CNAME", "lb", dns.TypeANY, 0, lb},
		{"RFC 4035 section 3.1.4.1: DS of a name that is no cut", "lb", dns.TypeDS, 0, lb},
		{"RFC 3597 section 3: a type that nobody knows", "lb", 65280, 0, lb},
		{"RFC 4592 section 2.2.1: a wildcard", "x.any", dns.TypeA, 0, "x.any.example.org. 20 CNAME fra.example.net."},
		{"RFC 4592 section 2.2.1: several labels", "a.b.any", dns.TypeTXT, 0, "a.b.any.example.org. 20 CNAME fra.example.net."},
		{"RFC 4592 section 2.2.2: above a wildcard", "any", dns.TypeA, 0, "| example.org. 20 SOA"},
		{"RFC 1034 section 4.3.2 step 3a: behind a CNAME of ours", "web2", dns.TypeA, 0, "web2.example.org. 300 CNAME lb.example.org.; " + lb},
		{"RFC 6672 section 2.3: below a DNAME to it", "below.tree", dns.TypeTXT, 0, `tree.example.org. 300 DNAME lb.example.org.; below.tree.example.org. 300 CNAME below.lb.example.org.; below.lb.example.org. 300 TXT "below an alias"`},
		{"RFC 1034 section 4.3.2: a name below an alias", "below.lb", dns.TypeTXT, 0, `below.lb.example.org. 300 TXT "below an alias"`},
		{"RFC 8020 section 2: nothing else is below it", "nx.lb", dns.TypeA, 3, "| example.org. 20 SOA"},
		{"S14: a target of ours is the resolver's to ask for, too", "here", dns.TypeA, 0, "here.example.org. 20 CNAME shop.example.org."},
		{"S1: failing open", "opened", dns.TypeA, 0, "opened.example.org. 20 CNAME fra.example.net."},
	}
	for _, tc := range tests {
		for _, upper := range []bool{false, true} { // 0x20: RFC 4343 section 3
			asked := tc.ask + ".example.org."
			if upper {
				asked = strings.ToUpper(asked)
			}
			got := ask1(t, table, asked, tc.qtype, nil)
			if len(got.Question) != 1 || got.Question[0].Name != asked {
				t.Errorf("%s: the question came back as %v", tc.name, got.Question)
			}
			want, brief := tc.want, summary(got)
			if upper {
				brief, want = strings.ToLower(brief), strings.ToLower(want)
			}
			if got.Rcode != tc.rcode || !got.Authoritative || brief != want {
				t.Errorf("%s: got rcode %d, aa %t,\n%s\nwant %d,\n%s", tc.name, got.Rcode, got.Authoritative, brief, tc.rcode, want)
			}
		}
	}
	if ede := option[*dns.EDNS0_EDE](ask1(t, table, "opened.example.org.", dns.TypeMX, nil)); ede == nil || ede.InfoCode != dns.ExtendedErrorCodeOther {
		t.Errorf("failing open says %v", ede)
	}
}

// RFC 7871 section 7.2.1: a CNAME that depends on the client carries its scope, for
// every type alike, and so does the NODATA that residency leaves.
func TestAliasScopes(t *testing.T) {
	table := compiled(t, func(o *Options) { o.Geo = geo.Default(); o.Zones = aliasZones(o.Geo) })
	tests := []struct{ name, client, want string }{
		{"geo", "81.2.69.0/24", "geo.example.org. 20 CNAME fra.example.net."},
		{"geo", "8.8.8.0/24", "geo.example.org. 20 CNAME nyc.example.net."},
		{"geo", "2a04:4e42:600::/56", ""},
		{"divided", "81.2.69.0/24", "divided.example.org. 20 CNAME fra.example.net."},
		{"divided", "8.8.8.0/24", "| example.org. 5 SOA"},
		{"lb", "81.2.69.0/24", "lb.example.org. 20 CNAME fra.example.net."},
	}
	for _, tc := range tests {
		scopes := map[uint8]bool{}
		var first string
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypeTXT, dns.TypeANY} {
			got := ask1(t, table, tc.name+".example.org.", qtype, func(m *dns.Msg) {
				m.IsEdns0().Option = append(m.IsEdns0().Option, subnetOf(tc.client))
			})
			brief := summary(got)
			if first == "" {
				first = brief
			}
			if tc.want != "" && !strings.HasPrefix(brief, strings.TrimSuffix(tc.want, "5 SOA")) || brief != first {
				t.Errorf("%s %s from %s: got %s, want %s", tc.name, dns.Type(qtype), tc.client, brief, tc.want)
			}
			scopes[option[*dns.EDNS0_SUBNET](got).SourceScope] = true
		}
		if len(scopes) != 1 || scopes[0] != (tc.name == "lb") {
			t.Errorf("%s from %s: scopes %v", tc.name, tc.client, scopes)
		}
	}
}

func subnetOf(text string) *dns.EDNS0_SUBNET {
	p := netip.MustParsePrefix(text)
	out := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(p.Bits()), Address: p.Addr().AsSlice()}
	if p.Addr().Is6() {
		out.Family = 2
	}
	return out
}

// SEMANTICS section 2: before a scheduled change the CNAME is kept no longer than to
// that.
func TestAliasTTL(t *testing.T) {
	table := compiled(t, func(o *Options) { o.Geo = geo.Default(); o.Zones = aliasZones(o.Geo) })
	packet := pack1(t, new(dns.Msg).SetQuestion("soon.example.org.", dns.TypeMX))
	for after, want := range map[time.Duration]uint32{-10 * time.Second: 20, 0: 12, 11 * time.Second: 5, time.Minute: 5} {
		c := testClient
		c.Now = testNow.Add(after)
		raw, _ := table.Reply(nil, packet, c)
		got := new(dns.Msg)
		if err := got.Unpack(raw); err != nil || len(got.Answer) != 1 {
			t.Fatalf("got %v, %v", got, err)
		}
		if h := got.Answer[0].Header(); h.Ttl != want || h.Rrtype != dns.TypeCNAME {
			t.Errorf("%s after: got %v, want TTL %d", after, got.Answer[0], want)
		}
	}
}

// A weighted CNAME is drawn by the client's network, as addresses are, and every
// type gets the same one.
func TestAliasWeighted(t *testing.T) {
	table := compiled(t, func(o *Options) { o.Geo = geo.Default(); o.Zones = aliasZones(o.Geo) })
	n := map[string]int{}
	for i := range 200 {
		client := netip.PrefixFrom(netip.AddrFrom4([4]byte{81, 2, byte(i), 0}), 24)
		a, _ := table.Trace("weighted.example.org.", false, client)
		aaaa, ok := table.Trace("weighted.example.org.", true, client)
		if !ok || len(a.Picks) != 1 || a.Picks[0] != aaaa.Picks[0] || a.Scope != 24 {
			t.Fatalf("%s: got %v and %v", client, a, aaaa)
		}
		n[a.Picks[0].Target]++
	}
	if n["fra.example.net."]+n["nyc.example.net."] != 200 || n["fra.example.net."] < 70 || n["nyc.example.net."] < 70 {
		t.Errorf("got %v", n)
	}
}

// RFC 1034 section 3.6.2, RFC 2181 section 10.1: beside a CNAME there is nothing, and
// what is half an alias is refused whole.
func TestAliasRefused(t *testing.T) {
	one := View{Sets: []Set{{Sites: []Site{{Cluster: "fra", Target: "fra.example.net."}}}}}
	addrs := View{Sets: []Set{{Sites: []Site{{Cluster: "fra", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}}}}}
	both := View{Sets: []Set{{Sites: []Site{{Cluster: "fra", Target: "fra.example.net.", Addrs: addrs.Sets[0].Sites[0].Addrs}}}}}
	bad := View{Sets: []Set{{Sites: []Site{{Cluster: "fra", Target: "fra..example.net."}}}}}
	tests := []struct {
		name    string
		steered Steered
		want    string
	}{
		{"text beside it", Steered{Name: "mail.example.org.", CNAME: true, A: one}, "static address or CNAME"},
		{"a service binding beside it", Steered{Name: "_sip._udp.example.org.", CNAME: true, A: one}, "and other data"},
		{"at the apex", Steered{Name: "example.org.", CNAME: true, A: one}, "and other data"},
		{"at a delegation", Steered{Name: "lab.example.org.", CNAME: true, A: one}, "delegated"},
		{"below a delegation", Steered{Name: "x.lab.example.org.", CNAME: true, A: one}, "below a delegation or a DNAME"},
		{"at a DNAME", Steered{Name: "old.example.org.", CNAME: true, A: one}, "and other data"},
		{"below a DNAME", Steered{Name: "x.old.example.org.", CNAME: true, A: one}, "below a delegation or a DNAME"},
		{"addresses", Steered{Name: "lb.example.org.", CNAME: true, A: addrs}, "has a target"},
		{"a target of another name", Steered{Name: "lb.example.org.", A: one}, "has a target"},
		{"both", Steered{Name: "lb.example.org.", CNAME: true, A: both}, "has a target"},
		{"a view of each family", Steered{Name: "lb.example.org.", CNAME: true, A: one, AAAA: one}, "one view"},
		{"no name", Steered{Name: "lb.example.org.", CNAME: true, A: bad}, "is not a domain name"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			zones := rulesZones()
			zones[0].Steered = []Steered{tc.steered}
			_, err := Compile(Options{Zones: zones})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A transfer hands out the CNAME that is right for everyone, once, and where there is
// none a name without data (RFC 8020), never half of both.
func TestTransferOfAliases(t *testing.T) {
	zones := aliasZones(geo.Default())
	z := &zones[0]
	for i := range z.Steered {
		if s := &z.Steered[i]; s.Name == "lb.example.org." {
			s.Standby.Target = "fra.example.net."
			s.Alike = []Name{{Name: "lb2.example.org.", Service: "lb"}}
		}
	}
	table := compiled(t, func(o *Options) { o.Geo = geo.Default(); o.Zones = zones })
	all, ok := messages(t, table, transferQuery(dns.TypeAXFR, "example.org.", 0), by(TCP, nil))
	if !ok {
		t.Fatal("there is no transfer")
	}
	text := "\n" + strings.ReplaceAll(strings.Join(handedOut(t, all), "\n"), "\t", " ") + "\n"
	for want, n := range map[string]int{
		"\nlb.example.org. 20 in cname fra.example.net.\n":                   1,
		"\nlb2.example.org. 20 in cname fra.example.net.\n":                  1,
		"\n_divert.lb.example.org.":                                          0,
		"\n_divert.divided.example.org. 20 in txt \"" + standbyText + "\"\n": 1,
		"\ndivided.example.org.":                                             0,
	} {
		if got := strings.Count(text, want); got != n {
			t.Errorf("%q is there %d times, want %d:\n%s", want, got, n, text)
		}
	}
}

// What a service's names are changes with its spec: a name that becomes an alias, or
// no longer is one, is not answered as before (Options.Before).
func TestAliasComesAndGoes(t *testing.T) {
	addrs := View{Sets: []Set{{Sites: []Site{{Cluster: "fra", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}}}}}
	zones := func(s Steered) []Zone {
		z := rulesZones()
		z[0].Steered = []Steered{s}
		return z
	}
	alias := Steered{Name: "lb.example.org.", Service: "lb", TTL: 20, CNAME: true, A: View{Sets: []Set{{Sites: []Site{{Cluster: "fra", Target: "fra.example.net."}}}}}}
	plain := Steered{Name: "lb.example.org.", Service: "lb", TTL: 20, A: addrs}
	var before *Table
	for i, s := range []Steered{alias, plain, alias, alias} {
		before = compiled(t, func(o *Options) { o.Zones, o.Before = zones(s), before })
		got := summary(ask1(t, before, "lb.example.org.", dns.TypeAAAA, nil))
		if want := map[bool]string{true: "lb.example.org. 20 CNAME fra.example.net.", false: "| example.org. 20 SOA"}[s.CNAME]; got != want {
			t.Errorf("step %d: got %s, want %s", i, got, want)
		}
	}
}

// The answer costs what addresses cost: nothing allocated.
func TestAliasAllocatesNothing(t *testing.T) {
	table := compiled(t, func(o *Options) { o.Geo = geo.Default(); o.Zones = aliasZones(o.Geo) })
	for _, name := range []string{"lb.example.org.", "weighted.example.org.", "soon.example.org."} {
		packet, dst := pack1(t, new(dns.Msg).SetQuestion(name, dns.TypeA)), make([]byte, 0, maxUDP)
		if n := testing.AllocsPerRun(100, func() { table.Reply(dst, packet, testClient) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
