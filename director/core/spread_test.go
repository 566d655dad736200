package core

import (
	"fmt"
	"testing"
	"time"

	"github.com/divertdns/divert/director/plan"
)

// TestSpread (L4): whoever does not say that it holds a word is sent it at each look, then
// each five seconds, until it does; and again where it has said nothing for ten seconds. So
// many words go at once.
func TestSpread(t *testing.T) {
	w := lists(t, "ops")
	var e Emergencies
	var s Spread
	now := time.Now()
	word := w.word("ops", 1, "e1", "cluster/fra")
	e.Add(word, now)
	sent := func(d time.Duration) (n int) {
		for end := now.Add(d); now.Before(end); now = now.Add(250 * time.Millisecond) {
			n += len(s.Give(&e, "d2", now))
		}
		return n
	}
	if n := sent(2 * time.Second); n != spreadEager {
		t.Errorf("sent %d times in two seconds", n)
	}
	if n := sent(20 * time.Second); n < 3 || n > 4 {
		t.Errorf("sent %d times in twenty more", n)
	}
	s.Note(&e, "d2", 1, e.Holdings(nil, true, now), now)
	if n := sent(spreadStale); n > 0 {
		t.Errorf("sent %d times to who has it", n)
	}
	if n := sent(2 * time.Second); n == 0 {
		t.Error("not sent to who says nothing of it any more")
	}
	for i := range 20 {
		e.Add(w.word("ops", uint64(i+2), fmt.Sprintf("f%d", i), "cluster/fra"), now)
	}
	if n := len(s.Give(&e, "d3", now)); n != spreadBatch {
		t.Errorf("%d at once", n)
	}
	if gone := s.Keep([]string{"d3"}); len(gone) != 1 || gone[0] != "d2" {
		t.Errorf("forgets %v", gone)
	}
}

// TestSpreadEnded (S18): who lost its disk, or was away, is told of the end of a drain before
// it is told of the drain, however the messages go: it would drain until it has heard both.
func TestSpreadEnded(t *testing.T) {
	w := lists(t, "ops")
	var e, there Emergencies
	var s Spread
	now := time.Now()
	drain, end := w.word("ops", 1, "e1", "cluster/fra"), w.word("ops", 2, "u1", "cluster/fra", ends("e1"))
	e.Add(drain, now)
	e.Add(end, now)
	for range 100 {
		for _, word := range s.Give(&e, "d2", now) {
			if word.Sum != end.Sum {
				t.Fatalf("%s is sent first", word.GetId())
			}
		}
		now = now.Add(250 * time.Millisecond)
	}
	there.Add(end, now)
	s.Note(&e, "d2", 1, there.Holdings(nil, true, now), now)
	var got []*plan.Word
	for range 40 {
		got = append(got, s.Give(&e, "d2", now)...)
		now = now.Add(250 * time.Millisecond)
	}
	if len(got) == 0 || got[0].Sum != drain.Sum {
		t.Errorf("then it is sent %v", got)
	}
}

// oneWord is a director that holds one operator's word.
func oneWord(t *testing.T) (e Emergencies, s Spread, word *plan.Word, now time.Time) {
	t.Helper()
	word, now = lists(t, "ops").word("ops", 1, "e1", "cluster/fra"), time.Now()
	e.Add(word, now)
	return e, s, word, now
}

// TestSpreadAsked (L4): who says what it holds is there, and is sent what it lacks at the next
// look, though it was sent in vain before; one that says so all the time, twice a second.
func TestSpreadAsked(t *testing.T) {
	e, s, _, now := oneWord(t)
	look := func() int {
		now = now.Add(250 * time.Millisecond)
		return len(s.Give(&e, "d2", now))
	}
	for range spreadEager {
		look()
	}
	if look()+look() > 0 {
		t.Fatal("it is sent at each look for longer than is eager")
	}
	s.Note(&e, "d2", 1, nil, now.Add(time.Millisecond))
	if look() != 1 {
		t.Error("not sent to who said that it lacks it")
	}
	if n := look() + look() + look(); n > 0 {
		t.Errorf("sent %d times more for one summary", n)
	}
	n := 0
	for range 40 {
		s.Note(&e, "d2", 1, nil, now)
		n += look()
	}
	if n < 10 || n > 20 {
		t.Errorf("sent %d times in ten seconds to who lacks it all the time", n)
	}
}

// TestSpreadBoot (L4, S18): what a director said as another process says nothing, since it may
// have left its disk behind.
func TestSpreadBoot(t *testing.T) {
	e, s, word, now := oneWord(t)
	s.Note(&e, "d2", 1, e.Holdings(nil, true, now), now)
	now = now.Add(time.Second)
	s.Note(&e, "d2", 1, nil, now) // one part of a longer summary
	if n := len(s.Give(&e, "d2", now)); n > 0 {
		t.Errorf("sent %d words to who has them", n)
	}
	s.Note(&e, "d2", 2, nil, now)
	if _, has := s.Of("d2", word.Sum); has {
		t.Error("it counts as having what it said before it started again")
	}
	if n := len(s.Give(&e, "d2", now)); n != 1 {
		t.Errorf("sent %d words to who has none", n)
	}
}
