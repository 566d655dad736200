package core

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/health"
)

// TestFreezeKeepsWhatWasDown: what is down at the freeze stays away, what falls
// later stays in, until the thaw.
func TestFreezeKeepsWhatWasDown(t *testing.T) {
	w := newWorld(t)
	w.fail("shop", "fra")
	w.refused(Command{Verb: Freeze, For: time.Hour}, "needs a reason")
	w.refused(Command{Verb: Freeze, Reason: "x"}, "needs an end")
	w.do(Command{Verb: Freeze, Reason: "maintenance", For: time.Hour})
	down := w.s.Plan.Plan.GetOverrides()[0].GetDown()
	if len(down) != 2 || !slices.IsSorted(down) || !strings.HasPrefix(down[0], "check/") {
		t.Fatalf("down %q", down)
	}
	w.heal("shop", "fra")
	w.fail("shop", "nyc")
	if got := w.serving("shop"); got != "nyc" {
		t.Errorf("frozen: %s", got)
	}
	w.s.Now = w.s.Now.Add(30 * time.Minute)
	w.do(Command{Verb: Freeze, Reason: "longer", For: time.Hour})
	if o := w.s.Plan.Plan.GetOverrides(); len(o) != 1 || !slices.Equal(o[0].GetDown(), down) {
		t.Errorf("a longer freeze looks again at what is down: %v", o)
	}
	c := w.do(Command{Verb: Thaw})
	if got := w.serving("shop"); got != "fra" || len(c.Preview.Effects) == 0 {
		t.Errorf("thawed: %s, %+v", got, c.Preview)
	}
	if got := w.do(Command{Verb: Thaw}); !got.Noop {
		t.Error("thawed twice")
	}
}

// TestFreezeEndsByItself, with nothing to wait for.
func TestFreezeEndsByItself(t *testing.T) {
	w := newWorld(t)
	w.do(Command{Verb: Freeze, Scope: "service/shop", Reason: "x", For: time.Hour})
	w.fail("shop", "fra")
	w.s.Now = w.s.Now.Add(time.Hour)
	w.do(Due(w.s)[0])
	if got := w.serving("shop"); got != "nyc" {
		t.Errorf("after the end: %s", got)
	}
}

// TestSpecObserves: `automation: observe` in the spec is an override of the
// author "spec" with the down of that revision, kept until the spec says act.
func TestSpecObserves(t *testing.T) {
	w := newWorld(t)
	all := raws(t, fleetYAML)
	w.fail("shop", "fra")
	observing := edit(t, all, "GlobalService/shop", `"steering"`, `"automation":"observe","steering"`)
	w.do(Command{Verb: Apply, Objects: observing})
	o := w.find("service/shop")
	if o == nil || o.GetAuthor() != SpecAuthor || o.GetEnd() != nil || len(o.GetDown()) != 2 {
		t.Fatalf("observation %v", o)
	}
	w.heal("shop", "fra")
	w.fail("shop", "nyc")
	if got := w.serving("shop"); got != "nyc" {
		t.Errorf("observing: %s", got)
	}
	w.refused(Command{Verb: Thaw, Scope: "service/shop"}, "its spec says")
	w.s.Now = w.s.Now.Add(1000 * time.Hour)
	if due := Due(w.s); len(due) != 0 {
		t.Errorf("the spec's word has no end: %+v", due)
	}
	// Another change of the service leaves what it observes alone.
	w.do(Command{Verb: Apply, Objects: edit(t, observing, "GlobalService/shop", `"steering"`, `"ttl":"30s","steering"`)})
	if again := w.find("service/shop"); again.GetRevision() != o.GetRevision() {
		t.Errorf("observes anew: %v", again)
	}
	w.do(Command{Verb: Apply, Objects: all})
	if got := w.serving("shop"); got != "fra" || w.find("service/shop") != nil {
		t.Errorf("acting again: %s", got)
	}
}

// TestBornObserving: a service that begins in observe has nothing down.
func TestBornObserving(t *testing.T) {
	w := newWorld(t)
	w.fail("shop", "fra")
	twin := only(raws(t, strings.NewReplacer("name: shop", "name: twin", "shop.example.org", "twin.example.org",
		"steering: {policy: failover, order: [fra, nyc, sin]}", "automation: observe").Replace(fleetYAML)), "GlobalService/twin")
	w.do(Command{Verb: Apply, Objects: twin})
	o := w.find("service/twin")
	if o == nil || len(o.GetDown()) != 0 {
		t.Fatalf("observation %v", o)
	}
	w.fail("twin", "fra")
	d := w.serving("twin")
	if !strings.Contains(d, "fra") {
		t.Errorf("twin is served by %s", d)
	}
	// Fleet-wide observation by the spec.
	all := raws(t, fleetYAML)
	w.do(Command{Verb: Apply, Objects: edit(t, all, "Fleet/default", `"directors"`, `"automation":"observe","directors"`)})
	if o := w.find("fleet"); o == nil || len(o.GetDown()) == 0 {
		t.Fatalf("fleet observation %v", o)
	}
	w.do(Command{Verb: Freeze, Reason: "x", For: time.Hour})
	if c := w.do(Command{Verb: Thaw}); !strings.Contains(c.Summary, "its spec says automation: observe") {
		t.Errorf("thaw of what the spec holds: %s", c.Summary)
	}
}

func (w *world) find(scope string) *plan.Override {
	for _, o := range w.s.Plan.Plan.GetOverrides() {
		if o.GetKind() == plan.Override_OBSERVE && o.GetScope() == scope && o.GetAuthor() == SpecAuthor {
			return o
		}
	}
	return nil
}

func TestReadmit(t *testing.T) {
	w := newWorld(t)
	w.refused(Command{Verb: Readmit, Scope: "cluster/xyz"}, "there is no cluster")
	w.refused(Command{Verb: Readmit, Scope: "cluster/fra", For: 2 * time.Hour}, "too long")
	w.do(Command{Verb: Readmit, Scope: "service/shop@fra"})
	got := Readmitted(w.s.Plan.Plan, w.s.Spec)
	if len(got) != 3 { // signal, check, and the gray failure beside them
		t.Fatalf("readmitted %v", got)
	}
	for s := range got {
		if s.Addr.Addr().String() != "192.0.2.10" || s.Kind == health.KindUnknown {
			t.Errorf("readmitted %v", s)
		}
	}
	// Said again, it is a new word with a new beginning.
	first := w.s.Plan.Plan.GetOverrides()[0]
	w.s.Now = w.s.Now.Add(30 * time.Second)
	w.do(Command{Verb: Readmit, Scope: "service/shop@fra"})
	if o := w.s.Plan.Plan.GetOverrides(); len(o) != 1 || o[0].GetRevision() == first.GetRevision() {
		t.Errorf("readmitted again: %v", o)
	}
	w.s.Now = w.s.Now.Add(time.Minute)
	w.do(Due(w.s)[0])
	if len(Readmitted(w.s.Plan.Plan, w.s.Spec)) != 0 {
		t.Error("a readmission has no end")
	}
}

// TestCounting: a person reads what was done.
func TestCounting(t *testing.T) {
	for n, want := range []string{"0 subjects count", "1 subject counts", "2 subjects count"} {
		if got := counting(n, "subject"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
