package core

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
)

// shown writes a preview's shifts in lines.
func shown(p Preview) string {
	var b strings.Builder
	for _, s := range p.Shifts {
		fmt.Fprintf(&b, "%s %s of %d: %v\n", s.Region, s.Type, s.Services, s.Changed)
		for _, m := range s.Moves {
			fmt.Fprintf(&b, "  %s>%s %v\n", m.From, m.To, m.Percent)
		}
	}
	return b.String()
}

// crowded is a census: three clients of four in DE, one in FR, as many as both in the US,
// and 192.0.2.0/24 all in FR, of which it is half of the clients.
func crowded(sets ...*spec.Set) Census {
	places, of := steer.Merge(everywhere(), sets...)
	_ = places
	return func(p netip.Prefix) []Count {
		switch p.String() {
		case "0.0.0.0/0":
			return []Count{{of[0], 1000}, {of[1], 75}, {of[2], 25}, {of[3], 100}}
		case "192.0.2.0/24":
			return []Count{{of[2], 12.5}}
		default:
			return nil
		}
	}
}

// TestShifts says what part of the answers moves, by region, for what a spec and a drain
// may do.
func TestShifts(t *testing.T) {
	tests := []struct {
		name   string
		change string // of shop's JSON: from=>to
		drain  string
		want   string
	}{
		{
			name: "a drain moves all of one site's clients of the services that it serves", drain: "service/shop@fra",
			want: "everywhere A of 2: 50\n  fra>nyc 50\nEU A of 2: 50\n  fra>nyc 50\nNA A of 2: 50\n  fra>nyc 50\nunknown place A of 2: 50\n  fra>nyc 50\n",
		},
		{
			name: "a site that stands by moves nobody", drain: "service/shop@sin",
			want: "everywhere A of 2: 0\n",
		},
		{
			name: "another order", change: `["fra","nyc","sin"]=>["nyc","fra","sin"]`,
			want: "everywhere A of 2: 50\n  fra>nyc 50\nEU A of 2: 50\n  fra>nyc 50\nNA A of 2: 50\n  fra>nyc 50\nunknown place A of 2: 50\n  fra>nyc 50\n",
		},
		{
			name: "another address of the same site", change: `"192.0.2.10"=>"192.0.2.99"`,
			want: "everywhere A of 2: 50\n  fra>fra 50\nEU A of 2: 50\n  fra>fra 50\nNA A of 2: 50\n  fra>fra 50\nunknown place A of 2: 50\n  fra>fra 50\n",
		},
		{
			name: "what stands by may change its address", change: `"192.0.2.12"=>"192.0.2.99"`,
			want: "everywhere A of 2: 0\n",
		},
		{
			name:   "a region, by the addresses that are there",
			change: `{"order":["fra","nyc","sin"],"policy":"failover"}=>{"order":["fra","nyc","sin"],"policy":"geo","regions":[{"clients":{"countries":["FR"]},"order":["sin"]},{"clients":{"continents":["EU","NA"]},"order":["fra"]}]}`,
			want:   "everywhere A of 2: 6.25\n  fra>sin 6.25\nEU A of 2: 12.5\n  fra>sin 12.5\nFR A of 2: 50\n  fra>sin 50\n",
		},
		{
			name:   "a pin moves its prefix and nobody else",
			change: `"probes"=>"pins":[{"cluster":"sin","prefix":"192.0.2.0/24"}],"probes"`,
			want:   "everywhere A of 2: 3.125\n  fra>sin 3.125\nEU A of 2: 6.25\n  fra>sin 6.25\n192.0.2.0/24 A of 1: 100\n  fra>sin 100\n",
		},
		{
			name: "by weight, what leaves a site goes to the one that is there besides", change: `{"order":["fra","nyc","sin"],"policy":"failover"}=>{"policy":"weighted"}`,
			want: "everywhere A of 2: 33.333\n  fra>nyc 16.667\n  fra>sin 16.667\n",
		},
		{
			name: "a name that goes has no answers", change: "gone",
			want: "everywhere A of 2: 50\n  fra> 50\n",
		},
		{name: "a TTL is no answer", change: `"steering"=>"ttl":"7s","steering"`, want: "everywhere A of 2: 0\n"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.s.Census = crowded
			all := raws(t, fleetYAML)
			c := Command{Verb: Apply, Objects: all, Force: true, DryRun: true}
			switch from, to, _ := strings.Cut(tc.change, "=>"); {
			case tc.drain != "":
				c = w.drain(tc.drain)
			case tc.change == "gone":
				c.Prune, c.Objects = true, only(all, "Cluster/fra", "Cluster/nyc", "Cluster/sin", "Zone/example.org", "Zone/example.net", "GlobalService/pay", "Fleet/default")
			default:
				c.Objects = edit(t, all, "GlobalService/shop", from, to)
			}
			got, err := w.try(c)
			if err != nil {
				t.Fatal(err)
			}
			if s := shown(got.Preview); !strings.HasPrefix(s, tc.want) {
				t.Errorf("got\n%swant\n%s", s, tc.want)
			}
			if got.Preview.Weighing == "" {
				t.Error("how it is counted is not said")
			}
		})
	}
}

