package answer

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/dnsserver/geo"
)

var testClient = Client{Addr: netip.MustParseAddrPort("81.2.69.142:4000"), Transport: UDP}

// rulesZones is a zone with one of everything.
func rulesZones() []Zone {
	lines := `
example.org. 3600 IN SOA ns1.example.org. h.example.org. 7 3600 600 86400 300
example.org. 3600 IN NS ns1.example.org.
ns1.example.org. 3600 IN A 192.0.2.53
example.org. 300 IN MX 10 mail.example.org.
mail.example.org. 300 IN A 192.0.2.25
_sip._udp.example.org. 300 IN SRV 1 2 5060 mail.example.org.
www.example.org. 300 IN CNAME shop.example.org.
out.example.org. 300 IN CNAME www.example.com.
gone.example.org. 300 IN CNAME nothing.example.org.
loop1.example.org. 300 IN CNAME loop2.example.org.
loop2.example.org. 300 IN CNAME loop1.example.org.
cutoff.example.org. 300 IN CNAME host.lab.example.org.
*.wild.example.org. 300 IN TXT "wild"
*.wild.example.org. 300 IN A 192.0.2.99
closer.wild.example.org. 300 IN TXT "closer"
a.b.c.example.org. 300 IN TXT "deep"
lab.example.org. 300 IN NS ns.lab.example.org.
lab.example.org. 300 IN NS ns.other.example.org.
ns.lab.example.org. 300 IN A 198.51.100.1
other.example.org. 300 IN NS ns.other.example.org.
ns.other.example.org. 300 IN A 198.51.100.2
old.example.org. 300 IN DNAME new.example.org.
x.new.example.org. 300 IN TXT "moved"
shop.example.org. 300 IN TXT "beside"
long.example.org. 300 IN TXT ` + strings.Repeat(`"`+strings.Repeat("x", 250)+`" `, 6) + `
tag\.dot.example.org. 300 IN CAA 0 issue "ca.example.net"`
	var records []dns.RR
	for line := range strings.Lines(lines) {
		if strings.TrimSpace(line) != "" {
			records = append(records, mustRR(line))
		}
	}
	site := func(cluster, addr string) Site {
		return Site{Cluster: cluster, Domain: cluster, Weight: 1, Addrs: []netip.Addr{netip.MustParseAddr(addr)}}
	}
	return []Zone{{Origin: "example.org.", Records: records, Steered: []Steered{
		{Name: "shop.example.org.", Service: "shop", TTL: 20, Answers: 1, A: View{Sets: []Set{{Sites: []Site{site("fra", "192.0.2.10")}}}}},
		{Name: "*.app.example.org.", Service: "app", TTL: 20, Answers: 1, A: View{Sets: []Set{{Sites: []Site{site("fra", "192.0.2.11")}}}}},
		{Name: "open.example.org.", Service: "open", TTL: 20, Answers: 1, A: View{Sets: []Set{{FailOpen: true, Sites: []Site{site("fra", "192.0.2.12")}}}}},
	}}}
}

func compiled(t testing.TB, change func(*Options)) *Table {
	t.Helper()
	o := Options{Zones: rulesZones(), Plan: "fleet=f epoch=1 revision=2 hash=" + strings.Repeat("ab", 200), NSID: []byte("d1")}
	if change != nil {
		change(&o)
	}
	table, err := Compile(o)
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	return table
}

func pack1(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	packet, err := m.Pack()
	if err != nil {
		t.Fatalf("packing: %v", err)
	}
	return packet
}

func ask1(t testing.TB, table *Table, name string, qtype uint16, change func(*dns.Msg)) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.SetEdns0(4096, false)
	if change != nil {
		change(m)
	}
	raw, _ := table.Reply(nil, pack1(t, m), testClient)
	got := new(dns.Msg)
	if err := got.Unpack(raw); err != nil {
		t.Fatalf("%s: unpacking the reply: %v", name, err)
	}
	return got
}

