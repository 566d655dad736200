package steer

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
)

// told gives the clusters that a client is told of, as package answer works it out: one
// chance of each site says whether its share admits the client, another who wins what is
// weighted.
func told(s *Set, n int, chance map[string][2]float64) []string {
	admitted := slices.DeleteFunc(slices.Clone(s.Choices), func(c Choice) bool {
		return c.Share > 0 && chance[c.Cluster][0]*100 >= float64(c.Share)
	})
	admitted = slices.DeleteFunc(admitted, func(c Choice) bool {
		return slices.ContainsFunc(admitted, func(o Choice) bool { return o.Level < c.Level })
	})
	if s.Weighted {
		slices.SortStableFunc(admitted, func(a, b Choice) int {
			cost := func(c Choice) float64 { return -math.Log(chance[c.Cluster][1]) / float64(c.Weight) }
			if cost(a) < cost(b) {
				return -1
			}
			return 1
		})
	}
	return clustersOf(&Set{Choices: picked(admitted, n)})
}

func drawReturns(t *rapid.T, f *fleet) {
	f.returns, f.earlier = nil, nil
	for _, c := range f.set.Clusters {
		if rapid.IntRange(0, 2).Draw(t, "returned") == 0 {
			f.drawReturn(t, c.Name)
			f.fallen(c.Name)
		}
		if rapid.IntRange(0, 2).Draw(t, "returns") == 0 {
			f.drawReturn(t, c.Name)
		}
	}
}

func (f *fleet) drawReturn(t *rapid.T, cluster string) {
	seconds := func(label string, from ...int) time.Duration {
		return time.Duration(rapid.SampledFrom(from).Draw(t, label)) * time.Second
	}
	f.back(cluster, seconds("after", 0, 3, 4, 7, 9, 20), seconds("age", 0, 10, 20, 30, 35, 60, 65))
}

// drawProbes adds probes, hard and soft, and a rule for them.
func drawProbes(t *rapid.T, svc *spec.GlobalService) {
	for i := range rapid.IntRange(0, 3).Draw(t, "more probes") {
		p := httpProbe(rapid.SampledFrom([]uint16{80, 81}).Draw(t, "port"), fmt.Sprintf("/%d", i), 0)
		p.Weight = rapid.Int64Range(0, 3).Draw(t, "probe weight")
		if rapid.Bool().Draw(t, "fast") {
			p.Fast = 100_000_000
		}
		svc.Probes = append(svc.Probes, p)
	}
	if rapid.IntRange(0, 2).Draw(t, "soft probe") == 0 {
		svc.Probes = append(svc.Probes, spec.Probe{Kube: &spec.KubeProbe{MinNodesReady: 50}, Interval: 10_000_000_000})
	}
	svc.Combine = spec.Combine{AtLeast: rapid.IntRange(0, 3).Draw(t, "at least"), DegradedBelow: rapid.Int64Range(0, 5).Draw(t, "degraded below")}
}

