package conform

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// oddZone is what the odd queries are about.
var oddZone = zoneText{origin: "example.org.", text: `@ 3600 SOA ns1 hostmaster 7 3600 600 86400 300
@ 3600 NS ns1
ns1 300 A 192.0.2.53
ns1 300 AAAA 2001:db8::53
sub 300 NS ns.sub
ns.sub 300 A 192.0.2.54
long 300 TXT ` + strings.Repeat(`"`+strings.Repeat("x", 250)+`" `, 6) + "\n"}

// silence stands for no reply at all.
const silence = -1

// odd is a query as testers send it, and what a stranger must see.
type odd struct {
	name  string
	query func(m *dns.Msg)
	octet func(packet []byte) []byte // what no library packs; nil = nothing
	rcode int                        // extended; silence
	want  string                     // of "aa soa opt tc referral"; all others must not be
	check func(m *dns.Msg) bool      // nil = nothing more
}

func edns(change func(*dns.Msg, *dns.OPT)) func(*dns.Msg) {
	return func(m *dns.Msg) {
		m.SetEdns0(4096, false)
		if change != nil {
			change(m, m.IsEdns0())
		}
	}
}

func withOption(code uint16, data string) func(*dns.Msg) {
	return edns(func(_ *dns.Msg, o *dns.OPT) {
		o.Option = append(o.Option, &dns.EDNS0_LOCAL{Code: code, Data: []byte(data)})
	})
}

func version1(change func(*dns.OPT)) func(*dns.Msg) {
	return edns(func(_ *dns.Msg, o *dns.OPT) {
		o.SetVersion(1)
		if change != nil {
			change(o)
		}
	})
}

func ask(name string, qtype uint16) func(*dns.Msg) {
	return func(m *dns.Msg) { m.Question[0].Name, m.Question[0].Qtype = name, qtype }
}

func opcode(n int, questions bool) func(*dns.Msg) {
	return func(m *dns.Msg) {
		m.Opcode = n
		if !questions {
			m.Question = nil
		}
	}
}

func subnet(family, source, scope byte, address string) func(*dns.Msg) {
	return withOption(dns.EDNS0SUBNET, string([]byte{0, family, source, scope})+address)
}

func hasOption(code uint16, length int) func(*dns.Msg) bool {
	return func(m *dns.Msg) bool {
		for _, o := range m.IsEdns0().Option {
			if o.Option() != code {
				continue
			}
			if c, ok := o.(*dns.EDNS0_COOKIE); ok {
				return len(c.Cookie) == 2*length
			}
			return true
		}
		return false
	}
}

func noOptions(m *dns.Msg) bool { return len(m.IsEdns0().Option) == 0 }

const cookie = "\x01\x23\x45\x67\x89\xab\xcd\xef"

