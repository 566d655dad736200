package core

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
)

// maxInForce is the most emergency drains that are gone by at once.
const maxInForce = 32

// EmergencyState is what becomes of an operator's word.
type EmergencyState uint8

// The states of words.
const (
	EmergencyUnknown   EmergencyState = iota
	EmergencyInForce                  // it drains
	EmergencySkipped                  // it would take too much, now
	EmergencyOver                     // its time is up here
	EmergencyUndrained                // another word has ended it
	EmergencyEnds                     // it ends another
)

func (s EmergencyState) String() string {
	switch s {
	case EmergencyInForce:
		return "in force"
	case EmergencySkipped:
		return "skipped"
	case EmergencyOver:
		return "over"
	case EmergencyUndrained:
		return "undrained"
	case EmergencyEnds:
		return "ends another"
	default:
		return "unknown"
	}
}

// Told is an operator's word with the time that it has yet on the clock of the director
// that decides.
type Told struct {
	Word *plan.Word
	Left time.Duration
}

// Emergency is what is to be made of an operator's word.
type Emergency struct {
	Word  *plan.Word
	State EmergencyState
	Why   string
	Left  time.Duration
	Until time.Time // of a drain, for people: on the wall clock of who decides
}

// Judge says what is to be made of the words that operators have said while the store is
// away, in their order: by counter, then ID. Each drain is held against what those before
// it leave: one that would take a last healthy site, bring a service below its minHealthy
// or break an interlock is skipped for as long as that is so. It is a function of the plan,
// the certificates and the words, and not of the order in which anybody heard them. Words
// that the plan settles, and those of operators that it does not list, are left out.
func Judge(s State, told []Told) []Emergency {
	if s.Plan == nil || s.Spec == nil {
		return nil
	}
	p := s.Plan.Plan
	told = slices.DeleteFunc(slices.Clone(told), func(t Told) bool { return p.Heeds(t.Word) != nil || p.Settles(t.Word) })
	slices.SortFunc(told, func(a, b Told) int { return plan.CompareWords(a.Word, b.Word) })
	ends := map[string]*plan.Word{}
	for _, t := range told {
		if id := t.Word.GetEnds(); id != "" && ends[id] == nil {
			ends[id] = t.Word
		}
	}
	out := make([]Emergency, 0, len(told))
	known, applied := map[string]bool{}, 0
	for _, t := range told {
		e := Emergency{Word: t.Word, Left: t.Left, Until: s.Now.Add(t.Left)}
		by := ends[t.Word.GetId()]
		switch {
		case t.Word.GetEnds() != "":
			e.State, e.Left, e.Until = EmergencyEnds, 0, time.Time{}
		case known[t.Word.GetId()]:
			e.State, e.Why = EmergencySkipped, "another emergency drain has the same ID"
		case by != nil:
			e.State, e.Why = EmergencyUndrained, fmt.Sprintf("undrained by %s (%s)", wordBy(by), by.GetReason())
		case t.Left <= 0:
			e.State, e.Why = EmergencyOver, "its time is up"
		case applied == maxInForce:
			e.State, e.Why = EmergencySkipped, fmt.Sprintf("%d others before it are in force, which is the most at once", maxInForce)
		default:
			o := e.override(p)
			if e.Why = s.spared(o); e.Why != "" {
				e.State = EmergencySkipped
				break
			}
			e.State = EmergencyInForce
			applied++
			with := *s.Plan
			with.Plan = proto.CloneOf(with.Plan)
			with.Plan.Overrides = append(with.Plan.Overrides, o)
			s.Plan = &with
		}
		known[t.Word.GetId()] = known[t.Word.GetId()] || e.State != EmergencyEnds
		out = append(out, e)
	}
	return out
}

// spared says why a drain is not gone by; "" when it is.
func (s State) spared(o *plan.Override) string {
	w := begin(s, Command{ID: o.GetId(), Verb: Drain, Scope: o.GetScope(), Author: o.GetAuthor(), Reason: o.GetReason()})
	scope, err := parseScope(w.set, o.GetScope(), drainable[:]...)
	if err != nil {
		return err.Error()
	}
	w.next.Overrides = append(w.next.Overrides, o)
	v := w.compare(scope)
	if hit := v.lastSites(); len(hit) > 0 {
		return "it would take the last healthy site of " + list(hit)
	}
	if hit := v.tooFew(); len(hit) > 0 {
		return "it would leave fewer healthy sites than minHealthy wants: " + list(hit)
	}
	if refusal, broken := errors.AsType[*Refusal](w.interlocked()); broken {
		return refusal.Reason
	}
	return ""
}

