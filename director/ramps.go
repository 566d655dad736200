package director

import (
	"maps"
	"time"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// rampPause is the least time between two tables for no more than steps of returns: sites
// that return one after the other take their steps together.
const rampPause = 250 * time.Millisecond

// ramps follows the subjects that have come back, for as long as that counts. All that it
// holds can be worked out anew from the book; it has one owner, the loop.
type ramps struct {
	spec    *spec.Set
	steps   []time.Duration
	returns map[health.Subject]steer.Return // given to decisions: never changed
	next    time.Time                       // when some return takes a step; zero = never
}

// due tells whether a step is to be taken.
func (r *ramps) due(now time.Time) bool { return !r.next.IsZero() && !now.Before(r.next) }

// look brings the returns up to date, of those that have changed and of those that are on
// their way, or of all.
func (r *ramps) look(set *spec.Set, book *health.Book, f *flips, now time.Time) {
	all := f.all
	if r.spec != set {
		r.spec, r.steps, all = set, steer.Steps(set), true
	}
	if !all && len(f.changes) == 0 && !r.due(now) {
		return
	}
	old := r.returns
	next := make(map[health.Subject]steer.Return, len(old))
	r.next = time.Time{}
	take := func(s health.Subject) {
		back, step, ok := r.of(book.Chain(s), now)
		if !ok {
			return
		}
		next[s] = back
		if r.next.IsZero() || step.Before(r.next) {
			r.next = step
		}
	}
	if all {
		for s, st := range book.Standing() {
			if st == health.Up {
				take(s)
			}
		}
	} else {
		for s := range old {
			take(s)
		}
		for i := range f.changes {
			if f.changes[i].State == health.Up {
				take(f.changes[i].Subject)
			}
		}
	}
	if soon := now.Add(rampPause); !r.next.IsZero() && r.next.Before(soon) {
		r.next = soon
	}
	if !maps.Equal(old, next) {
		r.returns = next
	}
}

// of says how far a subject has come back, and when that changes; not ok: it counts no
// more, or never did. It has come back only if it was down here: a director that is told
// of an old transition for the first time has sent its clients there all along.
func (r *ramps) of(c health.Chain, now time.Time) (back steer.Return, next time.Time, ok bool) {
	if n := len(c.Past); c.State() != health.Up || n < 2 || health.After(c.Past[n-2].N) != health.Down {
		return steer.Return{}, time.Time{}, false
	}
	back.At = c.Since()
	age := now.Sub(back.At)
	for _, step := range r.steps {
		if age < step {
			return back, back.At.Add(step), true
		}
		back.Age = step
	}
	return steer.Return{}, time.Time{}, false
}
