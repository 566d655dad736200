package probe

import (
	"container/heap"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/divertdns/divert/health"
)

// The rhythm. Constants and not settings: SEMANTICS section 1 fixes them.
const (
	fastLimit   = 500                    // fast signals a second, of one director
	jitter      = 0.2                    // of an interval, either way
	doubtFor    = 2 * time.Second        // a burst lasts so long after its last cause
	minInterval = 10 * time.Millisecond  // of anything
	maxSlack    = 20 * time.Millisecond  // how far ahead of its time a probe may share another's wake-up
	stallAfter  = 100 * time.Millisecond // see loop.stalled
	tick        = 25 * time.Millisecond  // longest sleep with a probe in flight
)

// schedule says what is due when. It does no I/O and has no clock. Only the
// loop touches it.
type schedule struct {
	entries map[health.Subject]*entry
	groups  map[netip.AddrPort]*group
	queue   queue    // entries not in flight, by time
	doubted []*group // groups in doubt
	stretch float64
	stale   bool // stretch must be computed again
}

// entry is one target and where it is in its rhythm.
type entry struct {
	Target
	req      *request
	group    *group
	due      time.Time
	index    int // in the queue, -1 while in flight or gone
	gone     bool
	void     bool // in flight during a stall
	again    bool // in flight, and wanted at once when back
	failing  bool // the last outcome that was not void
	started  time.Time
	patience patience
}

// group is the targets at one address and port: doubt about one of them is
// doubt about all.
type group struct {
	members []*entry
	until   time.Time // in doubt until then
	inDoubt bool
}

func newSchedule() *schedule {
	return &schedule{
		entries: make(map[health.Subject]*entry),
		groups:  make(map[netip.AddrPort]*group),
		stretch: 1,
	}
}

// set makes the targets the wanted ones. Those that stay keep their place.
func (s *schedule) set(targets []Target, prepare func(Target) *request, now time.Time) (added []*entry) {
	wanted := make(map[health.Subject]Target, len(targets))
	for _, t := range targets {
		t = t.defaulted()
		if have, ok := wanted[t.Subject]; ok && have.Interval <= t.Interval {
			continue
		}
		wanted[t.Subject] = t
	}
	for subject, e := range s.entries {
		if _, ok := wanted[subject]; !ok {
			s.remove(e)
		}
	}
	for _, t := range targets { // in the order given, so that nothing hangs on a map's
		subject := t.Subject
		t, ok := wanted[subject]
		if !ok {
			continue
		}
		delete(wanted, subject)
		e := s.entries[subject]
		if e != nil && e.equal(t) {
			continue
		}
		req := prepare(t)
		if e == nil || e.req.addr != req.addr {
			if e != nil {
				s.remove(e)
			}
			added = append(added, s.add(t, req, now))
			continue
		}
		e.Target, e.req = t, req
		if first := now.Add(t.Interval); e.index >= 0 && e.due.After(first) {
			s.move(e, first)
		}
	}
	s.stale = true
	return added
}

// add starts a target somewhere in its first interval, so that a director that
// starts, or gets a large spec, does not probe everything in one breath.
func (s *schedule) add(t Target, req *request, now time.Time) *entry {
	g := s.groups[req.addr]
	if g == nil {
		g = &group{}
		s.groups[req.addr] = g
	}
	e := &entry{Target: t, req: req, group: g, due: now.Add(rand.N(t.Interval)), index: -1}
	g.members = append(g.members, e)
	s.entries[t.Subject] = e
	heap.Push(&s.queue, e)
	return e
}

func (s *schedule) remove(e *entry) {
	e.gone = true
	if e.index >= 0 {
		heap.Remove(&s.queue, e.index)
	}
	delete(s.entries, e.Subject)
	members := e.group.members[:0]
	for _, m := range e.group.members {
		if m != e {
			members = append(members, m)
		}
	}
	clear(e.group.members[len(members):])
	if e.group.members = members; len(members) == 0 {
		delete(s.groups, e.req.addr)
	}
}

func (s *schedule) move(e *entry, due time.Time) {
	e.due = due
	heap.Fix(&s.queue, e.index)
}