// tooFew names the services of which fewer sites would be left than they want, and fewer
// than there are.
func (v *verdict) tooFew() []string {
	var out []string
	for i := range v.services {
		c := &v.services[i]
		if c.svc == nil || c.before == nil || c.after == nil {
			continue
		}
		if left := c.after.Well(); left < c.svc.MinHealthy && left < c.before.Well() {
			out = append(out, fmt.Sprintf("%s (%d of %d)", c.name, left, c.svc.MinHealthy))
		}
	}
	return out
}

// override is what a drain is to steering: the plan's own come before it.
func (e Emergency) override(p *plan.Plan) *plan.Override {
	return &plan.Override{
		Id: e.Word.GetId(), Kind: plan.Override_DRAIN, Scope: e.Word.GetScope(), Author: wordBy(e.Word) + " in an emergency", Reason: e.Word.GetReason(),
		Start: e.Word.GetSaid(), End: timestamppb.New(e.Until), LastResort: e.Word.GetLastResort(), Revision: p.GetRevision() + 1,
	}
}

// Override is what people are shown of it.
func (e Emergency) Override(p *plan.Plan) *plan.Override { return e.override(p) }

// Overlay gives a plan with the emergency drains that are in force, or the very same plan
// where there are none: what it settles, or does not heed, adds nothing to it. So a drain
// is there once whichever of word and plan came first.
func Overlay(p *plan.Plan, judged []Emergency) *plan.Plan {
	out := p
	for _, e := range judged {
		if e.State != EmergencyInForce || p.Heeds(e.Word) != nil || p.Settles(e.Word) {
			continue
		}
		if out == p {
			out = proto.CloneOf(p)
		}
		out.Overrides = append(out.Overrides, e.override(p))
	}
	return out
}

// wordBy names who said a word.
func wordBy(w *plan.Word) string {
	by := "operator " + w.GetOperator()
	if a := w.GetAuthor(); a != "" {
		by += " (" + a + ")"
	}
	return by
}

// Settling is an operator's word that the plan is to take over, or to note as over.
type Settling struct {
	Word  *plan.Word
	Drain bool // it is in force: it becomes an ordinary drain
	Left  time.Duration
	Why   string // it does not
}

// maxSettling bounds the leader's writes of one turn.
const maxSettling = 8

// settlingDue lists the words that the store does not hold yet. What is skipped waits: it
// may yet be gone by.
func settlingDue(s State) []Command {
	var out []Command
	for _, e := range s.Emergencies {
		if len(out) == maxSettling || s.Plan.Plan.Heeds(e.Word) != nil || s.Plan.Plan.Settles(e.Word) {
			continue
		}
		w := e.Word
		settling := &Settling{Word: w, Why: e.Why}
		switch e.State {
		case EmergencyInForce:
			if covering(s.Spec, s.Plan.Plan, w, s.Now.Add(e.Left)) == coveredInPart {
				continue
			}
			settling.Drain, settling.Left = true, e.Left
		case EmergencyOver, EmergencyUndrained, EmergencyEnds:
		default:
			continue
		}
		// All of it follows from the word: two leaders must utter the same command.
		out = append(out, Command{ID: settleID(w), Verb: Settle, Scope: w.GetScope(), Author: wordBy(w), Reason: w.GetReason(), Settling: settling})
	}
	return out
}

// settleID is the ID of the leader's write about a word: it cannot happen twice.
func settleID(w *plan.Word) string { return "settle-" + w.GetId() + "-" + w.Sum.Short() }

