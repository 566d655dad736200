package dnsserver

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/dnsserver/zone"
)

// manyNames is the static data of a zone of n addresses.
func manyNames(t testing.TB, n int) *answer.Static {
	t.Helper()
	text := []byte("ns1 A 192.0.2.53\n")
	for i := range n {
		text = fmt.Appendf(text, "host%d A 192.0.%d.%d\n", i, i>>8&255, i&255)
	}
	records, problems := zone.Parse(zone.Source{Origin: "example.org", Nameservers: []string{"ns1.example.org"}, Hostmaster: "h@example.org", Text: string(text)})
	if zone.Failed(problems) {
		t.Fatal(problems)
	}
	static, err := answer.Pack("example.org.", records.List)
	if err != nil {
		t.Fatal(err)
	}
	return static
}

// Whatever the kernel does of it, no octet of the names moves or changes.
func TestLargePages(t *testing.T) {
	static := manyNames(t, 200_000)
	blocks := static.Memory()
	before := [2]string{string(blocks[0]), string(blocks[1])}
	if len(before[0]) < largeEnough {
		t.Fatalf("%d octets try nothing", len(before[0]))
	}
	LargePages(static)
	after := static.Memory()
	for i, block := range after {
		if &block[0] != &blocks[i][0] || string(block) != before[i] {
			t.Errorf("block %d is another", i)
		}
	}
}

// BenchmarkNames asks for names of a small zone and of one of a million records, as
// a director holds them: a thousand of them again and again, and any of them. It is a
// look-up and its reply, without the system's part of an answer.
func BenchmarkNames(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		static := manyNames(b, n)
		LargePages(static)
		table, err := answer.Compile(answer.Options{Zones: []answer.Zone{{Origin: "example.org.", Static: static}}})
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
				if packets[i], err = m.Pack(); err != nil {
					b.Fatal(err)
				}
			}
			client := answer.Client{Addr: netip.MustParseAddrPort("192.0.2.1:4000"), Transport: answer.UDP}
			b.Run(fmt.Sprintf("records=%d, asked=%d", n, asked), func(b *testing.B) {
				buf := make([]byte, 0, 1232)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					table.ReplyTo(&client, buf, packets[i%len(packets)])
				}
			})
		}
	}
}
