package dnsserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/dnsserver/internal/datagram"
	"github.com/divertdns/divert/dnsserver/zone"
)

func exampleTable(t testing.TB, plan string) *answer.Table {
	t.Helper()
	return compile(t, answer.Options{Plan: plan})
}

// compile adds the zone example.org to what o says.
func compile(t testing.TB, o answer.Options) *answer.Table {
	t.Helper()
	return compileText(t, o, "")
}

// compileText adds records to it, and gives it a serial.
func compileText(t testing.TB, o answer.Options, text string, serial ...uint32) *answer.Table {
	t.Helper()
	o.Zones = []answer.Zone{{Origin: "example.org.", Static: packed(t, text), Steered: []answer.Steered{{
		Name: "shop.example.org.", Service: "shop", TTL: 20, Answers: 1,
		A: answer.View{
			Sets: []answer.Set{{Sites: []answer.Site{{
				Cluster: "fra", Domain: "fra", Weight: 1, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.10")},
			}}}},
		},
	}}}}
	for _, n := range serial {
		o.Zones[0].Serial = n
	}
	table, err := answer.Compile(o)
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	return table
}

// packed is what is static in the zone, with some records more.
func packed(t testing.TB, text ...string) *answer.Static {
	t.Helper()
	parsed, problems := zone.Parse(zone.Source{
		Origin: "example.org", Nameservers: []string{"ns1.example.org"}, Hostmaster: "admin@example.org",
		Text: "ns1 A 192.0.2.53\nbig TXT " + strings.Repeat(`"`+strings.Repeat("x", 200)+`" `, 10) + "\n" + strings.Join(text, "\n"),
	})
	if zone.Failed(problems) {
		t.Fatalf("zone: %v", problems)
	}
	static, err := answer.Pack("example.org.", parsed.List)
	if err != nil {
		t.Fatal(err)
	}
	return static
}

// serve runs a server until the test ends.
func serve(t *testing.T, table *answer.Table, change func(*Options, *limits)) *Server {
	t.Helper()
	o := Options{Listen: []string{"127.0.0.1:0"}, Table: new(atomic.Pointer[answer.Table])}
	o.Table.Store(table)
	l := defaultLimits()
	if change != nil {
		change(&o, &l)
	}
	s, err := New(o)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	s.limits = l
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

func ask(t *testing.T, network, addr, name string, qtype uint16) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	reply, _, err := (&dns.Client{Net: network, Timeout: 10 * time.Second}).Exchange(m, addr)
	if err != nil {
		t.Fatalf("%s %s by %s: %v", name, dns.TypeToString[qtype], network, err)
	}
	return reply
}

func TestServe(t *testing.T) {
	s := serve(t, exampleTable(t, "fleet=a"), func(o *Options, _ *limits) { o.Listen = []string{"127.0.0.1:0", "[::1]:0"} })
	for _, addr := range s.Addrs() {
		for _, network := range []string{"udp", "tcp"} {
			reply := ask(t, network, addr.String(), "shop.example.org.", dns.TypeA)
			if len(reply.Answer) != 1 || reply.Answer[0].(*dns.A).A.String() != "192.0.2.10" {
				t.Errorf("%s by %s: got\n%v", addr, network, reply)
			}
		}
		if reply := ask(t, "udp", addr.String(), "big.example.org.", dns.TypeTXT); !reply.Truncated || len(reply.Answer) != 0 {
			t.Errorf("a long answer by UDP is not truncated:\n%v", reply)
		}
		if reply := ask(t, "tcp", addr.String(), "big.example.org.", dns.TypeTXT); reply.Truncated || len(reply.Answer) != 1 {
			t.Errorf("a long answer by TCP is not whole:\n%v", reply)
		}
	}
}

// A socket bound to all addresses answers from the one that was asked.
func TestAnswersFromTheAddressAsked(t *testing.T) {
	s := serve(t, exampleTable(t, ""), func(o *Options, _ *limits) { o.Listen = []string{"0.0.0.0:0", "[::]:0"} })
	v4, v6 := s.Addrs()[0].Port(), s.Addrs()[1].Port()
	for _, to := range []netip.AddrPort{
		netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), v4),
		netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), v4),
		netip.AddrPortFrom(netip.IPv6Loopback(), v6),
	} {
		// A connected socket hears that address alone.
		if reply := ask(t, "udp", to.String(), "shop.example.org.", dns.TypeA); len(reply.Answer) != 1 {
			t.Errorf("%s: got\n%v", to, reply)
		}
	}
}

