package core

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/plan"
)

func identity(epoch, revision uint64) plan.Identity {
	return plan.Identity{Fleet: "fleet-1", Epoch: epoch, Revision: revision, Hash: plan.Hash{byte(epoch), byte(revision)}}
}

// TestAcked: a plan is acknowledged when it is on the disk and in the table, and no
// higher one is known (S3, S6).
func TestAcked(t *testing.T) {
	one, two := identity(1, 1), identity(1, 2)
	tests := []struct {
		name string
		h    Horizon
		want plan.Identity
	}{
		{"nothing", Horizon{}, plan.Identity{}},
		{"in force and on disk", Horizon{Force: one, Saved: one, Highest: one}, one},
		{"in force, not on disk", Horizon{Force: two, Saved: one, Highest: two}, plan.Identity{}},
		{"behind what is known here", Horizon{Force: one, Saved: one, Highest: two}, plan.Identity{}},
		{"behind what a peer names", Horizon{Force: one, Saved: one, Highest: one, Peers: map[string]plan.Identity{"d2": two}}, plan.Identity{}},
		{"a peer that is behind", Horizon{Force: two, Saved: two, Highest: two, Peers: map[string]plan.Identity{"d2": one}}, two},
		{"a peer of another fleet", Horizon{Force: one, Saved: one, Highest: one, Peers: map[string]plan.Identity{"d2": {Fleet: "other", Epoch: 9}}}, one},
		{"it may have had a newer one", Horizon{Force: one, Saved: one, Highest: one, Blank: true}, plan.Identity{}},
		{"its newest generation lost", Horizon{Force: one, Saved: one, Highest: one, Lost: true}, plan.Identity{}},
	}
	for _, tc := range tests {
		if got := tc.h.Acked(); got != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
	}
}

// TestForgotten: who has lost what its disk held, or may have, acknowledges the store's
// plan only once all of the others have been heard, and the store, which may hold what none of
// them learnt of, or most of them for long enough, and
// writes nothing before that (S3, F25).
func TestForgotten(t *testing.T) {
	one, two := identity(1, 1), identity(1, 2)
	second := func(n time.Duration) time.Duration { return n * time.Second }
	tests := []struct {
		name   string
		others int
		stored plan.Identity
		peers  map[string]plan.Identity
		rests  []time.Duration // between one time that it listens and the next
		acked  bool
		hasty  bool
	}{
		{"the store alone says so", 3, one, nil, nil, false, true},
		{"one of three others", 3, one, map[string]plan.Identity{"d2": one}, nil, false, true},
		{"all others", 3, one, map[string]plan.Identity{"d2": one, "d3": one, "d4": one}, nil, true, false},
		{"all others, and the store holds more", 3, two, map[string]plan.Identity{"d2": one, "d3": one, "d4": one}, nil, false, true},
		{"all others, and no store", 3, plan.Identity{}, map[string]plan.Identity{"d2": one, "d3": one, "d4": one}, beats(Patience - second(1)), false, true},
		{"all others, and no store for long", 3, plan.Identity{}, map[string]plan.Identity{"d2": one, "d3": one, "d4": one}, beats(Patience), true, false},
		{"all others, and one has more", 3, one, map[string]plan.Identity{"d2": one, "d3": one, "d4": two}, nil, false, false},
		{"most, for long enough", 3, one, map[string]plan.Identity{"d2": one, "d3": one}, beats(Patience), true, false},
		{"most, for long enough, and one has more", 3, one, map[string]plan.Identity{"d2": one, "d3": two}, beats(Patience), false, false},
		{"most, not for long", 3, one, map[string]plan.Identity{"d2": one, "d3": one}, beats(Patience - second(1)), false, true},
		{"most, asleep for long", 3, one, map[string]plan.Identity{"d2": one, "d3": one}, []time.Duration{second(1), second(60)}, false, true},
		{"most, and the store holds another", 3, two, map[string]plan.Identity{"d2": one, "d3": one}, beats(Patience), false, false},
		{"most, and no store", 3, plan.Identity{}, map[string]plan.Identity{"d2": one, "d3": one}, beats(Patience), false, false},
		{"half (S8): a command is taken, none is acknowledged", 3, one, map[string]plan.Identity{"d2": one}, beats(Patience), false, false},
		{"alone in the roster", 0, one, nil, nil, true, false},
		{"alone, and no store", 0, plan.Identity{}, nil, nil, false, false},
	}
	for _, tc := range tests {
		for _, h := range []Horizon{{Lost: true}, {Blank: true}} {
			h.Force, h.Saved, h.Highest, h.Stored = one, one, one, tc.stored
			there, now := map[string]bool{}, time.Unix(0, 0)
			for name, id := range tc.peers {
				h.SetPeer(name, id)
				there[name] = true
			}
			h.Hear(tc.others, there, now)
			for _, rest := range tc.rests {
				now = now.Add(rest)
				h.Hear(tc.others, there, now)
			}
			if got := h.Acked() == one; got != tc.acked {
				t.Errorf("%s: acknowledged %t, want %t", tc.name, got, tc.acked)
			}
			if got := h.Hasty(); got != tc.hasty || h.Unsure() != got {
				t.Errorf("%s: hasty %t, want %t; unsure %t", tc.name, got, tc.hasty, h.Unsure())
			}
		}
	}
	for _, h := range []Horizon{{Blank: true}, {Lost: true}} {
		if h.Hasty() {
			t.Error("who has no plan in force has nothing that could be old")
		}
		if !h.Unsure() {
			t.Error("who has no plan in force takes the store's for the newest (S3, F25)")
		}
		if h.Found(); h.Unsure() {
			t.Error("who began the fleet is not sure of it")
		}
	}
}

