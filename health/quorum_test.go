package health

import (
	"fmt"
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

func TestAssignSpreadsOverDomains(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var roster []Director
		for i := range rapid.IntRange(1, 12).Draw(t, "directors") {
			roster = append(roster, Director{Name: fmt.Sprintf("d%d", i), Site: fmt.Sprintf("dc%d", rapid.IntRange(0, 4).Draw(t, "site"))})
		}
		addr := site(rapid.IntRange(0, 255).Draw(t, "addr"))
		got := Assign(roster, addr)
		if len(got) != min(len(roster), 5) || !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Fatalf("Assign = %v of %d", got, len(roster))
		}
		sites, chosen := map[string]bool{}, map[string]bool{}
		for _, d := range roster {
			sites[d.Site] = true
			if slices.Contains(got, d.Name) {
				chosen[d.Site] = true
			}
		}
		if len(chosen) != min(len(sites), len(got)) {
			t.Fatalf("%d of %d domains chosen by %v", len(chosen), len(sites), got)
		}
		shuffled := rapid.Permutation(roster).Draw(t, "order")
		if again := Assign(shuffled, addr); !slices.Equal(again, got) {
			t.Fatalf("order of the roster shows: %v, %v", got, again)
		}
	})
}

func TestAssignMovesLittle(t *testing.T) {
	roster := rosterOf(10)
	moved := 0
	for i := range 200 {
		before, after := Assign(roster, site(i)), Assign(roster[:9], site(i))
		for _, d := range before {
			if d != "d10" && !slices.Contains(after, d) {
				moved++
			}
		}
	}
	if moved != 0 {
		t.Errorf("the removal of d10 moved %d targets between others", moved)
	}
}
