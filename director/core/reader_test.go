package core

import (
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/plan"
)

// TestTooOld (F22): what a director of the roster is too old to read is refused, with its
// name; with --force it is done and recorded. One that is silent holds up nothing, and
// neither does one that stays behind already.
func TestTooOld(t *testing.T) {
	w := newWorld(t)
	w.s.Plan.Plan.Roster = append(w.s.Plan.Plan.Roster, &plan.Director{Name: "d4", Standing: plan.Director_ACTIVE})
	w.seen()
	paced := w.paced("cluster/fra", 1, 50, 100)
	w.s.Readers = map[string]uint32{"d1": plan.Reader, "d2": plan.ReaderPaced, "d3": plan.ReaderProbes, "d4": 0}
	if r := w.refused(paced, "this is too new for d3, d4: the plan would take a divert that reads format 4"); !r.Force {
		t.Error("--force would not pass it")
	}
	dry := paced
	dry.DryRun = true
	w.refused(dry, "too new for d3, d4")
	w.do(w.drain("cluster/nyc")) // everybody reads that
	w.do(Command{Verb: Undrain, Scope: "cluster/nyc", Now: true})
	w.seen()

	w.s.Readers = map[string]uint32{"d1": plan.Reader, "d2": plan.Reader}
	c, err := w.try(paced)
	if err != nil || !strings.Contains(strings.Join(c.Preview.Warnings, "; "), "may be too new for who is silent, and would then stay on the plan before: d3, d4") {
		t.Errorf("silent: got %v, warnings %q", err, c.Preview.Warnings)
	}

	w.s.Readers = map[string]uint32{"d1": plan.Reader, "d2": plan.Reader, "d3": plan.ReaderProbes, "d4": plan.Reader}
	paced.Force = true
	if c = w.do(paced); !c.Audit.GetForced() || c.Plan.GetMinReader() != plan.ReaderPaced {
		t.Errorf("forced: audit %v, minReader %d", c.Audit, c.Plan.GetMinReader())
	}
	w.do(Command{Verb: Freeze, Reason: "x", For: time.Hour}) // the plan before was too new already
}
