package core

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/divertdns/divert/director/plan"
)

// TestStalls: a step that is later than three in four of its own were is said to stall.
func TestStalls(t *testing.T) {
	w := newWorld(t)
	for range 4 {
		w.seen()
		w.do(w.paced("cluster/fra", 100))
		w.next(28 * time.Second) // 8 s late
		w.do(Command{Verb: Undrain, Scope: "cluster/fra", Now: true})
	}
	w.seen()
	w.do(w.paced("cluster/fra", 100))
	stalled := func(after time.Duration) bool {
		w.s.Now = w.s.Now.Add(after)
		w.s.Acks = nil
		return Pacing(w.s)[0].Stalled
	}
	if stalled(20*time.Second) || stalled(8*time.Second) || !stalled(time.Second) {
		t.Error("want it to stall past 28 s, which is what its steps took")
	}
	h := historyOf(w.s.Plan.Plan, "cluster/fra")
	if got := fmt.Sprint(h.GetSteps()[0].GetKeep(), h.GetSteps()[0].GetLate(), h.GetMoves()); got != "1000 [8000 8000 8000 8000] [1000]" {
		t.Errorf("history %s", got)
	}
	w.do(Command{Verb: Undrain, Scope: "cluster/fra", Now: true})
	w.seen()
	again := w.drain("cluster/fra")
	again.Paced = true
	w.do(again)
	if got := fmt.Sprint(w.override("cluster/fra").GetPace().GetSteps()); got != "[1000 0]" {
		t.Errorf("steps are not those of the last run: %s", got)
	}
}

// TestHistoryIsBounded: the plan keeps so many scopes and times, and no more.
func TestHistoryIsBounded(t *testing.T) {
	w := &work{next: &plan.Plan{}}
	for i := range 100 {
		scope := fmt.Sprintf("cluster/%d", i)
		w.keepRun(scope, permille(ten), time.Minute)
		for keep := range uint32(100) {
			for range 20 {
				w.keepLate(scope, keep, 30*time.Hour)
			}
		}
	}
	if n := len(w.next.GetPaces()); n != keptScopes || w.next.GetPaces()[n-1].GetScope() != "cluster/99" {
		t.Errorf("%d scopes", n)
	}
	h := w.next.GetPaces()[0]
	if len(h.GetSteps()) != keptSteps || len(h.GetSteps()[0].GetLate()) != keptLate || h.GetSteps()[0].GetLate()[0] != 86_400_000 {
		t.Errorf("%d steps, %v", len(h.GetSteps()), h.GetSteps()[0].GetLate())
	}
}

// TestHistoryGivesWay: in a plan that is as large as may be, what it keeps of drains stops
// neither the next step of one nor its end (S18).
func TestHistoryGivesWay(t *testing.T) {
	w := newWorld(t)
	w.seen()
	w.do(w.paced("cluster/fra", 10, 100))
	brim := w.drain("service/shop@sin")
	for n := MaxManifest - slack - proto.Size(w.s.Plan.Plan); ; n-- {
		brim.Reason = strings.Repeat("x", n)
		if c, err := w.try(brim); err == nil && len(c.Plan.GetPaces()) > 0 {
			w.take(c)
			break
		}
	}
	if got := w.next(20 * time.Second); got != "drain cluster/fra: step 2 of 3, 10 % moved" {
		t.Errorf("got %q", got)
	}
	w.s.Now = w.s.Now.Add(time.Hour)
	w.seen()
	w.do(Due(w.s)[0])
	if got := w.audit[len(w.audit)-1].GetWhat(); !strings.HasPrefix(got, "end drain of ") {
		t.Errorf("got %q", got)
	}
}

// TestHistoryThatIsNone: what a plan says of earlier drains nobody checks, and it makes no
// steps that all would refuse, or that take for ever.
func TestHistoryThatIsNone(t *testing.T) {
	for _, moves := range [][]uint32{{}, {0, 1000}, {500, 100, 1000}, {500, 500, 1000}, {500}, {500, 2000}, make([]uint32, 30)} {
		w := newWorld(t)
		w.seen()
		w.do(w.drain("cluster/fra"))
		w.s.Plan.Plan.Paces = []*plan.PaceHistory{{Scope: "cluster/fra", Moves: moves, Wait: durationpb.New(1000 * time.Hour)}}
		w.s.Now = w.s.Now.Add(time.Hour)
		w.do(Due(w.s)[0])
		p := w.override("cluster/fra").GetPace()
		if got, want := p.GetSteps(), []uint32{0, 10, 50, 250, 500, 1000}; !slices.Equal(got, want) || p.GetWait().AsDuration() != pacedWait {
			t.Errorf("%v: steps %v each %s", moves, got, p.GetWait().AsDuration())
		}
	}
}
