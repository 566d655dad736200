package steer

import (
	"time"

	"github.com/divertdns/divert/health"
)

// ReturnOf says how far a subject has come back, by the Steps of a spec, and when that
// changes; not ok: it counts no more, or never did. It has come back only if it was down
// here: a director that is told of an old transition for the first time has sent its
// clients there all along.
func ReturnOf(steps []time.Duration, c health.Chain, now time.Time) (back Return, next time.Time, ok bool) {
	if c.State() != health.Up {
		return Return{}, time.Time{}, false
	}
	return stepOf(steps, c.Past, len(c.Past)-1, now)
}

// ReturnsBefore lists the returns of a subject that would count still, had it not fallen
// after them, oldest first, and says when that changes.
func ReturnsBefore(steps []time.Duration, c health.Chain, now time.Time) (list []Return, next time.Time) {
	past := len(c.Past)
	if c.State() == health.Up {
		past--
	}
	for i := range past {
		back, step, ok := stepOf(steps, c.Past, i, now)
		if !ok {
			continue
		}
		if list = append(list, back); next.IsZero() || step.Before(next) {
			next = step
		}
	}
	return list, next
}

// stepOf says how far the return is that is the i-th transition of a subject.
func stepOf(steps []time.Duration, past []health.Moment, i int, now time.Time) (back Return, next time.Time, ok bool) {
	if i < 1 || health.After(past[i].N) != health.Up || health.After(past[i-1].N) != health.Down {
		return Return{}, time.Time{}, false
	}
	back.At = past[i].Since
	age := now.Sub(back.At)
	for _, step := range steps {
		if age < step {
			return back, back.At.Add(step), true
		}
		back.Age = step
	}
	return Return{}, time.Time{}, false
}
