package core

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// shopYAML is shop by weights, with a rule of residency.
const shopYAML = `
apiVersion: divert.dev/v1alpha1
kind: GlobalService
metadata: {name: shop}
spec:
  hosts: [shop.example.org, cart.example.org]
  endpoints:
  - {cluster: fra, addresses: [192.0.2.10], weight: 100}
  - {cluster: nyc, addresses: [192.0.2.11], weight: 100}
  - {cluster: sin, addresses: [192.0.2.12], weight: 100}
  probes: [{http: {port: 80, path: /healthz}}]
  steering: {policy: weighted, order: [fra, nyc, sin]}
  residency: [{clients: {continents: [EU]}, clusters: {jurisdiction: eu}}]
`

// TestSpecDangers: what a spec does without a drain is judged by what it comes to: sites out
// of service by weight or by order, names that nobody answers any more, and residency,
// moved either way (S16). Whoever writes it without a second person is refused (S7).
func TestSpecDangers(t *testing.T) {
	failover, weighted := only(raws(t, fleetYAML), "GlobalService/shop"), raws(t, shopYAML)
	all := raws(t, fleetYAML)
	lon := raws(t, "apiVersion: divert.dev/v1alpha1\nkind: Cluster\nmetadata: {name: lon, labels: {jurisdiction: eu}}\nspec: {location: {country: GB}}\n")
	withLon := func(order string) []spec.Raw {
		svc := edit(t, failover, "GlobalService/shop", `"endpoints":[`, `"endpoints":[{"addresses":["192.0.2.13"],"cluster":"lon"},`)
		return append(edit(t, svc, "GlobalService/shop", `["fra","nyc","sin"]`, order), lon...)
	}
	tests := []struct {
		name string
		from []spec.Raw // in force before
		to   []spec.Raw
		more bool // the spec is replaced as a whole
		want string
	}{
		{"a weight that leaves a site next to nothing", weighted, edit(t, weighted, "GlobalService/shop", `"weight":100`, `"weight":1`), false, ""},
		{"two of three", weighted, edit(t, edit(t, weighted, "GlobalService/shop", `["192.0.2.10"],"cluster":"fra","weight":100`, `["192.0.2.10"],"cluster":"fra","weight":1`), "GlobalService/shop", `["192.0.2.11"],"cluster":"nyc","weight":100`, `["192.0.2.11"],"cluster":"nyc","weight":1`), false, "shop ("},
		{"one of three", weighted, edit(t, weighted, "GlobalService/shop", `["192.0.2.10"],"cluster":"fra","weight":100`, `["192.0.2.10"],"cluster":"fra","weight":0`), false, ""},
		{"weight 0 for two", weighted, edit(t, edit(t, weighted, "GlobalService/shop", `["192.0.2.10"],"cluster":"fra","weight":100`, `["192.0.2.10"],"cluster":"fra","weight":0`), "GlobalService/shop", `["192.0.2.11"],"cluster":"nyc","weight":100`, `["192.0.2.11"],"cluster":"nyc","weight":0`), false, "shop (100 of 300 left)"},
		{"an order that skips two", failover, edit(t, failover, "GlobalService/shop", `["fra","nyc","sin"]`, `["sin","fra","nyc"]`), false, "shop (100 of 300 left)"},
		{"an order that skips one", failover, edit(t, failover, "GlobalService/shop", `["fra","nyc","sin"]`, `["nyc","fra","sin"]`), false, ""},
		{"a new site before all", failover, withLon(`["lon","fra","nyc","sin"]`), false, "shop (0 of 300 left)"},
		{"a new site after the first", failover, withLon(`["fra","lon","nyc","sin"]`), false, ""},
		{"all who served give way to one", weighted, edit(t, weighted, "GlobalService/shop", `"policy":"weighted"`, `"policy":"failover"`), false, "shop (100 of 300 left)"},
		{"from one to all", edit(t, weighted, "GlobalService/shop", `"policy":"weighted"`, `"policy":"failover"`), edit(t, weighted, "GlobalService/shop", `"policy":"weighted"`, `"policy":"geo"`), false, ""},
		{"a name", weighted, edit(t, weighted, "GlobalService/shop", `"shop.example.org","cart.example.org"`, `"shop.example.org"`), false, "names out of service: cart.example.org"},
		{"a name more", failover, edit(t, failover, "GlobalService/shop", `"shop.example.org"`, `"shop.example.org","new.example.org"`), false, ""},
		{"a zone", nil, without(all, "Zone/example.net"), true, "names out of service: zone example.net"},
		{"a name that another service gets", weighted, append(edit(t, weighted, "GlobalService/shop", `"shop.example.org","cart.example.org"`, `"shop.example.org"`), edit(t, only(all, "GlobalService/pay"), "GlobalService/pay", `"pay.example.org"`, `"pay.example.org","cart.example.org"`)...), false, "another service: cart.example.org"},
		{"residency, narrower", failover, edit(t, failover, "GlobalService/shop", `"spec":{`, `"spec":{"residency":[{"clients":{"continents":["EU"]},"clusters":{"jurisdiction":"eu"}}],`), false, "residency): shop"},
		{"residency, wider", weighted, edit(t, weighted, "GlobalService/shop", `"continents":["EU"]`, `"continents":["AF"]`), false, "residency): shop"},
		{"clients of unknown place", weighted, edit(t, weighted, "GlobalService/shop", `"spec":{`, `"spec":{"residencyUnknown":"allow",`), false, "residency): shop"},
		{"a label that the rule goes by", weighted, edit(t, only(all, "Cluster/nyc"), "Cluster/nyc", `"us"`, `"eu"`), false, "residency): shop"},
		{"a label that no rule goes by", failover, edit(t, only(all, "Cluster/nyc"), "Cluster/nyc", `"us"`, `"eu"`), false, ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w := newPair(t)
			w.seen()
			if tc.from != nil {
				w.do(Command{Verb: Apply, Author: "alice", Source: SourceFiles, Objects: tc.from, BreakGlass: true, Reason: "x"})
			}
			c := Command{Verb: Apply, Source: SourceFiles, Reason: "x", Objects: tc.to}
			if tc.more {
				c.Prune = true
				c.Objects = append(without(tc.to, "Fleet/default"), w.twoPersons(true)...)
			}
			before := w.s
			got, err := w.via("d1", "alice", c)
			if err != nil {
				t.Fatal(err)
			}
			why := strings.Join(got.Preview.TwoPersons, "; ")
			if (got.Request != nil) != (tc.want != "") || !strings.Contains(why, tc.want) || why == "" && tc.want != "" {
				t.Fatalf("got %q, want %q", why, tc.want)
			}
			if tc.want == "" {
				return
			}
			w.take(got)
			open := w.s
			done, err := w.via("d2", "bob", Command{Verb: Approve, Scope: got.Request.GetId()})
			if err != nil {
				t.Fatal(err)
			}
			w.take(done)
			if err := CheckPersons(succession(open, w.s)); err != nil {
				t.Errorf("S7: what was approved is refused: %v", err)
			}
			// A rogue leader writes the same, and nobody has approved it.
			p := proto.CloneOf(w.s.Plan.Plan)
			p.Requests, p.Revision, p.Parent, p.Writer = before.Plan.Plan.GetRequests(), before.Plan.Identity.Revision+1, before.Plan.Identity.Hash[:], "d3"
			sealed, err := plan.Sign(p, "d3", keyOf("d3"))
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckPersons(Succession{Cur: before.Plan, Spec: before.Spec, Next: sealed, NextSpec: w.s.Spec}); err == nil || !strings.Contains(err.Error(), "no request for it was approved") {
				t.Errorf("S7: a rogue leader's is taken: %v", err)
			}
		})
	}
}

