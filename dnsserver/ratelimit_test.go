package dnsserver

import (
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/dnsserver/answer"
)

// C10: a network gets as many replies of a kind in a second as the limit says.
func TestRateLimit(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	r := newRateLimit(10, []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")})
	allowed := func(from string, c class, at time.Time) (n int) {
		for range 100 {
			if r.allow(netip.MustParseAddr(from), c, at) {
				n++
			}
		}
		return n
	}
	for _, tc := range []struct {
		name string
		from string
		c    class
		at   time.Time
		want int
	}{
		{"the limit", "192.0.2.1", classAnswer, now, 10},
		{"the same network", "192.0.2.200", classAnswer, now, 0},
		{"written as IPv6", "::ffff:192.0.2.7", classAnswer, now, 0},
		{"the same network, another kind", "192.0.2.1", className, now, 10},
		{"another network", "192.0.3.1", classAnswer, now, 10},
		{"the next second", "192.0.2.1", classAnswer, now.Add(time.Second), 10},
		{"IPv6", "2001:db8:0:ff00::1", classAnswer, now, 10},
		{"the same /56", "2001:db8:0:ff01::1", classAnswer, now, 0},
		{"another /56", "2001:db8:0:fe00::1", classAnswer, now, 10},
		{"exempt", "203.0.113.9", classAnswer, now, 100},
		{"loopback", "127.0.0.1", classAnswer, now, 100},
	} {
		if got := allowed(tc.from, tc.c, tc.at); got != tc.want {
			t.Errorf("%s: %d allowed, want %d", tc.name, got, tc.want)
		}
	}
	if r := newRateLimit(0, nil); !r.allow(netip.MustParseAddr("192.0.2.1"), classAnswer, now) {
		t.Error("no limit limits")
	}
}

// A flood from everywhere takes hardly anything from an honest network, and no
// memory.
func TestRateLimitUnderAFlood(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	r := newRateLimit(100, nil)
	for i := range uint32(500_000) {
		i *= 2654435761
		r.allow(netip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), 1}), classAnswer, now)
	}
	limited := 0
	for i := range 1000 {
		if !r.allow(netip.AddrFrom4([4]byte{198, 18, byte(i % 250), 7}), classAnswer, now) {
			limited++
		}
	}
	if limited > 10 {
		t.Errorf("%d of 1000 honest replies are limited", limited)
	}
}

func TestRateLimitAllocatesNothing(t *testing.T) {
	r := newRateLimit(10, []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")})
	from, now := netip.MustParseAddr("2001:db8::1"), time.Unix(1_800_000_000, 0)
	if n := testing.AllocsPerRun(100, func() { r.allow(from, classAnswer, now) }); n != 0 {
		t.Errorf("it allocates %f times", n)
	}
}

func TestClassOf(t *testing.T) {
	for _, tc := range []struct {
		tally answer.Tally
		want  class
	}{
		{answer.Tally{}, classAnswer},
		{answer.Tally{Rcode: dns.RcodeNameError}, className},
		{answer.Tally{Rcode: dns.RcodeRefused, Reject: answer.RejectZone}, classError},
		{answer.Tally{Rcode: dns.RcodeYXDomain}, classError},
	} {
		if got := classOf(tc.tally); got != tc.want {
			t.Errorf("classOf(%v) = %d, want %d", tc.tally, got, tc.want)
		}
	}
}

// What is limited is truncated, errors are dropped, and a valid cookie passes.
func TestLimitedReplies(t *testing.T) {
	d := newDesk(t, exampleTable(t, ""))
	d.server.rates = newRateLimit(1, nil)
	client := answer.Client{
		Addr: netip.MustParseAddrPort("192.0.2.1:4000"), Transport: answer.UDP, Now: time.Unix(1_800_000_000, 0), Cookies: *d.server.cookies.Load(),
	}
	table := d.server.inForce()
	query := func(name string) []byte {
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeA)
		m.SetEdns0(1232, false)
		packet, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return packet
	}
	limited := func(name string) (m *dns.Msg) {
		t.Helper()
		packet := query(name)
		reply, tally := table.Reply(nil, packet, client)
		raw := d.limit(d.batch, reply, packet, table, client, tally)
		if len(raw) == 0 {
			return nil
		}
		m = new(dns.Msg)
		if err := m.Unpack(raw); err != nil {
			t.Fatal(err)
		}
		return m
	}
	if m := limited("shop.example.org."); m == nil || m.Truncated || len(m.Answer) != 1 {
		t.Errorf("within the limit: got\n%v", m)
	}
	if m := limited("shop.example.org."); m == nil || !m.Truncated || len(m.Answer) != 0 || m.IsEdns0() == nil {
		t.Errorf("above the limit: got\n%v, want it truncated", m)
	}
	if m := limited("example.com."); m == nil || m.Rcode != dns.RcodeRefused {
		t.Errorf("another kind: got\n%v", m)
	}
	if m := limited("example.com."); m != nil {
		t.Errorf("an error above the limit: got\n%v", m)
	}
	if a, b := d.counts.limitedTruncated.Load(), d.counts.limitedDropped.Load(); a != 1 || b != 1 {
		t.Errorf("counted %d truncated and %d dropped", a, b)
	}
}

// Directors with one key derive the same secrets, and no two epochs the same.
func TestSecrets(t *testing.T) {
	at := time.Unix(20_000*int64(answer.CookieEpoch/time.Second), 0)
	one, err := secretsAt(at, []byte("a fleet's key"))
	if err != nil {
		t.Fatal(err)
	}
	two, err := secretsAt(at, []byte("a fleet's key"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := secretsAt(at, []byte("another's"))
	if err != nil {
		t.Fatal(err)
	}
	if len(one) != 2 || one[0].Epoch != 19_999 || one[1].Epoch != 20_000 || one[0].Key == one[1].Key {
		t.Errorf("got %v", one)
	}
	if one[0] != two[0] || one[0].Key == other[0].Key {
		t.Errorf("got %v, %v and %v", one, two, other)
	}
}

func TestPressure(t *testing.T) {
	var p pressure
	now := time.Unix(1_800_000_000, 0)
	for i := range pressedAfter - 1 {
		if p.note(true, now) {
			t.Fatalf("pressed after %d batches", i+1)
		}
	}
	if !p.note(true, now) || !p.note(false, now.Add(pressedFor/2)) || p.note(false, now.Add(pressedFor)) {
		t.Error("it is not pressed for a second")
	}
	if p.note(true, now.Add(time.Hour)) {
		t.Error("it counts batches that are not in a row")
	}
}