func TestWitnessListensNowhere(t *testing.T) {
	s := serve(t, nil, func(o *Options, _ *limits) { o.Listen = []string{} })
	if got := s.Addrs(); len(got) != 0 {
		t.Errorf("Addrs() = %v, want none", got)
	}
}

func TestNotReadyWithoutATable(t *testing.T) {
	s := serve(t, nil, nil)
	if reply := ask(t, "udp", s.Addrs()[0].String(), "shop.example.org.", dns.TypeA); reply.Rcode != dns.RcodeRefused {
		t.Errorf("got rcode %d, want REFUSED", reply.Rcode)
	}
}

func TestNewExplains(t *testing.T) {
	taken := serve(t, exampleTable(t, ""), nil).Addrs()[0].String()
	tests := []struct{ listen, want string }{
		{taken, "taken by another program"},
		{"example.org:53", "write an IP address"},
		{"127.0.0.1", "write an IP address"},
		{"192.0.2.1:0", "does not have that address"},
	}
	for _, tc := range tests {
		_, err := New(Options{Listen: []string{"127.0.0.1:0", tc.listen}, Table: new(atomic.Pointer[answer.Table])})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("New(%s): got %v, want %q", tc.listen, err, tc.want)
		}
	}
}

// C1: a fault in answering costs one packet, not the server.
func TestPanicIsContained(t *testing.T) {
	table := new(atomic.Pointer[answer.Table])
	table.Store(new(answer.Table)) // not made by Compile: answering from it panics
	s := serve(t, nil, func(o *Options, _ *limits) { o.Table = table })
	m := new(dns.Msg)
	m.SetQuestion("shop.example.org.", dns.TypeA)
	conn, err := dns.Dial("udp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.WriteMsg(m); err != nil {
		t.Fatal(err)
	}
	for s.metrics.panics.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	table.Store(exampleTable(t, ""))
	if reply := ask(t, "udp", s.Addrs()[0].String(), "shop.example.org.", dns.TypeA); len(reply.Answer) != 1 {
		t.Errorf("after a panic: got\n%v", reply)
	}
}

func dialTCP(t *testing.T, s *Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func framed(t *testing.T, id uint16) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion("shop.example.org.", dns.TypeA)
	m.Id = id
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...)
}

func readFrame(t *testing.T, conn net.Conn) *dns.Msg {
	t.Helper()
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		t.Fatalf("reading: %v", err)
	}
	packet := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, packet); err != nil {
		t.Fatalf("reading: %v", err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(packet); err != nil {
		t.Fatalf("unpacking: %v", err)
	}
	return m
}

// closed waits for the server to end a connection.
func closed(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Fatal("got data, want the connection closed")
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("the connection was not closed")
	}
}

// Queries sent at once on one connection are answered in order.
func TestPipelining(t *testing.T) {
	s := serve(t, exampleTable(t, ""), nil)
	conn := dialTCP(t, s)
	var all []byte
	for id := range uint16(100) {
		all = append(all, framed(t, id)...)
	}
	if _, err := conn.Write(all); err != nil {
		t.Fatal(err)
	}
	for id := range uint16(100) {
		if got := readFrame(t, conn).Id; got != id {
			t.Fatalf("reply %d has ID %d", id, got)
		}
	}
}

