package core

import (
	"errors"
	"strings"
	"testing"

	"github.com/divertdns/divert/director/plan"
)

// saved is a backup of a world as it is now.
func (w *world) saved() Saved {
	return Saved{Plan: w.s.Plan, Doc: w.s.Doc, Audited: w.s.Plan.Identity.Revision}
}

// TestRestored: a fleet that holds a plan gets the backup's spec one epoch on, and
// keeps who is registered and what is drained now (S6, S18).
func TestRestored(t *testing.T) {
	w := newWorld(t)
	b := w.saved()
	w.do(Command{Verb: Apply, Objects: edit(t, raws(t, fleetYAML), "GlobalService/shop", "192.0.2.12", "192.0.2.99")})
	w.do(w.drain("cluster/fra"))
	w.do(Command{Verb: DirectorRemove, Scope: "d2"})
	before := w.s.Plan.Identity
	c := Command{ID: "r", Verb: Restore, Author: "alice", Reason: "INC-1"}
	got, err := Restored(w.s, c, b, Director{Name: "d1"}, 40)
	if err != nil {
		t.Fatal(err)
	}
	if got.Plan.GetEpoch() != before.Epoch+1 || got.Plan.GetRevision() != 41 {
		t.Errorf("got %d.%d, want %d.41: above every audit record", got.Plan.GetEpoch(), got.Plan.GetRevision(), before.Epoch+1)
	}
	if d := got.Plan.Director("d2"); d.GetStanding() != plan.Director_REMOVED {
		t.Errorf("d2 is %s: it was removed since", d.GetStanding())
	}
	if !strings.Contains(got.Audit.GetWhat(), "restore the spec of plan") || got.Audit.GetWho() != "alice" {
		t.Errorf("audit: %v", got.Audit)
	}
	w.take(got)
	if w.scopes(plan.Override_DRAIN) != "cluster/fra" {
		t.Error("the drain of now is gone")
	}
	if o := objectOf(w.s.Doc, "GlobalService", "shop"); !strings.Contains(string(o.GetJson()), "192.0.2.12") {
		t.Errorf("the spec is not the backup's: %s", o.GetJson())
	}
	again, err := Restored(w.s, c, b, Director{Name: "d1"}, 41)
	if err != nil || !again.Noop {
		t.Errorf("again: %+v, %v", again, err)
	}
	w.do(Command{Verb: Apply, Objects: edit(t, raws(t, fleetYAML), "GlobalService/shop", "192.0.2.12", "192.0.2.99")})
	c.DryRun = true
	if got, err := Restored(w.s, c, b, Director{Name: "d1"}, 0); err != nil || !got.Noop || len(got.Preview.Changes) == 0 {
		t.Errorf("dry run: %+v, %v", got, err)
	}
}

// TestRestoredOtherFleet: a backup of another fleet needs force, and leaves this one
// its identity.
func TestRestoredOtherFleet(t *testing.T) {
	other := newWorld(t)
	other.do(Command{Verb: Apply, Objects: edit(t, raws(t, fleetYAML), "GlobalService/shop", "192.0.2.12", "192.0.2.99")})
	b := other.saved()
	sealed := *b.Plan
	sealed.Identity.Fleet = "another"
	b.Plan = &sealed
	w := newWorld(t)
	c := Command{ID: "r", Verb: Restore, Author: "alice", Reason: "INC-1"}
	_, err := Restored(w.s, c, b, Director{Name: "d1"}, 0)
	if r := (*Refusal)(nil); !errors.As(err, &r) || !r.Force || !strings.Contains(r.Reason, "of fleet another") {
		t.Fatalf("got %v", err)
	}
	c.Force = true
	got, err := Restored(w.s, c, b, Director{Name: "d1"}, 0)
	if err != nil || got.Plan.GetFleet() != w.s.Plan.Identity.Fleet || !got.Audit.GetForced() || got.Plan.GetEpoch() != 2 {
		t.Errorf("forced: %v, %v", got.Plan, err)
	}
}

