package answer

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/dnsserver/geo"
)

// Client subnet, one row for each rule of RFC 7871 by its section. The name "geo" has
// two sites, one of them for Europe; "hash" weighs them by client.
func TestClientSubnet(t *testing.T) {
	table := geo.Default()
	eu := make([]uint16, len(table.Places()))
	for i, p := range table.Places() {
		if p.Continent == "EU" {
			eu[i] = 1
		}
	}
	site := func(addr string) Site {
		return Site{Cluster: addr, Domain: addr, Weight: 1, Addrs: []netip.Addr{netip.MustParseAddr(addr)}}
	}
	sets := []Set{{Sites: []Site{site("192.0.2.1")}}, {Sites: []Site{site("192.0.2.2")}}}
	fenced := []PrefixPlaces{{Prefix: netip.MustParsePrefix("81.2.69.0/24"), ByPlace: []uint16{0}}}
	zones := serviceZone("w3.example.org. 300 CNAME geo.example.org.",
		Steered{Name: "geo.example.org.", Service: "geo", TTL: 20, Answers: 1, A: View{Sets: sets, ByPlace: eu}},
		Steered{Name: "hash.example.org.", Service: "hash", TTL: 20, Answers: 1, A: View{Sets: []Set{{Weighted: true, Sites: []Site{site("192.0.2.1"), site("192.0.2.2")}}}}},
		Steered{Name: "fence.example.org.", Service: "fence", TTL: 20, Answers: 1, A: View{Sets: []Set{{}, sets[0]}, ByPlace: []uint16{1}, ByPrefix: fenced}},
	)
	served := compiled(t, func(o *Options) { o.Zones, o.Geo = zones, table })
	const europe, america = "192.0.2.2", "192.0.2.1"
	const varies, none = -1, -2
	tests := []struct {
		name     string
		ask      string
		subnet   string // address/source; "" = no option, "0/0" = of family 0
		resolver string
		answer   string // "" = none
		scope    int    // varies: some scope; none = no option in the reply
	}{
		{"6: no option, none back", "geo", "", "81.2.69.142", europe, none},
		{"7.2.1: without one the resolver's address counts", "geo", "", "8.8.8.8", america, none},
		{"7.2.1: with one the client's counts", "geo", "81.2.69.0/24", "8.8.8.8", europe, varies},
		{"7.2.1: whoever asks", "geo", "8.8.8.0/24", "81.2.69.142", america, varies},
		{"7.2.1: IPv6", "geo", "2a04:4e42:600::/56", "8.8.8.8", any1, varies},
		{"7.2.1: where the client does not matter the scope is 0", "shop", "81.2.69.0/24", "8.8.8.8", "192.0.2.10", 0},
		{"7.2.1: the scope may exceed the source", "hash", "81.2.0.0/16", "8.8.8.8", any1, 24},
		{"7.2.1: or fall short of it", "hash", "81.2.69.142/32", "8.8.8.8", any1, 24},
		{"7.2.1: IPv6, the scope falls short of the source", "hash", "2a04:4e42:600::223/128", "8.8.8.8", any1, 48},
		{"7.1.2, 7.2.1: source 0 asks for nobody's sake: by the resolver, scope 0", "geo", "0.0.0.0/0", "81.2.69.142", europe, 0},
		{"7.1.2: the same of IPv6", "geo", "::/0", "81.2.69.142", europe, 0},
		{"7.1.2: and of no family", "hash", "0/0", "81.2.69.142", any1, 0},
		{"7.4: a delegation has scope 0", "x.lab", "81.2.69.0/24", "8.8.8.8", "", 0},
		{"7.4: no such name", "nx", "81.2.69.0/24", "8.8.8.8", "", 0},
		{"7.4: no such type", "six", "81.2.69.0/24", "8.8.8.8", "", 0},
		{"7.4: what differs by client must not be cached for all", "fence", "81.2.69.0/24", "8.8.8.8", "", 24},
		{"7.4: nor what is beside it", "fence", "81.2.68.0/24", "8.8.8.8", "192.0.2.1", 24},
		{"7.2.1: behind an alias the address decides", "w3", "81.2.69.0/24", "8.8.8.8", europe, varies},
		{"SEMANTICS section 3: private clients are their resolver's", "geo", "10.1.2.0/24", "81.2.69.142", europe, 8},
		{"SEMANTICS section 3: wherever that is", "geo", "10.1.2.0/24", "8.8.8.8", america, 8},
		{"SEMANTICS section 3: of a NAT64 the address inside counts", "geo", "64:ff9b::5102:4500/120", "8.8.8.8", europe, varies},
		{"7.2.1: out of zone comes back, too", "example.com.", "81.2.69.0/24", "8.8.8.8", "", 0},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			m := new(dns.Msg)
			if tc.ask == "example.com." {
				m.SetQuestion(tc.ask, dns.TypeA)
			} else {
				m.SetQuestion(tc.ask+".example.org.", dns.TypeA)
			}
			m.SetEdns0(1232, false)
			var sent *dns.EDNS0_SUBNET
			switch {
			case tc.subnet == "0/0":
				sent = &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET}
			case tc.subnet != "":
				p := netip.MustParsePrefix(tc.subnet)
				sent = &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(p.Bits()), Address: p.Addr().AsSlice()}
				if p.Addr().Is6() {
					sent.Family = 2
				}
			}
			if sent != nil {
				m.IsEdns0().Option = append(m.IsEdns0().Option, sent)
			}
			packet := pack1(t, m)
			client := testClient
			client.Addr = netip.AddrPortFrom(netip.MustParseAddr(tc.resolver), 4000)
			raw, _ := served.Reply(nil, packet, client)
			var got dns.Msg
			if err := got.Unpack(raw); err != nil {
				t.Fatal(err)
			}
			answer := ""
			if len(got.Answer) > 0 {
				if a, ok := got.Answer[len(got.Answer)-1].(*dns.A); ok {
					answer = a.A.String()
				}
			}
			if answer != tc.answer && (tc.answer != any1 || answer == "") {
				t.Errorf("got %q, want %q\n%v", answer, tc.answer, &got)
			}
			back := option[*dns.EDNS0_SUBNET](&got)
			if (back != nil) != (tc.scope != none) {
				t.Fatalf("got option %v to %v", back, sent)
			}
			if back == nil {
				return
			}
			// 7.2.1: family, source and address come back as they were sent.
			if back.Family != sent.Family || back.SourceNetmask != sent.SourceNetmask ||
				sent.Family != 0 && !back.Address.Equal(sent.Address) {
				t.Errorf("got option %v to %v", back, sent)
			}
			if int(back.SourceScope) != tc.scope && tc.scope != varies {
				t.Errorf("got scope %d, want %d", back.SourceScope, tc.scope)
			}
			if tc.scope == varies && back.SourceScope == 0 {
				t.Error("got scope 0 where the client matters")
			}
		})
	}
}

// any1 is some address, no matter which.
const any1 = "any"
