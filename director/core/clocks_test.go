package core

import (
	"testing"
	"time"
)

// TestClocks: a director whose clock is off by an hour knows it, and the others
// do not doubt theirs (F15).
func TestClocks(t *testing.T) {
	now := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	tests := []struct {
		name  string
		walls map[string]time.Duration // peer -> its clock against ours
		old   time.Duration            // since they were heard
		want  bool
	}{
		{name: "alone", want: false},
		{name: "two, one of them off", walls: map[string]time.Duration{"d2": time.Hour}, want: false},
		{name: "three, this one off", walls: map[string]time.Duration{"d2": time.Hour, "d3": time.Hour + time.Second}, want: true},
		{name: "three, this one fast", walls: map[string]time.Duration{"d2": -time.Hour, "d3": -time.Hour}, want: true},
		{name: "three, another off", walls: map[string]time.Duration{"d2": time.Hour, "d3": time.Second}, want: false},
		{name: "five, two others off", walls: map[string]time.Duration{"d2": time.Hour, "d3": -time.Hour, "d4": 0, "d5": time.Second}, want: false},
		{name: "heard long ago", walls: map[string]time.Duration{"d2": time.Hour, "d3": time.Hour}, old: time.Minute, want: false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			var c Clocks
			for peer, ahead := range tc.walls {
				c.Note(peer, now.Add(ahead), now)
			}
			if got := c.Doubt(now.Add(tc.old)); (got != "") != tc.want {
				t.Errorf("got %q, want doubt: %v", got, tc.want)
			}
		})
	}
}