// TestRestoredAll: a fleet that lost everything begins again from its backup, under its
// own identity, on a director that is in its roster, or takes that place by force.
func TestRestoredAll(t *testing.T) {
	old := newWorld(t)
	old.do(old.drain("cluster/fra"))
	b := old.saved()
	empty := old.s
	empty.Plan, empty.Doc, empty.Spec = nil, nil, nil
	c := Command{ID: "r", Verb: Restore, Author: "alice", Reason: "INC-1"}
	me := Director{Name: "d1", Site: "fra", Key: public("d1")}
	for _, tc := range []struct {
		name   string
		me     Director
		force  bool
		known  []Known
		audits uint64
		want   string // of the refusal
		rev    uint64
		key    []byte
	}{
		{name: "with its key", me: me, rev: b.Plan.Identity.Revision + 1, key: public("d1")},
		{name: "audited further", me: me, audits: 99, rev: 100, key: public("d1")},
		{name: "with another key", me: Director{Name: "d1", Key: public("new")}, want: "another key for d1"},
		{name: "by force", me: Director{Name: "d1", Key: public("new")}, force: true, rev: b.Plan.Identity.Revision + 1, key: public("new")},
		{name: "of no name there", me: Director{Name: "d9", Key: public("d9")}, want: "no director d9"},
		{name: "by force, new", me: Director{Name: "d9", Key: public("d9")}, force: true, rev: b.Plan.Identity.Revision + 1, key: public("d9")},
		{name: "with another's key", me: Director{Name: "d9", Key: public("d1")}, force: true, want: "to d1"},
		{name: "beside a higher plan", me: me, known: []Known{{Director: "d2", Identity: plan.Identity{Fleet: b.Plan.Identity.Fleet, Epoch: 7, Revision: 70}}}, want: "d2 holds plan 7.70"},
		{name: "beside another fleet's disk", me: me, known: []Known{{Identity: plan.Identity{Fleet: "x", Epoch: 1, Revision: 1}}}, want: "this director's disk holds a plan of fleet x"},
		{name: "over what the store lost", me: me, force: true, known: []Known{{Store: true, Identity: plan.Identity{Fleet: b.Plan.Identity.Fleet, Epoch: 7, Revision: 70}}}, rev: 71, key: public("d1")},
	} {
		c.Force = tc.force
		got, err := Restored(empty, c, b, tc.me, tc.audits, tc.known...)
		if tc.want != "" {
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		p := got.Plan
		if p.GetFleet() != b.Plan.Identity.Fleet || p.GetRevision() != tc.rev || p.GetEpoch() < 2 || got.Doc == nil || len(p.GetOverrides()) == 0 {
			t.Errorf("%s: got %d.%d of %s, %d overrides", tc.name, p.GetEpoch(), p.GetRevision(), p.GetFleet(), len(p.GetOverrides()))
		}
		if d := p.Director(tc.me.Name); d.GetStanding() != plan.Director_ACTIVE || string(d.GetKey()) != string(tc.key) {
			t.Errorf("%s: %v", tc.name, d)
		}
		if got.Audit.GetForced() != tc.force {
			t.Errorf("%s: forced %t", tc.name, got.Audit.GetForced())
		}
	}
}

// TestRecoverOverTheStore: what a store holds is written over only by force, and above
// what it was; another fleet's counters are not ours.
func TestRecoverOverTheStore(t *testing.T) {
	w := newWorld(t)
	mine := w.s.Plan.Identity
	newer := plan.Identity{Fleet: mine.Fleet, Epoch: 3, Revision: 30}
	theirs := plan.Identity{Fleet: "theirs", Epoch: 9, Revision: 90}
	for _, tc := range []struct {
		name  string
		found plan.Identity
		audit uint64
		want  string
		epoch uint64
		rev   uint64
	}{
		{"a newer plan without its spec", newer, 0, "the store holds plan 3.30", 4, 31},
		{"another fleet's", theirs, 0, "of fleet theirs", mine.Epoch + 1, mine.Revision + 1},
		{"another fleet's, with its audit log", theirs, 90, "of fleet theirs", mine.Epoch + 1, 91},
	} {
		c := Command{ID: "r", Verb: RecoverStore, Author: "alice"}
		k := Known{Director: "the store", Store: true, Identity: tc.found}
		_, err := Recover(w.s, c, tc.audit, k)
		if r := (*Refusal)(nil); !errors.As(err, &r) || !r.Force || !strings.Contains(r.Reason, tc.want) {
			t.Errorf("%s: got %v", tc.name, err)
		}
		c.Force = true
		got, err := Recover(w.s, c, tc.audit, k)
		if err != nil || got.Plan.GetEpoch() != tc.epoch || got.Plan.GetRevision() != tc.rev || !got.Audit.GetForced() || got.Plan.GetFleet() != mine.Fleet {
			t.Errorf("%s, forced: %v, %v", tc.name, got.Plan, err)
		}
	}
}