// One row for each rule of SEMANTICS, DNS, about what exists.
func TestAnswers(t *testing.T) {
	table := compiled(t, nil)
	soa := "example.org. 20 SOA"
	tests := []struct {
		name  string
		qtype uint16
		rcode int
		want  string // "owner ttl type …" joined by "; ", sections by " | "
	}{
		{"shop.example.org.", dns.TypeA, 0, "shop.example.org. 20 A 192.0.2.10"},
		{"shop.example.org.", dns.TypeTXT, 0, `shop.example.org. 300 TXT "beside"`},
		{"shop.example.org.", dns.TypeAAAA, 0, "| " + soa},
		{"shop.example.org.", dns.TypeANY, 0, `shop.example.org. 3600 HINFO "RFC8482" ""`},
		{"x.shop.example.org.", dns.TypeA, 3, "| " + soa},
		{"any.app.example.org.", dns.TypeA, 0, "any.app.example.org. 20 A 192.0.2.11"},
		{"app.example.org.", dns.TypeA, 0, "| " + soa},
		{"www.example.org.", dns.TypeA, 0, "www.example.org. 300 CNAME shop.example.org.; shop.example.org. 20 A 192.0.2.10"},
		{"www.example.org.", dns.TypeANY, 0, "www.example.org. 300 CNAME shop.example.org."},
		{"www.example.org.", dns.TypeCNAME, 0, "www.example.org. 300 CNAME shop.example.org."},
		{"www.example.org.", dns.TypeAAAA, 0, "www.example.org. 300 CNAME shop.example.org. | " + soa},
		{"out.example.org.", dns.TypeA, 0, "out.example.org. 300 CNAME www.example.com."},
		{"gone.example.org.", dns.TypeA, 3, "gone.example.org. 300 CNAME nothing.example.org. | " + soa},
		{"loop1.example.org.", dns.TypeA, 0, "loop1.example.org. 300 CNAME loop2.example.org.; loop2.example.org. 300 CNAME loop1.example.org."},
		{"cutoff.example.org.", dns.TypeA, 0, "cutoff.example.org. 300 CNAME host.lab.example.org. | " +
			"lab.example.org. 300 NS ns.lab.example.org.; lab.example.org. 300 NS ns.other.example.org. | " +
			"ns.lab.example.org. 300 A 198.51.100.1; ns.other.example.org. 300 A 198.51.100.2"},
		{"x.wild.example.org.", dns.TypeTXT, 0, `x.wild.example.org. 300 TXT "wild"`},
		{"x.y.wild.example.org.", dns.TypeTXT, 0, `x.y.wild.example.org. 300 TXT "wild"`},
		{"x.wild.example.org.", dns.TypeMX, 0, "| " + soa},
		{"closer.wild.example.org.", dns.TypeA, 0, "| " + soa},
		{"x.closer.wild.example.org.", dns.TypeA, 3, "| " + soa},
		{"wild.example.org.", dns.TypeA, 0, "| " + soa},
		{"b.c.example.org.", dns.TypeTXT, 0, "| " + soa},
		{"b.c.example.org.", dns.TypeANY, 0, "| " + soa},
		{"z.b.c.example.org.", dns.TypeTXT, 3, "| " + soa},
		{"lab.example.org.", dns.TypeA, 0, "| lab.example.org. 300 NS ns.lab.example.org.; lab.example.org. 300 NS ns.other.example.org. | " +
			"ns.lab.example.org. 300 A 198.51.100.1; ns.other.example.org. 300 A 198.51.100.2"},
		{"x.y.lab.example.org.", dns.TypeANY, 0, "| lab.example.org. 300 NS ns.lab.example.org.; lab.example.org. 300 NS ns.other.example.org. | " +
			"ns.lab.example.org. 300 A 198.51.100.1; ns.other.example.org. 300 A 198.51.100.2"},
		{"lab.example.org.", dns.TypeDS, 0, "| " + soa},
		{"x.old.example.org.", dns.TypeTXT, 0, `old.example.org. 300 DNAME new.example.org.; x.old.example.org. 300 CNAME x.new.example.org.; ` +
			`x.new.example.org. 300 TXT "moved"`},
		{"old.example.org.", dns.TypeTXT, 0, "| " + soa},
		{strings.Repeat("y123456789.", 21) + "old.example.org.", dns.TypeTXT, 3, "old.example.org. 300 DNAME new.example.org.; " +
			strings.Repeat("y123456789.", 21) + "old.example.org. 300 CNAME " + strings.Repeat("y123456789.", 21) + "new.example.org. | " + soa},
		{"example.org.", dns.TypeMX, 0, "example.org. 300 MX 10 mail.example.org."},
		{"example.org.", dns.TypeNS, 0, "example.org. 3600 NS ns1.example.org."},
		{"_sip._udp.example.org.", dns.TypeSRV, 0, "_sip._udp.example.org. 300 SRV 1 2 5060 mail.example.org."},
		{`tag\.dot.example.org.`, dns.TypeCAA, 0, `tag\.dot.example.org. 300 CAA 0 issue "ca.example.net"`},
		{"dot.example.org.", dns.TypeCAA, 3, "| " + soa},
		{"example.com.", dns.TypeA, 5, ""},
		{"org.", dns.TypeA, 5, ""},
		{".", dns.TypeNS, 5, ""},
		{"badexample.org.", dns.TypeA, 5, ""},
		{"example.org.", dns.TypeAXFR, 5, ""},
		{"example.org.", dns.TypeIXFR, 5, ""},
	}
	for _, tc := range tests {
		got := ask1(t, table, tc.name, tc.qtype, nil)
		if brief := summary(got); got.Rcode != tc.rcode || brief != tc.want {
			t.Errorf("%s %s: got rcode %d,\n%s\nwant %d,\n%s", tc.name, dns.TypeToString[tc.qtype], got.Rcode, brief, tc.rcode, tc.want)
		}
	}
}

