package detect

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Result is what became of a target that was well all the time.
type Result struct {
	Hours float64 // simulated
	Moves int     // false ones
	Peak  float64 // the most that all suspicion came to; at Θ it is a move
}

// Run simulates each probe, answer and vote.
func Run(m Model, hours float64, seed uint64) Result {
	w := newWorld(m, seed)
	w.run(time.Duration(hours * float64(time.Hour)))
	return Result{Hours: hours, Moves: len(w.moves), Peak: float64(w.peak) / 100}
}

// Times are how long after its death a target is found dead, in order: by the first
// director and by the last.
type Times struct{ First, Last []time.Duration }

// patience bounds a round in which nobody finds it.
const patience = 30 * time.Second

// Deaths kills a target so many times, each in a world of its own that has been well
// for half a minute.
func Deaths(m Model, rounds int, seed uint64) Times { return deaths(m, rounds, seed, nil) }

func deaths(m Model, rounds int, seed uint64, prepare func(*world)) Times {
	var out Times
	for i := range rounds {
		rnd := rand.New(rand.NewPCG(seed, uint64(i)))
		one := m
		one.Weather.Dead = 30*time.Second + time.Duration(rnd.Int64N(int64(time.Second)))
		w := newWorld(one, rnd.Uint64())
		if prepare != nil {
			prepare(w)
		}
		w.run(one.Weather.Dead)
		w.moves = nil
		first, last := patience, time.Duration(0)
		for end := one.Weather.Dead + patience; w.now < end; {
			w.run(w.now + 100*time.Millisecond)
			if !slices.ContainsFunc(w.observers, func(o *observer) bool { return !o.fallen }) {
				break
			}
		}
		for i, o := range w.observers {
			t := patience
			if o.fallen {
				t = w.fell[i] - one.Weather.Dead
			}
			first, last = min(first, t), max(last, t)
		}
		out.First, out.Last = append(out.First, first), append(out.Last, last)
	}
	slices.Sort(out.First)
	slices.Sort(out.Last)
	return out
}

// Quantile gives the value that a share of the sorted times do not exceed.
func Quantile(sorted []time.Duration, share float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	i := int(share*float64(len(sorted)) + 0.999999)
	return sorted[min(max(i, 1), len(sorted))-1]
}
