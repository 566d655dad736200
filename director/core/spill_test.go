package core

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// sizedWorld is a fleet whose clusters have a capacity of 100 each.
func sizedWorld(t testing.TB) *world { return sizedWorldOf(t, 20*time.Second) }

func sizedWorldOf(t testing.TB, ttl time.Duration) *world {
	t.Helper()
	w := newWorld(t)
	all := edit(t, raws(t, fleetYAML), "GlobalService/shop", `"hosts"`, fmt.Sprintf(`"ttl":"%ds","hosts"`, ttl/time.Second))
	for _, c := range []string{"fra", "nyc", "sin"} {
		all = edit(t, all, "Cluster/"+c, `"location"`, `"capacity":100,"location"`)
	}
	w.do(Command{Verb: Apply, Objects: all})
	return w
}

func cluster(name string) steer.Scope { return steer.Scope{Kind: steer.ScopeCluster, Cluster: name} }

// loads says how busy the clusters are.
func (w *world) loads(fra, nyc, sin float64) {
	w.s.Loads = &Loads{
		Pools: map[steer.Scope]float64{cluster("fra"): fra, cluster("nyc"): nyc, cluster("sin"): sin},
		Parts: map[steer.Scope]float64{endpoint("shop", "fra"): 1, endpoint("shop", "nyc"): 1, endpoint("shop", "sin"): 1},
	}
}

// epoch lets a minute pass, and does what is due.
func (w *world) epoch() bool {
	w.t.Helper()
	w.s.Now = w.s.Now.Add(time.Minute)
	due := Due(w.s)
	if len(due) == 0 {
		return false
	}
	if due[0].Verb != Spill {
		w.t.Fatalf("due: %+v", due)
	}
	w.do(due[0])
	return true
}

func (w *world) said(name string) *plan.Pool {
	for _, p := range w.s.Plan.Plan.GetSpill().GetPools() {
		if p.GetScope() == "cluster/"+name {
			return p
		}
	}
	return &plan.Pool{}
}

// TestSpillSteps: what is above the target sheds at most 4 points an epoch, what is
// hardly above it nothing, and never onto a site that would itself pass the target.
func TestSpillSteps(t *testing.T) {
	t.Run("a step", func(t *testing.T) {
		w := sizedWorld(t)
		w.loads(100, 20, 10)
		if !w.epoch() {
			t.Fatal("nothing is due")
		}
		if p := w.said("fra"); p.GetShare() < 96 || p.GetShare() > 99 {
			t.Errorf("fra keeps %d %%, want at most 4 points less than all", p.GetShare())
		}
		if got := w.s.Plan.Plan.GetMinReader(); got != plan.ReaderSpill {
			t.Errorf("minReader %d: one that does not know it would answer otherwise (L2)", got)
		}
	})
	t.Run("not while somebody is too old", func(t *testing.T) { // F22: who cannot read a plan stays on the one before
		w := sizedWorld(t)
		w.loads(100, 20, 10)
		w.s.Readers = map[string]uint32{}
		for _, d := range w.s.Plan.Plan.Active() {
			w.s.Readers[d.GetName()] = plan.Reader
		}
		first := w.s.Plan.Plan.Active()[0].GetName()
		w.s.Readers[first] = plan.ReaderInterlocks
		if w.epoch() {
			t.Errorf("minReader %d, and %s reads %d", w.s.Plan.Plan.GetMinReader(), first, plan.ReaderInterlocks)
		}
		w.s.Readers[first] = plan.ReaderSpill
		if !w.epoch() {
			t.Error("nothing is due when all can read it")
		}
	})
	t.Run("not worth it", func(t *testing.T) {
		w := sizedWorld(t)
		w.loads(75.9, 5, 5)
		w.epoch()
		if p := w.said("fra"); p.GetShare() != 0 {
			t.Errorf("fra keeps %d %% for less than a point", p.GetShare())
		}
	})
	t.Run("past one that is full", func(t *testing.T) {
		w := sizedWorld(t)
		w.loads(100, 74, 10)
		for range 10 {
			w.epoch()
		}
		if p := w.said("nyc"); p.GetRefuses() != 99 {
			t.Errorf("nyc refuses %d %%, want 99", p.GetRefuses())
		}
		if p := w.said("fra"); p.GetShare() == 0 {
			t.Error("fra sheds nothing, though sin has room")
		}
	})
	t.Run("nobody has room", func(t *testing.T) {
		w := sizedWorld(t)
		w.loads(100, 75, 75)
		for range 5 {
			w.epoch()
		}
		if p := w.said("fra"); p.GetShare() != 0 {
			t.Errorf("fra keeps %d %%: the others would pass their target", p.GetShare())
		}
	})
	t.Run("back again", func(t *testing.T) {
		w := sizedWorld(t)
		w.loads(100, 20, 10)
		w.epoch()
		w.loads(40, 20, 10)
		for range 10 {
			w.epoch()
		}
		if p := w.said("fra"); p.GetShare() != 0 {
			t.Errorf("fra still keeps %d %% only", p.GetShare())
		}
	})
}

