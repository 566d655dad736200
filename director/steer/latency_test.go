package steer

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// TestLatency (SEMANTICS section 2): clients go by the round trips from the directors near
// their place, where there are any, else by distance; and a decider learns of others.
func TestLatency(t *testing.T) {
	f := newFleet()
	for _, c := range []string{"fra:DE", "nyc:US", "sin:SG"} {
		f.cluster(t, c)
	}
	f.service(t, "shop", spec.PolicyLatency, "sin=192.0.2.3", "nyc=192.0.2.2", "fra=192.0.2.1")
	f.plan.Spill = &plan.Spill{Trips: []*plan.Trip{
		{Site: "fra", Cluster: "fra", Millis: 80},
		{Site: "fra", Cluster: "nyc", Millis: 12},
		{Site: "nowhere", Cluster: "sin", Millis: 1},
	}}
	var d Decider
	ask := func(place, want, why string) {
		t.Helper()
		s := d.Decide(f.input()).Services[0]
		set := look(&s.V4, placeOf(t, place), netip.Prefix{})
		if got := shown(set); got != want {
			t.Errorf("%s: got %s, want %s", place, got, want)
		}
		if got := s.Why(IPv4, set); !slices.Contains(got, why) {
			t.Errorf("%s: got %q, want %q", place, got, why)
		}
	}
	ask("NL", "nyc, fra, sin", "latency: least round trip first, from the directors in fra: nyc 12 ms, fra 80 ms")
	ask("BR", "nyc, fra, sin", "latency: nothing is measured near, so nearest first: nyc, fra, sin")
	ask("SG", "sin, fra, nyc", "latency: nothing is measured near, so nearest first: sin, fra, nyc")
	f.plan = &plan.Plan{Fleet: "f", Epoch: 1, Revision: 2, Spill: &plan.Spill{Trips: []*plan.Trip{{Site: "fra", Cluster: "fra", Millis: 9}, {Site: "fra", Cluster: "nyc", Millis: 90}}}}
	ask("NL", "fra, nyc, sin", "latency: least round trip first, from the directors in fra: fra 9 ms, nyc 90 ms")
}

// TestLatencyMerges: places that are merged have the same directors near.
func TestLatencyMerges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFleet()
		var sites []string
		for i := range rapid.IntRange(1, 4).Draw(t, "clusters") {
			f.cluster(t, string(rune('a'+i))+":"+rapid.SampledFrom([]string{"DE", "US", "SG"}).Draw(t, "country"))
			sites = append(sites, string(rune('a'+i))+"=192.0.2."+string(rune('1'+i)))
		}
		f.service(t, "shop", spec.PolicyLatency, sites...)
		f.plan.Spill = &plan.Spill{}
		for _, from := range f.set.Clusters {
			for _, to := range f.set.Clusters {
				if rapid.Bool().Draw(t, "measured") {
					f.plan.Spill.Trips = append(f.plan.Spill.Trips, &plan.Trip{Site: from.Name, Cluster: to.Name, Millis: rapid.Uint32Range(1, 90).Draw(t, "ms")})
				}
			}
		}
		table := slices.Clone(places)
		for range rapid.IntRange(0, 30).Draw(t, "places") {
			p := rapid.SampledFrom(places[1:]).Draw(t, "home")
			p.Latitude, p.Longitude = float64(rapid.IntRange(-80, 80).Draw(t, "lat")), float64(rapid.IntRange(-170, 170).Draw(t, "lon"))
			table = append(table, p)
		}
		in := f.input()
		in.Places = table
		want := Decide(in)
		var of []uint16
		in.Places, of = Merge(table, f.set)
		got := Decide(in)
		for i := range table {
			a, b := look(&want.Services[0].V4, i, netip.Prefix{}), look(&got.Services[0].V4, int(of[i]), netip.Prefix{})
			if keyOf(a) != keyOf(b) {
				t.Fatalf("place %d (%+v) has %s, merged it has %s", i, table[i], shown(a), shown(b))
			}
		}
	})
}
