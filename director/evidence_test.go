package director

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// evidenceOf gives what a node judges the sites of pay by.
func evidenceOf(t *testing.T, n *node) (out []api.Evidence) {
	t.Helper()
	var sites []siteEvidence
	_ = n.inspect(n.mesh.ctx, func(now time.Time) {
		sites = n.evidence(n.horizon.current(), &n.decision.Services[0], now)
	})
	return proved(sites, n.verify())
}

// said writes down what each director says of a subject.
func said(s api.SubjectEvidence) string {
	var out []string
	for _, w := range s.Words {
		word := w.Word
		if !w.Counted {
			word = "(" + w.LeftOut + ")"
		}
		out = append(out, w.Director+" "+word)
	}
	return strings.Join(out, ", ")
}

// TestEvidence: what one director alone suspects is its suspicion, capped, and no more
// (F6, S7); a fall names whose votes proved it; whoever is left out is named, with why.
func TestEvidence(t *testing.T) {
	inBubble(t, func(t *testing.T, m *mesh) {
		signal := func(of int, n *node) api.SubjectEvidence { return evidenceOf(t, n)[of].Subjects[0] }

		m.nodes[0].set("192.0.2.1", true)
		time.Sleep(20 * time.Second)
		q := health.QuorumOf(core.Voters(m.nodes[0].horizon.current().sealed.Plan), 0)
		for i, n := range m.nodes {
			e := signal(0, n)
			if said(e) != "d1 down, d2 up, d3 up" || e.Weight != hundredths(q.Cap()) || e.Cap != e.Weight || e.Needed != hundredths(q.Theta()) || e.Next != "down" || len(e.Voters) > 0 {
				t.Errorf("at %s, one cannot reach it: got %+v", n.name, e)
			}
			if why := e.Words[0].Why; strings.HasPrefix(why, "connection refused") != (i == 0) {
				t.Errorf("at %s: d1 is said to say so for %q: only it knows why", n.name, why)
			}
		}

		m.nodes[1].set("192.0.2.1", true)
		time.Sleep(2 * time.Second)
		proofs := 0
		for _, n := range m.nodes {
			site := evidenceOf(t, n)[0]
			e := site.Subjects[0]
			if site.Health != steer.Failed.String() || e.State != "down" || e.Transition != 1 || e.Next != "up" || e.Votes != q.Votes || e.Since == nil {
				t.Errorf("at %s, two cannot: got %+v", n.name, site)
			}
			// Whom their votes reached late adopts what both have in force, without a proof.
			switch got := fmt.Sprint(e.Voters); {
			case got == "[d1 d2]":
				proofs++
			case got != "[]" || !strings.Contains(e.Reason, "have it in force"):
				t.Errorf("at %s: proved by %s (%s), want d1 and d2", n.name, got, e.Reason)
			}
			if said(e) != "d1 down, d2 down, d3 down" { // d3 speaks against the return until its wait is over
				t.Errorf("at %s: got %s", n.name, said(e))
			}
		}

		if proofs == 0 {
			t.Error("nobody holds a proof")
		}

		_ = m.nodes[0].inspect(m.ctx, func(time.Time) { m.nodes[0].abstains = func() string { return "it has lost its control points" } })
		m.nodes[1].cut.Store(true)
		time.Sleep(7 * time.Second)
		if got := said(signal(1, m.nodes[2])); got != "d1 (abstains), d2 (silent for 7s), d3 up" {
			t.Errorf("got %s", got)
		}
		if got := said(signal(1, m.nodes[0])); got != "d1 (abstains: it has lost its control points), d2 (silent for 7s), d3 up" {
			t.Errorf("got %s", got)
		}
	})
}

// TestEvidenceOfTheUnassigned: who has no part in a target, and who never spoke, are
// told apart.
func TestEvidenceOfTheUnassigned(t *testing.T) {
	inBubble(t, func(t *testing.T, m *mesh) {
		n := m.nodes[0]
		_ = n.inspect(m.ctx, func(now time.Time) {
			o := health.Opinion{Director: "d2"}
			for _, tc := range []struct {
				o        health.Opinion
				assigned bool
				want     string
			}{
				{o, false, "not assigned"},
				{o, true, "gives no vote"},
				{health.Opinion{Director: "d2", State: health.Down}, true, "stale"},
				{health.Opinion{Director: "d9"}, true, "not heard since"},
				{health.Opinion{Director: "d1"}, false, "not assigned"},
				{health.Opinion{Director: "d1", Why: "not probed since this director stalled: timeout"}, true, "not probed since this director stalled"},
			} {
				if got := n.leftOut(tc.o, tc.assigned, now); !strings.HasPrefix(got, tc.want) {
					t.Errorf("%+v, assigned %v: got %q, want %q", tc.o, tc.assigned, got, tc.want)
				}
			}
		})
	})
}
