package answer

import (
	"encoding/binary"
	"fmt"
	stdfnv "hash/fnv"
	"math"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/divertdns/divert/dnsserver/geo"
)

// cost is -log2(u), by whole numbers alone.
func TestCost(t *testing.T) {
	table := newLogTable()
	rapid.Check(t, func(t *rapid.T) {
		h := rapid.Uint64().Draw(t, "hash") >> rapid.IntRange(0, 63).Draw(t, "shift")
		got := float64(table.cost(h)) / (1 << 32)
		want := 64 - math.Log2(float64(h|1))
		if math.Abs(got-want) > 4e-6 {
			t.Fatalf("cost(%d) = %f, want %f", h, got, want)
		}
	})
	if got := table.cost(math.MaxUint64); got < 1 {
		t.Errorf("cost(max) = %d, want at least 1", got)
	}
}

// Measured once; never to change.
const (
	unitV4 = 0x1475f6d96bf96a7c // 192.0.2.0/24
	unitV6 = 0x6437d12b78da5528 // 2001:db8:1::/48
)

// The hash is a promise between directors and releases.
func TestHashIsStable(t *testing.T) {
	standard := stdfnv.New64a()
	standard.Write([]byte("shop\x00fra"))
	if got, want := fnv([]byte("shop"), []byte("fra")), standard.Sum64(); got != want {
		t.Errorf("fnv(shop, fra) = %#x, want %#x", got, want)
	}
	v4, v6 := unitOf(addressOf(netip.MustParseAddr("192.0.2.77"))), unitOf(addressOf(netip.MustParseAddr("2001:db8:1:2::1")))
	if v4 != unitV4 || v6 != unitV6 {
		t.Errorf("units are %#x, %#x, want %#x, %#x", v4, v6, uint64(unitV4), uint64(unitV6))
	}
}

func weightedTable(t testing.TB, weights ...uint32) *Table {
	t.Helper()
	var set Set
	set.Weighted = true
	for i, w := range weights {
		set.Sites = append(set.Sites, Site{
			Cluster: fmt.Sprintf("c%d", i), Domain: fmt.Sprintf("c%d", i), Weight: w,
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})},
		})
	}
	return compiled(t, func(o *Options) {
		o.Zones[0].Steered = []Steered{{Name: "x.example.org.", Service: "x", TTL: 20, Answers: 1, A: View{Sets: []Set{set}}}}
	})
}

// winners gives the cluster of each of many /24s, "" for none.
func winners(t testing.TB, table *Table) []string {
	t.Helper()
	out := make([]string, 20_000)
	for i := range out {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(i)*7919<<8)
		trace, ok := table.Trace("x.example.org.", false, netip.PrefixFrom(netip.AddrFrom4(b), 24))
		if ok && len(trace.Picks) == 1 {
			out[i] = trace.Picks[0].Cluster
		}
	}
	return out
}

// SEMANTICS, weighted: the share of clients follows the weights, weight 0 means
// absent, a change moves only the share that changed, a common factor nothing.
func TestWeights(t *testing.T) {
	before := winners(t, weightedTable(t, 10, 30, 60, 0))
	counts := map[string]int{}
	for _, w := range before {
		counts[w]++
	}
	for cluster, want := range map[string]float64{"c0": 0.1, "c1": 0.3, "c2": 0.6, "c3": 0} {
		if got := float64(counts[cluster]) / float64(len(before)); math.Abs(got-want) > 0.012 {
			t.Errorf("%s has %.3f of the clients, want %.3f", cluster, got, want)
		}
	}
	scaled := winners(t, weightedTable(t, 10_000_000, 30_000_000, 60_000_000, 0))
	raised := winners(t, weightedTable(t, 10, 60, 60, 0))
	removed := winners(t, weightedTable(t, 10, 0, 60, 0))
	for i, was := range before {
		if scaled[i] != was {
			t.Fatalf("client %d moved from %s to %s when all weights were scaled", i, was, scaled[i])
		}
		if raised[i] != was && raised[i] != "c1" {
			t.Fatalf("client %d moved from %s to %s when c1 was raised", i, was, raised[i])
		}
		if removed[i] != was && was != "c1" {
			t.Fatalf("client %d moved from %s to %s when c1 was removed", i, was, removed[i])
		}
	}
	for i, got := range winners(t, weightedTable(t, 0, 0)) {
		if got == "" {
			t.Fatalf("client %d gets nothing when all weights are 0 (S1)", i)
		}
	}
}

// Never two addresses of one fault domain before all are used.
func TestAnswersSpread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		zones := []Zone{{Origin: "example.org.", Records: rulesZones()[0].Records[:2]}}
		drawSteered(t, &zones[0], "x.example.org.", 1)
		table, err := Compile(Options{Zones: zones})
		if err != nil {
			t.Fatal(err)
		}
		s := &zones[0].Steered[0]
		client := netip.PrefixFrom(drawClient(t, "client"), 24).Masked()
		trace, _ := table.Trace("x.example.org.", false, client)
		if trace.Set < 0 {
			return
		}
		set := &s.A.Sets[trace.Set]
		room, used := map[string]int{}, map[string]int{}
		positive := false
		inner, _ := geo.Normalise(client.Addr())
		admitted, _ := oracleAdmits(s, set, unitOf(addressOf(inner)))
		for _, site := range set.Sites {
			positive = positive || site.Weight > 0
		}
		total := 0
		for i, site := range set.Sites {
			if admitted[i] && (!set.Weighted || site.Weight > 0 || !positive) {
				room[site.Domain] += answersOf(site)
				total += answersOf(site)
			}
		}
		want := min(total, s.Answers)
		if s.CNAME {
			want = min(want, 1) // RFC 2181 section 10.1
		}
		if len(trace.Picks) != want {
			t.Fatalf("got %d addresses, want %d", len(trace.Picks), want)
		}
		seen := map[netip.Addr]bool{}
		for _, p := range trace.Picks {
			for domain, n := range room {
				if used[domain] < used[p.Domain] && used[domain] < n {
					t.Fatalf("%s is used again before %s: %v", p.Domain, domain, trace.Picks)
				}
			}
			used[p.Domain]++
			if seen[p.Addr] {
				t.Fatalf("%s comes twice", p.Addr)
			}
			seen[p.Addr] = true
		}
	})
}

