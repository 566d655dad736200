package answer

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/divertdns/divert/dnsserver/geo"
)

var someTypes = []uint16{
	dns.TypeA, dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypeTXT, dns.TypeMX, dns.TypeNS, dns.TypeSOA, dns.TypeDS, dns.TypeANY,
	dns.TypeDNAME, dns.TypeHTTPS, dns.TypeHTTPS, dns.TypeSVCB, dns.TypeAXFR, dns.TypeIXFR,
}

// Reply agrees with the oracle on whatever zones and queries come, among them
// most specific zones by label (C6), existence apart from health and client (S14)
// and letter case (metamorphic: only the echo differs).
func TestReplyAgreesWithOracle(t *testing.T) { rapid.Check(t, agrees(20)) }

// FuzzReplyAgreesWithOracle draws the same, led by what the code has not yet done.
func FuzzReplyAgreesWithOracle(f *testing.F) {
	for seed := range byte(8) {
		drawn := make([]byte, 4<<10)
		_, _ = rand.NewChaCha8([32]byte{seed}).Read(drawn) // never fails
		f.Add(drawn)
	}
	f.Fuzz(rapid.MakeFuzz(agrees(5)))
}

// agrees asks so many questions of drawn zones.
func agrees(questions int) func(*rapid.T) {
	table := geo.Default()
	return func(t *rapid.T) {
		o := oracle{geo: table, zones: drawZones(t, placesOf(table)), plan: "fleet=a", stale: rapid.Bool().Draw(t, "stale"), now: oracleNow}
		compiled, err := Compile(Options{Zones: drawAlike(t, o.zones), Geo: table, Plan: o.plan, Stale: o.stale})
		if err != nil {
			t.Fatalf("Compile: %v", err)
		}
		for range questions {
			checkOne(t, &o, compiled)
		}
	}
}

func checkOne(t *rapid.T, o *oracle, compiled *Table) {
	name := drawName(t, "name")
	if rapid.IntRange(0, 20).Draw(t, "plan?") == 0 {
		name = "plan.divert."
	}
	qtype := rapid.SampledFrom(someTypes).Draw(t, "type")
	class := rapid.SampledFrom([]uint16{dns.ClassINET, dns.ClassINET, dns.ClassINET, dns.ClassINET, dns.ClassCHAOS, dns.ClassANY}).Draw(t, "class")
	asked := name
	if rapid.Bool().Draw(t, "upper") {
		asked = strings.ToUpper(name)
	}
	resolver := drawClient(t, "resolver")
	m := new(dns.Msg)
	m.SetQuestion(asked, qtype)
	m.Question[0].Qclass = class
	var sent *dns.EDNS0_SUBNET
	edns := rapid.Bool().Draw(t, "edns")
	subnet := netip.Addr{}
	if edns {
		m.SetEdns0(uint16(rapid.IntRange(0, 4096).Draw(t, "size")), rapid.Bool().Draw(t, "do"))
		if rapid.Bool().Draw(t, "subnet?") {
			subnet, sent = drawSubnet(t)
			m.IsEdns0().Option = append(m.IsEdns0().Option, sent)
		}
	}
	packet, err := m.Pack()
	if err != nil {
		t.Fatalf("packing: %v", err)
	}
	client := Client{Addr: netip.AddrPortFrom(resolver, 4000), Transport: TCP, Now: o.now}
	raw, tally := compiled.Reply(nil, packet, client)
	var got dns.Msg
	if err := got.Unpack(raw); err != nil {
		t.Fatalf("unpacking the reply: %v\n%x", err, raw)
	}
	want := o.ask(name, qtype, class, resolver.Unmap(), subnet)
	compare(t, m, &got, &want, sent)
	if int(tally.Rcode) != want.rcode {
		t.Fatalf("tally has rcode %d, want %d", tally.Rcode, want.rcode)
	}
	if int(tally.Label) >= len(compiled.Labels()) {
		t.Fatalf("tally has label %d of %d", tally.Label, len(compiled.Labels()))
	}
	checkUDP(t, compiled, packet, raw, m, client)
}

