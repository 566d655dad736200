package core

import (
	"testing"

	"github.com/divertdns/divert/director/plan"
)

// TestSkippedRevision (S7): two directors do not go at once by a plan that follows directly,
// nor, where the fleet asks for two persons, by one that leaves a revision out. In any other
// fleet the second passes, since one person may have removed them one after the other: see
// DESIGN.
func TestSkippedRevision(t *testing.T) {
	for _, two := range []bool{false, true} {
		for _, by := range []uint64{1, 2} {
			w := newWorld(t)
			if two {
				w = newPair(t)
			} else {
				w.joinAll()
			}
			next := w.resigned(func(p *plan.Plan) {
				p.Revision, p.Parent = w.s.Plan.Identity.Revision+by, w.s.Plan.Identity.Hash[:]
				p.Director("d2").Standing, p.Director("d3").Standing = plan.Director_REMOVED, plan.Director_REMOVED
			})
			err := Check(w.s.Plan, next)
			if err == nil {
				err = CheckPersons(Succession{Cur: w.s.Plan, Spec: w.s.Spec, Next: next, NextSpec: w.s.Spec})
			}
			if passes := by == 2 && !two; (err == nil) != passes {
				t.Errorf("two persons %t, %d revisions on: got %v", two, by, err)
			}
		}
	}
}