// summary shows a reply's records without their class, an SOA's data and the OPT.
func summary(m *dns.Msg) string {
	var sections []string
	for _, rrs := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		var texts []string
		for _, rr := range rrs {
			fields := strings.Fields(rr.String())
			switch rr.Header().Rrtype {
			case dns.TypeOPT:
				continue
			case dns.TypeSOA:
				fields = fields[:4]
			}
			texts = append(texts, strings.Join(append(fields[:2:2], fields[3:]...), " "))
		}
		sections = append(sections, strings.Join(texts, "; "))
	}
	return strings.TrimPrefix(strings.TrimRight(strings.Join(sections, " | "), " |"), " ")
}

// A DNAME whose expansion has more than 255 octets (RFC 6672 section 2.2).
func TestDNAMETooLong(t *testing.T) {
	zones := rulesZones()
	zones[0].Records = append(zones[0].Records, mustRR("short.example.org. 300 IN DNAME "+strings.Repeat("z123456789.", 5)+"example.net."))
	table := compiled(t, func(o *Options) { o.Zones = zones })
	got := ask1(t, table, strings.Repeat("y123456789.", 20)+"short.example.org.", dns.TypeA, nil)
	if got.Rcode != dns.RcodeYXDomain || len(got.Answer) != 1 {
		t.Errorf("got\n%v\nwant YXDOMAIN with the DNAME", got)
	}
}

// A letter may be written as its number, in either case (RFC 1035 section 5.1).
func TestOwnerByNumber(t *testing.T) {
	zones := rulesZones()
	zones[0].Records = append(zones[0].Records, mustRR(`\065\098c.example.org. 300 IN TXT "found"`))
	table := compiled(t, func(o *Options) { o.Zones = zones })
	if got := ask1(t, table, "aBc.example.org.", dns.TypeTXT, nil); len(got.Answer) != 1 {
		t.Errorf("got\n%v\nwant the record", got)
	}
}

