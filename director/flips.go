package director

import "github.com/divertdns/divert/health"

// flips is what has changed since the last decision.
type flips struct {
	changes []health.Change
	all     bool // anything may have
}

func (f *flips) take(b *health.Book) {
	changed := b.Changes()
	f.all = f.all || changed == nil
	if f.changes == nil {
		f.changes = changed
	} else {
		f.changes = append(f.changes, changed...)
	}
}

// given is what a decider wants to know of it, once.
func (f *flips) given() []health.Change {
	out := f.changes
	if f.all {
		out = nil
	} else if out == nil {
		out = []health.Change{}
	}
	*f = flips{}
	return out
}
