package core

import (
	"strings"
	"testing"
	"time"
)

// TestDeadDirectorHoldsNoReturnUp: one that is registered and dead makes a drain stand, but
// keeps nobody from a healthy site for ever, nor with one that suffers (S18).
func TestDeadDirectorHoldsNoReturnUp(t *testing.T) {
	dead := func(w *world, names ...string) {
		for _, name := range names {
			delete(w.s.Acks, name)
		}
	}
	tests := []struct {
		name  string
		begin func(*world)
		ends  string
		want  []string
	}{
		{"the end of a drain that went at once", func(w *world) {
			w.do(w.drain("cluster/fra"))
			w.s.Now = w.s.Now.Add(time.Hour)
			w.do(Due(w.s)[0])
		}, "none", []string{
			"return of cluster/fra: step 2 of 5, 5 % of its clients are back; without d3, which may still answer otherwise",
			"return of cluster/fra: step 3 of 5, 25 % of its clients are back; without d3, which may still answer otherwise",
			"return of cluster/fra: step 4 of 5, 50 % of its clients are back; without d3, which may still answer otherwise",
			"end of the drain of cluster/fra: all its clients are back; without d3, which may still answer otherwise",
		}},
		{"a rollback", func(w *world) {
			w.do(w.paced("cluster/fra", 10, 50, 100))
			w.next(20 * time.Second)
			w.next(30 * time.Second)
			w.fail("pay", "nyc")
			w.next(0)
			w.next(30 * time.Second)
		}, "ROLLED_BACK 1000", []string{
			"the drain of cluster/fra is rolled back, all its clients are back: pay@nyc is failed: fast :443 at 192.0.2.21 is down; without d3, which may still answer otherwise",
		}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.seen()
			tc.begin(w)
			for _, want := range tc.want {
				w.s.Now = w.s.Now.Add(30*time.Second - time.Millisecond)
				w.seen()
				dead(w, "d3")
				if got := w.now(); got != "" || !strings.Contains(w.waits(), "d3 to be heard") {
					t.Fatalf("got %q before the wait is over, waits for %q", got, w.waits())
				}
				w.s.Now = w.s.Now.Add(time.Millisecond)
				dead(w, "d2")
				if got := w.now(); got != "" || !strings.Contains(w.waits(), "d2, d3 to be heard") {
					t.Fatalf("got %q of a leader that hears too few, waits for %q", got, w.waits())
				}
				w.seen()
				dead(w, "d3")
				if got := w.now(); got != want {
					t.Fatalf("got %q, want %q", got, want)
				}
			}
			if w.at("cluster/fra") != tc.ends {
				t.Errorf("at %s", w.at("cluster/fra"))
			}
		})
	}
}

// TestNothingStarves: what the leader has to write of one thing waits for nothing that is
// due of another, which may be refused for as long as nobody looks.
func TestNothingStarves(t *testing.T) {
	w := newWorld(t)
	w.seen()
	w.do(w.drain("service/shop@sin"))
	w.s.Now = w.s.Now.Add(59 * time.Minute)
	w.seen()
	w.do(w.paced("cluster/fra", 10, 100))
	w.seen()
	w.noted()
	w.s.Now = w.s.Now.Add(time.Minute)
	w.seen()
	var verbs []string
	for _, c := range Due(w.s) {
		verbs = append(verbs, string(c.Verb))
	}
	if got := strings.Join(verbs, " "); got != "expire step" {
		t.Fatalf("due: %s", got)
	}
	for _, c := range Due(w.s) {
		w.do(c)
	}
	if w.override("service/shop@sin") != nil || w.at("cluster/fra") != "MOVING 900" {
		t.Errorf("%v, %s", w.override("service/shop@sin"), w.at("cluster/fra"))
	}
}