// SEMANTICS, Existence: a resolver believes a NODATA no longer than an answer.
func TestNegativeTTL(t *testing.T) {
	table := compiled(t, nil)
	for _, qtype := range []uint16{dns.TypeSOA, dns.TypeHTTPS} {
		got := ask1(t, table, "example.org.", qtype, nil)
		rrs := append(got.Answer, got.Ns...)
		if soa := rrs[0].(*dns.SOA); soa.Minttl != 20 || soa.Serial != 7 {
			t.Errorf("%s: got SOA %v, want minimum 20", dns.TypeToString[qtype], soa)
		}
	}
}

func option[T dns.EDNS0](m *dns.Msg) (found T) {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if o, ok := o.(T); ok {
				found = o
			}
		}
	}
	return found
}

func TestExtendedErrors(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Options)
		ask    string
		rcode  int
		code   uint16
		text   string
	}{
		{"out of zone", nil, "example.com.", 5, 20, ""},
		{"fail open", nil, "open.example.org.", 0, 0, failOpenText},
		{"not ready", func(o *Options) { o.NotReady = true }, "shop.example.org.", 5, 14, ""},
		{"stale", func(o *Options) { o.Stale = true }, "shop.example.org.", 0, 3, ""},
		{"stale, no such name", func(o *Options) { o.Stale = true }, "nx.example.org.", 3, 19, ""},
		{"stale, fail open", func(o *Options) { o.Stale = true }, "open.example.org.", 0, 0, failOpenText},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			table := compiled(t, tc.change)
			got := ask1(t, table, tc.ask, dns.TypeA, nil)
			ede := option[*dns.EDNS0_EDE](got)
			if got.Rcode != tc.rcode || ede == nil || ede.InfoCode != tc.code || ede.ExtraText != tc.text {
				t.Errorf("got rcode %d, EDE %v, want %d, %d %q", got.Rcode, ede, tc.rcode, tc.code, tc.text)
			}
			bare := ask1(t, table, tc.ask, dns.TypeA, func(m *dns.Msg) { m.Extra = nil })
			if bare.IsEdns0() != nil {
				t.Error("a client without EDNS got an OPT")
			}
		})
	}
	if ede := option[*dns.EDNS0_EDE](ask1(t, compiled(t, nil), "shop.example.org.", dns.TypeA, nil)); ede != nil {
		t.Errorf("an ordinary answer has EDE %v", ede)
	}
}

func TestPlanAndChaos(t *testing.T) {
	chaos := func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }
	table := compiled(t, func(o *Options) { o.NotReady = true })
	got := ask1(t, table, "PLAN.divert.", dns.TypeTXT, chaos)
	if len(got.Answer) != 1 || strings.Join(got.Answer[0].(*dns.TXT).Txt, "") != "fleet=f epoch=1 revision=2 hash="+strings.Repeat("ab", 200) {
		t.Errorf("plan.divert.: got\n%v", got)
	}
	for _, name := range []string{"version.bind.", "id.server.", "hostname.bind.", "plan.divert.x.", "x.plan.divert.", "shop.example.org."} {
		if got := ask1(t, table, name, dns.TypeTXT, chaos); got.Rcode != dns.RcodeRefused || len(got.Answer) != 0 {
			t.Errorf("%s: got\n%v\nwant REFUSED", name, got)
		}
	}
	none := compiled(t, func(o *Options) { o.Plan = "" })
	if got := ask1(t, none, "plan.divert.", dns.TypeTXT, chaos); got.Rcode != dns.RcodeRefused {
		t.Errorf("without a plan: got\n%v\nwant REFUSED", got)
	}
}

