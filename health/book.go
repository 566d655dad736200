package health

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// The bounds of what a book holds and for how long it counts.
const (
	fresh = time.Second // a vote, a heartbeat and a heard message count for so long

	maxVotesHeld = 8192           // of one author, subjects unknown here included
	maxRetired   = 4096           // chains of subjects no longer in the spec
	retiredLife  = 24 * time.Hour // so that old proofs find n where it was

	differGrace = 250 * time.Millisecond // a digest differs for so long before summaries are sent
	differWait  = 500 * time.Millisecond // between summaries to one peer, doubling …
	differMost  = 8 * time.Second        // … up to this while neither side moves

	// settling is how long a director that begins waits to hear by what its peers stand
	// before their ballots count in the proofs of others. Heartbeats tell within some
	// hundred milliseconds, votes within a second.
	settling = 3 * time.Second

	// waking is how long a director that slept makes no transition: until what had
	// waited for it is taken in, and older than a vote that counts.
	waking = 2 * fresh
)

// What a message is refused for.
var (
	ErrForeign = errors.New("author is not in the roster")
	ErrStale   = errors.New("message is older than what is known of its author")
	// ErrOvertaken is an ErrStale: within a moment a later word of the same author came
	// first, which says all that this one does and more. Nothing is lost by it.
	ErrOvertaken = fmt.Errorf("%w: a later one came first", ErrStale)
)

// Book is what one director knows of everybody's votes, and the transitions in
// force that follow. The director's loop owns it; it is not for concurrent use.
type Book struct {
	self       string
	roster     []Director
	observers  int
	quorum     Quorum
	shares     []int // by fault domain, of the crowd that is being counted
	assignment *Assignment
	authors    []*author // by name
	byName     map[string]*author
	topics     map[Subject]*topic
	pending    map[*topic]struct{} // someone votes for their next transition, leans to it, or votes on a later one
	contested  map[*topic]struct{} // someone votes as if the one in force were not
	ahead      map[*topic]struct{} // someone reports a later one in force
	digest     uint64              // of the transitions in force of known subjects
	moved      []Subject           // transitions since the observer last looked
	states     map[Subject]State   // nil: to be rebuilt
	given      bool                // States handed it out
	began      time.Time           // see Begins
	slept      time.Time           // see Slept
	changed    []Change            // see Changes
	abstaining bool
	acked      int             // index of the author that the next heartbeat acknowledges first
	boots      map[string]mark // of directors that are not in the roster, or not yet
}

// author is one director of the roster, as its messages tell.
type author struct {
	Director
	index  int
	site   int // its fault domain, an index of Book.shares
	boot   uint64
	seq    uint64 // highest seen
	at     time.Time
	floor  mark   // messages below are more than a second late
	marks  []mark // when which sequence was the highest, a few a second
	held   int
	digest uint64 // of the votes held

	beat    Heartbeat
	beatAt  time.Time
	renewed time.Time // its heartbeat last matched what is held

	differs  time.Time // its certificates digest differs since
	asked    time.Time // a summary last went to it
	wait     time.Duration
	askedFor [2]uint64

	summed  bool   // a summary of this boot came
	summary uint64 // digest of the last
}

// mark is a point in one author's numbering of its messages.
type mark struct {
	boot uint64
	seq  uint64
	at   time.Time
}

// topic is what is known of one subject.
type topic struct {
	subject  Subject
	hash     uint64
	known    bool      // in the spec
	retired  time.Time // not known since
	chain    Chain
	cert     Certificate // in force; no proof if adopted by report
	votes    []held      // by author
	reported []uint64    // by author: the transition it last reported in force
	disputed time.Time   // a quorum votes against the transition in force since then
	settled  time.Time   // a fall was last taken back here, see tied
	own      said        // what this director thinks
	held     bool        // down by the wait for the return alone
	why      string
	thought  bool
}

// held is one author's latest word on one subject. Withdrawn votes are kept
// too, as Unknown, so that an old message cannot bring them back.
type held struct {
	n         uint64
	to        State
	suspicion uint16
	seq       uint64 // 0: nothing held
	at        time.Time
	raw       []byte // the signed ballot; only of votes that could serve in a proof
}

// said is a vote without its subject, which whoever holds it knows: there are many.
type said struct {
	N         uint64
	To        State
	Suspicion uint16
}

func (v Vote) said() said { return said{N: v.N, To: v.To, Suspicion: v.Suspicion} }