// TestSpillIsFrozen: without samples, in less than a minute, under a freeze and for a
// site of which nothing is known, nothing is due; and the same epoch is never done twice
// (S4).
func TestSpillIsFrozen(t *testing.T) {
	busy := func() *world {
		w := sizedWorld(t)
		w.loads(100, 20, 10)
		return w
	}
	w := busy()
	w.s.Loads = nil
	if w.epoch() {
		t.Error("written without samples")
	}
	w = busy()
	due := Due(w.s)
	if len(due) != 1 {
		t.Fatalf("due: %+v", due)
	}
	w.do(due[0])
	w.s.Now = w.s.Now.Add(20 * time.Second)
	if again := Due(w.s); len(again) > 0 {
		t.Errorf("due again after 20 s: %+v", again)
	}
	if again := w.do(due[0]); !again.Noop {
		t.Error("the same epoch changed the plan twice")
	}
	w.s.Now = w.s.Now.Add(-2 * time.Hour) // F15: the one who wrote had a wrong clock
	w.loads(100, 60, 10)
	if len(Due(w.s)) == 0 {
		t.Error("an epoch of the future holds all others up")
	}
	w = busy()
	w.do(Command{Verb: Freeze, Reason: "x", For: time.Hour})
	if w.epoch() {
		t.Error("written while frozen")
	}
	w = busy()
	w.do(Command{Verb: Freeze, Scope: "service/pay", Reason: "x", For: time.Hour})
	w.epoch()
	if p := w.said("fra"); p.GetShare() != 0 {
		t.Error("fra sheds, though one of its services is frozen")
	}
	w = busy()
	delete(w.s.Loads.Pools, cluster("nyc"))
	w.epoch()
	if p := w.said("nyc"); p.GetLoad() != 0 {
		t.Errorf("a load of %d is written of a site of which none is known", p.GetLoad())
	}
}

// TestSpillKeepsQuiet: a fleet with room writes nothing, and neither does one whose loads
// only tremble.
func TestSpillKeepsQuiet(t *testing.T) {
	w := sizedWorld(t)
	w.loads(20, 20, 20)
	if w.epoch() {
		t.Errorf("written, though any site could bear all: %v", w.s.Plan.Plan.GetSpill())
	}
	w.loads(60, 30, 10)
	if !w.epoch() || w.said("fra").GetLoad() != 60_000 {
		t.Fatalf("the loads are not noted: %v", w.s.Plan.Plan.GetSpill())
	}
	for i := range 10 {
		w.loads(60+float64(i%5)-2, 30-float64(i%4), 10)
		if w.epoch() {
			t.Fatalf("epoch %d is written for noise: %v", i, w.s.Plan.Plan.GetSpill())
		}
	}
}

// TestSpillRemembersTheLost: what a site had stays on record while it is away, and so does
// what the others had before: by that its clients are divided.
func TestSpillRemembersTheLost(t *testing.T) {
	w := sizedWorld(t)
	w.loads(60, 70, 20)
	w.epoch()
	w.fail("shop", "fra")
	w.fail("pay", "fra")
	w.loads(0, 75, 75)
	for range 3 {
		w.epoch()
	}
	for name, want := range map[string]uint64{"fra": 60_000, "nyc": 70_000, "sin": 20_000} {
		if got := w.said(name).GetLoad(); got != want {
			t.Errorf("%s has %d on record, want %d", name, got, want)
		}
	}
}

