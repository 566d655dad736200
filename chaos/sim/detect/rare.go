package detect

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/divertdns/divert/health"
)

// Estimate is how often a year a target that is well is taken for failed.
type Estimate struct {
	PerYear, Low, High float64 // with an interval of 95 %
	Samples, Hits      int     // hits: samples that were a move
}

const year = 365.25 * 24 * float64(time.Hour)

// Rare estimates the rate of false moves where packets are lost independently, by
// importance sampling. A move happens in the instant at which a miss of some
// observer is counted. So one observer's probe is placed such that it is counted
// now, and what all observers know now follows from the runs of losses before. Their
// lengths are drawn half as the weather gives them and half evenly among those that
// an observer counts for, and each sample is weighed by the ratio of chances.
// What is possible is possible in the mixture, so the mean of the weights of moves is
// the chance of one, and no weight is above 2 for each observer. As in Skip, doubt
// never ends.
func Rare(m Model, samples int, seed uint64) Estimate {
	w := newWorld(m, seed)
	rnd := rand.New(rand.NewPCG(seed, 7))
	known := make([]health.Suspicion, m.Observers)
	var clock time.Duration
	for i := range known {
		known[i], clock = m.warm(rnd.Uint64())
	}
	counts := span{m.reach(), known[0].Needed(float64(w.Rule.limit())/100, health.SignSilent) + m.reach() + 1}
	sum, squares, hits := 0.0, 0.0, 0
	before, after := make([]uint16, m.Observers), make([]uint16, m.Observers)
	honest := m.honest()
	for range samples {
		i := rnd.IntN(honest)
		weight := 1.0
		for j := honest; j < m.Observers; j++ {
			before[j], after[j] = lie, lie
		}
		for j := range honest {
			if j == i {
				before[j], after[j] = m.counting(known[j], clock, rnd, counts, &weight)
			} else {
				before[j] = m.standing(known[j], clock, rnd, counts, &weight)
				after[j] = before[j]
			}
		}
		if _, fell := w.Rule.sum(before, w.sites); fell {
			continue
		}
		if _, falls := w.Rule.sum(after, w.sites); !falls {
			continue
		}
		hits++
		sum += weight
		squares += weight * weight
	}
	n := float64(samples)
	mean := sum / n
	spread := 1.96 * math.Sqrt(max(squares/n-mean*mean, 0)/n)
	counted := float64(honest) * year / float64(m.Rhythm.Doubt) // probes a year
	return Estimate{PerYear: mean * counted, Low: max(mean-spread, 0) * counted, High: (mean + spread) * counted, Samples: samples, Hits: hits}
}

// span is the runs of losses that an observer counts for, up to more than its cap.
type span struct{ shortest, longest int }

// run draws the length of a run of losses, and corrects the weight.
func (m Model) run(rnd *rand.Rand, counts span, weight *float64) int {
	p, width := m.lost(), counts.longest-counts.shortest+1
	n := counts.shortest + rnd.IntN(width)
	if rnd.IntN(2) == 0 {
		n = geometric(rnd, p)
	}
	natural, even := (1-p)*math.Pow(p, float64(n)), 0.0
	if counts.shortest <= n && n <= counts.longest {
		even = 1 / float64(width)
	}
	*weight *= natural / (natural/2 + even/2)
	return n
}

func (m Model) gap(rnd *rand.Rand) time.Duration {
	return time.Duration(float64(m.Rhythm.Doubt) * (1 - jitter + 2*jitter*rnd.Float64()))
}

func (m Model) rtt(rnd *rand.Rand) time.Duration {
	if m.Weather.Spread == 0 {
		return m.Weather.RTT
	}
	return m.Weather.RTT + time.Duration(rnd.Int64N(int64(m.Weather.Spread)))
}

// counting is the observer whose probe is counted as missed at time 0: its word just
// before and after.
func (m Model) counting(s health.Suspicion, clock time.Duration, rnd *rand.Rand, counts span, weight *float64) (before, after uint16) {
	p := m.lost()
	*weight *= p // that probe itself
	for at := -m.Rhythm.Least + m.gap(rnd); at <= 0; at += m.gap(rnd) {
		if at+m.rtt(rnd) <= 0 {
			*weight *= p // answered, it would have voided the other
		}
	}
	earlier := m.run(rnd, span{0, counts.longest - counts.shortest}, weight) // each of them counts
	starts := make([]time.Duration, 0, 64)
	at := -m.Rhythm.Least
	for range earlier {
		at -= m.gap(rnd)
		starts = append(starts, at)
	}
	at -= m.gap(rnd)
	s.Answered(epoch.Add(clock+at), epoch.Add(clock+at+m.Weather.RTT))
	for _, start := range slices.Backward(starts) {
		s.Missed(epoch.Add(clock+start), epoch.Add(clock+start+m.Rhythm.Least), health.SignSilent)
	}
	if before = s.Hundredths(); before == 0 {
		before = 1 // it is late by now
	}
	s.Missed(epoch.Add(clock-m.Rhythm.Least), epoch.Add(clock), health.SignSilent)
	return before, s.Hundredths()
}