var oddities = []odd{
	// RFC 8906 section 8.1.
	{name: "8.1.1 plain", want: "aa soa"},
	{name: "8.1.2 unknown type", query: ask("example.org.", 1000), want: "aa", check: hasDenial},
	{name: "8.1.3.1 CD", query: func(m *dns.Msg) { m.CheckingDisabled = true }, want: "aa soa"},
	{name: "8.1.3.2 AD", query: func(m *dns.Msg) { m.AuthenticatedData = true }, want: "aa soa"},
	{name: "8.1.3.3 Z", query: func(m *dns.Msg) { m.Zero = true }, want: "aa soa"},
	{name: "8.1.3.4 RD", query: func(m *dns.Msg) { m.RecursionDesired = true }, want: "aa soa"},
	{name: "8.1.4 opcode 15, the header alone", query: opcode(15, false), rcode: dns.RcodeNotImplemented},
	// RFC 8906 section 8.2.
	{name: "8.2.1 EDNS", query: edns(nil), want: "aa soa opt", check: noOptions},
	{name: "8.2.2 EDNS version 1", query: version1(nil), rcode: dns.RcodeBadVers, want: "opt", check: noOptions},
	{name: "8.2.3 unknown option", query: withOption(100, ""), want: "aa soa opt", check: noOptions},
	{name: "8.2.4 unknown flags", query: edns(func(_ *dns.Msg, o *dns.OPT) { o.Hdr.Ttl |= 0x40 }), want: "aa soa opt"},
	{name: "8.2.4 all flags but DO", query: edns(func(_ *dns.Msg, o *dns.OPT) { o.Hdr.Ttl |= 0x7fff }), want: "aa soa opt"},
	{name: "8.2.5 version 1, unknown flags", query: version1(func(o *dns.OPT) { o.Hdr.Ttl |= 0x40 }), rcode: dns.RcodeBadVers, want: "opt"},
	{name: "8.2.6 version 1, unknown option", query: version1(func(o *dns.OPT) {
		o.Option = append(o.Option, &dns.EDNS0_LOCAL{Code: 100})
	}), rcode: dns.RcodeBadVers, want: "opt", check: noOptions},
	{name: "8.2.7 too long for 512", query: edns(func(m *dns.Msg, o *dns.OPT) { o.SetUDPSize(512); ask("long.example.org.", dns.TypeTXT)(m) }), want: "aa opt tc"},
	{name: "8.2.8 DO", query: edns(func(_ *dns.Msg, o *dns.OPT) { o.SetDo() }), want: "aa soa opt", check: func(m *dns.Msg) bool { return m.IsEdns0().Do() }},
	{name: "8.2.9 version 1, DO", query: version1(func(o *dns.OPT) { o.SetDo() }), rcode: dns.RcodeBadVers, want: "opt"},
	{name: "8.2.10 NSID, cookie, subnet, expire", query: edns(func(_ *dns.Msg, o *dns.OPT) {
		for _, l := range []dns.EDNS0_LOCAL{{Code: 3}, {Code: 10, Data: []byte(cookie)}, {Code: 8, Data: []byte("\x00\x01\x00\x00")}, {Code: 9}} {
			o.Option = append(o.Option, &l)
		}
	}), want: "aa soa opt", check: func(m *dns.Msg) bool { return hasOption(dns.EDNS0COOKIE, 24)(m) && hasOption(dns.EDNS0SUBNET, 0)(m) }},

	// What ISC's tester adds: every flag alone, every opcode, types that are or are not.
	{name: "TC in the query", query: func(m *dns.Msg) { m.Truncated = true }, want: "aa soa"},
	{name: "RA in the query", query: func(m *dns.Msg) { m.RecursionAvailable = true }, want: "aa soa"},
	{name: "AA in the query", query: func(m *dns.Msg) { m.Authoritative = true }, want: "aa soa"},
	{name: "all flags", query: func(m *dns.Msg) {
		m.Truncated, m.RecursionAvailable, m.Authoritative, m.Zero, m.AuthenticatedData, m.CheckingDisabled = true, true, true, true, true, true
	}, want: "aa soa"},
	{name: "an rcode in the query", query: func(m *dns.Msg) { m.Rcode = dns.RcodeRefused }, want: "aa soa"},
	{name: "opcode 1, IQUERY", query: opcode(1, true), rcode: dns.RcodeNotImplemented},
	{name: "opcode 2, STATUS", query: opcode(2, false), rcode: dns.RcodeNotImplemented},
	{name: "opcode 3", query: opcode(3, true), rcode: dns.RcodeNotImplemented},
	{name: "opcode 5, UPDATE", query: opcode(5, true), rcode: dns.RcodeNotImplemented},
	{name: "opcode 6, DSO", query: opcode(6, false), rcode: dns.RcodeNotImplemented},
	{name: "opcode 15 with EDNS", query: func(m *dns.Msg) { edns(nil)(m); opcode(15, true)(m) }, rcode: dns.RcodeNotImplemented, want: "opt"},
	{name: "opcode 15, all flags", query: func(m *dns.Msg) { opcode(15, false)(m); m.Authoritative, m.Truncated, m.Zero = true, true, true }, rcode: dns.RcodeNotImplemented},
	{name: "type 666", query: ask("example.org.", 666), want: "aa", check: hasDenial},
	{name: "type 666 of nothing", query: ask("nothing.example.org.", 666), rcode: dns.RcodeNameError, want: "aa", check: hasDenial},
	{name: "type 0", query: ask("example.org.", 0), want: "aa", check: hasDenial},
	{name: "type OPT", query: ask("example.org.", dns.TypeOPT), want: "aa", check: hasDenial},
	{name: "type RRSIG", query: ask("example.org.", dns.TypeRRSIG), want: "aa", check: hasDenial},
	{name: "type DNSKEY, EDNS at 512, DO", query: edns(func(m *dns.Msg, o *dns.OPT) {
		o.SetUDPSize(512)
		o.SetDo()
		ask("example.org.", dns.TypeDNSKEY)(m)
	}), want: "aa opt", check: hasDenial},
	{name: "size 0", query: edns(func(_ *dns.Msg, o *dns.OPT) { o.SetUDPSize(0) }), want: "aa soa opt"},
	{name: "DO with CD", query: func(m *dns.Msg) { m.SetEdns0(4096, true); m.CheckingDisabled = true }, want: "aa soa opt"},
	{name: "NSID", query: withOption(dns.EDNS0NSID, ""), want: "aa soa opt"},
	{name: "expire (RFC 7314)", query: withOption(dns.EDNS0EXPIRE, ""), want: "aa soa opt", check: noOptions},
	{name: "padding by UDP and TCP (RFC 7830)", query: withOption(dns.EDNS0PADDING, strings.Repeat("\x00", 40)), want: "aa soa opt", check: noOptions},
	{name: "key tags (RFC 8145)", query: withOption(14, "\x4a\x5c"), want: "aa soa opt", check: noOptions},
	{name: "an EDE in the query (RFC 8914)", query: withOption(dns.EDNS0EDE, "\x00\x00"), want: "aa soa opt", check: noOptions},
	{name: "an option of 1,000 octets", query: withOption(65001, strings.Repeat("x", 1000)), want: "aa soa opt", check: noOptions},

	// Cookies, RFC 7873 section 5.2.
	{name: "a client's cookie", query: withOption(dns.EDNS0COOKIE, cookie), want: "aa soa opt", check: hasOption(dns.EDNS0COOKIE, 24)},
	{name: "another server's cookie", query: withOption(dns.EDNS0COOKIE, cookie+strings.Repeat("\xff", 16)), want: "aa soa opt", check: hasOption(dns.EDNS0COOKIE, 24)},
	{name: "a cookie of 7 octets", query: withOption(dns.EDNS0COOKIE, cookie[:7]), rcode: dns.RcodeFormatError, want: "opt"},
	{name: "a cookie of 15 octets", query: withOption(dns.EDNS0COOKIE, cookie+cookie[:7]), rcode: dns.RcodeFormatError, want: "opt"},
	{name: "a cookie of 41 octets", query: withOption(dns.EDNS0COOKIE, strings.Repeat("c", 41)), rcode: dns.RcodeFormatError, want: "opt"},
	{
		name: "a cookie and no question (RFC 7873 section 5.4)", query: func(m *dns.Msg) { withOption(dns.EDNS0COOKIE, cookie)(m); m.Question = nil },
		want: "opt", check: hasOption(dns.EDNS0COOKIE, 24),
	},

	// Client subnets, RFC 7871 section 6 and 7.1.2.
	{name: "a subnet", query: subnet(1, 24, 0, "\xc0\x00\x02"), want: "aa soa opt", check: hasOption(dns.EDNS0SUBNET, 0)},
	{name: "a subnet of IPv6", query: subnet(2, 56, 0, "\x20\x01\x0d\xb8\x00\x00\x00"), want: "aa soa opt", check: hasOption(dns.EDNS0SUBNET, 0)},
	{name: "a subnet of none", query: subnet(1, 0, 0, ""), want: "aa soa opt", check: hasOption(dns.EDNS0SUBNET, 0)},
	{name: "a subnet with a scope", query: subnet(1, 24, 24, "\xc0\x00\x02"), rcode: dns.RcodeFormatError, want: "opt"},
	{name: "a subnet with bits beyond", query: subnet(1, 23, 0, "\xc0\x00\x03"), rcode: dns.RcodeFormatError, want: "opt"},
	{name: "a subnet too long", query: subnet(1, 24, 0, "\xc0\x00\x02\x00"), rcode: dns.RcodeFormatError, want: "opt"},
	{name: "a subnet of another family", query: subnet(3, 8, 0, "\x0a"), rcode: dns.RcodeFormatError, want: "opt"},

	// The question, RFC 9619 and RFC 1035 section 4.1.2.
	{name: "no question", query: func(m *dns.Msg) { m.Question = nil }, rcode: dns.RcodeFormatError},
	{name: "no question, EDNS", query: func(m *dns.Msg) { edns(nil)(m); m.Question = nil }, rcode: dns.RcodeFormatError, want: "opt"},
	{name: "two questions", query: func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, rcode: dns.RcodeFormatError},
	{name: "a question less than said", octet: func(p []byte) []byte { p[5] = 2; return p }, rcode: dns.RcodeFormatError},
	{name: "a question more than said", octet: func(p []byte) []byte { p[5] = 0; return p }, rcode: dns.RcodeFormatError},
	{name: "a question cut off", octet: func(p []byte) []byte { return p[:len(p)-1] }, rcode: dns.RcodeFormatError},
	{name: "octets behind", octet: func(p []byte) []byte { return append(p, 0) }, rcode: dns.RcodeFormatError},
	{name: "a name that points at itself", octet: func(p []byte) []byte { return append(p[:12], 0xc0, 12, 0, 6, 0, 1) }, rcode: dns.RcodeFormatError},
	{name: "an answer in the query", query: func(m *dns.Msg) {
		m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "a.", Rrtype: 1, Class: 1}, A: net.IP{192, 0, 2, 1}}}
	}, rcode: dns.RcodeFormatError},
	{name: "two OPTs", query: func(m *dns.Msg) { edns(nil)(m); m.Extra = append(m.Extra, m.Extra[0]) }, rcode: dns.RcodeFormatError, want: "opt"},
	{name: "class NONE", query: func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassNONE }, rcode: dns.RcodeRefused},
	{name: "class ANY", query: func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassANY }, rcode: dns.RcodeRefused},
	{name: "version.bind, not told", query: func(m *dns.Msg) { ask("version.bind.", dns.TypeTXT)(m); m.Question[0].Qclass = dns.ClassCHAOS }, rcode: dns.RcodeRefused},
	{name: "a response", query: func(m *dns.Msg) { m.Response = true }, rcode: silence},
	{name: "half a header", octet: func(p []byte) []byte { return p[:6] }, rcode: silence},

	// Zonemaster's nameserver tests and what DNSViz asks.
	{name: "nameserver01: no recursion", query: func(m *dns.Msg) { ask("www.example.com.", dns.TypeA)(m); m.RecursionDesired = true }, rcode: dns.RcodeRefused},
	{name: "nameserver03: no transfer", query: ask("example.org.", dns.TypeAXFR), rcode: dns.RcodeRefused},
	{name: "nameserver05: AAAA", query: ask("example.org.", dns.TypeAAAA), want: "aa", check: hasDenial},
	{name: "nameserver07: no upward referral", query: ask(".", dns.TypeNS), rcode: dns.RcodeRefused, check: func(m *dns.Msg) bool { return len(m.Ns) == 0 }},
	{name: "nameserver08: letter case is kept", query: ask("eXaMpLe.OrG.", dns.TypeSOA), want: "aa soa"},
	{name: "nameserver13: truncated with EDNS", query: edns(func(m *dns.Msg, o *dns.OPT) { o.SetUDPSize(1232); ask("long.example.org.", dns.TypeTXT)(m) }), want: "aa opt tc"},
	{name: "NS at the top", query: ask("example.org.", dns.TypeNS), want: "aa", check: func(m *dns.Msg) bool { return len(m.Answer) == 1 && len(m.Ns) == 0 }},
	{name: "SOA below the top", query: ask("ns1.example.org.", dns.TypeSOA), want: "aa", check: hasDenial},
	{name: "SOA of nothing", query: ask("nothing.example.org.", dns.TypeSOA), rcode: dns.RcodeNameError, want: "aa", check: hasDenial},
	{name: "a referral", query: ask("www.sub.example.org.", dns.TypeA), want: "referral"},
	{name: "DS at a cut", query: ask("sub.example.org.", dns.TypeDS), want: "aa", check: hasDenial},
	{name: "ANY", query: ask("example.org.", dns.TypeANY), want: "aa", check: func(m *dns.Msg) bool { return len(m.Answer) == 1 }},
}

