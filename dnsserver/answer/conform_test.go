package answer

import (
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// RFC 8906 section 8: what other people's tests ask of every server, of the zone's
// SOA; one row for each of its sections.
func TestConformance(t *testing.T) {
	edns := func(change func(*dns.Msg, *dns.OPT)) func(*dns.Msg) {
		return func(m *dns.Msg) {
			m.SetEdns0(4096, false)
			if change != nil {
				change(m, m.IsEdns0())
			}
		}
	}
	unknown := &dns.EDNS0_LOCAL{Code: 100}
	tests := []struct {
		name   string
		ask    func(*dns.Msg)
		rcode  int
		answer bool // the SOA
		opt    bool
		check  func(*dns.Msg) bool // nil = nothing more
	}{
		{"8.1.1 plain", func(m *dns.Msg) { m.RecursionDesired = false }, 0, true, false, func(m *dns.Msg) bool { return !m.RecursionDesired }},
		{"8.1.2 unknown type", func(m *dns.Msg) { m.Question[0].Qtype = 1000 }, 0, false, false, func(m *dns.Msg) bool { return len(m.Ns) == 1 }},
		{"8.1.3.1 CD", func(m *dns.Msg) { m.CheckingDisabled = true }, 0, true, false, nil},
		{"8.1.3.2 AD", func(m *dns.Msg) { m.AuthenticatedData = true }, 0, true, false, nil},
		{"8.1.3.3 the reserved bit", func(m *dns.Msg) { m.Zero = true }, 0, true, false, nil},
		{"8.1.3.4 RD", func(m *dns.Msg) { m.RecursionDesired = true }, 0, true, false, func(m *dns.Msg) bool { return m.RecursionDesired }},
		{"8.1.4 unknown opcode, the header alone", func(m *dns.Msg) { m.Opcode, m.Question = 15, nil }, dns.RcodeNotImplemented, false, false, nil},
		{"8.2.1 EDNS", edns(nil), 0, true, true, nil},
		{"8.2.2 EDNS version 1", edns(func(_ *dns.Msg, o *dns.OPT) { o.SetVersion(1) }), dns.RcodeBadVers, false, true, nil},
		{"8.2.3 unknown option", edns(func(_ *dns.Msg, o *dns.OPT) { o.Option = append(o.Option, unknown) }), 0, true, true, nil},
		{"8.2.4 unknown flags", edns(func(_ *dns.Msg, o *dns.OPT) { o.Hdr.Ttl |= 0x40 }), 0, true, true, nil},
		{"8.2.5 EDNS version 1, unknown flags", edns(func(_ *dns.Msg, o *dns.OPT) { o.SetVersion(1); o.Hdr.Ttl |= 0x40 }), dns.RcodeBadVers, false, true, nil},
		{"8.2.6 EDNS version 1, unknown option", edns(func(_ *dns.Msg, o *dns.OPT) { o.SetVersion(1); o.Option = append(o.Option, unknown) }), dns.RcodeBadVers, false, true, nil},
		{
			"8.2.7 truncated", edns(func(m *dns.Msg, o *dns.OPT) {
				o.SetUDPSize(512)
				m.Question[0] = dns.Question{Name: "long.example.org.", Qtype: dns.TypeTXT, Qclass: 1}
			}),
			0, false, true, func(m *dns.Msg) bool { return m.Truncated },
		},
		{"8.2.8 DO", edns(func(_ *dns.Msg, o *dns.OPT) { o.SetDo() }), 0, true, true, func(m *dns.Msg) bool { return m.IsEdns0().Do() }}, // RFC 3225 section 3
		{"8.2.9 EDNS version 1, DO", edns(func(_ *dns.Msg, o *dns.OPT) { o.SetVersion(1); o.SetDo() }), dns.RcodeBadVers, false, true, nil},
		{"8.2.10 several options", edns(func(_ *dns.Msg, o *dns.OPT) {
			o.Option = append(o.Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID}, &dns.EDNS0_EXPIRE{Code: dns.EDNS0EXPIRE, Empty: true},
				&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"}, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, Address: []byte{0, 0, 0, 0}})
		}), 0, true, true, func(m *dns.Msg) bool { return option[*dns.EDNS0_SUBNET](m) != nil && option[*dns.EDNS0_NSID](m) != nil }},
	}
	table := compiled(t, nil)
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			m := new(dns.Msg)
			m.SetQuestion("example.org.", dns.TypeSOA)
			tc.ask(m)
			packet := pack1(t, m)
			for _, transport := range []Transport{UDP, TCP} { // 8.1.5
				client := testClient
				client.Transport = transport
				raw, _ := table.Reply(nil, packet, client)
				var got dns.Msg
				if err := got.Unpack(raw); err != nil {
					t.Fatal(err)
				}
				if tc.check != nil && strings.HasPrefix(tc.name, "8.2.7") && transport == TCP {
					if got.Truncated || len(got.Answer) != 1 {
						t.Errorf("by TCP: got\n%v\nwant it whole", &got)
					}
					continue
				}
				if got.Id != m.Id || !got.Response || got.Opcode != m.Opcode || got.Rcode != tc.rcode || got.Authoritative != (tc.rcode == 0) {
					t.Errorf("%s: got\n%v\nwant rcode %d, AA where it is 0", transport, &got, tc.rcode)
				}
				if got.RecursionAvailable || got.Zero || got.AuthenticatedData || got.CheckingDisabled { // RFC 4035 section 3.1.6
					t.Errorf("%s: got\n%v\nwant RA, Z, AD and CD clear", transport, &got)
				}
				if has(got.Answer, dns.TypeSOA) != tc.answer || (got.IsEdns0() != nil) != tc.opt || tc.check != nil && !tc.check(&got) {
					t.Errorf("%s: got\n%v", transport, &got)
				}
				if opt := got.IsEdns0(); opt != nil && (opt.Version() != 0 || opt.UDPSize() < 512 || opt.Hdr.Ttl&0x7fff != 0 || option[*dns.EDNS0_LOCAL](&got) != nil) {
					t.Errorf("%s: got OPT %v, want version 0, no unknown flag and no unknown option (RFC 6891 section 6.1.4)", transport, opt)
				}
			}
		})
	}
}

