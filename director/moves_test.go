package director

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// One line for what moves together, and one for each that moves by itself: a drain
// of one service, and its end, when it is decided with the others again.
func TestTellMoves(t *testing.T) {
	l := newLarge(20, 1, true)
	var out bytes.Buffer
	loop := &loop{log: slog.New(slog.NewTextHandler(&out, nil))}
	drained := &plan.Plan{Overrides: []*plan.Override{{Id: "one", Kind: plan.Override_DRAIN, Scope: "service/s000007@c0", Revision: 2}}}
	calm := &plan.Plan{}
	var last steer.Decision
	for _, tc := range []struct {
		name  string
		plan  *plan.Plan
		state health.State
		want  []string // of each line
	}{
		{"first", calm, health.Up, nil},
		{"again", calm, health.Up, nil},
		{"a cluster falls", calm, health.Down, []string{"service=s000000 cluster=c3 health=failed serving=false"}},
		{"it returns", calm, health.Up, []string{"service=s000000 cluster=c3 health=healthy serving=true"}},
		{"one is drained", drained, health.Up, []string{"service=s000007 cluster=c0 health=healthy serving=false drain=one"}},
		{"all fall, the drained too", drained, health.Down, []string{"service=s000000 cluster=c3", "service=s000007 cluster=c3"}},
		{"they return", drained, health.Up, []string{"service=s000000 cluster=c3", "service=s000007 cluster=c3"}},
		{"the drain ends", calm, health.Up, []string{`service=s000007 cluster=c0 health=healthy serving=true drain=""`}},
	} {
		l.flip(3, tc.state)
		next := l.decider.Decide(steer.Input{Spec: l.f.spec, Plan: tc.plan, States: l.states, Places: l.places})
		out.Reset()
		loop.tellMoves(last, next)
		last = next
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if out.Len() == 0 {
			lines = nil
		}
		if len(lines) != len(tc.want) {
			t.Errorf("%s: got %d lines, want %d:\n%s", tc.name, len(lines), len(tc.want), out.String())
			continue
		}
		for i, want := range tc.want {
			if !strings.Contains(lines[i], want) {
				t.Errorf("%s: got %s, want %s in it", tc.name, lines[i], want)
			}
		}
	}
}