func drawSubnet(t *rapid.T) (netip.Addr, *dns.EDNS0_SUBNET) {
	addr := drawClient(t, "client")
	bits := rapid.IntRange(0, addr.BitLen()).Draw(t, "source")
	if rapid.Bool().Draw(t, "usual") {
		bits = map[int]int{32: 24, 128: 56}[addr.BitLen()]
	}
	p := netip.PrefixFrom(addr, bits).Masked()
	opt := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(bits), Address: net.IP(p.Addr().AsSlice())}
	if p.Addr().Is6() {
		opt.Family = 2
	}
	if bits == 0 {
		return netip.Addr{}, opt
	}
	return p.Addr(), opt
}

func compare(t *rapid.T, m, got *dns.Msg, want *verdict, sent *dns.EDNS0_SUBNET) {
	if got.Id != m.Id || !got.Response || got.Question[0] != m.Question[0] || got.RecursionDesired != m.RecursionDesired {
		t.Fatalf("the question is not echoed: got\n%v\nto\n%v", got, m)
	}
	if got.RecursionAvailable || got.AuthenticatedData || got.CheckingDisabled || got.Zero || got.Truncated {
		t.Fatalf("bits are set that must not be:\n%v", got)
	}
	if got.Rcode != want.rcode || got.Authoritative != want.aa {
		t.Fatalf("got rcode %d, aa %t, want %d, %t\n%v", got.Rcode, got.Authoritative, want.rcode, want.aa, got)
	}
	for _, section := range []struct {
		name string
		got  []dns.RR
		want []string
	}{{"answer", got.Answer, want.answer}, {"authority", got.Ns, want.ns}} {
		if diff := cmp.Diff(section.want, texts(section.got)); diff != "" {
			t.Fatalf("%s section (-want +got):\n%s\n%v", section.name, diff, got)
		}
	}
	opt := got.IsEdns0()
	extra := slices.DeleteFunc(slices.Clone(got.Extra), func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeOPT })
	gotExtra := texts(extra)
	slices.Sort(gotExtra)
	wantExtra := slices.Clone(want.extra)
	slices.Sort(wantExtra)
	if diff := cmp.Diff(wantExtra, gotExtra); diff != "" {
		t.Fatalf("additional section (-want +got):\n%s\n%v", diff, got)
	}
	if (opt != nil) != (m.IsEdns0() != nil) {
		t.Fatalf("OPT: got %v to %v", opt, m.IsEdns0())
	}
	if opt == nil {
		return
	}
	if opt.Do() != m.IsEdns0().Do() || opt.UDPSize() != maxUDP {
		t.Fatalf("OPT says DO %t, size %d", opt.Do(), opt.UDPSize())
	}
	ede := oracleNoEDE
	var echoed *dns.EDNS0_SUBNET
	for _, option := range opt.Option {
		switch option := option.(type) {
		case *dns.EDNS0_EDE:
			ede = int(option.InfoCode)
		case *dns.EDNS0_SUBNET:
			echoed = option
		}
	}
	if ede != want.ede {
		t.Fatalf("got EDE %d, want %d\n%v", ede, want.ede, got)
	}
	if (echoed != nil) != (sent != nil) {
		t.Fatalf("client subnet: got %v to %v", echoed, sent)
	}
	if sent == nil {
		return
	}
	if echoed.Family != sent.Family || echoed.SourceNetmask != sent.SourceNetmask || !echoed.Address.Equal(sent.Address) {
		t.Fatalf("client subnet: got %v to %v", echoed, sent)
	}
	if (!want.dependsOnTheClient || sent.SourceNetmask == 0) && echoed.SourceScope != 0 {
		t.Fatalf("scope is %d, want 0: the client does not matter", echoed.SourceScope)
	}
}

// checkUDP wants the same reply by UDP, or a truncated one if it is too long (S14).
func checkUDP(t *rapid.T, compiled *Table, packet, whole []byte, m *dns.Msg, client Client) {
	client.Transport = UDP
	raw, _ := compiled.Reply(nil, packet, client)
	limit := minUDP
	if opt := m.IsEdns0(); opt != nil {
		limit = min(max(int(opt.UDPSize()), minUDP), maxUDP)
	}
	if len(raw) > limit {
		t.Fatalf("a reply by UDP has %d octets, the limit is %d", len(raw), limit)
	}
	if len(whole) <= limit && string(raw) != string(whole) {
		t.Fatalf("the reply by UDP differs from that by TCP, which would fit:\n%x\n%x", raw, whole)
	}
}

func texts(rrs []dns.RR) []string {
	var out []string
	for _, rr := range rrs {
		out = append(out, show1(rr))
	}
	return out
}
