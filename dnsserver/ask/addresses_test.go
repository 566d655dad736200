package ask

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// records parses records in zone-file text.
func records(t testing.TB, lines ...string) []dns.RR {
	t.Helper()
	var out []dns.RR
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, rr)
	}
	return out
}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

const queried = "lb.example.net."

func TestRead(t *testing.T) {
	tests := []struct {
		name   string
		v6     bool
		rcode  int
		answer []string
		ns     []string
		bare   bool // neither RA nor AA
		want   Addresses
		fails  string
	}{
		{name: "ordered, each once", answer: []string{"lb.example.net. 60 A 192.0.2.9", "lb.example.net. 50 A 192.0.2.1", "LB.example.NET. 60 A 192.0.2.9"}, want: Addresses{addrs("192.0.2.1", "192.0.2.9"), 50 * time.Second}},
		{name: "IPv6", v6: true, answer: []string{"lb.example.net. 60 AAAA 2001:db8::1"}, want: Addresses{addrs("2001:db8::1"), time.Minute}},
		{name: "chain, in any order", answer: []string{"b.example.org. 30 A 192.0.2.1", "a.example.com. 20 CNAME b.example.org.", "lb.example.net. 40 CNAME A.example.com."}, want: Addresses{addrs("192.0.2.1"), 20 * time.Second}},
		{name: "nothing beside the chain (RFC 5452 section 6)", answer: []string{"lb.example.net. 40 CNAME a.example.com.", "a.example.com. 60 A 192.0.2.1", "b.example.com. 5 A 198.51.100.66", "lb.example.net. 60 AAAA 2001:db8::66", "lb.example.net. 60 CH A 198.51.100.66"}, want: Addresses{addrs("192.0.2.1"), 40 * time.Second}},
		{name: "addresses of an alias's owner do not count (RFC 1034 section 3.6.2)", answer: []string{"lb.example.net. 40 A 198.51.100.66", "lb.example.net. 40 CNAME a.example.com.", "a.example.com. 60 A 192.0.2.1"}, want: Addresses{addrs("192.0.2.1"), 40 * time.Second}},
		{name: "IPv4 in an AAAA record", v6: true, answer: []string{"lb.example.net. 60 AAAA ::ffff:192.0.2.1", "lb.example.net. 60 AAAA 2001:db8::1"}, want: Addresses{addrs("2001:db8::1"), time.Minute}},
		{name: "a TTL of the high bit is 0 (RFC 2181 section 8)", answer: []string{"lb.example.net. 4294967295 A 192.0.2.1"}, want: Addresses{addrs("192.0.2.1"), 0}},
		{name: "NODATA", ns: []string{"example.net. 60 SOA ns1.example.net. x.example.net. 1 2 3 4 5"}},
		{name: "NODATA without a SOA (RFC 2308 section 2.2)"},
		{name: "NODATA behind an alias", answer: []string{"lb.example.net. 40 CNAME a.example.com."}},
		{name: "NXDOMAIN", rcode: dns.RcodeNameError, fails: "NXDOMAIN"},
		{name: "NXDOMAIN behind an alias (RFC 2308 section 2.1)", rcode: dns.RcodeNameError, answer: []string{"lb.example.net. 40 CNAME a.example.com."}, fails: "NXDOMAIN"},
		{name: "SERVFAIL, whatever stands there", rcode: dns.RcodeServerFailure, answer: []string{"lb.example.net. 60 A 192.0.2.1"}, fails: "SERVFAIL"},
		{name: "loop of one", answer: []string{"lb.example.net. 40 CNAME lb.example.net."}, fails: "no end"},
		{name: "loop of two", answer: []string{"lb.example.net. 40 CNAME a.example.com.", "a.example.com. 40 CNAME lb.example.net."}, fails: "no end"},
		{name: "two aliases (RFC 2181 section 10.1)", answer: []string{"lb.example.net. 40 CNAME a.example.com.", "lb.example.net. 40 CNAME b.example.com."}, fails: "two aliases"},
		{name: "referral", ns: []string{"net. 60 NS a.gtld-servers.net."}, fails: "does not recurse"},
		{name: "lame", bare: true, fails: "does not recurse"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			q := dns.Question{Name: queried, Qtype: dns.TypeA, Qclass: dns.ClassINET}
			if tc.v6 {
				q.Qtype = dns.TypeAAAA
			}
			m := &dns.Msg{MsgHdr: dns.MsgHdr{Response: true, RecursionAvailable: !tc.bare, Rcode: tc.rcode}, Answer: records(t, tc.answer...), Ns: records(t, tc.ns...)}
			got, err := read(m, q)
			if tc.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fails) {
					t.Fatalf("got %+v, %v, want an error with %q", got, err, tc.fails)
				}
				return
			}
			if err != nil || !slices.Equal(got.Addrs, tc.want.Addrs) || got.TTL != tc.want.TTL {
				t.Errorf("got %+v, %v, want %+v", got, err, tc.want)
			}
		})
	}
}

