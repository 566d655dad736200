package health

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestS7QuorumByRoster(t *testing.T) {
	same := func(n int) []Director {
		out := rosterOf(n)
		for i := range out {
			out[i].Site = "dc"
		}
		return out
	}
	tests := []struct {
		name      string
		roster    []Director
		observers int
		want      Quorum
	}{
		{"nobody", nil, 0, Quorum{0, 0, 1, 0}},
		{"one director has no quorum to ask", rosterOf(1), 0, Quorum{1, 1, 1, 1}},
		{"two need each other", rosterOf(2), 0, Quorum{2, 2, 2, 2}},
		{"three need two", rosterOf(3), 0, Quorum{3, 3, 2, 2}},
		{"four need three", rosterOf(4), 0, Quorum{4, 4, 3, 2}},
		{"five need three", rosterOf(5), 0, Quorum{5, 5, 3, 2}},
		{"no more than five observe", rosterOf(9), 0, Quorum{9, 5, 3, 2}},
		{"one site is one domain", same(3), 0, Quorum{3, 3, 2, 1}},
		{"the spec raises", rosterOf(3), 3, Quorum{3, 3, 3, 2}},
		{"the spec raises up to k", rosterOf(9), 8, Quorum{9, 5, 5, 2}},
		{"the spec never lowers", rosterOf(5), 1, Quorum{5, 5, 3, 2}},
		{"a director without site is its own", []Director{{Name: "a"}, {Name: "b"}}, 0, Quorum{2, 2, 2, 2}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if got := QuorumOf(tc.roster, tc.observers); got != tc.want {
				t.Errorf("QuorumOf = %+v, want %+v", got, tc.want)
			}
		})
	}
}

// drawRoster gives directors in fault domains of any sizes; some have none said.
func drawRoster(t *rapid.T, most int) []Director {
	var roster []Director
	domains := rapid.IntRange(1, 8).Draw(t, "domains")
	for i := range rapid.IntRange(1, most).Draw(t, "directors") {
		d := Director{Name: fmt.Sprintf("d%d", i)}
		if in := rapid.IntRange(0, domains).Draw(t, "site"); in > 0 {
			d.Site = fmt.Sprintf("dc%d", in)
		}
		roster = append(roster, d)
	}
	return roster
}

// TestAssignSpreadsOverDomains: every target has min(N, 5) observers, in as many
// fault domains as there can be, and in none two more than in another that still
// has directors to give.
func TestAssignSpreadsOverDomains(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		roster := drawRoster(t, 40)
		addr := site(rapid.IntRange(0, 255).Draw(t, "addr"))
		got := NewAssignment(roster).Observers(addr)
		if len(got) != min(len(roster), 5) || !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Fatalf("Observers = %v of %d", got, len(roster))
		}
		size, chosen := map[string]int{}, map[string]int{}
		for _, d := range roster {
			size[d.domain()]++
			if slices.Contains(got, d.Name) {
				chosen[d.domain()]++
			}
		}
		if len(chosen) != min(len(size), len(got)) {
			t.Fatalf("%d of %d domains chosen by %v", len(chosen), len(size), got)
		}
		for x := range size {
			for y := range size {
				if chosen[x] > chosen[y]+1 && chosen[y] < size[y] {
					t.Fatalf("%d of %s and %d of the %d of %s by %v", chosen[x], x, chosen[y], size[y], y, got)
				}
			}
		}
		shuffled := rapid.Permutation(roster).Draw(t, "order")
		a := NewAssignment(shuffled)
		if again := a.Observers(addr); !slices.Equal(again, got) {
			t.Fatalf("order of the roster shows: %v, %v", got, again)
		}
		for _, d := range append(roster, Director{Name: "stranger"}) {
			if a.Observes(d.Name, addr) != slices.Contains(got, d.Name) {
				t.Fatalf("%s observes: %t, of %v", d.Name, a.Observes(d.Name, addr), got)
			}
		}
	})
}

// TestAssignMovesLittle: a director that comes or goes takes or leaves its own
// places. No other observer of a target is exchanged, and at most one is new.
func TestAssignMovesLittle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		with := drawRoster(t, 40)
		i := rapid.IntRange(0, len(with)-1).Draw(t, "goes")
		without := slices.Delete(slices.Clone(with), i, i+1)
		before, after := NewAssignment(with), NewAssignment(without)
		for n := range 20 {
			a, b := before.Observers(site(n)), after.Observers(site(n))
			lost := slices.DeleteFunc(slices.Clone(a), func(name string) bool { return slices.Contains(b, name) })
			if slices.Contains(a, with[i].Name) {
				if !slices.Equal(lost, []string{with[i].Name}) {
					t.Fatalf("%s goes and %v are lost: %v, %v", with[i].Name, lost, a, b)
				}
			} else if len(lost) > 0 {
				t.Fatalf("%s goes, which is none of %v, and %v are lost", with[i].Name, a, lost)
			}
		}
	})
}

// TestAssignIsEven: in fault domains of one size each director has its share of
// 5,000 targets, as evenly as chance has it: 6 % off with ten directors, 15 with 40.
func TestAssignIsEven(t *testing.T) {
	const targets = 5000
	for _, tc := range []struct{ directors, domains int }{{5, 5}, {6, 3}, {8, 2}, {10, 5}, {12, 12}, {20, 4}, {40, 8}, {40, 40}} {
		t.Run(fmt.Sprintf("%d directors in %d domains", tc.directors, tc.domains), func(t *testing.T) {
			roster := rosterOf(tc.directors)
			for i := range roster {
				roster[i].Site = fmt.Sprintf("dc%d", i%tc.domains)
			}
			a, load := NewAssignment(roster), map[string]int{}
			for i := range targets {
				for _, name := range a.Observers(at4(i, 443)) {
					load[name]++
				}
			}
			chance := 5 / float64(tc.directors)
			share, deviation := targets*chance, math.Sqrt(targets*chance*(1-chance))
			for _, d := range roster {
				if off := math.Abs(float64(load[d.Name]) - share); off > 4*deviation {
					t.Errorf("%s has %d of %d targets, its share is %.0f", d.Name, load[d.Name], targets, share)
				}
			}
		})
	}
}

// BenchmarkAssignment is a large fleet whose roster or spec has changed.
func BenchmarkAssignment(b *testing.B) {
	roster := rosterOf(40)
	for i := range roster {
		roster[i].Site = fmt.Sprintf("dc%d", i%8)
	}
	for b.Loop() {
		a, mine := NewAssignment(roster), 0
		for i := range 5000 {
			if a.Observes("d1", at4(i, 443)) {
				mine++
			}
		}
		if mine == 0 {
			b.Fatal("d1 has nothing to do")
		}
	}
}