func TestNSID(t *testing.T) {
	table := compiled(t, nil)
	with := ask1(t, table, "shop.example.org.", dns.TypeA, func(m *dns.Msg) {
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID})
	})
	if got := option[*dns.EDNS0_NSID](with); got == nil || got.Nsid != hex.EncodeToString([]byte("d1")) {
		t.Errorf("got NSID %v, want d1", got)
	}
	if got := option[*dns.EDNS0_NSID](ask1(t, table, "shop.example.org.", dns.TypeA, nil)); got != nil {
		t.Errorf("got NSID %v without asking", got)
	}
}

// Packets that get no proper answer: the class of rejection, and what is sent.
func TestRejects(t *testing.T) {
	table := compiled(t, nil)
	base := func(change func(*dns.Msg)) []byte {
		m := new(dns.Msg)
		m.SetQuestion("Shop.Example.org.", dns.TypeA)
		m.SetEdns0(1232, true)
		if change != nil {
			change(m)
		}
		return pack1(t, m)
	}
	edit := func(change func([]byte) []byte) []byte { return change(base(nil)) }
	subnetOption := func(data ...byte) []byte {
		return base(func(m *dns.Msg) {
			m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_LOCAL{Code: dns.EDNS0SUBNET, Data: data})
		})
	}
	const none = -1
	tests := []struct {
		name   string
		packet []byte
		reject Reject
		rcode  int // none: dropped
		opt    bool
	}{
		{"good", base(nil), RejectNone, 0, true},
		{"empty", nil, RejectShort, none, false},
		{"11 octets", base(nil)[:11], RejectShort, none, false},
		{"a response", edit(func(p []byte) []byte { p[2] |= 0x80; return p }), RejectResponse, none, false},
		{"a header alone", make([]byte, 12), RejectFormat, 1, false},
		{"no question, with OPT", base(func(m *dns.Msg) { m.Question = nil }), RejectFormat, 1, true},
		{"two questions", base(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), RejectFormat, 1, true},
		{"two questions, opcode STATUS", base(func(m *dns.Msg) {
			m.Opcode, m.Question = dns.OpcodeStatus, append(m.Question, m.Question[0])
		}), RejectOpcode, 4, true},
		{"more questions than octets", edit(func(p []byte) []byte { p[4], p[5] = 0xff, 0xff; return p }), RejectFormat, 1, false},
		{"question cut", base(nil)[:20], RejectFormat, 1, false},
		{"OPT cut", edit(func(p []byte) []byte { return p[:len(p)-1] }), RejectFormat, 1, false},
		{"octets behind", edit(func(p []byte) []byte { return append(p, 0) }), RejectFormat, 1, true},
		{"an answer in the query", base(func(m *dns.Msg) { m.Answer = []dns.RR{mustRR("a. A 192.0.2.1")} }), RejectFormat, 1, true},
		{"two OPTs", base(func(m *dns.Msg) { m.Extra = append(m.Extra, m.Extra[0]) }), RejectFormat, 1, true},
		{"OPT with a name", base(func(m *dns.Msg) { m.IsEdns0().Hdr.Name = "a." }), RejectFormat, 1, false},
		{"EDNS version 1", base(func(m *dns.Msg) { m.IsEdns0().SetVersion(1) }), RejectVersion, dns.RcodeBadVers, true},
		{"opcode NOTIFY", base(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }), RejectOpcode, 4, true},
		{"opcode before QDCOUNT", base(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate; m.Question = nil }), RejectOpcode, 4, true},
		{"opcode 15, cut", edit(func(p []byte) []byte { p[2] |= 15 << 3; return p[:14] }), RejectOpcode, 4, false},
		{"class HS", base(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassHESIOD }), RejectPolicy, 5, true},
		{"class ANY", base(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassANY }), RejectPolicy, 5, true},
		{"AXFR", base(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAXFR }), RejectTransfer, 5, true},
		{"IXFR", base(func(m *dns.Msg) {
			m.Question[0].Qtype = dns.TypeIXFR
			m.Ns = []dns.RR{mustRR("example.org. SOA a. b. 1 2 3 4 5")}
		}), RejectTransfer, 5, true},
		{"subnet: no data", subnetOption(), RejectFormat, 1, true},
		{"subnet: family 3", subnetOption(0, 3, 8, 0, 10), RejectFormat, 1, true},
		{"subnet: family 0 with a source", subnetOption(0, 0, 8, 0, 10), RejectFormat, 1, true},
		{"subnet: IPv4 mask 33", subnetOption(0, 1, 33, 0, 1, 2, 3, 4, 5), RejectFormat, 1, true},
		{"subnet: IPv6 mask 129", subnetOption(append([]byte{0, 2, 129, 0}, make([]byte, 17)...)...), RejectFormat, 1, true},
		{"subnet: too few octets", subnetOption(0, 1, 24, 0, 81, 2), RejectFormat, 1, true},
		{"subnet: too many octets", subnetOption(0, 1, 24, 0, 81, 2, 69, 0), RejectFormat, 1, true},
		{"subnet: bits past the mask", subnetOption(0, 1, 23, 0, 81, 2, 69), RejectFormat, 1, true},
		{"subnet: scope in a query", subnetOption(0, 1, 24, 24, 81, 2, 69), RejectFormat, 1, true},
		{"subnet: source 0, with an octet", subnetOption(0, 1, 0, 0, 0), RejectFormat, 1, true},
		{"subnet: good", subnetOption(0, 1, 24, 0, 81, 2, 69), RejectNone, 0, true},
		{"subnet: source 0", subnetOption(0, 2, 0, 0), RejectNone, 0, true},
		{"subnet: source and family 0", subnetOption(0, 0, 0, 0), RejectNone, 0, true},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			before := string(tc.packet)
			raw, tally := table.Reply(nil, tc.packet, testClient)
			if string(tc.packet) != before {
				t.Fatal("the query was written to")
			}
			if tally.Reject != tc.reject {
				t.Errorf("got rejection %s, want %s", tally.Reject, tc.reject)
			}
			if tc.rcode == none {
				if len(raw) != 0 {
					t.Errorf("got a reply %x, want none", raw)
				}
				return
			}
			var got dns.Msg
			if err := got.Unpack(raw); err != nil {
				t.Fatalf("unpacking the reply %x: %v", raw, err)
			}
			if got.Rcode != tc.rcode || int(tally.Rcode) != tc.rcode || !got.Response || got.Opcode != int(tc.packet[2]>>3&15) {
				t.Errorf("got\n%v\nwant rcode %d", &got, tc.rcode)
			}
			if (got.IsEdns0() != nil) != tc.opt {
				t.Errorf("OPT in the reply: got %v, want %t", got.IsEdns0(), tc.opt)
			}
			if len(got.Question) == 1 && got.Question[0].Name != "Shop.Example.org." {
				t.Errorf("got question %v: not as it was asked", got.Question[0])
			}
			// A rejection is made without allocating, like an answer (C4).
			buf := make([]byte, 0, maxUDP)
			if n := testing.AllocsPerRun(20, func() { table.Reply(buf, tc.packet, testClient) }); n != 0 {
				t.Errorf("it allocates %f times", n)
			}
		})
	}
}

