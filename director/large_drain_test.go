package director

import (
	"fmt"
	"testing"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
)

// BenchmarkLargeDrain is the drain of a whole cluster of a large fleet, and its end:
// what deciding about the command costs (core.Decide, with what commanders keep), and
// what the plan then costs on the loop, from the decision to the table. In processor
// time, the collector's included.
func BenchmarkLargeDrain(b *testing.B) {
	for _, services := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprintf("%d services on 10 clusters, 200 prefixes", services), func(b *testing.B) {
			l := newLarge(services, 10, false)
			l.compile(b)
			var memo core.Memo
			var decided, applied, undecided, reapplied time.Duration
			now := time.Unix(1_800_000_000, 0)
			do := func(i int, c core.Command, deciding, applying *time.Duration) {
				c.ID, c.Author, c.Reason = fmt.Sprint(c.Verb, i), "somebody", "a benchmark"
				start := used()
				change, err := core.Decide(core.State{
					Plan: l.f.sealed, Spec: l.f.spec, States: l.states, Now: now, Me: "d1", Memo: &memo, Prepared: l.decider.Prepared(),
					Places: func(...*spec.Set) []steer.Place { return l.places },
				}, c)
				if err != nil {
					b.Fatal(err)
				}
				*deciding += used() - start
				next := *l.f
				next.sealed = &plan.Sealed{Plan: change.Plan, Identity: plan.Identity{Fleet: "f", Epoch: 1, Revision: change.Plan.GetRevision()}}
				next.standbys = steer.StandbysOf(next.spec, change.Plan)
				l.f = &next
				start = used()
				l.compile(b)
				*applying += used() - start
			}
			i := 0
			for b.Loop() {
				scope := fmt.Sprintf("cluster/c%d", i%10)
				do(i, core.Command{Verb: core.Drain, Scope: scope, For: time.Hour}, &decided, &applied)
				do(i, core.Command{Verb: core.Undrain, Scope: scope}, &undecided, &reapplied)
				i++
			}
			for _, m := range []struct {
				unit string
				took time.Duration
			}{{"drain-decide-ms", decided}, {"drain-loop-ms", applied}, {"undrain-decide-ms", undecided}, {"undrain-loop-ms", reapplied}} {
				b.ReportMetric(m.took.Seconds()*1000/float64(i), m.unit)
			}
		})
	}
}
