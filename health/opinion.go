package health

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Opinion says what this director thinks of one subject by its own probes, and
// why; the reason of an opinion that is plainly up is empty.
func (o *Observer) Opinion(s Subject, chain Chain, now time.Time) (State, string) {
	e := o.entries[s]
	if e == nil {
		return Unknown, "not probed by this director"
	}
	op := o.evaluate(e, chain, now)
	return op.to, op.why
}

// opinion is what a vote says, why, and when it may change without a report;
// zero: never.
type opinion struct {
	to        State
	suspicion uint16
	why       string
	held      bool // down by the wait for the return alone: it passes (S10)
	due       time.Time
}

func (o *Observer) evaluate(e *entry, chain Chain, now time.Time) opinion {
	if !o.roundEnd && !o.Round(now) {
		return opinion{why: "first round of probes not complete", due: o.start.Add(roundLimit)}
	}
	if !e.probed {
		return opinion{why: "not probed yet"}
	}
	stale := e.stale()
	if !now.Before(stale) {
		return opinion{why: "no report since " + span(now.Sub(e.last))}
	}
	if e.via.shared() {
		return opinion{why: e.via.why(), due: stale}
	}
	op := opinion{}
	if chain.State() == Down {
		wait := time.Duration(0)
		if op.to, op.why, wait = o.returning(e, chain, now); wait > 0 {
			op.due = now.Add(wait)
			op.held = op.to == Down && e.misses < e.limit() && !e.began.Before(o.stall) && !now.Before(o.awake)
		}
	} else {
		op = o.falling(e, now)
	}
	if op.due.IsZero() || stale.Before(op.due) {
		op.due = stale
	}
	return op
}

// falling is the opinion of a subject that is up, or was never seen.
func (o *Observer) falling(e *entry, now time.Time) opinion {
	if e.misses == 0 {
		switch {
		case !e.passed:
			return opinion{why: "has not passed yet"}
		case e.late && !e.began.Before(o.stall) && !now.Before(o.awake):
			return opinion{to: Up, suspicion: late, why: "answers later than usual"}
		default:
			return opinion{to: Up}
		}
	}
	why := fmt.Sprintf("%s, %d times in a row", cmp.Or(e.reason, "no answer"), e.misses)
	excused := e.excused()
	switch {
	case e.suspect():
		return opinion{why: "probe has never passed anywhere, so it is itself the suspect: " + why}
	case excused && e.path.lastOK:
		return opinion{to: Up, why: "fast signal fails but the deep probe passes: " + why}
	case excused:
		return opinion{why: "fast signal fails, deep probe has passed since: " + why}
	case e.began.Before(o.stall):
		return opinion{why: "not probed since this director stalled: " + why}
	case now.Before(o.awake):
		return opinion{why: "this director has just stood still: " + why, due: o.awake}
	case e.Subject.Kind == KindSoft && e.misses >= softMisses:
		return opinion{to: Down, why: why}
	case e.Subject.Kind == KindSoft && e.passed:
		return opinion{to: Up}
	case e.Subject.Kind == KindSoft:
		return opinion{why: "has not passed yet"}
	}
	if settled := e.firstMiss.Add(viaGrace); e.via != nil && now.Before(settled) {
		return opinion{to: Up, suspicion: late, why: why, due: settled}
	}
	phi, most := e.suspicion.Hundredths(), uint16(o.quorum.Cap())
	if phi >= most {
		return opinion{to: Down, suspicion: most, why: why}
	}
	return opinion{to: Up, suspicion: max(phi, late+1), why: why}
}

// relapsed reports whether a subject fails so that the wait for its return must
// begin again. A miss now and then is none: a lossy path must not hold a site out
// for ever.
func (o *Observer) relapsed(e *entry) bool {
	if e.Subject.Kind == KindSoft {
		return e.misses >= softMisses
	}
	return e.suspicion.Phi() >= min(relapse, float64(o.quorum.Cap())/100)
}

