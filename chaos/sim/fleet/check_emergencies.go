package fleet

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// saying is an operator's word, as it was said.
type saying struct {
	word     *plan.Word
	at       time.Duration
	by       string
	repeated time.Duration // when a rogue director last said it as if it were new
}

func (l *ledger) said(p *director, w *plan.Word) {
	l.words = append(l.words, saying{word: w, at: p.w.now, by: p.name})
}

// spoken finds a word that an operator said.
func (l *ledger) spoken(id string) *saying {
	for i := range l.words {
		if l.words[i].word.GetId() == id {
			return &l.words[i]
		}
	}
	return nil
}

// checkEmergencies holds what a director goes by against what operators have said (S7), how
// long that lasts (S18), what was ended, and what no drain of an emergency may take (S1).
func (w *world) checkEmergencies(p *director) {
	u := &p.words
	ids := map[string]bool{}
	// What is gone by was judged by the looks up to half a second ago, and the next may just
	// be due.
	const slack = 3 * urgentTick
	for _, j := range u.judged {
		if j.Word.GetEnds() != "" || j.State != core.EmergencyInForce {
			continue
		}
		id := j.Word.GetId()
		s := w.ledger.spoken(id)
		switch {
		case s == nil || s.word.Sum != j.Word.Sum:
			w.wrong("S7", "%s goes by emergency %s, which no operator said", p.name, id)
			return
		case ids[id]:
			w.wrong("S7", "%s goes by emergency %s twice", p.name, id)
		}
		ids[id] = true
		if why := p.force.sealed.Plan.Heeds(j.Word); why != nil && p.words.by.plan == p.ids.Force {
			w.wrong("S7", "%s goes by emergency %s: %v", p.name, id, why)
		}
		if over := w.now - w.aliveFor(p, s) - j.Word.GetLasts().AsDuration(); over > slack && p.paused <= w.now-slack && !u.by.plan.IsZero() {
			w.wrong("S18", "%s goes by emergency %s, %s after it was over", p.name, id, over)
		}
		if p.endHeld(id) && p.words.by.version == p.words.version {
			w.wrong("S18", "%s goes by emergency %s, and holds the word that ended it", p.name, id)
		}
		if at, known := w.ledger.over[p.name+" "+id]; known && p.disk.hurtn < at && w.ledger.swaps == 0 {
			w.wrong("S18", "%s goes by emergency %s again, which was over there at %s", p.name, id, at)
		}
		if at, settled := w.ledger.settled[id]; settled && w.ledger.swaps == 0 && !drainedBy(p.force.sealed.Plan, id) && has(p.live, at) && p.ids.Force == u.by.plan {
			w.wrong("S18", "%s goes by emergency %s, which plan %s, that it has, has settled", p.name, id, order(at))
		}
		w.checkFloor(p, j)
	}
	for _, j := range u.judged {
		if j.State == core.EmergencyUndrained && !u.unsaved {
			w.ledger.over[p.name+" "+j.Word.GetId()] = w.now
		}
	}
}

// aliveFor is when a word can have begun to count at the latest, on a director that goes by
// it: it lasts an hour on each one's own clock, but what the others say of its age shortens
// that to when it was said. Who was off begins where it was: that adds what it was off. And
// who hears it of a rogue director, and of nobody else who knows, can only believe that one
// (DESIGN of core: a fleet of two).
func (w *world) aliveFor(p *director, s *saying) time.Duration {
	at := s.at
	if s.repeated > 0 && (w.partedLately() || !slices.ContainsFunc(w.directors, func(o *director) bool {
		return o != p && o.up && w.now-o.since > spreads && o.words.held.Age(s.word.Sum, w.time()) >= w.now-s.at
	})) {
		at = s.repeated
	}
	for _, span := range w.ledger.off {
		at += span // of anybody: who brings it may have been off
	}
	if slices.ContainsFunc(w.faults, func(f *fault) bool { return f.What == "slow" && f.At <= w.now && f.until > s.at }) {
		at += slowest * time.Duration(len(w.directors)-1) // it ages at who has it, and nobody knows how long it was under way (F14)
	}
	return at
}

// drainedBy tells whether a plan has a drain of a word itself: then it adds nothing.
func drainedBy(p *plan.Plan, id string) bool {
	return slices.ContainsFunc(p.GetOverrides(), func(o *plan.Override) bool { return o.GetId() == id })
}

func (p *director) endHeld(id string) bool {
	return slices.ContainsFunc(p.words.held.Told(p.w.time()), func(t core.Told) bool { return t.Word.GetEnds() == id })
}

// checkFloor: no emergency takes a last healthy site, which is worked out anew: of each
// service that it covers some site serves that is neither drained nor failed, if some did
// before.
func (w *world) checkFloor(p *director, j core.Emergency) {
	if p.words.by.decide != p.decided || p.words.by.plan != p.ids.Force || p.dirty {
		return // it is to be judged anew
	}
	scope, err := steer.ParseScope(j.Word.GetScope())
	if err != nil {
		return
	}
	states := p.book.States()
	with := p.overlaid(p.force)
	for _, svc := range p.force.set.Services {
		took, left := false, 0
		for _, e := range svc.Endpoints {
			c := p.force.set.Cluster(e.Cluster)
			if slices.ContainsFunc(e.Addresses, func(a netip.Addr) bool {
				return slices.ContainsFunc(steer.Subjects(svc, a), func(s steer.SubjectOf) bool { return states[s.Subject] == health.Down })
			}) {
				continue // failed
			}
			switch {
			case !drained(with, svc.Name, c):
				left++
			case scope.Covers(svc.Name, c) && !drained(p.force.sealed.Plan, svc.Name, c):
				took = true
			}
		}
		if took && left == 0 {
			w.wrong("S1", "%s goes by emergency %s of %s, which takes the last healthy site of %s", p.name, j.Word.GetId(), j.Word.GetScope(), svc.Name)
		}
	}
}

