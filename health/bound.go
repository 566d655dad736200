package health

import "time"

// Rhythm is how one subject is probed, as things are: what the prober knows.
type Rhythm struct {
	Interval time.Duration // between two probes while nothing is in doubt, stretched if there are too many
	Doubt    time.Duration // the same in doubt
	Late     time.Duration // without an answer for so long: doubt
	Missed   time.Duration // without an answer for so long: a miss
	AtOnce   int           // so many are out at most; 0: any number
}

const (
	// votesDelay is what a bound allows for a vote: 40 ms to the farthest peer, which
	// SEMANTICS counts with, and a turn of each loop.
	votesDelay = 90 * time.Millisecond

	jitter = 1.2 // an interval is up to a fifth longer than its mean
)

// Bound gives the time within which a target that ceases to answer is agreed to
// have failed, if each of the observers must miss so many probes: the longest wait
// for the first probe, those sent until it is late, the rest in doubt, the deadline
// of the last, and the votes. It is what it comes to at worst; half of it is more
// usual, since the first of the observers to wait makes all others doubt.
func Bound(r Rhythm, misses int) time.Duration {
	scale := func(d time.Duration, n int) time.Duration { return time.Duration(jitter * float64(d) * float64(n)) }
	more := max(misses-1, 0)
	sent := scale(r.Interval, more)
	if r.Interval > 0 {
		calm := min(more, int(r.Late/r.Interval)) // sent before there is doubt
		sent = min(sent, r.Late+scale(r.Doubt, more-calm))
	}
	if r.AtOnce > 0 { // the next leaves when one of those before it has been missed
		sent = max(sent, min(scale(r.Interval, more), r.Late)+time.Duration(more/r.AtOnce)*r.Missed)
	}
	return scale(r.Interval, 1) + sent + r.Missed + votesDelay
}

// Share gives the least suspicion, in hundredths, that each observer must have for
// a fall, if so many in each fault domain see it. 0: they are too few.
func (q Quorum) Share(observers []int) int {
	enough := func(each int) bool {
		sum := 0
		for _, n := range observers {
			sum += min(n*each, q.DomainCap())
		}
		return sum >= q.Theta()
	}
	low, high := 0, q.Cap() // not enough, perhaps enough
	if !enough(high) {
		return 0
	}
	for high-low > 1 {
		if middle := (low + high) / 2; enough(middle) {
			high = middle
		} else {
			low = middle
		}
	}
	return high
}

// Observing counts the observers of a subject that are heard now, this director
// included, by fault domain.
func (b *Book) Observing(s Subject, now time.Time) []int {
	count := make([]int, len(b.shares))
	for _, name := range b.Assigned(s) {
		if a := b.byName[name]; a != nil && (name == b.self || !a.at.IsZero() && now.Sub(a.at) <= fresh) {
			count[a.site]++
		}
	}
	return count
}

// Bound gives the time within which this director's subject, probed in this rhythm,
// is agreed to have failed once it does not answer at all, by what the path to it
// has shown and the observers that are there now. False: it cannot be said, as they
// are too few, or the subject is not watched or has no suspicion.
func (o *Observer) Bound(b *Book, s Subject, r Rhythm, now time.Time) (time.Duration, bool) {
	e := o.entries[s]
	if e == nil || s.Kind == KindSoft {
		return 0, false
	}
	share := b.Quorum().Share(b.Observing(s, now))
	if share == 0 {
		return 0, false
	}
	sign := SignSilent
	if s.Kind == KindCheck {
		sign = SignMute
	}
	d := Bound(r, e.suspicion.Needed(float64(share)/100, sign))
	if e.via != nil {
		d = max(d, time.Duration(jitter*float64(r.Interval))+r.Missed+viaGrace+votesDelay)
	}
	return d, true
}
