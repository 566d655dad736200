package answer

import (
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func by(transport Transport, change func(*Client)) Client {
	c := Client{Addr: netip.MustParseAddrPort("192.0.2.7:4000"), Transport: transport, Idle: 12 * time.Second}
	if change != nil {
		change(&c)
	}
	return c
}

func replyTo(t *testing.T, table *Table, c Client, change func(*dns.Msg)) (*dns.Msg, []byte, Tally) {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion("shop.example.org.", dns.TypeA)
	m.SetEdns0(1232, false)
	change(m)
	raw, tally := table.Reply(nil, pack1(t, m), c)
	got := new(dns.Msg)
	if err := got.Unpack(raw); err != nil {
		t.Fatalf("unpacking %x: %v", raw, err)
	}
	return got, raw, tally
}

func add(options ...dns.EDNS0) func(*dns.Msg) {
	return func(m *dns.Msg) { m.IsEdns0().Option = append(m.IsEdns0().Option, options...) }
}

// RFC 7828 section 3: the option is answered where a query over a stream brings
// it, must be empty there (3.2.1), and is nothing by UDP (3.2.2).
func TestKeepalive(t *testing.T) {
	table := compiled(t, nil)
	empty := add(&dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE})
	full := add(&dns.EDNS0_LOCAL{Code: dns.EDNS0TCPKEEPALIVE, Data: []byte{0, 100}})
	tests := []struct {
		name   string
		client Client
		change func(*dns.Msg)
		rcode  int
		told   bool
	}{
		{"tcp", by(TCP, nil), empty, dns.RcodeSuccess, true},
		{"tls", by(TLS, nil), empty, dns.RcodeSuccess, true},
		{"udp", by(UDP, nil), empty, dns.RcodeSuccess, false},
		{"not asked for", by(TCP, nil), add(), dns.RcodeSuccess, false},
		{"tcp, not empty", by(TCP, nil), full, dns.RcodeFormatError, false},
		{"tls, not empty", by(TLS, nil), full, dns.RcodeFormatError, false},
		{"udp, not empty", by(UDP, nil), full, dns.RcodeSuccess, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, _, _ := replyTo(t, table, tc.client, tc.change)
			if got.Rcode != tc.rcode {
				t.Errorf("got rcode %d, want %d", got.Rcode, tc.rcode)
			}
			alive := option[*dns.EDNS0_TCP_KEEPALIVE](got)
			if (alive != nil) != tc.told || tc.told && alive.Timeout != 120 {
				t.Errorf("got %v, want it %t with 120", alive, tc.told)
			}
		})
	}
}

// RFC 7830 section 3 and 4, RFC 8467 section 4.1: replies are padded to 468 octets
// over TLS alone and only where the query is; the option is the last.
func TestPadding(t *testing.T) {
	table := compiled(t, nil)
	padded := add(&dns.EDNS0_PADDING{Padding: make([]byte, 7)}, &dns.EDNS0_NSID{Code: dns.EDNS0NSID})
	tests := []struct {
		name   string
		client Client
		change func(*dns.Msg)
		size   int // a multiple of it
	}{
		{"tls", by(TLS, nil), padded, 468},
		{"tls, a signature follows", by(TLS, func(c *Client) { c.Reserve = 100 }), padded, 468},
		{"tls, no such name", by(TLS, nil), func(m *dns.Msg) { m.Question[0].Name = "nx.example.org."; padded(m) }, 468},
		{"tls, more than a block", by(TLS, nil), func(m *dns.Msg) {
			m.Question[0] = dns.Question{Name: "long.example.org.", Qtype: dns.TypeTXT, Qclass: dns.ClassINET}
			padded(m)
		}, 468},
		{"tls, not asked for", by(TLS, nil), add(), 0},
		{"tcp", by(TCP, nil), padded, 0},
		{"udp", by(UDP, nil), padded, 0},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, raw, _ := replyTo(t, table, tc.client, tc.change)
			if tc.size == 0 {
				if p := option[*dns.EDNS0_PADDING](got); p != nil {
					t.Errorf("padded by %d octets", len(p.Padding))
				}
				return
			}
			options := got.IsEdns0().Option
			p, last := options[len(options)-1].(*dns.EDNS0_PADDING)
			if !last || (len(raw)+tc.client.Reserve)%tc.size != 0 {
				t.Fatalf("got %d octets, and %d reserved, padding last: %t", len(raw), tc.client.Reserve, last)
			}
			for _, octet := range p.Padding {
				if octet != 0 {
					t.Fatal("the padding is not of zeros")
				}
			}
		})
	}
}