// C3: every listener has caps and deadlines.
func TestStreamLimits(t *testing.T) {
	t.Run("idle", func(t *testing.T) {
		s := serve(t, exampleTable(t, ""), func(_ *Options, l *limits) { l.idle = 20 * time.Millisecond })
		closed(t, dialTCP(t, s))
	})
	t.Run("half a query", func(t *testing.T) {
		s := serve(t, exampleTable(t, ""), func(_ *Options, l *limits) { l.message = 20 * time.Millisecond })
		conn := dialTCP(t, s)
		if _, err := conn.Write(framed(t, 1)[:20]); err != nil {
			t.Fatal(err)
		}
		closed(t, conn)
	})
	t.Run("too long a query", func(t *testing.T) {
		s := serve(t, exampleTable(t, ""), nil)
		conn := dialTCP(t, s)
		if _, err := conn.Write([]byte{0xff, 0xff}); err != nil {
			t.Fatal(err)
		}
		closed(t, conn)
	})
	t.Run("per client", func(t *testing.T) {
		s := serve(t, exampleTable(t, ""), func(_ *Options, l *limits) { l.perClient = 2 })
		first, second := dialTCP(t, s), dialTCP(t, s)
		for _, conn := range []net.Conn{first, second} { // both are in
			if _, err := conn.Write(framed(t, 1)); err != nil {
				t.Fatal(err)
			}
			readFrame(t, conn)
		}
		closed(t, dialTCP(t, s))
	})
	t.Run("the longest idle goes", func(t *testing.T) {
		s := serve(t, exampleTable(t, ""), func(_ *Options, l *limits) { l.streams = 2 })
		first, second := dialTCP(t, s), dialTCP(t, s)
		// touch comes after the write: each event is waited for before the next.
		events := func(n uint64) {
			for {
				s.streams.mu.Lock()
				clock := s.streams.clock
				s.streams.mu.Unlock()
				if uint64(clock) >= n {
					return
				}
				time.Sleep(time.Millisecond)
			}
		}
		events(2) // both are in
		for i, conn := range []net.Conn{first, second, first} {
			if _, err := conn.Write(framed(t, 1)); err != nil {
				t.Fatal(err)
			}
			readFrame(t, conn)
			events(uint64(3 + i))
		}
		third := dialTCP(t, s)
		closed(t, second)
		for _, conn := range []net.Conn{first, third} {
			if _, err := conn.Write(framed(t, 2)); err != nil {
				t.Fatal(err)
			}
			readFrame(t, conn)
		}
	})
}

// A client that reads nothing does not hold up the end: the next process waits for
// the port.
func TestStopPastASlowReader(t *testing.T) {
	table := new(atomic.Pointer[answer.Table])
	table.Store(exampleTable(t, ""))
	s, err := New(Options{Listen: []string{"127.0.0.1:0"}, Table: table})
	if err != nil {
		t.Fatal(err)
	}
	s.limits.write, s.limits.last = time.Hour, time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	m := new(dns.Msg)
	m.SetQuestion("big.example.org.", dns.TypeTXT)
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	many := bytes.Repeat(append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...), 1000)
	conn := dialTCP(t, s)
	for err == nil { // until neither side can write
		if err = conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err == nil {
			_, err = conn.Write(many)
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	stop()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it does not stop")
	}
}

func TestBarredSources(t *testing.T) {
	for _, tc := range []struct {
		from string
		want bool
	}{
		{"192.0.2.1:0", true},
		{"192.0.2.1:7", true},
		{"[2001:db8::1]:19", true},
		{"224.0.0.1:5353", true},
		{"192.0.2.1:53", false},
		{"[2001:db8::1]:40000", false},
	} {
		if got := barred(netip.MustParseAddrPort(tc.from)); got != tc.want {
			t.Errorf("barred(%s) = %t, want %t", tc.from, got, tc.want)
		}
	}
}

// Counters go on over a swap of the table, and promise no unbounded label.
func TestMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	var table atomic.Pointer[answer.Table]
	table.Store(exampleTable(t, "one"))
	s := serve(t, nil, func(o *Options, _ *limits) { o.Table, o.Registerer = &table, registry })
	addr := s.Addrs()[0].String()
	ask(t, "udp", addr, "shop.example.org.", dns.TypeA)
	table.Store(exampleTable(t, "two"))
	ask(t, "tcp", addr, "shop.example.org.", dns.TypeA)
	ask(t, "udp", addr, "example.com.", dns.TypeA)
	ask(t, "udp", addr, "nx.example.org.", dns.TypeA)
	want := `
# HELP divert_dns_answers_total Replies, by the zone, service and cluster that were answered and the continent of the client.
# TYPE divert_dns_answers_total counter
divert_dns_answers_total{cluster="",continent="",service="",zone=""} 1
divert_dns_answers_total{cluster="",continent="",service="",zone="example.org."} 1
divert_dns_answers_total{cluster="fra",continent="",service="shop",zone="example.org."} 2
# HELP divert_dns_rejects_total Packets that got no proper answer, by transport and reason.
# TYPE divert_dns_rejects_total counter
divert_dns_rejects_total{reason="zone",transport="udp"} 1
# HELP divert_dns_replies_total Replies, by transport and response code.
# TYPE divert_dns_replies_total counter
divert_dns_replies_total{rcode="NOERROR",transport="tcp"} 1
divert_dns_replies_total{rcode="NOERROR",transport="udp"} 1
divert_dns_replies_total{rcode="NXDOMAIN",transport="udp"} 1
divert_dns_replies_total{rcode="REFUSED",transport="udp"} 1
`
	names := []string{"divert_dns_answers_total", "divert_dns_rejects_total", "divert_dns_replies_total"}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}