// hasDenial tells whether the one SOA is in the authority section, for as long as its
// minimum (RFC 2308 section 5).
func hasDenial(m *dns.Msg) bool {
	if len(m.Answer) != 0 || len(m.Ns) != 1 {
		return false
	}
	soa, ok := m.Ns[0].(*dns.SOA)
	return ok && soa.Hdr.Ttl == min(3600, soa.Minttl)
}

// TestOddQueries asks a server by UDP and TCP what testers ask of all the world's.
func TestOddQueries(t *testing.T) {
	s, _ := divert(t, []zoneText{oddZone})
	for _, o := range oddities {
		for _, network := range []string{"udp", "tcp"} {
			t.Run(network+"/"+o.name, func(t *testing.T) {
				m := new(dns.Msg)
				m.SetQuestion(oddZone.origin, dns.TypeSOA)
				m.RecursionDesired = false
				if o.query != nil {
					o.query(m)
				}
				packet, err := m.Pack()
				if err != nil {
					t.Fatal(err)
				}
				if o.octet != nil {
					packet = o.octet(packet)
				}
				got := send(t, network, s.addr, packet)
				if problem := o.judge(m, packet, got, network); problem != "" {
					t.Errorf("%s; asked\n%s\ngot\n%v", problem, hex.EncodeToString(packet), got)
				}
			})
		}
	}
}

