package core

import (
	"math"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
)

// TestClockThatJumpsBack: what was committed by a clock that was a day ahead stands until
// its end, and makes no later plan invalid: neither one that is about something else nor one
// with which it is undone (F15; with fewer than three directors nobody can tell whose clock
// is off).
func TestClockThatJumpsBack(t *testing.T) {
	w := newWorld(t)
	w.seen()
	w.s.Now = w.s.Now.Add(24 * time.Hour)
	long := w.drain("cluster/fra")
	long.For = 72 * time.Hour
	w.do(long)
	w.s.Now = w.s.Now.Add(-24 * time.Hour)
	for _, c := range []Command{w.drain("service/shop@sin"), {Verb: Undrain, Scope: "cluster/fra"}} {
		before := w.s.Plan
		w.do(c)
		if err := Check(before, w.s.Plan); err != nil {
			t.Errorf("%s %s: %v", c.Verb, c.Scope, err)
		}
	}
}

// TestClockOfStep: a step whose instant a clock has said that was ahead is waited for; to say
// the drain again is all it takes to end that.
func TestClockOfStep(t *testing.T) {
	w := newWorld(t)
	w.seen()
	w.s.Now = w.s.Now.Add(48 * time.Hour)
	w.do(w.paced("cluster/fra", 10, 100))
	w.s.Now = w.s.Now.Add(-48 * time.Hour)
	before := w.s.Plan
	w.do(w.paced("cluster/fra"))
	if err := Check(before, w.s.Plan); err != nil {
		t.Error(err)
	}
	if got := w.next(30 * time.Second); got != "drain cluster/fra: step 2 of 3, 10 % moved" {
		t.Errorf("got %q, waits for %q", got, w.waits())
	}
}

// TestNumbersEnd: a rogue director cannot take the last revision that there is, after which
// nobody could undo it (S7; TestRoguePlans found it).
func TestNumbersEnd(t *testing.T) {
	w := newWorld(t)
	for _, tc := range []struct {
		epoch, revision uint64
		ok              bool
	}{
		{1, 2, true}, {1, 1 << 20, true}, {2, 1 << 40, true}, {1, 1 << 40, false}, {1, math.MaxUint64, false}, {2, math.MaxUint64, false}, {math.MaxUint64, 2, false},
	} {
		p := proto.CloneOf(w.s.Plan.Plan)
		p.Epoch, p.Revision, p.Parent = tc.epoch, tc.revision, w.s.Plan.Identity.Hash[:]
		next, err := plan.Sign(p, "d1", keyOf("d1"))
		if err != nil {
			t.Fatal(err)
		}
		if err := Check(w.s.Plan, next); (err == nil) != tc.ok {
			t.Errorf("%d.%d: %v", tc.epoch, tc.revision, err)
		}
	}
}
