package health

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// The constants that make an opinion.
const (
	fastPasses = 3 // in a row: a wait for the return begins
	deepPasses = 2
	softMisses = 2 // in a row: a soft subject is down; it has no suspicion

	// roundLimit ends the first round even if some subject has not been probed:
	// one target that cannot be must not hold up the fleet's others.
	roundLimit = 10 * time.Second

	// An opinion lives for staleBase and staleRounds intervals without a report,
	// those as long as they are under load, within bounds.
	staleBase   = 5 * time.Second
	staleRounds = 3
	longestGap  = 30 * time.Second
)

// Watched is one subject that this director probes.
type Watched struct {
	Subject  Subject
	Signal   Subject       // of a check: the fast signal of its address and port; zero if it has none
	Interval time.Duration // between its probes when nothing is wrong
	Via      string        // what it is reached through, with others; "" if nothing is known to be shared
	Group    string        // the cluster that it belongs to, of those behind Via
}

// Observer turns this director's own reports into its own opinions. The
// director's loop owns it; it is not for concurrent use.
type Observer struct {
	start    time.Time
	quorum   Quorum    // the book's, when last asked for votes
	roundEnd bool      // the first full round is over
	missing  int       // subjects of the first round without a report yet
	stall    time.Time // evidence that began before this is void
	awake    time.Time // no vote for a transition before this: see Book.awake
	entries  map[Subject]*entry
	order    []*entry // by subject
	defs     map[string]*definition
	paths    map[netip.AddrPort]*path
	vias     map[string]*dependency
	readmits map[Subject]time.Time
	dirty    []*entry
	gone     []Vote    // withdrawals of what is no longer watched
	next     time.Time // when some opinion may change without a report
}

// entry is what is known of one watched subject.
type entry struct {
	Watched
	defs []*definition // of a check its own, of a signal those of the checks that ride on it
	path *path
	via  *dependency // nil: nothing is known to be shared

	suspicion Suspicion // but of soft subjects
	seen      bool      // any report, void ones too
	probed    bool      // a report that says something
	passed    bool      // and one that passed, with no long silence since
	fallen    bool      // by certificate, when last voted on
	late      bool      // an answer is awaited for longer than usual
	failing   bool      // so much that what it is reached through may be the cause
	last      time.Time
	began     time.Time // start of the probe that last said something, or of the one that is late
	gap       time.Duration
	hits      int // in a row
	misses    int // sent since the last answered one
	firstMiss time.Time
	firstHit  time.Time
	healthy   time.Time // since when it passes; zero after a relapse
	reason    string    // of the last miss

	cast  said // as last given to the caller
	due   time.Time
	dirty bool
}

// definition is one probe as now defined: until it has passed somewhere, it is
// itself the suspect.
type definition struct {
	def     string
	passed  bool // its check, on any endpoint
	reached bool // its signal or its check, on any endpoint
	entries []*entry
}

// path is the deep evidence of one address and port.
type path struct {
	ok      time.Time // last success
	last    time.Time
	lastOK  bool
	signals []*entry
}

// NewObserver makes an observer that has seen nothing.
func NewObserver(now time.Time) *Observer {
	return &Observer{start: now, quorum: QuorumOf(nil, 0), entries: map[Subject]*entry{}, next: now.Add(roundLimit)}
}

// Set gives all subjects that this director probes. What is known of those
// that stay is kept; the votes on the others are withdrawn.
func (o *Observer) Set(subjects []Watched) {
	for _, e := range o.dirty {
		e.dirty = false
	}
	o.dirty = o.dirty[:0]
	old := o.entries
	o.entries = make(map[Subject]*entry, len(subjects))
	o.order = o.order[:0]
	for _, w := range subjects {
		if !w.Subject.Valid() || o.entries[w.Subject] != nil {
			continue
		}
		e := old[w.Subject]
		if e == nil {
			e = &entry{}
		}
		delete(old, w.Subject)
		e.Watched = w
		o.entries[w.Subject] = e
		o.order = append(o.order, e)
	}
	for s, e := range old {
		if e.cast.To != Unknown {
			o.gone = append(o.gone, Vote{Subject: s, N: e.cast.N})
		}
	}
	slices.SortFunc(o.gone, func(a, b Vote) int { return a.Subject.Compare(b.Subject) })
	slices.SortFunc(o.order, func(a, b *entry) int { return a.Subject.Compare(b.Subject) })
	o.relate()
	o.touchAll()
}

