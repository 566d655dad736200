package director

import (
	"fmt"
	"maps"
	"slices"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// stable is the side of all who try nothing: what commands are decided on.
func (f *inForce) stable() *inForce {
	if f.main != nil {
		return f.main
	}
	return f
}

// tried is the side of those who try another spec; nil: nobody does.
func (f *inForce) tried() *inForce {
	if f.main != nil {
		return f
	}
	return f.trial
}

// on is the side that a director answers from.
func (f *inForce) on(director string) *inForce {
	if t := f.tried(); t != nil && f.sealed.Plan.Canary(director) {
		return t
	}
	return f.stable()
}

// specs lists the specs of both sides, this one's first: what either goes by is probed by
// all, or those who try something would be alone with what they see (S7).
func (f *inForce) specs() []*spec.Set {
	out := []*spec.Set{f.spec}
	switch {
	case f.main != nil:
		out = append(out, f.main.spec)
	case f.trial != nil:
		out = append(out, f.trial.spec)
	}
	return out
}

// sameSpecs tells whether two have the same specs of both sides.
func sameSpecs(a, b *inForce) bool { return slices.Equal(a.specs(), b.specs()) }

// all lists the chunks of both sides.
func (f *inForce) all() map[plan.Hash][]byte {
	t := f.tried()
	if t == nil {
		return f.chunks()
	}
	out := maps.Clone(f.stable().chunks())
	maps.Copy(out, t.chunks())
	return out
}

// knows tells whether another side has a spec and residency that this plan has: what follows
// from the two was looked at when they came.
func (f *inForce) knows(side *inForce) bool {
	has := f.holding(side.ref)
	return has != nil && has.spec == side.spec
}

// holding gives the side that holds a document, of a plan or of none; nil: neither does.
func (f *inForce) holding(ref *plan.SpecRef) *inForce {
	if f == nil {
		return nil
	}
	if s := f.stable(); s.holds(ref) {
		return s
	}
	if t := f.tried(); t != nil && t.holds(ref) {
		return t
	}
	return nil
}

// proved decides by the specs that are new in a plan, and says what would be wrong with
// the answers. Others were looked at when they came.
func (l *librarian) proved(f *inForce) error {
	cur := l.horizon.current()
	for _, side := range []*inForce{f, f.trial} {
		if side == nil || cur.knows(side) {
			continue
		}
		if err := core.CheckAnswers(side.spec, side.sealed.Plan, l.places(side.spec)); err != nil {
			return fmt.Errorf("plan %d.%d: %w", f.sealed.Identity.Epoch, f.sealed.Identity.Revision, err)
		}
	}
	return nil
}