// send gives the reply to a packet, nil if there is none. Whether one comes is known
// by that to a second, good question, which is behind it in the same queue.
func send(t *testing.T, network, addr string, packet []byte) *dns.Msg {
	t.Helper()
	conn, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second)) // never fails
	last := new(dns.Msg)
	last.SetQuestion(oddZone.origin, dns.TypeNS)
	last.Id = binary.BigEndian.Uint16(packet) + 1
	good, err := last.Pack()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range [][]byte{packet, good} {
		if network == "tcp" {
			p = append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...)
		}
		if _, err := conn.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	var got *dns.Msg
	for {
		buf := make([]byte, 65535)
		n := 0
		if network == "tcp" {
			var head [2]byte
			if _, err = io.ReadFull(conn, head[:]); err == nil {
				n, err = io.ReadFull(conn, buf[:binary.BigEndian.Uint16(head[:])])
			}
		} else {
			n, err = conn.Read(buf)
		}
		switch {
		case network == "tcp" && err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return got // what is no query ends a connection
		case err != nil:
			t.Fatalf("a good question behind it: %v", err)
		}
		reply := new(dns.Msg)
		if err := reply.Unpack(buf[:n]); err != nil {
			t.Fatalf("unpacking %x: %v", buf[:n], err)
		}
		if reply.Id == last.Id {
			return got
		}
		got = reply
	}
}

