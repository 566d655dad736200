package probe

import "time"

const (
	notch   = 5 * time.Millisecond
	notches = 4096 // 20 s; what is due later goes round again
)

// wheel holds entries by when they are due, so that putting one in and taking it out
// costs the same however many there are. A heap of 30,000 costs more than the probes'
// own bookkeeping: each comparison fetches two of them from memory.
//
// The zero value is empty. Of a wheel's entry, slot and index say where it is.
type wheel struct {
	begin time.Time // of notch 0
	at    int64     // no entry is due before this notch
	slots [notches][]*entry
	count int
}

// number is the notch that a time lies in.
func (w *wheel) number(t time.Time) int64 {
	if w.begin.IsZero() {
		w.begin = t.Add(-24 * time.Hour) // the first put in need not be the first due
	}
	return int64(t.Sub(w.begin)) / int64(notch)
}

// push puts an entry in by its due time.
func (w *wheel) push(e *entry) {
	n := max(w.number(e.due), 0)
	if w.count == 0 || n < w.at {
		w.at = n
	}
	slot := &w.slots[n%notches]
	e.slot, e.index = int(n%notches), len(*slot)
	*slot = append(*slot, e)
	w.count++
}

// remove takes an entry out.
func (w *wheel) remove(e *entry) {
	slot := w.slots[e.slot]
	last := len(slot) - 1
	slot[e.index] = slot[last]
	slot[e.index].index = e.index
	slot[last] = nil
	w.slots[e.slot] = slot[:last]
	e.index = -1
	w.count--
}

// first gives an entry that is due, or within its slack of it; nil: none is.
func (w *wheel) first(now time.Time, slack func(*entry) time.Duration) *entry {
	if w.count == 0 {
		return nil
	}
	current := w.number(now)
	last := w.number(now.Add(maxSlack))
	// Longer ago than one turn: each slot need be looked at only once.
	w.at = max(w.at, last-notches+1)
	empty := true
	for n := w.at; n <= last; n++ {
		for _, e := range w.slots[n%notches] {
			early := e.due.Sub(now)
			if early > maxSlack {
				continue // in another turn
			}
			if early <= 0 || early <= slack(e) {
				return e
			}
			empty = false
		}
		if empty && n < current {
			w.at = n + 1
		}
	}
	return nil
}

// wait says how long no entry is due, at most one turn.
func (w *wheel) wait(now time.Time) time.Duration {
	if w.count == 0 {
		return time.Hour
	}
	for n := w.at; n < w.at+notches; n++ {
		least := time.Duration(-1)
		for _, e := range w.slots[n%notches] {
			if early := e.due.Sub(now); w.number(e.due) <= n && (least < 0 || early < least) {
				least = max(early, 0)
			}
		}
		if least >= 0 {
			return least
		}
	}
	return notches / 2 * notch
}

// overdue calls for each entry that is due. It may not change the wheel.
func (w *wheel) overdue(now time.Time) (out []*entry) {
	last := w.number(now)
	for n := max(w.at, last-notches+1); n <= last; n++ {
		for _, e := range w.slots[n%notches] {
			if e.due.Before(now) {
				out = append(out, e)
			}
		}
	}
	return out
}
