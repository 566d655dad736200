package answer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/divertdns/divert/dnsserver/geo"
)

func transferQuery(qtype uint16, zone string, serial uint32) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(zone, qtype)
	if qtype == dns.TypeIXFR {
		m.Ns = []dns.RR{mustRR(fmt.Sprintf("%s 0 IN SOA a. b. %d 0 0 0 0", zone, serial))}
	}
	return m
}

// messages takes a transfer to its end; ok is false where Reply's refusal stands.
func messages(t testing.TB, table *Table, q *dns.Msg, c Client) (all []*dns.Msg, ok bool) {
	x, _ := table.Transfer(pack1(t, q), c)
	if x == nil {
		return nil, false
	}
	for more := true; more; {
		var raw []byte
		var err error
		if raw, more, err = x.Next(nil); err != nil {
			t.Fatalf("message %d: %v", len(all), err)
		}
		m := new(dns.Msg)
		if err := m.Unpack(raw); err != nil {
			t.Fatalf("message %d: %v\n%x", len(all), err, raw)
		}
		if len(raw)+c.Reserve > maxTransfer && len(m.Answer) > 1 {
			t.Errorf("message %d has %d octets and %d records", len(all), len(raw), len(m.Answer))
		}
		if m.Id != q.Id || !m.Response {
			t.Errorf("message %d is not the reply to the query:\n%v", len(all), m)
		}
		all = append(all, m)
	}
	return all, true
}

// handedOut is the records of a transfer as text, ordered, without the last SOA.
func handedOut(t testing.TB, all []*dns.Msg) []string {
	var rrs []dns.RR
	for _, m := range all {
		if m.Rcode != dns.RcodeSuccess || !m.Authoritative || m.Truncated || len(m.Ns)+len(m.Extra) > 0 {
			t.Fatalf("got\n%v", m)
		}
		rrs = append(rrs, m.Answer...)
	}
	if len(rrs) < 2 || rrs[0].Header().Rrtype != dns.TypeSOA || rrs[0].String() != rrs[len(rrs)-1].String() {
		t.Fatalf("it does not begin and end with the SOA: %v", rrs)
	}
	return shown(rrs[:len(rrs)-1])
}

func shown(rrs []dns.RR) []string {
	var out []string
	for _, rr := range rrs {
		out = append(out, show1(rr))
	}
	slices.Sort(out)
	return out
}

