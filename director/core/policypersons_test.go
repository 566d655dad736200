package core

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
)

// policed is a fleet that asks for two persons and has a policy, by one.
func policed(t *testing.T, bundle string) *world {
	t.Helper()
	w := newPair(t)
	got := w.do(Command{Verb: PolicyAdopt, Reason: "x", Bundle: []byte(bundle)})
	if got.Request != nil || got.Plan.GetPolicy() == nil || got.Plan.GetMinReader() < plan.ReaderResidency {
		t.Fatalf("a first policy that only denies: %v, for readers of %d", got.Request, got.Plan.GetMinReader())
	}
	return w
}

// TestPolicyTakesTwo (S16): another policy in the place of one, and none, take two persons.
// The second approves the very bundle that was asked for, and every other director lets the
// plan pass (S7).
func TestPolicyTakesTwo(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		c          Command
	}{
		{"another", "puts another policy in the place", Command{ID: "p1", Verb: PolicyAdopt, Reason: "x", Bundle: []byte("other rules")}},
		{"none", "drops the policy", Command{ID: "p1", Verb: PolicyDrop, Reason: "x"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := policed(t, "rules")
			r := w.asked(tc.c)
			if !strings.Contains(strings.Join(r.GetDangers(), "; "), tc.want) || bytes.Contains(r.GetCommand(), []byte("bundle")) {
				t.Errorf("got %q, %s", r.GetDangers(), r.GetCommand())
			}
			if tc.c.Bundle != nil {
				if sum := plan.Sum(tc.c.Bundle); !bytes.Equal(r.GetBundle().GetHash(), sum[:]) || len(r.GetBundle().GetChunks()) != 1 || !slices.Contains(w.s.Plan.Plan.Kept(), r.GetBundle()) {
					t.Errorf("the request names %v; kept: %v", r.GetBundle(), w.s.Plan.Plan.Kept())
				}
				w.wants("d2", "bob", Command{Verb: Approve, Scope: "p1"}, "is not at hand")
				w.s.Bundle = []byte("forged rules")
				w.wants("d2", "bob", Command{Verb: Approve, Scope: "p1"}, "another command than it was asked for")
				w.s.Bundle = tc.c.Bundle
			}
			w.wants("d2", "alice", Command{Verb: Approve, Scope: "p1"}, "may not approve")
			before := w.s
			done, err := w.via("d2", "bob", Command{Verb: Approve, Scope: "p1"})
			if err != nil {
				t.Fatal(err)
			}
			w.take(done)
			if sum := plan.Sum(tc.c.Bundle); tc.c.Bundle != nil && !bytes.Equal(w.s.Plan.Plan.GetPolicy().GetBundle().GetHash(), sum[:]) || tc.c.Bundle == nil && w.s.Plan.Plan.GetPolicy() != nil {
				t.Errorf("approved: %v", w.s.Plan.Plan.GetPolicy())
			}
			if w.s.Plan.Plan.Request("p1").GetBundle() != nil {
				t.Error("the blob is kept once it is over")
			}
			if err := CheckPersons(succession(before, w.s)); err != nil {
				t.Errorf("S7: what was approved is refused: %v", err)
			}
		})
	}
}

// TestRoguePolicy (S7, S16): a director that drops or replaces the policy by itself, or
// brings in another than was approved, is refused by all others; before a plan says that
// everybody knows of the rule, nobody is refused for it.
func TestRoguePolicy(t *testing.T) {
	w := policed(t, "rules")
	asked := Command{ID: "p1", Verb: PolicyAdopt, Reason: "x", Bundle: []byte("other rules")}
	w.asked(asked)
	w.s.Bundle = asked.Bundle
	before := w.s
	done, err := w.via("d2", "bob", Command{Verb: Approve, Scope: "p1"})
	if err != nil {
		t.Fatal(err)
	}
	w.take(done)
	forged := plan.Sum([]byte("forged rules"))
	check := func(change func(p *plan.Plan)) error {
		p := proto.CloneOf(w.s.Plan.Plan)
		change(p)
		p.Writer = "d2"
		sealed, err := plan.Sign(p, "d2", keyOf("d2"))
		if err != nil {
			t.Fatal(err)
		}
		return CheckPersons(Succession{Cur: before.Plan, Spec: before.Spec, Next: sealed, NextSpec: before.Spec})
	}
	open := proto.CloneOf(before.Plan.Plan).GetRequests()
	for _, tc := range []struct {
		name, want string
		change     func(p *plan.Plan)
	}{
		{"as approved", "", func(*plan.Plan) {}},
		{"dropped, nobody asked", "drops the policy", func(p *plan.Plan) { p.Requests, p.Policy = open, nil }},
		{"replaced, nobody asked", "another policy", func(p *plan.Plan) { p.Requests, p.Policy.Bundle.Hash = open, forged[:] }},
		{"another than was approved", "another policy", func(p *plan.Plan) { p.Policy.Bundle.Hash = forged[:] }},
		{"dropped, though a replacement was approved", "drops the policy", func(p *plan.Plan) { p.Policy = nil }},
	} {
		if err := check(tc.change); (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
		}
	}

	old := *before.Plan
	old.Plan = proto.CloneOf(old.Plan)
	old.Plan.MinReader = plan.ReaderPolicy
	before.Plan = &old
	if err := check(func(p *plan.Plan) { p.Requests, p.Policy = open, nil }); err != nil {
		t.Errorf("S12: refused for a rule that its writer did not know: %v", err)
	}
	w.s.Plan = &old
	if got, err := w.via("d1", "alice", Command{ID: "p2", Verb: PolicyDrop, Reason: "x"}); err != nil || got.Request == nil {
		t.Errorf("who knows the rule asks for a second person all the same: %+v, %v", got, err)
	}
}
