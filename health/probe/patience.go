package probe

import "time"

const (
	// signalLife is how long a fast signal's socket stays open. A second later the kernel
	// would repeat the SYN, and a signal be no longer one packet each way.
	signalLife = time.Second
	// leastPatience: a delay that grows to 300 ms (F14), or a burst of loss of 200 ms
	// (F5), is no miss.
	leastPatience  = 300 * time.Millisecond
	leastLate      = 30 * time.Millisecond
	leastLateProbe = 150 * time.Millisecond // of a deep probe
)

// patience is what the answers to one probe say of how long to wait for the next. The
// zero value knows of none.
type patience struct {
	usual time.Duration // smoothed as TCP smooths its round trip, RFC 6298 section 2
	peak  time.Duration // slowest answer, decaying
}

// heard takes any answer, a refusal too: the path is known to be open.
func (p *patience) heard(latency time.Duration) {
	if p.usual == 0 {
		p.usual = latency
	}
	p.usual += (latency - p.usual) / 8
	p.peak = max(latency, p.peak-p.peak/64)
}

// deadline is when a fast signal without an answer counts as missed. Silence does not
// lengthen it: an answer that comes later does.
func (p *patience) deadline() time.Duration {
	return min(max(leastPatience, 2*p.peak), signalLife)
}

// late is when a fast signal without an answer is reason for doubt.
func (p *patience) late() time.Duration {
	return min(max(leastLate, 2*p.usual), p.deadline())
}

// lateProbe is the same of a deep probe, which a busy server may answer slowly.
func (p *patience) lateProbe(timeout time.Duration) time.Duration {
	return min(max(leastLateProbe, 3*p.peak), timeout*4/5)
}
