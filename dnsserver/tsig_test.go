package dnsserver

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/dnsserver/answer"
)

func ringOf(t testing.TB, keys ...Key) keyring {
	t.Helper()
	ring, err := newKeyring(keys, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// tsigAt finds where the last record of a packet begins, by the library.
func tsigAt(t testing.TB, packet []byte) int {
	t.Helper()
	m := unpack(t, packet)
	m.Extra = m.Extra[:len(m.Extra)-1]
	m.Compress = false
	bare, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return len(bare)
}

// RFC 8945 section 5.2, each check in its order, against what the library signs.
func TestVerify(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	key := theKey()
	long := key
	long.Algorithm = "hmac-sha512"
	ring := ringOf(t, key)
	query := new(dns.Msg)
	query.SetQuestion("Shop.Example.org.", dns.TypeA)
	query.SetEdns0(1232, true)
	good, _ := signedBy(t, query, key, now)
	// edit changes the TSIG record without signing again.
	edit := func(change func(*dns.TSIG)) []byte {
		m := unpack(t, good)
		change(m.IsTsig())
		packet, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return packet
	}
	cut := func(octets int) []byte {
		return edit(func(s *dns.TSIG) { s.MAC, s.MACSize = s.MAC[:2*octets], uint16(octets) })
	}
	raw := func(change func(packet []byte, at int) []byte) []byte {
		packet := slices.Clone(good)
		return change(packet, tsigAt(t, good))
	}
	tests := []struct {
		name   string
		packet []byte
		now    time.Time
		ok     bool
		fault  uint16
	}{
		{"good", good, now, true, 0},
		{"the ID changed on the way", raw(func(p []byte, _ int) []byte { p[0]++; return p }), now, true, 0},
		{"the question changed", raw(func(p []byte, _ int) []byte { p[13] ^= 0x20; return p }), now, true, dns.RcodeBadSig},
		{"another key", func() []byte { k := key; k.Name = "other."; p, _ := signedBy(t, query, k, now); return p }(), now, true, dns.RcodeBadKey},
		{"another algorithm", func() []byte { p, _ := signedBy(t, query, long, now); return p }(), now, true, dns.RcodeBadKey},
		{"another secret", func() []byte {
			k := key
			k.Secret = []byte("another secret, and just as long")
			p, _ := signedBy(t, query, k, now)
			return p
		}(), now, true, dns.RcodeBadSig},
		{"fudge at its end", good, now.Add(300 * time.Second), true, 0},
		{"late", good, now.Add(301 * time.Second), true, dns.RcodeBadTime},
		{"early", good, now.Add(-301 * time.Second), true, dns.RcodeBadTime},
		{"a wrong MAC comes before the time", edit(func(s *dns.TSIG) { s.TimeSigned -= 3600 }), now, true, dns.RcodeBadSig},
		{"a MAC of 16 octets", cut(16), now, true, dns.RcodeBadTrunc},
		{"a MAC of 15 octets", cut(15), now, false, 0},
		{"no MAC", cut(0), now, false, 0},
		{"a MAC too long", edit(func(s *dns.TSIG) { s.MAC, s.MACSize = s.MAC+"00", 33 }), now, false, 0},
		{"class IN", edit(func(s *dns.TSIG) { s.Hdr.Class = dns.ClassINET }), now, false, 0},
		{"a TTL", edit(func(s *dns.TSIG) { s.Hdr.Ttl = 1 }), now, false, 0},
		{"RDATA cut", raw(func(p []byte, at int) []byte { p[len(p)-1]++; return p }), now, false, 0},
		{"the MAC's length beyond the record", raw(func(p []byte, at int) []byte {
			i := strings.Index(string(p[at:]), "\x0bhmac-sha256\x00") + at + 13 + 8
			p[i] = 0xff
			return p
		}), now, false, 0},
		{"an algorithm without end", raw(func(p []byte, at int) []byte {
			i := strings.Index(string(p[at:]), "\x0bhmac-sha256\x00") + at
			p[i] = 63
			return p
		}), now, false, 0},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			var s signature
			ok := ring.verify(&s, tc.packet, tsigAt(t, good), tc.now)
			if ok != tc.ok || s.fault != tc.fault {
				t.Errorf("got %t, fault %d; want %t, %d", ok, s.fault, tc.ok, tc.fault)
			}
		})
	}
}