// checkSettled notes what a write of the store settles, and holds it against what was said:
// what becomes an ordinary drain an operator said, and had not ended by a word that the
// writer held.
func (w *world) checkSettled(prev, next *plan.Sealed, c *commit) {
	if c.cmd.Verb != core.Settle {
		return
	}
	word := c.cmd.Settling.Word
	s := w.ledger.spoken(word.GetId())
	if s == nil || s.word.Sum != word.Sum {
		w.wrong("S7", "%s settles %s, which no operator said", c.cmd.ID, word.GetId())
		return
	}
	if _, again := w.ledger.settled[word.GetId()]; again && w.ledger.swaps == 0 {
		w.wrong("S15", "%s settles %s again", c.cmd.ID, word.GetId())
	}
	w.ledger.settled[word.GetId()] = next.Identity
	if drainedBy(next.Plan, word.GetId()) && !drainedBy(prev.Plan, word.GetId()) && c.p.endHeld(word.GetId()) && w.endAge(word.GetId()) > time.Minute {
		w.wrong("S18", "%s makes a drain of %s, which was ended", c.cmd.ID, word.GetId())
	}
}

func (w *world) endAge(id string) time.Duration {
	for _, s := range w.ledger.words {
		if s.word.GetEnds() == id {
			return w.now - s.at
		}
	}
	return 0
}

// stood notes how long a director stands still.
func (l *ledger) stood(p *director) {
	if p.stoodTo != p.paused {
		p.stoodTo = p.paused
		l.off = append(l.off, p.paused-p.w.now)
	}
}

// spreads is how long it takes at most, where nothing is lost, until all that hear each
// other again hold what one does: two seconds to the next summary, and four looks, for a drain
// that was ended is sent only once its end is there.
const spreads = 4 * time.Second

// checkSpread is L4 and L2 of words, also while the store is away: directors that hear each
// other hold the same, and make the same of it by the same plan and certificates. What is said
// while they do is on all within a second. Who has no plan yet answers nobody and knows no
// operator, so that it counts from its first plan on: L4 is of directors that can be reached.
func (w *world) checkSpread() {
	if w.partedLately() {
		return
	}
	var steady []*director
	for _, p := range w.directors {
		if p.up && p.force != nil && w.now-p.since > spreads && p.stoodTo < w.now-spreads && p.paused < w.now-spreads {
			steady = append(steady, p)
		}
	}
	for _, s := range w.ledger.words {
		if w.now-s.at < time.Second {
			continue
		}
		for _, p := range steady {
			if p.words.held.Word(s.word.Sum) == nil {
				continue
			}
			for _, o := range steady {
				if o == p || !counts(o, p) || !counts(p, o) || o.words.held.Word(s.word.Sum) != nil || o.force.sealed.Plan.Settles(s.word) || o.force.sealed.Plan.Heeds(s.word) != nil {
					continue
				}
				w.wrong("L4", "%s does not have %s, which %s has", o.name, s.word.GetId(), p.name)
			}
		}
	}
	for _, p := range steady {
		for _, o := range steady {
			if p != o && counts(o, p) && counts(p, o) && p.ids.Force == o.ids.Force && w.sameHealth(p, o) {
				w.checkJudged(p, o)
			}
		}
	}
}

// partedLately tells whether directors may not have heard each other.
func (w *world) partedLately() bool {
	return slices.ContainsFunc(w.faults, func(f *fault) bool {
		return slices.Contains([]string{"cut", "mute", "deaf", "lossy", "slow"}, f.What) && f.At <= w.now && f.until > w.now-spreads
	})
}

// counts tells whether one director is registered by what another answers from.
func counts(p, by *director) bool {
	return by.force.sealed.Plan.Director(p.name).GetStanding() == plan.Director_ACTIVE
}

func (w *world) sameHealth(a, b *director) bool {
	return maps.Equal(a.book.States(), b.book.States()) && a.words.by.decide == a.decided && b.words.by.decide == b.decided && !a.dirty && !b.dirty
}

// checkJudged is L2 of what two directors make of the same words: what is near its end may
// be over on one of them already.
func (w *world) checkJudged(a, b *director) {
	other := map[plan.Hash]core.Emergency{}
	for _, j := range b.words.judged {
		other[j.Word.Sum] = j
	}
	for _, j := range a.words.judged {
		o, ok := other[j.Word.Sum]
		if !ok {
			return // settled here, or new
		}
		if j.State == core.EmergencyOver || o.State == core.EmergencyOver {
			return
		}
		if j.State != o.State {
			w.wrong("L2", "%s is %s on %s and %s on %s (%s%s)", j.Word.GetId(), j.State, a.name, o.State, b.name, j.Why, o.Why)
		}
	}
}
