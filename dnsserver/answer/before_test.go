package answer

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/divertdns/divert/dnsserver/geo"
)

// A table that takes over from an earlier one what is the same answers as one
// made from nothing, label by label, however long the chain.
func TestBeforeChangesNothing(t *testing.T) {
	table := geo.Default()
	kept, sets := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		o := oracle{geo: table, zones: drawZones(t, placesOf(table)), plan: "fleet=a", now: oracleNow}
		var before *Table
		for step := range rapid.IntRange(2, 4).Draw(t, "steps") {
			if step > 0 {
				o.zones = drawChange(t, o.zones, placesOf(table))
				o.stale = rapid.Bool().Draw(t, "stale")
			}
			options := Options{Zones: drawAlike(t, o.zones), Geo: table, Plan: o.plan, Stale: o.stale}
			fresh, err := Compile(options)
			if err != nil {
				t.Fatalf("Compile: %v", err)
			}
			options.Before = before
			chained, err := Compile(options)
			if err != nil {
				t.Fatalf("Compile after another: %v", err)
			}
			views, some := sharedSets(before, chained)
			kept, sets = kept+views, sets+some
			for range 5 {
				checkOne(t, &o, chained)
			}
			for i := range o.zones {
				for j := range o.zones[i].Steered {
					askBoth(t, o.zones[i].Steered[j].Name, fresh, chained)
				}
			}
			before = chained
		}
	})
	if kept == 0 || sets == 0 {
		t.Errorf("%d views were taken over in all runs, and %d sets of others: the test proves nothing", kept, sets)
	}
}