// What is signed here verifies elsewhere, the first reply and those after it
// (sections 5.3.1 and 5.3.2); errors carry what section 5.2 wants in them.
func TestSign(t *testing.T) {
	now := time.Now()
	for _, algorithm := range []string{"hmac-sha256", "hmac-sha384", "hmac-sha512"} {
		key := theKey()
		key.Algorithm = algorithm
		query := new(dns.Msg)
		query.SetQuestion("example.org.", dns.TypeAXFR)
		packet, mac := signedBy(t, query, key, now)
		var s signature
		if !ringOf(t, key).verify(&s, packet, tsigAt(t, packet), now) || s.fault != 0 {
			t.Fatalf("%s: a good one is refused: %d", algorithm, s.fault)
		}
		for i := range 3 {
			reply := new(dns.Msg)
			reply.SetReply(query)
			plain, err := reply.Pack()
			if err != nil {
				t.Fatal(err)
			}
			before, size := len(plain)+2, s.size()
			signed := s.sign(append([]byte("__"), plain...), 2, now)
			if len(signed)-before != size {
				t.Errorf("%s: reply %d grew by %d octets, size says %d", algorithm, i, len(signed)-before, size)
			}
			if err := dns.TsigVerify(slices.Clone(signed[2:]), secretOf(key), mac, i > 0); err != nil {
				t.Errorf("%s: reply %d: %v", algorithm, i, err)
			}
			mac = unpack(t, signed[2:]).IsTsig().MAC
		}
		// BADTIME is signed, with the client's time in it and ours beside.
		late := now.Add(time.Hour)
		s = signature{}
		ringOf(t, key).verify(&s, packet, tsigAt(t, packet), late)
		plain, err := new(dns.Msg).SetReply(query).Pack()
		if err != nil {
			t.Fatal(err)
		}
		sig := unpack(t, s.sign(plain, 0, late)).IsTsig()
		if sig.Error != dns.RcodeBadTime || int(sig.MACSize) != s.key.size || sig.TimeSigned != uint64(now.Unix()) || sig.OtherLen != 6 {
			t.Errorf("%s: got %v", algorithm, sig)
		}
		if clock, err := hex.DecodeString(sig.OtherData); err != nil || uint64(clock[5])|uint64(clock[4])<<8|uint64(clock[3])<<16|uint64(clock[2])<<24 != uint64(late.Unix()) {
			t.Errorf("%s: other data %s, %v", algorithm, sig.OtherData, err)
		}
	}
}

// A signature is good once, as long as it is good at all, for what asks so; when
// there are more than are remembered, the older of them count as seen.
func TestReplays(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	at := uint64(now.Unix())
	var r replays
	mac := func(i int) (m [32]byte) { m[0], m[1], m[2] = 1, byte(i), byte(i>>8); return m }
	if !r.take(mac(0), at, 300, now) || r.take(mac(0), at, 300, now) {
		t.Error("one is not good exactly once")
	}
	for i := range maxReplays {
		if !r.take(mac(1+i), at+1, 300, now) {
			t.Fatalf("%d is not new", i)
		}
	}
	if r.take(mac(0), at, 300, now) {
		t.Error("one forgotten is good again")
	}
	if !r.take(mac(1000), at+2, 300, now) {
		t.Error("a younger one is not good")
	}
	later := now.Add(time.Hour)
	for i := range 2 * maxReplays {
		if !r.take(mac(2000+i), at+3600+uint64(i/maxReplays), 300, later) {
			t.Fatalf("an hour later %d is not new", i)
		}
	}
}

// STYLE 15: a signed query costs no allocation either, nor does one signed badly.
func TestSignedQueryAllocatesNothing(t *testing.T) {
	s := serve(t, exampleTable(t, ""), func(o *Options, _ *limits) { o.Listen, o.Transfers.Keys = []string{}, []Key{theKey()} })
	query := new(dns.Msg)
	query.SetQuestion("shop.example.org.", dns.TypeA)
	now := time.Now()
	stranger := theKey()
	stranger.Name = "stranger.example.net"
	for _, k := range []Key{theKey(), stranger} {
		packet, _ := signedBy(t, query, k, now)
		out := make([]byte, 0, 4096)
		client := answer.Client{Transport: answer.UDP, Now: now}
		if n := testing.AllocsPerRun(100, func() { s.reply(out, packet, client) }); n > 0 {
			t.Errorf("key %s: %f allocations", k.Name, n)
		}
	}
}

func TestKeyring(t *testing.T) {
	good := theKey()
	for want, change := range map[string]func(*Key){
		"name is none": func(k *Key) { k.Name = "a..b" },
		"algorithm":    func(k *Key) { k.Algorithm = "hmac-md5" },
		"guessed":      func(k *Key) { k.Secret = []byte("short") },
	} {
		k := good
		change(&k)
		if _, err := newKeyring([]Key{k}, nil, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	same := good
	same.Name = strings.ToUpper(good.Name) + "."
	if _, err := newKeyring([]Key{good, same}, nil, nil); err == nil {
		t.Error("one name for two keys")
	}
}

// C1, C2: no packet crashes what reads signatures, and what it takes for good the
// library does, too.
func FuzzVerify(f *testing.F) {
	key := theKey()
	query := new(dns.Msg)
	query.SetQuestion("example.org.", dns.TypeAXFR)
	now := time.Unix(1_700_000_000, 0)
	packet, _ := signedBy(f, query, key, now)
	f.Add(packet, tsigAt(f, packet))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\xc0\x0c\x00\xfa\x00\xff\x00\x00\x00\x00\x00\x00"), 12)
	ring := ringOf(f, key)
	secret := base64.StdEncoding.EncodeToString(key.Secret)
	f.Fuzz(func(t *testing.T, packet []byte, at int) {
		if len(packet) < 12 || at < 12 || at >= len(packet) {
			return
		}
		var s signature
		came := string(packet)
		good := ring.verify(&s, packet, at, now)
		if string(packet) != came { // or poison would not know it again (C1)
			t.Fatalf("%x was changed to %x", came, packet)
		}
		if !good || s.fault != 0 {
			return
		}
		m := new(dns.Msg)
		if m.Unpack(packet) != nil || m.IsTsig() == nil || m.IsTsig().TimeSigned == 0 {
			return
		}
		if err := dns.TsigVerify(slices.Clone(packet), secret, "", false); err != nil && !errors.Is(err, dns.ErrTime) {
			t.Errorf("taken for good: %v\n%x", err, packet)
		}
	})
}
