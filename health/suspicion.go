package health

import (
	"math"
	"time"
)

// The constants of suspicion. It is counted as −log₁₀ of a chance, so 1 is one in
// ten and 20 one in 10²⁰; in votes in hundredths, as whole numbers.
const (
	// wantedRate is how often, in a year, one endpoint that is well may be taken for
	// failed: once in a million.
	wantedRate = 1e-6

	// theta is Threshold(wantedRate): that much suspicion of all observers together
	// is a fall. In hundredths.
	theta = 2000

	// late is the suspicion of a vote whose author has only not heard yet: it makes
	// others look harder and weighs nothing.
	late = 1

	maxSuspicion = 9999 // of a vote

	// relapse begins the wait for a return again: a live target shows it once in
	// 10⁵ probes, so a path that loses a tenth each way passes a wait of 10 minutes,
	// and one that is gone for half a second each second does not.
	relapse = theta / 4 / 100.0

	// What is known of a path before anything is: as if it had been probed so many
	// times and had lost so much of them. It keeps one early miss from being taken
	// for the path's nature.
	priorProbes = 10
	priorLoss   = 0.01

	// longestBurst is what a path may lose in a row and teach by it. What lasts longer
	// was an outage, which says nothing of how the path is when there is none; if
	// outages were learnt as loss, each would make the next one harder to see.
	longestBurst = 500 * time.Millisecond

	halfLife = 10 * time.Minute // of what a path has shown
	ageEvery = time.Minute      // how often it is made to fade
	lately   = 32               // answers, by when their probes were sent: a second of them in doubt, and more
)

// Threshold gives the suspicion at which a fall is agreed so that an endpoint that
// is well falls at most so many times a year. Five observers who probe 20 times a
// second each come into a new state 3.2·10⁹ times a year. With 10 % loss each way
// a probe is lost with p = 0.19, and the state in which one more miss makes m in
// all has the chance C(m+3, 4)·(1−p)⁵·pᵐ⁻¹: m misses can fall to five observers in
// so many ways. For m = 28 that is 3.5·10¹³ ways a year, which the threshold must
// outweigh. It is rounded up to a whole: the paths are not known better, and that
// they lose independently is an assumption.
func Threshold(perYear float64) float64 {
	const (
		states = 5 * 20 * 365.25 * 24 * 3600
		ways   = 31465 // C(31, 4)
		rest   = 0.81 * 0.81 * 0.81 * 0.81 * 0.81
	)
	return math.Ceil(math.Log10(states * ways * rest / perYear))
}

// floor is the chance that one probe of a live target shows this sign, at least.
// SYNs are lost like any packet: 0.19 is 10 % each way. A listener that is being
// restarted refuses, for a moment. TCP repeats what is lost once it is connected,
// and a wrong answer is no accident of the path.
func (s Sign) floor() float64 {
	switch s {
	case SignMute, SignWrong:
		return 0.01
	default:
		return 0.19
	}
}

// Suspicion is what one observer holds against one subject: φ, the sum over the
// probes sent since the last answered one, and missed, of −log₁₀ P(no answer |
// alive). P is what this path has shown, at least the floor of the sign. The
// history counts probes and never gaps, so that it stays true when the interval
// changes. What is missed counts in it once an answer has shown that the target
// was alive, and not at all if it lasted for longer than bursts of loss do.
//
// The zero value has seen nothing. It allocates nothing, has no clock, and is not
// for concurrent use.
type Suspicion struct {
	base     time.Time     // all times below count from it
	aged     time.Duration // when the history last faded
	answered time.Duration // when the last answered probe was sent
	missed   time.Duration // when the last missed probe was sent
	heard    bool          // there is an answered one
	lost     bool          // and a missed one

	// The history: probes, those missed, and those missed right after a missed one.
	probes, misses, again float64

	phi   float64
	run   int           // misses in φ
	more  int           // and how many of them came right after a missed one
	first time.Duration // when the first of them was sent

	forgotten     bool          // φ was, and nothing has been answered since
	outage, ended time.Duration // of what was no burst of loss: what was sent from then until then

	taught, taughtMore int           // the last row of misses that was taken for the path's
	taughtAt           time.Duration // when the answered probe was sent that ended it

	answers [lately]uint32 // ms: when answered probes were sent, a ring
	next    uint8
}