// TestDrainTellsWhoIsAway: whoever begins a drain in steps is told that it will stand.
func TestDrainTellsWhoIsAway(t *testing.T) {
	w := newWorld(t)
	w.seen()
	if c := w.do(w.paced("cluster/fra")); len(c.Preview.Warnings) != 0 {
		t.Errorf("all are there: %q", c.Preview.Warnings)
	}
	w = newWorld(t)
	w.seen()
	delete(w.s.Acks, "d3")
	if c := w.do(w.paced("cluster/fra")); !strings.Contains(strings.Join(c.Preview.Warnings, "\n"), "not so now d3, which may still answer otherwise") {
		t.Errorf("d3 is away: %q", c.Preview.Warnings)
	}
}

// TestDrainOfNothing: a spec that renames what is drained undrains it, and says so.
func TestDrainOfNothing(t *testing.T) {
	w := newWorld(t)
	w.seen()
	w.do(w.paced("cluster/sin", 10, 100))
	all := raws(t, fleetYAML)
	for i := range all {
		all[i].JSON = []byte(strings.ReplaceAll(string(all[i].JSON), `"sin"`, `"sgp"`))
		if all[i].Name == "sin" {
			all[i].Name = "sgp"
		}
	}
	c := w.do(Command{Verb: Apply, Objects: all, Prune: true, Force: true})
	if !strings.Contains(strings.Join(c.Preview.Warnings, "\n"), "the drain of cluster/sin by alice is then of nothing") {
		t.Errorf("warnings %q", c.Preview.Warnings)
	}
	for range 3 { // it goes on to its end all the same
		w.next(30 * time.Second)
	}
	if w.at("cluster/sin") != "DONE 0" {
		t.Errorf("at %s", w.at("cluster/sin"))
	}
	if w.do(Command{Verb: Undrain, Scope: "cluster/sin"}); w.at("cluster/sin") != "none" {
		t.Errorf("undrained: %s", w.at("cluster/sin"))
	}
}

// TestRefusedStepIsTold: a step that the leader may not take, since others went meanwhile and
// it would take the last site of some clients, is said to wait for that, not for the leader.
func TestRefusedStepIsTold(t *testing.T) {
	w := newWorld(t)
	fenced := edit(t, raws(t, fleetYAML), "GlobalService/shop", `"probes"`, `"residency":[{"clients":{"continents":["EU"]},"clusters":{"jurisdiction":"eu"}}],"probes"`)
	fenced = edit(t, fenced, "Cluster/nyc", `"us"`, `"eu"`)
	w.do(Command{Verb: Apply, Objects: fenced})
	w.seen()
	w.do(w.paced("service/shop@fra", 10, 100))
	forced := w.drain("service/shop@nyc")
	forced.Force = true
	w.do(forced)
	w.seen()
	w.noted()
	w.s.Now = w.s.Now.Add(time.Minute)
	w.seen()
	w.refused(Due(w.s)[0], "it would take the last healthy site of shop")
	if got := w.waits(); !strings.Contains(got, "it would take the last healthy site of shop") {
		t.Errorf("waits for %q", got)
	}
	if w.at("service/shop@fra") != "MOVING 1000" {
		t.Errorf("at %s", w.at("service/shop@fra"))
	}
}

// TestFreezeHoldsEnds: a drain does not begin to end under a freeze, under which no step of
// its return would be taken; it does with the freeze.
func TestFreezeHoldsEnds(t *testing.T) {
	w := newWorld(t)
	w.seen()
	w.do(w.drain("cluster/fra"))
	w.s.Now = w.s.Now.Add(30 * time.Minute)
	w.do(Command{Verb: Freeze, Scope: "service/pay", Reason: "x", For: time.Hour})
	w.s.Now = w.s.Now.Add(30 * time.Minute)
	w.seen()
	late := Overdue(w.s)
	if due := Due(w.s); len(due) != 0 || len(late) != 1 || !strings.Contains(strings.Join(late[0].Waits, "; "), "service/pay is frozen by alice") {
		t.Fatalf("due %v, late %v", due, late)
	}
	w.s.Now = w.s.Now.Add(30 * time.Minute)
	w.seen()
	if w.do(Due(w.s)[0]); w.at("cluster/fra") != "RETURNING 10" || len(w.s.Plan.Plan.GetOverrides()) != 1 {
		t.Errorf("at %s, %v", w.at("cluster/fra"), w.s.Plan.Plan.GetOverrides())
	}
}
