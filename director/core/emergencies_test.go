package core

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/divertdns/divert/director/plan"
)

// TestEmergencyAges: a word lasts as long as it says from when it was heard, and no longer
// whatever others say; the second eldest of what they say shortens it, one alone only where
// nobody else has spoken; the wall clock takes no part (F15: a clock is never asked).
func TestEmergencyAges(t *testing.T) {
	w := lists(t, "ops")
	now := time.Now()
	tests := []struct {
		name   string
		lasts  time.Duration
		claims []time.Duration // of d2, d3, …
		heard  time.Duration   // ago
		want   time.Duration   // left
	}{
		{"just heard", time.Hour, nil, 0, time.Hour},
		{"heard a while ago", time.Hour, nil, 20 * time.Minute, 40 * time.Minute},
		{"for half an hour", 30 * time.Minute, nil, 20 * time.Minute, 10 * time.Minute},
		{"late: whoever brings it says how old it is", time.Hour, []time.Duration{50 * time.Minute}, 0, 10 * time.Minute},
		{"over where it was said", 30 * time.Minute, []time.Duration{time.Hour}, 0, -30 * time.Minute},
		{"one liar of several ends nothing", time.Hour, []time.Duration{time.Hour, 0, 0}, time.Minute, 59 * time.Minute},
		{"two agree", time.Hour, []time.Duration{40 * time.Minute, 50 * time.Minute, 0}, 0, 20 * time.Minute},
		{"nobody prolongs it", time.Hour, []time.Duration{0, 0, 0}, 50 * time.Minute, 10 * time.Minute},
		{"more than an hour is none", time.Hour, []time.Duration{100 * time.Hour}, 0, 0},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			var e Emergencies
			word := w.word("ops", 1, "e1", "cluster/fra", func(e *plan.Emergency) { e.Lasts = durationpb.New(tc.lasts) })
			e.Add(word, now.Add(-tc.heard))
			for i, c := range tc.claims {
				e.Claim(word.Sum, fmt.Sprintf("d%d", i+2), c, now)
			}
			if got := e.Told(now)[0].Left; got != tc.want {
				t.Errorf("%s left, want %s", got, tc.want)
			}
		})
	}
}

// TestEmergencyRestart: over a restart a word goes on with the age that it had and a little
// more, never less, however often: a director that starts each few seconds does not go on
// for ever. What ended stays ended.
func TestEmergencyRestart(t *testing.T) {
	w := lists(t, "ops")
	now := w.s.Now
	word := w.word("ops", 1, "e1", "cluster/fra")
	end := w.word("ops", 3, "u2", "cluster/nyc", ends("e2"))
	ended := w.word("ops", 2, "e2", "cluster/nyc")
	var e Emergencies
	for _, x := range []*plan.Word{word, ended, end} {
		e.Add(x, now)
	}
	now = now.Add(10 * time.Minute)
	judged := Judge(w.s, e.Told(now))
	starts := 0
	for ; e.Told(now)[0].Left > 0; starts++ {
		raw := e.Encode(judged, now)
		now = now.Add(time.Minute) // off for so long: that does not count
		var next Emergencies
		inForce, err := next.Decode(raw, now, now)
		if err != nil || next.Len() != 3 || !inForce[word.Sum] || inForce[ended.Sum] {
			t.Fatalf("start %d: %d words, in force %v: %v", starts, next.Len(), inForce, err)
		}
		if was, is := e.Age(word.Sum, now.Add(-time.Minute)), next.Age(word.Sum, now); is < was+EmergencyPenalty-time.Second {
			t.Fatalf("start %d: its age was %s and is %s", starts, was, is)
		}
		e = next
		if got := comes(Judge(w.s, e.Told(now))); starts == 0 && got != "e1 in force, e2 undrained, u2 ends another" {
			t.Fatalf("after a start: %s", got)
		}
	}
	if most := int(50 * time.Minute / EmergencyPenalty); starts > most+1 {
		t.Errorf("over after %d starts, want %d at most", starts, most)
	}
}

// TestEmergencyLaidStill (S18): a disk that lay in a drawer drains nothing, at its own
// director or at those that it tells, but for a clock that is no more than hours off.
func TestEmergencyLaidStill(t *testing.T) {
	w := lists(t, "ops")
	var e Emergencies
	word := w.word("ops", 1, "e1", "cluster/fra")
	e.Add(word, w.s.Now)
	raw := e.Encode(Judge(w.s, e.Told(w.s.Now)), w.s.Now)
	for _, tc := range []struct {
		off  time.Duration
		left bool
	}{{-365 * 24 * time.Hour, true}, {23 * time.Hour, true}, {25 * time.Hour, false}, {30 * 24 * time.Hour, false}} {
		var next Emergencies
		now := w.s.Now.Add(tc.off)
		inForce, err := next.Decode(raw, now, now)
		if left := next.Told(now)[0].Left > 0; err != nil || left != tc.left || inForce[word.Sum] != tc.left {
			t.Errorf("after %s: left %t, in force %t: %v", tc.off, left, inForce[word.Sum], err)
		}
		if age := next.Age(word.Sum, now); !tc.left && age < plan.MaxEmergency {
			t.Errorf("after %s it tells others that its age is %s", tc.off, age)
		}
	}
}

// TestEmergencyRoom: of one operator so many words are kept, the highest; what is below
// them is refused, so that nothing that was forgotten comes back, and nobody's words put
// out another's.
func TestEmergencyRoom(t *testing.T) {
	w := lists(t, "ops", "two")
	var e Emergencies
	now := time.Now()
	other := w.word("two", 1, "t1", "cluster/sin")
	e.Add(other, now)
	var first *plan.Word
	for i := range 2 * MaxWords {
		word := w.word("ops", uint64(i+1), fmt.Sprintf("e%d", i+1), "cluster/fra")
		if first == nil {
			first = word
		}
		if !e.Add(word, now) {
			t.Fatalf("word %d is refused", i+1)
		}
	}
	if e.Add(first, now) {
		t.Error("the first one came back")
	}
	if e.Len() != MaxWords+1 || e.Word(other.Sum) == nil {
		t.Errorf("%d words, another operator's among them: %t", e.Len(), e.Word(other.Sum) != nil)
	}
	if out := e.Displaces(first); out == nil || out.GetCounter() != MaxWords+1 {
		t.Errorf("a further one puts out %v", out)
	}
}

func FuzzDecodeEmergencies(f *testing.F) {
	w := lists(f, "ops")
	var e Emergencies
	now := time.Now()
	e.Add(w.word("ops", 1, "e1", "cluster/fra"), now)
	f.Add(e.Encode(nil, now))
	f.Add([]byte{8, 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var e Emergencies
		if _, err := e.Decode(raw, now, now); err != nil {
			return
		}
		var again Emergencies
		if _, err := again.Decode(e.Encode(nil, now), now, now); err != nil || again.Len() != e.Len() {
			t.Errorf("%d words, then %d: %v", e.Len(), again.Len(), err)
		}
	})
}
