package core

import (
	"fmt"
	"slices"
	"time"

	"github.com/divertdns/divert/director/plan"
)

// Why a word that another director passes on is not taken in.
const (
	UnheardMalformed = "malformed"  // or its signature does not verify
	UnheardForeign   = "not heeded" // the plan does not list who signed it
	UnheardSettled   = "settled"    // the plan holds it, or that it is over
	UnheardOld       = "too old"    // so many were said after it
)

// Hear takes in a word as another director passes it on, if it counts by a plan; else it
// says why it does not. A word that was said more than a day ago by the wall clock is over
// from the first, as at a start: whoever kept it back, or goes on saying what the plan has
// forgotten, drains nothing by it.
func (e *Emergencies) Hear(p *plan.Plan, raw []byte, now, wall time.Time) (unheard string, err error) {
	word, err := plan.OpenWord(raw)
	if err != nil {
		return UnheardMalformed, err
	}
	if err := p.Heeds(word); err != nil {
		return UnheardForeign, err
	}
	if p.Settles(word) {
		return UnheardSettled, fmt.Errorf("the plan has settled %s", word.GetId())
	}
	if longSaid(word, wall) {
		now = now.Add(-plan.MaxEmergency)
	}
	if !e.Add(word, now) {
		return UnheardOld, fmt.Errorf("operator %s has said %d words after it", word.GetOperator(), MaxWords)
	}
	return "", nil
}

// longSaid tells whether a word was said more than a day ago by a wall clock.
func longSaid(w *plan.Word, wall time.Time) bool {
	said := w.GetSaid()
	return said != nil && wall.Sub(said.AsTime()) > EmergencyDay
}

// Room says why a word that a person brings is not one to take, by what is held here.
func (e *Emergencies) Room(p *plan.Plan, word *plan.Word, now, wall time.Time) error {
	if longSaid(word, wall) {
		return &Refusal{Reason: fmt.Sprintf("the word was said at %s, which is more than a day ago by the clock of this director", word.GetSaid().AsTime().Format(time.RFC3339)), Remedy: "look at the clocks of both, or say it anew"}
	}
	if next := max(p.Counted(), e.Counted()) + 1; word.GetCounter() != next {
		return &Refusal{Reason: fmt.Sprintf("another word came between: the next has counter %d, this one has %d", next, word.GetCounter()), Remedy: "say it again"}
	}
	if out := e.Displaces(word); out != nil && out.GetId() != word.GetEnds() && e.Holds(out, now) {
		what, remedy := fmt.Sprintf("the drain of %s, is in force", out.GetScope()), "undrain that one first, or let another operator say it"
		if out.GetEnds() != "" {
			what, remedy = fmt.Sprintf("the end of the drain of %s, keeps that from being in force again", out.GetScope()), "let another operator say it"
		}
		return &Refusal{Reason: fmt.Sprintf("operator %s has said %d words, and the first of them, %s", word.GetOperator(), MaxWords, what), Remedy: remedy}
	}
	if id := word.GetEnds(); id != "" && !slices.ContainsFunc(e.Told(now), func(t Told) bool { return t.Word.GetId() == id && t.Word.GetEnds() == "" }) {
		return &Refusal{Reason: fmt.Sprintf("no emergency drain %s is known here", id), Remedy: "`divert status` lists them"}
	}
	return nil
}
