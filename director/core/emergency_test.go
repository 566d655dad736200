package core

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// lists makes a world whose plan lists operators.
func lists(t testing.TB, names ...string) *world {
	t.Helper()
	w := newWorld(t)
	for _, name := range names {
		w.do(Command{Verb: OperatorAdd, Reason: "on call", Operator: &Operator{Name: name, Key: public(name)}})
	}
	return w
}

// word signs a word of an operator by the plan in force.
func (w *world) word(operator string, counter uint64, id, scope string, change ...func(*plan.Emergency)) *plan.Word {
	w.t.Helper()
	e := &plan.Emergency{
		Id: id, Operator: operator, Enrolled: w.s.Plan.Plan.Operator(operator).GetRevision(), Counter: counter, Scope: scope, Author: "alice", Reason: "INC-1",
		Said: timestamppb.New(w.s.Now), Lasts: durationpb.New(time.Hour), Revision: w.s.Plan.Identity.Revision,
	}
	for _, c := range change {
		c(e)
	}
	out, err := plan.SignWord(w.s.Plan.Identity.Fleet, e, keyOf(operator))
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func ends(id string) func(*plan.Emergency) { return func(e *plan.Emergency) { e.Ends = id } }

// judge shows what words come to: "e1 in force, e2 skipped".
func (w *world) judge(words ...*plan.Word) string {
	told := make([]Told, len(words))
	for i, word := range words {
		told[i] = Told{word, time.Hour}
	}
	return comes(Judge(w.s, told))
}

func comes(judged []Emergency) string {
	parts := make([]string, len(judged))
	for i, j := range judged {
		parts[i] = j.Word.GetId() + " " + j.State.String()
	}
	return strings.Join(parts, ", ")
}

// TestJudge: words are gone by in the order (counter, ID); none takes a last healthy site,
// goes below minHealthy, or breaks an interlock; what others end, or the plan knows, is not
// gone by (SEMANTICS 4, Emergency).
func TestJudge(t *testing.T) {
	tests := []struct {
		name  string
		ready func(*world)
		words func(*world) []*plan.Word
		want  string
	}{
		{"a drain", nil, func(w *world) []*plan.Word { return []*plan.Word{w.word("ops", 1, "e1", "cluster/fra")} }, "e1 in force"},
		{"the last site: the earlier counter goes first", nil, func(w *world) []*plan.Word {
			return []*plan.Word{w.word("ops", 2, "a2", "cluster/nyc"), w.word("ops", 1, "z1", "cluster/fra")}
		}, "z1 in force, a2 skipped"}, // pay is at fra and nyc alone
		{"one counter twice: the lesser ID goes first", nil, func(w *world) []*plan.Word {
			return []*plan.Word{w.word("two", 1, "e2", "cluster/fra"), w.word("ops", 1, "e1", "cluster/nyc")}
		}, "e1 in force, e2 skipped"},
		{"who takes over has failed", func(w *world) { w.fail("pay", "nyc") }, func(w *world) []*plan.Word {
			return []*plan.Word{w.word("ops", 1, "e1", "cluster/fra"), w.word("ops", 2, "e2", "service/shop@fra")}
		}, "e1 skipped, e2 in force"},
		{"what the plan drains counts", func(w *world) { w.do(w.drain("cluster/nyc")) }, func(w *world) []*plan.Word {
			return []*plan.Word{w.word("ops", 1, "e1", "cluster/fra")}
		}, "e1 skipped"},
		{"undrained", nil, func(w *world) []*plan.Word {
			return []*plan.Word{w.word("ops", 1, "e1", "cluster/fra"), w.word("two", 2, "u1", "cluster/fra", ends("e1")), w.word("ops", 3, "e3", "cluster/nyc")}
		}, "e1 undrained, u1 ends another, e3 in force"},
		{"undrained before it was heard of", nil, func(w *world) []*plan.Word {
			return []*plan.Word{w.word("two", 2, "u1", "cluster/fra", ends("e1"))}
		}, "u1 ends another"},
		{"an ID twice", nil, func(w *world) []*plan.Word {
			return []*plan.Word{w.word("ops", 1, "e1", "cluster/fra"), w.word("two", 2, "e1", "cluster/sin")}
		}, "e1 in force, e1 skipped"},
		{"a scope that the spec does not know", nil, func(w *world) []*plan.Word { return []*plan.Word{w.word("ops", 1, "e1", "cluster/mars")} }, "e1 skipped"},
		{"the whole fleet", nil, func(w *world) []*plan.Word { return []*plan.Word{w.word("ops", 1, "e1", "fleet")} }, "e1 skipped"},
		{"an operator that is removed has said nothing", nil, func(w *world) []*plan.Word {
			word := w.word("ops", 1, "e1", "cluster/fra")
			w.do(Command{Verb: OperatorRemove, Reason: "left", Operator: &Operator{Name: "ops"}})
			return []*plan.Word{word}
		}, ""},
		{"minHealthy", func(w *world) {
			w.do(Command{Verb: Apply, Source: "files", Objects: edit(w.t, raws(w.t, fleetYAML), "GlobalService/shop", `"steering"`, `"minHealthy":2,"steering"`)})
		}, func(w *world) []*plan.Word {
			return []*plan.Word{w.word("ops", 1, "e1", "service/shop@fra"), w.word("ops", 2, "e2", "service/shop@nyc")}
		}, "e1 in force, e2 skipped"},
		{"an interlock", func(w *world) {
			w.do(Command{Verb: Apply, Source: "files", Objects: raws(w.t, "apiVersion: divert.dev/v1alpha1\nkind: Interlock\nmetadata: {name: three}\nspec: {assert: {atLeast: 3, of: [cluster/fra, cluster/nyc, cluster/sin]}}\n")})
		}, func(w *world) []*plan.Word {
			return []*plan.Word{w.word("ops", 1, "e1", "service/shop@fra"), w.word("ops", 2, "e2", "cluster/fra")}
		}, "e1 in force, e2 skipped"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w := lists(t, "ops", "two")
			if tc.ready != nil {
				tc.ready(w)
			}
			before := proto.CloneOf(w.s.Plan.Plan)
			words := tc.words(w)
			if got := w.judge(words...); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if w.s.Plan.Plan.GetRevision() == before.GetRevision() && !proto.Equal(before, w.s.Plan.Plan) {
				t.Error("the plan was written to")
			}
		})
	}
}

