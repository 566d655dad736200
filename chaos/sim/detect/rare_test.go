package detect

import (
	"math"
	"testing"
	"time"
)

// TestRareAgreesWithCounting: where moves are common enough to be counted, because
// the threshold is low and the loss high, all three ways give the same rate: each
// probe simulated, leaps from run to run, and weighed samples. What is left to chance
// is bounded by four standard deviations, of what was counted and of the samples.
func TestRareAgreesWithCounting(t *testing.T) {
	tests := []struct {
		name      string
		observers int
		theta     int
		run, leap float64 // hours
	}{
		{"one observer", 1, 300, 5, 30},
		{"three observers", 3, 200, 1, 6},
		{"five observers", 5, 200, 1, 5},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			m := F4(tc.observers)
			m.Weather.Loss, m.Weather.RTT, m.VoteLoss, m.VoteDelay = 0.3, 150*time.Millisecond, 0, 0
			m.Rule = RuleOf(tc.observers, tc.observers)
			m.Rule.Theta = tc.theta
			rare := Rare(m, 60_000, 1)
			for name, r := range map[string]Result{"probe by probe": known(m, tc.run, 2), "by leaps": Skip(m, tc.leap, 3)} {
				want := rare.PerYear * r.Hours / (365.25 * 24)
				margin := 4*math.Sqrt(want) + want*(rare.High-rare.Low)/rare.PerYear
				if r.Moves < 5 || math.Abs(float64(r.Moves)-want) > margin {
					t.Errorf("%s: %d moves, want %.1f by %+v", name, r.Moves, want, rare)
				}
				t.Logf("%s: %d moves, want %.1f ± %.1f", name, r.Moves, want, margin)
			}
			if bound := Bound(m); bound < rare.High {
				t.Errorf("the bound %.3g is below the estimate %+v", bound, rare)
			}
		})
	}
}

// known is Run, but what happens before the paths' loss is known, which is above the
// floor here, does not count.
func known(m Model, hours float64, seed uint64) Result {
	w := newWorld(m, seed)
	w.run(10 * time.Minute)
	w.moves = nil
	w.run(w.now + time.Duration(hours*float64(time.Hour)))
	return Result{Hours: hours, Moves: len(w.moves)}
}

// TestF4Rate: at 10 % loss each way, at most one false move in 10⁵ endpoint-years, by
// samples and by calculation; and 10,000 hours without one.
func TestF4Rate(t *testing.T) {
	for _, observers := range []int{1, 3, 5} {
		m := F4(observers)
		rare, bound := Rare(m, 60_000, 1), Bound(m)
		t.Logf("%d observers: %+v, at most %.2g", observers, rare, bound)
		if rare.Hits < 100 || rare.High > 1e-5 || bound > 1e-5 {
			t.Errorf("%d observers: %+v, by calculation at most %.2g a year", observers, rare, bound)
		}
		if r := Skip(m, 10_000, 1); r.Moves > 0 || r.Peak < 3 {
			t.Errorf("%d observers: %+v", observers, r)
		}
	}
}

// TestSameSeedSameWorld: a seed gives one course of things.
func TestSameSeedSameWorld(t *testing.T) {
	m := Fleet(5, FastSignal(), Weather{Loss: 0.1, Bursts: Bursts{Every: 1e9, Lasts: 2e8}})
	if a, b := Run(m, 0.05, 7), Run(m, 0.05, 7); a != b {
		t.Errorf("%+v and %+v", a, b)
	}
	if a, b := Run(m, 0.05, 7), Run(m, 0.05, 8); a.Peak == b.Peak {
		t.Errorf("%+v by two seeds", a)
	}
}