func (w said) of(s Subject) Vote {
	return Vote{Subject: s, N: w.N, To: w.To, Suspicion: w.Suspicion}
}

// vote gives what is held as it was said.
func (h *held) vote(s Subject) Vote {
	return Vote{Subject: s, N: h.n, To: h.to, Suspicion: h.suspicion}
}

// NewBook makes an empty book for one director. Observers is the spec's
// quorum.observers: it may raise the quorum, never lower it.
func NewBook(self string, roster []Director, observers int) *Book {
	b := &Book{self: self, byName: map[string]*author{}, topics: map[Subject]*topic{}, pending: map[*topic]struct{}{}, contested: map[*topic]struct{}{}, ahead: map[*topic]struct{}{}, boots: map[string]mark{}}
	b.SetRoster(roster, observers)
	return b
}

// Begins says that this director begins to listen now. It cannot know what was taken
// back while it was away: who keeps the ballots of others from moments at which each
// of them suspected something could make a proof of them.
func (b *Book) Begins(now time.Time) { b.began = now }

// Slept says that this director did nothing for so long, until now. What was sent to it
// meanwhile has waited, and comes in now as if it were new: votes that were withdrawn
// since, or whose author is gone. Longer than a vote is fresh, that makes votes of
// different times stand side by side (S7, F11).
func (b *Book) Slept(long time.Duration, now time.Time) {
	if long > fresh {
		b.slept = now
	}
}

// awake is when this director, if it has slept, counts again: until then it makes no
// transition, and must vote for none. Whose vote others count while it does not count
// itself may sleep again, and its vote be void, before it has what they have (L2).
func (b *Book) awake() time.Time {
	if b.slept.IsZero() {
		return time.Time{}
	}
	return b.slept.Add(waking)
}

// SetRoster gives the plan's roster. What is held of a director that stays is
// kept, what another said is forgotten; transitions in force stay in force.
func (b *Book) SetRoster(roster []Director, observers int) {
	roster = slices.Clone(roster)
	slices.SortFunc(roster, func(x, y Director) int { return cmp.Compare(x.Name, y.Name) })
	roster = slices.CompactFunc(roster, func(x, y Director) bool { return x.Name == y.Name })
	if b.byName != nil && observers == b.observers && slices.Equal(roster, b.roster) {
		return
	}
	old := b.byName
	b.roster, b.observers, b.quorum = roster, observers, QuorumOf(roster, observers)
	b.assignment = NewAssignment(roster)
	b.authors, b.byName = make([]*author, len(roster)), make(map[string]*author, len(roster))
	from := make([]int, len(roster)) // new index -> old index
	for i, d := range roster {
		a := old[d.Name]
		from[i] = -1
		if a == nil {
			m := b.boots[d.Name]
			a = &author{boot: m.boot, seq: m.seq, floor: mark{seq: m.seq}}
		} else {
			from[i] = a.index
			delete(old, d.Name)
		}
		a.Director, a.index = d, i
		b.authors[i], b.byName[d.Name] = a, a
	}
	b.place()
	for name, a := range old {
		b.boots[name] = mark{boot: a.boot, seq: a.seq} // a replay must not begin where a removed name comes back
	}
	for _, t := range b.topics {
		votes, reported := make([]held, len(roster)), make([]uint64, len(roster))
		for i, was := range from {
			if was >= 0 {
				votes[i], reported[i] = t.votes[was], t.reported[was]
			}
		}
		t.votes, t.reported = votes, reported
		b.consider(t)
		b.sweep(t)
	}
}

// SetSubjects gives all subjects of the spec. The chain of one that is gone is
// kept for a day, out of every digest, and goes on if it comes back.
func (b *Book) SetSubjects(subjects []Subject, now time.Time) {
	want := make(map[Subject]struct{}, len(subjects))
	for _, s := range subjects {
		if s.Valid() {
			want[s] = struct{}{}
		}
	}
	for s, t := range b.topics {
		if _, ok := want[s]; !ok && t.known {
			t.known, t.retired = false, now
			b.forgetStates()
			b.digest ^= transitionHash(t.hash, t.chain.N)
			b.consider(t)
		}
	}
	for s := range want {
		t := b.topics[s]
		if t == nil {
			t = b.open(s)
		}
		if !t.known {
			t.known = true
			b.forgetStates()
			b.digest ^= transitionHash(t.hash, t.chain.N)
			b.moved = append(b.moved, s)
			b.consider(t)
		}
	}
	b.collect(now)
}

