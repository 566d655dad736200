package health

import (
	"fmt"
	"slices"
	"time"
)

// The constants of the damped return (S10).
const (
	holdFirst   = 10 * time.Second // healthy for so long, doubling per flap …
	holdMost    = 10 * time.Minute // … up to this
	flapMemory  = time.Hour        // a fall older than this doubles nothing
	dampWindow  = 10 * time.Minute // a return waits while more than …
	dampAllowed = 2                // … so many transitions lie in the window
	chainLength = 16               // transitions kept; eight falls double past holdMost
)

// Moment is one transition of a chain and when this director first received
// it, on its own clock.
type Moment struct {
	N     uint64
	Since time.Time
}

// Chain is what a director knows of a subject's transitions, newest last. It
// is a value: what it was made from never changes under it.
type Chain struct {
	Subject Subject
	N       uint64 // the transition in force; 0 = never seen
	Past    []Moment
}

// State gives what the subject is, by certificate.
func (c Chain) State() State { return After(c.N) }

// Since gives the first receipt of the transition in force; zero if there is
// none.
func (c Chain) Since() time.Time {
	if len(c.Past) == 0 {
		return time.Time{}
	}
	return c.Past[len(c.Past)-1].Since
}

// Hold says how long a fallen subject must have been healthy before a
// director may vote for its return: 10 s, doubled for each earlier fall of the
// last hour, up to 10 min.
func (c Chain) Hold(now time.Time) time.Duration {
	hold := time.Duration(0)
	for _, m := range c.Past {
		if After(m.N) != Down || now.Sub(m.Since) >= flapMemory {
			continue
		}
		hold = min(max(2*hold, holdFirst), holdMost)
	}
	return max(hold, holdFirst)
}

// Damped says until when S10 holds a return: while more than 2 transitions lie
// in the last 10 min. Zero or past: it does not.
func (c Chain) Damped(now time.Time) time.Time {
	recent := 0
	for _, m := range slices.Backward(c.Past) {
		if now.Sub(m.Since) >= dampWindow {
			break
		}
		if recent++; recent > dampAllowed {
			return m.Since.Add(dampWindow)
		}
	}
	return time.Time{}
}

// wait says how long a subject that has been healthy since then must still
// wait before this director may vote it up, and why. A readmission ends the
// waits that began before it: S10's began with the fall, the hold with the
// first good probe after it.
func (c Chain) wait(healthy, readmit, now time.Time) (time.Duration, string) {
	if c.Since().After(healthy) {
		healthy = c.Since() // others saw it fall, this director did not
	}
	hold := c.Hold(now)
	left, why := time.Duration(0), ""
	if healthy.After(readmit) {
		if left = hold - now.Sub(healthy); left > 0 {
			why = "must be healthy for " + span(hold)
		}
	}
	if c.Since().After(readmit) {
		if damped := c.Damped(now).Sub(now); damped > left {
			left, why = damped, fmt.Sprintf("more than %d transitions in %s", dampAllowed, span(dampWindow))
		}
	}
	return max(left, 0), why
}

// next gives the chain after transition n was first received.
func (c Chain) next(n uint64, now time.Time) Chain {
	past := make([]Moment, 0, min(len(c.Past)+1, chainLength))
	past = append(past, c.Past[max(0, len(c.Past)+1-chainLength):]...)
	return Chain{Subject: c.Subject, N: n, Past: append(past, Moment{N: n, Since: now})}
}

// back gives the chain before its last transition.
func (c Chain) back() Chain {
	if c.N <= 1 {
		return Chain{Subject: c.Subject}
	}
	last := len(c.Past) - 1
	before := Chain{Subject: c.Subject, N: c.N - 1, Past: slices.Clone(c.Past[:last])}
	if last == 0 || c.Past[last-1].N != before.N { // it was jumped over when it came
		before.Past = append(before.Past, Moment{N: before.N, Since: c.Past[last].Since})
	}
	return before
}