// C1 and S14: of all 65,536 types none changes whether a name exists (RFC 8020
// section 2), and what is not there is NODATA or a referral, never an error.
func TestEveryQueryType(t *testing.T) {
	table := compiled(t, func(o *Options) { o.Zones = serviceZone("web.example.org. 300 HTTPS 1 .") })
	tests := []struct {
		name  string
		rcode int
		aa    bool
		has   []uint16 // types with an answer; "0": all
	}{
		{"web.example.org.", 0, true, []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeANY}},
		{"shop.example.org.", 0, true, []uint16{dns.TypeA, dns.TypeTXT, dns.TypeANY}},
		{"example.org.", 0, true, []uint16{dns.TypeSOA, dns.TypeNS, dns.TypeMX, dns.TypeANY}},
		{"x.wild.example.org.", 0, true, []uint16{dns.TypeA, dns.TypeTXT, dns.TypeANY}},
		{"any.app.example.org.", 0, true, []uint16{dns.TypeA, dns.TypeANY}},
		{"b.c.example.org.", 0, true, nil},
		{"nx.example.org.", dns.RcodeNameError, true, nil},
		{"out.example.org.", 0, true, []uint16{0}},
		{"x.y.lab.example.org.", 0, false, nil},
		{"example.com.", dns.RcodeRefused, false, nil},
	}
	for _, tc := range tests {
		m := new(dns.Msg)
		m.SetQuestion(tc.name, dns.TypeA)
		m.SetEdns0(1232, false)
		packet := pack1(t, m)
		at := headerLen + len(tc.name) + 1
		for v := range 1 << 16 {
			qtype := uint16(v)
			put16(packet[at:], qtype)
			raw, tally := table.Reply(nil, packet, testClient)
			rcode, aa, answers := int(raw[3]&15), raw[2]&4 != 0, int(be16(raw[6:]))
			if qtype == dns.TypeAXFR || qtype == dns.TypeIXFR { // Transfer's
				if rcode != dns.RcodeRefused {
					t.Fatalf("%s %s: got rcode %d", tc.name, dns.Type(qtype), rcode)
				}
				continue
			}
			answered := false
			for _, h := range tc.has {
				answered = answered || h == 0 || h == qtype
			}
			if rcode != tc.rcode || int(tally.Rcode) != rcode || aa != tc.aa || (answers > 0) != answered {
				t.Fatalf("%s %s: got rcode %d, AA %t, %d answers, want %d, %t, %t", tc.name, dns.Type(qtype), rcode, aa, answers, tc.rcode, tc.aa, answered)
			}
			if authority := be16(raw[8:]); answers == 0 && rcode != dns.RcodeRefused && authority == 0 {
				t.Fatalf("%s %s: neither an answer nor an SOA nor a referral (RFC 2308 section 2)", tc.name, dns.Type(qtype))
			}
		}
	}
}

