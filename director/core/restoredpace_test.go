package core

import (
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/health"
)

// emptied is a world whose fleet has lost everything, a while later.
func (w *world) emptied(later time.Duration) State {
	s := w.s
	s.Plan, s.Doc, s.Spec, s.Acks, s.Fresh = nil, nil, nil, nil, nil
	s.Now = s.Now.Add(later)
	return s
}

// from takes a change that brings a fleet back.
func (w *world) from(s State, c Change, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	w.s = s
	w.take(c)
}

// TestPacedComesBack: a drain in steps goes on from where the plan has it only when who
// takes over is seen well again and all have acknowledged the plan that came back, with a
// new wait, and under IDs that no store has seen; else it is rolled back (S4, S6, S17).
func TestPacedComesBack(t *testing.T) {
	for _, tc := range []struct {
		name string
		back func(w *world)
	}{
		{"by recovery", func(w *world) {
			w.s.Now = w.s.Now.Add(10 * time.Minute) // the wait was over long ago
			c, err := Recover(w.s, Command{ID: "r", Verb: RecoverStore, Author: "alice", Reason: "x"}, 0)
			w.from(w.s, c, err)
		}},
		{"by a backup", func(w *world) {
			b := w.saved()
			s := w.emptied(10 * time.Minute)
			c, err := Restored(s, Command{ID: "r", Verb: Restore, Author: "alice", Reason: "x"}, b, Director{Name: "d1", Key: public("d1")}, 0)
			w.from(s, c, err)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			begun := func() *world {
				w := newWorld(t)
				w.seen()
				w.do(w.paced("cluster/fra", 10, 50, 100))
				w.next(20 * time.Second)
				tc.back(w)
				return w
			}
			w := begun()
			if got := w.at("cluster/fra"); got != "HELD 900" {
				t.Fatalf("comes back as %s", got)
			}
			if got := w.audit[len(w.audit)-1].GetWhat(); !strings.Contains(got, "held until who takes over is seen well: the drain of cluster/fra, 10 % moved") {
				t.Errorf("audit %q", got)
			}
			known := map[string]bool{}
			for _, a := range w.audit {
				known[a.GetCommand()] = true
			}
			w.s.Acks, w.s.Fresh = nil, nil
			if got := w.now(); got != "" {
				t.Fatalf("while nothing is seen: %q", got)
			}
			if got := w.next(time.Second); !strings.HasPrefix(got, "go on with the drain of cluster/fra, 10 % moved") {
				t.Fatalf("seen well: %q", got)
			}
			if got := w.next(29 * time.Second); got != "" {
				t.Fatalf("before a new wait: %q", got)
			}
			w.s.Now = w.s.Now.Add(time.Second)
			delete(w.s.Acks, "d2")
			if got := w.now(); got != "" {
				t.Fatalf("d2 has not acknowledged what came back: %q", got)
			}
			if got := w.next(0); got != "drain cluster/fra: step 3 of 4, 50 % moved" {
				t.Fatalf("got %q", got)
			}
			for _, a := range w.audit[len(w.audit)-2:] {
				if known[a.GetCommand()] {
					t.Errorf("ID %s was used before", a.GetCommand())
				}
			}

			w = begun()
			w.seen()
			w.fail("shop", "nyc")
			w.fail("shop", "sin")
			if got := w.now(); got != "" {
				t.Fatalf("at once: %q", got)
			}
			if got := w.next(stillFor); !strings.HasPrefix(got, "roll back the drain of cluster/fra") {
				t.Fatalf("who takes over stays down: %q", got)
			}
		})
	}
}

// TestGivenUpSteps: recovering from an older plan than the store held, which has the
// results of its later steps, must not have the leader think that they are done.
func TestGivenUpSteps(t *testing.T) {
	w := newWorld(t)
	w.seen()
	w.do(w.paced("cluster/fra", 10, 50, 100))
	older := w.s.Plan
	w.next(20 * time.Second)
	w.next(30 * time.Second)
	lost := w.s.Plan.Identity
	used := map[string]bool{}
	for _, a := range w.audit {
		used[a.GetCommand()] = true
	}
	s := w.s
	s.Plan = older
	c, err := Recover(s, Command{ID: "r", Verb: RecoverStore, Author: "alice", Reason: "x", Force: true}, lost.Revision, Known{Director: "the store", Store: true, Identity: lost})
	w.from(s, c, err)
	for range 10 { // and each step but the last has a write that says from when its wait counts
		w.s.Now = w.s.Now.Add(time.Minute)
		w.seen()
		for _, due := range Due(w.s) {
			if used[due.ID] {
				t.Fatalf("%s is in the store already: it would never be taken", due.ID)
			}
			used[due.ID] = true
			w.do(due)
		}
	}
	if got := w.at("cluster/fra"); got != "DONE 0" {
		t.Errorf("it ends as %s", got)
	}
}