// What each site is handed out is counted by family, whatever the transport, and goes on
// over a swap of the table (SEMANTICS section 2, Capacity).
func TestAnswered(t *testing.T) {
	var table atomic.Pointer[answer.Table]
	both := func(plan string) *answer.Table {
		v6 := answer.View{Sets: []answer.Set{{Sites: []answer.Site{{Cluster: "ams", Addrs: []netip.Addr{netip.MustParseAddr("2001:db8::10")}}}}}}
		v4 := answer.View{Sets: []answer.Set{{Sites: []answer.Site{{Cluster: "fra", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.10")}}}}}}
		made, err := answer.Compile(answer.Options{Plan: plan, Zones: []answer.Zone{{
			Origin: "example.org.", Static: packed(t), Steered: []answer.Steered{{Name: "shop.example.org.", Service: "shop", TTL: 20, Answers: 1, A: v4, AAAA: v6}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	table.Store(both("one"))
	s := serve(t, nil, func(o *Options, _ *limits) { o.Table = &table })
	addr := s.Addrs()[0].String()
	ask(t, "udp", addr, "shop.example.org.", dns.TypeA)
	ask(t, "udp", addr, "shop.example.org.", dns.TypeAAAA)
	table.Store(both("two"))
	ask(t, "tcp", addr, "shop.example.org.", dns.TypeA)
	ask(t, "tcp", addr, "shop.example.org.", dns.TypeAAAA)
	ask(t, "udp", addr, "shop.example.org.", dns.TypeA)
	ask(t, "udp", addr, "nx.example.org.", dns.TypeA)
	got := s.Answered()
	fra, ams := got[Site{Service: "shop", Cluster: "fra"}], got[Site{Service: "shop", Cluster: "ams"}]
	if len(got) != 2 || fra != [answer.Families]uint64{3, 0} || ams != [answer.Families]uint64{0, 2} {
		t.Errorf("got %v, want fra 3 of IPv4 and ams 2 of IPv6", got)
	}
}

// STYLE 15: the packet path allocates nothing, metrics and recover included.
func TestPacketPathAllocatesNothing(t *testing.T) {
	s := serve(t, exampleTable(t, ""), func(o *Options, _ *limits) { o.Listen = []string{} })
	packet, out := framed(t, 1)[2:], make([]byte, 0, datagram.MaxReply)
	client := answer.Client{Addr: netip.MustParseAddrPort("192.0.2.1:4000"), Transport: answer.UDP}
	if n := testing.AllocsPerRun(100, func() { s.reply(out, packet, client) }); n != 0 {
		t.Errorf("a packet allocates %f times", n)
	}
}

// BenchmarkPacket is what a query of a steered name takes without the sockets, counted as a
// worker counts it.
func BenchmarkPacket(b *testing.B) {
	table := exampleTable(b, "")
	m := newMetrics()
	own := m.shard()
	q := new(dns.Msg)
	q.SetQuestion("shop.example.org.", dns.TypeA)
	packet, err := q.Pack()
	if err != nil {
		b.Fatal(err)
	}
	out, client := make([]byte, 0, datagram.MaxReply), answer.Client{Addr: netip.MustParseAddrPort("192.0.2.1:4000"), Transport: answer.UDP}
	b.ReportAllocs()
	for b.Loop() {
		_, tally := table.ReplyTo(&client, out, packet)
		own.count(own.of(table), tally)
	}
}
