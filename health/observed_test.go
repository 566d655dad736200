package health

import (
	"testing"
	"time"
)

// TestObserved (S17, S18): who is to bring clients back asks what a quorum sees now, also where
// a certificate says that the subject has come back, however long ago.
func TestObserved(t *testing.T) {
	b := newTestBook(3, 1)
	voices := []*voice{newVoice("d2"), newVoice("d3")}
	say := func(n uint64, to State, at time.Time) {
		t.Helper()
		for _, v := range voices {
			if _, err := b.Ballot(v.cast(Vote{Subject: signal(1), N: n, To: to}), at); err != nil {
				t.Fatal(err)
			}
		}
		b.Judge(at)
	}
	seen := func(now time.Duration, want State) {
		t.Helper()
		if got := b.Observed(at(now))[signal(1)]; got != want {
			t.Errorf("after %s, in force %s: seen as %s, want %s", now, b.Chain(signal(1)).State(), got, want)
		}
	}
	seen(0, Unknown)
	say(1, Up, at(time.Second))
	seen(time.Second, Up)
	say(1, Down, at(2*time.Second))
	seen(2*time.Second, Unknown)
	say(2, Up, at(20*time.Second))
	say(3, Up, at(21*time.Second))
	seen(21*time.Second, Up)
	if b.Chain(signal(1)).State() != Up {
		t.Error("it has not come back")
	}
	seen(30*time.Second, Unknown) // nobody has said anything since
	say(3, Up, at(31*time.Second))
	seen(31*time.Second, Up)
}