// TestStepsMoveOnlyToWhoReturns: through falls, returns and their steps, in whatever
// order, a client goes only from a site that falls, or to one that has more of its clients
// than before; no share shrinks but by a fall; and nobody is left without an answer (S1).
// Some sites are degraded all along: they have clients only while nobody healthy has all.
func TestStepsMoveOnlyToWhoReturns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := draw(t)
		svc := f.set.Services[0]
		f.plan.Overrides, svc.Combine = nil, spec.Combine{}
		clear(f.states)
		f.returns = nil
		at := map[string]time.Duration{} // when each that returned did
		down := map[string]bool{}
		soft := map[string]bool{}
		for _, c := range f.set.Clusters {
			if rapid.IntRange(0, 2).Draw(t, "degraded") == 0 {
				f.mark(c.Name, health.KindSoft, health.Down)
				soft[c.Name] = true
			}
		}
		now := time.Duration(0)
		var decider Decider
		place, client := someone(t)
		chances := make([]map[string][2]float64, 20)
		for i := range chances {
			chances[i] = map[string][2]float64{}
			for _, c := range f.set.Clusters {
				chances[i][c.Name] = [2]float64{
					rapid.Float64Range(0, 0.999).Draw(t, "admits"), rapid.Float64Range(0.001, 0.999).Draw(t, "wins"),
				}
			}
		}
		before := decider.Decide(f.input())
		for range rapid.IntRange(1, 12).Draw(t, "events") {
			fell := ""
			c := rapid.SampledFrom(f.set.Clusters).Draw(t, "who").Name
			switch {
			case rapid.IntRange(0, 2).Draw(t, "event") == 0:
				now += time.Duration(rapid.IntRange(1, 200).Draw(t, "passes")) * 100 * time.Millisecond
			case down[c]:
				f.mark(c, health.KindUnknown, health.Up)
				down[c], at[c] = false, now
			default:
				f.mark(c, health.KindUnknown, health.Down)
				down[c], fell = true, c
				delete(at, c)
			}
			f.returns = nil
			for name, since := range at {
				f.back(name, since, now-since)
			}
			after := decider.Decide(f.input())
			if got, want := dump(after), dump(Decide(f.input())); got != want {
				t.Fatalf("remembered:\n%s\nanew:\n%s", got, want)
			}
			for _, y := range slices.Concat(after.Services[0].V4.Sets, after.Services[0].V6.Sets) {
				if y.Weighted && slices.ContainsFunc(y.Choices, func(c Choice) bool { return c.Weight == 0 }) {
					t.Fatalf("a choice without a weight is none: %s", dump(after))
				}
			}
			for fam := range 2 {
				x := look([]*View{&before.Services[0].V4, &before.Services[0].V6}[fam], place, client)
				y := look([]*View{&after.Services[0].V4, &after.Services[0].V6}[fam], place, client)
				if x == nil {
					continue
				}
				share := func(s *Set, name string) uint8 {
					i := slices.IndexFunc(s.Choices, func(c Choice) bool { return c.Cluster == name })
					if i < 0 {
						return 0
					}
					if s.Choices[i].Share == 0 {
						return 100
					}
					return s.Choices[i].Share
				}
				over := [2]bool{before.Services[0].overBudget[fam] != "", after.Services[0].overBudget[fam] != ""}
				if over[0] == over[1] && len(svc.Pins) == 0 && x.FailOpen == y.FailOpen { // a pinned one is alone in its set
					for _, c := range f.set.Clusters {
						if soft[c.Name] {
							continue // it goes when somebody healthy has all
						}
						if was, is := share(x, c.Name), share(y, c.Name); is < was && c.Name != fell {
							t.Fatalf("%s had %d %% and has %d %% though it did not fall:\n%s\n%s", c.Name, was, is, dump(before), dump(after))
						}
					}
				}
				if len(y.Choices) > 0 && !slices.ContainsFunc(y.Choices, func(c Choice) bool { return c.Share == 0 }) {
					t.Fatalf("no site is there for all (S1): %s", dump(after))
				}
				healthy := func(c Choice) bool { return !soft[c.Cluster] }
				if !over[1] && y.Tier == TierHealthy && len(svc.Pins) == 0 {
					all := slices.ContainsFunc(y.Choices, func(c Choice) bool { return healthy(c) && c.Share == 0 })
					for _, c := range y.Choices {
						if !healthy(c) && (all || c.Level == 0) {
							t.Fatalf("degraded %s has clients of a healthy site: %s", c.Cluster, dump(after))
						}
					}
				}
				if over[0] != over[1] {
					continue // S9 moves clients from tier to tier
				}
				for _, chance := range chances {
					from, to := told(x, 1, chance), told(y, 1, chance)
					if len(from) != len(to) {
						t.Fatalf("from %v to %v", from, to)
					}
					if len(to) == 0 || from[0] == to[0] || from[0] == fell || x.FailOpen || y.FailOpen {
						continue
					}
					if share(y, to[0]) <= share(x, to[0]) {
						t.Fatalf("a client moved from %s to %s, which has no more of its clients:\n%s\n%s", from[0], to[0], dump(before), dump(after))
					}
				}
			}
			before = after
		}
	})
}