// judge says what is wrong with a reply, "" for nothing.
func (o *odd) judge(m *dns.Msg, packet []byte, got *dns.Msg, network string) string {
	switch {
	case o.rcode == silence && got != nil:
		return "answered"
	case o.rcode == silence:
		return ""
	case got == nil:
		return "not answered"
	case got.Id != binary.BigEndian.Uint16(packet) || !got.Response || got.Opcode != m.Opcode || got.RecursionDesired != m.RecursionDesired:
		return "ID, opcode and RD are to be as asked, QR set"
	case got.RecursionAvailable || got.Zero || got.AuthenticatedData || got.CheckingDisabled:
		return "RA, Z, AD and CD are to be clear (RFC 4035 section 3.1.6)"
	case got.Rcode != o.rcode:
		return "want " + dns.RcodeToString[o.rcode]
	case len(got.Question) > 0 && len(m.Question) > 0 && got.Question[0] != m.Question[0]:
		return "the question is not as asked"
	}
	opt := got.IsEdns0()
	if opt != nil && (opt.Version() != 0 || opt.UDPSize() < 512 || opt.Hdr.Ttl&0x7fff != 0 || opt.Do() != m.IsEdns0().Do()) {
		return "the OPT is to have version 0, no unknown flag, and DO as asked (RFC 6891 section 6.1, RFC 3225)"
	}
	soa, referral := false, len(got.Answer) == 0 && len(got.Ns) > 0
	for _, rr := range got.Answer {
		soa = soa || rr.Header().Rrtype == dns.TypeSOA
	}
	for _, rr := range got.Ns {
		referral = referral && rr.Header().Rrtype == dns.TypeNS
	}
	truncated := network == "udp" && strings.Contains(o.want, "tc")
	for _, tell := range []struct {
		word string
		is   bool
		want bool
	}{
		{"aa", got.Authoritative, strings.Contains(o.want, "aa")},
		{"soa", soa, strings.Contains(o.want, "soa")},
		{"opt", opt != nil, strings.Contains(o.want, "opt")},
		{"tc", got.Truncated, truncated},
		{"referral", referral, strings.Contains(o.want, "referral")},
	} {
		if tell.is != tell.want {
			return "want it with " + o.want + ": not so is " + tell.word
		}
	}
	if o.check != nil && !o.check(got) {
		return "not what it should hold"
	}
	return ""
}
