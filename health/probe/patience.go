package probe

import "time"

// patience is how long a fast signal waits for its answer. The interval alone
// would do in one building; but a path of 250 ms would then never answer, and
// a path whose delay suddenly grows would look dead. So it follows the slowest
// recent answer, and each silence in a row doubles it, as TCP's own timer
// does: a blackhole is still three misses in 0.7 s at 100 ms, while added
// delay of 300 ms or a burst of loss of 200 ms is not.
type patience struct {
	peak   time.Duration // slowest answer, decaying
	silent uint          // in a row
}

// wait gives the time to allow, never under the interval nor over the ceiling.
func (p *patience) wait(interval, ceiling time.Duration) time.Duration {
	wait := max(interval, 2*p.peak)
	for range min(p.silent, 8) {
		wait *= 2
	}
	return min(wait, max(ceiling, interval))
}

// heard takes any answer, a refusal too: the path is known to be open.
func (p *patience) heard(latency time.Duration) {
	p.peak = max(latency, p.peak-p.peak/64)
	p.silent = 0
}

// silence takes a timeout.
func (p *patience) silence() { p.silent = min(p.silent+1, 8) }