// liar is a server whose every octet a test decides upon.
type liar struct {
	addr  string
	mu    sync.Mutex
	heard []*dns.Msg
	from  []string
	asker chan<- net.Addr // told who asks, if not nil
}

// newLiar answers each query, by UDP and TCP, with what say gives: any number of
// packets.
func newLiar(t *testing.T, say func(q *dns.Msg, tcp bool) [][]byte) *liar {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &liar{addr: conn.LocalAddr().String()}
	listener, err := net.Listen("tcp", l.addr)
	if err != nil {
		t.Skip("the port is another's by TCP")
	}
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { conn.Close(); listener.Close() })
	note := func(packet []byte, from net.Addr) *dns.Msg {
		q := new(dns.Msg)
		if q.Unpack(packet) != nil {
			return nil
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.heard, l.from = append(l.heard, q), append(l.from, from.String())
		if l.asker != nil {
			l.asker <- from
		}
		return q
	}
	wg.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if q := note(buf[:n], from); q != nil {
				for _, packet := range say(q, false) {
					conn.WriteTo(packet, from)
				}
			}
		}
	})
	wg.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				packet, err := frame(c)
				if err != nil {
					return
				}
				if q := note(packet, c.RemoteAddr()); q != nil {
					for _, packet := range say(q, true) {
						c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...))
					}
				}
			})
		}
	})
	return l
}

// seen gives the queries that came, and from where.
func (l *liar) seen() (queries []*dns.Msg, from []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.heard), slices.Clone(l.from)
}

func pack(t *testing.T, m *dns.Msg) []byte {
	t.Helper()
	out, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return out
}

func reply(t *testing.T, q *dns.Msg, answer ...string) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	m.Answer = records(t, answer...)
	return m
}

const (
	truth = "lb.example.net. 60 A 192.0.2.1"
	lie   = "lb.example.net. 60 A 198.51.100.66"
)