func without(all []spec.Raw, id string) []spec.Raw {
	var out []spec.Raw
	for _, r := range all {
		if r.Kind+"/"+r.Name != id {
			out = append(out, r)
		}
	}
	return out
}

// TestKeyTurnTakesTwo: a turn-over of the gossip key is a change of keys: it waits for a
// second person, whose director draws the key; what follows from it is the leader's, and
// taking it back is one person's (S16). A rogue leader begins none, and gives none up (S7).
func TestKeyTurnTakesTwo(t *testing.T) {
	w := newPair(t)
	r := w.asked(Command{ID: "turn", Verb: KeyRotate, Reason: "d4 was removed", KeyTurn: &KeyTurn{From: keyOne, To: keyTwo}})
	open := w.s
	got, err := w.via("d2", "bob", Command{Verb: Approve, Scope: "turn", KeyTurn: &KeyTurn{From: keyOne, To: keyAlt}})
	if err != nil {
		t.Fatal(err)
	}
	w.take(got)
	turn := w.s.Plan.Plan.GetGossipKey().GetTurn()
	if turn.GetId() != r.GetId() || turn.GetTo() != keyAlt || turn.GetAuthor() != "alice" || !strings.Contains(w.audit[len(w.audit)-1].GetWhat(), short(keyAlt)) {
		t.Errorf("got %v, %q", turn, w.audit[len(w.audit)-1].GetWhat())
	}
	if err := CheckPersons(succession(open, w.s)); err != nil {
		t.Errorf("S7: what was approved is refused: %v", err)
	}
	begun := w.s
	rings := map[string][]string{"d1": {keyOne}, "d2": {keyOne}, "d3": {keyOne}}
	for w.s.Plan.Plan.GetGossipKey().GetTurn() != nil {
		before := w.s
		w.s.Rings = w.ringsOf(rings)
		if !w.leadTurn() {
			t.Fatal("it does not go on")
		}
		if err := CheckPersons(succession(before, w.s)); err != nil {
			t.Errorf("S7: the leader's step is refused: %v", err)
		}
	}
	if err := CheckPersons(succession(open, w.s)); err != nil {
		t.Errorf("S7: refused by one that was away from its beginning to its end: %v", err)
	}
	w.s = begun
	if got, err := w.via("d1", "carol", Command{Verb: KeyBack, Reason: "second thoughts"}); err != nil || got.Request != nil {
		t.Errorf("taking it back: got %v, %v", got.Request, err)
	}

	for name, edit := range map[string]func(*plan.GossipKey) *plan.GossipKey{
		"turns the gossip key over": func(*plan.GossipKey) *plan.GossipKey {
			return &plan.GossipKey{Turn: &plan.KeyTurn{Id: "other", From: keyOne, To: keyTwo, Phase: plan.KeyTurn_ADD}}
		},
		"gives up a turn-over":     func(*plan.GossipKey) *plan.GossipKey { return nil },
		"names another gossip key": func(*plan.GossipKey) *plan.GossipKey { return &plan.GossipKey{Current: keyTwo} },
	} {
		for _, skipped := range []uint64{0, 3} {
			p := proto.CloneOf(begun.Plan.Plan)
			p.GossipKey, p.Writer, p.Revision, p.Parent = edit(p.GetGossipKey()), "d3", p.GetRevision()+1+skipped, begun.Plan.Identity.Hash[:]
			sealed, err := plan.Sign(p, "d3", keyOf("d3"))
			if err != nil {
				t.Fatal(err)
			}
			err = errors.Join(Check(begun.Plan, sealed), CheckPersons(Succession{Cur: begun.Plan, Spec: begun.Spec, Next: sealed, NextSpec: begun.Spec}))
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s, %d revisions skipped: %v", name, skipped, err)
			}
		}
	}
}