// TestMergeLoads: answers are added up, numbers of a Prometheus are not, a silent
// director's last word counts for a while, and without a majority nothing is known.
func TestMergeLoads(t *testing.T) {
	own := endpoint("shop", "nyc")
	pools := []Measured{{Pool: steer.Pool{Scope: cluster("fra"), Capacity: 100}}, {Pool: steer.Pool{Scope: own, Capacity: 10}, Asked: []steer.Scope{own}}}
	roster := []health.Director{{Name: "d1", Site: "a"}, {Name: "d2", Site: "a"}, {Name: "d3", Site: "b"}}
	said := func(age time.Duration, answers float64, numbers ...float64) Sample {
		s := Sample{Age: age, Answers: map[steer.Scope]float64{cluster("fra"): answers}, Numbers: map[steer.Scope]float64{}}
		for _, n := range numbers {
			s.Numbers[own] = n
		}
		return s
	}
	tests := []struct {
		name  string
		heard map[string]Sample
		want  string
	}{
		{"at first, one not heard yet", map[string]Sample{"d1": said(time.Second, 10, 5), "d2": said(time.Second, 20, 6)}, "nothing"},
		{"at first, all heard", map[string]Sample{"d1": said(time.Second, 10, 5), "d2": said(time.Second, 20, 6), "d3": said(time.Second, 30)}, "fra 60, shop 5"},
		{"all", map[string]Sample{"d1": said(time.Second, 10, 5), "d2": said(time.Second, 20, 6), "d3": said(time.Second, 30, 1000)}, "fra 60, shop 6"},
		{"one is silent", map[string]Sample{"d1": said(time.Second, 10, 5), "d2": said(time.Second, 20, 7), "d3": said(time.Minute, 30)}, "fra 60, shop 5"},
		{"one is long gone", map[string]Sample{"d1": said(time.Second, 10, 5), "d2": said(time.Second, 20, 7), "d3": said(time.Hour, 30)}, "fra 30, shop 5"},
		{"no number", map[string]Sample{"d1": said(time.Second, 10), "d2": said(time.Second, 20)}, "fra 30"},
		{"more than can be", map[string]Sample{"d1": said(time.Second, 100, 5), "d2": said(time.Second, 101, 50)}, "fra unknown, shop 5"},
		{"no majority", map[string]Sample{"d1": said(time.Second, 10, 5), "d2": said(time.Minute, 20, 7)}, "nothing"},
		{"a stranger", map[string]Sample{"d1": said(time.Second, 10, 5), "x": said(time.Second, 20, 7)}, "nothing"},
	}
	for _, tc := range tests {
		listened := time.Hour
		if strings.HasPrefix(tc.name, "at first") {
			listened = firstWords - time.Second
		}
		l := MergeLoads(pools, roster, tc.heard, nil, listened)
		got := "nothing"
		if l != nil {
			got = "fra unknown"
			if n, ok := l.Pools[cluster("fra")]; ok {
				got = fmt.Sprintf("fra %.0f", n)
			}
			if n, ok := l.Pools[own]; ok {
				got += fmt.Sprintf(", shop %.0f", n)
			}
		}
		if got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.name, got, tc.want)
		}
	}
}

// TestDrainNeedsRoom: a drain says how full the others will be, and is refused where that
// is more than they can take; --force passes it, on record.
func TestDrainNeedsRoom(t *testing.T) {
	w := sizedWorld(t)
	w.loads(50, 20, 10)
	got := w.do(Command{Verb: Drain, Scope: "cluster/fra", Reason: "x", For: time.Hour, DryRun: true, ID: "dry"})
	if u := got.Preview.Utilisation; len(u) == 0 || u[0].Pool != "cluster/nyc" || u[0].Now != 20 || u[0].Then != 70 {
		t.Errorf("predicted %+v, want nyc from 20 to 70", u)
	}
	w.loads(60, 70, 65)
	r := w.refused(w.drain("cluster/fra"), "predicted to bring nyc to ")
	if !r.Force {
		t.Error("it cannot be forced")
	}
	c := w.drain("cluster/fra")
	c.Force = true
	w.do(c)
	if o := w.s.Plan.Plan.GetOverrides(); len(o) != 1 || !o[0].GetForced() {
		t.Errorf("not on record as forced: %v", o)
	}
	w = sizedWorld(t)
	if got := w.do(w.drain("cluster/fra")); !strings.Contains(strings.Join(got.Preview.Warnings, "\n"), "not known") {
		t.Errorf("warnings %q, want one that no load is known", got.Preview.Warnings)
	}
}

