package answer

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/divertdns/divert/dnsserver/geo"
)

// serviceZone has a steered name of both families, the steered names that a test
// adds, and these records.
func serviceZone(records string, more ...Steered) []Zone {
	zones := rulesZones()
	for line := range strings.Lines(records) {
		if line = strings.TrimSpace(line); line != "" {
			zones[0].Records = append(zones[0].Records, mustRR(line))
		}
	}
	sites := func(addrs ...string) View {
		site := Site{Cluster: "fra", Domain: "fra", Weight: 1}
		for _, a := range addrs {
			site.Addrs = append(site.Addrs, netip.MustParseAddr(a))
		}
		return View{Sets: []Set{{Sites: []Site{site}}}}
	}
	zones[0].Steered = append(zones[0].Steered,
		Steered{Name: "web.example.org.", Service: "web", TTL: 30, Answers: 2, A: sites("192.0.2.2", "192.0.2.1"), AAAA: sites("2001:db8::2", "2001:db8::1")},
		Steered{Name: "*.apps.example.org.", Service: "apps", TTL: 30, Answers: 1, A: sites("192.0.2.7")},
		Steered{Name: "six.example.org.", Service: "six", TTL: 30, Answers: 1, AAAA: sites("2001:db8::7")},
		Steered{Name: "none.example.org.", Service: "none", TTL: 30, Answers: 1},
		Steered{Name: "fenced.example.org.", Service: "fenced", TTL: 30, Answers: 1, A: View{Sets: []Set{{}}}, AAAA: sites("2001:db8::7")},
	)
	zones[0].Steered = append(zones[0].Steered, more...)
	return zones
}

