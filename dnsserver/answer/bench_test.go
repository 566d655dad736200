package answer

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/dnsserver/geo"
)

// BenchmarkReply compares with what a plain handler on the library does for one
// packet: unpack, look up in a map, pack.
func BenchmarkReply(b *testing.B) {
	table := geo.Default()
	places := make([]uint16, len(table.Places()))
	for i := range places {
		places[i] = uint16(i % 3)
	}
	site := func(c string, last byte) Site {
		return Site{Cluster: c, Domain: c, Weight: 1, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, last})}}
	}
	fra, nyc, sin := site("fra", 1), site("nyc", 2), site("sin", 3)
	compiled := compiled(b, func(o *Options) {
		o.Geo = table
		o.Zones[0].Steered = append(o.Zones[0].Steered,
			Steered{Name: "geo.example.org.", Service: "geo", TTL: 20, Answers: 1, A: View{
				Sets: []Set{{Sites: []Site{fra, nyc, sin}}, {Sites: []Site{nyc, fra, sin}}, {Sites: []Site{sin, fra, nyc}}}, ByPlace: places,
			}},
			Steered{Name: "weighted.example.org.", Service: "weighted", TTL: 20, Answers: 1, A: View{
				Sets: []Set{{Weighted: true, Sites: []Site{fra, nyc, sin}}},
			}})
	})
	query := func(name string, subnet bool) []byte {
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeA)
		m.SetEdns0(1232, false)
		if subnet {
			m.IsEdns0().Option = append(m.IsEdns0().Option,
				&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: []byte{81, 2, 69, 0}})
		}
		return pack1(b, m)
	}
	for _, tc := range []struct {
		name   string
		packet []byte
	}{
		{"static", query("ns1.example.org.", false)},
		{"geo", query("geo.example.org.", false)},
		{"geo with subnet", query("geo.example.org.", true)},
		{"weighted with subnet", query("weighted.example.org.", true)},
		{"nxdomain", query("nx.example.org.", false)},
		{"refused", query("example.com.", false)},
		{"formerr", query("ns1.example.org.", false)[:30]},
	} {
		b.Run(tc.name, func(b *testing.B) {
			buf := make([]byte, 0, maxUDP)
			b.ReportAllocs()
			for b.Loop() {
				compiled.ReplyTo(&testClient, buf, tc.packet)
			}
		})
	}
	b.Run("plain library handler", func(b *testing.B) {
		zone := map[string][]dns.RR{"ns1.example.org.": {mustRR("ns1.example.org. 3600 IN A 192.0.2.53")}}
		packet := query("ns1.example.org.", false)
		b.ReportAllocs()
		for b.Loop() {
			var m dns.Msg
			if err := m.Unpack(packet); err != nil {
				b.Fatal(err)
			}
			reply := new(dns.Msg)
			reply.SetReply(&m)
			reply.Authoritative = true
			reply.Answer = zone[dns.CanonicalName(m.Question[0].Name)]
			reply.SetEdns0(1232, false)
			if _, err := reply.Pack(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
