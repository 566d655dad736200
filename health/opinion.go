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
	to, why, _ := o.evaluate(e, chain, now)
	return to, why
}

// evaluate also says when the opinion may change without a report; zero: never.
func (o *Observer) evaluate(e *entry, chain Chain, now time.Time) (State, string, time.Time) {
	if !o.roundEnd && !o.Round(now) {
		return Unknown, "first round of probes not complete", o.start.Add(roundLimit)
	}
	if !e.probed {
		return Unknown, "not probed yet", time.Time{}
	}
	stale := e.stale()
	if !now.Before(stale) {
		return Unknown, "no report since " + span(now.Sub(e.last)), time.Time{}
	}
	if chain.State() == Down {
		to, why, wait := o.returning(e, chain, now)
		if wait > 0 && now.Add(wait).Before(stale) {
			return to, why, now.Add(wait)
		}
		return to, why, stale
	}
	to, why := o.falling(e)
	return to, why, stale
}

// falling is the opinion of a subject that is up, or was never seen.
func (o *Observer) falling(e *entry) (State, string) {
	if e.misses < e.limit() {
		if !e.passed {
			return Unknown, "has not passed yet"
		}
		return Up, ""
	}
	why := fmt.Sprintf("%s, %d times in a row", cmp.Or(e.reason, "no answer"), e.misses)
	switch {
	case e.suspect():
		return Unknown, "probe has never passed anywhere, so it is itself the suspect: " + why
	case e.Subject.Kind == KindSignal && e.path.ok.After(e.firstMiss) && e.path.lastOK:
		return Up, "fast signal fails but the deep probe passes: " + why
	case e.Subject.Kind == KindSignal && e.path.ok.After(e.firstMiss):
		return Unknown, "fast signal fails, deep probe has passed since: " + why
	case e.began.Before(o.stall):
		return Unknown, "not probed since this director stalled: " + why
	}
	return Down, why
}

// returning is the opinion of a subject that is down. While it waits the vote
// stays against the return. A miss now and then, fewer in a row than make a
// fall, does not begin the wait again: a lossy path must not hold a site out
// for ever.
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
	if e.began.Before(o.stall) {
		return Unknown, "not probed since this director stalled", 0
	}
	return Up, "", 0
}

// stale is when the last report ceases to say anything.
func (e *entry) stale() time.Time {
	return e.last.Add(staleBase + staleRounds*max(e.Interval, e.gap))
}

// limit is how many probes in a row settle a matter.
func (e *entry) limit() int {
	if e.Subject.Kind == KindSignal {
		return fastMisses
	}
	return deepMisses
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
	to, why, _ := o.evaluate(e, chain, now)
	if to == Up {
		return Waiting{}, false
	}
	w := Waiting{Why: why}
	if !e.healthy.IsZero() && to == Down {
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
