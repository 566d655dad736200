//go:build linux

package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func sampleRound(fault string, d1, d2, rival time.Duration) round {
	return round{Fault: fault, Changed: map[string]time.Duration{"d1": d1, "d2": d2, "gdnsd": rival}}
}

// TestReport: rounds in which the machine stood still do not count, first and last are
// of the directors, and a rival that is sooner is named.
func TestReport(t *testing.T) {
	r := report{Directors: 2, Rounds: []round{
		sampleRound("F1", 300*time.Millisecond, 500*time.Millisecond, 2*time.Second),
		sampleRound("F1", 310*time.Millisecond, 700*time.Millisecond, 600*time.Millisecond),
		sampleRound("F1", 5*time.Second, 5*time.Second, 5*time.Second),
		sampleRound("F3", time.Second, 3*time.Second, 2*time.Second),
	}}
	r.Rounds[2].Stalled = true
	r.finish(&lab{dog: &watchdog{}, rivals: []*rival{{name: "gdnsd"}}})
	if got := len(r.Summary); got != 6 { // two faults, three columns
		t.Fatalf("got %d lines, want 6: %+v", got, r.Summary)
	}
	first, last, rival := r.Summary[0], r.Summary[1], r.Summary[2]
	if first.Counted != 2 || first.Stalled != 1 {
		t.Errorf("got %d counted, %d stalled, want 2 and 1", first.Counted, first.Stalled)
	}
	if first.Quantiles[2].Value != 310*time.Millisecond || last.Quantiles[2].Value != 700*time.Millisecond || rival.Sooner != 1 {
		t.Errorf("got first %v, last %v, sooner %d", first.Quantiles, last.Quantiles, rival.Sooner)
	}
	slower := strings.Join(r.slower(), "\n")
	if !strings.Contains(slower, "F3 p99: 3000 ms, gdnsd 2000 ms") || strings.Contains(slower, "F1 p99") {
		t.Errorf("slower: got %q, want F3 alone", slower)
	}
	var out bytes.Buffer
	r.print(&out)
	if !strings.Contains(out.String(), "SLOWER: F3") {
		t.Errorf("printed:\n%s", out.String())
	}
}

// TestJudge: what may not be on any machine fails a run, and times do not.
func TestJudge(t *testing.T) {
	good := func() *report {
		return &report{
			Directors: 2, Rounds: []round{sampleRound("F1", time.Second, 9*time.Second, never)},
			Watched: []watched{{Fault: "F4", Moves: map[string]int{"gdnsd": 7}}},
			Flaps:   &flaps{First: time.Second, Back: 11 * time.Second, Again: time.Second, Damped: true},
		}
	}
	for name, tc := range map[string]struct {
		spoil func(r *report)
		want  string
	}{
		"good":                       {func(*report) {}, ""},
		"a death that moved nothing": {func(r *report) { r.Rounds[0].Changed["d2"] = never }, "F1: the last director's answer changed after never"},
		"a move before the death":    {func(r *report) { r.Rounds[0].Early = []string{"d2"} }, "F1: 1 services moved before they died"},
		"a false move":               {func(r *report) { r.Watched[0].Moves["d1"] = 1 }, "F4: 1 moves"},
		"a wrong answer":             {func(r *report) { r.Watched[0].Note = "WRONG: d2 moved" }, "F4: WRONG"},
		"a return while it flaps":    {func(r *report) { r.Flaps.Returns = 1 }, "F19: a return"},
		"a return too soon":          {func(r *report) { r.Flaps.Back = 9 * time.Second }, "F19: a return"},
		"a fall that is delayed":     {func(r *report) { r.Flaps.Again = never }, "F19: a fall"},
	} {
		r := good()
		tc.spoil(r)
		r.finish(&lab{dog: &watchdog{}})
		err := r.judge()
		if (err == nil) != (tc.want == "") || (err != nil && !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}

// TestStalled: a stall counts against what it overlaps.
func TestStalled(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(0, 0).Add(time.Duration(ms) * time.Millisecond) }
	w := &watchdog{stalls: []span{{at(100), at(130)}, {at(500), at(540)}}}
	for _, tc := range []struct {
		from, to int
		want     bool
	}{{0, 90, false}, {0, 110, true}, {120, 400, true}, {131, 499, false}, {510, 520, true}, {541, 900, false}} {
		if got := w.stalled(at(tc.from), at(tc.to)); got != tc.want {
			t.Errorf("%d to %d: got %v, want %v", tc.from, tc.to, got, tc.want)
		}
	}
}