// TestDrainNeedsRoomForAll: a drain in steps counts as what it comes to, not as how far it
// is: two that are both small yet are too much in the end.
func TestDrainNeedsRoomForAll(t *testing.T) {
	w := sizedWorld(t)
	w.loads(60, 0, 80)
	w.seen()
	w.do(w.paced("service/shop@nyc", ten...))
	w.refused(w.drain("service/shop@fra"), "predicted to bring sin to ")
}

// TestAdmissionCountsWhatLoadsLackYet: loads are rates of a minute and more, so that clients whom a
// drain has just moved are still counted where they were. One drain after the other of
// the parts of a site is refused where that of the site is, and the loads once they have
// caught up are not counted twice.
func TestAdmissionCountsWhatLoadsLackYet(t *testing.T) {
	busy := func() *world {
		w := sizedWorld(t)
		w.loads(80, 50, 10)
		w.s.Loads.Parts = map[steer.Scope]float64{
			endpoint("shop", "fra"): 1, endpoint("pay", "fra"): 1, endpoint("shop", "nyc"): 1, endpoint("pay", "nyc"): 1, endpoint("shop", "sin"): 1,
		}
		return w
	}
	const over = "is predicted to bring nyc to 130 % of its capacity"
	t.Run("as a whole", func(t *testing.T) { w := busy(); w.refused(w.drain("cluster/fra"), over) })
	t.Run("in parts", func(t *testing.T) {
		w := busy()
		if u := w.do(w.drain("service/pay@fra")).Preview.Utilisation; len(u) == 0 || u[0].Then != 90 {
			t.Fatalf("the first part: %+v, want nyc at 90 %%", u)
		}
		w.s.Now = w.s.Now.Add(10 * time.Second)
		w.refused(w.drain("service/shop@fra"), over)
	})
	t.Run("in steps", func(t *testing.T) {
		w := busy()
		w.seen()
		w.do(w.paced("service/pay@fra", ten...))
		w.s.Now = w.s.Now.Add(10 * time.Second)
		w.refused(w.drain("service/shop@fra"), over)
	})
	t.Run("once the loads have it", func(t *testing.T) {
		w := busy()
		w.do(w.drain("service/pay@fra"))
		w.s.Now = w.s.Now.Add(time.Minute)
		w.loads(40, 55, 10) // and fewer ask than did
		w.s.Loads.Parts = map[steer.Scope]float64{endpoint("shop", "fra"): 1, endpoint("shop", "nyc"): 1, endpoint("pay", "nyc"): 1, endpoint("shop", "sin"): 1}
		if u := w.do(w.drain("service/shop@fra")).Preview.Utilisation; len(u) == 0 || u[0].Then != 95 {
			t.Errorf("the second part: %+v, want nyc at 95 %%", u)
		}
	})
	t.Run("said again", func(t *testing.T) {
		w := busy()
		w.do(w.drain("service/pay@fra"))
		w.loads(80, 80, 10) // which would be too much, and has it already
		w.do(w.drain("service/pay@fra"))
	})
	t.Run("long ago", func(t *testing.T) {
		w := busy()
		w.do(w.drain("service/pay@fra"))
		w.s.Now = w.s.Now.Add(settling)
		if u := w.do(w.drain("service/shop@fra")).Preview.Utilisation; len(u) == 0 || u[0].Then != 90 {
			t.Errorf("the second part: %+v, want nyc at 90 %%", u)
		}
	})
}