// TestSettled: the leader makes an ordinary drain of the same ID of what is in force, once,
// with the time that is left and an audit record that names the operator (S4, S15); what is
// over or undrained is noted; what a later override covers is no second one. Whichever of
// word and plan a director has first, the drain is there once.
func TestSettled(t *testing.T) {
	w := lists(t, "ops")
	drain, other, end := w.word("ops", 1, "e1", "cluster/fra"), w.word("ops", 2, "e2", "service/shop@sin"), w.word("ops", 3, "u2", "service/shop@sin", ends("e2"))
	told := []Told{{drain, 20 * time.Minute}, {other, time.Minute}, {end, 0}}
	w.s.Emergencies = Judge(w.s, told)
	if n := len(Overlay(w.s.Plan.Plan, w.s.Emergencies).GetOverrides()); n != 1 {
		t.Fatalf("%d drains, want 1", n)
	}
	for range 3 {
		due := Due(w.s)
		if len(due) == 0 {
			t.Fatal("nothing is due")
		}
		before := w.s
		w.do(due[0])
		second := before
		second.Me, second.Now = "d2", second.Now.Add(3*time.Second)
		if again := Due(second)[0]; again.ID != due[0].ID || string(again.Fingerprint()) != string(due[0].Fingerprint()) {
			t.Errorf("a second leader utters another command: %s and %s", again.ID, due[0].ID)
		}
		if got := Overlay(w.s.Plan.Plan, w.s.Emergencies); len(got.GetOverrides()) != 1 {
			t.Errorf("after %s there are %d drains, want 1: %v", due[0].ID, len(got.GetOverrides()), got.GetOverrides())
		}
	}
	if due := Due(w.s); len(due) > 0 {
		t.Errorf("still due: %s", due[0].ID)
	}
	o := w.s.Plan.Plan.GetOverrides()[0]
	if o.GetId() != "e1" || o.GetEnd().AsTime() != w.s.Now.Add(20*time.Minute) || o.GetReason() != "INC-1" || !strings.Contains(o.GetAuthor(), "ops") {
		t.Errorf("the drain is %v", o)
	}
	if a := w.audit[len(w.audit)-3]; !strings.Contains(a.GetWho(), "operator ops (alice)") || a.GetCommand() != settleID(drain) {
		t.Errorf("audit %v", a)
	}
	w.do(Command{Verb: Undrain, Scope: "cluster/fra"})
	if got := w.judge(drain, other, end); got != "" {
		t.Errorf("a replay of what is settled: %s", got)
	}
}