// TestExpiredComesBack: a drain that ended since the backup is ended by the leader, not
// lengthened, and only onto a site that is seen well (S18).
func TestExpiredComesBack(t *testing.T) {
	w := newWorld(t)
	w.do(w.drain("cluster/fra"))
	end := w.override("cluster/fra").GetEnd().AsTime()
	b := w.saved()
	s := w.emptied(3 * time.Hour)
	c, err := Restored(s, Command{ID: "r", Verb: Restore, Author: "alice", Reason: "x"}, b, Director{Name: "d1", Key: public("d1")}, 0)
	w.from(s, c, err)
	if got := strings.Join(c.Preview.Warnings, "\n"); !strings.Contains(got, "comes back: drain of cluster/fra by alice (INC-1), past its end") {
		t.Errorf("warnings: %s", got)
	}
	if got := w.override("cluster/fra").GetEnd().AsTime(); !got.Equal(end) {
		t.Errorf("it ends at %s now, before at %s", got, end)
	}
	clear(w.s.Observed)
	if due := Due(w.s); len(due) != 0 || w.serving("shop") != "nyc" {
		t.Fatalf("nothing is known of fra: %v, %s", due, w.serving("shop"))
	}
	w.fail("shop", "fra")
	w.heal("pay", "fra")
	if due := Due(w.s); len(due) != 0 {
		t.Fatalf("fra is failed: %v", due)
	}
	w.heal("shop", "fra")
	if due := Due(w.s); len(due) != 0 {
		t.Fatalf("only certificates say that fra is well: %v", due)
	}
	w.mark(w.s.Observed, "shop", "fra", health.Up)
	w.mark(w.s.Observed, "pay", "fra", health.Up)
	due := Due(w.s)
	if len(due) != 1 || due[0].Verb != Expire {
		t.Fatalf("fra is well: %v", due)
	}
	w.do(due[0])
	if got := w.at("cluster/fra"); got != "RETURNING 10" {
		t.Errorf("its end: %s", got)
	}
}

// TestRolloutComesBack: what some try is in no backup and in no recovered store: all
// answer from the spec of all, with serials above those that who tried it had (S13); a
// fleet in a rollout is restored only when that is over.
func TestRolloutComesBack(t *testing.T) {
	for _, tc := range []struct {
		name string
		back func(k *keeper) (State, Change, error)
	}{
		{"by recovery", func(k *keeper) (State, Change, error) {
			c, err := Recover(k.s, Command{ID: "r", Verb: RecoverStore, Author: "alice", Reason: "x"}, 0)
			return k.s, c, err
		}},
		{"by a backup", func(k *keeper) (State, Change, error) {
			b := k.saved()
			s := k.emptied(time.Hour)
			c, err := Restored(s, Command{ID: "r", Verb: Restore, Author: "alice", Reason: "x"}, b, Director{Name: "d1", Key: public("d1")}, 0)
			return s, c, err
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := newKeeper(t)
			k.joined()
			first := k.saved()
			k.begin(slower(t))
			_, err := Restored(k.s, Command{ID: "r0", Verb: Restore, Author: "alice", Reason: "x"}, first, Director{Name: "d1"}, 0)
			if err == nil || !strings.Contains(err.Error(), "a rollout is under way") {
				t.Fatalf("over a rollout: %v", err)
			}
			last := k.s.Plan.Identity.Revision
			s, c, err := tc.back(k)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(c.Audit.GetWhat(), "what d2 tried since revision") {
				t.Errorf("audit %q", c.Audit.GetWhat())
			}
			k.world.from(s, c, nil)
			p := k.s.Plan.Plan
			if p.GetRollout() != nil || p.GetPrevious() != nil || len(p.Specs()) != 1 {
				t.Errorf("it names what came with no document: %v, %v", p.GetRollout(), p.GetPrevious())
			}
			for _, z := range p.GetZones() {
				if !grows(uint32(last), z.GetSerial()) {
					t.Errorf("zone %s: serial %d after %d", z.GetName(), z.GetSerial(), last)
				}
			}
			k.s.Trial = nil
			if due := Due(k.s); len(due) != 0 {
				t.Errorf("due %v", due)
			}
		})
	}
}

// TestSwitchComesBack: who turned a switch on is named, and a fleet that lives keeps its
// own switches, whatever a backup says.
func TestSwitchComesBack(t *testing.T) {
	w := newWorld(t)
	objects := append(raws(t, fleetYAML), raws(t, `
apiVersion: divert.dev/v1alpha1
kind: Interlock
metadata: {name: fra-gate}
spec: {gate: {switch: fra-work, of: [cluster/fra]}}
`)...)
	w.do(Command{Verb: Apply, Objects: objects})
	off := w.saved()
	w.do(Command{Verb: InterlockOn, Scope: "fra-work", Reason: "INC-3"})
	on := w.saved()
	s := w.emptied(time.Hour)
	c, err := Restored(s, Command{ID: "r", Verb: Restore, Author: "alice", Reason: "x"}, on, Director{Name: "d1", Key: public("d1")}, 0)
	if err != nil || !strings.Contains(strings.Join(c.Preview.Warnings, "\n"), "comes back: switch fra-work is on, by alice (INC-3)") {
		t.Errorf("%v, %v", c.Preview.Warnings, err)
	}
	if keys := InterlockChanges(c, nil, nil); len(keys) == 0 {
		t.Error("the empty store gets no keys of interlocks")
	}
	changed := edit(t, objects, "GlobalService/shop", "192.0.2.12", "192.0.2.99")
	w.do(Command{Verb: Apply, Objects: changed})
	c, err = Restored(w.s, Command{ID: "r2", Verb: Restore, Author: "alice", Reason: "x"}, off, Director{Name: "d1"}, 0)
	if err != nil || !c.Plan.Switch("fra-work").GetOn() {
		t.Errorf("the switch of now: %v, %v", c.Plan.GetSwitches(), err)
	}
}