// TestRequestsInTurn: nobody is kept out of the places for what waits by others who ask for
// much; who has most gives way, and what is to come back always finds a place (S16).
func TestRequestsInTurn(t *testing.T) {
	w := newPair(t)
	operator := func(n int) *Operator {
		return &Operator{Name: fmt.Sprintf("op%d", n), Key: public(fmt.Sprintf("op%d", n))}
	}
	ask := func(author string, n int) (Change, error) {
		return w.via("d1", author, Command{ID: fmt.Sprintf("%s-%d", author, n), Verb: OperatorAdd, Reason: "x", Operator: operator(n)})
	}
	n := 0
	for _, greedy := range []string{"eve", "mallory", "trudy", "oscar"} {
		for range maxAsked {
			n++
			got, err := ask(greedy, n)
			if err != nil {
				t.Fatal(err)
			}
			w.take(got)
		}
	}
	if _, err := ask("eve", 99); err == nil {
		t.Error("eve has a fifth")
	}
	got, err := ask("alice", 100)
	if err != nil {
		t.Fatalf("alice is kept out: %v", err)
	}
	w.take(got)
	p := w.s.Plan.Plan
	if p.Request("alice-100") == nil || p.Request("eve-1") != nil || len(p.GetRequests()) != maxRequests {
		t.Errorf("got %d requests, eve's first is there: %t", len(p.GetRequests()), p.Request("eve-1") != nil)
	}
	if what := w.audit[len(w.audit)-1].GetWhat(); !strings.Contains(what, "eve-1 of eve") {
		t.Errorf("the record does not say who gave way: %q", what)
	}
	if _, err := ask("eve", 101); err == nil {
		t.Error("eve takes her place back, of who has as few")
	}
	for i := range 12 { // until all have as few as who would ask for one more
		if got, err := ask(fmt.Sprintf("person%d", i), 200+i); err == nil {
			w.take(got)
		}
	}
	if w.s.Plan.Plan.Request("alice-100") == nil {
		t.Error("alice gave way, who asked for one thing")
	}
	if _, err := ask("last", 300); err == nil {
		t.Error("somebody with one request gave way to another's first")
	}
	back := Command{ID: "back", Verb: Undrain, Scope: "service/shop@fra", Reason: "x", Force: true}
	wk := begin(w.s, back)
	r := &plan.Request{Id: "back", Author: "last"}
	if err := wk.makeRoom(r); err != nil || len(wk.next.GetRequests()) != maxRequests-1 {
		t.Errorf("an undrain is kept out: %v", err)
	}
	w.s.Now = w.s.Now.Add(RequestLasts + time.Minute)
	// Who says the same undrain again and again takes no more than his share for it.
	w.do(Command{Verb: Drain, Author: "alice", Scope: "service/shop@sin", Reason: "x", For: time.Hour})
	for i := range 2 * maxRequests {
		got, err := w.via("d1", "loop", Command{ID: fmt.Sprintf("loop-%d", i), Verb: Undrain, Scope: "service/shop@sin", Reason: "x", Force: true})
		if err != nil || got.Request == nil {
			t.Fatalf("an undrain is kept out: %v", err)
		}
		w.take(got)
	}
	if n := len(slices.DeleteFunc(w.s.Plan.Plan.GetRequests(), func(r *plan.Request) bool { return !r.Waits(w.s.Now) })); n != maxAsked {
		t.Errorf("one undrain has %d places", n)
	}
	if _, err := ask("eve", 400); err != nil {
		t.Errorf("what is over keeps a place: %v", err)
	}
}