// TestCovered: a later override of all its sites takes an emergency drain's place; one in
// steps only once it has taken all; an earlier, longer one is not cut short.
func TestCovered(t *testing.T) {
	settle := func(w *world, word *plan.Word) {
		w.s.Emergencies = Judge(w.s, []Told{{word, 30 * time.Minute}})
		for _, c := range Due(w.s) {
			if c.Verb == Settle {
				w.do(c)
			}
		}
	}
	t.Run("a later one", func(t *testing.T) {
		w := lists(t, "ops")
		word := w.word("ops", 1, "e1", "service/shop@fra")
		w.do(w.drain("cluster/fra"))
		settle(w, word)
		if got := w.scopes(plan.Override_DRAIN); got != "cluster/fra" || !w.s.Plan.Plan.Settles(word) {
			t.Errorf("drains of %s, settled %t", got, w.s.Plan.Plan.Settles(word))
		}
	})
	t.Run("a later one in steps", func(t *testing.T) {
		w := lists(t, "ops")
		word := w.word("ops", 1, "e1", "cluster/fra")
		c := w.drain("cluster/fra")
		c.Paced, c.For = true, 10*time.Hour
		w.seen()
		w.do(c)
		settle(w, word)
		if w.s.Plan.Plan.Settles(word) {
			t.Error("settled while the other has taken nothing")
		}
		w.finish()
		settle(w, word)
		if !w.s.Plan.Plan.Settles(word) {
			t.Error("not settled once the other has taken all")
		}
	})
	t.Run("an earlier one that lasts longer", func(t *testing.T) {
		w := lists(t, "ops")
		c := w.drain("cluster/fra")
		c.For = 3 * time.Hour
		w.do(c)
		end := w.s.Plan.Plan.GetOverrides()[0].GetEnd().AsTime()
		settle(w, w.word("ops", 1, "e1", "cluster/fra"))
		if o := w.s.Plan.Plan.GetOverrides(); len(o) != 1 || o[0].GetEnd().AsTime() != end {
			t.Errorf("it was cut short: %v", o)
		}
	})
	t.Run("an earlier one that ends sooner", func(t *testing.T) {
		w := lists(t, "ops")
		c := w.drain("cluster/fra")
		c.For = time.Minute
		w.do(c)
		settle(w, w.word("ops", 1, "e1", "cluster/fra"))
		if o := w.s.Plan.Plan.GetOverrides(); len(o) != 1 || o[0].GetEnd().AsTime() != w.s.Now.Add(30*time.Minute) {
			t.Errorf("it was not prolonged: %v", o)
		}
	})
}

// TestSettledBound: a plan remembers so many words of an operator, for a day; what it
// forgets can come back no more than what it remembers.
func TestSettledBound(t *testing.T) {
	w := lists(t, "ops")
	var all []*plan.Word
	settle := func(n int) {
		word := w.word("ops", uint64(n), fmt.Sprintf("e%d", n), "cluster/fra")
		all = append(all, word)
		w.s.Emergencies = []Emergency{{Word: word, State: EmergencyOver}}
		w.do(Due(w.s)[0])
	}
	for n := 1; n <= maxSettled+10; n++ {
		settle(n)
	}
	if o := w.s.Plan.Plan.Operator("ops"); len(o.GetSettled()) != maxSettled || o.GetFloor() != 10 {
		t.Errorf("%d remembered above %d", len(o.GetSettled()), o.GetFloor())
	}
	w.s.Now = w.s.Now.Add(settledFor + time.Minute)
	settle(maxSettled + 11)
	if o := w.s.Plan.Plan.Operator("ops"); len(o.GetSettled()) != 1 {
		t.Errorf("%d remembered after a day", len(o.GetSettled()))
	}
	if got := w.judge(all...); got != "" {
		t.Errorf("replayed, they come to %s", got)
	}
	// By a leader whose clock is behind, and of a lower counter: with what is dropped for
	// its age goes what is before it in the list, whatever its own.
	late := w.word("ops", maxSettled+12, "late", "cluster/fra")
	early := w.word("ops", maxSettled+11, "early", "cluster/fra")
	settleOne := func(word *plan.Word) {
		w.s.Emergencies = []Emergency{{Word: word, State: EmergencyOver}}
		w.do(Due(w.s)[0])
	}
	settleOne(late)
	w.s.Now = w.s.Now.Add(-time.Hour)
	settleOne(early)
	w.s.Now = w.s.Now.Add(settledFor + time.Minute)
	settle(maxSettled + 13)
	if got := w.judge(late, early); got != "" {
		t.Errorf("replayed a day later, they come to %s", got)
	}
}

