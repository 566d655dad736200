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
		loop.tellMoves(last, next, func(health.Subject) bool { return false })
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

// What never fell has no certificate. It ranks as healthy (S1), so that no line tells of
// it when it is new; and a line about it says of its health what status says, by whoever is
// voted up.
func TestTellMovesOfWhatNeverFell(t *testing.T) {
	l := newLarge(3, 1, true)
	clear(l.states)
	var out bytes.Buffer
	loop := &loop{log: slog.New(slog.NewTextHandler(&out, nil))}
	drained := &plan.Plan{Overrides: []*plan.Override{{Id: "one", Kind: plan.Override_DRAIN, Scope: "service/s000001@c0", Revision: 2}}}
	calm := &plan.Plan{}
	var last steer.Decision
	for _, tc := range []struct {
		name string
		plan *plan.Plan
		up   bool
		want string
	}{
		{"new, and not probed yet", calm, false, ""},
		{"again, and voted up", calm, true, ""},
		{"drained", drained, true, "service=s000001 cluster=c0 health=healthy serving=false drain=one"},
		{"the drain ends, and nobody sees it", calm, false, "service=s000001 cluster=c0 health=unknown serving=true"},
	} {
		next := l.decider.Decide(steer.Input{Spec: l.f.spec, Plan: tc.plan, States: l.states, Places: l.places})
		out.Reset()
		loop.tellMoves(last, next, func(health.Subject) bool { return tc.up })
		last = next
		if got := out.String(); tc.want == "" && got != "" || !strings.Contains(got, tc.want) || strings.Count(got, "\n") > 1 {
			t.Errorf("%s: got %q, want one line with %q", tc.name, got, tc.want)
		}
		for i, s := range next.Services[1].Sites() { // as status gets it
			if h := next.Services[1].Health(i, func(health.Subject) bool { return tc.up }).String(); s.Cluster == "c0" && tc.want != "" && !strings.Contains(out.String(), "health="+h+" ") {
				t.Errorf("%s: status says %s", tc.name, h)
			}
		}
	}
}

// Of more endpoints than there are lines for, none is said to be unknown that status may
// call healthy.
func TestTellMovesOfManyThatNeverFell(t *testing.T) {
	l := newLarge(maxLines+20, 1, false)
	clear(l.states)
	var out bytes.Buffer
	loop := &loop{log: slog.New(slog.NewTextHandler(&out, nil))}
	drained := &plan.Plan{Overrides: []*plan.Override{{Id: "one", Kind: plan.Override_DRAIN, Scope: "cluster/c0", Revision: 2}}}
	first := l.decider.Decide(steer.Input{Spec: l.f.spec, Plan: &plan.Plan{}, States: l.states, Places: l.places})
	second := l.decider.Decide(steer.Input{Spec: l.f.spec, Plan: drained, States: l.states, Places: l.places})
	loop.tellMoves(first, second, func(health.Subject) bool { return true })
	if got := out.String(); strings.Contains(got, "unknown") || !strings.Contains(got, "cluster=c0 serving=false services=20") {
		t.Errorf("got %s", got[max(0, len(got)-400):])
	}
}

// A line of a transition names the probe as people know it, and where.
func TestTransitionIsNamed(t *testing.T) {
	_, n := standing(t)
	var out bytes.Buffer
	n.log = slog.New(slog.NewTextHandler(&out, nil))
	svc := n.horizon.current().spec.Service("pay")
	var certs []health.Certificate
	for _, of := range steer.Subjects(svc, svc.Endpoints[0].Addresses[0]) {
		certs = append(certs, health.Certificate{Subject: of.Subject, N: 1, Reason: "timeout"})
	}
	certs = append(certs, health.Certificate{Subject: health.Gray(certs[0].Subject.Addr), N: 1})
	gone := health.Subject{Kind: health.KindCheck, Addr: certs[0].Subject.Addr, Def: "0123456789abcdef"}
	certs = append(certs, health.Certificate{Subject: gone, N: 1})
	n.transitions(certs, "judged")
	for _, want := range []string{
		`probe="fast :8080" address=192.0.2.1 to=down n=1 why=timeout how=judged`, `probe="http :8080/healthz" address=192.0.2.1 to=down`,
		`probe="gray :8080" address=192.0.2.1 `, `probe="check :8080 that the spec does not have" address=192.0.2.1 `,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got %s, want %s in it", &out, want)
		}
	}
	for _, c := range certs {
		if c.Subject.Def != "" && strings.Contains(out.String(), c.Subject.Def) {
			t.Errorf("%s is named by its definition's hash", c.Subject)
		}
	}
}
