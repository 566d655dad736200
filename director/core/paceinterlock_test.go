package core

import (
	"strings"
	"testing"
	"time"
)

// TestPacedInterlocks: a drain in steps is held against interlocks as the whole drain that
// it becomes, when it begins, and so are its return and its rollback, by the leader too.
func TestPacedInterlocks(t *testing.T) {
	w := ruled(t, twoClusters+fraGate)
	w.seen()
	w.refused(w.paced("cluster/fra", 10, 100), "the switch fra-work of interlock fra is off")
	w.do(Command{Verb: InterlockOn, Scope: "fra-work", Reason: "x"})
	w.seen()
	w.do(w.paced("cluster/fra", 10, 100))
	w.seen()
	w.refused(w.paced("cluster/sin", 10, 100), "interlock two wants at least 2")
	w.next(20 * time.Second)
	w.do(Command{Verb: InterlockOff, Scope: "fra-work", Reason: "x"})
	w.refused(Command{Verb: Undrain, Scope: "cluster/fra"}, "the switch fra-work of interlock fra is off")
	w.fail("pay", "nyc")
	w.next(time.Second)
	w.s.Now = w.s.Now.Add(30 * time.Second)
	w.seen()
	if due := Due(w.s); len(due) != 0 || !strings.Contains(w.waits(), "the switch fra-work of interlock fra, which is off") {
		t.Fatalf("due %v, waits for %q", due, w.waits())
	}
	w.do(Command{Verb: InterlockOn, Scope: "fra-work", Reason: "x"})
	if got := w.next(time.Second); !strings.HasPrefix(got, "roll back the drain of cluster/fra, 10 % moved") {
		t.Errorf("got %q", got)
	}
}
