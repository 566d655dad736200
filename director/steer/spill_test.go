package steer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
)

// drawSpill gives some sites capacities, and a plan that says something of loads.
func (f *fleet) drawSpill(t *rapid.T) {
	f.size(t)
	f.drawPools(t)
}

// size says of which capacities somebody wrote. Clusters are not changed once a decider
// has seen them.
func (f *fleet) size(t *rapid.T) {
	set := *f.set
	set.Fleet.TargetUtilised = rapid.SampledFrom([]int{1, 50, 75, 100}).Draw(t, "target")
	set.Clusters, set.Services = nil, nil
	for _, c := range f.set.Clusters {
		other := *c
		other.Sized = rapid.IntRange(0, 3).Draw(t, "sized") > 0
		set.Clusters = append(set.Clusters, &other)
	}
	for _, svc := range f.set.Services {
		other := *svc
		other.Endpoints = slices.Clone(svc.Endpoints)
		for i := range other.Endpoints {
			if e := &other.Endpoints[i]; rapid.IntRange(0, 4).Draw(t, "own") == 0 {
				e.Sized, e.Capacity = true, rapid.Int64Range(1, 300).Draw(t, "capacity")
			}
		}
		set.Services = append(set.Services, &other)
	}
	f.set = &set
}

// drawPools makes what a plan says of loads, of pools that are none, too.
func (f *fleet) drawPools(t *rapid.T) {
	f.plan.Spill = nil
	if rapid.IntRange(0, 5).Draw(t, "no spill") == 0 {
		return
	}
	f.plan.Spill = &plan.Spill{}
	scopes := []string{"cluster/gone", "nonsense"}
	for _, c := range f.set.Clusters {
		scopes = append(scopes, "cluster/"+c.Name)
	}
	for _, svc := range f.set.Services {
		for _, e := range svc.Endpoints {
			scopes = append(scopes, "service/"+svc.Name+"@"+e.Cluster)
		}
	}
	for _, scope := range scopes {
		if rapid.IntRange(0, 3).Draw(t, "left out") == 0 {
			continue
		}
		f.plan.Spill.Pools = append(f.plan.Spill.Pools, &plan.Pool{
			Scope:   scope,
			Load:    rapid.SampledFrom([]uint64{0, 1, 10_000, 40_000, 75_000, 90_000, 300_000, math.MaxUint64}).Draw(t, "load"),
			Share:   rapid.SampledFrom([]uint32{0, 0, 1, 50, 96, 99, 100, 1000}).Draw(t, "share"),
			Refuses: rapid.SampledFrom([]uint32{0, 0, 1, 40, 99, 100}).Draw(t, "refuses"),
		})
	}
}

// sized is three sites of 100 each, in order, of which 75 % may be used.
func sized(t *testing.T, loads map[string]uint64) *fleet {
	t.Helper()
	f := newFleet()
	f.set.Fleet.TargetUtilised = 75
	for _, c := range []string{"fra:DE", "ams:NL", "nyc:US"} {
		f.cluster(t, c)
	}
	for _, c := range f.set.Clusters {
		c.Sized = true
	}
	f.service(t, "shop", spec.PolicyFailover, "fra=192.0.2.1", "ams=192.0.2.2", "nyc=192.0.2.3")
	f.plan.Spill = &plan.Spill{}
	for _, c := range f.set.Clusters {
		f.plan.Spill.Pools = append(f.plan.Spill.Pools, &plan.Pool{Scope: "cluster/" + c.Name, Load: loads[c.Name] * 1000})
	}
	return f
}

func (f *fleet) pool(name string) *plan.Pool {
	i := slices.IndexFunc(f.plan.Spill.Pools, func(p *plan.Pool) bool { return p.GetScope() == "cluster/"+name })
	return f.plan.Spill.Pools[i]
}

// shown draws a set: "fra 90 %, ams, nyc", by weight "fra*300, ams*700", and what is on
// another level after a stroke.
func shown(s *Set) string {
	text := ""
	for i, c := range s.Choices {
		switch {
		case i > 0 && c.Level > s.Choices[i-1].Level:
			text += " | "
		case i > 0:
			text += ", "
		}
		text += c.Cluster
		if s.Weighted {
			text += fmt.Sprintf("*%d", c.Weight)
		}
		if c.Share > 0 {
			text += fmt.Sprintf(" %d %%", c.Share)
		}
	}
	return text
}