// TestBeyondRefusesNothing: answers that come to more than the fleet can have had say
// nothing of who has room: no drain is refused for them, and nobody moves.
func TestBeyondRefusesNothing(t *testing.T) {
	w := sizedWorld(t)
	w.loads(0, 0, 0)
	w.s.Loads.Pools, w.s.Loads.Beyond = nil, true
	if w.epoch() {
		t.Error("something is due")
	}
	got := w.do(w.drain("cluster/fra"))
	if text := strings.Join(got.Preview.Warnings, "\n"); strings.Count(text, "so nobody can say whether the others have room") != 1 || strings.Contains(text, "and it gets clients") {
		t.Errorf("warnings: %s", text)
	}
}

// TestSpillProperty: whatever the loads do, a share never moves by more than 4 points of
// utilisation an epoch, no plan names more than was asked for, and what is written can be
// written again (S4).
func TestSpillProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := sizedWorld(t)
		level := rapid.Float64Range(0, 300)
		for range rapid.IntRange(1, 8).Draw(rt, "epochs") {
			w.loads(level.Draw(rt, "fra"), level.Draw(rt, "nyc"), level.Draw(rt, "sin"))
			if rapid.IntRange(0, 4).Draw(rt, "unknown") == 0 {
				delete(w.s.Loads.Pools, cluster("nyc"))
			}
			switch rapid.IntRange(0, 5).Draw(rt, "happens") {
			case 0:
				w.fail("shop", "fra")
				w.fail("pay", "fra")
			case 1:
				w.heal("shop", "fra")
				w.heal("pay", "fra")
			}
			before := map[string]uint32{}
			for _, c := range []string{"fra", "nyc", "sin"} {
				before[c] = share(w.said(c))
			}
			loads := w.s.Loads
			w.epoch()
			for _, c := range []string{"fra", "nyc", "sin"} {
				now := share(w.said(c))
				if now < 1 || now > 100 || w.said(c).GetRefuses() > 99 {
					rt.Fatalf("%s: %v", c, w.said(c))
				}
				load, known := loads.Pools[cluster(c)]
				if !known && now != before[c] {
					rt.Fatalf("%s moves from %d to %d, and nothing is known of it", c, before[c], now)
				}
				if moved := load * math.Abs(float64(now)-float64(before[c])) / float64(before[c]); now < before[c] && moved > math.Max(4, load/100)+0.2 {
					rt.Fatalf("%s: %d to %d of a load of %.1f is a step of %.1f points", c, before[c], now, load, moved)
				}
			}
		}
	})
}

// TestSpillNeedsCapacity: where nobody wrote a capacity, nothing is measured against it.
func TestSpillNeedsCapacity(t *testing.T) {
	w := newWorld(t)
	if got := Pools(w.s.Spec); len(got) != 0 {
		t.Errorf("pools %v without a written capacity", got)
	}
	w.loads(1000, 1000, 1000)
	if w.epoch() {
		t.Error("written without a capacity")
	}
	var own *spec.Endpoint
	all := edit(t, raws(t, fleetYAML), "GlobalService/shop", `"cluster":"nyc"`, `"capacity":10,"cluster":"nyc"`)
	w.do(Command{Verb: Apply, Objects: all})
	own = w.s.Spec.Service("shop").Endpoint("nyc")
	if got := Pools(w.s.Spec); !own.Sized || len(got) != 1 || got[0].Scope != endpoint("shop", "nyc") || got[0].Capacity != 10 {
		t.Errorf("pools %v, want the endpoint's own", got)
	}
}

// TestCheckSpill (S7): what no leader writes is refused by every director.
func TestCheckSpill(t *testing.T) {
	for _, tc := range []struct {
		pools []*plan.Pool
		want  string
	}{
		{[]*plan.Pool{{Scope: "cluster/fra", Share: 1, Refuses: 99}, {Scope: "service/shop@nyc", Load: 1}}, ""},
		{[]*plan.Pool{{Scope: "cluster/fra", Share: 100}}, "is to keep 100 %"},
		{[]*plan.Pool{{Scope: "cluster/fra", Refuses: 100}}, "refuse 100 %"},
		{[]*plan.Pool{{Scope: "fleet"}}, "no site"},
		{[]*plan.Pool{{Scope: "cluster/fra"}, {Scope: "cluster/fra"}}, "not in order"},
	} {
		err := checkSpill(&plan.Plan{Spill: &plan.Spill{Pools: tc.pools}})
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: got %v, want %q", tc.pools, err, tc.want)
		}
	}
}
