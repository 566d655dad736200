package steer

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
)

// exceeded is S9 written the obvious way, in whole numbers: are what is merely degraded
// more than one fault domain, and more than the share of the capacity of all that can
// serve the family?
func exceeded(f *fleet, svc *spec.GlobalService, fam Family) bool {
	var all, degraded int64
	domains := map[string]bool{}
	for i := range svc.Endpoints {
		e := &svc.Endpoints[i]
		c := f.set.Cluster(e.Cluster)
		r := Rollup(svc, e, f.states, fam)
		if len(r.All) == 0 || c.Environment != svc.Environment || svc.Steering.Policy == spec.PolicyWeighted && e.Weight == 0 {
			continue
		}
		all += e.Capacity
		if drained, _ := drainedIn(f, e.Cluster); !drained && r.Health == Degraded {
			degraded += e.Capacity
			domains[c.FaultDomain] = true
		}
	}
	return len(domains) > 1 && degraded*100 > all*int64(f.set.Fleet.DegradedEjected)
}

// helpsOut: a choice comes after others, none of which has all of its clients yet.
func helpsOut(choices []Choice, c *Choice) bool {
	return c.Level > 0 && !slices.ContainsFunc(choices, func(o Choice) bool { return o.Level < c.Level && o.Share == 0 })
}

// TestBudget (S9): what is failed is in no healthy tier, however many fail. What is merely
// degraded is in none as long as the budget lasts, but for the clients whom none of those
// that all return may have yet; past it all of it is, with an alert: never a part of it.
func TestBudget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := draw(t)
		f.drawSpill(t)
		svc := f.set.Services[0]
		f.set.Fleet.DegradedEjected = rapid.SampledFrom([]int{0, 20, 50, 50, 99, 100}).Draw(t, "share")
		f.plan.Overrides = slices.DeleteFunc(f.plan.Overrides, func(o *plan.Override) bool { return o.GetKind() == plan.Override_OBSERVE })
		d := Decide(f.input())
		alerted, wanted := slices.ContainsFunc(d.Services[0].Alerts, func(a string) bool { return strings.Contains(a, "are more than may leave") }), false
		for fam, v := range []*View{&d.Services[0].V4, &d.Services[0].V6} {
			over := exceeded(f, svc, Family(fam))
			wanted = wanted || over
			for _, set := range v.Sets {
				if set.Tier == TierDegraded && over {
					t.Fatalf("%v: over the budget, and %v serve as degraded", Family(fam), clustersOf(&set))
				}
				if set.Tier != TierHealthy {
					continue
				}
				for _, c := range set.Choices {
					switch h := Rollup(svc, svc.Endpoint(c.Cluster), f.states, Family(fam)).Health; {
					case h == Failed:
						t.Fatalf("%v: failed %s is in the healthy tier", Family(fam), c.Cluster)
					case h == Degraded && !over && !helpsOut(set.Choices, &c):
						t.Fatalf("%v: degraded %s is in the healthy tier, within the budget", Family(fam), c.Cluster)
					}
				}
			}
		}
		if alerted != wanted {
			t.Fatalf("alerted %v, want %v: %q", alerted, wanted, d.Services[0].Alerts)
		}
	})
}

// TestBudgetIsOfTheSet (S9): the same verdicts give the same answers, in whatever order
// they came and whatever came between; capacities times a number are the same shares.
func TestBudgetIsOfTheSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := draw(t)
		end := f.states
		want := dump(Decide(f.input()))
		var d Decider
		f.states = map[health.Subject]health.State{}
		subjects := slices.SortedFunc(maps.Keys(end), compareSubjects)
		for _, s := range rapid.Permutation(subjects).Draw(t, "arrival") {
			f.states = maps.Clone(f.states)
			f.states[s] = end[s]
			if rapid.IntRange(0, 3).Draw(t, "between") == 0 {
				d.Decide(f.input())
			}
		}
		if got := dump(d.Decide(f.input())); got != want {
			t.Fatalf("one after the other:\n%s\nat once:\n%s", got, want)
		}
		factor := int64(rapid.IntRange(2, 1000).Draw(t, "factor"))
		for i := range f.set.Services[0].Endpoints {
			f.set.Services[0].Endpoints[i].Capacity *= factor
		}
		if got := dump(Decide(f.input())); got != want {
			t.Fatalf("scaled:\n%s\nas it was:\n%s", got, want)
		}
	})
}