func (b *Book) open(s Subject) *topic {
	t := &topic{subject: s, hash: subjectHash(s), chain: Chain{Subject: s}, votes: make([]held, len(b.authors)), reported: make([]uint64, len(b.authors))}
	b.topics[s] = t
	return t
}

// collect forgets what is retired for long, or too much of it, the oldest
// first.
func (b *Book) collect(now time.Time) {
	var retired []*topic
	for _, t := range b.topics {
		switch {
		case t.known:
		case t.chain.N == 0 || now.Sub(t.retired) >= retiredLife:
			b.drop(t)
		default:
			retired = append(retired, t)
		}
	}
	if len(retired) <= maxRetired {
		return
	}
	slices.SortFunc(retired, func(x, y *topic) int {
		return cmp.Or(x.retired.Compare(y.retired), x.subject.Compare(y.subject))
	})
	for _, t := range retired[:len(retired)-maxRetired] {
		b.drop(t)
	}
}

// drop forgets a chain; the votes on it stay while their author holds them, so
// that digests can agree.
func (b *Book) drop(t *topic) {
	t.chain, t.cert, t.own, t.why, t.thought = Chain{Subject: t.subject}, Certificate{}, said{}, "", false
	t.held, t.settled = false, time.Time{}
	clear(t.reported)
	for _, h := range t.votes {
		if h.to != Unknown {
			return
		}
	}
	for i, h := range t.votes {
		if h.seq > 0 {
			b.authors[i].held--
		}
	}
	b.remove(t)
}

// sweep deletes a topic that exists for nothing any more.
func (b *Book) sweep(t *topic) {
	if t.known || t.chain.N > 0 || slices.ContainsFunc(t.votes, func(h held) bool { return h.seq > 0 }) {
		return
	}
	b.remove(t)
}

func (b *Book) remove(t *topic) {
	delete(b.topics, t.subject)
	delete(b.pending, t)
	delete(b.contested, t)
	delete(b.ahead, t)
}

// consider decides whether the topic needs judging: does anyone vote for the
// transition that comes next, or lean to it, or vote on a later one, or on the one in force or one
// before it, which says that it is not in force there? Does anyone report a
// later one in force?
func (b *Book) consider(t *topic) {
	next, against, ahead := false, false, false
	for i := range t.votes {
		h := &t.votes[i]
		next = next || h.n > t.chain.N+1 || h.n == t.chain.N+1 && (h.to == After(h.n) || h.vote(t.subject).Leans())
		against = against || h.n <= t.chain.N && h.to != Unknown
		ahead = ahead || t.reported[i] > t.chain.N
	}
	if next && t.known {
		b.pending[t] = struct{}{}
	} else {
		delete(b.pending, t)
	}
	if against && t.known {
		b.contested[t] = struct{}{}
	} else {
		t.disputed = time.Time{}
		delete(b.contested, t)
	}
	if ahead && t.known {
		b.ahead[t] = struct{}{}
	} else {
		delete(b.ahead, t)
	}
}

// advance puts a transition in force.
func (b *Book) advance(t *topic, c Certificate, now time.Time) {
	b.digest ^= transitionHash(t.hash, t.chain.N) ^ transitionHash(t.hash, c.N)
	t.chain, t.cert, t.disputed = t.chain.next(c.N, now), c, time.Time{}
	b.note(t)
	b.moved = append(b.moved, t.subject)
	b.consider(t)
}

// takeBack undoes the transitions after n, which the fleet never had.
func (b *Book) takeBack(t *topic, n uint64) {
	was := t.chain.N
	for t.chain.N > n {
		t.chain = t.chain.back()
	}
	t.disputed = time.Time{}
	b.note(t)
	t.cert = Certificate{Subject: t.subject, N: t.chain.N}
	b.digest ^= transitionHash(t.hash, was) ^ transitionHash(t.hash, t.chain.N)
	b.moved = append(b.moved, t.subject)
	b.consider(t)
}

// think notes this director's own opinion: a ballot of its own that says
// otherwise no longer counts here. Held: the subject passes, and only the wait for
// its return keeps the vote down.
func (b *Book) think(v Vote, why string, held bool) {
	if t := b.topics[v.Subject]; t != nil {
		t.own, t.why, t.thought, t.held = v.said(), why, true, held
	}
}

// takeMoved hands the subjects with new transitions to the observer, once.
func (b *Book) takeMoved() []Subject {
	out := b.moved
	b.moved = b.moved[:0]
	return out
}
