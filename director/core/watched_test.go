package core

import (
	"maps"
	"testing"

	"github.com/divertdns/divert/director/plan"
)

// TestWatched: fresh votes are asked for of who takes over, of what is on its way and of
// what is to begin, and they are enough for each step.
func TestWatched(t *testing.T) {
	w := newWorld(t)
	w.seen()
	all := w.s.Fresh
	restrict := func(scope string) {
		w.s.Fresh = maps.Clone(all)
		asked := Watched(w.s.Spec, w.s.Plan.Plan, scope)
		for s := range w.s.Fresh {
			if !asked[s] {
				delete(w.s.Fresh, s)
			}
		}
	}
	restrict("")
	if len(w.s.Fresh) != 0 {
		t.Errorf("nothing is drained in steps, and %d are asked for", len(w.s.Fresh))
	}
	restrict("service/pay@fra")
	for s := range w.s.Fresh {
		if s.Addr.Addr().String() != "192.0.2.21" {
			t.Errorf("%s takes nothing over", s)
		}
	}
	w.do(w.paced("service/pay@fra", 100))
	w.seen()
	w.noted()
	w.seen()
	restrict("")
	w.s.Now = w.override("service/pay@fra").GetPace().GetNext().AsTime()
	if got := w.now(); got != "drain service/pay@fra: step 2 of 2, 100 % moved" {
		t.Errorf("got %q, waits for %q", got, w.waits())
	}
	if w.at("service/pay@fra") != plan.Pace_MOVING.String()+" 0" {
		t.Errorf("at %s", w.at("service/pay@fra"))
	}
}