// relate rebuilds what joins subjects: definitions and paths.
func (o *Observer) relate() {
	oldDefs, oldPaths := o.defs, o.paths
	o.defs, o.paths = map[string]*definition{}, map[netip.AddrPort]*path{}
	o.missing = 0
	for _, e := range o.order {
		e.defs = e.defs[:0]
		if !e.seen && e.Subject.Kind != KindSoft { // what makes nothing fail, and is asked seldom, holds up nothing
			o.missing++
		}
		p := o.paths[e.Subject.Addr]
		if p == nil {
			if p = oldPaths[e.Subject.Addr]; p == nil {
				p = &path{}
			}
			p.signals = nil
			o.paths[e.Subject.Addr] = p
		}
		e.path = p
		if e.Subject.Kind == KindSignal {
			p.signals = append(p.signals, e)
		}
	}
	for _, e := range o.order {
		if e.Subject.Kind != KindCheck {
			continue
		}
		d := o.defs[e.Subject.Def]
		if d == nil {
			d = &definition{def: e.Subject.Def}
			if was := oldDefs[d.def]; was != nil {
				d.passed, d.reached = was.passed, was.reached
			}
			o.defs[d.def] = d
		}
		e.defs = append(e.defs, d)
		d.entries = append(d.entries, e)
		if s := o.entries[e.Signal]; s != nil && !slices.Contains(s.defs, d) {
			s.defs = append(s.defs, d)
			d.entries = append(d.entries, s)
		}
	}
	o.relateVias()
}

// Report takes in the outcome of one probe. Reports on what is not watched, and
// void ones, neither help nor hurt.
func (o *Observer) Report(r Report) {
	e := o.entries[r.Subject]
	if e == nil {
		return
	}
	if !e.seen && (r.OK || !r.Late) {
		e.seen = true
		if e.Subject.Kind != KindSoft {
			o.missing--
		}
		if o.missing == 0 && !o.roundEnd {
			o.endRound()
		}
	}
	began := r.At.Add(-r.Latency)
	if r.Void || (!r.OK && began.Before(o.stall)) {
		if e.late && !r.Late { // it will not be answered
			e.late = false
			o.touch(e)
		}
		return
	}
	if e.probed && !r.At.Before(e.stale()) { // what was before says nothing of now, and is in no row with it
		e.passed, e.hits, e.misses, e.healthy, e.late = false, 0, 0, time.Time{}, false
		e.suspicion.Forget()
	}
	if r.Late && !r.OK {
		o.awaits(e, began)
		return
	}
	if e.probed {
		e.gap = min(r.At.Sub(e.last), longestGap)
	}
	e.probed, e.last = true, r.At
	if r.OK {
		e.hit(r, began)
	} else if !e.miss(r, began) {
		return
	}
	e.began, e.late = began, false
	if o.relapsed(e) {
		e.healthy = time.Time{}
	}
	o.touch(e)
	if e.Subject.Kind == KindCheck {
		e.path.last, e.path.lastOK = r.At, r.OK
		if r.OK {
			e.path.ok = r.At
		}
		for _, s := range e.path.signals {
			if s.misses > 0 {
				o.touch(s)
			}
		}
	}
	if r.OK {
		o.passes(e)
	}
}

// awaits notes a probe whose answer is late.
func (o *Observer) awaits(e *entry, began time.Time) {
	if e.misses > 0 || e.suspicion.AnsweredSince(began) {
		return
	}
	e.late, e.began = true, began
	o.touch(e)
}

// hit takes in an answer.
func (e *entry) hit(r Report, began time.Time) {
	if e.fallen {
		e.suspicion.Forget() // what was missed was a death, and not the path
	}
	switch {
	case e.Subject.Kind == KindSoft:
	case r.Late:
		e.suspicion.AnsweredLate(began, r.At)
	default:
		e.suspicion.Answered(began, r.At)
	}
	if e.hits == 0 {
		e.firstHit = r.At
	}
	e.passed, e.hits, e.misses = true, e.hits+1, 0
	if e.healthy.IsZero() && e.hits >= e.limit() {
		e.healthy = e.firstHit
	}
}

// miss takes in a failure. False: what was sent since has been answered, so it
// says nothing of now.
func (e *entry) miss(r Report, began time.Time) bool {
	if e.Subject.Kind != KindSoft && !e.suspicion.Missed(began, r.At, r.Sign) {
		return false
	}
	if e.misses == 0 {
		e.firstMiss = r.At
	}
	e.misses, e.hits, e.reason = e.misses+1, 0, r.Reason
	return true
}