// Every opcode but QUERY is NOTIMP, whatever else the packet says, with an OPT to
// who sent one; QUERY wants one question (RFC 9619 section 4).
func TestEveryOpcode(t *testing.T) {
	table := compiled(t, nil)
	for opcode := range 16 {
		for questions := range 3 {
			for _, edns := range []bool{false, true} {
				m := new(dns.Msg)
				m.Id, m.Opcode = 7, opcode
				for range questions {
					m.Question = append(m.Question, dns.Question{Name: "shop.example.org.", Qtype: dns.TypeA, Qclass: dns.ClassINET})
				}
				if edns {
					m.SetEdns0(1232, false)
				}
				raw, _ := table.Reply(nil, pack1(t, m), testClient)
				var got dns.Msg
				if err := got.Unpack(raw); err != nil {
					t.Fatal(err)
				}
				want := dns.RcodeNotImplemented
				switch {
				case opcode == dns.OpcodeQuery && questions == 1:
					want = dns.RcodeSuccess
				case opcode == dns.OpcodeQuery:
					want = dns.RcodeFormatError
				}
				if got.Rcode != want || got.Opcode != opcode || got.Id != 7 || (got.IsEdns0() != nil) != edns {
					t.Errorf("opcode %d, %d questions, EDNS %t: got\n%v\nwant rcode %d", opcode, questions, edns, &got, want)
				}
			}
		}
	}
}

