package probe

import (
	"testing"
	"time"
)

func TestPatience(t *testing.T) {
	heard := func(latencies ...time.Duration) (p patience) {
		for _, d := range latencies {
			p.heard(d)
		}
		return p
	}
	many := make([]time.Duration, 500)
	for i := range many {
		many[i] = time.Millisecond
	}
	tests := []struct {
		name           string
		patience       patience
		late, deadline time.Duration
		lateProbe      time.Duration // of a deep probe with a timeout of 1 s
	}{
		{"new", patience{}, 30 * time.Millisecond, 300 * time.Millisecond, 150 * time.Millisecond},
		{"near", heard(time.Millisecond), 30 * time.Millisecond, 300 * time.Millisecond, 150 * time.Millisecond},
		{"far", heard(180 * time.Millisecond), 360 * time.Millisecond, 360 * time.Millisecond, 540 * time.Millisecond},
		{"once slow", heard(10*time.Millisecond, 170*time.Millisecond), 60 * time.Millisecond, 340 * time.Millisecond, 510 * time.Millisecond},
		{"long ago", heard(append([]time.Duration{900 * time.Millisecond}, many...)...), 30 * time.Millisecond, 300 * time.Millisecond, 150 * time.Millisecond},
		{"farther than a signal lives", heard(3 * time.Second), time.Second, time.Second, 800 * time.Millisecond},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.patience.late(); got != tc.late {
				t.Errorf("late: got %v, want %v", got, tc.late)
			}
			if got := tc.patience.deadline(); got != tc.deadline {
				t.Errorf("missed: got %v, want %v", got, tc.deadline)
			}
			if got := tc.patience.lateProbe(time.Second); got != tc.lateProbe {
				t.Errorf("deep probe late: got %v, want %v", got, tc.lateProbe)
			}
		})
	}
}