// Missed takes in a probe, sent then, that had no good answer by now. False: one
// sent later has been answered, so it tells of the path and not of the target.
func (s *Suspicion) Missed(sent, now time.Time, sign Sign) bool {
	at := s.since(sent, now)
	again := s.follows(at)
	if !s.lost || at > s.missed {
		s.missed, s.lost = at, true
	}
	if s.heard && at < s.answered {
		more := 0
		if again {
			more = 1
		}
		// The last probes of an outage are missed only when it is over.
		if at < s.outage || at >= s.ended {
			s.learn(1, more)
		}
		return false
	}
	if s.run == 0 && !s.forgotten || at < s.first {
		s.first = at
	}
	if again {
		s.more++
	}
	s.run++
	s.phi = min(s.phi-math.Log10(s.chance(sign, s.run > 1)), maxSuspicion/100.0)
	return true
}

// Answered takes in a probe that was answered well: whatever was missed before was
// lost on the way.
func (s *Suspicion) Answered(sent, now time.Time) {
	at := s.since(sent, now)
	s.alive(at)
	s.probes++
	s.answers[s.next%lately] = millis(at)
	s.next++
}

// AnsweredLate takes in the answer to a probe that Missed was told of. The target
// is alive; as a probe it counts once, as missed.
func (s *Suspicion) AnsweredLate(sent, now time.Time) { s.alive(s.since(sent, now)) }

func (s *Suspicion) alive(at time.Duration) {
	if !s.heard || at > s.answered {
		s.answered, s.heard = at, true
	}
	switch {
	case s.forgotten || s.run > 1 && s.missed-s.first > longestBurst:
		s.outage, s.ended = s.first, at
	case s.run > 0:
		s.learn(s.run, s.more)
		s.taught, s.taughtMore, s.taughtAt = s.run, s.more, at
	}
	s.phi, s.run, s.more, s.forgotten = 0, 0, 0, false
}

// Forget drops φ and what it is made of: it was a death, or is too long ago. What
// the path has shown stays.
func (s *Suspicion) Forget() {
	s.forgotten = s.forgotten || s.run > 0
	s.phi, s.run, s.more = 0, 0, 0
}

// Died says that a fall was agreed just before the last answers: a row of misses that
// they made the path's own was none.
func (s *Suspicion) Died(now time.Time) {
	if s.taught == 0 || s.since(now, now)-s.taughtAt > longestBurst {
		return
	}
	s.learn(-s.taught, -s.taughtMore)
	s.probes, s.misses, s.again = max(s.probes, 0), max(s.misses, 0), max(s.again, 0)
	s.outage, s.ended = s.first, s.taughtAt
	s.taught = 0
}

// AnsweredSince reports whether a probe sent after then has been answered.
func (s *Suspicion) AnsweredSince(sent time.Time) bool {
	return s.heard && sent.Sub(s.base) < s.answered
}

// Phi gives φ.
func (s *Suspicion) Phi() float64 { return s.phi }

// Misses gives how many misses φ is made of.
func (s *Suspicion) Misses() int { return s.run }

// Hundredths gives φ as votes carry it.
func (s *Suspicion) Hundredths() uint16 {
	return uint16(min(math.Round(s.phi*100), maxSuspicion))
}

// Needed says how many misses in a row of this sign make φ at least that much, as
// the path is known now: what a death must take, so it grows with the path's
// bursts.
func (s *Suspicion) Needed(phi float64, sign Sign) int {
	first, more := -math.Log10(s.chance(sign, false)), -math.Log10(s.chance(sign, true))
	const rounding = 0.005 // votes are in hundredths
	return 1 + max(0, int(math.Ceil((phi-rounding-first)/more)))
}