// TestOldApprovals: an approval counts for the plan that it was given in, and a request for
// what was asked, also over revisions that nobody has seen (S16, S7).
func TestOldApprovals(t *testing.T) {
	r := newRogue(t)
	// d2 signs bob's approval, and loses the race: the plan never is. Later d3 brings it up.
	lost, err := r.via("d2", "bob", Command{Verb: Approve, Scope: "waits"})
	if err != nil {
		t.Fatal(err)
	}
	lost.Vouch(keyOf("d2"))
	approved := lost.Plan.Request("waits")
	r.do(Command{Verb: Freeze, Author: "alice", Reason: "x", For: time.Hour})
	r.do(Command{Verb: Thaw, Author: "alice", Reason: "x"})
	p := r.next(r.s.Plan)
	p.Revision += 5
	p.Requests = append(slices.DeleteFunc(p.Requests, func(q *plan.Request) bool { return q.GetId() == "waits" }), proto.CloneOf(approved))
	p.Overrides = append(p.Overrides, drainOf("waits", "service/shop@fra", r.s.Now))
	if err := r.taken(r.s, p, "d3"); err == nil || !strings.Contains(err.Error(), "approved for another plan") {
		t.Errorf("an approval of a plan that never was: %v", err)
	}

	// Two directors make another request of the one that waits.
	p = r.next(r.s.Plan)
	p.Revision += 5
	q := p.Request("waits")
	q.Command, q.Via = []byte(`{"id":"waits","verb":"drain","scope":"service/shop@nyc"}`), "d3"
	wish := Command{ID: "waits", Verb: Drain, Scope: "service/shop@nyc"}
	q.Fingerprint = wish.Fingerprint()
	q.SignAsked(p.GetFleet(), keyOf("d3"))
	q.State, q.By, q.ByVia, q.Done, q.At = plan.Request_DONE, "bob", "d2", p.GetRevision(), q.GetAsked()
	q.SignApproved(p.GetFleet(), keyOf("d2"))
	p.Overrides = append(p.Overrides, drainOf("waits", "service/shop@nyc", r.s.Now))
	if err := r.taken(r.s, p, "d3"); err == nil || !strings.Contains(err.Error(), "not what was asked for") {
		t.Errorf("what was asked is another: %v", err)
	}
}