// TestNextStep: the TTL is that of a name with a change ahead (SEMANTICS, TTL) as long as
// a step changes what the name answers.
func TestNextStep(t *testing.T) {
	tests := []struct {
		name   string
		change func(*fleet)
		want   time.Duration // after noon
	}{
		{"the first step", func(f *fleet) { f.back("fra", 0, 4*time.Second) }, 10 * time.Second},
		{"the last", func(f *fleet) { f.back("fra", 0, 10*time.Second) }, 30 * time.Second},
		{"all of it", func(f *fleet) { f.back("fra", 0, 30*time.Second) }, 0},
		{"of two the sooner", func(f *fleet) { f.back("fra", 0, 10*time.Second); f.back("nyc", 9*time.Second, time.Second) }, 19 * time.Second},
		{"nobody else is there", func(f *fleet) {
			f.back("fra", 0, time.Second)
			f.mark("nyc", health.KindUnknown, health.Down)
			f.mark("sin", health.KindUnknown, health.Down)
		}, 0},
		{"it stands by", func(f *fleet) { f.back("nyc", 0, time.Second) }, 0},
		{"it is drained", func(f *fleet) {
			f.back("fra", 0, time.Second)
			f.override(plan.Override_DRAIN, "cluster/fra", "alice", false).End = nil
		}, 0},
		{"a drain ends before it", func(f *fleet) {
			f.back("fra", 0, 10*time.Second)
			f.override(plan.Override_DRAIN, "cluster/fra", "alice", false).End = nil
			f.plan.Overrides[0].Scope = "cluster/nyc"
		}, 30 * time.Second},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			f := newFleet()
			for _, c := range []string{"fra:DE", "nyc:US", "sin:SG"} {
				f.cluster(t, c)
			}
			f.service(t, "shop", spec.PolicyFailover, "fra=192.0.2.1", "nyc=192.0.2.2", "sin=192.0.2.3")
			tc.change(f)
			want := time.Time{}
			if tc.want > 0 {
				want = noon.Add(tc.want)
			}
			if got := Decide(f.input()).Services[0].Next; !got.Equal(want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// TestCombinedReturn: an address of a service that counts its probes is back when enough
// of them pass, and was never away as long as enough did.
func TestCombinedReturn(t *testing.T) {
	tests := []struct {
		atLeast int
		at      [3]int // seconds after noon at which each check came back; 0: it never fell
		want    string
	}{
		{1, [3]int{0, 5, 9}, "[]"},
		{1, [3]int{7, 5, 9}, "[10 15]"},
		{2, [3]int{7, 5, 9}, "[10 17]"},
		{2, [3]int{0, 0, 9}, "[]"},
		{2, [3]int{0, 5, 9}, "[10 15]"},
		{0, [3]int{0, 5, 9}, "[10 19]"},
	}
	for _, tc := range tests {
		f := newFleet()
		f.cluster(t, "fra:DE")
		f.cluster(t, "nyc:US")
		svc := f.service(t, "shop", spec.PolicyFailover, "fra=192.0.2.1", "nyc=192.0.2.2")
		first := svc.Probes[0]
		svc.Probes = nil
		for _, path := range []string{"/a", "/b", "/c"} {
			p, http := first, *first.HTTP
			http.Path, p.Fast, p.HTTP = path, 0, &http
			svc.Probes = append(svc.Probes, p)
		}
		svc.Combine.AtLeast = tc.atLeast
		f.returns = map[health.Subject]Return{}
		for i := range svc.Probes {
			if tc.at[i] > 0 {
				s := health.Subject{Kind: health.KindCheck, Addr: netip.MustParseAddrPort("192.0.2.1:80"), Def: define(svc.Probes[i].Definition())}
				f.returns[s] = Return{At: noon.Add(time.Duration(tc.at[i]) * time.Second)}
			}
		}
		d := Decide(f.input())
		got := []int{}
		if c := d.Services[0].V4.Sets[0].Choices[0]; c.Share > 0 {
			got = append(got, int(c.Share), int(d.Services[0].Next.Sub(noon)/time.Second))
		}
		if fmt.Sprint(got) != tc.want {
			t.Errorf("at least %d, back at %v: got %v, want %s (share, next)", tc.atLeast, tc.at, got, tc.want)
		}
	}
}
