package core

import (
	"fmt"
	"math"
	"slices"

	"github.com/divertdns/divert/director/plan"
)

// checkPaces holds drains in steps against what a step is (S7): one of its steps is in
// force, they go one way, and what is over is over.
func checkPaces(p *plan.Plan) error {
	for _, o := range p.GetOverrides() {
		pace := o.GetPace()
		if pace == nil {
			continue
		}
		if o.GetKind() != plan.Override_DRAIN || int(pace.GetStep()) >= len(pace.GetSteps()) {
			return fmt.Errorf("drain %s of %s is at a step that it has not", o.GetId(), o.GetScope())
		}
		if pace.GetWrites() > math.MaxInt32 {
			return fmt.Errorf("drain %s of %s was written %d times, after which nobody can go on", o.GetId(), o.GetScope(), pace.GetWrites())
		}
		if wait := pace.GetWait().AsDuration(); wait < 0 || wait > longestWait {
			return fmt.Errorf("drain %s of %s waits %s at each step", o.GetId(), o.GetScope(), wait)
		}
		for i, keep := range pace.GetSteps() {
			if keep > plan.Whole || i > 0 && (keep == pace.GetSteps()[i-1] || keep > pace.GetSteps()[i-1] != o.GivesBack()) {
				return fmt.Errorf("the steps of drain %s of %s do not go one way: %v", o.GetId(), o.GetScope(), pace.GetSteps())
			}
		}
		switch s := pace.GetState(); {
		case s == plan.Pace_DONE && o.Keep() != 0, s == plan.Pace_ROLLED_BACK && o.Keep() != plan.Whole:
			return fmt.Errorf("drain %s of %s is said to be %s, and its scope has %s of its clients", o.GetId(), o.GetScope(), s, percent(o.Keep()))
		}
	}
	return nil
}

// checkSteps holds the drains in steps of a plan against those of the one that it directly
// follows: none takes two steps in one, or goes back to one that was taken.
func checkSteps(cur, next *plan.Plan) error {
	was := map[string]*plan.Pace{}
	for _, o := range cur.GetOverrides() {
		if o.GetPace() != nil {
			was[o.GetId()] = o.GetPace()
		}
	}
	latest := next.GetWritten().AsTime().Add(longestWait + clockSlack)
	for _, o := range next.GetOverrides() {
		old, now := was[o.GetId()], o.GetPace()
		// What was written before is not asked again, as with ends: clocks differ.
		if at := now.GetNext().AsTime(); at.After(latest) && !at.Equal(old.GetNext().AsTime()) {
			return fmt.Errorf("the next step of drain %s of %s is due later than a step may be", o.GetId(), o.GetScope())
		}
		if old == nil || now == nil || !slices.Equal(old.GetSteps(), now.GetSteps()) {
			continue
		}
		if now.GetStep() < old.GetStep() || now.GetStep() > old.GetStep()+1 || now.GetWrites() < old.GetWrites() {
			return fmt.Errorf("drain %s of %s goes from step %d to %d", o.GetId(), o.GetScope(), old.GetStep()+1, now.GetStep()+1)
		}
	}
	return nil
}