// RFC 8945 section 5.1: a TSIG record is the last of all, and there is one; the
// caller learns where it begins.
func TestSignaturePlace(t *testing.T) {
	table := compiled(t, nil)
	tsig := func() dns.RR {
		return &dns.TSIG{
			Hdr: dns.RR_Header{Name: "k.", Rrtype: dns.TypeTSIG, Class: dns.ClassANY}, Algorithm: dns.HmacSHA256, MAC: "00", MACSize: 1,
		}
	}
	tests := []struct {
		name   string
		change func(*dns.Msg)
		reject Reject
		found  bool
	}{
		{"none", func(*dns.Msg) {}, RejectNone, false},
		{"last", func(m *dns.Msg) { m.Extra = append(m.Extra, tsig()) }, RejectNone, true},
		{"without EDNS", func(m *dns.Msg) { m.Extra = []dns.RR{tsig()} }, RejectNone, true},
		{"last, opcode NOTIFY", func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify; m.Extra = append(m.Extra, tsig()) }, RejectOpcode, true},
		{"last, AXFR", func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAXFR; m.Extra = append(m.Extra, tsig()) }, RejectTransfer, true},
		{"before OPT", func(m *dns.Msg) { m.Extra = []dns.RR{tsig(), m.Extra[0]} }, RejectFormat, false},
		{"two", func(m *dns.Msg) { m.Extra = append(m.Extra, tsig(), tsig()) }, RejectFormat, false},
		{"in the answers", func(m *dns.Msg) { m.Extra = nil; m.Answer = []dns.RR{tsig()} }, RejectFormat, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			var want int
			_, _, tally := replyTo(t, table, by(TCP, nil), func(m *dns.Msg) {
				tc.change(m)
				if tc.found {
					bare := m.Copy()
					bare.Extra = bare.Extra[:len(bare.Extra)-1]
					want = len(pack1(t, bare))
				}
			})
			if tally.Reject != tc.reject || tally.TSIG != want {
				t.Errorf("got %s, TSIG at %d; want %s, at %d", tally.Reject, tally.TSIG, tc.reject, want)
			}
		})
	}
}

// What the caller found wrong with a signature is what the reply says, and what
// it will add has room (RFC 8945 section 5.3).
func TestSignatureReply(t *testing.T) {
	table := compiled(t, nil)
	got, _, tally := replyTo(t, table, by(UDP, func(c *Client) { c.Rcode = dns.RcodeNotAuth }), func(*dns.Msg) {})
	if got.Rcode != dns.RcodeNotAuth || tally.Reject != RejectSignature || len(got.Answer) != 0 || got.IsEdns0() == nil {
		t.Errorf("got %s\n%v", tally.Reject, got)
	}
	long := func(m *dns.Msg) {
		m.Question[0] = dns.Question{Name: "www.example.org.", Qtype: dns.TypeTXT, Qclass: dns.ClassINET}
	}
	_, raw, _ := replyTo(t, table, by(UDP, nil), long)
	whole := len(raw)
	for _, reserve := range []int{maxUDP - whole, maxUDP - whole + 1} {
		got, raw, _ := replyTo(t, table, by(UDP, func(c *Client) { c.Reserve = reserve }), long)
		if fits := whole+reserve <= maxUDP; got.Truncated == fits || len(raw)+reserve > maxUDP {
			t.Errorf("%d octets and %d reserved: truncated %t", len(raw), reserve, got.Truncated)
		}
	}
}
