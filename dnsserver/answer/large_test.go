package answer

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// manyRecords is a zone of n addresses.
func manyRecords(n int) []dns.RR {
	records := []dns.RR{
		mustRR("example.org. 3600 IN SOA ns1.example.org. h.example.org. 1 2 3 4 5"), mustRR("example.org. 3600 IN NS ns1.example.org."),
	}
	for i := range n {
		records = append(records, &dns.A{
			Hdr: dns.RR_Header{Name: fmt.Sprintf("host%d.example.org.", i), Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300},
			A:   []byte{192, 0, byte(i >> 8), byte(i)},
		})
	}
	return records
}

// BenchmarkLookup asks for names of a small zone and of one of a million records:
// a thousand of them again and again, and any of them.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		table, err := Compile(Options{Zones: []Zone{{Origin: "example.org.", Records: manyRecords(n)}}})
		if err != nil {
			b.Fatal(err)
		}
		for _, asked := range []int{1000, n} {
			random := rand.New(rand.NewPCG(1, 2))
			packets := make([][]byte, 1<<17)
			for i := range packets {
				m := new(dns.Msg)
				m.SetQuestion(fmt.Sprintf("host%d.example.org.", random.IntN(asked)*(n/asked)), dns.TypeA)
				m.SetEdns0(1232, false)
				packets[i] = pack1(b, m)
			}
			b.Run(fmt.Sprintf("records=%d, asked=%d", n, asked), func(b *testing.B) {
				buf := make([]byte, 0, maxUDP)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					table.ReplyTo(&testClient, buf, packets[i%len(packets)])
				}
			})
		}
	}
}

// BenchmarkReplyPrefixes asks a view with 200 prefixes, each time for another client.
func BenchmarkReplyPrefixes(b *testing.B) {
	site := func(c string, last byte) Site {
		return Site{Cluster: c, Domain: c, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, last})}}
	}
	v := View{Sets: []Set{{Sites: []Site{site("fra", 1)}}, {Sites: []Site{site("nyc", 2)}}}, ByPlace: []uint16{0}}
	for i := range 200 {
		v.ByPrefix = append(v.ByPrefix, PrefixPlaces{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(20 + i), byte(7 * i), 0, 0}), 16+i%9), ByPlace: []uint16{uint16(i % 2)}})
	}
	table := compiled(b, func(o *Options) {
		o.Zones[0].Steered = []Steered{{Name: "x.example.org.", Service: "x", TTL: 20, Answers: 1, A: v}}
	})
	random := rand.New(rand.NewPCG(3, 4))
	for _, subnet := range []bool{false, true} {
		packets, clients := make([][]byte, 1024), make([]Client, 1024)
		for i := range packets {
			addr := netip.AddrFrom4([4]byte{byte(20 + random.IntN(200)), byte(random.IntN(256)), byte(random.IntN(256)), 0})
			m := new(dns.Msg)
			m.SetQuestion("x.example.org.", dns.TypeA)
			m.SetEdns0(1232, false)
			if subnet {
				m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: addr.AsSlice()})
			}
			packets[i] = pack1(b, m)
			clients[i] = Client{Addr: netip.AddrPortFrom(addr, 4000), Transport: UDP}
		}
		b.Run(fmt.Sprintf("subnet=%t", subnet), func(b *testing.B) {
			buf := make([]byte, 0, maxUDP)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				table.ReplyTo(&clients[i%1024], buf, packets[i%1024])
			}
		})
	}
}

