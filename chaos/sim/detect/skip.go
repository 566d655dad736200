package detect

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/divertdns/divert/health"
)

// lost is the chance that a probe, or its answer, is lost.
func (m Model) lost() float64 { return 1 - (1-m.Weather.Loss)*(1-m.Weather.Loss) }

// reach is how many probes in a row must be lost at least before one of them counts
// as missed: any answer before its deadline voids it.
func (m Model) reach() int {
	slowest := m.Weather.RTT + m.Weather.Spread
	return 1 + int(float64(m.Rhythm.Least-slowest)/((1+jitter)*float64(m.Rhythm.Doubt)))
}

// warm gives a suspicion that knows its path, and a time on its clock before which
// nothing is under way. It is learnt as an observer learns it: in which order answers
// and misses come shapes what is known of bursts.
func (m Model) warm(seed uint64) (health.Suspicion, time.Duration) {
	m.Observers, m.Sites, m.Rule, m.Weather.Liar = 1, 1, Rule{}, false
	w := newWorld(m, seed)
	w.run(20 * time.Minute)
	s := w.observers[0].suspects
	s.Forget()
	return s, w.now + time.Minute // all that is tried out lies within
}

// Skip simulates paths that lose packets independently (F4), and leaps over the
// time in which nobody holds anything against the target: from one run of losses
// that is long enough to count to the next, whose distance is geometric. Doubt
// never ends in such weather, so all probe at that pace. Words that accuse arrive at
// once and those that acquit when they are due, so it errs towards moves.
func Skip(m Model, hours float64, seed uint64) Result {
	w := newWorld(m, seed)
	end := hours * float64(time.Hour)
	lines := make([]*line, m.honest())
	for i := range lines {
		lines[i] = newLine(m, rand.New(rand.NewPCG(seed, uint64(1000+i))))
		lines[i].leap()
	}
	out := Result{Hours: hours}
	words, peak, down := make([]uint16, m.Observers), 0, false
	for i := len(lines); i < len(words); i++ {
		words[i] = lie
	}
	for {
		i := 0
		for j, l := range lines {
			if l.at() < lines[i].at() {
				i = j
			}
		}
		l := lines[i]
		if l.at() >= end {
			break
		}
		words[i] = l.words[0].word
		if l.words = l.words[1:]; len(l.words) == 0 {
			l.leap()
		}
		sum, falls := w.Rule.sum(words, w.sites)
		peak = max(peak, sum)
		if falls && !down {
			out.Moves++
		}
		down = falls
	}
	out.Peak = float64(peak) / 100
	return out
}

// honest counts the observers who do not lie.
func (m Model) honest() int {
	if m.Weather.Liar {
		return m.Observers - 1
	}
	return m.Observers
}

// line is one observer's word over time.
type line struct {
	m      Model
	rnd    *rand.Rand
	known  health.Suspicion // the path as it is
	clock  time.Duration    // on the clock of known
	now    float64          // nanoseconds; a Duration ends after 292 years
	origin float64          // of words' times
	words  []said
	buffer []said
}

type said struct {
	at   time.Duration
	word uint16
}

func newLine(m Model, rnd *rand.Rand) *line {
	l := &line{m: m, rnd: rnd}
	l.known, l.clock = m.warm(rnd.Uint64())
	return l
}

func (l *line) at() float64 { return l.origin + float64(l.words[0].at) }

// leap goes to the next run of losses that counts.
func (l *line) leap() {
	p, k := l.m.lost(), l.m.reach()
	// A cycle is a run of losses and the answer that ends it. Of those with fewer
	// than k losses there is a geometric number before one with more.
	cycles := math.Floor(math.Log(1-l.rnd.Float64()) / math.Log1p(-math.Pow(p, float64(k))))
	mean, square := shortRun(p, k)
	probes := cycles*mean + math.Sqrt(cycles*square)*l.rnd.NormFloat64()
	l.now += max(probes, cycles) * float64(l.m.Rhythm.Doubt)
	l.origin = l.now
	run := k + geometric(l.rnd, p)
	l.words, l.buffer = l.play(run, l.buffer[:0])
	l.now += float64(l.m.Rhythm.Doubt) * float64(run+1)
}

// shortRun gives the mean and the variance of a cycle's probes, given fewer than k
// losses.
func shortRun(p float64, k int) (mean, variance float64) {
	total, first, second := 0.0, 0.0, 0.0
	for n := range k {
		c := math.Pow(p, float64(n))
		total, first, second = total+c, first+c*float64(n+1), second+c*float64((n+1)*(n+1))
	}
	mean = first / total
	return mean, second/total - mean*mean
}

// geometric gives the number of losses before an answer.
func geometric(rnd *rand.Rand, p float64) int {
	return int(math.Log(1-rnd.Float64()) / math.Log(p))
}

// play lets a copy of the suspicion go through a run of losses. It always ends with
// a word that acquits.
func (l *line) play(run int, out []said) (words, buffer []said) {
	s, t := l.known, l.clock
	r := l.m.Rhythm
	s.Answered(epoch.Add(t-r.Doubt), epoch.Add(t-r.Doubt+l.m.Weather.RTT))
	starts := make([]time.Duration, 0, 64)
	at := time.Duration(0)
	for range run {
		starts = append(starts, at)
		at += time.Duration(float64(r.Doubt) * (1 - jitter + 2*jitter*l.rnd.Float64()))
	}
	answer := at + l.m.Weather.RTT
	if l.m.Weather.Spread > 0 {
		answer += time.Duration(l.rnd.Int64N(int64(l.m.Weather.Spread)))
	}
	for _, start := range starts {
		ends := start + r.Least
		if ends >= answer {
			break
		}
		s.Missed(epoch.Add(t+start), epoch.Add(t+ends), health.SignSilent)
		out = append(out, said{ends, s.Hundredths()})
	}
	for i := 0; l.m.VoteLoss > 0 && l.rnd.Float64() < l.m.VoteLoss; i++ {
		answer += pauses[min(i, len(pauses)-1)]
	}
	out = append(out, said{answer + l.m.VoteDelay, 0})
	return out, out
}