// TestShiftsOfOneServiceInItsEffect: what of its own answers a service changes.
func TestShiftsOfOneServiceInItsEffect(t *testing.T) {
	w := newWorld(t)
	w.s.Census = crowded
	got, err := w.try(w.drain("cluster/fra"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range got.Preview.Effects {
		if e.Changed != 100 {
			t.Errorf("%s: %v %% of its answers, want all", e.Service, e.Changed)
		}
	}
}

// TestLargeChangeAsks: a spec that moves more than a quarter of what clients get now says
// so, one that only brings new names does not.
func TestLargeChangeAsks(t *testing.T) {
	w := newWorld(t)
	all := raws(t, fleetYAML)
	large := edit(t, all, "GlobalService/shop", `["fra","nyc","sin"]`, `["nyc","fra","sin"]`)
	c := w.do(Command{Verb: Apply, Objects: large, DryRun: true})
	if !c.Preview.Large || !strings.Contains(strings.Join(c.Preview.Warnings, "\n"), "50 % of the answers") {
		t.Errorf("half of the answers: large %v, %q", c.Preview.Large, c.Preview.Warnings)
	}
	const advice = "apply --canary"
	if got := strings.Join(c.Preview.Warnings, "\n"); !strings.Contains(got, advice) {
		t.Errorf("it can be tried first, and that is not said: %q", got)
	}
	for _, c := range []Command{{Verb: Apply, Canary: []string{"d1"}}, {Verb: GoOn}, {Verb: Revert}} {
		if got := muchText(50, c); strings.Contains(got, advice) {
			t.Errorf("%s %v is told to be tried first: %q", c.Verb, c.Canary, got)
		}
	}
	more := append(all, only(raws(t, strings.NewReplacer("name: pay", "name: twin", "pay.example.org", "twin.example.org").Replace(fleetYAML)), "GlobalService/twin")...)
	if c = w.do(Command{Verb: Apply, Objects: more, DryRun: true}); c.Preview.Large {
		t.Errorf("a new name is large: %s", shown(c.Preview))
	}
	if s := shown(c.Preview); !strings.HasPrefix(s, "everywhere A of 3: 33.333\n  >fra 33.333\n") {
		t.Errorf("a new name: got\n%s", s)
	}
}

// BenchmarkShifts is of 10,000 services with 200 pinned prefixes of their own each, whose
// order changes: what the comparison costs, and what the per cents cost besides.
func BenchmarkShifts(b *testing.B) {
	const services = 10_000
	build := func(order ...string) *spec.Set {
		set := &spec.Set{Fleet: spec.Fleet{DegradedEjected: 50, Automation: spec.AutomationAct}}
		for _, c := range []string{"c0", "c1", "c2", "c3"} {
			set.Clusters = append(set.Clusters, &spec.Cluster{Name: c, FaultDomain: c, Environment: "prod", Capacity: 100})
		}
		for n := range services {
			svc := &spec.GlobalService{
				Name: fmt.Sprintf("s%05d", n), Environment: "prod", MinHealthy: 1, ResidencyUnknown: spec.ResidencyUnknownIntersect,
				AllDown: spec.AllDownAlive, Automation: spec.AutomationAct, Steering: spec.Steering{Policy: spec.PolicyFailover, Answers: 1, Order: order},
			}
			for i, c := range set.Clusters {
				addr := netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), byte(i)})
				svc.Endpoints = append(svc.Endpoints, spec.Endpoint{Cluster: c.Name, Weight: 100, Capacity: 100, Addresses: []netip.Addr{addr}})
			}
			for i := range 200 {
				at := n*200 + i
				svc.Pins = append(svc.Pins, spec.Pin{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(20 + at>>16), byte(at >> 8), byte(at), 0}), 24), Cluster: set.Clusters[i%4].Name})
			}
			set.Services = append(set.Services, svc)
		}
		return set
	}
	before, after := build("c0", "c1", "c2", "c3"), build("c1", "c0", "c2", "c3")
	places := everywhere()
	prepared := steer.Prepare(before, places) // as the loop has it
	census := func(...*spec.Set) Census {
		return func(p netip.Prefix) []Count {
			if p.Bits() == 0 {
				return []Count{{0, 1 << 20}, {1, 1 << 30}, {2, 1 << 30}, {3, 1 << 30}}
			}
			return []Count{{1, 100}, {2, 156}}
		}
	}
	var compared, shifted time.Duration
	for b.Loop() {
		w := &work{s: State{Spec: before, Prepared: prepared, Census: census, Places: func(...*spec.Set) []steer.Place { return places }}, set: after, next: &plan.Plan{}}
		start := used()
		v := w.compare()
		v.effects()
		compared += used() - start
		start = used()
		if shifts, _ := v.shifts(); len(shifts) == 0 || shifts[0].Changed == 0 {
			b.Fatalf("got %+v", shifts)
		}
		shifted += used() - start
	}
	b.ReportMetric(compared.Seconds()*1000/float64(b.N), "compare-ms")
	b.ReportMetric(shifted.Seconds()*1000/float64(b.N), "shifts-ms")
}

// used is the processor time of this process.
func used() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
