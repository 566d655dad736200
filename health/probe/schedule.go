package probe

import (
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/divertdns/divert/health"
)

// The rhythm. Constants and not settings: SEMANTICS section 1 fixes them.
const (
	jitter      = 0.2                    // of an interval, either way
	minInterval = 10 * time.Millisecond  // of anything
	maxSlack    = 20 * time.Millisecond  // how far ahead of its time a probe may share another's wake-up
	stallAfter  = 100 * time.Millisecond // see loop.stalled
	tick        = 25 * time.Millisecond  // longest sleep with a probe in flight
	atOnce      = 4                      // deep probes of one target out at once, in doubt
)

// schedule says what is due when. It does no I/O and has no clock. Only the
// loop touches it.
type schedule struct {
	entries map[health.Subject]*entry
	groups  map[netip.AddrPort]*group
	hosts   map[netip.Addr]*host
	fast    wheel
	deep    wheel
	limits  limits
	longest time.Duration // interval of any fast signal
	doubted []*group      // groups in doubt
	presses []*entry      // deep probes in doubt
	hurried []*group      // of them, those for which it has just begun
}

// entry is one target and where it is in its rhythm.
type entry struct {
	*Target  // one of those wanted, never changed
	req      *request
	group    *group
	due      time.Time
	slot     int  // in its wheel
	index    int  // in that slot, -1 while held or gone
	out      int  // probes of it that are out
	held     bool // due, and waiting for one that is out
	gone     bool
	failing  bool      // the last outcome that was not void
	failed   int       // times in a row
	tardy    bool      // reported as late since the last answer
	pressed  bool      // a deep probe, itself in doubt …
	until    time.Time // … until then
	again    bool      // start another beside the next
	patience patience
	pace     *pace
	seed     uint64 // where its turns begin in an interval, so that targets are spread
}

// group is the targets at one address and port: doubt about one of them makes all
// signals there go faster, and each deep probe go at once, once.
type group struct {
	members []*entry
	host    *host
	rates   rates
	until   time.Time // in doubt until then
	inDoubt bool
	signals int // fast ones among the members
	warm    standing

	answered bool      // a fast signal, at any time
	missed   int       // fast signals since the last that was answered
	since    time.Time // when the first of them was sent
}

func newSchedule() *schedule {
	return &schedule{
		entries: make(map[health.Subject]*entry),
		groups:  make(map[netip.AddrPort]*group),
		hosts:   make(map[netip.Addr]*host),
		limits:  newLimits(),
	}
}

// set makes the targets the wanted ones, all of them defaulted and not changed afterwards.
// Those that stay keep their place.
func (s *schedule) set(targets []Target, prepare func(Target) *request, now time.Time) (added []*entry, left []*group) {
	remove := func(e *entry) {
		s.remove(e)
		if e.group.signals == 0 { // nothing tells when to look at its warm connection
			left = append(left, e.group)
		}
	}
	wanted := make(map[health.Subject]*Target, len(targets))
	for i := range targets {
		t := &targets[i]
		if have, ok := wanted[t.Subject]; ok && have.Interval <= t.Interval {
			continue
		}
		wanted[t.Subject] = t
	}
	for subject, e := range s.entries {
		if _, ok := wanted[subject]; !ok {
			remove(e)
		}
	}
	for i := range targets { // in the order given, so that nothing hangs on a map's
		subject := targets[i].Subject
		t, ok := wanted[subject]
		if !ok {
			continue
		}
		delete(wanted, subject)
		e := s.entries[subject]
		if e != nil && e.equal(*t) {
			e.Target = t // the list before is no longer held
			continue
		}
		req := prepare(*t)
		if e == nil || e.req.addr != req.addr || e.Fast != t.Fast {
			if e != nil {
				remove(e)
			}
			added = append(added, s.add(t, req, now))
			continue
		}
		s.count(e, -1)
		e.Target, e.req = t, req
		s.count(e, 1)
		if first := now.Add(t.Interval); e.index >= 0 && e.due.After(first) {
			s.move(e, first)
		}
	}
	s.longest = 0
	for _, e := range s.entries {
		if e.Fast {
			s.longest = max(s.longest, e.Interval)
		}
	}
	return added, left
}

// add starts a target somewhere in its first interval, so that a director that
// starts, or gets a large spec, does not probe everything in one breath.
func (s *schedule) add(t *Target, req *request, now time.Time) *entry {
	g := s.groups[req.addr]
	if g == nil {
		h := s.hosts[req.addr.Addr()]
		if h == nil {
			h = &host{}
			s.hosts[req.addr.Addr()] = h
		}
		h.groups++
		g = &group{host: h, warm: noStanding()}
		s.groups[req.addr] = g
	}
	e := &entry{Target: t, req: req, group: g, due: now.Add(rand.N(t.Interval)), index: -1, pace: &pace{}, seed: seedOf(t.Subject)}
	g.members = append(g.members, e)
	s.entries[t.Subject] = e
	s.count(e, 1)
	s.wheel(e).push(e)
	return e
}

// seedOf is the same wherever a subject is probed, for its turns.
func seedOf(s health.Subject) uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, s.String())
	return h.Sum64()
}

