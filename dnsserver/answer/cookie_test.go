package answer

import (
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func fromHex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func secretsAt(t testing.TB, now time.Time, key string) CookieSecrets {
	t.Helper()
	var out CookieSecrets
	for _, epoch := range CookieEpochs(now) {
		out = append(out, CookieSecret{Epoch: epoch, Key: [16]byte(fromHex(t, key))})
	}
	return out
}

// The examples of RFC 9018, appendix A.
func TestCookieVectors(t *testing.T) {
	for _, tc := range []struct {
		name, client, sent string
		now                int64
		secret             string // that made what was sent
		renewed            string // that makes the reply
		want               string
		state              CookieState
	}{
		{
			"A.1 learning", "198.51.100.100", "2464c4abcf10c957", 1559731985,
			"e5e973e5a6b2a43f48e7dc849e37bfcf", "e5e973e5a6b2a43f48e7dc849e37bfcf",
			"2464c4abcf10c957010000005cf79f111f8130c3eee29480", CookieNew,
		},
		{
			"A.2 renewing", "198.51.100.100", "2464c4abcf10c957010000005cf79f111f8130c3eee29480", 1559734385,
			"e5e973e5a6b2a43f48e7dc849e37bfcf", "e5e973e5a6b2a43f48e7dc849e37bfcf",
			"2464c4abcf10c957010000005cf7a871d4a564a1442aca77", CookieValid,
		},
		{
			"A.3 reserved octets", "203.0.113.203", "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", 1559727985,
			"e5e973e5a6b2a43f48e7dc849e37bfcf", "e5e973e5a6b2a43f48e7dc849e37bfcf",
			"fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", CookieValid,
		},
		{
			"A.4 of an older secret", "2001:db8:220:1:59de:d0f4:8769:82b8", "22681ab97d52c298010000005cf7c57926556bd0934c72f8", 1559741961,
			"dd3bdf9344b678b185a6f5cb60fca715", "445536bcd2513298075a5d379663c962",
			"22681ab97d52c298010000005cf7c609a6bb79d16625507a", CookieValid,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			now, from := time.Unix(tc.now, 0), netip.MustParseAddr(tc.client)
			var c cookie
			if !c.parse(fromHex(t, tc.sent)) {
				t.Fatal("it is not parsed")
			}
			c.judge(secretsAt(t, now, tc.secret), from, now)
			if c.state != tc.state {
				t.Errorf("got state %d, want %d", c.state, tc.state)
			}
			c.renew = c.renew || tc.secret != tc.renewed
			w := writer{}
			c.write(&w, secretsAt(t, now, tc.renewed), from, now)
			if got := hex.EncodeToString(w.msg); got != "000a0018"+tc.want {
				t.Errorf("got %s, want %s", got[8:], tc.want)
			}
		})
	}
}

const cookieKey = "e5e973e5a6b2a43f48e7dc849e37bfcf"

func cookieQuery(t testing.TB, cookie string) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion("shop.example.org.", dns.TypeA)
	m.SetEdns0(1232, false)
	if cookie != "" {
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: cookie})
	}
	return pack1(t, m)
}

func cookieOf(t testing.TB, table *Table, packet []byte, c Client) (cookie string, rcode int, tally Tally) {
	t.Helper()
	raw, tally := table.Reply(nil, packet, c)
	var m dns.Msg
	if err := m.Unpack(raw); err != nil {
		t.Fatal(err)
	}
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if c, ok := o.(*dns.EDNS0_COOKIE); ok {
				cookie = c.Cookie
			}
		}
	}
	return cookie, m.Rcode, tally
}