// TestSpill tells the cases of SEMANTICS section 2, Capacity.
func TestSpill(t *testing.T) {
	tests := []struct {
		name  string
		loads map[string]uint64
		do    func(*fleet)
		want  string
		why   string
	}{
		{name: "nothing is too much", loads: map[string]uint64{"fra": 50}, want: "fra, ams, nyc"},
		{
			name: "overflow goes to the next", loads: map[string]uint64{"fra": 80},
			do: func(f *fleet) { f.pool("fra").Share = 90 }, want: "fra 90 %, ams, nyc",
			why: "capacity: fra keeps 90 % of its clients, since it was above the target of 75 % (it has 80 %)",
		},
		{
			name: "and past one that has no room", loads: map[string]uint64{"fra": 80, "ams": 75},
			do: func(f *fleet) { f.pool("fra").Share, f.pool("ams").Refuses = 90, 60 }, want: "fra 90 %, ams 40 %, nyc",
			why: "capacity: ams takes 40 % of the clients of others, since it is near the target of 75 % (it has 75 %)",
		},
		{
			name: "one that refuses keeps its own", loads: map[string]uint64{"fra": 50, "ams": 75},
			do: func(f *fleet) { f.pool("fra").Refuses = 99 }, want: "fra, ams, nyc",
		},
		{
			name: "somebody has all", loads: map[string]uint64{"fra": 80, "ams": 80, "nyc": 80},
			do: func(f *fleet) {
				for _, c := range []string{"fra", "ams", "nyc"} {
					f.pool(c).Share, f.pool(c).Refuses = 50, 50
				}
			},
			want: "fra 50 %, ams 50 %, nyc",
		},
		{
			name: "a loss that the next can bear", loads: map[string]uint64{"fra": 40, "ams": 30, "nyc": 10},
			do: func(f *fleet) { f.mark("fra", health.KindUnknown, health.Down) }, want: "ams, nyc",
		},
		{
			name: "a loss that it cannot bear goes by room", loads: map[string]uint64{"fra": 60, "ams": 70, "nyc": 20},
			do: func(f *fleet) { f.mark("fra", health.KindUnknown, health.Down) }, want: "ams*83, nyc*916",
			why: "capacity: ams has no room for all clients of fra, which are spread: ams 8 %, nyc 92 %",
		},
		{
			name: "one that nobody can bear goes by capacity", loads: map[string]uint64{"fra": 150, "ams": 75, "nyc": 75},
			do: func(f *fleet) { f.mark("fra", health.KindUnknown, health.Down) }, want: "ams*500, nyc*500",
		},
		{
			name: "a drain is a loss", loads: map[string]uint64{"fra": 60, "ams": 70, "nyc": 20},
			do: func(f *fleet) { f.override(plan.Override_DRAIN, "cluster/fra", "alice", false) }, want: "ams*83, nyc*916",
		},
		{
			name: "of another site it moves nobody here", loads: map[string]uint64{"fra": 60, "ams": 70, "nyc": 60},
			do: func(f *fleet) { f.mark("ams", health.KindUnknown, health.Down) }, want: "fra, nyc",
		},
		{
			name: "while it returns the rest stay spread", loads: map[string]uint64{"fra": 60, "ams": 70, "nyc": 20},
			do: func(f *fleet) { f.back("fra", 0, 0) }, want: "fra*1 10 % | ams*84, nyc*915",
		},
		{
			name: "without a written capacity there is room", loads: map[string]uint64{"fra": 60, "ams": 70, "nyc": 20},
			do: func(f *fleet) {
				f.set.Clusters[1].Sized = false
				f.mark("fra", health.KindUnknown, health.Down)
			},
			want: "ams, nyc",
		},
		{
			name: "the spec says to observe", loads: map[string]uint64{"fra": 80},
			do: func(f *fleet) {
				f.pool("fra").Share = 90
				f.set.Services[0].Automation = spec.AutomationObserve
			},
			want: "fra, ams, nyc",
		},
		{
			name: "by weight", loads: map[string]uint64{"fra": 80},
			do: func(f *fleet) {
				f.pool("fra").Share = 90
				f.set.Services[0].Steering.Policy = spec.PolicyWeighted
			},
			want: "fra*1 90 %, ams*1, nyc*1",
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			f := sized(t, tc.loads)
			if tc.do != nil {
				tc.do(f)
			}
			d := Decide(f.input()).Services[0]
			set := look(&d.V4, 0, netip.Prefix{})
			if got := shown(set); got != tc.want {
				t.Errorf("got %s, want %s because %q", got, tc.want, d.Why(IPv4, set))
			}
			if why := d.Why(IPv4, set); tc.why != "" && !slices.Contains(why, tc.why) {
				t.Errorf("got %q, want %q", why, tc.why)
			}
		})
	}
}

