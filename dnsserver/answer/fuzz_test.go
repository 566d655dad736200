package answer

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/dnsserver/geo"
)

// checkAny is what holds for any packet whatever (C1, S14): it is answered or
// dropped as its header says, with a reply that can be parsed and fits.
func checkAny(t testing.TB, table *Table, packet []byte, c Client) {
	t.Helper()
	came := string(packet)
	out, tally := table.Reply(nil, packet, c)
	if string(packet) != came { // what is known of a packet that made it panic must fit the next one like it (C1)
		t.Fatalf("%x was changed to %x", came, packet)
	}
	if len(packet) < headerLen || packet[2]&0x80 != 0 {
		if len(out) != 0 {
			t.Fatalf("%x: got a reply %x, want none", packet, out)
		}
		return
	}
	limit := maxUDP
	if c.Transport == TCP {
		limit = maxTCP
	}
	if len(out) < headerLen || len(out) > limit {
		t.Fatalf("%x: got a reply of %d octets", packet, len(out))
	}
	if string(out[:2]) != string(packet[:2]) || out[2]&0x80 == 0 || out[2]&0x78 != packet[2]&0x78 || out[3]&0xf0 != 0 {
		t.Fatalf("%x: got header %x", packet, out[:headerLen])
	}
	var m dns.Msg
	if err := m.Unpack(out); err != nil {
		t.Fatalf("%x: unpacking the reply %x: %v", packet, out, err)
	}
	if m.Rcode != int(tally.Rcode) || int(tally.Label) >= len(table.Labels()) {
		t.Fatalf("%x: tally %+v of reply\n%v", packet, tally, &m)
	}
	if m.Rcode == dns.RcodeServerFailure {
		t.Fatalf("%x: SERVFAIL", packet)
	}
	if m.Truncated && len(m.Answer)+len(m.Ns) > 0 {
		t.Fatalf("%x: truncated and not empty", packet)
	}
	for _, rr := range append(m.Answer, m.Ns...) {
		if rr.Header().Ttl > maxTTL { // C8
			t.Fatalf("%x: TTL %d", packet, rr.Header().Ttl)
		}
	}
	// The question comes back octet for octet (0x20).
	if n := headerLen; len(m.Question) == 1 {
		for packet[n] != 0 {
			n += 1 + int(packet[n])
		}
		if n += 5; string(out[headerLen:n]) != string(packet[headerLen:n]) {
			t.Fatalf("%x: question came back as %x", packet, out[headerLen:n])
		}
	}
}

// FuzzReply feeds packets from anywhere.
func FuzzReply(f *testing.F) {
	seed := func(change func(*dns.Msg)) {
		m := new(dns.Msg)
		m.SetQuestion("shop.example.org.", dns.TypeA)
		m.Id = 1
		m.SetEdns0(1232, true)
		m.IsEdns0().Option = append(m.IsEdns0().Option,
			&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: []byte{81, 2, 69, 0}})
		change(m)
		packet, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packet, false)
		f.Add(packet, true)
	}
	seed(func(*dns.Msg) {})
	for _, name := range []string{"x.old.example.org.", "x.lab.example.org.", "loop1.example.org.", "a.wild.example.org.", "plan.divert.", "."} {
		seed(func(m *dns.Msg) { m.Question[0].Name = name })
	}
	seed(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS })
	seed(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeANY })
	seed(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate })
	f.Add([]byte("\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"), false) // C2
	table := compiled(f, func(o *Options) { o.Geo, o.Stale = geo.Default(), true })
	f.Fuzz(func(t *testing.T, packet []byte, tcp bool) {
		c := testClient
		if tcp {
			c = Client{Addr: netip.MustParseAddrPort("[2a04:4e42:600::223]:4000"), Transport: TCP}
		}
		checkAny(t, table, packet, c)
	})
}

// C1: all query types, classes, opcodes and flags.
func TestNoPacketHarms(t *testing.T) {
	table := compiled(t, nil)
	m := new(dns.Msg)
	m.SetQuestion("shop.example.org.", dns.TypeA)
	m.SetEdns0(1232, false)
	packet := pack1(t, m)
	question := headerLen + len("\x04shop\x07example\x03org\x00")
	for _, at := range []int{question, question + 2, 2} { // type, class, flags
		changed := append([]byte(nil), packet...)
		for v := range 1 << 16 {
			put16(changed[at:], uint16(v))
			checkAny(t, table, changed, testClient)
		}
	}
	for _, name := range []string{"example.org.", "lab.example.org.", "x.old.example.org.", "www.example.org.", "nx.example.org.", "x.wild.example.org."} {
		m.SetQuestion(name, dns.TypeA)
		changed := pack1(t, m)
		at := len(changed) - 11 - 4
		for v := range 1 << 16 {
			put16(changed[at:], uint16(v))
			if out, _ := table.Reply(nil, changed, testClient); len(out) == 0 {
				t.Fatalf("%s type %d is not answered", name, v)
			}
		}
	}
	// Every octet of a query, with every value; and every length.
	for at := range packet {
		for v := range 256 {
			changed := append([]byte(nil), packet...)
			changed[at] = byte(v)
			checkAny(t, table, changed, testClient)
		}
		checkAny(t, table, packet[:at], testClient)
	}
}

// C2: names that loop, or are too long, or are not of letters.
func TestNames(t *testing.T) {
	table := compiled(t, nil)
	label63 := "\x3f" + strings.Repeat("a", 63)
	tests := []struct {
		name  string
		wire  string
		rcode byte
	}{
		{"root", "\x00", 5},
		{"a pointer to itself", "\xc0\x0c", 1},
		{"a pointer behind a label", "\x04shop\xc0\x0c", 1},
		{"a reserved label type", "\x40a\x00", 1},
		{"label of 64", "\x40" + strings.Repeat("a", 64) + "\x00", 1},
		{"255 octets", label63 + label63 + label63 + "\x3d" + strings.Repeat("a", 61) + "\x00", 5},
		{"256 octets", label63 + label63 + label63 + "\x3e" + strings.Repeat("a", 62) + "\x00", 1},
		{"127 labels", strings.Repeat("\x01a", 127) + "\x00", 5},
		{"128 labels", strings.Repeat("\x01a", 128) + "\x00", 1},
		{"many labels in the zone", strings.Repeat("\x01a", 115) + "\x07example\x03org\x00", 3},
		{"octets of any value", "\x04\x00\xff. \x07example\x03org\x00", 3},
		{"a dot in a label", "\x0cshop.example\x03org\x00", 5},
		{"not ended", "\x04shop", 1},
		{"a label past the end", "\x3fshop", 1},
	}
	for _, tc := range tests {
		packet := []byte("\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00" + tc.wire + "\x00\x01\x00\x01")
		out, _ := table.Reply(nil, packet, testClient)
		if len(out) < headerLen || out[3] != tc.rcode {
			t.Errorf("%s: got %x, want rcode %d", tc.name, out, tc.rcode)
		}
		if tc.rcode != 1 && string(out[headerLen:len(packet)]) != string(packet[headerLen:]) {
			t.Errorf("%s: the question is not echoed: %x", tc.name, out)
		}
	}
}