// S14: a reply by UDP fits what the client takes, or is truncated.
func TestTruncation(t *testing.T) {
	table := compiled(t, nil)
	tests := []struct {
		size      int // 0: no EDNS
		name      string
		truncated bool
	}{
		{4096, "long.example.org.", true},
		{65535, "long.example.org.", true},
		{0, "shop.example.org.", false},
		{1, "shop.example.org.", false},
		{0, "long.example.org.", true},
	}
	for _, tc := range tests {
		got := ask1(t, table, tc.name, dns.TypeTXT, func(m *dns.Msg) {
			m.Extra = nil
			if tc.size > 0 {
				m.SetEdns0(uint16(tc.size), false)
			}
		})
		if got.Truncated != tc.truncated || (tc.truncated && len(got.Answer)+len(got.Ns) > 0) || (got.IsEdns0() != nil) != (tc.size > 0) {
			t.Errorf("%s, size %d: got\n%v\nwant truncated %t", tc.name, tc.size, got, tc.truncated)
		}
	}
}

// A reply is appended: what stands before it stays, and pointers count from it.
func TestReplyAppends(t *testing.T) {
	table := compiled(t, nil)
	m := new(dns.Msg)
	m.SetQuestion("x.old.example.org.", dns.TypeTXT)
	packet := pack1(t, m)
	alone, _ := table.Reply(nil, packet, testClient)
	behind, _ := table.Reply([]byte("before"), packet, testClient)
	if string(behind) != "before"+string(alone) {
		t.Errorf("got %x, want %x behind 6 octets", behind, alone)
	}
}