// TestLiesAreNotHeard: whatever comes before the answer and does not answer the
// question to the letter is passed over, and what is true counts (RFC 5452 section 9).
func TestLiesAreNotHeard(t *testing.T) {
	lies := map[string]func(q *dns.Msg) []byte{
		"wrong ID": func(q *dns.Msg) []byte { m := reply(t, q, lie); m.Id++; return pack(t, m) },
		"wrong name": func(q *dns.Msg) []byte {
			m := reply(t, q, lie)
			m.Question[0].Name = "other.example.net."
			return pack(t, m)
		},
		"wrong type": func(q *dns.Msg) []byte {
			m := reply(t, q, lie)
			m.Question[0].Qtype = dns.TypeAAAA
			return pack(t, m)
		},
		"wrong class": func(q *dns.Msg) []byte {
			m := reply(t, q, lie)
			m.Question[0].Qclass = dns.ClassCHAOS
			return pack(t, m)
		},
		"no question": func(q *dns.Msg) []byte { m := reply(t, q, lie); m.Question = nil; return pack(t, m) },
		"two questions": func(q *dns.Msg) []byte {
			m := reply(t, q, lie)
			m.Question = append(m.Question, m.Question[0])
			return pack(t, m)
		},
		"a query": func(q *dns.Msg) []byte { m := reply(t, q, lie); m.Response = false; return pack(t, m) },
		"another opcode": func(q *dns.Msg) []byte {
			m := reply(t, q, lie)
			m.Opcode = dns.OpcodeNotify
			return pack(t, m)
		},
		"nothing":       func(*dns.Msg) []byte { return nil },
		"one octet":     func(*dns.Msg) []byte { return []byte{1} },
		"a header only": func(q *dns.Msg) []byte { return pack(t, reply(t, q, lie))[:12] },
		"cut short": func(q *dns.Msg) []byte {
			b := pack(t, reply(t, q, lie))
			return b[:len(b)-2]
		},
		"garbage behind the ID": func(q *dns.Msg) []byte {
			b := slices.Repeat([]byte{0xff}, 512)
			binary.BigEndian.PutUint16(b, q.Id)
			b[2] = 0x80
			return b
		},
		"a name that points at itself (C2)": func(q *dns.Msg) []byte {
			b := pack(t, reply(t, q))
			binary.BigEndian.PutUint16(b[6:], 1)
			at := len(b)
			return append(b, 0xc0|byte(at>>8), byte(at), 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, 66)
		},
		"names that point at each other (C2)": func(q *dns.Msg) []byte {
			b := pack(t, reply(t, q))
			binary.BigEndian.PutUint16(b[6:], 1)
			at := len(b)
			return append(b, 0xc0, byte(at+2), 0xc0, byte(at), 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, 66)
		},
		"more records than octets": func(q *dns.Msg) []byte {
			b := pack(t, reply(t, q, lie))
			binary.BigEndian.PutUint16(b[6:], 65535)
			return b[:len(b)-4]
		},
		"more than was asked for": func(q *dns.Msg) []byte {
			m := reply(t, q)
			for i := range 200 {
				m.Answer = append(m.Answer, records(t, "lb.example.net. 60 A 198.51.100."+string(rune('0'+i%10)))...)
			}
			return pack(t, m)
		},
	}
	for name, make := range lies {
		t.Run(name, func(t *testing.T) {
			l := newLiar(t, func(q *dns.Msg, _ bool) [][]byte { return [][]byte{make(q), make(q), pack(t, reply(t, q, truth))} })
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			got, err := Resolve(ctx, l.addr, "lb.example.net", false)
			if err != nil || !slices.Equal(got.Addrs, addrs("192.0.2.1")) {
				t.Errorf("got %+v, %v, want what is true", got, err)
			}
		})
	}
}

// TestOnlyLies: a server that never answers the question is one that is silent.
func TestOnlyLies(t *testing.T) {
	l := newLiar(t, func(q *dns.Msg, _ bool) [][]byte { m := reply(t, q, lie); m.Id++; return [][]byte{pack(t, m)} })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if got, err := Resolve(ctx, l.addr, "lb.example.net", false); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %+v, %v, want a time-out", got, err)
	}
}

// TestStranger: a packet from elsewhere than the server is not heard, whatever it holds.
func TestStranger(t *testing.T) {
	stranger, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	asker := make(chan net.Addr, 1)
	l := newLiar(t, func(q *dns.Msg, _ bool) [][]byte {
		if to, err := net.ResolveUDPAddr("udp", (<-asker).String()); err == nil {
			stranger.WriteTo(pack(t, reply(t, q, lie)), to)
		}
		return [][]byte{pack(t, reply(t, q, truth))}
	})
	l.mu.Lock()
	l.asker = asker
	l.mu.Unlock()
	got, err := Resolve(t.Context(), l.addr, "lb.example.net", false)
	if err != nil || !slices.Equal(got.Addrs, addrs("192.0.2.1")) {
		t.Errorf("got %+v, %v, want what the server says", got, err)
	}
}

// TestTruncated: TC is followed over TCP, where what is huge is read (RFC 7766
// section 5).
func TestTruncated(t *testing.T) {
	l := newLiar(t, func(q *dns.Msg, tcp bool) [][]byte {
		m := reply(t, q, lie)
		if m.Truncated = !tcp; tcp {
			m.Answer = nil
			for i := range 2000 {
				m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: queried, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(10, 0, byte(i>>8), byte(i))})
			}
			m.Compress = true
		}
		return [][]byte{pack(t, m)}
	})
	got, err := Resolve(t.Context(), l.addr, "lb.example.net", false)
	if err != nil || len(got.Addrs) != 2000 || slices.Contains(got.Addrs, netip.MustParseAddr("198.51.100.66")) {
		t.Errorf("got %d addresses, %v, want the 2,000 that came by TCP", len(got.Addrs), err)
	}
	if heard, from := l.seen(); heard[0].Id == heard[1].Id && from[0] == from[1] {
		t.Error("the question over TCP has the ID of the one before")
	}
}

