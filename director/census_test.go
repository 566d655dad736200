package director

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/dnsserver/geo"
)

// shiftSpec has the sites of each policy that moves clients otherwise: by weight, by
// distance and region, by pins.
func shiftSpec(weights [3]string, regions, pins string) string {
	return `
apiVersion: divert.dev/v1alpha1
kind: Cluster
metadata: {name: fra}
spec: {location: {country: DE}}
---
apiVersion: divert.dev/v1alpha1
kind: Cluster
metadata: {name: nyc}
spec: {location: {country: US}}
---
apiVersion: divert.dev/v1alpha1
kind: Cluster
metadata: {name: sin}
spec: {location: {country: SG}}
---
apiVersion: divert.dev/v1alpha1
kind: Zone
metadata: {name: example.org}
spec: {nameservers: [ns1.example.org], hostmaster: dns-admin@example.org, records: "ns1 A 192.0.2.53\n"}
---
apiVersion: divert.dev/v1alpha1
kind: GlobalService
metadata: {name: pay}
spec:
  hosts: [pay.example.org]
  endpoints:
  - {cluster: fra, addresses: [192.0.2.1], weight: ` + weights[0] + `}
  - {cluster: nyc, addresses: [192.0.2.2], weight: ` + weights[1] + `}
  - {cluster: sin, addresses: [192.0.2.3], weight: ` + weights[2] + `}
  steering: {policy: weighted}
---
apiVersion: divert.dev/v1alpha1
kind: GlobalService
metadata: {name: shop}
spec:
  hosts: [shop.example.org]
  endpoints:
  - {cluster: fra, addresses: [192.0.2.1]}
  - {cluster: nyc, addresses: [192.0.2.2]}
  - {cluster: sin, addresses: [192.0.2.3]}
  steering: {policy: geo, order: [fra, nyc, sin]` + regions + `}
` + pins
}

// TestShiftsAreWhatClientsGet: the per cents of a preview are what clients see who are
// drawn from all addresses that the geo table places and asked for by the real tables,
// before and after.
func TestShiftsAreWhatClientsGet(t *testing.T) {
	m := &mesh{t: t, ctx: t.Context()}
	for i, name := range []string{"d1", "d2", "d3"} {
		m.nodes = append(m.nodes, &node{loop: &loop{name: name}, mesh: m, key: benchKey(byte(i))})
	}
	e := newEarth(geo.Default())
	tableOf := func(f *inForce) *answer.Table {
		fit := e.fit(f.spec)
		decision := steer.Decide(steer.Input{Spec: f.spec, Plan: f.sealed.Plan, Places: fit.places})
		table, err := fit.compile(answer.Options{Zones: new(describer).describe(f, decision), Plan: f.sealed.Identity.String()})
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	before := m.planOf(shiftSpec([3]string{"1", "2", "3"}, "", ""), nil, 1, m.nodes[0])
	text := shiftSpec([3]string{"3", "2", "1"}, ", regions: [{clients: {countries: [FR, GB]}, order: [sin]}]", "  pins: [{prefix: 80.0.0.0/6, cluster: nyc}]\n")
	after := m.planOf(text, nil, 2, m.nodes[0])
	raws, problems := spec.Parse("next.yaml", []byte(text))
	if spec.Failed(problems) {
		t.Fatal(problems)
	}
	change, err := core.Decide(core.State{
		Plan: before.sealed, Doc: before.doc, Spec: before.spec, Places: e.placesFor, Census: e.censusFor, Now: time.Now(), Me: "d1", CheckZone: CheckZone,
	}, core.Command{ID: "1", Verb: core.Apply, Author: "ann", Objects: raws, DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	old, next := tableOf(before), tableOf(after)
	pinned := netip.MustParsePrefix("80.0.0.0/6")
	regions := map[string]func(netip.Addr, geo.Place) bool{
		"everywhere": func(netip.Addr, geo.Place) bool { return true },
		"EU":         func(_ netip.Addr, p geo.Place) bool { return p.Continent == "EU" },
		"FR":         func(_ netip.Addr, p geo.Place) bool { return p.Country == "FR" },
		"80.0.0.0/6": func(a netip.Addr, _ geo.Place) bool { return pinned.Contains(a) },
	}
	asked, moved := map[string]float64{}, map[string]float64{}
	random := rand.New(rand.NewPCG(7, 7))
	for clients := 0; clients < 40_000; {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], random.Uint32())
		client := netip.AddrFrom4(b)
		place, _ := e.table.Lookup(client)
		if place == 0 {
			continue
		}
		clients++
		for _, host := range []string{"pay.example.org.", "shop.example.org."} {
			was, ok1 := old.Trace(host, false, netip.PrefixFrom(client, 32))
			is, ok2 := next.Trace(host, false, netip.PrefixFrom(client, 32))
			if !ok1 || !ok2 || len(was.Picks) != 1 || len(is.Picks) != 1 {
				t.Fatalf("%s for %s: %+v, %+v", host, client, was, is)
			}
			for name, has := range regions {
				if !has(client, e.table.Places()[place]) || name == pinned.String() && host == "pay.example.org." {
					continue // of a prefix the services count whose answers change there
				}
				asked[name]++
				if was.Picks[0].Cluster != is.Picks[0].Cluster {
					moved[name]++
				}
			}
		}
	}
	seen := map[string]bool{}
	for _, s := range change.Preview.Shifts {
		if asked[s.Region] == 0 {
			continue
		}
		seen[s.Region] = true
		want := moved[s.Region] / asked[s.Region] * 100
		bound := 500 / math.Sqrt(asked[s.Region]) // ten standard deviations
		if math.Abs(s.Changed-want) > bound || s.Changed == 0 {
			t.Errorf("%s: %v %% of the answers change, %v %% of those drawn do (± %.2f)", s.Region, s.Changed, want, bound)
		}
	}
	if len(seen) != len(regions) {
		t.Errorf("told of %v, want %d regions", seen, len(regions))
	}
}
