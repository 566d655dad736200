package health

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// chainAt makes a chain of transitions 1, 2, 3 … received at these times.
func chainAt(times ...time.Duration) Chain {
	c := Chain{Subject: signal(1)}
	for i, d := range times {
		c = c.next(uint64(i+1), at(d))
	}
	return c
}

func TestS10Wait(t *testing.T) {
	const m = time.Minute
	tests := []struct {
		name    string
		chain   Chain
		healthy time.Duration // since
		readmit time.Duration // 0: none
		now     time.Duration
		want    time.Duration
	}{
		{"first fall waits 10 s", chainAt(0), 5 * time.Second, 0, 5 * time.Second, 10 * time.Second},
		{"and is then over", chainAt(0), 5 * time.Second, 0, 15 * time.Second, 0},
		{"a second fall within the hour doubles", chainAt(0, m, 30*m), 41 * m, 0, 41 * m, 20 * time.Second},
		{"a third doubles again", chainAt(0, m, 15*m, 16*m, 40*m), 51 * m, 0, 51 * m, 40 * time.Second},
		{"a fall an hour ago is forgotten", chainAt(0, m, 61*m), 62 * m, 0, 62 * m, 10 * time.Second},
		{"three transitions in 10 min hold", chainAt(0, m, 2*m), 3 * m, 0, 4 * m, 6 * m},
		{"until the third last is 10 min old", chainAt(0, m, 2*m), 3 * m, 0, 10 * m, 0},
		{"the later of the two waits", chainAt(0, m, 2*m), 10*m - time.Second, 0, 10*m - time.Second, 20 * time.Second},
		{"readmit ends both", chainAt(0, m, 2*m), 3 * m, 4 * m, 4 * m, 0},
		{"but not the hold that begins later", chainAt(0, m, 2*m), 5 * m, 4 * m, 5 * m, 20 * time.Second},
		{"nor what a later fall begins", chainAt(0, m, 2*m), 3 * m, m, 4 * m, 6 * m},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			var readmit time.Time
			if tc.readmit > 0 {
				readmit = at(tc.readmit)
			}
			got, why := tc.chain.wait(at(tc.healthy), readmit, at(tc.now))
			if got != tc.want {
				t.Errorf("wait = %s (%s), want %s", got, why, tc.want)
			}
			if (got > 0) != (why != "") || strings.Contains(why, "m0s") {
				t.Errorf("wait %s with reason %q", got, why)
			}
		})
	}
}

func TestHoldIsBounded(t *testing.T) {
	c := Chain{Subject: signal(1)}
	for i := range 40 {
		c = c.next(uint64(i+1), at(time.Duration(i)*time.Second))
	}
	if got := c.Hold(at(time.Minute)); got != holdMost {
		t.Errorf("Hold = %s, want %s", got, holdMost)
	}
	if len(c.Past) != chainLength || c.N != 40 || c.Past[chainLength-1].N != 40 {
		t.Errorf("chain keeps %d transitions up to %d", len(c.Past), c.N)
	}
}

// TestS10DampedTwin counts transitions in the plainest way.
func TestS10DampedTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, now := Chain{Subject: signal(1)}, time.Duration(0)
		var times []time.Duration
		for i := range rapid.IntRange(1, 12).Draw(t, "transitions") {
			now += time.Duration(rapid.IntRange(1, 400).Draw(t, "after")) * time.Second
			times = append(times, now)
			c = c.next(uint64(i+1), at(now))
		}
		now += time.Duration(rapid.IntRange(0, 700).Draw(t, "now")) * time.Second
		recent := 0
		for _, d := range times {
			if now-d < 10*time.Minute {
				recent++
			}
		}
		until := c.Damped(at(now))
		if got, want := until.After(at(now)), recent > 2; got != want {
			t.Fatalf("damped %v with %d transitions in 10 min", got, recent)
		}
		if !until.IsZero() && c.Damped(until).After(until) {
			t.Fatal("still damped when the wait is over")
		}
	})
}

func TestChainIsAValue(t *testing.T) {
	a := chainAt(0, time.Second)
	b, c := a.next(3, at(2*time.Second)), a.next(3, at(3*time.Second))
	if !b.Past[2].Since.Equal(at(2*time.Second)) || !c.Past[2].Since.Equal(at(3*time.Second)) || len(a.Past) != 2 {
		t.Errorf("chains share memory: %v %v %v", a, b, c)
	}
}
