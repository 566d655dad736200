package core

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
)

// TestWaitCountsFromTheLastAck: a planned drain waits one old TTL after lowering it on the
// last director, and each step its wait after the last one answers by it: until then that
// one has told the old TTL, and the share before (SEMANTICS section 4, Paced; S6).
func TestWaitCountsFromTheLastAck(t *testing.T) {
	w := newWorld(t)
	w.seen()
	w.do(w.paced("cluster/fra", 10, 100))
	late := func(long time.Duration) {
		t.Helper()
		w.seen()
		delete(w.s.Acks, "d3")
		for range int(long / time.Second) {
			if got := w.now(); got != "" || !strings.Contains(w.waits(), "d3 to be heard and to answer by this step") {
				t.Fatalf("without d3: %q, waits for %q", got, w.waits())
			}
			w.s.Now = w.s.Now.Add(time.Second)
		}
		w.seen()
	}
	for _, step := range []struct {
		late, wait   time.Duration
		begins, next string
	}{
		{19 * time.Second, 20 * time.Second, "the drain of cluster/fra: all 3 directors answer by step 1 of 3, its wait of 20s begins", "drain cluster/fra: step 2 of 3, 10 % moved"},
		{10 * time.Minute, 30 * time.Second, "the drain of cluster/fra: all 3 directors answer by step 2 of 3, its wait of 30s begins", "drain cluster/fra: step 3 of 3, 100 % moved"},
	} {
		late(step.late)
		was := proto.CloneOf(w.override("cluster/fra").GetPace())
		if got := w.now(); got != step.begins {
			t.Fatalf("d3 is there: %q, want %q", got, step.begins)
		}
		// It is the same step: nobody needs to acknowledge it anew.
		is := w.override("cluster/fra").GetPace()
		if is.GetRevision() != was.GetRevision() || !is.GetSince().AsTime().Equal(was.GetSince().AsTime()) || is.GetStep() != was.GetStep() || is.GetWrites() != was.GetWrites()+1 {
			t.Fatalf("noted as %v, was %v", is, was)
		}
		w.s.Now = w.s.Now.Add(step.wait - time.Second)
		if got := w.now(); got != "" {
			t.Fatalf("a second before the wait is over: %q", got)
		}
		w.s.Now = w.s.Now.Add(time.Second)
		if got := w.now(); got != step.next {
			t.Fatalf("got %q, want %q", got, step.next)
		}
	}
	w.seen()
	if got := w.now(); w.at("cluster/fra") != "DONE 0" { // which waits for nothing but all
		t.Errorf("%q, %s", got, w.at("cluster/fra"))
	}
}

// TestWaitIsThePlans: from when a wait counts stands in the plan: a new leader neither begins
// it anew nor cuts it short, whatever it has heard itself (F11, S4). One that was written by
// a leader that knows nothing of it is not taken for noted.
func TestWaitIsThePlans(t *testing.T) {
	w := newWorld(t)
	w.seen()
	w.do(w.paced("cluster/fra", 10, 100))
	w.seen()
	due := Due(w.s)
	w.now()
	if c := w.do(due[0]); !c.Noop { // by the one before, which does not know that it is written
		t.Errorf("noted twice: %+v", c)
	}
	next := w.override("cluster/fra").GetPace().GetNext().AsTime()
	w.s.Me, w.s.Acks, w.s.Fresh = "d2", nil, nil // another leads, and has just begun
	w.s.Now = w.s.Now.Add(15 * time.Second)
	w.seen()
	if got := w.now(); got != "" || !w.override("cluster/fra").GetPace().GetNext().AsTime().Equal(next) {
		t.Fatalf("the new leader did %q, next %s and was %s", got, w.override("cluster/fra").GetPace().GetNext().AsTime(), next)
	}
	w.s.Me = "d1" // whose key signs
	if w.s.Now = next; w.now() != "drain cluster/fra: step 2 of 3, 10 % moved" {
		t.Fatalf("at %s", w.at("cluster/fra"))
	}
	if p := w.override("cluster/fra").GetPace(); p.GetAcked() == p.GetRevision() {
		t.Errorf("the next step is taken for acknowledged: %v", p)
	}
}

