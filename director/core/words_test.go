package core

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// TestReasonsNameProbes: what holds a drain, or keeps one from ending, is called as people
// call it, never by the hash of a probe's definition.
func TestReasonsNameProbes(t *testing.T) {
	w := newWorld(t)
	w.seen()
	w.do(w.paced("cluster/fra", 50, 100))
	w.next(20 * time.Second)
	w.seen()
	w.noted()
	shop := w.s.Spec.Service("shop")
	subjects := steer.Subjects(shop, shop.Endpoint("nyc").Addresses[0])
	var check health.Subject
	for _, of := range subjects {
		if of.Subject.Kind == health.KindCheck {
			check = of.Subject
		}
	}
	w.seen()
	w.s.Fresh[check] = false
	w.s.Now = w.s.Now.Add(time.Minute)
	const name = "http :80/healthz at 192.0.2.11"
	if got := w.waits(); !strings.Contains(got, "nothing is heard of "+name) {
		t.Errorf("without votes it waits for %q, want %q named", got, name)
	}
	w.s.States[check] = health.Down
	if got := w.now(); !strings.Contains(got, "shop@nyc is failed: "+name+" is down") {
		t.Errorf("held with %q, want %q named", got, name)
	}
	w.do(Command{Verb: Undrain, Scope: "cluster/fra", Now: true})
	w.do(Command{Verb: Drain, Scope: "cluster/nyc", For: time.Minute, Reason: "x"})
	w.s.Now = w.s.Now.Add(2 * time.Minute)
	if late := Overdue(w.s); len(late) != 1 || !strings.Contains(strings.Join(late[0].Waits, ";"), name) {
		t.Errorf("overdue %+v, want %q named", late, name)
	}
}

// TestRefusalNamesTheWay: a drain that is refused for what others come to says so, since
// those sites serve yet.
func TestRefusalNamesTheWay(t *testing.T) {
	w := newWorld(t)
	w.seen()
	w.do(w.paced("cluster/fra", 50, 100))
	w.refused(w.drain("cluster/nyc"), "the last healthy site of pay, once the drains in steps that are on their way are complete")
	w.do(Command{Verb: Undrain, Scope: "cluster/fra", Now: true})
	w.do(w.drain("cluster/fra"))
	if r := w.refused(w.drain("cluster/nyc"), "the last healthy site of pay"); strings.Contains(r.Reason, "on their way") {
		t.Errorf("none is on its way: %s", r.Reason)
	}
}

// TestReturnCountsItsSteps: the preview of a return lists what comes back, and not where it
// begins, also where its first step waits.
func TestReturnCountsItsSteps(t *testing.T) {
	w := newWorld(t)
	w.seen()
	w.do(w.paced("cluster/fra", 10, 50, 100))
	w.finish()
	w.fail("shop", "fra")
	c := w.do(Command{Verb: Undrain, Scope: "cluster/fra"})
	var moved []int
	for _, s := range c.Preview.Steps {
		moved = append(moved, s.Moved)
	}
	if !slices.Equal(moved, []int{900, 500, 0}) || w.at("cluster/fra") != "RETURNING 0" {
		t.Errorf("%s, steps to %v, want those to 900, 500 and 0", w.at("cluster/fra"), moved)
	}
}