// interval is the mean time between two starts of a target, as things are.
func (s *schedule) interval(e *entry) time.Duration {
	switch {
	case e.req.refused != "":
		return max(e.Interval, time.Second) // nothing is sent; the reminder need not be frequent
	case !e.Fast:
		return e.Interval
	}
	d := float64(e.Interval) * s.stretch
	if e.group.inDoubt {
		d /= 2
	}
	return time.Duration(d)
}

// next takes a due target out of the queue, or gives nil. One that is due a
// little later goes along with those that are due now: on most machines waking
// up costs more than a probe.
func (s *schedule) next(now time.Time) *entry {
	if len(s.queue) == 0 {
		return nil
	}
	e := s.queue[0]
	if e.due.Sub(now) > min(maxSlack, s.interval(e)/5) {
		return nil
	}
	heap.Pop(&s.queue)
	e.started, e.void, e.again = now, false, false
	return e
}

// back puts a target that has ended into the queue again. Times are counted
// from when it should have started, so that sharing wake-ups does not make it
// more frequent; never from further back than it did start, so that one held
// up does not catch up in a volley.
func (s *schedule) back(e *entry, now time.Time) {
	if e.gone || e.index >= 0 {
		return
	}
	if e.due.Before(e.started) {
		e.due = e.started
	}
	e.due = e.due.Add(time.Duration(float64(s.interval(e)) * (1 - jitter + 2*jitter*rand.Float64())))
	if e.again || e.due.Before(now) {
		e.due = now
	}
	heap.Push(&s.queue, e)
}

// judge takes an outcome that is not void and says whether it is the first
// failure after success, or ever.
func (e *entry) judge(ok bool) (first bool) {
	first = !ok && !e.failing
	e.failing = !ok
	return first
}

// doubt starts or prolongs a burst and says whether it started one.
func (s *schedule) doubt(g *group, now time.Time) (began bool) {
	g.until = now.Add(doubtFor)
	if g.inDoubt {
		return false
	}
	g.inDoubt = true
	s.doubted = append(s.doubted, g)
	s.stale = true
	for _, e := range g.members {
		if !e.Fast {
			s.soon(e, now)
		} else if e.index >= 0 {
			// Halve what is left of the wait, and thereby its mean.
			if left := e.due.Sub(now); left > 0 {
				s.move(e, now.Add(left/2))
			}
		}
	}
	return true
}

// soon makes a target due at once; in flight, once more when it is back.
func (s *schedule) soon(e *entry, now time.Time) {
	switch {
	case e.gone:
	case e.index < 0:
		e.again = true
	case e.due.After(now):
		s.move(e, now)
	}
}

// settle ends the bursts that are over, and computes the stretch again if
// anything has changed.
func (s *schedule) settle(now time.Time) (changed bool) {
	kept := s.doubted[:0]
	for _, g := range s.doubted {
		if now.Before(g.until) && len(g.members) > 0 {
			kept = append(kept, g)
			continue
		}
		g.inDoubt, s.stale = false, true
	}
	clear(s.doubted[len(kept):])
	s.doubted = kept
	if !s.stale {
		return false
	}
	s.stale = false
	demand := 0.0 // fast signals a second, unstretched
	for _, e := range s.entries {
		if !e.Fast || e.req.refused != "" {
			continue
		}
		rate := float64(time.Second) / float64(e.Interval)
		if e.group.inDoubt {
			rate *= 2
		}
		demand += rate
	}
	s.stretch = max(1, demand/fastLimit)
	return true
}

// longest gives the longest interval of any fast signal, 0 without any.
func (s *schedule) longest() time.Duration {
	longest := time.Duration(0)
	for _, e := range s.entries {
		if e.Fast {
			longest = max(longest, s.interval(e))
		}
	}
	return longest
}

// queue is a heap of entries by due time.
type queue []*entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push is heap.Interface's.
func (q *queue) Push(x any) {
	e, ok := x.(*entry)
	if !ok {
		panic("probe: not an entry")
	}
	e.index = len(*q)
	*q = append(*q, e)
}

// Pop is heap.Interface's.
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	e.index = -1
	return e
}
