package director

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/store"
)

const meshGate = `
---
kind: Interlock
metadata: {name: fra}
spec: {gate: {switch: fra-work, of: [cluster/fra]}}
`

// TestSwitchTurnedMeanwhile (S4): a switch that is turned between the decision and its
// commit refuses the commit, in a real etcd, and decided again the command is refused
// by the rule.
func TestSwitchTurnedMeanwhile(t *testing.T) {
	d := alone(t)
	raws, problems := spec.Parse("mesh.yaml", []byte(meshSpec+meshGate))
	if spec.Failed(problems) {
		t.Fatal(problems)
	}
	must := func(cmd core.Command) {
		t.Helper()
		cmd.ID, cmd.Author, cmd.Reason = newID(), "ann", "test"
		id, err := give(d, cmd)
		if err != nil {
			t.Fatalf("%s: %v", cmd.Verb, err)
		}
		for next := d.Changed(); d.horizon.current().sealed.Identity.Revision < id.Revision; next = d.Changed() {
			<-next
		}
	}
	must(core.Command{Verb: core.Apply, Objects: raws})
	drain := core.Command{ID: newID(), Verb: core.Drain, Scope: "cluster/fra", Author: "ann", Reason: "test", For: time.Hour, LastResort: true}

	// decided does all of a command but the commit.
	type decided struct {
		snap   store.Snapshot
		base   *inForce
		change core.Change
	}
	decide := func() (out decided) {
		t.Helper()
		var err error
		if out.snap, err = d.store.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		if out.base, err = d.commander.base(t.Context(), d.horizon.known(), out.snap); err != nil {
			t.Fatal(err)
		}
		if out.change, err = d.commander.decide(core.State{
			Plan: out.base.sealed, Doc: out.base.doc, Spec: out.base.spec, Places: d.commander.earth().placesFor, Now: time.Now(), Me: "d1",
		}, drain); err != nil {
			t.Fatal(err)
		}
		return out
	}
	write := func(was decided) error {
		_, err := d.commander.write(t.Context(), was.snap, was.base, was.change, drain, nil)
		return err
	}

	must(core.Command{Verb: core.InterlockOn, Scope: "fra-work"})
	was := decide()
	must(core.Command{Verb: core.InterlockOff, Scope: "fra-work"})
	if err := write(was); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("turned off meanwhile: %v, want ErrConflict", err)
	}
	var r *core.Refusal
	if _, err := give(d, drain); !errors.As(err, &r) || !strings.Contains(r.Reason, "the switch fra-work of interlock fra is off") {
		t.Fatalf("decided again: %v, want the rule's refusal", err)
	}

	// The switch's own key is compared, not only the plan's.
	must(core.Command{Verb: core.InterlockOn, Scope: "fra-work"})
	was = decide()
	key := d.store.Prefix() + "interlock/switch/fra-work"
	if _, err := d.store.Client().Put(t.Context(), key, "touched"); err != nil {
		t.Fatal(err)
	}
	if err := write(was); !errors.Is(err, store.ErrConflict) || !strings.Contains(err.Error(), "fra-work") {
		t.Fatalf("the switch's key has changed, and the plan has not: %v, want ErrConflict", err)
	}
	must(core.Command{Verb: core.Drain, Scope: "cluster/fra", For: time.Hour, LastResort: true})

	// Status says how the rule stands, and a gate that was closed holds the end up.
	must(core.Command{Verb: core.InterlockOff, Scope: "fra-work"})
	list := d.Status().Interlocks
	if len(list) != 1 || list[0].State != core.StandingClosed || !slices.ContainsFunc(list[0].Members, func(m core.MemberStanding) bool {
		return m.Scope == "cluster/fra" && !m.InService && strings.Contains(m.Why, "cluster/fra drained by ann")
	}) {
		t.Errorf("status: %+v", list)
	}
}

// TestInterlockKeysOfChanges: a plan writes the keys that it changes; one for a store that
// may be empty writes them all.
func TestInterlockKeysOfChanges(t *testing.T) {
	d := alone(t)
	raws, _ := spec.Parse("mesh.yaml", []byte(meshSpec+meshGate))
	if _, err := give(d, core.Command{ID: newID(), Verb: core.Apply, Author: "ann", Reason: "test", Objects: raws}); err != nil {
		t.Fatal(err)
	}
	for next := d.Changed(); d.horizon.current().spec.Interlock("fra") == nil; next = d.Changed() {
		<-next
	}
	cur := d.horizon.current()
	same := core.Change{Plan: cur.sealed.Plan}
	if got := interlockKeys(cur, same, core.Command{Verb: core.Drain}); len(got) != 0 {
		t.Errorf("a drain writes %q", got)
	}
	if got := interlockKeys(cur, core.Change{Plan: cur.sealed.Plan, Doc: cur.doc}, core.Command{Verb: core.RecoverStore}); len(got) != 1 || got["rule/fra"] == nil {
		t.Errorf("a recovery writes %q", got)
	}
	change, err := core.Decide(core.State{Plan: cur.sealed, Doc: cur.doc, Spec: cur.spec, Now: time.Now(), Me: "d1"},
		core.Command{ID: "prune", Verb: core.Apply, Author: "ann", Objects: slices.DeleteFunc(slices.Clone(raws), func(r spec.Raw) bool { return r.Kind == spec.KindInterlock }), Prune: true, Force: true})
	if err != nil {
		t.Fatal(err)
	}
	got := interlockKeys(cur, change, core.Command{Verb: core.Apply})
	if value, found := got["rule/fra"]; !found || value != nil || len(got) != 1 {
		t.Errorf("what goes is not removed: %q", got)
	}
}
