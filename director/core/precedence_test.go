package core

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/steer"
)

// answers tells whether some client of shop may be sent to a cluster.
func (w *world) answers(cluster string) bool {
	d := steer.Decide(steer.Input{Spec: w.s.Spec, Plan: w.s.Plan.Plan, States: w.s.States, Places: everywhere()})
	for _, s := range d.Services {
		for _, set := range s.V4.Sets {
			for _, c := range set.Choices {
				if s.Name == "shop" && c.Cluster == cluster {
					return true
				}
			}
		}
	}
	return false
}

// TestPrecedence (S18; SEMANTICS section 4): person > failure > balancing. Whatever loads
// say, minute after minute, what is drained or failed gets nobody by it, no override
// changes, and nothing moves where a person has frozen it. Drills have no overrides yet.
func TestPrecedence(t *testing.T) {
	tests := []struct {
		name  string
		first func(w *world)
		not   string // gets nobody, at the beginning or later
		still bool   // nothing is written of loads
	}{
		{"person over balancing: drained at once", func(w *world) { w.do(w.drain("cluster/nyc")) }, "nyc", false},
		{"person over balancing: drained in steps", func(w *world) {
			c := w.drain("cluster/nyc")
			c.Paced, c.Steps, c.Wait = true, []int{50, 100}, time.Second
			c.For = 72 * time.Hour
			w.seen()
			w.do(c)
			w.finish()
		}, "nyc", false},
		{"person over balancing: frozen", func(w *world) { w.do(Command{Verb: Freeze, Reason: "x", For: 3 * time.Hour}) }, "", true},
		{"failure over balancing", func(w *world) { w.fail("shop", "nyc") }, "nyc", false},
		{"person over failure", func(w *world) {
			w.do(w.drain("cluster/fra"))
			w.fail("shop", "nyc")
		}, "fra", false},
		{"person over failure, where all others have failed", func(w *world) {
			w.do(w.drain("cluster/fra"))
			w.fail("shop", "nyc")
			w.fail("shop", "sin")
		}, "fra", false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w := sizedWorld(t)
			w.loads(50, 20, 10)
			tc.first(w)
			before := proto.CloneOf(w.s.Plan.Plan)
			if tc.not != "" && w.answers(tc.not) {
				t.Fatalf("clients are sent to %s from the beginning", tc.not)
			}
			wrote := 0
			for range 30 {
				w.loads(190, 10, 150)
				w.s.Now = w.s.Now.Add(time.Minute)
				for _, c := range Due(w.s) {
					if c.Verb == Spill {
						w.do(c)
						wrote++
					}
				}
				if tc.not != "" && w.answers(tc.not) {
					t.Fatalf("after %d minutes clients are sent to %s", wrote, tc.not)
				}
			}
			if (wrote == 0) != tc.still {
				t.Errorf("loads were written %d times", wrote)
			}
			a, b := &plan.Plan{Overrides: before.GetOverrides()}, &plan.Plan{Overrides: w.s.Plan.Plan.GetOverrides()}
			if !proto.Equal(a, b) {
				t.Errorf("balancing has changed what a person said:\n%v\n%v", a, b)
			}
		})
	}
}
