package detect

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Bursts come and go: intervals that last for so long in the mean, with so much
// time between them in the mean. Both are exponential, as in the model of Gilbert
// and Elliott, unless they are of one length. The zero value is none.
type Bursts struct {
	Every time.Duration
	Lasts time.Duration
	Fixed bool // each lasts exactly so long
}

// bursts is one course of Bursts.
type bursts struct {
	Bursts
	rnd   *rand.Rand
	spans [][2]time.Duration // the recent ones
	until time.Duration      // known up to there
}

func newBursts(b Bursts, rnd *rand.Rand) *bursts { return &bursts{Bursts: b, rnd: rnd} }

// at gives the burst that covers a time, which may be a few seconds before the
// latest that was asked for. False: there is none.
func (b *bursts) at(t time.Duration) (end time.Duration, active bool) {
	if b.Every <= 0 {
		return 0, false
	}
	for b.until <= t {
		start := b.until + time.Duration(b.rnd.ExpFloat64()*float64(b.Every))
		lasts := b.Lasts
		if !b.Fixed {
			lasts = time.Duration(b.rnd.ExpFloat64() * float64(b.Lasts))
		}
		if len(b.spans) > 64 {
			b.spans = append(b.spans[:0], b.spans[32:]...)
		}
		b.spans = append(b.spans, [2]time.Duration{start, start + lasts})
		b.until = start + lasts
	}
	for _, s := range slices.Backward(b.spans) {
		if s[1] <= t {
			return 0, false
		} else if s[0] <= t {
			return s[1], true
		}
	}
	return 0, false
}

// Weather is what befalls the packets between observers and target.
type Weather struct {
	RTT, Spread time.Duration // a round trip, and up to so much more
	Loss        float64       // of each packet, one way
	Bursts      Bursts        // of loss, on each path by itself
	Common      Bursts        // of loss, at the target: all paths at once
	Swell       Bursts        // the round trip is longer on each path by itself …
	SwellCommon Bursts        // … and on all at once …
	SwellBy     time.Duration // … by so much
	Blind       []int         // observers who reach nothing
	Starved     Bursts        // each observer's process does not run
	Liar        bool          // the last observer holds everything against the target
	Dead        time.Duration // the target is dead from then on; 0: never
	Jam         bool          // a dead target hangs: connections are taken, and not answered
}

// path is the way of one observer to the target and back.
type path struct {
	w              *Weather
	rnd            *rand.Rand
	blind          bool
	bursts, swell  *bursts
	common, swells *bursts
}

// ask sends a probe and says how long until its answer; false: there will be none.
func (p *path) ask(t time.Duration) (time.Duration, bool) {
	w := p.w
	rtt := w.RTT
	if w.Spread > 0 {
		rtt += time.Duration(p.rnd.Int64N(int64(w.Spread)))
	}
	for _, s := range []*bursts{p.swell, p.swells} {
		if _, active := s.at(t); active {
			rtt += w.SwellBy
			break
		}
	}
	lost := p.blind || w.Dead > 0 && t+rtt/2 >= w.Dead
	if w.Loss > 0 {
		there, back := p.rnd.Float64() < w.Loss, p.rnd.Float64() < w.Loss
		lost = lost || there || back
	}
	for _, b := range []*bursts{p.bursts, p.common} {
		_, out := b.at(t)
		_, in := b.at(t + rtt)
		lost = lost || out || in
	}
	return rtt, !lost
}
