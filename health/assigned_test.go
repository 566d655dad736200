package health

import (
	"slices"
	"testing"
	"time"
)

// assign gives one director a roster, and what it has to watch in it.
func (f *fleet) assign(n *node, roster []Director) {
	a := NewAssignment(roster)
	var watched []Watched
	for i := range f.targets {
		if a.Observes(n.name, site(i+1)) {
			watched = append(watched, Watched{Subject: signal(i + 1), Interval: 100 * ms}, Watched{Subject: check(i + 1), Signal: signal(i + 1), Interval: time.Second})
		}
	}
	var names []string
	for _, d := range roster {
		names = append(names, d.Name)
	}
	n.b.SetRoster(roster, 0)
	n.o.Set(watched)
	n.p.SetPeers(names)
}

// TestS17RosterChangeMovesNothing: of eight directors, five of whom watch a target,
// one goes and one comes, and they learn of it one after another, within a second
// and a half. Those who stop watching withdraw, those who begin know nothing; what
// is down stays down, what is up stays up, and what dies then falls.
func TestS17RosterChangeMovesNothing(t *testing.T) {
	for seed := range uint64(6) {
		const targets = 12
		f := newFleet(t, seed, 9, targets)
		f.loss, f.delay = 0.02, 30*ms
		before := slices.Clone(f.roster[:8])
		after := slices.Delete(slices.Clone(f.roster), int(seed), int(seed)+1) // d1, d2, … goes and d9 comes
		for _, n := range f.nodes {
			f.assign(n, before)
		}
		f.advance(3 * time.Second)
		f.dead = func(_ string, i int) bool { return i <= 3 }
		f.advance(3 * time.Second)
		for i := 1; i <= targets; i++ {
			want := Up
			if i <= 3 {
				want = Down
			}
			f.agree(i, want, "d7", "d8")
		}
		f.moves = nil

		taken := 0
		for _, n := range f.nodes {
			f.assign(n, after)
			for i := range targets {
				if !NewAssignment(after).Observes(n.name, site(i+1)) || NewAssignment(before).Observes(n.name, site(i+1)) {
					continue
				}
				taken++
				s := signal(i + 1)
				if got, why := n.o.Opinion(s, n.b.Chain(s), at(f.now)); got != Unknown {
					t.Errorf("%s holds %s %s before it has probed it: %s", n.name, s, got, why)
				}
			}
			f.advance(170 * ms)
		}
		if taken == 0 {
			t.Fatal("nobody has taken anything over")
		}
		f.advance(3 * time.Second)
		f.moves = slices.DeleteFunc(f.moves, func(m string) bool { return m[:3] == "d9 " }) // it learns what was
		f.still()
		f.advance(10 * time.Second)
		f.dead = func(_ string, i int) bool { return i <= 3 || i == 5 || i == 7 }
		f.advance(3 * time.Second)
		for i := 1; i <= targets; i++ {
			want := Up
			if i <= 3 || i == 5 || i == 7 {
				want = Down
			}
			for _, d := range after {
				f.agree(i, want, d.Name)
			}
		}
	}
}