// TestOperators: who may drain while the store is away is a person's word, audited, and
// two of one key or name cannot be.
func TestOperators(t *testing.T) {
	w := lists(t, "ops")
	add := func(name string, key []byte) Command {
		return Command{Verb: OperatorAdd, Reason: "on call", Operator: &Operator{Name: name, Key: key}}
	}
	if w.s.Plan.Plan.GetMinReader() < plan.ReaderOperators {
		t.Error("a director that knows no operators may read it")
	}
	w.refused(add("ops", public("x")), "another key")
	w.refused(add("two", public("ops")), "operator ops")
	w.refused(add("two", public("d1")), "director d1")
	w.refused(add("two", []byte("short")), "Ed25519")
	w.refused(add("a b", public("two")), `"a b" is no name of an operator`)
	w.refused(Command{Verb: OperatorAdd, Operator: &Operator{Name: "two", Key: public("two")}}, "reason")
	w.refused(Command{Verb: OperatorRemove, Reason: "left", Operator: &Operator{Name: "nobody"}}, "no operator")
	if c := w.do(add("ops", public("ops"))); !c.Noop {
		t.Error("listed twice")
	}
	for i := range maxOperators - 1 {
		name := fmt.Sprintf("op%d", i)
		w.do(add(name, public(name)))
	}
	w.refused(add("more", public("more")), "the most")
	if err := Check(nil, w.s.Plan); err != nil {
		t.Errorf("S7: %v", err)
	}
	twice := *w.s.Plan
	twice.Plan = proto.CloneOf(twice.Plan)
	twice.Plan.Operators[1].Key = twice.Plan.Operators[0].Key
	if Check(nil, &twice) == nil {
		t.Error("S7: two operators with one key pass")
	}
}

