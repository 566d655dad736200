package probe

import (
	"testing"
	"time"
)

func TestPatience(t *testing.T) {
	const interval, ceiling = 100 * time.Millisecond, time.Second
	silence := func(p *patience) { p.silence() }
	heard := func(d time.Duration) func(*patience) { return func(p *patience) { p.heard(d) } }
	tests := []struct {
		name  string
		steps []func(*patience)
		want  time.Duration
	}{
		{"new", nil, interval},
		{"near", []func(*patience){heard(time.Millisecond)}, interval},
		{"far", []func(*patience){heard(180 * time.Millisecond)}, 360 * time.Millisecond},
		{"one silence", []func(*patience){heard(time.Millisecond), silence}, 200 * time.Millisecond},
		{"two", []func(*patience){silence, silence}, 400 * time.Millisecond},
		{"many", []func(*patience){silence, silence, silence, silence, silence, silence, silence, silence, silence, silence}, ceiling},
		{"heard again", []func(*patience){silence, silence, heard(time.Millisecond)}, interval},
		{"farther than the ceiling", []func(*patience){heard(3 * time.Second)}, ceiling},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			var p patience
			for _, step := range tc.steps {
				step(&p)
			}
			if got := p.wait(interval, ceiling); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

// TestPatienceF5F14: three misses in a row need more than a burst of loss of
// 200 ms, or a delay that grows to 300 ms, and a blackhole gives them in 0.7 s.
func TestPatienceF5F14(t *testing.T) {
	const interval, ceiling = 100 * time.Millisecond, time.Second
	misses := func(answers func(sent time.Duration) (time.Duration, bool)) (inRow int, took time.Duration) {
		var p patience
		p.heard(time.Millisecond)
		for at := time.Duration(0); at < 5*time.Second; {
			wait := p.wait(interval, ceiling)
			if latency, ok := answers(at); ok && latency <= wait {
				p.heard(latency)
				if at += max(latency, interval/2); inRow > 0 {
					return inRow, at
				}
				continue
			}
			p.silence()
			at += wait
			if inRow++; inRow == 3 {
				return inRow, at
			}
		}
		return inRow, 0
	}
	if n, _ := misses(func(sent time.Duration) (time.Duration, bool) { return time.Millisecond, sent > 200*time.Millisecond }); n >= 3 {
		t.Errorf("burst of 200 ms: got %d misses in a row, want fewer than 3", n)
	}
	if n, _ := misses(func(time.Duration) (time.Duration, bool) { return 300 * time.Millisecond, true }); n >= 3 {
		t.Errorf("delay of 300 ms: got %d misses in a row, want fewer than 3", n)
	}
	if n, took := misses(func(time.Duration) (time.Duration, bool) { return 0, false }); n != 3 || took != 700*time.Millisecond {
		t.Errorf("blackhole: got %d misses after %v, want 3 after 700 ms", n, took)
	}
}
