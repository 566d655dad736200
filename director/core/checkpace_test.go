package core

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
)

// TestPlansOfPaces: each plan that a drain in steps writes passes what directors hold it
// against, and one whose steps are none, go back, or are skipped does not (S7).
func TestPlansOfPaces(t *testing.T) {
	w := newWorld(t)
	w.seen()
	before := w.s.Plan
	pass := func() {
		t.Helper()
		if err := Check(before, w.s.Plan); err != nil {
			t.Fatalf("%s: %v", w.at("cluster/fra"), err)
		}
		before = w.s.Plan
	}
	w.do(w.paced("cluster/fra", 10, 50, 100))
	pass()
	for range 2 {
		w.next(30 * time.Second)
		pass()
	}
	w.fail("pay", "nyc")
	for range 4 {
		w.next(30 * time.Second)
		pass()
	}
	if w.at("cluster/fra") != "ROLLED_BACK 1000" {
		t.Fatalf("at %s", w.at("cluster/fra"))
	}
	w.heal("pay", "nyc")
	w.seen()
	w.do(w.paced("cluster/fra", 10, 50, 100))
	pass()
	w.next(20 * time.Second)
	pass()

	tests := []struct {
		name string
		edit func(*plan.Pace)
		want string
	}{
		{"as it was", func(*plan.Pace) {}, ""},
		{"the next step", func(p *plan.Pace) { p.Step++ }, ""},
		{"two at once", func(p *plan.Pace) { p.Step += 2 }, "goes from step 2 to 4"},
		{"one back", func(p *plan.Pace) { p.Step-- }, "goes from step 2 to 1"},
		{"an older write", func(p *plan.Pace) { p.Writes-- }, "goes from step 2 to 2"},
		{"none of its steps", func(p *plan.Pace) { p.Step = 9 }, "at a step that it has not"},
		{"to and fro", func(p *plan.Pace) { p.Steps[2] = 990 }, "do not go one way"},
		{"upwards while it leaves", func(p *plan.Pace) { slices.Reverse(p.Steps) }, "do not go one way"},
		{"more than all", func(p *plan.Pace) { p.Steps[0] = 1001 }, "do not go one way"},
		{"more writes than can be counted", func(p *plan.Pace) { p.Writes = 1<<32 - 1 }, "nobody can go on"},
		{"a wait for ever", func(p *plan.Pace) { p.Wait = durationpb.New(1000 * time.Hour) }, "waits 1000h0m0s at each step"},
		{"a wait that is none", func(p *plan.Pace) { p.Wait = durationpb.New(-time.Hour) }, "waits -1h0m0s at each step"},
		{"due in a year", func(p *plan.Pace) { p.Next = timestamppb.New(w.s.Now.Add(9000 * time.Hour)) }, "due later than a step may be"},
		{"due at no time", func(p *plan.Pace) { p.Next = &timestamppb.Timestamp{Seconds: 1 << 62} }, "due later than a step may be"},
		{"done too soon", func(p *plan.Pace) { p.State = plan.Pace_DONE }, "said to be DONE, and its scope has 90 %"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			next := proto.CloneOf(w.s.Plan.Plan)
			next.Revision++
			next.Parent = w.s.Plan.Identity.Hash[:]
			for _, o := range next.GetOverrides() {
				tc.edit(o.GetPace())
			}
			sealed, err := plan.Sign(next, "d1", keyOf("d1"))
			if err != nil {
				t.Fatal(err)
			}
			err = Check(w.s.Plan, sealed)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