// TestWordsMerge: what is held after all words were heard does not depend on their order,
// on how they were grouped, or on hearing them twice, past the bound too: union is
// commutative, associative and idempotent; and what they come to is the same.
func TestWordsMerge(t *testing.T) {
	w := lists(t, "ops", "two", "three")
	scopes := []string{"cluster/fra", "cluster/nyc", "cluster/sin", "service/shop@fra", "service/pay@nyc", "domain/fra-dc1", "cluster/mars"}
	now := time.Now()
	rapid.Check(t, func(t *rapid.T) {
		var words []*plan.Word
		for i := range rapid.IntRange(1, 3*MaxWords/2).Draw(t, "words") {
			e := w.word(rapid.SampledFrom([]string{"ops", "ops", "ops", "two", "three"}).Draw(t, "operator"), uint64(rapid.IntRange(1, 20).Draw(t, "counter")),
				fmt.Sprintf("e%d", rapid.IntRange(i/2, i).Draw(t, "id")), rapid.SampledFrom(scopes).Draw(t, "scope"), func(e *plan.Emergency) {
					if i > 0 && rapid.IntRange(0, 3).Draw(t, "ends") == 0 {
						e.Ends = words[rapid.IntRange(0, i-1).Draw(t, "which")].GetId()
						if e.Ends == e.Id {
							e.Ends = ""
						}
					}
				})
			words = append(words, e)
		}
		hear := func(e *Emergencies, list []*plan.Word) {
			for _, word := range list {
				e.Add(word, now)
			}
		}
		var a, b Emergencies
		hear(&a, words)
		shuffled := slices.Clone(words)
		seed := rapid.Uint64().Draw(t, "seed")
		rand.New(rand.NewPCG(seed, 1)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		// Two that heard a part each, and then all that the other holds.
		var left, right Emergencies
		cut := rapid.IntRange(0, len(shuffled)).Draw(t, "cut")
		hear(&left, shuffled[:cut])
		hear(&right, shuffled[cut:])
		for _, told := range left.Told(now) {
			b.Add(told.Word, now)
		}
		for _, told := range right.Told(now) {
			b.Add(told.Word, now)
		}
		hear(&b, shuffled[:cut]) // twice
		x, y := a.Told(now), b.Told(now)
		if !slices.EqualFunc(x, y, func(p, q Told) bool { return p.Word.Sum == q.Word.Sum }) {
			t.Fatalf("%d words and %d", len(x), len(y))
		}
		rand.New(rand.NewPCG(seed, 2)).Shuffle(len(y), func(i, j int) { y[i], y[j] = y[j], y[i] })
		one, other := Judge(w.s, x), Judge(w.s, y)
		if comes(one) != comes(other) {
			t.Fatalf("%s\nand\n%s", comes(one), comes(other))
		}
	})
}

// TestEmergencyNeverEmpties: whatever operators say and whatever fails, a service that has
// a healthy site which no person's drain takes has one in its answers (S1), nobody is sent
// where residency forbids (S11), and a service is brought below minHealthy by nothing that
// operators say.
func TestEmergencyNeverEmpties(t *testing.T) {
	w := lists(t, "ops")
	w.do(Command{Verb: Apply, Source: "files", Objects: edit(t, raws(t, fleetYAML), "GlobalService/shop", `"steering"`, `"minHealthy":2,"residency":[{"clients":{"countries":["DE"]},"clusters":{"jurisdiction":"eu"}}],"residencyUnknown":"allow","steering"`)})
	start := *w
	scopes := []string{"cluster/fra", "cluster/nyc", "cluster/sin", "service/shop@fra", "service/pay@nyc", "domain/fra-dc1"}
	rapid.Check(t, func(t *rapid.T) {
		w := start
		w.s.States = map[health.Subject]health.State{}
		for _, svc := range w.s.Spec.Services {
			for _, e := range svc.Endpoints {
				if rapid.IntRange(0, 2).Draw(t, "fails") == 0 {
					w.fail(svc.Name, e.Cluster)
				}
			}
		}
		var told []Told
		for i := range rapid.IntRange(0, 6).Draw(t, "words") {
			told = append(told, Told{w.word("ops", uint64(i+1), fmt.Sprintf("e%d", i), rapid.SampledFrom(scopes).Draw(t, "scope")), time.Duration(rapid.IntRange(0, 60).Draw(t, "left")) * time.Minute})
		}
		with := Overlay(w.s.Plan.Plan, Judge(w.s, told))
		before := steer.Decide(steer.Input{Spec: w.s.Spec, Plan: w.s.Plan.Plan, States: w.s.States, Places: everywhere()})
		after := steer.Decide(steer.Input{Spec: w.s.Spec, Plan: with, States: w.s.States, Places: everywhere()})
		if err := CheckAnswers(w.s.Spec, with, everywhere()); err != nil {
			t.Fatal(err)
		}
		for i := range after.Services {
			b, a := &before.Services[i], &after.Services[i]
			if a.Well() < w.s.Spec.Service(a.Name).MinHealthy && a.Well() < b.Well() {
				t.Fatalf("%s has %d well, had %d", a.Name, a.Well(), b.Well())
			}
			for p := range pairs(b, a) {
				if p.to.Tier > p.from.Tier && p.from.Tier <= steer.TierLastResort {
					t.Fatalf("%s %s falls from %v to %v", a.Name, p.family, p.from.Tier, p.to.Tier)
				}
				if len(p.to.Choices) == 0 && len(p.from.Choices) > 0 {
					t.Fatalf("%s %s is empty", a.Name, p.family)
				}
			}
		}
	})
}
