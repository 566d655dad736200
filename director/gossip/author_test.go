package gossip

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The window against a dumb twin that remembers every number.
func TestWindowTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w window
		var high uint64
		taken := map[uint64]bool{}
		seq := uint64(1)
		for range rapid.IntRange(1, 300).Draw(t, "n") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				seq = high + 1
			case 1:
				seq = high + rapid.Uint64Range(1, 3*windowSize).Draw(t, "jump")
			case 2:
				seq = max(1, high-min(high, rapid.Uint64Range(0, 2*windowSize).Draw(t, "back")))
			default: // the same again
			}
			want := reason("")
			switch {
			case seq <= high && high-seq >= windowSize:
				want = stale
			case taken[seq]:
				want = replayed
			}
			if got := w.take(seq); got != want {
				t.Fatalf("seq %d at high %d: got %q, want %q", seq, high, got, want)
			}
			taken[seq] = true
			high = max(high, seq)
		}
	})
}

// process sends a heartbeat each 250 ms, as directors do.
type process struct {
	boot     uint64
	instance uint32
	seq      uint64
	from, to time.Duration
}

// played is a timeline of processes that use one key; it returns what became
// of each message, by process and time.
func played(processes ...*process) (func(i int, at time.Duration) reason, func(at time.Duration) string) {
	base := time.Unix(1_800_000_000, 0)
	as := newAuthors()
	id := identity("d1", "", 1)
	fate := map[string]reason{}
	alarm := map[time.Duration]string{}
	for at := time.Duration(0); at < time.Minute; at += 250 * time.Millisecond {
		for i, p := range processes {
			if at < p.from || at >= p.to {
				continue
			}
			p.seq++
			m := &Message{From: "d1", Key: id.Public(), Boot: p.boot, Instance: p.instance, Seq: p.seq}
			fate[fmt.Sprint(i, at)] = as.accept(m, true, base.Add(at))
		}
		alarm[at] = as.alarms(base.Add(at))["d1"]
	}
	return func(i int, at time.Duration) reason {
			why, ok := fate[fmt.Sprint(i, at)]
			if !ok {
				return "not sent"
			}
			return why
		}, func(at time.Duration) string {
			return alarm[at]
		}
}

const end = time.Hour

// F26: a cloned machine. Both are ignored and it alarms, until one is silent.
func TestTwoLiveInstances(t *testing.T) {
	for _, boots := range [][2]uint64{{7, 8}, {8, 8}} {
		fate, alarm := played(
			&process{boot: boots[0], instance: 1, to: 20 * time.Second},
			&process{boot: boots[1], instance: 2, from: 5 * time.Second, to: end},
		)
		if got := fate(0, 4*time.Second); got != "" {
			t.Errorf("boots %v: before the clone: %q", boots, got)
		}
		for _, at := range []time.Duration{7 * time.Second, 15 * time.Second, 19 * time.Second} {
			if a, b := fate(0, at), fate(1, at); a != duplicateInstance || b != duplicateInstance {
				t.Errorf("boots %v at %s: got %q and %q, want both ignored", boots, at, a, b)
			}
			if !strings.Contains(alarm(at), "two live processes") {
				t.Errorf("boots %v at %s: alarm %q", boots, at, alarm(at))
			}
		}
		if got := fate(1, 29*time.Second); got != duplicateInstance {
			t.Errorf("boots %v: 9 s after the other fell silent: %q", boots, got)
		}
		if got := fate(1, 31*time.Second); got != "" {
			t.Errorf("boots %v: 11 s after the other fell silent: %q", boots, got)
		}
		if got := alarm(31 * time.Second); got != "" {
			t.Errorf("boots %v: alarm that stays: %q", boots, got)
		}
	}
}

// The clone is the one that stops: the original stays behind, and says how to
// end that.
func TestOriginalBehindItsClone(t *testing.T) {
	fate, alarm := played(
		&process{boot: 7, instance: 1, to: end},
		&process{boot: 8, instance: 2, from: 5 * time.Second, to: 10 * time.Second},
	)
	if got := fate(0, 30*time.Second); got != stale {
		t.Errorf("got %q, want stale: a lower boot never counts again", got)
	}
	if got := alarm(30 * time.Second); !strings.Contains(got, "Restart the director") {
		t.Errorf("alarm %q", got)
	}
}

