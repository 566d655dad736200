package probe

import (
	"math/rand/v2"
	"time"
)

const (
	// doubtFor is how long doubt lasts after its last cause; of a deep probe at least
	// three of its intervals, since it takes some probes to be sure.
	doubtFor     = 2 * time.Second
	longestDoubt = 30 * time.Second
	// sure: after so many failures in a row a signal is no cause for doubt any more, which
	// is more than a director needs that is alone. Within the 2 s there would be fewer where
	// much fails at once and doubt itself is stretched.
	sure = 32
	// atOneBlow is how many deep probes of one address and port go at once when doubt
	// begins; more are spread over an interval.
	atOneBlow = 8
)

// doubting is how long doubt about a target lasts.
func (e *entry) doubting() time.Duration {
	if e == nil || e.Fast {
		return doubtFor
	}
	return min(max(doubtFor, 3*e.Interval), longestDoubt)
}

// judge takes an outcome that is not void and says whether it is the first
// failure after success, or ever.
func (e *entry) judge(ok bool) (first bool) {
	first = !ok && !e.failing
	e.failing = !ok
	e.failed++
	if ok {
		e.tardy, e.failed = false, 0
	}
	return first
}

// late is after how long without an answer a probe of the target is reason for doubt.
func (e *entry) late() time.Duration {
	if e.Fast {
		return e.patience.late()
	}
	return e.patience.lateProbe(e.Timeout)
}

// doubt starts or prolongs doubt and says whether it started one.
func (s *schedule) doubt(g *group, now time.Time, lasts time.Duration) (began bool) {
	if until := now.Add(lasts); until.After(g.until) {
		g.until = until
	}
	if g.inDoubt || len(g.members) == 0 {
		return false
	}
	s.limits.count(g, &g.rates, -1)
	g.inDoubt = true
	s.limits.count(g, &g.rates, 1)
	s.doubted = append(s.doubted, g)
	s.hurried = append(s.hurried, g)
	return true
}

// press has a deep probe go at a higher rate, for a while, and not wait for its answers.
// It is the one that failed, is late, or is doubted by a peer, and not what else is probed
// there: a gateway with a hundred services behind it and packets lost on the way to it must
// not be asked a hundred times as much.
func (s *schedule) press(e *entry, now time.Time) (began bool) {
	if until := now.Add(e.doubting()); until.After(e.until) {
		e.until = until
	}
	if e.pressed || e.gone {
		return false
	}
	s.setPressed(e, true)
	s.presses = append(s.presses, e)
	return true
}

func (s *schedule) setPressed(e *entry, yes bool) {
	s.count(e, -1)
	e.pressed = yes
	s.count(e, 1)
}

// settle ends the doubts that are over, works the limits out again if anything has
// changed, and hurries those in doubt anew by what these now allow.
func (s *schedule) settle(now time.Time) (changed bool) {
	kept := s.doubted[:0]
	for _, g := range s.doubted {
		if now.Before(g.until) && len(g.members) > 0 {
			kept = append(kept, g)
			continue
		}
		s.limits.count(g, &g.rates, -1)
		g.inDoubt = false
		s.limits.count(g, &g.rates, 1)
	}
	clear(s.doubted[len(kept):])
	s.doubted = kept
	pressed := s.presses[:0]
	for _, e := range s.presses {
		switch {
		case e.gone:
		case now.Before(e.until):
			pressed = append(pressed, e)
		default:
			s.setPressed(e, false)
			e.again = false
		}
	}
	clear(s.presses[len(pressed):])
	s.presses = pressed
	changed = s.limits.settle()
	for _, g := range s.hurried {
		s.hurry(g, now)
	}
	clear(s.hurried)
	s.hurried = s.hurried[:0]
	return changed
}

// hurry brings a group's next probes forward.
func (s *schedule) hurry(g *group, now time.Time) {
	deep := 0
	for _, e := range g.members {
		due := now.Add(rand.N(s.interval(e)))
		switch {
		case e.held:
			s.release(e, now)
			continue
		case e.Fast && s.limits.fast.doubtful == 1:
			due = now
		case !e.Fast:
			if deep++; deep <= atOneBlow {
				due = now
			}
		}
		if due.Before(e.due) {
			s.move(e, due)
		}
	}
}