// RFC 5936 section 3: all that was put into a zone comes out of it, glue and what a
// delegation hides too.
func TestTransferIsTheZone(t *testing.T) {
	table := geo.Default()
	rapid.Check(t, func(rt *rapid.T) {
		zones := drawZones(rt, placesOf(table))
		compiled, err := Compile(Options{Zones: zones, Geo: table})
		if err != nil {
			rt.Skip(err)
		}
		for i := range zones {
			z := &zones[i]
			all, _ := messages(t, compiled, transferQuery(dns.TypeAXFR, z.Origin, 0), by(TCP, nil))
			var want []dns.RR
			for _, rr := range z.Records {
				rr = dns.Copy(rr)
				for _, other := range z.Records {
					if o, h := other.Header(), rr.Header(); o.Name == h.Name && o.Rrtype == h.Rrtype {
						h.Ttl = min(h.Ttl, o.Ttl) // RFC 2181 section 5.2
					}
				}
				if soa, ok := rr.(*dns.SOA); ok {
					for _, s := range z.Steered {
						soa.Minttl = min(soa.Minttl, s.TTL)
					}
				}
				want = append(want, rr)
			}
			for _, s := range z.Steered {
				want = append(want, mustRR(fmt.Sprintf("_divert.%s %d IN TXT %q", s.Name, s.TTL, standbyText)))
			}
			if got, want := handedOut(t, all), shown(want); !slices.Equal(got, want) {
				rt.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	})
}

// SEMANTICS section 3: of a steered name goes out what is right for all clients,
// in order; a name without such an address exists all the same (RFC 8020).
func TestTransferOfSteeredNames(t *testing.T) {
	addrs := func(list ...string) (out []netip.Addr) {
		for _, a := range list {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	zones := rulesZones()
	long := strings.Repeat("a.", 119) + "example.org." // 251 octets: nothing fits above
	z := &zones[0]
	z.Steered = z.Steered[:2]
	z.Steered[0].Standby = Standby{A: addrs("192.0.2.12", "192.0.2.10"), AAAA: addrs("2001:db8::10")}
	z.Steered = append(z.Steered, Steered{Name: long, TTL: 30, Answers: 1})
	z.Serial = 4294967295
	table := compiled(t, func(o *Options) { o.Zones = zones })
	all, _ := messages(t, table, transferQuery(dns.TypeAXFR, "Example.ORG.", 0), by(TLS, nil))
	var got []string
	for _, rr := range all[0].Answer {
		if h := rr.Header(); h.Ttl == 20 || h.Ttl == 30 || h.Rrtype == dns.TypeSOA {
			got = append(got, show1(rr))
		}
	}
	want := wanted(
		"example.org. 3600 IN SOA ns1.example.org. h.example.org. 4294967295 3600 600 86400 20",
		"shop.example.org. 20 IN A 192.0.2.12", "shop.example.org. 20 IN A 192.0.2.10", "shop.example.org. 20 IN AAAA 2001:db8::10",
		"_divert.*.app.example.org. 20 IN TXT \""+standbyText+"\"", long+" 30 IN TXT \""+standbyText+"\"",
		"example.org. 3600 IN SOA ns1.example.org. h.example.org. 4294967295 3600 600 86400 20",
	)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if soa := ask1(t, table, "example.org.", dns.TypeSOA, nil).Answer[0].(*dns.SOA); soa.Serial != 4294967295 {
		t.Errorf("got serial %d, want the zone's", soa.Serial)
	}
}

func wanted(lines ...string) (out []string) {
	for _, line := range lines {
		out = append(out, show1(mustRR(line)))
	}
	return out
}

// RFC 1995 sections 2 and 4: the SOA alone where the client has the zone or asks by
// UDP, else all of it; serials as RFC 1982 compares them.
func TestTransferKinds(t *testing.T) {
	zones := rulesZones()
	zones[0].Serial = 100
	table := compiled(t, func(o *Options) { o.Zones = zones })
	half := uint32(1) << 31
	tests := []struct {
		name      string
		transport Transport
		q         *dns.Msg
		rcode     int // -1: the refusal of Reply
		whole     bool
	}{
		{"AXFR, tcp", TCP, transferQuery(dns.TypeAXFR, "example.org.", 0), 0, true},
		{"AXFR, udp", UDP, transferQuery(dns.TypeAXFR, "example.org.", 0), -1, false},
		{"IXFR from an older", TCP, transferQuery(dns.TypeIXFR, "example.org.", 99), 0, true},
		{"IXFR from an older, over the wrap", TLS, transferQuery(dns.TypeIXFR, "example.org.", 101+half), 0, true},
		{"IXFR from the same", TCP, transferQuery(dns.TypeIXFR, "example.org.", 100), 0, false},
		{"IXFR from a newer", TCP, transferQuery(dns.TypeIXFR, "example.org.", 101), 0, false},
		{"IXFR, udp", UDP, transferQuery(dns.TypeIXFR, "example.org.", 99), 0, false},
		{"IXFR without a SOA", TCP, func() *dns.Msg {
			m := transferQuery(dns.TypeIXFR, "example.org.", 0)
			m.Ns = nil
			return m
		}(), dns.RcodeFormatError, false},
		{"of a name", TCP, transferQuery(dns.TypeAXFR, "shop.example.org.", 0), dns.RcodeNotAuth, false},
		{"of another zone", TCP, transferQuery(dns.TypeAXFR, "example.com.", 0), dns.RcodeNotAuth, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			all, ok := messages(t, table, tc.q, by(tc.transport, nil))
			if ok != (tc.rcode >= 0) {
				t.Fatalf("got %d messages, want rcode %d", len(all), tc.rcode)
			}
			if !ok {
				return
			}
			records := len(all[0].Answer)
			if all[0].Rcode != tc.rcode || tc.rcode == 0 && (records > 2) != tc.whole || tc.rcode == 0 && !tc.whole && records != 1 {
				t.Errorf("got\n%v", all[0])
			}
		})
	}
}

// A large zone goes out in messages that let others through, with room for what
// signs each; a record longer than such a message has one to itself. Each has
// the OPT record (RFC 5936 section 2.2.5), the first what was asked for by options.
func TestTransferMessages(t *testing.T) {
	zones := rulesZones()
	z := &zones[0]
	for i := range 5000 {
		z.Records = append(z.Records, mustRR(fmt.Sprintf("host-%d.example.org. 300 IN A 192.0.2.1", i)))
	}
	giant := mustRR("giant.example.org. 300 IN TXT " + strings.Repeat(`"`+strings.Repeat("x", 255)+`" `, 120))
	z.Records = slices.Insert(z.Records, 300, giant)
	table := compiled(t, func(o *Options) { o.Zones = zones })
	q := transferQuery(dns.TypeAXFR, "example.org.", 0)
	q.SetEdns0(1232, false)
	add(&dns.EDNS0_NSID{Code: dns.EDNS0NSID}, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE})(q)
	all, _ := messages(t, table, q, by(TCP, func(c *Client) { c.Reserve = 300 }))
	if len(all) < 8 {
		t.Errorf("got %d messages", len(all))
	}
	records := -1 // the second SOA
	for i, m := range all {
		records += len(m.Answer)
		if opt := m.IsEdns0(); opt == nil || (len(opt.Option) > 0) != (i == 0) {
			t.Errorf("message %d: OPT %v", i, opt)
		}
	}
	if want := len(z.Records) + len(z.Steered); records != want {
		t.Errorf("got %d records, want %d", records, want)
	}
}

// C1: whatever a client that may have zones sends, it gets messages that can be read.
func FuzzTransfer(f *testing.F) {
	table := compiled(f, nil)
	f.Add(pack1(f, transferQuery(dns.TypeAXFR, "example.org.", 0)), true)
	f.Add(pack1(f, transferQuery(dns.TypeIXFR, "example.org.", 1)), true)
	f.Add(pack1(f, transferQuery(dns.TypeIXFR, "example.org.", 7)), false)
	f.Fuzz(func(t *testing.T, packet []byte, stream bool) {
		c := by(UDP, nil)
		if stream {
			c = by(TLS, func(c *Client) { c.Reserve = 200 })
		}
		if _, tally := table.Reply(nil, packet, c); tally.Reject != RejectTransfer {
			return
		}
		x, _ := table.Transfer(packet, c)
		if x == nil && stream {
			t.Error("a stream gets no message at all")
		}
		for more := x != nil; more; {
			raw, next, err := x.Next(nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := new(dns.Msg).Unpack(raw); err != nil {
				t.Fatalf("%v\n%x", err, raw)
			}
			more = next
		}
	})
}