// returning is the opinion of a subject that is down. While it waits the vote
// stays against the return.
func (o *Observer) returning(e *entry, chain Chain, now time.Time) (State, string, time.Duration) {
	if e.healthy.IsZero() {
		if e.misses > 0 {
			return Down, fmt.Sprintf("%s, %d times in a row", cmp.Or(e.reason, "no answer"), e.misses), 0
		}
		return Down, fmt.Sprintf("passed %d of %d times", e.hits, e.limit()), 0
	}
	if wait, why := chain.wait(e.healthy, o.readmits[e.Subject], now); wait > 0 {
		return Down, "passes again, " + why, wait
	}
	if e.misses >= e.limit() { // no relapse yet, but it does not pass now
		return Down, fmt.Sprintf("%s, %d times in a row", cmp.Or(e.reason, "no answer"), e.misses), 0
	}
	if e.began.Before(o.stall) {
		return Unknown, "not probed since this director stalled", 0
	}
	if wait := o.awake.Sub(now); wait > 0 {
		return Unknown, "this director has just stood still", wait
	}
	return Up, "", 0
}

// stale is when the last report ceases to say anything.
func (e *entry) stale() time.Time {
	return e.last.Add(staleBase + staleRounds*max(e.Interval, e.gap))
}

// limit is how many passes in a row begin the wait for a return.
func (e *entry) limit() int {
	if e.Subject.Kind == KindSignal {
		return fastPasses
	}
	return deepPasses
}

// suspect reports whether every probe that the subject belongs to has not yet
// passed on any endpoint.
func (e *entry) suspect() bool {
	if len(e.defs) == 0 {
		return false
	}
	return !slices.ContainsFunc(e.defs, func(d *definition) bool {
		if e.Subject.Kind == KindSignal {
			return d.reached
		}
		return d.passed
	})
}

// excused reports whether a signal fails and a deep probe of its address and port has
// passed since it began to.
func (e *entry) excused() bool {
	return e.Subject.Kind == KindSignal && e.misses > 0 && e.path.ok.After(e.firstMiss)
}

// Waiting says why a fallen subject is not yet voted up by this director.
type Waiting struct {
	For     time.Duration // at the earliest; 0 while it still fails
	Healthy time.Duration // for so long it has passed every probe; 0 while it fails
	Why     string
}

// Waits says what the return of a fallen subject waits for. False: it is not
// down, or this director has already voted for its return.
func (o *Observer) Waits(s Subject, chain Chain, now time.Time) (Waiting, bool) {
	e := o.entries[s]
	if e == nil || chain.State() != Down {
		return Waiting{}, false
	}
	op := o.evaluate(e, chain, now)
	if op.to == Up {
		return Waiting{}, false
	}
	w := Waiting{Why: op.why}
	if !e.healthy.IsZero() && op.to == Down {
		w.Healthy = now.Sub(e.healthy)
		w.For, _ = chain.wait(e.healthy, o.readmits[s], now)
	}
	return w, true
}

// Suspect is a probe definition that fails and has never passed on any
// endpoint: a mistyped path rather than a dead fleet.
type Suspect struct {
	Def      string
	Subjects []Subject
	Reason   string // of one of the failures
}

// Suspects lists the probes to alert about, by definition.
func (o *Observer) Suspects() []Suspect {
	var out []Suspect
	for _, d := range o.defs {
		if d.passed {
			continue
		}
		s := Suspect{Def: d.def}
		for _, e := range d.entries {
			if e.misses >= e.limit() && e.suspect() {
				s.Subjects = append(s.Subjects, e.Subject)
				s.Reason = e.reason
			}
		}
		if len(s.Subjects) > 0 {
			slices.SortFunc(s.Subjects, Subject.Compare)
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b Suspect) int { return cmp.Compare(a.Def, b.Def) })
	return out
}

// span writes a duration as people write it: 40s, 10m.
func span(d time.Duration) string {
	s := d.Round(time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
