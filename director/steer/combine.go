package steer

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
)

// combination is a service's rule, nil where all its probes must pass: then the first
// subject that is down decides, and nothing is counted.
func combination(svc *spec.GlobalService) *spec.Combine {
	if svc.Combine.AtLeast == 0 {
		return nil
	}
	return &svc.Combine
}

// tally is what of an address's probes passes. A probe passes unless its check is down,
// or the fast signal of its port, if it has one. Its signal is its own: under `any`, a
// dead port fails the probes of that port alone. What is unknown passes (S1), and is
// not known to.
type tally struct {
	passing, known int // probes
	weight, sure   int64
	probes         int
	total          int64
}

func (a *address) tally(state func(j int) health.State) tally {
	var t tally
	for j := range a.subjects {
		check := &a.subjects[j]
		if check.Fast {
			continue
		}
		down, up := state(j) == health.Down, state(j) == health.Up
		if check.signed {
			port := check.Subject.Addr.Port()
			for i := range a.subjects {
				if s := &a.subjects[i]; s.Fast && s.Subject.Addr.Port() == port {
					down, up = down || state(i) == health.Down, up && state(i) == health.Up
				}
			}
		}
		t.probes, t.total = t.probes+1, t.total+check.weight
		if !down {
			t.passing, t.weight = t.passing+1, t.weight+check.weight
		}
		if up {
			t.known, t.sure = t.known+1, t.sure+check.weight
		}
	}
	return t
}

// need is how many probes must pass. A spec that asks for more than there are, which
// the checks refuse, gets what can be had.
func (t tally) need(c *spec.Combine) int { return min(c.AtLeast, t.probes) }

// wanted is the weight below which an address is degraded.
func (t tally) wanted(c *spec.Combine) int64 { return min(c.DegradedBelow, t.total) }

// shortfall is what of an address's probes does not pass.
type shortfall struct {
	tally
	rule *spec.Combine
}

// combined applies a service's rule to an address: whether it has failed, whether it is
// known to be well, and whether it is degraded by the weight of what fails.
func (r *Roll) combined(a *address, states []health.State) (down, known, light bool) {
	t := a.tally(func(j int) health.State { return states[j] })
	if t.passing < t.probes && (r.short == nil || t.worse(&r.short.tally)) {
		r.short = &shortfall{tally: t, rule: a.combine}
	}
	return t.passing < t.need(a.combine), t.knows(a.combine), t.weight < t.wanted(a.combine)
}

func (t tally) worse(o *tally) bool {
	return t.passing < o.passing || t.passing == o.passing && t.weight < o.weight
}

// knows tells whether enough is known to pass.
func (t tally) knows(c *spec.Combine) bool {
	return t.probes > 0 && t.known >= t.need(c) && t.sure >= t.wanted(c)
}

// String says which part of the rule counted: "1 of 3 probes pass, at least 2 must".
func (s *shortfall) String() string {
	if s.passing >= s.need(s.rule) && s.weight < s.wanted(s.rule) {
		return fmt.Sprintf("probes of weight %d of %d pass, %d is wanted", s.weight, s.total, s.wanted(s.rule))
	}
	need := "one"
	if s.rule.AtLeast > 1 {
		need = "at least " + strconv.Itoa(s.rule.AtLeast)
	}
	return fmt.Sprintf("%d of %d probes pass, %s must", s.passing, s.probes, need)
}

// passes tells whether what must pass does, by what up says.
func (a *address) passes(up func(health.Subject) bool) bool {
	if a.combine == nil {
		return len(a.subjects) > 0 && !slices.ContainsFunc(a.subjects, func(o SubjectOf) bool { return !up(o.Subject) })
	}
	t := a.tally(func(j int) health.State {
		if up(a.subjects[j].Subject) {
			return health.Up
		}
		return health.Unknown
	})
	return t.knows(a.combine)
}
