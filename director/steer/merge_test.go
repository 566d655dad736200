package steer

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/spec"
)

// TestMergeChangesNothing: deciding for merged places is deciding for all.
func TestMergeChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := []Place{{}}
		homes := []Place{{Country: "DE", Continent: "EU"}, {Country: "NL", Continent: "EU"}, {Country: "TR", Continent: "AS"}, {Country: "US", Continent: "NA"}, {Continent: "EU"}}
		for range rapid.IntRange(0, 60).Draw(t, "places") {
			p := rapid.SampledFrom(homes).Draw(t, "home")
			if rapid.Bool().Draw(t, "exact") {
				p.Latitude, p.Longitude = float64(rapid.IntRange(-80, 80).Draw(t, "lat")), float64(rapid.IntRange(-170, 170).Draw(t, "lon"))
			}
			table = append(table, p)
		}
		f := newFleet()
		var sites []string
		for i := range rapid.IntRange(1, 5).Draw(t, "clusters") {
			country := rapid.SampledFrom([]string{"DE", "NL", "US", "TR", ""}).Draw(t, "country")
			f.cluster(t, fmt.Sprintf("c%d:%s", i, country), "j="+rapid.SampledFrom([]string{"eu", "us"}).Draw(t, "label"))
			if c := f.set.Clusters[i]; rapid.Bool().Draw(t, "located") {
				c.Location.Exact, c.Location.Latitude, c.Location.Longitude = true, float64(rapid.IntRange(-80, 80).Draw(t, "lat")), float64(rapid.IntRange(-170, 170).Draw(t, "lon"))
			}
			sites = append(sites, fmt.Sprintf("c%d=192.0.2.%d,2001:db8::%d", i, i+1, i+1))
		}
		named := []string{"EU", "AS", "DE", "US", "TR+198.51.100.0/24", "EU+DE"}
		for i, policy := range []spec.Policy{spec.PolicyGeo, spec.PolicyFailover, spec.PolicyGeo} {
			svc := f.service(t, fmt.Sprintf("s%d", i), policy, sites[:rapid.IntRange(1, len(sites)).Draw(t, "sites")]...)
			if rapid.Bool().Draw(t, "residency") {
				svc.Residency = []spec.ResidencyRule{{Clients: clients(rapid.SampledFrom(named).Draw(t, "rule")), Clusters: map[string]string{"j": "eu"}}}
			}
			if policy == spec.PolicyGeo && rapid.Bool().Draw(t, "regions") {
				svc.Steering.Regions = []spec.Region{{Clients: clients(rapid.SampledFrom(named).Draw(t, "region")), Order: slices.Clone(svc.Steering.Order)}}
			}
		}
		in := f.input()
		in.Places = table
		want := Decide(in)
		var of []uint16
		in.Places, of = Merge(table, f.set)
		got := Decide(in)
		for s := range want.Services {
			for fam, views := range [][2]*View{{&want.Services[s].V4, &got.Services[s].V4}, {&want.Services[s].V6, &got.Services[s].V6}} {
				row := func(x, y []uint16) {
					for i := range x {
						a, b := &views[0].Sets[x[i]], &views[1].Sets[y[of[i]]]
						if keyOf(a) != keyOf(b) {
							t.Fatalf("%s, %s: place %d (%+v) had %+v, merged it has %+v", want.Services[s].Name, Family(fam), i, table[i], a, b)
						}
					}
				}
				row(views[0].ByPlace, views[1].ByPlace)
				for i := range views[0].ByPrefix {
					row(views[0].ByPrefix[i].ByPlace, views[1].ByPrefix[i].ByPlace)
				}
			}
		}
	})
}

// BenchmarkMerge merges as many places as a table may have.
func BenchmarkMerge(b *testing.B) {
	f, _ := bigFleet(b)
	table := []Place{{}}
	for i := range 65_000 {
		table = append(table, Place{
			Country: fmt.Sprintf("%c%c", 'A'+i%250/26, 'A'+i%26), Continent: []string{"EU", "AS", "NA"}[i%3],
			Latitude: float64(i%1600)/10 - 80, Longitude: float64(i*37%3600)/10 - 180,
		})
	}
	merged := 0
	for b.Loop() {
		places, _ := Merge(append(table, places[1:]...), f.set)
		merged = len(places)
	}
	b.ReportMetric(float64(merged), "places")
}