// TestQuestion: IDs and ports cannot be guessed (C7), nobody is told where we are (RFC
// 7871 section 7.1.2), and UDP replies need no fragments.
func TestQuestion(t *testing.T) {
	l := newLiar(t, func(q *dns.Msg, _ bool) [][]byte { return [][]byte{pack(t, reply(t, q, truth))} })
	ids, ports := map[uint16]bool{}, map[string]bool{}
	const n = 64
	for range n {
		if _, err := Resolve(t.Context(), l.addr, "lb.example.net", false); err != nil {
			t.Fatal(err)
		}
	}
	heard, from := l.seen()
	for i, q := range heard {
		ids[q.Id], ports[from[i]] = true, true
		opt := q.IsEdns0()
		if opt == nil || opt.UDPSize() != 1232 || !q.RecursionDesired || len(opt.Option) != 1 {
			t.Fatalf("got %v, want RD and EDNS with 1,232 octets and one option", q)
		}
		if s, ok := opt.Option[0].(*dns.EDNS0_SUBNET); !ok || s.Family != 1 || s.SourceNetmask != 0 || s.SourceScope != 0 {
			t.Fatalf("got %v, want client subnet with a source of 0", opt.Option)
		}
	}
	if len(ids) < n-4 || len(ports) < n/2 {
		t.Errorf("%d queries had %d IDs and %d source ports", n, len(ids), len(ports))
	}
}

// TestNoEDNS: a server that does not know EDNS is asked again without (RFC 6891
// section 7).
func TestNoEDNS(t *testing.T) {
	l := newLiar(t, func(q *dns.Msg, _ bool) [][]byte {
		if q.IsEdns0() != nil {
			m := new(dns.Msg).SetRcode(q, dns.RcodeFormatError)
			return [][]byte{pack(t, m)}
		}
		return [][]byte{pack(t, reply(t, q, truth))}
	})
	if got, err := Resolve(t.Context(), l.addr, "lb.example.net", false); err != nil || len(got.Addrs) != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
}

// FuzzAddresses: no packet crashes the reader, and all that it gives stands in the
// packet, at the end of a chain that begins with the name asked for.
func FuzzAddresses(f *testing.F) {
	query := &dns.Msg{MsgHdr: dns.MsgHdr{Id: 7}, Question: []dns.Question{{Name: queried, Qtype: dns.TypeA, Qclass: dns.ClassINET}}}
	for _, lines := range [][]string{{truth}, {"lb.example.net. 40 CNAME a.example.com.", "a.example.com. 60 A 192.0.2.1"}, {}} {
		m := new(dns.Msg).SetReply(query)
		m.RecursionAvailable = true
		m.Answer = records(f, lines...)
		for _, m.Compress = range []bool{false, true} {
			packet, err := m.Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(packet, false)
		}
	}
	f.Fuzz(func(t *testing.T, packet []byte, v6 bool) {
		query := query.Copy()
		if v6 {
			query.Question[0].Qtype = dns.TypeAAAA
		}
		m := answers(packet, query)
		if m == nil {
			return
		}
		got, err := read(m, query.Question[0])
		if err != nil {
			return
		}
		if got.TTL < 0 || got.TTL > maxTTL*time.Second || !slices.IsSortedFunc(got.Addrs, netip.Addr.Compare) {
			t.Errorf("got %+v", got)
		}
		reached := map[string]bool{strings.ToLower(queried): true}
		for range m.Answer {
			for _, rr := range m.Answer {
				if c, ok := rr.(*dns.CNAME); ok && reached[strings.ToLower(c.Hdr.Name)] {
					reached[strings.ToLower(c.Target)] = true
				}
			}
		}
		for _, a := range got.Addrs {
			found := false
			for _, rr := range m.Answer {
				found = found || addressOf(rr) == a && rr.Header().Rrtype == query.Question[0].Qtype && reached[strings.ToLower(rr.Header().Name)]
			}
			if !found || a.Is4() == v6 {
				t.Errorf("%v is not in the answer: %v", a, m)
			}
		}
	})
}
