package health

import (
	"testing"
	"time"
)

var (
	quick   = Rhythm{Interval: 100 * ms, Doubt: 50 * ms, Late: 30 * ms, Missed: 300 * ms}
	hurried = Rhythm{Interval: time.Second, Doubt: 125 * ms, Late: 150 * ms, Missed: time.Second, AtOnce: 4}
	deep    = Rhythm{Interval: time.Second, Doubt: 250 * ms, Late: 150 * ms, Missed: time.Second}
)

// TestL1BoundFollowsWhatIsInForce: the numbers of SEMANTICS section 1 with a path
// that has shown nothing.
func TestL1BoundFollowsWhatIsInForce(t *testing.T) {
	tests := []struct {
		name   string
		rhythm Rhythm
		misses int
		want   time.Duration
	}{
		{"F1, five directors", quick, 6, (120 + 30 + 300 + 300 + 90) * ms},
		{"F1, three directors", quick, 10, (120 + 30 + 540 + 300 + 90) * ms},
		{"one director", quick, 28, (120 + 30 + 27*60 + 300 + 90) * ms},
		{"F3, five directors", deep, 2, (1200 + 150 + 300 + 1000 + 90) * ms},
		{"F3, one director", hurried, 10, (1200 + 150 + 2000 + 1000 + 90) * ms},
		{"F3, five directors, four at once", hurried, 2, (1200 + 150 + 150 + 1000 + 90) * ms},
		{"one miss, four at once", hurried, 1, (1200 + 1000 + 90) * ms},
		{"one miss", quick, 1, (120 + 300 + 90) * ms},
		{"stretched twenty times", Rhythm{Interval: 2 * time.Second, Doubt: 50 * ms, Late: 30 * ms, Missed: 300 * ms}, 6, (2400 + 30 + 300 + 300 + 90) * ms},
		{"a far target", Rhythm{Interval: 100 * ms, Doubt: 50 * ms, Late: 400 * ms, Missed: 800 * ms}, 6, (120 + 460 + 800 + 90) * ms},
	}
	for _, tc := range tests {
		if got := Bound(tc.rhythm, tc.misses); got != tc.want {
			t.Errorf("%s: Bound = %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestShareOfEachObserver(t *testing.T) {
	sites := func(names ...string) Quorum {
		roster := rosterOf(len(names))
		for i := range roster {
			roster[i].Site = names[i]
		}
		return QuorumOf(roster, 0)
	}
	tests := []struct {
		name      string
		quorum    Quorum
		observers []int
		want      int
	}{
		{"one", sites("a"), []int{1}, 2000},
		{"two", sites("a", "b"), []int{1, 1}, 1000},
		{"two, one away", sites("a", "b"), []int{1, 0}, 0},
		{"three", sites("a", "b", "c"), []int{1, 1, 1}, 667},
		{"three, one away", sites("a", "b", "c"), []int{1, 0, 1}, 1000},
		{"two in one site, so that the other counts in full", sites("a", "a", "b"), []int{2, 1}, 1000},
		{"two in one site, the other away", sites("a", "a", "b"), []int{2, 0}, 0},
		{"five", sites("a", "b", "c", "d", "e"), []int{1, 1, 1, 1, 1}, 400},
		{"five, two away", sites("a", "b", "c", "d", "e"), []int{1, 1, 1, 0, 0}, 667},
		{"four of five in one site", sites("a", "a", "a", "a", "b"), []int{4, 1}, 666},
		{"nobody", sites("a"), nil, 0},
	}
	for _, tc := range tests {
		if got := tc.quorum.Share(tc.observers); got != tc.want {
			t.Errorf("%s: Share = %d, want %d", tc.name, got, tc.want)
		}
	}
}

// TestF5BoundGrowsWithBursts, and with directors that are away; with too few left
// there is none.
func TestF5BoundGrowsWithBursts(t *testing.T) {
	p := newProbed(t)
	now := func(d time.Duration) time.Time {
		for _, name := range []string{"d2", "d3", "d4", "d5"} {
			a := p.b.byName[name]
			a.at = at(d)
		}
		return at(d)
	}
	quiet, ok := p.o.Bound(p.b, signal(1), quick, now(0))
	if want := Bound(quick, 6); !ok || quiet != want {
		t.Fatalf("Bound = %s, %v, want %s", quiet, ok, want)
	}
	if got, ok := p.o.Bound(p.b, check(1), deep, now(0)); !ok || got != Bound(deep, 2) {
		t.Errorf("deep: Bound = %s, %v", got, ok)
	}
	d := time.Duration(0)
	for range 60 { // bursts of 200 ms, each 2 s
		for i := range 20 {
			if d += 50 * ms; i < 4 {
				p.miss(signal(1), d)
			} else {
				p.ok(signal(1), d)
			}
		}
	}
	bursts, ok := p.o.Bound(p.b, signal(1), quick, now(d))
	if !ok || bursts <= quiet || bursts > 3*time.Second {
		t.Errorf("after bursts: Bound = %s, before %s", bursts, quiet)
	}
	when := now(d)
	p.b.byName["d5"].at, p.b.byName["d4"].at = time.Time{}, time.Time{}
	if got, ok := p.o.Bound(p.b, check(1), deep, when); !ok || got <= Bound(deep, 2) {
		t.Errorf("two away: Bound = %s, %v", got, ok)
	}
	p.b.byName["d3"].at = time.Time{}
	if got, ok := p.o.Bound(p.b, signal(1), quick, when); ok {
		t.Errorf("three away: Bound = %s", got)
	}
	if _, ok := p.o.Bound(p.b, signal(9), quick, when); ok {
		t.Error("a bound of what is not watched")
	}
}
