package director

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/election"
)

// elected leads until it resigns, and is elected again at once.
type elected struct{ resigned int }

func (e *elected) Status() election.Status { return election.Status{Mine: true} }
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
		{"a plan at a peer", &horizon{store: storeState{ok: true}, peers: map[string]plan.Identity{"d2": some}}, true},
		{"a plan elsewhere", &horizon{store: storeState{ok: true}, highest: some}, true},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &elected{}
				s := &steward{
					campaign: e, horizon: tc.horizon, log: slog.New(slog.DiscardHandler),
					unfit: func(context.Context) string { return "this director hears too few others" },
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