// TestDangersOfOldFleets: while a fleet is upgraded, no plan is refused for a danger that its
// writer did not know (S12), and who knows it asks for a second person all the same; once
// all say that they know, all plans are held to it.
func TestDangersOfOldFleets(t *testing.T) {
	w := newPair(t)
	w.s.Plan = w.resigned(func(p *plan.Plan) { p.MinReader = plan.ReaderPersons })
	w.s.Readers = map[string]uint32{"d1": plan.Reader, "d2": plan.ReaderFleet, "d3": plan.Reader}
	turn := Command{ID: "turn", Verb: KeyRotate, Author: "alice", Reason: "x", KeyTurn: &KeyTurn{From: keyOne, To: keyTwo}, Force: true}
	if got, err := w.try(turn); err != nil || got.Request == nil || got.Plan.GetMinReader() >= plan.ReaderDangers {
		t.Errorf("by who knows: got %v, %v, want that it waits, and readers as before", got.Request, err)
	}
	p := proto.CloneOf(w.s.Plan.Plan)
	p.GossipKey, p.Writer, p.Revision, p.Parent = &plan.GossipKey{Turn: &plan.KeyTurn{Id: "x", From: keyOne, To: keyTwo, Phase: plan.KeyTurn_ADD}}, "d2", p.GetRevision()+1, w.s.Plan.Identity.Hash[:]
	old, err := plan.Sign(p, "d2", keyOf("d2"))
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckPersons(Succession{Cur: w.s.Plan, Spec: w.s.Spec, Next: old, NextSpec: w.s.Spec}); err != nil {
		t.Errorf("an older director's plan is refused: %v", err)
	}
	w.s.Readers["d2"] = plan.Reader
	const oneWay = "the plan's format goes from 9 to 17"
	warned := func(c Change) bool { return strings.Contains(strings.Join(c.Preview.Warnings, "\n"), oneWay) }
	freeze := Command{Verb: Freeze, Author: "alice", Reason: "x", For: time.Hour, DryRun: true}
	if got, err := w.try(freeze); err != nil || !warned(got) {
		t.Errorf("nobody is told before: %v, %v", got.Preview.Warnings, err)
	}
	freeze.DryRun = false
	if got := w.do(freeze); !warned(got) {
		t.Errorf("nobody is told that no director can go back: %v", got.Preview.Warnings)
	}
	if got := w.s.Plan.Plan.GetMinReader(); got != plan.ReaderDangers {
		t.Errorf("all know, and the plan takes readers of %d", got)
	}
	w.s.Readers = map[string]uint32{"d1": plan.Reader} // the others are away
	if got := w.do(Command{Verb: Thaw, Author: "alice", Reason: "x"}); warned(got) {
		t.Error("it is said again")
	}
	if got := w.s.Plan.Plan.GetMinReader(); got != plan.ReaderDangers {
		t.Errorf("it goes back to readers of %d", got)
	}
}

// TestBegunByRollout: where the leader ends a rollout that switches two persons on, nobody has
// been asked who is too old for all of it, so that nobody is left behind (S12); where a person
// switches it on, those are refused.
func TestBegunByRollout(t *testing.T) {
	w := newWorld(t)
	set := *w.s.Spec
	set.Fleet.TwoPersons = true
	for _, tc := range []struct {
		c    Command
		want uint32
	}{
		{Command{ID: goOnID + "1", Verb: GoOn}, plan.ReaderPersons},
		{Command{ID: "a", Verb: GoOn}, plan.ReaderDangers},
		{Command{ID: "b", Verb: Apply}, plan.ReaderDangers},
	} {
		wk := begin(w.s, tc.c)
		wk.set = &set
		if got := wk.reader(); got != tc.want {
			t.Errorf("%s: got a plan for readers of %d, want %d", tc.c.ID, got, tc.want)
		}
	}
}

// resigned is the plan in force, otherwise.
func (w *world) resigned(edit func(*plan.Plan)) *plan.Sealed {
	w.t.Helper()
	p := proto.CloneOf(w.s.Plan.Plan)
	edit(p)
	s, err := plan.Sign(p, "d1", keyOf("d1"))
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}
