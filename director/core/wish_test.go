package core

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// TestPruneByTwo (S16): of a spec of any size a service is removed by two persons, and one
// service that is large is changed by two. The request names a blob, without what the spec
// has already; the second approves the very objects that were asked for, and every other
// director lets the plan pass (S7).
func TestPruneByTwo(t *testing.T) {
	w := newPair(t)
	padded := func(id, of string, n int) []spec.Raw {
		return edit(t, slices.Concat(w.twoPersons(true), slices.DeleteFunc(raws(t, fleetYAML), func(r spec.Raw) bool { return r.Kind == "Fleet" })),
			id, `"name":"`+of+`"`, `"name":"`+of+`","labels":{"a":"`+strings.Repeat("x", n)+`"}`)
	}
	all := padded("Zone/example.net", "example.net", 20<<10)
	w.do(Command{Verb: Apply, Source: SourceFiles, Objects: all})

	gone := slices.DeleteFunc(slices.Clone(all), func(r spec.Raw) bool { return r.Kind+"/"+r.Name == "GlobalService/pay" })
	large := edit(t, only(all, "GlobalService/shop", "Zone/example.org"), "GlobalService/shop", `"name":"shop"`, `"name":"shop","labels":{"a":"`+strings.Repeat("y", 9<<10)+`"}`)
	large = edit(t, large, "GlobalService/shop", "shop.", "store.")
	for _, tc := range []struct {
		id, danger string
		c          Command
		least      int // octets of the blob
		most       int
	}{
		{"p1", "takes names out of service", Command{Verb: Apply, Source: SourceFiles, Reason: "x", Objects: gone, Prune: true, Force: true}, 1, 1 << 10},
		{"p2", "takes names out of service", Command{Verb: Apply, Source: SourceFiles, Reason: "x", Objects: large}, 9 << 10, 16 << 10},
	} {
		tc.c.ID = tc.id
		now := w.s.Plan
		got, err := w.via("d1", "alice", tc.c)
		if err != nil || got.Request.GetState() != plan.Request_OPEN {
			t.Fatalf("%s: got %+v, %v, want a request", tc.id, got, err)
		}
		blob := got.Bundle
		if len(blob) < tc.least || len(blob) > tc.most || len(got.Plan.Request(tc.id).GetObjects()) > 0 {
			t.Errorf("%s: the blob has %d octets, the request %d", tc.id, len(blob), proto.Size(got.Request))
		}
		w.take(got)
		r := w.s.Plan.Plan.Request(tc.id)
		if sum := plan.Sum(blob); !strings.Contains(strings.Join(r.GetDangers(), "; "), tc.danger) || !bytes.Equal(r.GetBundle().GetHash(), sum[:]) || !slices.Contains(w.s.Plan.Plan.Kept(), r.GetBundle()) {
			t.Fatalf("%s: %q, %v", tc.id, r.GetDangers(), r.GetBundle())
		}
		w.wants("d2", "bob", Command{Verb: Approve, Scope: tc.id}, "is not at hand")
		doc := &plan.SpecDoc{}
		if err := proto.Unmarshal(blob, doc); err != nil {
			t.Fatal(err)
		}
		doc.Objects = doc.Objects[1:] // another one would go too
		if w.s.Bundle, err = proto.Marshal(doc); err != nil {
			t.Fatal(err)
		}
		w.wants("d2", "bob", Command{Verb: Approve, Scope: tc.id}, "is another than was asked for")
		w.s.Bundle = []byte("\xff")
		w.wants("d2", "bob", Command{Verb: Approve, Scope: tc.id}, "reading a spec document")
		w.s.Bundle = blob
		w.wants("d2", "alice", Command{Verb: Approve, Scope: tc.id}, "may not approve")
		before := w.s
		done, err := w.via("d2", "bob", Command{Verb: Approve, Scope: tc.id})
		if err != nil {
			t.Fatal(err)
		}
		w.take(done)
		if w.s.Plan.Plan.Request(tc.id).GetBundle() != nil {
			t.Errorf("%s: the blob is kept once it is over", tc.id)
		}
		if err := CheckPersons(succession(before, w.s)); err != nil {
			t.Errorf("S7: what was approved is refused: %v", err)
		}
		p := proto.CloneOf(w.s.Plan.Plan)
		p.Requests, p.Writer = before.Plan.Plan.GetRequests(), "d2"
		alone, err := plan.Sign(p, "d2", keyOf("d2"))
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckPersons(Succession{Cur: before.Plan, Spec: before.Spec, Next: alone, NextSpec: w.s.Spec}); err == nil {
			t.Errorf("S7: %s after %v, which nobody approved, passes", tc.id, now.Identity)
		}
		w.s.Bundle = nil
	}
	if w.s.Spec.Service("pay") != nil || !slices.ContainsFunc(w.s.Spec.Service("shop").Hosts, func(h string) bool { return strings.HasPrefix(h, "store.") }) {
		t.Errorf("got %v", w.s.Spec.Services)
	}
}

// TestSpecChangedMeanwhile (S16): what an apply leaves as it is, it leaves as it was: one that
// is approved after another has changed that is refused.
func TestSpecChangedMeanwhile(t *testing.T) {
	w := newPair(t)
	rest := slices.DeleteFunc(raws(t, fleetYAML), func(r spec.Raw) bool { return r.Kind == "Fleet" })
	all := edit(t, slices.Concat(w.twoPersons(true), rest), "Zone/example.net", `"name":"example.net"`, `"name":"example.net","labels":{"a":"`+strings.Repeat("x", 20<<10)+`"}`)
	w.do(Command{Verb: Apply, Source: SourceFiles, Objects: all})
	gone := slices.DeleteFunc(slices.Clone(all), func(r spec.Raw) bool { return r.Kind+"/"+r.Name == "GlobalService/pay" })
	got, err := w.via("d1", "alice", Command{ID: "p1", Verb: Apply, Source: SourceFiles, Reason: "x", Objects: gone, Prune: true, Force: true})
	if err != nil {
		t.Fatal(err)
	}
	w.take(got)
	w.do(Command{Verb: Apply, Source: SourceFiles, Objects: edit(t, only(all, "GlobalService/shop"), "GlobalService/shop", `"name":"shop"`, `"name":"shop","labels":{"b":"c"}`)})
	w.s.Bundle = got.Bundle
	w.wants("d2", "bob", Command{Verb: Approve, Scope: "p1"}, "the spec has changed since")
}