func TestCookies(t *testing.T) {
	table := compiled(t, nil)
	now := time.Unix(1_800_000_000, 0)
	ask := testClient
	ask.Now, ask.Cookies = now, secretsAt(t, now, cookieKey)
	const own = "0123456789abcdef"
	fresh, rcode, tally := cookieOf(t, table, cookieQuery(t, own), ask)
	if len(fresh) != 48 || fresh[:16] != own || rcode != 0 || tally.Cookie != CookieNew {
		t.Fatalf("a first cookie: got %s, rcode %d, state %d", fresh, rcode, tally.Cookie)
	}
	later := func(d time.Duration) Client {
		c := ask
		c.Now = now.Add(d)
		c.Cookies = secretsAt(t, c.Now, cookieKey)
		return c
	}
	other := ask
	other.Addr = netip.MustParseAddrPort("192.0.2.77:4000")
	stranger := ask
	stranger.Cookies = secretsAt(t, now, "00000000000000000000000000000000")
	none := ask
	none.Cookies = nil
	pressed := func(c Client) Client { c.Pressure = true; return c }
	stream := pressed(ask)
	stream.Transport = TCP
	flipped := fresh[:47] + string("0123456789abcdef"[(fresh[47]+1)%16])
	for _, tc := range []struct {
		name   string
		cookie string
		client Client
		rcode  int
		state  CookieState
		same   bool // it comes back as it was sent
		absent bool
	}{
		{"valid", fresh, ask, 0, CookieValid, true, false},
		{"valid, under pressure", fresh, pressed(ask), 0, CookieValid, true, false},
		{"valid for another address only", fresh, other, 0, CookieBad, false, false},
		{"of a stranger's secret", fresh, stranger, 0, CookieBad, false, false},
		{"a bit is wrong", flipped, ask, 0, CookieBad, false, false},
		{"a bit is wrong, under pressure", flipped, pressed(ask), dns.RcodeBadCookie, CookieBad, false, false},
		{"a client's alone, under pressure", own, pressed(ask), dns.RcodeBadCookie, CookieNew, false, false},
		{"a client's alone, under pressure, by TCP", own, stream, 0, CookieNew, false, false},
		{"half an hour old", fresh, later(30 * time.Minute), 0, CookieValid, true, false},
		{"over half an hour old", fresh, later(31 * time.Minute), 0, CookieValid, false, false},
		{"an hour old", fresh, later(time.Hour), 0, CookieValid, false, false},
		{"over an hour old", fresh, later(time.Hour + time.Second), 0, CookieBad, false, false},
		{"of a clock ahead", fresh, later(-5 * time.Minute), 0, CookieValid, true, false},
		{"of a clock too far ahead", fresh, later(-6 * time.Minute), 0, CookieBad, false, false},
		{"another server's, 8 octets", own + "0102030405060708", ask, 0, CookieBad, false, false},
		{"another server's, 32 octets", own + fresh[16:] + fresh[16:], ask, 0, CookieBad, false, false},
		{"no cookies here", fresh, none, 0, CookieNone, false, true},
		{"no cookies here, under pressure", fresh, pressed(none), 0, CookieNone, false, true},
		{"too short", own[:14], ask, dns.RcodeFormatError, CookieNone, false, true},
		{"a server's part too short", own + "01", ask, dns.RcodeFormatError, CookieNone, false, true},
		{"too long", own + fresh[16:] + fresh[16:] + "00", ask, dns.RcodeFormatError, CookieNone, false, true},
		{"none, under pressure", "", pressed(ask), 0, CookieNone, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			packet := cookieQuery(t, tc.cookie)
			got, rcode, tally := cookieOf(t, table, packet, tc.client)
			if rcode != tc.rcode || tally.Cookie != tc.state || (got == "") != tc.absent || (got == tc.cookie) != (tc.same || tc.cookie == "") {
				t.Errorf("got %q, rcode %d, state %d", got, rcode, tally.Cookie)
			}
			if !tc.absent && got[:16] != own {
				t.Errorf("the client's part came back as %s", got[:16])
			}
			buf := make([]byte, 0, maxUDP)
			if n := testing.AllocsPerRun(20, func() { table.Reply(buf, packet, tc.client) }); n != 0 {
				t.Errorf("it allocates %f times", n)
			}
		})
	}
}