// Sections of RFCs that say what an authoritative server answers from its zones.
func TestAnswersByRFC(t *testing.T) {
	zones := serviceZone(`
		deleg.example.org. 300 NS ns.deleg.example.org.
		deleg.example.org. 300 NS ns.sibling.example.org.
		deleg.example.org. 300 NS ns.example.net.
		deleg.example.org. 300 DS 60485 13 2 D4B7D520E7BB5F0F67674A0CCEB1E3E0614B93C4F9E99B8383F6A1E4469DA50A
		ns.deleg.example.org. 300 A 198.51.100.11
		ns.deleg.example.org. 300 AAAA 2001:db8::11
		sibling.example.org. 300 NS ns.sibling.example.org.
		ns.sibling.example.org. 300 A 198.51.100.12
		*.star.example.org. 300 MX 10 mail.example.org.
		sub.star.example.org. 300 TXT "closer"
		host.deep.star.example.org. 300 TXT "deep"
		self.example.org. 300 CNAME Self.example.org.
		*.ring.example.org. 300 CNAME x.ring.example.org.
		up.example.org. 300 DNAME example.org.
		up2.example.org. 300 DNAME up.example.org.
		behind.example.org. 300 CNAME www.deleg.example.org.
		*.hosts.example.org. 300 A 192.0.2.77
		wildglue.example.org. 300 NS ns.hosts.example.org.
		tree.example.org. 300 DNAME star.example.org.
		tree.example.org. 300 TXT "beside a DNAME"
		child.example.org. 300 NS ns.child.example.org.
		ns.child.example.org. 300 A 198.51.100.13`)
	zones = append(zones, Zone{Origin: "child.example.org.", Records: []dns.RR{
		mustRR("child.example.org. 300 SOA ns.child.example.org. h.example.org. 1 2 3 4 60"), mustRR("child.example.org. 300 NS ns.child.example.org."),
		mustRR("ns.child.example.org. 300 A 198.51.100.13"), mustRR("www.child.example.org. 300 A 198.51.100.14"),
	}})
	referral := "| deleg.example.org. 300 NS ns.deleg.example.org.; deleg.example.org. 300 NS ns.sibling.example.org.; deleg.example.org. 300 NS ns.example.net. | " +
		"ns.deleg.example.org. 300 A 198.51.100.11; ns.deleg.example.org. 300 AAAA 2001:db8::11; ns.sibling.example.org. 300 A 198.51.100.12"
	soa := "| example.org. 20 SOA"
	tests := []struct {
		name, ask string
		qtype     uint16
		rcode     int
		want      string
	}{
		{"RFC 9471 section 2: glue at the cut, and sibling glue", "www.deleg", dns.TypeA, 0, referral},
		{"RFC 1034 section 4.2.1: the cut's own NS are a referral", "deleg", dns.TypeNS, 0, referral},
		{"RFC 1034 section 4.2.1: glue is no answer", "ns.deleg", dns.TypeA, 0, referral},
		{
			"RFC 4035 section 3.1.4.1: DS from above the cut", "deleg", dns.TypeDS, 0,
			"deleg.example.org. 300 DS 60485 13 2 D4B7D520E7BB5F0F67674A0CCEB1E3E0614B93C4F9E99B8383F6A1E4469DA50A",
		},
		{"RFC 4035 section 3.1.4.1: DS below the cut is the child's", "www.deleg", dns.TypeDS, 0, referral},
		{"RFC 4035 section 3.1.4.1: DS of a zone of ours, from above", "child", dns.TypeDS, 0, soa},
		{"RFC 1034 section 4.3.2 step 2: the nearest zone", "www.child", dns.TypeA, 0, "www.child.example.org. 300 A 198.51.100.14"},
		{"RFC 1034 section 4.3.2 step 2: its own denial", "nx.child", dns.TypeA, 3, "| child.example.org. 60 SOA"},
		{"RFC 4592 section 2.2.1: a wildcard's record, by the name asked", "any.star", dns.TypeMX, 0, "any.star.example.org. 300 MX 10 mail.example.org."},
		{"RFC 4592 section 2.2.1: several labels", "a.b.star", dns.TypeMX, 0, "a.b.star.example.org. 300 MX 10 mail.example.org."},
		{"RFC 4592 section 2.2.1: another type is NODATA", "any.star", dns.TypeA, 0, soa},
		{"RFC 4592 section 2.2.1: the wildcard itself", "*.star", dns.TypeMX, 0, "*.star.example.org. 300 MX 10 mail.example.org."},
		{"RFC 4592 section 2.2.1: a closer name stops it", "x.sub.star", dns.TypeMX, 3, soa},
		{"RFC 4592 section 2.2.2: an empty non-terminal stops it", "x.deep.star", dns.TypeMX, 3, soa},
		{"RFC 4592 section 2.2.2: an empty non-terminal exists", "deep.star", dns.TypeMX, 0, soa},
		{"RFC 4592 section 2.3: its owner is no wildcard's match", "x.*.star", dns.TypeMX, 3, soa},
		{"RFC 6672 section 2.3: a DNAME leaves its owner alone", "tree", dns.TypeTXT, 0, `tree.example.org. 300 TXT "beside a DNAME"`},
		{
			"RFC 6672 section 2.2: onto a wildcard", "x.tree", dns.TypeMX, 0,
			"tree.example.org. 300 DNAME star.example.org.; x.tree.example.org. 300 CNAME x.star.example.org.; x.star.example.org. 300 MX 10 mail.example.org.",
		},
		{
			"RFC 6672 section 3.2: asked for the CNAME", "x.tree", dns.TypeCNAME, 0,
			"tree.example.org. 300 DNAME star.example.org.; x.tree.example.org. 300 CNAME x.star.example.org.",
		},
		{"RFC 8482 section 4.2: ANY of a CNAME", "www", dns.TypeANY, 0, "www.example.org. 300 CNAME shop.example.org."},
		{"RFC 8482 section 4.2: ANY", "shop", dns.TypeANY, 0, `shop.example.org. 3600 HINFO "RFC8482" ""`},
		{"RFC 8482: ANY of what is not there", "nx", dns.TypeANY, 3, soa},
		{"RFC 8482: ANY of an empty non-terminal", "deep.star", dns.TypeANY, 0, soa},
		{"RFC 8482: ANY below a cut", "x.deleg", dns.TypeANY, 0, referral},
		{"RFC 2308 section 2.1: behind a CNAME the code is of the last name", "gone", dns.TypeA, 3, "gone.example.org. 300 CNAME nothing.example.org. " + soa},
		{"RFC 8020 section 2: below what is not there is nothing", "a.b.nx", dns.TypeA, 3, soa},
		{"RFC 3597 section 3: a type that nobody knows", "shop", 65280, 0, soa},
	}
	table := compiled(t, func(o *Options) { o.Zones = zones })
	for _, tc := range tests {
		for _, upper := range []bool{false, true} { // RFC 4343 section 3
			asked := tc.ask + ".example.org."
			if upper {
				asked = strings.ToUpper(asked)
			}
			got := ask1(t, table, asked, tc.qtype, nil)
			if len(got.Question) != 1 || got.Question[0].Name != asked {
				t.Errorf("%s: the question came back as %v", tc.name, got.Question)
			}
			want := tc.want
			brief := summary(got)
			if upper {
				brief, want = strings.ToLower(brief), strings.ToLower(want)
			}
			if got.Rcode != tc.rcode || brief != want {
				t.Errorf("%s: got rcode %d,\n%s\nwant %d,\n%s", tc.name, got.Rcode, brief, tc.rcode, want)
			}
		}
	}
}

