package steer

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestJointByWeight: who goes where as weights change is what rendezvous hashing gives;
// held against drawing the clients' exponentials, and against the parts that it comes of.
func TestJointByWeight(t *testing.T) {
	set := func(weights map[string]uint32) *Set {
		s := &Set{Weighted: true}
		for _, c := range []string{"a", "b", "c", "d"} {
			if w := weights[c]; w > 0 {
				s.Choices = append(s.Choices, Choice{Cluster: c, Weight: w})
			}
		}
		return s
	}
	type weights = map[string]uint32
	random := rand.New(rand.NewPCG(3, 5))
	for _, tc := range []struct{ before, after weights }{
		{weights{"a": 1, "b": 1, "c": 1}, weights{"a": 1, "b": 1}},
		{weights{"a": 1, "b": 1}, weights{"a": 1, "b": 1, "c": 1}},
		{weights{"a": 1, "b": 2, "c": 3}, weights{"a": 3, "b": 2, "c": 1}},
		{weights{"a": 5, "b": 1, "c": 7}, weights{"b": 1, "c": 2, "d": 4}},
		{weights{"a": 1, "b": 1, "c": 1}, weights{"a": 10, "b": 10, "c": 10}},
		{weights{"a": 9, "b": 1}, weights{"c": 1, "d": 1}},
	} {
		before, after := set(tc.before), set(tc.after)
		joint := before.Joint(after, 1)
		const n = 200_000
		counts := map[[2]string]float64{}
		for range n {
			x := map[string]float64{}
			for _, c := range []string{"a", "b", "c", "d"} {
				x[c] = random.ExpFloat64()
			}
			winner := func(s *Set) string {
				best := s.Choices[0]
				for _, c := range s.Choices {
					if x[c.Cluster]/float64(c.Weight) < x[best.Cluster]/float64(best.Weight) {
						best = c
					}
				}
				return best.Cluster
			}
			counts[[2]string{winner(before), winner(after)}]++
		}
		total, was := 0.0, before.Parts(1)
		for i, row := range joint {
			sum := 0.0
			for j, got := range row {
				sum += got
				from, to := before.Choices[i].Cluster, after.Choices[j].Cluster
				if want := counts[[2]string{from, to}] / n; math.Abs(got-want) > 0.006 {
					t.Errorf("%v -> %v: %.4f go from %s to %s, want %.4f", tc.before, tc.after, got, from, to, want)
				}
			}
			if math.Abs(sum-was[i]) > 1e-9 {
				t.Errorf("%v -> %v: %v leave or stay at %d, which has %v", tc.before, tc.after, sum, i, was[i])
			}
			total += sum
		}
		if math.Abs(total-1) > 1e-9 {
			t.Errorf("%v -> %v: %v of all answers", tc.before, tc.after, total)
		}
	}
}

// TestParts: what each choice of a set has of its answers.
func TestParts(t *testing.T) {
	c := func(name string, weight uint32, share uint8) Choice {
		return Choice{Cluster: name, Domain: name, Weight: weight, Share: share, site: int32(name[0] - 'a')}
	}
	at := func(level uint8, c Choice) Choice {
		c.Level = level
		return c
	}
	tests := []struct {
		name string
		set  Set
		n    int
		want []float64
	}{
		{"in order", Set{Choices: []Choice{c("a", 0, 0), c("b", 0, 0)}}, 1, []float64{1, 0}},
		{"two in order", Set{Choices: []Choice{c("a", 0, 0), c("b", 0, 0), c("c", 0, 0)}}, 2, []float64{.5, .5, 0}},
		{"by weight", Set{Weighted: true, Choices: []Choice{c("a", 1, 0), c("b", 3, 0)}}, 1, []float64{.25, .75}},
		{"one returns", Set{Choices: []Choice{c("a", 0, 10), c("b", 0, 0)}}, 1, []float64{.1, .9}},
		{"two return", Set{Choices: []Choice{c("a", 0, 10), c("b", 0, 50), c("c", 0, 0)}}, 1, []float64{.1, .45, .45}},
		{"by weight, one returns", Set{Weighted: true, Choices: []Choice{c("a", 1, 50), c("b", 1, 0)}}, 1, []float64{.25, .75}},
		{"pinned", Set{Choices: []Choice{c("a", 0, 10), at(1, c("b", 0, 0)), at(1, c("c", 0, 0))}}, 1, []float64{.1, .9, 0}},
		{"by weight, and the degraded help out", Set{Weighted: true, Choices: []Choice{c("a", 1, 50), at(1, c("b", 3, 0)), at(1, c("c", 1, 0))}}, 1, []float64{.5, .375, .125}},
		{"nothing", Set{}, 1, nil},
	}
	for _, tc := range tests {
		got := tc.set.Parts(tc.n)
		if len(got) != len(tc.want) {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
			continue
		}
		for i := range got {
			if math.Abs(got[i]-tc.want[i]) > 1e-9 {
				t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
			}
		}
	}
}
