package director

import (
	"maps"
	"slices"
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
	returns map[health.Subject]steer.Return   // given to decisions: never changed
	earlier map[health.Subject][]steer.Return // likewise: after which they have fallen
	next    time.Time                         // when some return takes a step; zero = never
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
	returns, earlier := make(map[health.Subject]steer.Return, len(r.returns)), make(map[health.Subject][]steer.Return, len(r.earlier))
	r.next = time.Time{}
	wait := func(step time.Time) {
		if r.next.IsZero() || step.Before(r.next) {
			r.next = step
		}
	}
	take := func(s health.Subject) {
		chain := book.Chain(s)
		if back, step, ok := steer.ReturnOf(r.steps, chain, now); ok {
			returns[s] = back
			wait(step)
		}
		if list, step := steer.ReturnsBefore(r.steps, chain, now); len(list) > 0 {
			earlier[s] = list
			wait(step)
		}
	}
	if all {
		for s, st := range book.Standing() {
			if st != health.Unknown {
				take(s)
			}
		}
	} else {
		for s := range r.returns {
			take(s)
		}
		for s := range r.earlier {
			take(s)
		}
		for i := range f.changes {
			take(f.changes[i].Subject)
		}
	}
	if soon := now.Add(rampPause); !r.next.IsZero() && r.next.Before(soon) {
		r.next = soon
	}
	if !maps.Equal(r.returns, returns) {
		r.returns = returns
	}
	if !maps.EqualFunc(r.earlier, earlier, slices.Equal) {
		r.earlier = earlier
	}
}