// STYLE 15: nothing is allocated for an answer, whatever kind it is.
func TestReplyAllocatesNothing(t *testing.T) {
	table := compiled(t, func(o *Options) { o.Geo = geo.Default() })
	for _, name := range []string{
		"shop.example.org.", "www.example.org.", "nx.example.org.", "x.wild.example.org.", "x.lab.example.org.", "x.old.example.org.",
		"long.example.org.", "example.com.", "loop1.example.org.", "open.example.org.",
	} {
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeA)
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_SUBNET{
			Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: []byte{81, 2, 69, 0},
		})
		packet, buf := pack1(t, m), make([]byte, 0, maxUDP)
		if n := testing.AllocsPerRun(50, func() { table.Reply(buf, packet, testClient) }); n != 0 {
			t.Errorf("%s allocates %f times", name, n)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	one := []Site{{Cluster: "fra", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}}
	steer := func(name string, a View) func(*Zone) {
		return func(z *Zone) { z.Steered = append(z.Steered, Steered{Name: name, TTL: 20, Answers: 1, A: a}) }
	}
	add := func(text string) func(*Zone) {
		return func(z *Zone) { z.Records = append(z.Records, mustRR(text)) }
	}
	tests := []struct {
		name   string
		change func(*Zone)
		want   string
	}{
		{"no SOA", func(z *Zone) { z.Records = z.Records[1:] }, "exactly one SOA"},
		{"two SOAs", add("example.org. SOA a. b. 1 2 3 4 5"), "exactly one SOA"},
		{"outside", add("example.com. A 192.0.2.1"), "not in the zone"},
		{"by string, not label", add("badexample.org. A 192.0.2.1"), "not in the zone"},
		{"CNAME and other data", add("www.example.org. A 192.0.2.1"), "CNAME and other data"},
		{"steered outside", steer("example.com.", View{Sets: []Set{{Sites: one}}}), "not in the zone"},
		{"steered twice", steer("shop.example.org.", View{}), "steered twice"},
		{"steered and static", steer("mail.example.org.", View{}), "static address"},
		{"steered below a cut", steer("x.lab.example.org.", View{}), "below a delegation"},
		{"steered at a cut", steer("lab.example.org.", View{}), "delegated"},
		{"place without a set", steer("y.example.org.", View{Sets: []Set{{Sites: one}}, ByPlace: []uint16{1}}), "set 1 of 1"},
		{"wrong family", steer("y.example.org.", View{Sets: []Set{{Sites: []Site{{Cluster: "a", Addrs: []netip.Addr{netip.IPv6Loopback()}}}}}}), "wrong family"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			zones := rulesZones()
			tc.change(&zones[0])
			if _, err := Compile(Options{Zones: zones}); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	if _, err := Compile(Options{Zones: append(rulesZones(), rulesZones()...)}); err == nil {
		t.Error("a zone that comes twice was accepted")
	}
}
