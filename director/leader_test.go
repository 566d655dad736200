package director

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/election"
)

// elected leads until it resigns, and is elected again at once.
type elected struct {
	resigned int
	waits    bool // it does not lead yet
	stands   []bool
}

func (e *elected) Status() election.Status { return election.Status{Mine: !e.waits} }
func (e *elected) Stand(may bool)          { e.stands = append(e.stands, may) }
func (e *elected) Resign()                 { e.resigned++ }

// TestNoResigningBeforeTheFirstPlan: while a fleet waits for its first plan all
// directors hear too few others, and leadership must not go round between them.
// One that cannot use the plan there is lets another lead.
func TestNoResigningBeforeTheFirstPlan(t *testing.T) {
	some := plan.Identity{Fleet: "f", Epoch: 1, Revision: 1}
	tests := []struct {
		name    string
		horizon *horizon
		resigns bool
	}{
		{"no plan", &horizon{store: storeState{ok: true}}, false},
		{"the store not read", &horizon{}, true},
		{"a plan in the store", &horizon{store: storeState{ok: true, plan: some}}, true},
		{"a plan at a peer", &horizon{store: storeState{ok: true}, ids: core.Horizon{Peers: map[string]plan.Identity{"d2": some}}}, true},
		{"a plan elsewhere", &horizon{store: storeState{ok: true}, ids: core.Horizon{Highest: some}}, true},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &elected{}
				s := &steward{
					campaign: e, horizon: tc.horizon, log: slog.New(slog.DiscardHandler),
					unfit: func(context.Context) (string, bool) { return "this director hears too few others", false },
				}
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				if err := s.run(ctx); err != nil {
					t.Fatal(err)
				}
				if got := e.resigned > 0; got != tc.resigns {
					t.Errorf("resigned %d times, want any: %t", e.resigned, tc.resigns)
				}
			})
		})
	}
}

// TestUnfitStandsNot: who may not lead is no candidate for as long; a leader that is too old
// for the plan in the store gives up at its first look, one that hears too few after a TTL
// (SEMANTICS section 4, Session).
func TestUnfitStandsNot(t *testing.T) {
	begun := &horizon{store: storeState{ok: true, plan: plan.Identity{Fleet: "f", Epoch: 1, Revision: 1}}}
	tests := []struct {
		name     string
		waits    bool // for the leadership
		why      string
		lasting  bool
		after    time.Duration
		stands   bool // the last word
		says     int  // how many
		resigned int
	}{
		{"fit", true, "", false, 3500 * time.Millisecond, true, 3, 0},
		{"too old", true, "too old", true, 3500 * time.Millisecond, false, 3, 0},
		{"isolated", true, "isolated", false, 3500 * time.Millisecond, false, 3, 0},
		{"leads, and is too old", false, "too old", true, 1500 * time.Millisecond, false, 1, 0},
		{"leads, and is isolated for a moment", false, "isolated", false, 4500 * time.Millisecond, true, 0, 0},
		{"leads, and is isolated", false, "isolated", false, 6500 * time.Millisecond, true, 0, 1},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &elected{waits: tc.waits}
				s := &steward{
					campaign: e, horizon: begun, log: slog.New(slog.DiscardHandler),
					unfit: func(context.Context) (string, bool) { return tc.why, tc.lasting },
				}
				ctx, cancel := context.WithTimeout(t.Context(), tc.after)
				defer cancel()
				if err := s.run(ctx); err != nil {
					t.Fatal(err)
				}
				if e.resigned != tc.resigned || len(e.stands) != tc.says || len(e.stands) > 0 && e.stands[len(e.stands)-1] != tc.stands {
					t.Errorf("resigned %d times, stands %v; want %d, and %d times %t", e.resigned, e.stands, tc.resigned, tc.says, tc.stands)
				}
			})
		})
	}
}