// A million names are found as few are, each with its own record, and no other is
// (a smaller zone stands for it here).
func TestManyNames(t *testing.T) {
	const n = 20_000
	table, err := Compile(Options{Zones: []Zone{{Origin: "example.org.", Records: manyRecords(n)}}})
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < n; i += 7 {
		got := ask1(t, table, fmt.Sprintf("HOST%d.example.org.", i), dns.TypeA, nil)
		if len(got.Answer) != 1 || !got.Answer[0].(*dns.A).A.Equal([]byte{192, 0, byte(i >> 8), byte(i)}) {
			t.Fatalf("host%d: got %v", i, got.Answer)
		}
		if got := ask1(t, table, fmt.Sprintf("host%d.example.org.", n+i), dns.TypeA, nil); got.Rcode != dns.RcodeNameError {
			t.Fatalf("host%d: got %v", n+i, got)
		}
	}
}

// The places in a store are of few octets: what a million records take is bounded.
func TestStoreIsCompact(t *testing.T) {
	const n = 20_000
	s, errs := newStatic([]byte("\x07example\x03org\x00"), manyRecords(n))
	if errs != nil {
		t.Fatal(errs)
	}
	if got := (cap(s.octets) + 8*len(s.slots)) / n; got > 80 {
		t.Errorf("%d octets a record, want at most 80", got)
	}
}

// Views of the same lists share what is made of them, from table to table too, in
// whichever of them it was made.
func TestBeforeSharesClients(t *testing.T) {
	zones := rulesZones()
	rows := View{ByPlace: []uint16{0}, ByPrefix: []PrefixPlaces{{Prefix: netip.MustParsePrefix("81.2.69.0/24"), ByPlace: []uint16{0}}}}
	for i := range zones[0].Steered {
		v := &zones[0].Steered[i].A
		v.ByPlace, v.ByPrefix = rows.ByPlace, rows.ByPrefix
	}
	var table *Table
	for step := range 4 {
		next := []Zone{zones[0]}
		next[0].Steered = append([]Steered(nil), zones[0].Steered...)
		if step%2 == 1 { // one moves, and in between none
			s := &next[0].Steered[step/2]
			s.A.Sets = append([]Set(nil), s.A.Sets...)
		}
		var err error
		if table, err = Compile(Options{Zones: next, Before: table}); err != nil {
			t.Fatal(err)
		}
		zones = next
		groups := table.zones["\x07example\x03org\x00"].groups
		for i, g := range groups {
			if g.a.clients != groups[0].a.clients {
				t.Errorf("step %d: group %d has lists of its own", step, i)
			}
		}
	}
}

// What did not change is not made again: of a table whose sites moved, all names,
// and of one whose serial moved, all (Options.Before).
func TestBeforeSharesNames(t *testing.T) {
	zones := rulesZones()
	many := make([]Name, 100)
	for i := range many {
		many[i] = Name{Name: fmt.Sprintf("n%d.example.org.", i), Service: "shop"}
	}
	zones[0].Steered[0].Alike = many
	first, err := Compile(Options{Zones: zones})
	if err != nil {
		t.Fatal(err)
	}
	moved := []Zone{zones[0]}
	moved[0].Serial = 99
	moved[0].Steered = append([]Steered(nil), zones[0].Steered...)
	moved[0].Steered[0].A.Sets = []Set{{Sites: []Site{{Cluster: "nyc", Domain: "nyc", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.77")}}}}}
	second, err := Compile(Options{Zones: moved, Before: first})
	if err != nil {
		t.Fatal(err)
	}
	const origin = "\x07example\x03org\x00"
	a, b := first.zones[origin], second.zones[origin]
	if a.static != b.static || a.over != b.over {
		t.Error("names are made anew")
	}
	if a.groups[0] == b.groups[0] || a.groups[1] != b.groups[1] || a.groups[2] != b.groups[2] {
		t.Error("not the one group that moved is compiled, or more")
	}
	if got := ask1(t, second, "n42.example.org.", dns.TypeA, nil); got.Answer[0].(*dns.A).A.String() != "192.0.2.77" {
		t.Errorf("got %v", got.Answer)
	}
	if got := ask1(t, second, "example.org.", dns.TypeSOA, nil); got.Answer[0].(*dns.SOA).Serial != 99 {
		t.Errorf("got %v", got.Answer)
	}
}
