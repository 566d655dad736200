package core

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
)

// TestEmergencyWithheld (S7, S18): a director that kept an operator's word back, or repeats
// one of which the plan knows nothing any more, drains nothing by it once it was said more
// than a day ago, whatever age it tells; a clock that is hours off matters not (F15). A word
// that a person brings is refused then, and not said to have been taken.
func TestEmergencyWithheld(t *testing.T) {
	w := lists(t, "ops")
	for _, tc := range []struct {
		since time.Duration
		left  bool
	}{{-23 * time.Hour, true}, {0, true}, {23 * time.Hour, true}, {25 * time.Hour, false}, {40 * 24 * time.Hour, false}} {
		said := w.s.Now.Add(-tc.since)
		word := w.word("ops", 1, "e1", "cluster/fra", func(e *plan.Emergency) { e.Said = timestamppb.New(said) })
		var e Emergencies
		if unheard, err := e.Hear(w.s.Plan.Plan, word.Raw, w.s.Now, w.s.Now); err != nil {
			t.Fatalf("after %s: %s: %v", tc.since, unheard, err)
		}
		e.Claim(word.Sum, "d2", 0, w.s.Now)
		if left := e.Told(w.s.Now)[0].Left > 0; left != tc.left {
			t.Errorf("said %s ago, and has time left: %t, want %t", tc.since, left, tc.left)
		}
		var brought Emergencies
		if err := brought.Room(w.s.Plan.Plan, word, w.s.Now, w.s.Now); (err == nil) != tc.left {
			t.Errorf("brought %s after it was said: %v", tc.since, err)
		}
	}
}

// TestEmergencyEndedByAnother (S18): a drain that the plan has settled by its end alone, which
// was another operator's, is not in force again: neither while the plan remembers that, nor
// from then on where it is told anew, nor from a disk whose clock is hours behind.
func TestEmergencyEndedByAnother(t *testing.T) {
	w := lists(t, "ops", "two")
	drain := w.word("ops", 1, "e1", "cluster/fra", func(e *plan.Emergency) { e.Said = timestamppb.New(w.s.Now) })
	end := w.word("two", 2, "u1", "cluster/fra", ends("e1"), func(e *plan.Emergency) { e.Said = timestamppb.New(w.s.Now) })
	var late Emergencies // of a director that was off all the time
	late.Add(drain, w.s.Now)
	disk := late.Encode(Judge(w.s, late.Told(w.s.Now)), w.s.Now)
	note := func(word *plan.Word) {
		w.s.Plan.Plan.Revision++
		work := begin(w.s, Command{Verb: Settle, Settling: &Settling{Word: word}})
		work.note(word)
		next := *w.s.Plan
		next.Plan = work.next
		w.s.Plan = &next
	}
	note(end)
	began := w.s.Now
	for hours := range 75 {
		now := began.Add(time.Duration(hours) * time.Hour)
		w.s.Now = now
		if hours%5 == 0 { // others are noted, so that what is old goes
			note(w.word("two", uint64(hours+3), "x"+now.Format("150405"), "cluster/nyc"))
		}
		var heard, again Emergencies
		if _, err := heard.Hear(w.s.Plan.Plan, drain.Raw, now, now); err == nil && heard.Told(now)[0].Left > 0 {
			t.Errorf("%d h after, told anew it is in force", hours)
		}
		if _, err := again.Decode(disk, now, now.Add(-3*time.Hour)); err != nil {
			t.Fatal(err)
		}
		if again.Forget(w.s.Plan.Plan); again.Len() > 0 && again.Told(now)[0].Left > 0 {
			t.Errorf("%d h after, it is in force from a disk, by a clock 3 h behind", hours)
		}
	}
}