// RFC 9460: hints are the addresses of the A and AAAA answers, with their TTL.
func TestServiceHints(t *testing.T) {
	const both = "ipv4hint=192.0.2.2,192.0.2.1 "
	const six = "ipv6hint=2001:db8::2,2001:db8::1"
	tests := []struct {
		name    string
		records string
		ask     string // "web" if it is empty
		qtype   uint16 // HTTPS if it is 0
		want    string
	}{
		{"2.5.2: the service is at the owner", "web.example.org. 300 HTTPS 1 .", "", 0, "web 30 HTTPS 1 . " + both + six},
		{"2.5: or at the owner by its name", "web.example.org. 300 HTTPS 1 Web.Example.org.", "", 0, "web 30 HTTPS 1 Web.Example.org. " + both + six},
		{"2.3: SVCB likewise", "web.example.org. 300 SVCB 1 . alpn=h2", "", dns.TypeSVCB, "web 30 SVCB 1 . alpn=h2 " + both + six},
		{
			"2.2: parameters in ascending order of keys", "web.example.org. 300 HTTPS 1 . key667=x ech=AAAA port=8443 no-default-alpn mandatory=port,alpn alpn=h2,h3", "", 0,
			"web 30 HTTPS 1 . mandatory=alpn,port alpn=h2,h3 no-default-alpn= port=8443 " + both + "ech=AAAA " + six + " key667=x",
		},
		{"2.4.2: AliasMode stays as it is", "web.example.org. 300 HTTPS 0 cdn.example.net.", "", 0, "web 300 HTTPS 0 cdn.example.net."},
		{"2.4.3: a service elsewhere stays as it is", "web.example.org. 300 HTTPS 1 cdn.example.net. port=443", "", 0, "web 300 HTTPS 1 cdn.example.net. port=443"},
		{
			"2.4.1: of a set each as it is, with one TTL", "web.example.org. 300 HTTPS 1 . alpn=h3\nweb.example.org. 300 HTTPS 2 cdn.example.net.", "", 0,
			"web 30 HTTPS 1 . alpn=h3 " + both + six + "; web 30 HTTPS 2 cdn.example.net.",
		},
		{"7.3: hints of one's own are left alone", "web.example.org. 300 HTTPS 1 . ipv4hint=203.0.113.1", "", 0, "web 300 HTTPS 1 . ipv4hint=203.0.113.1"},
		{"7.3: also of one family", "web.example.org. 300 HTTPS 1 . ipv6hint=2001:db8::9", "", 0, "web 300 HTTPS 1 . ipv6hint=2001:db8::9"},
		{"7.3: no hint of a family that is not there", "six.example.org. 300 HTTPS 1 . alpn=h2", "six", 0, "six 30 HTTPS 1 . alpn=h2 ipv6hint=2001:db8::7"},
		{"7.3: no hint where residency leaves nothing", "fenced.example.org. 300 HTTPS 1 .", "fenced", 0, "fenced 30 HTTPS 1 . ipv6hint=2001:db8::7"},
		{"a host without addresses", "none.example.org. 300 HTTPS 1 .", "none", 0, "none 300 HTTPS 1 ."},
		{"a name that is not steered", "static.example.org. 300 HTTPS 1 .", "static", 0, "static 300 HTTPS 1 ."},
		{"RFC 4592: a wildcard", "*.apps.example.org. 300 HTTPS 1 . alpn=h2", "x.apps", 0, "x.apps 30 HTTPS 1 . alpn=h2 ipv4hint=192.0.2.7"},
		{"RFC 4592: another than the name asked", "*.apps.example.org. 300 HTTPS 1 y.apps.example.org.", "x.apps", 0, "x.apps 300 HTTPS 1 y.apps.example.org."},
		{
			"RFC 1034 section 3.6.2: behind a CNAME", "web.example.org. 300 HTTPS 1 .\nw3.example.org. 300 CNAME web.example.org.", "w3", 0,
			"w3 300 CNAME web.example.org.; web 30 HTTPS 1 . " + both + six,
		},
		{"RFC 8482: ANY", "web.example.org. 300 HTTPS 1 .", "", dns.TypeANY, `web 3600 HINFO RFC8482 `},
		{"RFC 3597: written by numbers", `web.example.org. 300 TYPE65 \# 10 0001 00 0001 0003 026832`, "", 0, "web 30 HTTPS 1 . alpn=h2 " + both + six},
		{"S14: no record, no answer", "", "", 0, " | example.org. 20 SOA"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			table := compiled(t, func(o *Options) { o.Zones = serviceZone(tc.records) })
			if tc.ask == "" {
				tc.ask = "web"
			}
			if tc.qtype == 0 {
				tc.qtype = dns.TypeHTTPS
			}
			got := summary(ask1(t, table, tc.ask+".example.org.", tc.qtype, nil))
			got = strings.ReplaceAll(got, `"`, "")
			for _, name := range []string{tc.ask, "web"} {
				got = strings.ReplaceAll(got, name+".example.org. 3", name+" 3")
			}
			if got != strings.TrimSpace(tc.want) && got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

// The scope of an HTTPS answer is the longer of both families' (RFC 7871 section
// 7.3): all that is in it get the same.
func TestServiceScope(t *testing.T) {
	table := geo.Default()
	rapid.Check(t, func(t *rapid.T) {
		zones := []Zone{{Origin: "example.org.", Records: append(rulesZones()[0].Records[:2:2], mustRR("x.example.org. 300 HTTPS 1 . alpn=h2"))}}
		drawSteered(t, &zones[0], "x.example.org.", placesOf(table))
		compiled, err := Compile(Options{Zones: zones, Geo: table})
		if err != nil {
			t.Fatalf("Compile: %v", err)
		}
		ask := func(client netip.Addr, qtype uint16) (answer string, scope int) {
			m := new(dns.Msg)
			m.SetQuestion("x.example.org.", qtype)
			m.SetEdns0(1232, false)
			family := uint16(1)
			if client.Is6() {
				family = 2
			}
			m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_SUBNET{
				Code: dns.EDNS0SUBNET, Family: family, SourceNetmask: uint8(client.BitLen()), Address: client.AsSlice(),
			})
			packet, err := m.Pack()
			if err != nil {
				t.Fatal(err)
			}
			raw, _ := compiled.Reply(nil, packet, testClient)
			var got dns.Msg
			if err := got.Unpack(raw); err != nil {
				t.Fatal(err)
			}
			return summary(&got), int(option[*dns.EDNS0_SUBNET](&got).SourceScope)
		}
		for range 10 {
			client := drawClient(t, "client")
			one, scope := ask(client, dns.TypeHTTPS)
			_, scope4 := ask(client, dns.TypeA)
			_, scope6 := ask(client, dns.TypeAAAA)
			if want := max(scope4, scope6); scope != want {
				t.Fatalf("%s has scope /%d, want /%d", client, scope, want)
			}
			other := client
			for bit := scope; bit < client.BitLen(); bit++ {
				if rapid.Bool().Draw(t, "other bit") {
					other = flipBit(other, bit)
				}
			}
			if two, _ := ask(other, dns.TypeHTTPS); two != one {
				t.Fatalf("%s and %s are in one scope but hear\n%s\n%s", client, other, one, two)
			}
		}
	})
}

// SEMANTICS section 2: of a name with a change ahead hints live no longer than to
// it, like the addresses.
func TestServiceHintsBeforeAChange(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for ahead, want := range map[time.Duration]uint32{time.Hour: 30, 12 * time.Second: 12, time.Second: 5} {
		zones := serviceZone("web.example.org. 300 HTTPS 1 .")
		for i := range zones[0].Steered {
			if zones[0].Steered[i].Name == "web.example.org." {
				zones[0].Steered[i].Next = now.Add(ahead)
			}
		}
		table := compiled(t, func(o *Options) { o.Zones = zones })
		m := new(dns.Msg)
		m.SetQuestion("web.example.org.", dns.TypeHTTPS)
		client := testClient
		client.Now = now
		raw, _ := table.Reply(nil, pack1(t, m), client)
		var got dns.Msg
		if err := got.Unpack(raw); err != nil || len(got.Answer) != 1 || got.Answer[0].Header().Ttl != want {
			t.Errorf("%s before: got %v, %v, want TTL %d", ahead, got.Answer, err, want)
		}
	}
}

// A fail-open answer says so in HTTPS as in A (RFC 8914 section 4.1); what does not
// fit is truncated (S14); nothing is allocated.
func TestServiceHintsOnTheWire(t *testing.T) {
	addr := netip.MustParseAddr("2001:db8::1")
	wide := Site{Cluster: "fra", Domain: "fra", Weight: 1}
	for range maxAnswers {
		wide.Addrs = append(wide.Addrs, addr)
		addr = addr.Next()
	}
	table := compiled(t, func(o *Options) {
		o.Zones = serviceZone("open.example.org. 300 HTTPS 1 .\nwide.example.org. 300 HTTPS 1 .\nweb.example.org. 300 HTTPS 1 . alpn=h2",
			Steered{Name: "wide.example.org.", Service: "wide", TTL: 30, Answers: maxAnswers, AAAA: View{Sets: []Set{{Sites: []Site{wide}}}}})
	})
	if ede := option[*dns.EDNS0_EDE](ask1(t, table, "open.example.org.", dns.TypeHTTPS, nil)); ede == nil || ede.InfoCode != edeOther {
		t.Errorf("failing open: got EDE %v", ede)
	}
	if got := ask1(t, table, "wide.example.org.", dns.TypeHTTPS, func(m *dns.Msg) { m.Extra = nil }); !got.Truncated || len(got.Answer) != 0 {
		t.Errorf("without EDNS: got\n%v\nwant it truncated", got)
	}
	got := ask1(t, table, "wide.example.org.", dns.TypeHTTPS, nil)
	if got.Truncated || len(got.Answer) != 1 || len(got.Answer[0].(*dns.HTTPS).Value[0].(*dns.SVCBIPv6Hint).Hint) != maxAnswers {
		t.Errorf("got\n%v\nwant %d hints", got, maxAnswers)
	}
	for _, name := range []string{"web.example.org.", "wide.example.org."} {
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeHTTPS)
		m.SetEdns0(1232, false)
		packet, buf := pack1(t, m), make([]byte, 0, maxUDP)
		if n := testing.AllocsPerRun(50, func() { table.Reply(buf, packet, testClient) }); n != 0 {
			t.Errorf("%s allocates %f times", name, n)
		}
	}
	var many strings.Builder
	for i := range 100 {
		fmt.Fprintf(&many, "web.example.org. 300 HTTPS %d . alpn=h2\n", i+1)
	}
	full := compiled(t, func(o *Options) { o.Zones = serviceZone(many.String()) })
	got = ask1(t, full, "web.example.org.", dns.TypeHTTPS, nil)
	if !got.Truncated {
		t.Errorf("100 records by UDP: got\n%v\nwant them truncated", got)
	}
	stream := testClient
	stream.Transport = TCP
	raw, _ := full.Reply(nil, pack1(t, new(dns.Msg).SetQuestion("web.example.org.", dns.TypeHTTPS)), stream)
	if err := got.Unpack(raw); err != nil || got.Truncated || len(got.Answer) != 100 || got.Answer[0].Header().Ttl != 300 {
		t.Errorf("100 records, whose hints might not fit: got %d, %v, want them as they stand", len(got.Answer), err)
	}
	_, tally := table.Reply(nil, pack1(t, new(dns.Msg).SetQuestion("web.example.org.", dns.TypeHTTPS)), testClient)
	if label := table.Labels()[tally.Label]; label.Service != "web" || label.Cluster != "" {
		t.Errorf("counted as %+v, want the service, of no cluster", label)
	}
}

// FuzzCutSVCB: whatever octets a record has, they are cut in order, or left alone.
func FuzzCutSVCB(f *testing.F) {
	f.Add([]byte("\x00\x01\x00\x00\x01\x00\x03\x02h2"), []byte("\x01a\x00"))
	f.Add([]byte("\x00\x01\x01a\x00\x00\x05\x00\x01x\x00\x07\x00\x00"), []byte("\x01A\x00"))
	f.Add([]byte("\x00\x01\xc0\x0c\x00"), []byte("\x00"))
	f.Fuzz(func(t *testing.T, data, name []byte) {
		s, ok := cutSVCB(data, name)
		if ok && string(s.front)+string(s.middle)+string(s.rear) != string(data) {
			t.Fatalf("%x was cut into %x, %x, %x", data, s.front, s.middle, s.rear)
		}
	})
}
