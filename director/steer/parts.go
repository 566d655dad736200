package steer

import (
	"maps"
	"math"
	"slices"
)

// maxShared is how many sites that return a set may have for its parts to be worked out
// in full; what is beyond counts as having all of its clients.
const maxShared = 8

// Parts says what part of the answers of a set each of its choices has, by index, when a
// reply has room for n addresses: in order, an equal part of it for each that is in the
// reply; by weight, that of the reply's first. They add up to one, or to nothing where
// residency leaves nothing.
func (s *Set) Parts(n int) []float64 {
	out := make([]float64, len(s.Choices))
	if len(s.Choices) > 0 {
		s.share(n, out)
	}
	return out
}

// part is what a site may have of its clients.
func (c *Choice) part() float64 {
	if c.Share == 0 {
		return 1
	}
	return float64(c.Share) / allShare
}

// share divides the answers among the choices: those that return are there for some clients
// and not for others, each independently of the rest, and of those that are there the least
// level answers.
func (s *Set) share(n int, out []float64) {
	var shared []int
	for i := 0; i < len(s.Choices) && len(shared) < maxShared; i++ {
		if s.Choices[i].Share > 0 {
			shared = append(shared, i)
		}
	}
	for mask := range 1 << len(shared) {
		part := 1.0
		absent := make([]bool, len(s.Choices))
		for bit, i := range shared {
			if mask>>bit&1 == 1 {
				part *= s.Choices[i].part()
			} else {
				part *= 1 - s.Choices[i].part()
				absent[i] = true
			}
		}
		var there []int
		for i := range s.Choices {
			if absent[i] {
				continue
			}
			if len(there) > 0 && s.Choices[i].Level < s.Choices[there[0]].Level {
				there = there[:0]
			}
			if len(there) == 0 || s.Choices[i].Level == s.Choices[there[0]].Level {
				there = append(there, i)
			}
		}
		s.divide(there, part, n, out)
	}
}

func (s *Set) divide(there []int, part float64, n int, out []float64) {
	if s.Weighted && len(there) > n {
		total := 0.0
		for _, i := range there {
			total += float64(s.Choices[i].Weight)
		}
		for _, i := range there {
			if total > 0 {
				out[i] += part * float64(s.Choices[i].Weight) / total
			}
		}
		return
	}
	choices := make([]Choice, len(there))
	for at, i := range there {
		choices[at] = s.Choices[i]
	}
	picks := picked(choices, n)
	for at, i := range there {
		if slices.ContainsFunc(picks, func(c Choice) bool { return c.site == choices[at].site }) {
			out[i] += part / float64(len(picks))
		}
	}
}

// Joint says what part of all answers goes from each choice of a set to each of another
// that the same clients get, by their indices; the same cluster in both stays.
//
// Weighted rendezvous hashing gives it exactly: with X exponentially distributed, i wins
// where X(i)/w(i) is the least. Where one of the two goes by order or by shares, who can
// stay does, since one hash decides both times, and what leaves goes where there is more
// than before, in proportion.
func (s *Set) Joint(next *Set, n int) [][]float64 {
	was, is := s.Parts(n), next.Parts(n)
	out := make([][]float64, len(was))
	if s.byWeight(n) && next.byWeight(n) {
		before, after := s.weightsOf(next), next.weightsOf(s)
		for i := range out {
			out[i] = make([]float64, len(is))
			for j := range is {
				out[i][j] = wins(before, after, s.Choices[i].Cluster, next.Choices[j].Cluster)
			}
		}
		return out
	}
	more := 0.0
	for i := range out {
		out[i] = make([]float64, len(is))
		if j := next.choice(s.Choices[i].Cluster); j >= 0 {
			kept := min(was[i], is[j])
			out[i][j], was[i], is[j] = kept, was[i]-kept, is[j]-kept
		}
	}
	for _, part := range is {
		more += part
	}
	if more <= 0 {
		return out
	}
	for i := range out {
		for j := range is {
			out[i][j] += was[i] * is[j] / more
		}
	}
	return out
}

// choice finds a cluster's; -1 where there is none.
func (s *Set) choice(cluster string) int {
	return slices.IndexFunc(s.Choices, func(c Choice) bool { return c.Cluster == cluster })
}

// byWeight tells whether weights alone decide who is the first of a reply.
func (s *Set) byWeight(n int) bool {
	return s.Weighted && len(s.Choices) > n && !slices.ContainsFunc(s.Choices, func(c Choice) bool { return c.Share > 0 })
}

// weightsOf gives the weights by cluster, 0 of those that only another set has.
func (s *Set) weightsOf(other *Set) map[string]float64 {
	out := make(map[string]float64, len(s.Choices))
	for _, c := range other.Choices {
		out[c.Cluster] = 0
	}
	for _, c := range s.Choices {
		out[c.Cluster] = float64(c.Weight)
	}
	return out
}

// wins is the probability that i wins by some weights and j by others. For i = j: of X(i)
// being the least of X(k) over the greater of w(k)/w(i) before and after. Else, with
// r = X(j)/X(i), the integral over r, from w(j)/w(i) before to the same after, of one over
// the square of 1 + r + the sum over the others of the greater of w(k)/w(i) before and
// r*w(k)/w(j) after: piece by piece, since between the points where the greater of two
// changes that sum is a line.
func wins(before, after map[string]float64, i, j string) float64 {
	if before[i] == 0 || after[j] == 0 {
		return 0
	}
	clusters := slices.Sorted(maps.Keys(before)) // sums of fractions depend on the order
	if i == j {
		total := 0.0
		for _, k := range clusters {
			total += max(before[k]/before[i], after[k]/after[i])
		}
		return 1 / total
	}
	from, to := before[j]/before[i], math.Inf(1)
	if after[i] > 0 {
		to = after[j] / after[i]
	}
	if from >= to {
		return 0
	}
	points := []float64{from}
	for _, k := range clusters {
		if k == i || k == j || after[k] == 0 {
			continue
		}
		if r := before[k] / before[i] * after[j] / after[k]; r > from && r < to {
			points = append(points, r)
		}
	}
	slices.Sort(points)
	points = append(points, to)
	sum := 0.0
	for n, low := range points[:len(points)-1] {
		high := points[n+1]
		fixed, slope := 1.0, 1.0
		for _, k := range clusters {
			if k == i || k == j {
				continue
			}
			if a, b := before[k]/before[i], after[k]/after[j]; b > 0 && a/b <= low {
				slope += b
			} else {
				fixed += a
			}
		}
		if math.IsInf(high, 1) {
			sum += 1 / (slope * (fixed + slope*low))
		} else {
			sum += (high - low) / ((fixed + slope*low) * (fixed + slope*high))
		}
	}
	return sum
}