// The secret of a cookie is that of its own time, so no roll-over is seen.
func TestCookieOverRollover(t *testing.T) {
	table := compiled(t, nil)
	edge := time.Unix(20_000*int64(CookieEpoch/time.Second), 0)
	keys := map[int64]byte{19_999: 1, 20_000: 2}
	at := func(now time.Time) Client {
		c := testClient
		c.Now = now
		for _, epoch := range CookieEpochs(now) {
			c.Cookies = append(c.Cookies, CookieSecret{Epoch: epoch, Key: [16]byte{keys[epoch]}})
		}
		return c
	}
	sent, _, _ := cookieOf(t, table, cookieQuery(t, "0123456789abcdef"), at(edge.Add(-time.Second)))
	for _, d := range []time.Duration{-time.Second, 0, time.Minute, 58 * time.Minute} {
		if _, _, tally := cookieOf(t, table, cookieQuery(t, sent), at(edge.Add(d))); tally.Cookie != CookieValid {
			t.Errorf("%s after the roll-over: state %d", d, tally.Cookie)
		}
	}
	// A director whose clock is behind takes what one ahead of it made.
	sent, _, _ = cookieOf(t, table, cookieQuery(t, "0123456789abcdef"), at(edge.Add(time.Second)))
	if _, _, tally := cookieOf(t, table, cookieQuery(t, sent), at(edge.Add(-time.Minute))); tally.Cookie != CookieValid {
		t.Errorf("made ahead of us: state %d", tally.Cookie)
	}
}

// RFC 7873 section 5.4: a query without a question, with a cookie, asks for a
// cookie; without one it is malformed.
func TestCookieWithoutAQuestion(t *testing.T) {
	table := compiled(t, nil)
	ask := testClient
	ask.Now = time.Unix(1_800_000_000, 0)
	ask.Cookies = secretsAt(t, ask.Now, cookieKey)
	none := ask
	none.Cookies = nil
	for _, tc := range []struct {
		name   string
		cookie string
		client Client
		rcode  int
	}{
		{"with a cookie", "0123456789abcdef", ask, dns.RcodeSuccess},
		{"without", "", ask, dns.RcodeFormatError},
		{"no cookies here", "0123456789abcdef", none, dns.RcodeFormatError},
	} {
		m := new(dns.Msg)
		m.SetEdns0(1232, false)
		if tc.cookie != "" {
			m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: tc.cookie})
		}
		got, rcode, _ := cookieOf(t, table, pack1(t, m), tc.client)
		if rcode != tc.rcode || (len(got) == 48) != (rcode == dns.RcodeSuccess) {
			t.Errorf("%s: got %q, rcode %d", tc.name, got, rcode)
		}
	}
}

// While a key is turned over, cookies of the one before are good, and come back made from
// the one in use; no cookie is refused under pressure for it.
func TestCookieKeysTurnedOver(t *testing.T) {
	const next = "445536bcd2513298075a5d379663c962"
	table := compiled(t, nil)
	now := time.Unix(1_800_000_000, 0)
	of := func(keys ...string) Client {
		c := testClient
		c.Now, c.Pressure = now, true
		for _, k := range keys {
			c.Cookies = append(c.Cookies, secretsAt(t, now, k)...)
		}
		return c
	}
	calm := of(cookieKey)
	calm.Pressure = false
	old, _, _ := cookieOf(t, table, cookieQuery(t, "0123456789abcdef"), calm)
	calm = of(next)
	calm.Pressure = false
	fresh, _, _ := cookieOf(t, table, cookieQuery(t, "0123456789abcdef"), calm)
	for _, tc := range []struct {
		name       string
		sent, want string
		at         Client
	}{
		{"the next is known and not used: the old one", old, old, of(cookieKey, next)},
		{"the next is known and not used: another director's", fresh, old, of(cookieKey, next)},
		{"the next is used: the old one", old, fresh, of(next, cookieKey)},
		{"the next is used: its own", fresh, fresh, of(next, cookieKey)},
	} {
		packet := cookieQuery(t, tc.sent)
		got, rcode, tally := cookieOf(t, table, packet, tc.at)
		if rcode != 0 || tally.Cookie != CookieValid || got != tc.want {
			t.Errorf("%s: rcode %d, state %d, got %s, want %s", tc.name, rcode, tally.Cookie, got, tc.want)
		}
		buf := make([]byte, 0, maxUDP)
		if n := testing.AllocsPerRun(20, func() { table.Reply(buf, packet, tc.at) }); n != 0 {
			t.Errorf("%s: it allocates %f times", tc.name, n)
		}
	}
	if _, rcode, _ := cookieOf(t, table, cookieQuery(t, old), of(next)); rcode != dns.RcodeBadCookie {
		t.Error("one of a key that is no longer held is good")
	}
}