// beats are the seconds of a while.
func beats(long time.Duration) []time.Duration {
	return slices.Repeat([]time.Duration{time.Second}, int(long/time.Second))
}

// TestForeign: a store that is empty, older, another fleet's, or that has another plan of
// the same order, is not written to (F25).
func TestForeign(t *testing.T) {
	other := identity(1, 2)
	other.Hash[5] = 1
	tests := []struct {
		known, found plan.Identity
		want         string // "" = it may be written to
	}{
		{plan.Identity{}, plan.Identity{}, ""},
		{plan.Identity{}, identity(1, 2), ""},
		{identity(1, 2), identity(1, 2), ""},
		{identity(1, 2), identity(1, 3), ""},
		{identity(1, 2), identity(2, 3), ""},
		{identity(1, 2), plan.Identity{}, "empty"},
		{identity(1, 2), identity(1, 1), "older"},
		{identity(2, 1), identity(1, 9), "older"},
		{identity(1, 2), other, "another plan"},
		{identity(1, 2), plan.Identity{Fleet: "other", Epoch: 3, Revision: 3}, "belongs to"},
	}
	for _, tc := range tests {
		if got := Foreign(tc.known, tc.found); (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
			t.Errorf("known %v, found %v: got %q, want %q", tc.known, tc.found, got, tc.want)
		}
	}
}

// TestStewardship: a leader that is unfit does nothing, and resigns after a session's
// life, once; one that is fit again in between does not (SEMANTICS, Session).
func TestStewardship(t *testing.T) {
	var s Stewardship
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for second, tc := range []struct {
		leads          bool
		why            string
		duties, resign bool
	}{
		{leads: false, why: "isolated"},
		{leads: true, duties: true},
		{leads: true, why: "isolated"}, // since 2 s
		{leads: true, why: "isolated"},
		{leads: true, duties: true},
		{leads: true, why: "isolated"}, // since 5 s
		{leads: true, why: "clock"},
		{leads: true, why: "clock"},
		{leads: true, why: "clock"},
		{leads: true, why: "clock"},
		{leads: true, why: "clock", resign: true},
		{leads: true, why: "clock"}, // anew
	} {
		duties, resign := s.Look(tc.leads, tc.why, start.Add(time.Duration(second)*time.Second))
		if duties != tc.duties || resign != tc.resign {
			t.Errorf("second %d: duties %v, resigns %v; want %v, %v", second, duties, resign, tc.duties, tc.resign)
		}
	}
}

// TestHolds: who has acknowledged a later plan has the earlier one's changes (S6).
func TestHolds(t *testing.T) {
	for _, tc := range []struct {
		acked, id plan.Identity
		want      bool
	}{
		{plan.Identity{}, identity(1, 1), false},
		{identity(1, 1), identity(1, 1), true},
		{identity(1, 2), identity(1, 1), true},
		{identity(1, 1), identity(1, 2), false},
		{identity(1, 9), identity(2, 1), false},
		{identity(1, 2), plan.Identity{Epoch: 1, Revision: 2}, true},
		{plan.Identity{Fleet: "other", Epoch: 9}, identity(1, 1), false},
	} {
		if got := Holds(tc.acked, tc.id); got != tc.want {
			t.Errorf("acknowledged %v, asked for %v: got %v", tc.acked, tc.id, got)
		}
	}
}