// TestLoweredMeanwhile: a spec that lowers the TTL does not shorten the wait of those that
// were told the old one before.
func TestLoweredMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.do(Command{Verb: Apply, Objects: edit(t, raws(t, fleetYAML), "GlobalService/shop", `"steering"`, `"ttl":"90s","steering"`)})
	w.seen()
	w.do(w.paced("cluster/fra", 10, 100))
	w.do(Command{Verb: Apply, Objects: raws(t, fleetYAML)})
	w.s.Now = w.s.Now.Add(10 * time.Second)
	w.seen()
	if got := w.now(); !strings.HasSuffix(got, "its wait of 1m30s begins") {
		t.Errorf("got %q", got)
	}
	if o := w.override("cluster/fra"); o.Keep() != plan.Whole {
		t.Errorf("%d left", o.Keep())
	}
}

// TestReturnCountsFromTheLastAck: each step of a return waits from when the last director
// answers by it, as those of a drain do: until then that one's clients were away, and would
// come by two steps at once (SEMANTICS section 4, Complete: restoring is paced too). From
// when it counts is the plan's: a new leader neither begins it anew nor cuts it short (S4,
// F11). Who stays away holds no return up (S18), nor does who comes when that was noted.
func TestReturnCountsFromTheLastAck(t *testing.T) {
	w := newWorld(t)
	w.seen()
	w.do(w.paced("cluster/fra", 10, 50, 100))
	w.next(20 * time.Second)
	for range 3 {
		w.next(30 * time.Second)
	}
	w.do(Command{Verb: Undrain, Scope: "cluster/fra"})
	if w.at("cluster/fra") != "RETURNING 100" {
		t.Fatalf("at %s", w.at("cluster/fra"))
	}
	for _, step := range []struct{ begins, next string }{
		{"the return of cluster/fra: all 3 directors answer by step 1 of 3, its wait of 30s begins", "return of cluster/fra: step 2 of 3, 50 % of its clients are back"},
		{"the return of cluster/fra: all 3 directors answer by step 2 of 3, its wait of 30s begins", "end of the drain of cluster/fra: all its clients are back"},
	} {
		late := func(long time.Duration) {
			t.Helper()
			w.s.Now = w.s.Now.Add(long)
			w.seen()
			delete(w.s.Acks, "d3")
			if got := w.now(); got != "" || !strings.Contains(w.waits(), "d3 to be heard and to answer by this step") {
				t.Fatalf("without d3: %q, waits for %q", got, w.waits())
			}
		}
		late(29 * time.Second)
		w.seen()
		due, was := Due(w.s), proto.CloneOf(w.override("cluster/fra").GetPace())
		if got := w.now(); got != step.begins {
			t.Fatalf("d3 is there: %q, want %q", got, step.begins)
		}
		is := w.override("cluster/fra").GetPace()
		if is.GetRevision() != was.GetRevision() || !is.GetSince().AsTime().Equal(was.GetSince().AsTime()) || is.GetStep() != was.GetStep() || is.GetWrites() != was.GetWrites()+1 {
			t.Fatalf("noted as %v, was %v", is, was)
		}
		if c := w.do(due[0]); !c.Noop { // by a leader that does not know that it is written
			t.Fatalf("noted twice: %+v", c)
		}
		w.s.Me, w.s.Acks, w.s.Fresh = "d2", nil, nil // another leads, and has just begun
		w.s.Now = w.s.Now.Add(30*time.Second - time.Millisecond)
		w.seen()
		if got := w.now(); got != "" || !w.override("cluster/fra").GetPace().GetNext().AsTime().Equal(is.GetNext().AsTime()) {
			t.Fatalf("a moment before the wait is over: %q", got)
		}
		w.s.Me = "d1" // whose key signs
		w.s.Now = w.s.Now.Add(time.Millisecond)
		delete(w.s.Acks, "d3") // it goes when it has answered so, and for long
		if got := w.now(); got != step.next+"; without d3, which may still answer otherwise" {
			t.Fatalf("got %q, want %q", got, step.next)
		}
	}
}