// TestSpillMovesOnlyTheStep: a lesser share moves clients away from the site that sheds
// them and no others, who has left stays away at each later step, and with the share all
// come back (rendezvous, monotone).
func TestSpillMovesOnlyTheStep(t *testing.T) {
	f := sized(t, map[string]uint64{"fra": 80, "ams": 50, "nyc": 50})
	random := rand.New(rand.NewPCG(1, 2))
	chances := make([]map[string][2]float64, 2000)
	for i := range chances {
		chances[i] = map[string][2]float64{}
		for _, c := range f.set.Clusters {
			chances[i][c.Name] = [2]float64{random.Float64(), random.Float64()}
		}
	}
	all := func() []string {
		d := Decide(f.input()).Services[0]
		out := make([]string, len(chances))
		for i := range chances {
			out[i] = told(look(&d.V4, 0, netip.Prefix{}), 1, chances[i])[0]
		}
		return out
	}
	before := all()
	for _, share := range []uint32{99, 95, 80, 80, 50, 1} {
		f.pool("fra").Share = share
		now := all()
		left := 0
		for i := range now {
			if now[i] != "fra" {
				left++
			}
			if now[i] != before[i] && before[i] != "fra" {
				t.Fatalf("share %d: client %d was at %s, is at %s", share, i, before[i], now[i])
			}
		}
		if want := float64(100-share) * 20; math.Abs(float64(left)-want) > 120 {
			t.Errorf("share %d: %d of 2000 have left, want about %.0f", share, left, want)
		}
		before = now
	}
	f.pool("fra").Share = 0
	if now := all(); slices.ContainsFunc(now, func(c string) bool { return c != "fra" }) {
		t.Error("not all came back")
	}
}

// TestScalingLoads: a factor common to all loads and capacities changes no answer.
func TestScalingLoads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := draw(t)
		f.drawSpill(t)
		for _, p := range f.plan.GetSpill().GetPools() {
			p.Load = min(p.Load, 1_000_000)
		}
		one := Decide(f.input())
		factor := rapid.Int64Range(2, 1000).Draw(t, "factor")
		set := *f.set
		set.Clusters, set.Services = nil, nil
		for _, c := range f.set.Clusters {
			other := *c
			other.Capacity *= factor
			set.Clusters = append(set.Clusters, &other)
		}
		for _, svc := range f.set.Services {
			other := *svc
			other.Endpoints = slices.Clone(svc.Endpoints)
			for i := range other.Endpoints {
				other.Endpoints[i].Capacity *= factor
			}
			set.Services = append(set.Services, &other)
		}
		f.set, f.plan = &set, proto.CloneOf(f.plan)
		for _, p := range f.plan.GetSpill().GetPools() {
			p.Load *= uint64(factor)
		}
		if got, want := dump(Decide(f.input())), dump(one); got != want {
			t.Fatalf("scaled:\n%s\nas it was:\n%s", got, want)
		}
	})
}

// TestPartsOfSpills: what a set's choices are said to have is what clients are told of.
func TestPartsOfSpills(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	rapid.Check(t, func(t *rapid.T) {
		f := draw(t)
		f.drawSpill(t)
		d := Decide(f.input())
		place, client := someone(t)
		set := look(&d.Services[0].V4, place, client)
		if set == nil || len(set.Choices) == 0 {
			return
		}
		parts := set.Parts(1)
		sum := 0.0
		for _, part := range parts {
			sum += part
		}
		if math.Abs(sum-1) > 1e-9 {
			t.Fatalf("%s: parts %v come to %v", shown(set), parts, sum)
		}
		const clients = 3000
		count := make([]float64, len(parts))
		for range clients {
			chance := map[string][2]float64{}
			for _, c := range set.Choices {
				chance[c.Cluster] = [2]float64{random.Float64(), random.Float64()}
			}
			first := told(set, 1, chance)[0]
			count[slices.IndexFunc(set.Choices, func(c Choice) bool { return c.Cluster == first })]++
		}
		for i, part := range parts {
			if math.Abs(count[i]/clients-part) > 0.06 { // six standard deviations
				t.Fatalf("%s: choice %d has %.3f of the clients, Parts says %.3f", shown(set), i, count[i]/clients, part)
			}
		}
	})
}
