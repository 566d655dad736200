package detect

import (
	"testing"
	"time"
)

// TestNothingMoves (F4, F5, F6, F12, F14): in no weather of the list is a target that
// is well taken for failed. It is the short form; `make sim-detect` goes on for longer.
func TestNothingMoves(t *testing.T) {
	for _, p := range Patterns() {
		t.Run(p.Name, func(t *testing.T) {
			r := Run(p.Model, 0.1, 1)
			if r.Moves > 0 {
				t.Errorf("%d false moves in %v hours", r.Moves, r.Hours)
			}
		})
	}
}

// TestMutants: the simulation is worth something only if it notices what is wrong.
// Each rule is broken in one way, in weather in which it stands as it is.
func TestMutants(t *testing.T) {
	const ms = time.Millisecond
	pattern := func(name string) Model {
		for _, p := range Patterns() {
			if p.Name == name {
				return p.Model
			}
		}
		t.Fatalf("no pattern %q", name)
		return Model{}
	}
	tests := []struct {
		name   string
		in     Model
		breaks func(*Rule)
	}{
		// The cap of a fault domain stands behind that of an observer, so it takes two.
		{"an observer counts without a cap", Fleet(5, FastSignal(), Weather{Loss: 0.1, Blind: []int{0, 1}}), func(r *Rule) { r.noCap = true }},
		{"a fault domain counts without a cap", pattern("F6: one site of two reaches nothing, 3 directors of 5"), func(r *Rule) { r.noDomainCap = true }},
		{"a timeout counts as down", pattern("F5: the same, 10 % loss"), func(r *Rule) { r.missIsDown = true }},
		{"late counts as missed", Fleet(5, FastSignal(), Weather{Common: Bursts{Every: 30 * time.Second, Lasts: 300 * ms, Fixed: true}}), func(r *Rule) { r.lateIsMiss = true }},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			m := tc.in
			m.Rule = newWorld(m, 1).Rule
			whole := Run(m, 0.2, 2)
			tc.breaks(&m.Rule)
			broken := Run(m, 0.2, 2)
			if whole.Moves > 0 || broken.Moves == 0 {
				t.Errorf("%+v as it is, and %+v broken", whole, broken)
			}
		})
	}
}

// TestFoundInTime (F1, L1): silence is found by the last of five directors within a
// second, by the last of three within 1.3 s, also at 10 % loss each way.
func TestFoundInTime(t *testing.T) {
	for _, tc := range []struct {
		observers int
		bound     time.Duration
	}{{5, time.Second}, {3, 1300 * time.Millisecond}} {
		for _, m := range []Model{Fleet(tc.observers, FastSignal(), Weather{}), F4(tc.observers)} {
			if got := Quantile(Deaths(m, 200, 1).Last, 0.99); got > tc.bound {
				t.Errorf("%d directors, %v loss: p99 of the last is %v, want at most %v", tc.observers, m.Weather.Loss, got, tc.bound)
			}
		}
	}
}
