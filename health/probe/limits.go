package probe

import (
	"sync/atomic"
	"time"
)

// What one director sends at most, in the mean of a second. Constants and not settings:
// whoever exceeds them is told by how much their intervals stretch, and adds directors.
const (
	fastLimit = 500  // fast signals (SEMANTICS section 1)
	deepLimit = 5000 // deep probes
	hostLimit = 200  // deep probes to one address
	deepBurst = 250  // deep probes at once
	// leastIdle is the part of a limit that doubt elsewhere leaves to those not in doubt.
	leastIdle = 0.1

	hurriedAtLeast = 50 * time.Millisecond // between two starts of a deep probe in doubt
	programAtLeast = time.Second           // of a program: a peer's doubt is enough for that rate
)

// rates are what some targets ask for, in starts in a million seconds: integers, so that
// adding and taking away for years leaves nothing behind.
type rates struct{ fastIdle, fastDoubt, deepAll, deepIdle, deepDoubt int64 }

func rate(interval time.Duration) int64 { return int64(1e6*time.Second) / int64(interval) }

func (r *rates) add(e *entry, sign int64) {
	if e.Fast {
		r.fastIdle += sign * rate(e.Interval)
		r.fastDoubt += sign * rate(e.hurried())
		return
	}
	r.deepAll += sign * rate(e.Interval)
	if e.pressed {
		r.deepDoubt += sign * rate(e.hurried())
	} else {
		r.deepIdle += sign * rate(e.Interval)
	}
}

// hurried is the interval in doubt.
func (e *entry) hurried() time.Duration {
	if e.Fast {
		return max(e.Interval/2, minInterval)
	}
	least := hurriedAtLeast
	if e.Exec != nil {
		least = programAtLeast
	}
	return min(e.Interval, max(e.Interval/8, least))
}

// limit stretches intervals so that no more than so many probes a second start. Those in
// doubt come first: they stretch only by each other, and the rest gets what they leave.
type limit struct {
	most     float64
	idle     int64 // asked for by those not in doubt
	doubt    int64 // by those in doubt
	all      int64 // by all, if none were in doubt
	calm     float64
	doubtful float64 // the factors
}

func (l *limit) settle() {
	idle, doubt := float64(l.idle)/1e6, float64(l.doubt)/1e6
	share := l.most
	if l.idle > 0 {
		share *= 1 - leastIdle
	}
	l.doubtful = max(1, doubt/share)
	l.calm = max(1, idle/(l.most-min(doubt, share)))
	if l.idle == 0 {
		l.calm = max(1, float64(l.all)/1e6/l.most)
	}
}

// host is one address, whatever the ports.
type host struct {
	groups int
	deep   int64 // asked for
}

func (h *host) stretch() float64 { return max(1, float64(h.deep)/(hostLimit*1e6)) }

// limits are those of a director. Only the loop touches them.
type limits struct {
	fast, deep limit
	stale      bool
	starts     float64 // deep probes that may start at once
	at         time.Time
}

func newLimits() limits {
	return limits{fast: limit{most: fastLimit, calm: 1, doubtful: 1}, deep: limit{most: deepLimit, calm: 1, doubtful: 1}, starts: deepBurst}
}

// count adds what a group asks for as things are, or takes it away.
func (l *limits) count(g *group, r *rates, sign int64) {
	l.stale = true
	l.fast.all += sign * r.fastIdle
	l.deep.all += sign * r.deepAll
	l.deep.idle += sign * r.deepIdle
	l.deep.doubt += sign * r.deepDoubt
	g.host.deep += sign * (r.deepIdle + r.deepDoubt)
	if g.inDoubt {
		l.fast.doubt += sign * r.fastDoubt
	} else {
		l.fast.idle += sign * r.fastIdle
	}
}

func (l *limits) settle() (changed bool) {
	if !l.stale {
		return false
	}
	l.stale = false
	l.fast.settle()
	l.deep.settle()
	return true
}

// interval is the mean time between two starts of a target, in doubt or not.
func (l *limits) interval(e *entry, doubt bool) time.Duration {
	of := &l.deep
	if e.Fast {
		of = &l.fast
	}
	d, factor := e.Interval, of.calm
	if doubt {
		d, factor = e.hurried(), of.doubtful
	}
	if !e.Fast {
		factor = max(factor, e.group.host.stretch())
	}
	return time.Duration(float64(d) * factor)
}

// start says whether one more deep probe may start now. The stretch keeps the mean; this
// keeps many that became due together from starting together.
func (l *limits) start(now time.Time) bool {
	if passed := now.Sub(l.at); passed > 0 {
		l.starts, l.at = min(deepBurst, l.starts+passed.Seconds()*deepLimit), now
	}
	if l.spent() {
		return false
	}
	l.starts--
	return true
}

func (l *limits) spent() bool { return l.starts < 1 }

// Pace is how a target is probed now.
type Pace struct {
	Interval time.Duration // between two starts in the mean, while nothing is in doubt
	Doubt    time.Duration // the same in doubt
	Late     time.Duration // without an answer for so long: doubt
	Missed   time.Duration // without an answer for so long: a miss. A deep probe's timeout
	AtOnce   int           // so many are out at most, in doubt; 0: any number
}

// pace is Pace for many readers.
type pace struct{ interval, doubt, late, missed, atOnce atomic.Int64 }

func (p *pace) tell(s *schedule, e *entry) {
	p.interval.Store(int64(s.limits.interval(e, false)))
	p.doubt.Store(int64(s.limits.interval(e, true)))
	p.late.Store(int64(e.late()))
	p.missed.Store(int64(e.missed()))
	if !e.Fast {
		p.atOnce.Store(atOnce)
	}
}

func (p *pace) load() Pace {
	return Pace{
		Interval: time.Duration(p.interval.Load()), Doubt: time.Duration(p.doubt.Load()),
		Late: time.Duration(p.late.Load()), Missed: time.Duration(p.missed.Load()), AtOnce: int(p.atOnce.Load()),
	}
}

// missed is after how long without an answer a probe of the target has failed.
func (e *entry) missed() time.Duration {
	if e.Fast {
		return e.patience.deadline()
	}
	return e.Timeout
}