// A client of unknown place gets the order of the first set.
func TestUnknownPlaceUsesTheOrder(t *testing.T) {
	site := func(c string, last byte) Site {
		return Site{Cluster: c, Domain: c, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, last})}}
	}
	table := compiled(t, func(o *Options) {
		o.Zones[0].Steered = []Steered{{Name: "x.example.org.", Service: "x", TTL: 20, Answers: 2, A: View{
			Sets: []Set{{Sites: []Site{site("fra", 1), site("ams", 2), site("nyc", 3)}}},
		}}}
	})
	trace, ok := table.Trace("x.example.org.", false, netip.Prefix{})
	if !ok || len(trace.Picks) != 2 || trace.Picks[0].Cluster != "fra" || trace.Picks[1].Cluster != "ams" {
		t.Errorf("got %+v, want fra and ams in order", trace.Picks)
	}
}

// rampTable has a name of three sites in order, or weighted, of which some have a share.
func rampTable(t testing.TB, change func(*Set), shares ...uint8) *Table {
	t.Helper()
	var set Set
	for i, share := range shares {
		set.Sites = append(set.Sites, Site{
			Cluster: fmt.Sprintf("c%d", i), Domain: fmt.Sprintf("c%d", i), Weight: uint32(10 * (i + 1)), Share: share,
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})},
		})
	}
	change(&set)
	return compiled(t, func(o *Options) {
		o.Zones[0].Steered = []Steered{{Name: "x.example.org.", Service: "x", TTL: 20, Answers: 1, A: View{Sets: []Set{set}}}}
	})
}

// SEMANTICS, return: a site that has a share of its clients has just so many of them,
// a step of its share moves clients to it alone, and who has come stays. The others are
// where they are without it.
func TestShares(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Set)
		of     float64 // of all clients, those whom c0 has where it has all
	}{
		{"in order", func(*Set) {}, 1},
		{"weighted", func(s *Set) { s.Weighted = true }, (10.0/60 + 10.0/40) / 2}, // half of them know of c1
		{"pinned", func(s *Set) { s.Sites[1].Level, s.Sites[2].Level = 1, 1 }, 1},
		{"pinned, the others weighted", func(s *Set) { s.Sites[1].Level, s.Sites[2].Level, s.Weighted = 1, 1, true }, 1},
		{"pinned, and one behind the others", func(s *Set) { s.Sites[1].Level, s.Sites[2].Level, s.Weighted = 1, 2, true }, 1},
		{"one behind", func(s *Set) { s.Sites[2].Level = 1 }, 1},
		{"weighted, and one behind", func(s *Set) { s.Sites[2].Level, s.Weighted = 1, true }, (10.0/30 + 1) / 2}, // half of them know of c1
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			without := winners(t, rampTable(t, func(s *Set) { tc.change(s); s.Sites[0].Addrs = nil }, 0, 50, 0))
			before := without
			for _, share := range []uint8{1, 10, 50, 99, 100} {
				got := winners(t, rampTable(t, tc.change, share, 50, 0))
				n := 0
				for i, now := range got {
					if now == "" {
						t.Fatalf("client %d gets nothing (S1)", i)
					}
					if now == "c0" {
						n++
					}
					if now != before[i] && now != "c0" {
						t.Fatalf("client %d moved from %s to %s when c0 got %d %%", i, before[i], now, share)
					}
					if now != "c0" && now != without[i] {
						t.Fatalf("client %d is at %s, without c0 at %s", i, now, without[i])
					}
				}
				p := tc.of * float64(share) / 100
				if f := float64(n) / float64(len(got)); math.Abs(f-p) > 5*math.Sqrt(p*(1-p)/float64(len(got)))+1e-9 {
					t.Errorf("at %d %% it has %.4f of the clients, want %.4f", share, f, p)
				}
				before = got
			}
		})
	}
	t.Run("nobody is left without an answer", func(t *testing.T) {
		for i, got := range winners(t, rampTable(t, func(*Set) {}, 10, 50)) {
			if got != "c0" {
				t.Fatalf("client %d is at %q, want the first where no site is there for all", i, got)
			}
		}
	})
	t.Run("the scope is the unit's while a share counts", func(t *testing.T) {
		for share, want := range map[uint8]int{10: 24, 0: 0, 100: 0} {
			trace, _ := rampTable(t, func(*Set) {}, share, 0).Trace("x.example.org.", false, netip.MustParsePrefix("198.51.100.0/20"))
			if trace.Scope != want {
				t.Errorf("at %d %% the scope is %d, want %d", share, trace.Scope, want)
			}
		}
	})
}
