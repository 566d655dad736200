package core

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
)

// hashed does what a director does when it writes a change: it names the document.
func hashed(t testing.TB, c *Change) {
	t.Helper()
	ref := func(doc *plan.SpecDoc) *plan.SpecRef {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		sum := plan.Sum(b)
		return &plan.SpecRef{Hash: sum[:], Size: uint64(len(b)), Chunks: [][]byte{sum[:]}}
	}
	if c.Doc != nil {
		c.Plan.Spec = ref(c.Doc)
		if c.Plan.Previous != nil {
			c.Plan.Previous.ReplacedBy = c.Plan.Spec.GetHash()
		}
	}
	if c.Trial != nil {
		c.Plan.Rollout.Canary = ref(c.Trial)
	}
}

// keeper is a world that keeps the documents that plans name, as a store does.
type keeper struct {
	*world
	docs map[string]*plan.SpecDoc
}

func newKeeper(t testing.TB) *keeper {
	t.Helper()
	k := &keeper{world: newWorld(t), docs: map[string]*plan.SpecDoc{}}
	k.do(Command{Verb: Apply, Objects: edit(t, raws(t, fleetYAML), "GlobalService/shop", `"steering"`, `"ttl":"11s","steering"`)})
	return k
}

func (k *keeper) do(c Command) Change {
	k.t.Helper()
	got, err := k.try(c)
	if err != nil {
		k.t.Fatalf("%s: %v", c.Verb, err)
	}
	if !got.Noop {
		k.write(got)
	}
	return got
}

// write takes a change into force, checked as each director does.
func (k *keeper) write(c Change) {
	k.t.Helper()
	hashed(k.t, &c)
	before := k.s.Plan
	k.take(c)
	if err := Check(before, k.s.Plan); err != nil {
		k.t.Fatalf("each director would refuse it: %v", err)
	}
	if c.Doc != nil {
		k.docs[string(c.Plan.Spec.GetHash())] = c.Doc
	}
	if c.Trial != nil {
		k.docs[string(c.Plan.Rollout.Canary.GetHash())] = c.Trial
	}
	k.s.Previous, k.s.Trial = k.docs[string(k.s.Plan.Plan.GetPrevious().GetHash())], nil
	if r := k.s.Plan.Plan.Soaking(); r != nil {
		doc := k.docs[string(r.GetCanary().GetHash())]
		set, problems := spec.Resolve(Raws(doc))
		if spec.Failed(problems) {
			k.t.Fatal(problems)
		}
		k.s.Trial = &Trial{Doc: doc, Spec: steer.Narrow(set, k.s.Plan.Plan, true)}
	}
}

// TestRevert: the spec from before is in force again, in one revision of its own (S3, S15),
// and said again the one that it has replaced.
func TestRevert(t *testing.T) {
	k := newKeeper(t)
	all := edit(t, raws(t, fleetYAML), "GlobalService/shop", `"steering"`, `"ttl":"13s","steering"`)
	k.do(Command{Verb: Apply, Objects: all})
	k.do(k.drain("cluster/fra")) // commands in between take nothing away
	before := k.s.Plan.Identity.Revision
	c := k.do(Command{Verb: Revert, Reason: "INC-4"})
	if k.shopTTL() != "11s" || k.s.Plan.Identity.Revision != before+1 {
		t.Fatalf("ttl %s, revision %d", k.shopTTL(), k.s.Plan.Identity.Revision)
	}
	if len(c.Preview.Changes) != 1 || len(c.Preview.Shifts) == 0 || !strings.HasPrefix(c.Audit.GetWhat(), "reverted to the spec from before revision 3") {
		t.Errorf("preview %+v, audit %q", c.Preview, c.Audit.GetWhat())
	}
	if k.scopes(plan.Override_DRAIN) != "cluster/fra" {
		t.Error("the drain went")
	}
	k.do(Command{Verb: Revert})
	if k.shopTTL() != "13s" {
		t.Errorf("reverted twice: ttl %s", k.shopTTL())
	}
	if got := k.do(Command{Verb: Revert, DryRun: true}); !got.Noop || k.shopTTL() != "13s" {
		t.Error("a dry run has reverted")
	}
}

// TestRevertRemovesAndBringsBack: what an apply has added goes, what it has removed comes
// back, and no folder that holds it undoes that (S19).
func TestRevertRemovesAndBringsBack(t *testing.T) {
	k := newKeeper(t)
	now := Raws(k.s.Doc)
	k.sync("d1", now)
	twin := only(raws(t, strings.NewReplacer("name: pay", "name: twin", "pay.example.org", "twin.example.org").Replace(fleetYAML)), "GlobalService/twin")
	next := append(only(now, "Cluster/fra", "Cluster/nyc", "Cluster/sin", "Zone/example.org", "Zone/example.net", "GlobalService/shop", "Fleet/default"), twin...)
	k.do(Command{Verb: Apply, Objects: next, Prune: true, Force: true})
	if k.s.Spec.Service("pay") != nil || k.s.Spec.Service("twin") == nil {
		t.Fatal("the apply did nothing")
	}
	c, _ := k.folder("d1", next)
	if len(c.Objects) > 0 {
		k.do(c)
	}
	k.do(Command{Verb: Revert})
	if k.s.Spec.Service("pay") == nil || k.s.Spec.Service("twin") != nil {
		t.Fatal("the spec from before is not in force")
	}
	if c, _ := k.folder("d1", next); len(c.Objects) > 0 {
		if got := k.do(c); k.s.Spec.Service("twin") != nil {
			t.Errorf("the folder brought it back: %s", got.Summary)
		}
	}
}

// TestRevertRefuses clearly where there is nothing to go back to.
func TestRevertRefuses(t *testing.T) {
	w := newWorld(t)
	w.refused(Command{Verb: Revert}, "nothing to go back to")
	k := newKeeper(t)
	k.s.Previous = nil
	k.refused(Command{Verb: Revert}, "is gone from the store")
	k = newKeeper(t)
	// An older divert applies: it keeps the field, and knows nothing of it.
	k.s.Plan.Plan.Spec = &plan.SpecRef{Hash: []byte("another")}
	k.refused(Command{Verb: Revert}, "an older divert has applied it")
	k = newKeeper(t)
	now := k.s.Plan.Plan.GetPrevious().GetRevision()
	k.sync("d3", Raws(k.s.Doc)) // a folder's note is no change to go back from
	if got := k.s.Plan.Plan.GetPrevious().GetRevision(); got != now {
		t.Errorf("what is gone back to is from revision %d, want %d", got, now)
	}
}
