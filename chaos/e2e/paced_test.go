package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/local"
	"github.com/divertdns/divert/director/api"
)

// TestPacedSurvivesKills: a paced drain of ten steps comes to the same end although the
// leader is killed at every one of them, and no step is taken twice (issue 5; F11, F24, S4,
// S6). Nobody who asks is left without an answer meanwhile (S1).
func TestPacedSurvivesKills(t *testing.T) {
	long(t)
	r := start(t, local.Options{})
	r.settle()
	r.pacedThrough(10, "1,2,5,10,20,40,60,80,100", func(leader string) {
		must(t, r.Kill(leader))
		must(t, r.Start(t.Context(), leader))
	})
}

// TestPacedSurvivesPauses: the same, with the leader stopped at each step until another
// leads; then it goes on, and finds that it is none (F11, S4).
func TestPacedSurvivesPauses(t *testing.T) {
	long(t)
	r := start(t, local.Options{})
	r.settle()
	r.pacedThrough(5, "20,50,80,100", func(leader string) {
		must(t, r.Pause(leader))
		other := 1
		if leader == local.Name(1) {
			other = 2
		}
		r.until(time.Minute, "another leads", func() error {
			s, err := r.status(other)
			if err == nil && (s.Leader == "" || s.Leader == leader) {
				err = fmt.Errorf("leader %q", s.Leader)
			}
			return err
		})
		must(t, r.Resume(leader))
	})
}

// pacedThrough drains in steps, and has something befall the leader at each.
func (r *rig) pacedThrough(steps int, shares string, befalls func(leader string)) {
	t := r.t
	t.Helper()
	_, stop := r.query(100, "pay.example.org")
	defer stop()
	const scope = "cluster/fra"
	out := r.must(1, "drain", scope, "--paced", "--steps", shares, "--wait", "4s", "--for", "1h", "--reason", "INC-11")
	if !strings.Contains(out, fmt.Sprintf("step %d of %d: 100 %% of its clients are away", steps, steps)) {
		t.Errorf("the steps are not shown before:\n%s", out)
	}
	befell := 0
	for step, state := 0, ""; ; {
		var leader string
		r.until(time.Minute, fmt.Sprintf("a step after %d, %s", step, state), func() error {
			s, p, err := r.pace(scope)
			switch {
			case err != nil:
				return err
			case s.Leader == "":
				return fmt.Errorf("nobody leads; %s", p.Waits)
			case p.State != "moving" && p.State != "done":
				return fmt.Errorf("%s: %s", p.State, p.Waits)
			case p.Step <= step && p.State == "moving": // a director that was killed may come back with an older one
				return fmt.Errorf("waits for %s", p.Waits)
			case p.Step > step+1:
				t.Fatalf("step %d after %d: nothing befell a leader at the one between", p.Step, step)
			}
			step, state, leader = p.Step, p.State, s.Leader
			return nil
		})
		if state == "done" {
			break
		}
		befalls(leader)
		befell++
	}
	if befell != steps {
		t.Errorf("something befell %d leaders, want one at each of %d steps", befell, steps)
	}
	r.until(10*time.Second, "all answer without it", r.all("pay.example.org", "nyc"))
	var taken []string
	for _, a := range decode[[]api.AuditRecord](t, r.must(1, "audit", "--limit", "100", "-o", "json")) {
		if rest, ok := strings.CutPrefix(a.What, "drain cluster/fra: "); ok {
			what, _, _ := strings.Cut(rest, ",")
			taken = append(taken, what)
		}
	}
	var want []string
	for n := 2; n <= steps; n++ { // the first is the person's own
		want = append(want, fmt.Sprintf("step %d of %d", n, steps))
	}
	if !slices.Equal(taken, want) {
		t.Errorf("the audit log has %q, want each step once: %q", taken, want)
	}
	r.must(2, "undrain", scope, "--reason", "INC-11 is over")
	r.until(time.Minute, "it returns in steps", r.all("pay.example.org", "fra"))
}

// pace gives where the drain of a scope stands, as the first director says that can.
func (r *rig) pace(scope string) (s api.Status, p api.Pace, err error) {
	for i := 1; i <= r.Directors(); i++ {
		if s, err = r.status(i); err != nil || s.Plan == nil {
			continue
		}
		for _, o := range s.Overrides {
			if o.Scope == scope && o.Pace != nil {
				return s, *o.Pace, nil
			}
		}
		err = fmt.Errorf("%s knows no drain in steps of %s", local.Name(i), scope)
	}
	return s, p, err
}