// settle takes an operator's word over into the plan.
func (w *work) settle() error {
	c := w.c.Settling
	if c == nil {
		return &Refusal{Reason: "no emergency is named"}
	}
	word := c.Word
	if err := w.next.Heeds(word); err != nil {
		w.noop, w.done = true, err.Error()
		return nil
	}
	if w.next.Settles(word) {
		w.noop, w.done = true, "settled already"
		return nil
	}
	w.note(word)
	switch {
	case word.GetEnds() != "":
		w.what = fmt.Sprintf("note that emergency drain %s of %s was undrained", word.GetEnds(), word.GetScope())
	case !c.Drain:
		w.what = fmt.Sprintf("note the emergency drain %s of %s, which is over: %s", word.GetId(), word.GetScope(), c.Why)
	default:
		return w.takeOver(word, c.Left)
	}
	w.done = w.what
	return nil
}

// takeOver makes an ordinary drain of an emergency's.
func (w *work) takeOver(word *plan.Word, left time.Duration) error {
	scope, err := parseScope(w.set, word.GetScope(), drainable[:]...)
	if err != nil {
		return err
	}
	end := w.s.Now.Add(min(left, plan.MaxEmergency))
	switch covering(w.set, w.next, word, end) {
	case coveredInPart:
		return &Refusal{Reason: fmt.Sprintf("a later drain in steps of %s has not taken all of it yet", scope), Remedy: "the emergency drain stands beside it until then"}
	case coveredWhole:
		w.what = fmt.Sprintf("note the emergency drain %s of %s, which another drain covers", word.GetId(), scope)
		w.done = w.what
		return nil
	}
	o := &plan.Override{
		Id: word.GetId(), Kind: plan.Override_DRAIN, Scope: scope.String(), Author: wordBy(word), Reason: word.GetReason(),
		End: timestamppb.New(end), LastResort: word.GetLastResort(),
	}
	if fleetOf(w.s.Spec).TwoPersons { // each director then sees that it is the operator's word (S7)
		o.Word = word.Raw
	}
	w.put(o)
	if hit := w.compare(scope).lastSites(); len(hit) > 0 {
		return &Refusal{Reason: fmt.Sprintf("the emergency drain of %s would take the last healthy site of %s", scope, list(hit)), Remedy: "restore another site, or undrain it"}
	}
	w.done = steer.DrainWhy(scope.String(), o)
	w.what = "drain " + scope.String() + " until " + steer.Until(w.s.Now, end) + ", as said in an emergency"
	return nil
}

// cover says how far a plan's own drains take away what a word does.
type cover uint8

const (
	coveredNot cover = iota
	coveredInPart
	coveredWhole
)

// covering looks for a drain that stands for a word: of all its sites, and later by the
// plan's own count, or of no earlier end. A later one in steps does so only once it has
// taken all.
func covering(set *spec.Set, p *plan.Plan, word *plan.Word, end time.Time) cover {
	scope, err := steer.ParseScope(word.GetScope())
	if err != nil {
		return coveredNot
	}
	sites, best := covered(set, scope), coveredNot
	for _, o := range p.GetOverrides() {
		other, err := steer.ParseScope(o.GetScope())
		if o.GetKind() != plan.Override_DRAIN || err != nil || o.GivesBack() {
			continue
		}
		same := other == scope || len(sites) > 0 && !slices.ContainsFunc(sites, func(s site) bool { return !other.Covers(s.service.Name, s.cluster) })
		if later := o.GetRevision() > word.GetRevision(); !same || !later && o.GetEnd().AsTime().Before(end) {
			continue
		}
		if o.Keep() == 0 {
			return coveredWhole
		}
		best = coveredInPart
	}
	return best
}

// What a plan remembers of words: for twice as long as any director goes on with one after
// it was said (EmergencyDay), so that clocks that are off by hours do not matter, and no more
// than so many of one operator. What goes raises the operator's floor, so that none of it can
// come back; and of the drain that it has ended, which may be another operator's, every
// director says then that it was over long ago.
const (
	settledFor = 2 * EmergencyDay
	maxSettled = 64
)

// note writes that a word is settled.
func (w *work) note(word *plan.Word) {
	o := w.next.Operator(word.GetOperator())
	o.Settled = append(o.Settled, &plan.Settled{Id: word.GetId(), Counter: word.GetCounter(), Ends: word.GetEnds(), At: timestamppb.New(w.s.Now)})
	old := 0
	for i, s := range o.GetSettled() {
		if len(o.GetSettled())-i > maxSettled || w.s.Now.Sub(s.GetAt().AsTime()) > settledFor {
			old = i + 1
		}
	}
	forget(o, old)
}
