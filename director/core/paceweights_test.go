package core

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// weighted is a world whose services divide their clients by weight: a drain under way
// changes what part a site has, and not which sites serve.
func weighted(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	text := fleetYAML
	for _, from := range []string{"policy: failover, order: [fra, nyc, sin]", "policy: failover, order: [fra, nyc]"} {
		text = strings.Replace(text, from, "policy: weighted", 1)
	}
	w.do(Command{Verb: Apply, Reason: "x", Objects: raws(t, text)})
	w.seen()
	return w
}

// TestPacedReturnByWeight: clients of services by weight come back in steps, too, when a
// drain is undone on its way or meets its deadline there (S18; SEMANTICS section 4:
// restoring is the dangerous half).
func TestPacedReturnByWeight(t *testing.T) {
	w := weighted(t)
	w.do(w.paced("cluster/fra", 50, 90, 100))
	if w.next(20 * time.Second); w.at("cluster/fra") != "MOVING 500" {
		t.Fatalf("got %s", w.at("cluster/fra"))
	}
	deadline := *w
	c := w.do(Command{Verb: Undrain, Scope: "cluster/fra"})
	if w.at("cluster/fra") != "RETURNING 900" || len(c.Preview.Effects) == 0 {
		t.Errorf("undone on its way: %s, effects %+v", w.at("cluster/fra"), c.Preview.Effects)
	}
	for _, e := range c.Preview.Effects {
		if !slices.Equal(e.To, []string{"fra"}) || slices.Contains(e.From, "fra") || len(e.From) == 0 || e.Changed == 0 {
			t.Errorf("effect %+v, want clients to come back to fra", e)
		}
	}
	w = &deadline
	w.s.Now = w.s.Now.Add(time.Hour)
	w.seen()
	for _, due := range Due(w.s) {
		w.do(due)
	}
	if got := w.at("cluster/fra"); got == "none" {
		t.Errorf("at its deadline on its way: %s, want a return in steps", got)
	}
}