// A restart is no clone, even if the last of the old process arrives late (F14).
func TestRestart(t *testing.T) {
	fate, alarm := played(
		&process{boot: 7, instance: 1, to: 5500 * time.Millisecond},
		&process{boot: 8, instance: 2, from: 5 * time.Second, to: end},
	)
	for at := 5 * time.Second; at < time.Minute; at += 250 * time.Millisecond {
		if got := fate(1, at); got != "" {
			t.Fatalf("the new process at %s: %q", at, got)
		}
		if got := alarm(at); got != "" {
			t.Fatalf("alarm at %s: %q", at, got)
		}
	}
	if got := fate(0, 5*time.Second+250*time.Millisecond); got != stale {
		t.Errorf("the old process: %q, want stale", got)
	}
}

// F13, F26: a recording of an old process cannot silence the living one.
func TestRecordingCannotFakeAClone(t *testing.T) {
	tests := []struct {
		name      string
		processes []*process
		living    int
	}{
		{"heard before, played back after the restart", []*process{
			{boot: 7, instance: 1, to: 5 * time.Second},
			{boot: 8, instance: 2, from: 6 * time.Second, to: end},
			{boot: 7, instance: 1, from: 10 * time.Second, to: 15 * time.Second},
		}, 1},
		{"never heard here, played back to a director that has just started", []*process{
			{boot: 8, instance: 2, to: end},
			{boot: 7, instance: 1, from: 10 * time.Second, to: end},
		}, 0},
		{"many old boots", []*process{
			{boot: 20, instance: 2, to: end},
			{boot: 3, instance: 1, from: 10 * time.Second, to: end},
			{boot: 4, instance: 1, from: 11 * time.Second, to: end},
			{boot: 5, instance: 1, from: 12 * time.Second, to: end},
			{boot: 6, instance: 1, from: 13 * time.Second, to: end},
			{boot: 7, instance: 1, from: 14 * time.Second, to: end},
		}, 0},
	}
	for _, tc := range tests {
		fate, _ := played(tc.processes...)
		for at := 10 * time.Second; at < time.Minute; at += 250 * time.Millisecond {
			if got := fate(tc.living, at); got != "" {
				t.Errorf("%s: the living process at %s: %q", tc.name, at, got)
				break
			}
		}
		for i := range tc.processes {
			if got := fate(i, 12*time.Second); i != tc.living && got == "" {
				t.Errorf("%s: the recording counts", tc.name)
			}
		}
	}
}

// Strangers are few, and push out nobody that speaks.
func TestStrangersAreBounded(t *testing.T) {
	as := newAuthors()
	now := time.Unix(1_800_000_000, 0)
	hear := func(i int, registered bool, at time.Time) reason {
		id := identity(fmt.Sprint("d", i), "", 1)
		return as.accept(&Message{From: id.Name, Key: id.Public(), Boot: 1, Instance: 1, Seq: uint64(at.Sub(now)) + 1}, registered, at)
	}
	for i := range 1000 {
		want := reason("")
		if i >= maxStrangers {
			want = unknownDirector
		}
		if got := hear(i, false, now); got != want {
			t.Fatalf("stranger %d: got %q, want %q", i, got, want)
		}
	}
	if got := hear(5000, true, now); got != "" {
		t.Errorf("a registered director beside many strangers: %q", got)
	}
	if got := hear(6000, false, now.Add(time.Minute)); got != "" {
		t.Errorf("a stranger after the others fell silent: %q", got)
	}
	if len(as.byKey) > maxStrangers+1 {
		t.Errorf("%d keys are remembered", len(as.byKey))
	}
}

func TestInboxIsBounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, size := range []int{10, MaxReliable} {
		q := newInbox()
		n := 0
		for q.put(make([]byte, size), now) {
			if n++; n > inboxItems {
				break
			}
		}
		if want := min(inboxItems, inboxOctets/size); n != want {
			t.Errorf("%d octets: took %d, want %d", size, n, want)
		}
		if got := len(q.take()); got != n {
			t.Errorf("%d octets: gave %d back of %d", size, got, n)
		}
		if !q.put(make([]byte, size), now) {
			t.Errorf("%d octets: full after it was emptied", size)
		}
	}
}

func TestBucket(t *testing.T) {
	b := newBucket(10, 2)
	now := time.Unix(1_800_000_000, 0)
	got := ""
	for _, at := range []time.Duration{0, 0, 0, 100 * time.Millisecond, 100 * time.Millisecond, time.Hour, time.Hour, time.Hour} {
		got += fmt.Sprint(b.allow(now.Add(at)), " ")
	}
	if want := "true true false true false true true false "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