func (s *schedule) remove(e *entry) {
	s.count(e, -1)
	e.gone = true
	if e.index >= 0 {
		s.wheel(e).remove(e)
	}
	delete(s.entries, e.Subject)
	g := e.group
	members := g.members[:0]
	for _, m := range g.members {
		if m != e {
			members = append(members, m)
		}
	}
	clear(g.members[len(members):])
	if g.members = members; len(members) > 0 {
		return
	}
	delete(s.groups, e.req.addr)
	if g.host.groups--; g.host.groups == 0 {
		delete(s.hosts, e.req.addr.Addr())
	}
}

// signal notes how a fast signal ended.
func (g *group) signal(ok bool, sent time.Time) {
	switch {
	case ok:
		g.missed, g.answered = 0, true
	case g.missed == 0:
		g.missed, g.since = 1, sent
	default:
		g.missed++
	}
}

// count adds what a target asks for to what all ask for, or takes it away.
func (s *schedule) count(e *entry, sign int) {
	if e.Fast {
		e.group.signals += sign
	}
	if e.req.refused != "" {
		return // nothing is sent
	}
	s.limits.count(e.group, &e.group.rates, -1)
	e.group.rates.add(e, int64(sign))
	s.limits.count(e.group, &e.group.rates, 1)
}

func (s *schedule) wheel(e *entry) *wheel {
	if e.Fast {
		return &s.fast
	}
	return &s.deep
}

func (s *schedule) move(e *entry, due time.Time) {
	w := s.wheel(e)
	w.remove(e)
	e.due = due
	w.push(e)
}

// interval is the mean time between two starts of a target, as things are.
func (s *schedule) interval(e *entry) time.Duration {
	if e.req.refused != "" {
		return max(e.Interval, time.Second) // nothing is sent; the reminder need not be frequent
	}
	return s.limits.interval(e, e.pressed || e.Fast && e.group.inDoubt)
}

// next takes a due target and gives it its next time, or gives nil. One that is due a
// little later goes along with those that are due now: on most machines waking up costs
// more than a probe.
func (s *schedule) next(now time.Time) *entry {
	if e := s.fast.first(now, s.slack); e != nil {
		s.advance(e, now)
		return e
	}
	for {
		e := s.deep.first(now, s.slack)
		switch {
		case e == nil:
			return nil
		case e.out >= e.room():
			s.deep.remove(e)
			e.held = true
			continue
		case !s.limits.start(now):
			return nil
		}
		s.advance(e, now)
		return e
	}
}

// slack is how much earlier than it should a target may start.
func (s *schedule) slack(e *entry) time.Duration { return min(maxSlack, s.interval(e)/5) }

// room is how many deep probes of a target may be out. SEMANTICS section 1 has never two;
// then a hang would be seen once a timeout, and F3 not within 2 s (see DESIGN.md).
func (e *entry) room() int {
	if e.pressed {
		return atOnce
	}
	return 1
}

// advance counts the next time from when a target should have started, so that sharing
// wake-ups does not make it more frequent; never from further back than it does start, so
// that one held up does not catch up in a volley.
func (s *schedule) advance(e *entry, now time.Time) {
	if e.due.Before(now) {
		e.due = now
	}
	if e.again {
		e.again = false
		return
	}
	s.move(e, s.following(e))
	e.pace.tell(s, e)
}

// following is the time of the start after the one that is due: an interval later, ± 20 %. A
// deep probe that takes turns with other directors' starts at its place in the interval, ± 10 %,
// by the wall clock: one that is wrong, or is set, moves the place and nothing else, and no
// start is more than 1.2 intervals after the one before. Where limits stretch the interval
// there are no turns: with each change of it the place would be another, and the next start
// sooner in the mean than the limits allow.
func (s *schedule) following(e *entry) time.Time {
	interval := s.interval(e)
	if e.Turns < 2 || e.Fast || e.pressed || interval != e.Interval {
		return e.due.Add(time.Duration(float64(interval) * (1 - jitter + 2*jitter*rand.Float64())))
	}
	at := e.due.Add(interval)
	place := int64(e.seed%uint64(interval)) + int64(interval)*int64(e.Turn)/int64(e.Turns)
	past := time.Duration((at.UnixNano() - place) % int64(interval)) // since the last such place
	if past >= time.Duration((1-jitter/2)*float64(interval)) {
		past -= interval // the next is nearer
	}
	return at.Add(time.Duration(jitter*float64(interval)*(rand.Float64()-0.5)) - past)
}

// ended lets a target that waited for one of its own go.
func (s *schedule) ended(e *entry, now time.Time) {
	e.out--
	s.release(e, now)
}

func (s *schedule) release(e *entry, now time.Time) {
	if !e.held || e.gone || e.out >= e.room() {
		return
	}
	e.held, e.due = false, now
	s.wheel(e).push(e)
}

// soon makes a target due at once, if it has room.
func (s *schedule) soon(e *entry, now time.Time) {
	switch {
	case e.gone:
	case e.held:
		s.release(e, now)
	case e.due.After(now):
		s.move(e, now)
	}
}

// spread gives all that became due while the loop did not run a time anew, so that no
// volley follows a stall.
func (s *schedule) spread(now time.Time) {
	for _, w := range []*wheel{&s.fast, &s.deep} {
		for _, e := range w.overdue(now) {
			s.move(e, now.Add(rand.N(s.interval(e))))
		}
	}
}

// wait says how long nothing is due.
func (s *schedule) wait(now time.Time) time.Duration {
	deep := s.deep.wait(now)
	if deep == 0 && s.limits.spent() {
		deep = maxSlack / 2
	}
	return min(s.fast.wait(now), deep)
}
