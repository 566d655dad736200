package core

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
)

// TestPolicyAdopted: what adopting and dropping a policy makes of the plan, and what is
// refused.
func TestPolicyAdopted(t *testing.T) {
	w := newWorld(t)
	w.refused(Command{Verb: PolicyAdopt, Reason: "x"}, "no policy is given")
	w.refused(Command{Verb: PolicyAdopt, Reason: "x", Bundle: make([]byte, MaxBundle+1)}, "more than the 300 KiB")
	w.refused(Command{Verb: PolicyAdopt, Bundle: []byte("rules")}, "needs a reason")
	if w.do(Command{Verb: PolicyDrop, Reason: "x"}); w.s.Plan.Plan.GetPolicy() != nil {
		t.Error("dropping none brought one")
	}
	base := w.s.Plan.Identity.Revision

	adopt := Command{ID: "a1", Verb: PolicyAdopt, Author: "unix:ann", Reason: "who may drain", Bundle: []byte("rules")}
	c, err := Decide(w.s, adopt)
	if err != nil {
		t.Fatal(err)
	}
	p := c.Plan.GetPolicy()
	sum := plan.Sum([]byte("rules"))
	if !bytes.Equal(p.GetBundle().GetHash(), sum[:]) || p.GetBundle().GetSize() != 5 || p.GetAuthor() != "unix:ann" || p.GetRevision() != base+1 || c.Plan.GetMinReader() != plan.ReaderPolicy ||
		!bytes.Equal(c.Bundle, []byte("rules")) || c.Audit.GetWhat() != "adopt policy "+sum.Short() || c.Doc != nil || c.After != nil {
		t.Errorf("got %v, %v, %q", p, c.Audit, c.Bundle)
	}
	dry := adopt
	dry.DryRun = true
	if c, err := Decide(w.s, dry); err != nil || !c.Noop || c.Plan != nil || c.Bundle != nil {
		t.Errorf("dry run: %+v, %v", c, err)
	}

	with := func(p *plan.Policy) State {
		s := w.s
		sealed := *s.Plan
		sealed.Plan = proto.CloneOf(sealed.Plan)
		sealed.Plan.Policy = p
		s.Plan = &sealed
		return s
	}
	adopted := with(p)
	adopt.ID = "a2"
	if c, err := Decide(adopted, adopt); err != nil || !c.Noop || !strings.Contains(c.Summary, "is in force since revision") {
		t.Errorf("again: %+v, %v", c, err)
	}
	adopt.Bundle = []byte("other rules")
	if c, err := Decide(adopted, adopt); err != nil || !strings.Contains(c.Audit.GetWhat(), "in the place of "+sum.Short()) {
		t.Errorf("another: %+v, %v", c, err)
	}
	if c, err := Decide(adopted, Command{ID: "a3", Verb: PolicyDrop, Author: "unix:ann", Reason: "x"}); err != nil || c.Plan.GetPolicy() != nil || c.Plan.GetMinReader() == plan.ReaderPolicy || c.Audit.GetWhat() != "drop policy "+sum.Short() {
		t.Errorf("drop: %+v, %v", c, err)
	}

	// A plan that names a policy without a bundle is refused by all.
	if err := checkPolicy(&plan.Plan{Policy: &plan.Policy{}}); err == nil {
		t.Error("a policy without a bundle passes")
	}
	if err := checkPolicy(&plan.Plan{Policy: &plan.Policy{Bundle: &plan.SpecRef{Hash: sum[:], Chunks: [][]byte{sum[:]}, Size: MaxBundle + 1}}}); err == nil {
		t.Error("a policy that is too large passes")
	}
	if err := checkPolicy(&plan.Plan{Policy: &plan.Policy{Bundle: &plan.SpecRef{Hash: sum[:], Chunks: [][]byte{sum[:]}, Size: 5}}}); err != nil {
		t.Error(err)
	}
}

// TestAfter: a change shows the spec that it brings, dry runs too, and none where it leaves
// the spec as it is.
func TestAfter(t *testing.T) {
	w := newWorld(t)
	text := fleetYAML
	objects := raws(t, strings.Replace(text, "192.0.2.21", "192.0.2.29", 1))
	apply := Command{ID: "b1", Verb: Apply, Author: "ann", Source: SourceFiles, Objects: objects}
	for _, dry := range []bool{false, true} {
		apply.DryRun = dry
		c, err := Decide(w.s, apply)
		if err != nil || c.After == nil || !strings.Contains(string(objectOf(c.After, "GlobalService", "pay").GetJson()), "192.0.2.29") {
			t.Errorf("dry run %t: %v, %v", dry, c.After, err)
		}
	}
	if c, err := Decide(w.s, Command{ID: "b2", Verb: Drain, Scope: "cluster/fra", Author: "ann", Reason: "x", For: 3600e9}); err != nil || c.After != nil {
		t.Errorf("a drain: %v, %v", c.After, err)
	}
	apply.Objects, apply.DryRun = raws(t, text), false
	if c, err := Decide(w.s, apply); err != nil || c.After != nil && !c.Noop {
		t.Errorf("nothing new: %+v, %v", c, err)
	}
}

// TestAfterOfRollouts: what some try is what is judged, and again when all take it.
func TestAfterOfRollouts(t *testing.T) {
	k := newKeeper(t)
	k.joined()
	c := k.begin(slower(t))
	if c.After == nil || c.After != c.Trial || !strings.Contains(string(objectOf(c.After, "GlobalService", "shop").GetJson()), "17s") {
		t.Errorf("a rollout: %v", c.After)
	}
	if c := k.do(Command{Verb: GoOn, Reason: "well"}); c.After == nil || c.After != c.Doc {
		t.Errorf("its end: %v, want %v", c.After, c.Doc)
	}
	k.acknowledged()
	if k.s.Previous == nil {
		t.Fatal("there is nothing to go back to")
	}
	if c := k.do(Command{Verb: Revert, Reason: "not well"}); c.After == nil || strings.Contains(string(objectOf(c.After, "GlobalService", "shop").GetJson()), "17s") {
		t.Errorf("a revert: %v", c.After)
	}
}

// TestFingerprintOfPolicy: one ID means one bundle, and one word of break-glass.
func TestFingerprintOfPolicy(t *testing.T) {
	c := Command{ID: "c1", Verb: PolicyAdopt, Bundle: []byte("a")}
	other := c
	other.Bundle = []byte("b")
	glass := c
	glass.BreakGlass = true
	if bytes.Equal(c.Fingerprint(), other.Fingerprint()) || bytes.Equal(c.Fingerprint(), glass.Fingerprint()) {
		t.Error("two wishes have one fingerprint")
	}
}
