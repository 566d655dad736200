package health

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// States gives the state by certificate of every subject in the spec. The map
// is never changed once given; a new one is made after a transition.
func (b *Book) States() map[Subject]State {
	b.given = true
	return b.standing()
}

// Standing is States for who does not keep the map: it changes with the next
// transition, instead of being made anew.
func (b *Book) Standing() map[Subject]State { return b.standing() }

func (b *Book) standing() map[Subject]State {
	if b.states == nil {
		b.states = make(map[Subject]State, len(b.topics))
		for s, t := range b.topics {
			if t.known {
				b.states[s] = t.chain.State()
			}
		}
	}
	return b.states
}

// Change is what became of a subject.
type Change struct {
	Subject Subject
	State   State
}

// Changes lists what became of subjects since it was last asked, the latest last; nil:
// anything may have.
func (b *Book) Changes() []Change {
	out := b.changed
	b.changed = []Change{}
	return out
}

// note keeps up with a transition of a topic.
func (b *Book) note(t *topic) {
	if !t.known {
		return // it has no state, and forgetStates is called before it has
	}
	if b.changed != nil {
		b.changed = append(b.changed, Change{t.subject, t.chain.State()})
	}
	if b.states == nil {
		return
	}
	if b.given {
		b.states, b.given = maps.Clone(b.states), false
	}
	b.states[t.subject] = t.chain.State()
}

// forgetStates is note for what concerns all.
func (b *Book) forgetStates() { b.states, b.given, b.changed = nil, false, nil }

// Chain gives the transitions of a subject.
func (b *Book) Chain(s Subject) Chain {
	if t := b.topics[s]; t != nil {
		return t.chain
	}
	return Chain{Subject: s}
}

// InForce gives the transition in force of a subject. False: there is none.
func (b *Book) InForce(s Subject) (Transition, bool) {
	t := b.topics[s]
	if t == nil || t.chain.N == 0 {
		return Transition{}, false
	}
	return Transition{Certificate: t.cert, Since: t.chain.Since()}, true
}

// Digest covers the transitions in force of the subjects in the spec, for the
// heartbeat.
func (b *Book) Digest() uint64 { return b.digest }

// Quorum gives how many votes a transition needs.
func (b *Book) Quorum() Quorum { return b.quorum }

// Pending lists the subjects for whose next transition some director votes, or to
// which one leans: the ones to probe harder now.
func (b *Book) Pending() []Subject {
	if len(b.pending) == 0 {
		return nil
	}
	out := make([]Subject, 0, len(b.pending))
	for t := range b.pending {
		out = append(out, t.subject)
	}
	slices.SortFunc(out, Subject.Compare)
	return out
}

// Assigned names the directors that probe the subject.
func (b *Book) Assigned(s Subject) []string { return b.assignment.Observers(s.Addr) }

// Peer gives a director's latest heartbeat and when it arrived. False: none
// since its last boot or ours.
func (b *Book) Peer(name string) (Heartbeat, time.Time, bool) {
	a := b.byName[name]
	if a == nil || a.beatAt.IsZero() {
		return Heartbeat{}, time.Time{}, false
	}
	return a.beat, a.beatAt, true
}

// Opinion is one director's standing on one subject, for people.
type Opinion struct {
	Director string
	State    State  // its latest word; Unknown: withdrawn, or never given
	Leans    bool   // up, and suspects that it is not: no word that it is up
	Weight   int    // what it counts for the transition that comes next, in hundredths, at most the quorum's cap
	Counted  bool   // fresh, and on the transition that comes next
	Why      string // of this director alone
}

// Opinions lists what each director of the roster thinks of a subject, by name.
func (b *Book) Opinions(s Subject, now time.Time) []Opinion {
	t := b.topics[s]
	if t == nil {
		return nil
	}
	out := make([]Opinion, 0, len(b.authors))
	for _, a := range b.authors {
		h := &t.votes[a.index]
		v := h.vote(s)
		o := Opinion{Director: a.Name, State: h.to, Leans: v.Leans(), Weight: b.quorum.Weight(v)}
		o.Counted = h.to != Unknown && h.n == t.chain.N+1 && b.counts(a, t, h, now)
		if a.Name == b.self && t.thought {
			o.State, o.Leans, o.Why = t.own.To, t.own.of(t.subject).Leans(), t.why
		}
		out = append(out, o)
	}
	return out
}

// VotedUp tells whether a quorum now sees a subject up.
func (b *Book) VotedUp(s Subject, now time.Time) bool {
	up := 0
	for _, o := range b.Opinions(s, now) {
		if o.Counted && o.State == Up && !o.Leans {
			up++
		}
	}
	return up >= b.quorum.Votes
}

// Observed gives what fresh votes say of the subjects that are not down.
func (b *Book) Observed(now time.Time) map[Subject]State {
	out := map[Subject]State{}
	for s, state := range b.standing() {
		if state != Down && b.VotedUp(s, now) {
			out[s] = Up
		}
	}
	return out
}

// Size says how much a book holds, for metrics and for the tests of its bounds.
type Size struct {
	Subjects int // in the spec
	Retired  int // others: chains that are kept, and votes on unknown subjects
	Votes    int // held, of all directors
	Pending  int
}

// Size counts what the book holds.
func (b *Book) Size() Size {
	s := Size{Pending: len(b.pending)}
	for _, t := range b.topics {
		if t.known {
			s.Subjects++
		} else {
			s.Retired++
		}
	}
	for _, a := range b.authors {
		s.Votes += a.held
	}
	return s
}

// printable bounds what people are shown of what others sent: no control
// characters, valid UTF-8, at most so many octets.
func printable(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "")
}