// Loss gives the share of probes that this path loses, and the share of those right
// after a lost one.
func (s *Suspicion) Loss() (lost, again float64) {
	return (s.misses + priorProbes*priorLoss) / (s.probes + priorProbes),
		(s.again + priorProbes*priorLoss) / (s.misses + priorProbes)
}

// chance is P: of the first miss after an answer, or of a further one.
func (s *Suspicion) chance(sign Sign, further bool) float64 {
	lost, again := s.Loss()
	if further {
		lost = max(lost, again)
	}
	return max(lost, sign.floor())
}

func (s *Suspicion) learn(misses, again int) {
	s.probes += float64(misses)
	s.misses += float64(misses)
	s.again += float64(again)
}

// follows reports whether the probe sent before this one is known to have been
// missed. Probes overlap, so their ends come in another order than they were sent.
func (s *Suspicion) follows(at time.Duration) bool {
	if !s.lost || at <= s.missed {
		return false
	}
	if s.heard && s.answered < at && s.answered > s.missed {
		return false
	}
	from, to := millis(s.missed), millis(at)
	for _, sent := range s.answers {
		if int32(sent-from) > 0 && int32(to-sent) > 0 {
			return false
		}
	}
	return true
}

// since gives when a probe was sent, and lets the history fade.
func (s *Suspicion) since(sent, now time.Time) time.Duration {
	if s.base.IsZero() {
		s.base = sent.Add(-ageEvery) // so that a place of the ring not yet used is before all
	}
	if t := now.Sub(s.base); t-s.aged >= ageEvery {
		left := math.Exp2(-float64(t-s.aged) / float64(halfLife))
		s.probes, s.misses, s.again = s.probes*left, s.misses*left, s.again*left
		s.aged = t
	}
	return sent.Sub(s.base)
}

// millis is a time of the ring. It wraps after 49 days; only what lies within
// seconds of another is compared with it.
func millis(d time.Duration) uint32 { return uint32(d.Milliseconds()) }

// Theta is the suspicion of all observers together at which a fall is agreed, in
// hundredths.
func (q Quorum) Theta() int { return theta }

// Cap is how much one observer counts at most, in hundredths: Θ/q, rounded up so
// that q of them are enough.
func (q Quorum) Cap() int {
	votes := max(q.Votes, 1)
	return (theta + votes - 1) / votes
}

// DomainCap is how much one fault domain counts at most: what q−1 observers do, if
// two domains are needed. So no domain brings a fall about by itself.
func (q Quorum) DomainCap() int {
	if q.Votes > 1 && q.Domains > 1 {
		return (q.Votes - 1) * q.Cap()
	}
	return math.MaxInt
}

// Weight is what a vote counts for the transition that it is about, in hundredths.
// One for it counts its suspicion, and in full if it names none, as those of
// returns and of soft subjects do. One that leans counts its suspicion too, unless
// its author is only waiting, and one against it nothing.
func (q Quorum) Weight(v Vote) int {
	switch {
	case v.N == 0 || v.To == Unknown:
		return 0
	case v.Leans():
		if v.Suspicion <= late {
			return 0
		}
		return min(int(v.Suspicion), q.Cap())
	case v.To != After(v.N):
		return 0
	case v.To == Down && v.Suspicion > 0 && v.Subject.Kind != KindSoft:
		return min(int(v.Suspicion), q.Cap())
	default:
		return q.Cap()
	}
}

// Waits reports whether its author has only not heard yet, when it usually has.
func (v Vote) Waits() bool { return v.Leans() && v.Suspicion <= late }

// Leans reports whether the vote, though against a fall, suspects one: it counts
// as no word that the subject is up.
func (v Vote) Leans() bool {
	return v.To == Up && After(v.N) == Down && v.Suspicion > 0 && v.Subject.Kind != KindSoft
}