// passes clears the suspicion of the probes that e belongs to.
func (o *Observer) passes(e *entry) {
	for _, d := range e.defs {
		if d.reached && (d.passed || e.Subject.Kind == KindSignal) {
			continue
		}
		d.reached = true
		d.passed = d.passed || e.Subject.Kind == KindCheck
		for _, other := range d.entries {
			o.touch(other)
		}
	}
}

// Stalled says that this director itself stood still until now: evidence from
// probes that began earlier is void, and no subject is voted for a transition
// before a fresh probe of it. Votes for what is anyway in force stay.
func (o *Observer) Stalled(now time.Time) {
	if now.After(o.stall) {
		o.stall = now
		o.touchAll()
	}
}

// Readmits gives the subjects whose wait a person has ended, and since when on
// this director's clock.
func (o *Observer) Readmits(at map[Subject]time.Time) {
	for s, t := range at {
		if e := o.entries[s]; e != nil && !o.readmits[s].Equal(t) {
			o.touch(e)
		}
	}
	for s := range o.readmits {
		if e := o.entries[s]; e != nil {
			if _, still := at[s]; !still {
				o.touch(e)
			}
		}
	}
	o.readmits = maps.Clone(at)
}

func (o *Observer) touch(e *entry) {
	if !e.dirty {
		e.dirty = true
		o.dirty = append(o.dirty, e)
	}
}

func (o *Observer) touchAll() {
	for _, e := range o.order {
		o.touch(e)
	}
}

// Round reports whether the first full round is over: before, nothing may
// differ from the last good verdicts.
func (o *Observer) Round(now time.Time) bool {
	return o.roundEnd || now.Sub(o.start) >= roundLimit
}

func (o *Observer) endRound() {
	o.roundEnd = true
	o.touchAll()
}

// Votes gives the votes that differ from those given before, ordered by
// subject, and tells the book what this director now thinks and why. It looks
// only at subjects with a new report, a new transition or a wait that ends.
func (o *Observer) Votes(b *Book, now time.Time) []Vote {
	out := o.gone
	o.gone = nil
	for _, v := range out {
		b.think(v, "no longer probed", false)
	}
	if !o.roundEnd && o.Round(now) {
		o.endRound()
	}
	for _, s := range b.takeMoved() {
		if e := o.entries[s]; e != nil {
			o.touch(e)
		}
	}
	if !now.Before(o.next) {
		o.wake(now)
	}
	if q := b.Quorum(); q != o.quorum {
		o.quorum = q
		o.touchAll()
	}
	if at := b.awake(); at.After(o.awake) {
		o.awake = at
		o.touchAll()
	}
	if len(o.dirty) == 0 {
		return out
	}
	for i := 0; i < len(o.dirty); i++ { // it may grow
		e := o.dirty[i]
		chain := b.Chain(e.Subject)
		if chain.N > 0 {
			o.passes(e) // a quorum once agreed that it passed
		}
		fallen := chain.State() == Down
		if fallen && !e.fallen && e.misses == 0 {
			e.suspicion.Died(now) // an answer came before this director knew
		}
		e.fallen = fallen
		o.depend(e, now)
	}
	for _, e := range o.dirty {
		e.dirty = false
		chain := b.Chain(e.Subject)
		op := o.evaluate(e, chain, now)
		e.due = op.due
		if o.next.IsZero() || (!op.due.IsZero() && op.due.Before(o.next)) {
			o.next = op.due
		}
		vote := Vote{Subject: e.Subject, N: chain.N + 1, To: op.to, Suspicion: op.suspicion}
		b.think(vote, op.why, op.held)
		if vote.said() == e.cast || (op.to == Unknown && e.cast.To == Unknown) {
			continue
		}
		e.cast = vote.said()
		out = append(out, vote)
	}
	o.dirty = o.dirty[:0]
	slices.SortStableFunc(out, func(a, b Vote) int { return a.Subject.Compare(b.Subject) }) // a withdrawal before a new vote
	return out
}

// wake marks what is due and finds when the next is.
func (o *Observer) wake(now time.Time) {
	o.next = time.Time{}
	for _, e := range o.order {
		switch {
		case e.due.IsZero():
		case !now.Before(e.due):
			o.touch(e)
		case o.next.IsZero() || e.due.Before(o.next):
			o.next = e.due
		}
	}
	if !o.roundEnd && o.next.IsZero() {
		o.next = o.start.Add(roundLimit)
	}
}