// Of many steered names one changes: all others are taken over as they are.
func TestBeforeKeepsWhatDidNotChange(t *testing.T) {
	places := make([]uint16, len(geo.Default().Places()))
	z := Zone{Origin: "example.org.", Records: []dns.RR{
		mustRR("example.org. 3600 IN SOA ns1.example.org. h.example.org. 1 2 3 4 5"), mustRR("example.org. 3600 IN NS ns1.example.org."),
	}}
	for i := range 10 {
		site := Site{Cluster: "a", Domain: "a", Weight: 1, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})}}
		z.Steered = append(z.Steered, Steered{
			Name: fmt.Sprintf("s%d.example.org.", i), Service: "s", TTL: 20, Answers: 1,
			A: View{ByPlace: places, Sets: []Set{{Sites: []Site{site}}}},
		})
	}
	before, err := Compile(Options{Zones: []Zone{z}, Geo: geo.Default()})
	if err != nil {
		t.Fatal(err)
	}
	z.Steered = slices.Clone(z.Steered)
	z.Steered[3].A.Sets = []Set{{Sites: []Site{{Cluster: "b", Domain: "b", Weight: 1, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.99")}}}}}
	after, err := Compile(Options{Zones: []Zone{z}, Geo: geo.Default(), Before: before})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := sharedSets(before, after); got != len(z.Steered)-1 {
		want := len(z.Steered) - 1
		t.Errorf("%d views taken over, want %d", got, want)
	}
}

// drawChange gives zones of which some names have new views, some are gone and
// some records have another serial. What it does not touch keeps its identity.
func drawChange(t *rapid.T, zones []Zone, places int) []Zone {
	out := slices.Clone(zones)
	for i := range out {
		z := &out[i]
		z.Steered = slices.Clone(z.Steered)
		for j := range z.Steered {
			switch rapid.IntRange(0, 8).Draw(t, "change") {
			case 4:
				z.Steered[j].Next = drawNext(t)
			case 0:
				z.Steered[j].A = drawViewA(t, places, z.Steered[j].CNAME)
			case 5:
				if s := &z.Steered[j]; len(recordsOf(z, s.Name)) == 0 {
					s.CNAME = !s.CNAME
					s.A, s.AAAA = drawViewA(t, places, s.CNAME), View{}
				}
			case 6, 7: // the same sites, in other sets
				views := []*View{&z.Steered[j].A, &z.Steered[j].AAAA}
				if v := rapid.SampledFrom(views).Draw(t, "family"); len(v.Sets) > 0 {
					v.Sets = rapid.Permutation(v.Sets).Draw(t, "order")
					set := &v.Sets[0]
					switch rapid.IntRange(0, 3).Draw(t, "flag") {
					case 0:
						set.FailOpen = !set.FailOpen
					case 1:
						set.Weighted = !set.Weighted
					case 2:
						set.Sites = slices.Clone(set.Sites)
					}
				}
			case 1:
				z.Steered[j].TTL++
			case 2:
				z.Steered[j].Answers++
			case 3:
				if rapid.Bool().Draw(t, "renamed") {
					z.Steered[j].Service = rapid.SampledFrom([]string{"shop", "pay"}).Draw(t, "service")
				}
			}
		}
		if len(z.Steered) > 0 && rapid.IntRange(0, 5).Draw(t, "gone") == 0 {
			z.Steered = z.Steered[1:]
		}
		if rapid.Bool().Draw(t, "serial") {
			z.Records = slices.Clone(z.Records)
			soa := dns.Copy(z.Records[0]).(*dns.SOA)
			soa.Serial++
			z.Records[0] = soa
		}
	}
	return out
}

// sharedSets counts the views whose compiled sets two tables share, and the sets that
// they share of other views.
func sharedSets(a, b *Table) (views, sets int) {
	if a == nil {
		return 0, 0
	}
	for origin, z := range b.zones {
		old := a.zones[origin]
		if old == nil {
			continue
		}
		for owner, node := range z.over.walk {
			var name name
			name.set(owner)
			was := old.over.find(name.hash(), owner)
			if node.flags&flagSteered == 0 || was.flags&flagSteered == 0 {
				continue
			}
			next, last := z.groups[z.over.names[node.index()].group], old.groups[old.over.names[was.index()].group]
			if len(next.a.sets) > 0 && identical(next.a.sets, last.a.sets) {
				views++
				continue
			}
			for _, set := range next.a.sets {
				if slices.Contains(last.a.sets, set) {
					sets++
				}
			}
		}
	}
	return views, sets
}

func askBoth(t *rapid.T, name string, fresh, chained *Table) {
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT} {
		m := new(dns.Msg)
		m.SetQuestion(name, qtype)
		m.SetEdns0(1232, false) // so that errors are explained
		packet, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		for _, from := range []string{"81.2.69.1", "8.8.8.8", "10.1.2.3", "2001:db8::1"} {
			client := Client{Addr: netip.AddrPortFrom(netip.MustParseAddr(from), 4000), Transport: TCP, Now: oracleNow}
			want, wantTally := fresh.Reply(nil, packet, client)
			got, gotTally := chained.Reply(nil, packet, client)
			if !bytes.Equal(got, want) {
				t.Fatalf("%s %s from %s: got %x, want %x", name, dns.Type(qtype), from, got, want)
			}
			if got, want := chained.Labels()[gotTally.Label], fresh.Labels()[wantTally.Label]; got != want {
				t.Fatalf("%s %s from %s: label %v, want %v", name, dns.Type(qtype), from, got, want)
			}
		}
	}
}

// BenchmarkCompile makes a table of many names, from nothing and after one of
// which a single service differs.
func BenchmarkCompile(b *testing.B) {
	table := geo.Default()
	places := make([]uint16, len(table.Places()))
	view := func(n int) View {
		v := View{ByPlace: places}
		for i := range 3 {
			var s Set
			for j := range 3 {
				c := fmt.Sprintf("c%d", (i+j)%3)
				s.Sites = append(s.Sites, Site{Cluster: c, Domain: c, Weight: 1, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(j), byte(n >> 8), byte(n)})}})
			}
			v.Sets = append(v.Sets, s)
		}
		return v
	}
	for _, services := range []int{100, 1000} {
		z := Zone{Origin: "example.org.", Records: []dns.RR{
			mustRR("example.org. 3600 IN SOA ns1.example.org. h.example.org. 1 2 3 4 5"), mustRR("example.org. 3600 IN NS ns1.example.org."),
		}}
		for i := range services {
			z.Steered = append(z.Steered, Steered{Name: fmt.Sprintf("s%d.example.org.", i), Service: fmt.Sprintf("s%d", i), TTL: 20, Answers: 1, A: view(i)})
		}
		o := Options{Zones: []Zone{z}, Geo: table}
		before, err := Compile(o)
		if err != nil {
			b.Fatal(err)
		}
		for _, bc := range []struct {
			name   string
			before *Table
		}{{"from nothing", nil}, {"one service differs", before}} {
			b.Run(fmt.Sprintf("services=%d, %s", services, bc.name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					next := o
					next.Before, next.Zones = bc.before, []Zone{z}
					next.Zones[0].Steered = slices.Clone(z.Steered)
					next.Zones[0].Steered[services/2].A.Sets = slices.Clone(z.Steered[services/2].A.Sets)
					if _, err := Compile(next); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