// RFC 1034 section 3.6.2: a chain that does not end is followed as far as maxChase,
// and what there is of it is the answer; RFC 2181 section 5: nothing twice.
func TestEndlessChain(t *testing.T) {
	zones := rulesZones()
	zones[0].Records = append(zones[0].Records, mustRR("down.example.org. 300 IN DNAME a.down.example.org."))
	got := ask1(t, compiled(t, func(o *Options) { o.Zones = zones }), "x.down.example.org.", dns.TypeA, nil)
	dnames := 0
	for _, rr := range got.Answer {
		if rr.Header().Rrtype == dns.TypeDNAME {
			dnames++
		}
	}
	if got.Rcode != 0 || dnames != 1 || len(got.Answer) != 1+maxChase+1 || len(got.Ns) != 0 {
		t.Errorf("got\n%v\nwant the DNAME once and %d CNAMEs", got, maxChase+1)
	}
}

// RFC 2181 section 9: TC is for what must be there. Servers of a delegation behind an
// alias need not: who lacks them asks for the target.
func TestReferralBehindAliasIsLeftOut(t *testing.T) {
	zones := rulesZones()
	zones[0].Records = append(zones[0].Records, mustRR("many.example.org. 300 IN CNAME x.big.example.org."))
	for _, c := range "abcdefgh" {
		zones[0].Records = append(zones[0].Records, mustRR("big.example.org. 300 IN NS "+strings.Repeat(string(c), 60)+".example.net."))
	}
	table := compiled(t, func(o *Options) { o.Zones = zones })
	plain := func(m *dns.Msg) { m.Extra = nil }
	if got := ask1(t, table, "x.big.example.org.", dns.TypeA, plain); !got.Truncated {
		t.Errorf("a referral: got\n%v\nwant TC", got)
	}
	if got := ask1(t, table, "many.example.org.", dns.TypeA, plain); got.Truncated || len(got.Answer) != 1 || len(got.Ns) != 0 {
		t.Errorf("behind an alias: got\n%v\nwant the alias alone", got)
	}
	if got := ask1(t, table, "many.example.org.", dns.TypeA, nil); got.Truncated || len(got.Answer) != 1 || len(got.Ns) != 8 || !got.Authoritative {
		t.Errorf("where it fits: got\n%v\nwant the servers", got)
	}
}

// RFC 6672 section 2.2, the table of substitutions.
func TestDNAMETable(t *testing.T) {
	zoneWith := func(origin string, records ...string) Zone {
		z := Zone{Origin: origin, Records: []dns.RR{mustRR(origin + " 300 SOA ns.example.org. h.example.org. 1 2 3 4 5"), mustRR(origin + " 300 NS ns.example.org.")}}
		for _, r := range records {
			z.Records = append(z.Records, mustRR(r))
		}
		return z
	}
	tests := []struct {
		asked, owner, target string
		want                 []string // each CNAME's target; none = no match
	}{
		{"example.com.", "example.com.", "example.net.", nil},
		{"a.example.com.", "example.com.", "example.net.", []string{"a.example.net."}},
		{"a.b.example.com.", "example.com.", "example.net.", []string{"a.b.example.net."}},
		{"ab.example.com.", "b.example.com.", "example.net.", nil},
		{"foo.example.com.", "example.com.", "example.net.", []string{"foo.example.net."}},
		{"a.x.example.com.", "x.example.com.", "example.net.", []string{"a.example.net."}},
		{"a.example.com.", "example.com.", "y.example.net.", []string{"a.y.example.net."}},
		{"cyc.example.com.", "example.com.", "example.com.", []string{"cyc.example.com."}},
		{"shortloop.x.x.", "x.", ".", []string{"shortloop.x.", "shortloop."}},
		{"shortloop.x.", "x.", ".", []string{"shortloop."}},
	}
	for _, tc := range tests {
		origin := "example.com."
		if strings.HasSuffix(tc.owner, "x.") {
			origin = tc.owner
		}
		table := compiled(t, func(o *Options) { o.Zones = []Zone{zoneWith(origin, tc.owner+" 300 DNAME "+tc.target)} })
		got := ask1(t, table, tc.asked, dns.TypeA, nil)
		var targets []string
		for i, rr := range got.Answer {
			if c, ok := rr.(*dns.CNAME); ok {
				targets = append(targets, c.Target)
			} else if i > 0 || rr.Header().Rrtype != dns.TypeDNAME || rr.Header().Name != tc.owner {
				t.Errorf("%s: got %v", tc.asked, rr)
			}
		}
		if !slices.Equal(targets, tc.want) {
			t.Errorf("%s by %s to %s: got %v, want %v", tc.asked, tc.owner, tc.target, targets, tc.want)
		}
	}
}
