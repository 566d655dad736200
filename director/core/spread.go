package core

import (
	"maps"
	"slices"
	"time"

	"github.com/divertdns/divert/director/plan"
)

// How words spread: each is sent to whoever does not say that it holds it, until it does.
// A summary without it is an answer: whoever says that is there, and gets it at the next look
// (L4), though it was sent in vain while that director was away or had no plan to judge it by.
const (
	spreadEager = 8                      // times that a word is sent at each look, then …
	spreadCalm  = 5 * time.Second        // … so often
	spreadAgain = 500 * time.Millisecond // between two times that a summary asks for
	spreadBatch = 8                      // words for one director a look
	spreadStale = 10 * time.Second
)

// WordID names a word between directors: the first octets of its sum.
type WordID [16]byte

// IDOf names a word.
func IDOf(sum plan.Hash) WordID { return WordID(sum[:16]) }

// Holding is what a director says of one word that it holds.
type Holding struct {
	ID       WordID
	Age      time.Duration
	State    EmergencyState
	Answered bool // its table goes by that, and its disk has it
}

// Holdings is what a director says of all that it holds.
func (e *Emergencies) Holdings(judged []Emergency, answered bool, now time.Time) []Holding {
	states := map[plan.Hash]EmergencyState{}
	for _, j := range judged {
		states[j.Word.Sum] = j.State
	}
	out := make([]Holding, 0, e.Len())
	for _, t := range e.Told(now) {
		out = append(out, Holding{ID: IDOf(t.Word.Sum), Age: e.Age(t.Word.Sum, now), State: states[t.Word.Sum], Answered: answered})
	}
	return out
}

// Spread is what one director knows of the words that the others hold, and what it has sent
// them. It is one owner's; the zero value is ready.
type Spread struct {
	peers map[string]*hearer
}

// hearer is what another director says that it holds, and what it was sent.
type hearer struct {
	boot  uint64    // of its process
	said  time.Time // its last summary
	words map[WordID]heldThere
	sent  map[WordID]sending
}

type heldThere struct {
	Holding
	at time.Time
}

type sending struct {
	times int
	at    time.Time
}

func (s *Spread) peer(name string) *hearer {
	if s.peers == nil {
		s.peers = map[string]*hearer{}
	}
	p := s.peers[name]
	if p == nil {
		p = &hearer{words: map[WordID]heldThere{}, sent: map[WordID]sending{}}
		s.peers[name] = p
	}
	return p
}

// Note takes in which of the words that are held here another director has, too, and how
// old it says they are. Others than those are not remembered. What it said as another process
// is forgotten, since it may have left its disk behind.
func (s *Spread) Note(e *Emergencies, name string, boot uint64, list []Holding, now time.Time) {
	mine := map[WordID]plan.Hash{}
	for sum := range e.words {
		mine[IDOf(sum)] = sum
	}
	if p := s.peers[name]; p != nil && p.boot != 0 && p.boot != boot {
		delete(s.peers, name)
	}
	p := s.peer(name)
	p.boot, p.said = boot, now
	for _, h := range list {
		if sum, ok := mine[h.ID]; ok {
			p.words[h.ID] = heldThere{h, now}
			e.Claim(sum, name, h.Age, now)
		}
	}
}

// Of gives what a director said of a word; false: nothing, or not of late.
func (s *Spread) Of(name string, sum plan.Hash) (Holding, bool) {
	if p := s.peers[name]; p != nil {
		h, ok := p.words[IDOf(sum)]
		return h.Holding, ok
	}
	return Holding{}, false
}

// Keep forgets all directors but these, and tells whom.
func (s *Spread) Keep(others []string) (gone []string) {
	for _, name := range slices.Sorted(maps.Keys(s.peers)) {
		if !slices.Contains(others, name) {
			delete(s.peers, name)
			gone = append(gone, name)
		}
	}
	return gone
}

// Give lists the words that a director is to be sent now: those that it does not say it
// holds, of late; a drain that was ended only once it holds the end.
func (s *Spread) Give(e *Emergencies, name string, now time.Time) (out []*plan.Word) {
	p := s.peer(name)
	for id, h := range p.words {
		if now.Sub(h.at) > spreadStale {
			delete(p.words, id)
		}
	}
	sent := map[WordID]sending{}
	told := e.Told(now)
	ended := map[string]WordID{}
	for _, t := range told {
		if by := t.Word.GetEnds(); by != "" {
			ended[by] = IDOf(t.Word.Sum)
		}
	}
	for _, t := range told {
		id := IDOf(t.Word.Sum)
		if _, has := p.words[id]; has {
			continue
		}
		if end, is := ended[t.Word.GetId()]; is {
			if _, has := p.words[end]; !has {
				continue // or it would drain there until it hears of the end
			}
		}
		last := p.sent[id]
		pause := now.Sub(last.at)
		asked := p.said.After(last.at) && pause >= spreadAgain
		if len(out) < spreadBatch && (last.times < spreadEager || pause >= spreadCalm || asked) {
			out = append(out, t.Word)
			last = sending{last.times + 1, now}
		}
		sent[id] = last
	}
	p.sent = sent
	return out
}