// standing is another observer's word as the others have it at time 0: where the
// vote that acquits was lost, what it said before still stands.
func (m Model) standing(s health.Suspicion, clock time.Duration, rnd *rand.Rand, counts span, weight *float64) uint16 {
	p := m.lost()
	hold := time.Duration(0)
	for i := 0; m.VoteLoss > 0 && rnd.Float64() < m.VoteLoss; i++ {
		hold += pauses[min(i, len(pauses)-1)]
	}
	// The probes around -hold, the latest first. Those that cannot have been answered
	// by then may be, naturally, by 0.
	at := -hold - time.Duration(rnd.Float64()*float64(m.Rhythm.Doubt))
	answer := never // the first answer in (-hold, 0]
	var open []time.Duration
	for at+m.rtt(rnd) > -hold {
		open = append(open, at)
		at -= m.gap(rnd)
	}
	starts := make([]time.Duration, 0, 64)
	for range m.run(rnd, counts, weight) {
		starts = append(starts, at)
		at -= m.gap(rnd)
	}
	if hold > 0 {
		next := -hold
		if len(open) > 0 {
			next = open[0] + m.gap(rnd)
		}
		for i := len(open) - 1; i >= 0 && answer == never; i-- {
			if rnd.Float64() >= p {
				answer = open[i] + m.Weather.RTT
			}
		}
		for ; next <= 0 && answer == never; next += m.gap(rnd) {
			if rnd.Float64() >= p {
				answer = next + m.Weather.RTT
			}
		}
	}
	by := min(answer, 0)
	s.Answered(epoch.Add(clock+at), epoch.Add(clock+at+m.Weather.RTT))
	tardy := false
	for _, start := range slices.Backward(starts) {
		tardy = tardy || start+max(m.Rhythm.Late, time.Duration(m.Rhythm.LateBy)*m.Weather.RTT) <= by
		if start+m.Rhythm.Least <= by {
			s.Missed(epoch.Add(clock+start), epoch.Add(clock+start+m.Rhythm.Least), health.SignSilent)
		}
	}
	if word := s.Hundredths(); word > 0 || !tardy {
		return word
	}
	return 1
}

// Bound is an upper limit of the same rate by calculation: as if an answer voided
// only what is counted already, and not what was sent before it and waits for its
// deadline. Each observer then holds a geometric number of misses against the target.
func Bound(m Model) float64 {
	w := newWorld(m, 1)
	p := m.lost()
	s, clock := m.warm(1)
	limit := w.Rule.limit()
	words := []uint16{1} // by misses; further ones change nothing. What has just been sent is late at most: nobody is against
	for i := 1; int(words[len(words)-1]) < limit; i++ {
		at := clock + time.Duration(i)*m.Rhythm.Doubt
		s.Missed(epoch.Add(at-m.Rhythm.Least), epoch.Add(at), health.SignSilent)
		words = append(words, s.Hundredths())
	}
	most := len(words) - 1
	chance := func(n int) float64 {
		if n == most {
			return math.Pow(p, float64(n))
		}
		return (1 - p) * math.Pow(p, float64(n))
	}
	total := 0.0
	state := make([]uint16, m.Observers)
	misses := make([]int, m.Observers)
	var each func(i int, c float64)
	honest := m.honest()
	for i := honest; i < m.Observers; i++ {
		state[i], misses[i] = lie, most
	}
	each = func(i int, c float64) {
		if i < honest {
			for n := 0; n <= most; n++ {
				state[i], misses[i] = words[n], n
				each(i+1, c*chance(n))
			}
			return
		}
		if _, fell := w.Rule.sum(state, w.sites); fell {
			return
		}
		for j := range state {
			if misses[j] == most {
				continue
			}
			was := state[j]
			state[j] = words[misses[j]+1]
			if _, falls := w.Rule.sum(state, w.sites); falls {
				total += c * p
			}
			state[j] = was
		}
	}
	each(0, 1)
	return total * year / float64(m.Rhythm.Doubt)
}
