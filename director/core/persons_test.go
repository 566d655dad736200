package core

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// newPair is a fleet that asks for two persons, all of whose directors have keys.
func newPair(t testing.TB) *world {
	t.Helper()
	w := newWorld(t)
	for _, d := range []string{"d2", "d3"} {
		w.do(Command{Verb: DirectorJoin, Author: SpecAuthor, Director: &Director{Name: d, Key: public(d)}})
	}
	w.do(Command{Verb: Apply, Source: SourceFiles, Objects: w.twoPersons(true)})
	if got := w.s.Plan.Plan.GetMinReader(); got != plan.ReaderDangers {
		t.Fatalf("got a plan for readers of %d, want %d: an older director would commit what waits", got, plan.ReaderDangers)
	}
	return w
}

func (w *world) twoPersons(on bool) []spec.Raw {
	fleet := only(raws(w.t, fleetYAML), "Fleet/default")
	if on {
		return edit(w.t, fleet, "Fleet/default", `"spec":{`, `"spec":{"safety":{"twoPersons":true},`)
	}
	return fleet
}

// via gives the fleet by way of another director, a moment later.
func (w *world) via(director, author string, c Command) (Change, error) {
	w.s.Me, w.key = director, director
	w.s.Now = w.s.Now.Add(time.Second)
	c.Author = author
	return w.try(c)
}

// asked has a command become a request, which is in force.
func (w *world) asked(c Command) *plan.Request {
	w.t.Helper()
	before := w.s.Plan.Plan
	got, err := w.via("d1", "alice", c)
	if err != nil {
		w.t.Fatalf("%s %s: %v", c.Verb, c.Scope, err)
	}
	if got.Noop || got.Request.GetState() != plan.Request_OPEN || got.Kept != "ask-"+c.ID && c.ID != "" {
		w.t.Fatalf("%s %s: got %+v, want a request", c.Verb, c.Scope, got)
	}
	w.take(got)
	after := proto.CloneOf(w.s.Plan.Plan)
	after.Requests, after.Revision, after.Parent, after.Written, after.Writer = before.Requests, before.Revision, before.Parent, before.Written, before.Writer
	after.MinReader = before.MinReader // what waits may be for newer ones alone
	if !proto.Equal(before, after) {
		w.t.Fatalf("S16: %s changes the plan before anybody approved it", c.Verb)
	}
	return w.s.Plan.Plan.Request(got.Request.GetId())
}

// wants refuses, saying so.
func (w *world) wants(director, author string, c Command, want string) {
	w.t.Helper()
	got, err := w.via(director, author, c)
	if err == nil || !strings.Contains(err.Error(), want) {
		w.t.Errorf("%s by %s at %s: got %+v, %v, want %q", c.Verb, author, director, got.Summary, err, want)
	}
}

// TestTwoPersons: what is dangerous waits, and another person has it done (S16).
func TestTwoPersons(t *testing.T) {
	w := newPair(t)
	w.do(w.drain("cluster/sin")) // a third of shop
	r := w.asked(Command{ID: "second", Verb: Drain, Scope: "cluster/fra", Reason: "INC-2", For: time.Hour})
	if len(r.GetDangers()) != 1 || !strings.Contains(r.GetDangers()[0], "shop (100 of 300 left)") {
		t.Errorf("got %q, want what is left of shop", r.GetDangers())
	}
	yes := Command{Verb: Approve, Scope: "second"}
	w.wants("d2", "alice", yes, "alice asked for it")
	w.wants("d2", "alice (bob)", yes, "alice asked for it") // a label makes no other person
	w.wants("d1", "bob", yes, "another one has to vouch")
	w.wants("d2", "bob", Command{Verb: Approve, Scope: "third"}, "no request")

	// Who asked sees it wait, under the same ID, and may look at what it does.
	again, err := w.via("d3", "alice", Command{ID: "second", Verb: Drain, Scope: "cluster/fra", Reason: "INC-2", For: time.Hour})
	if err != nil || !again.Noop || again.Request.GetState() != plan.Request_OPEN {
		t.Errorf("said again: got %+v, %v", again, err)
	}
	w.wants("d3", "alice", Command{ID: "second", Verb: Drain, Scope: "cluster/nyc", Reason: "INC-2", For: time.Hour}, "used for another")
	look, err := w.via("d1", "alice", Command{Verb: Approve, Scope: "second", DryRun: true})
	if err != nil || !look.Noop || look.Preview.Void != "" || len(look.Preview.Effects) == 0 || len(look.Preview.TwoPersons) != 1 {
		t.Errorf("looked at: got %+v, %v", look, err)
	}

	got, err := w.via("d2", "bob", yes)
	if err != nil {
		t.Fatal(err)
	}
	w.take(got)
	o := w.s.Plan.Plan.GetOverrides()[1]
	a := w.audit[len(w.audit)-1]
	if o.GetId() != "second" || o.GetAuthor() != "alice" || o.GetApprover() != "bob" || o.GetScope() != "cluster/fra" {
		t.Errorf("got %v, want the drain of alice that bob approved", o)
	}
	if a.GetWho() != "alice" || a.GetApprover() != "bob" || a.GetVia() != "d2" || a.GetBreakGlass() || got.Kept != "second" || string(got.Of) != string(r.GetFingerprint()) {
		t.Errorf("S15: got %v", a)
	}
	twice, err := w.via("d3", "carol", yes)
	if err != nil || !twice.Noop {
		t.Errorf("approved twice: got %+v, %v, want nothing to do", twice, err)
	}
	w.wants("d3", "carol", Command{Verb: Deny, Scope: "second", Reason: "no"}, "it is done, approved by bob")
}

// TestDangers: which commands take two persons, and which do not (S16).
func TestDangers(t *testing.T) {
	add := &Director{Name: "d4", Site: "ams", Key: public("d4")}
	swap := edit(t, only(raws(t, fleetYAML), "Fleet/default"), "Fleet/default", `{"name":"d3"`, `{"name":"d4"},{"name":"d3"`)
	swap = edit(t, swap, "Fleet/default", `"spec":{`, `"spec":{"safety":{"twoPersons":true},`)
	tests := []struct {
		name string
		c    Command
		want string // "": one person is enough
	}{
		{"a third of the capacity", Command{Verb: Drain, Scope: "service/shop@fra"}, ""},
		{"half of it", Command{Verb: Drain, Scope: "service/pay@fra"}, ""},
		{"what is forced", Command{Verb: Drain, Scope: "service/shop@fra", Force: true}, "forced"},
		{"in steps", Command{Verb: Drain, Scope: "selector/jurisdiction=us", Paced: true}, ""},
		{"a freeze", Command{Verb: Freeze, For: time.Hour}, ""},
		{"a director more", Command{Verb: DirectorAdd, Director: add}, "roster: d4"},
		{"a director less", Command{Verb: DirectorRemove, Scope: "d3"}, "roster: d3"},
		{"an operator", Command{Verb: OperatorAdd, Operator: &Operator{Name: "ops", Key: public("ops")}}, "emergency: ops"},
		{"a token for everything", Command{Verb: TokenCreate, For: time.Hour, Token: &Token{Name: "ci", Sum: make([]byte, 32), Role: "admin", Scopes: []string{"fleet"}}}, "token ci"},
		{"a token to look", Command{Verb: TokenCreate, For: time.Hour, Token: &Token{Name: "ci", Sum: make([]byte, 32), Role: "viewer", Scopes: []string{"fleet"}}}, ""},
		{"two persons off", Command{Verb: Apply, Source: SourceFiles}, "twoPersons off"},
		{"a director more in the spec", Command{Verb: Apply, Source: SourceFiles, Objects: swap}, "which key: d4"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w := newPair(t)
			w.seen()
			c := tc.c
			c.Reason = "INC-1"
			if c.Verb == Drain {
				c.For = time.Hour
			}
			if c.Verb == Apply && c.Objects == nil {
				c.Objects = w.twoPersons(false)
			}
			dry := c
			dry.DryRun = true
			look, err := w.via("d1", "alice", dry)
			if err != nil {
				t.Fatal(err)
			}
			got, err := w.via("d1", "alice", c)
			if err != nil {
				t.Fatal(err)
			}
			why := strings.Join(look.Preview.TwoPersons, "; ")
			if (got.Request != nil) != (tc.want != "") || !strings.Contains(why, tc.want) || why == "" && tc.want != "" {
				t.Errorf("got %v for %q, want %q", got.Request, why, tc.want)
			}
			if tc.want == "" {
				return
			}
			w.take(got)
			done, err := w.via("d2", "bob", Command{Verb: Approve, Scope: got.Request.GetId()})
			if err != nil {
				t.Fatal(err)
			}
			before := w.s
			w.take(done)
			if err := CheckPersons(succession(before, w.s)); err != nil {
				t.Errorf("S7: what was approved is refused: %v", err)
			}
		})
	}
}

func succession(before, after State) Succession {
	return Succession{Cur: before.Plan, Spec: before.Spec, Next: after.Plan, NextSpec: after.Spec}
}

// TestOffByDefault: a fleet that says nothing of two persons commits as ever (S16).
func TestOffByDefault(t *testing.T) {
	w := newWorld(t)
	w.do(w.drain("cluster/sin"))
	got := w.do(w.drain("cluster/nyc"))
	if got.Request != nil || w.s.Plan.Plan.GetMinReader() >= plan.ReaderPersons {
		t.Errorf("got a request %v, for readers of %d", got.Request, w.s.Plan.Plan.GetMinReader())
	}
}

// TestRequestExpires: after 15 minutes nobody can approve it, and its ID says so (S16).
func TestRequestExpires(t *testing.T) {
	w := newPair(t)
	c := Command{ID: "late", Verb: DirectorRemove, Scope: "d3", Reason: "gone"}
	w.asked(c)
	w.s.Now = w.s.Now.Add(RequestLasts - 2*time.Second)
	if _, err := w.via("d2", "bob", Command{Verb: Approve, Scope: "late"}); err != nil {
		t.Errorf("a second before its end: %v", err)
	}
	w.wants("d2", "bob", Command{Verb: Approve, Scope: "late"}, "expired")
	w.wants("d1", "alice", c, "nobody approved this")
	w.wants("d1", "bob", Command{Verb: Deny, Scope: "late", Reason: "no"}, "expired")
	w.s.Now = w.s.Now.Add(25 * time.Hour)
	c.ID = "later"
	w.asked(c)
	if got := len(w.s.Plan.Plan.GetRequests()); got != 1 {
		t.Errorf("got %d requests a day later, want that alone", got)
	}
}

// TestDenied: a request that is denied is never done, and whoever asked learns why (S16).
func TestDenied(t *testing.T) {
	w := newPair(t)
	c := Command{ID: "no", Verb: DirectorRemove, Scope: "d3", Reason: "gone"}
	w.asked(c)
	w.wants("d1", "bob", Command{Verb: Deny, Scope: "no"}, "reason")
	got, err := w.via("d1", "bob", Command{Verb: Deny, Scope: "no", Reason: "it is only slow"})
	if err != nil || !strings.Contains(got.Refused, "denied by bob (it is only slow)") || got.Kept != "no" {
		t.Fatalf("got %+v, %v", got, err)
	}
	w.take(got)
	w.wants("d1", "alice", c, "denied by bob (it is only slow)")
	w.wants("d2", "carol", Command{Verb: Approve, Scope: "no"}, "denied by bob")
}

// TestApprovalVoid: what does something else than when it was asked for is not carried
// out, whatever has changed: health, the spec, other drains (S16).
func TestApprovalVoid(t *testing.T) {
	tests := []struct {
		name string
		then func(*world)
	}{
		{"a site has failed", func(w *world) { w.fail("shop", "nyc") }},
		{"another drain ends", func(w *world) { w.do(Command{Verb: Undrain, Scope: "service/shop@sin"}) }},
		{"the spec", func(w *world) {
			w.do(Command{Verb: Apply, Author: "carol", Reason: "x", BreakGlass: true, Source: SourceFiles, Objects: edit(t, only(raws(t, fleetYAML), "GlobalService/shop"), "GlobalService/shop", `["fra","nyc","sin"]`, `["nyc","fra","sin"]`)})
		}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w := newPair(t)
			w.do(w.drain("service/shop@sin"))
			w.asked(Command{ID: "r", Verb: Drain, Scope: "service/shop@fra", Reason: "x", For: time.Hour, Force: true})
			tc.then(w)
			look, err := w.via("d2", "bob", Command{Verb: Approve, Scope: "r", DryRun: true})
			if err != nil || look.Preview.Void == "" {
				t.Errorf("shown: got %+v, %v, want that it has changed", look.Preview, err)
			}
			w.wants("d2", "bob", Command{Verb: Approve, Scope: "r"}, "changed since")
		})
	}
}

// TestBreakGlass: one person may do it at once, with a reason, on record and with an
// alert; no other rule is passed by it, residency least of all (S16, S11).
func TestBreakGlass(t *testing.T) {
	w := newPair(t)
	c := Command{ID: "glass", Verb: Drain, Scope: "selector/jurisdiction=us", For: time.Hour, BreakGlass: true}
	w.do(w.drain("cluster/sin"))
	w.wants("d1", "alice", c, "reason")
	c.Reason = "INC-9"
	got, err := w.via("d1", "alice", c)
	if err != nil {
		t.Fatal(err)
	}
	before := w.s
	w.take(got)
	if err := CheckPersons(succession(before, w.s)); err != nil {
		t.Errorf("S7: what broke the glass is refused: %v", err)
	}
	a, o := w.audit[len(w.audit)-1], w.s.Plan.Plan.GetOverrides()[1]
	if !a.GetBreakGlass() || !a.GetForced() || !o.GetBreakGlass() {
		t.Errorf("S15: got %v, %v", a, o)
	}
	if got := Alarming(w.s.Plan.Plan, w.s.Now); len(got) != 1 || got[0].GetId() != "glass" {
		t.Fatalf("got %v, want an alert", got)
	}
	if got := Alarming(w.s.Plan.Plan, w.s.Now.Add(GlassAlerts)); len(got) != 0 {
		t.Errorf("a day later: got %v", got)
	}
	w.wants("d1", "alice", Command{Verb: Acknowledge, Scope: "glass"}, "may not acknowledge")
	if got, err = w.via("d1", "bob", Command{Verb: Acknowledge, Scope: "glass"}); err != nil {
		t.Fatal(err)
	}
	w.take(got)
	if got := Alarming(w.s.Plan.Plan, w.s.Now); len(got) != 0 {
		t.Errorf("acknowledged: got %v", got)
	}
	// The last site takes --force besides.
	w.wants("d1", "alice", Command{Verb: Drain, Scope: "cluster/fra", Reason: "x", For: time.Hour, BreakGlass: true}, "last healthy site")
}

// TestBreakGlassKeepsResidency: no answer leaves the allowed set, whoever breaks what (S11).
func TestBreakGlassKeepsResidency(t *testing.T) {
	w := newPair(t)
	shop := edit(t, only(raws(t, fleetYAML), "GlobalService/shop"), "GlobalService/shop", `"hosts":`, `"residency":[{"clients":{"continents":["EU"]},"clusters":{"jurisdiction":"eu"}}],"hosts":`)
	w.do(Command{Verb: Apply, Source: SourceFiles, Objects: shop})
	for _, scope := range []string{"cluster/fra", "cluster/nyc", "cluster/sin"} {
		got, err := w.via("d1", "alice", Command{Verb: Drain, Scope: scope, Reason: "x", For: time.Hour, Force: true, BreakGlass: true})
		if err != nil {
			t.Fatal(err)
		}
		w.take(got)
		if err := CheckAnswers(w.s.Spec, w.s.Plan.Plan, everywhere()); err != nil {
			t.Errorf("S11: %v", err)
		}
	}
}

// TestRequestsAreBounded: nobody fills the plan with what waits.
func TestRequestsAreBounded(t *testing.T) {
	w := newPair(t)
	ask := func(author string) error {
		got, err := w.via("d1", author, Command{Verb: Drain, Scope: "service/shop@fra", Reason: "x", For: time.Hour, Force: true})
		if err == nil {
			w.take(got)
		}
		return err
	}
	for range maxAsked {
		if err := ask("alice"); err != nil {
			t.Fatal(err)
		}
	}
	bounded := func(who string, reason string, remedies ...string) {
		t.Helper()
		err := ask(who)
		r, ok := errors.AsType[*Refusal](err)
		if !ok || !strings.Contains(r.Reason, reason) {
			t.Errorf("%s: got %v, want a bound", who, err)
			return
		}
		for _, what := range remedies {
			if !strings.Contains(r.Remedy, what) {
				t.Errorf("%s: the remedy %q does not say %q", who, r.Remedy, what)
			}
		}
	}
	first := w.s.Plan.Plan.GetRequests()[0]
	bounded("alice (again)", "4 requests of alice wait", "divert approvals", "divert deny "+first.GetId(), "wait until "+clock(first.GetExpires().AsTime()), "--break-glass")
	for _, who := range []string{"bob", "carol", "dan"} {
		for range maxAsked {
			if err := ask(who); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := ask("eve"); err != nil || len(w.s.Plan.Plan.GetRequests()) != maxRequests {
		t.Errorf("got %v and %d requests, want that one gives way", err, len(w.s.Plan.Plan.GetRequests()))
	}
	list := w.s.Plan.Plan.GetRequests() // where each has as few as who asks
	if r := full(list, 1, "zoe", nil); !strings.Contains(r.Reason, "16 requests wait") || !strings.Contains(r.Remedy, "--break-glass") || !strings.Contains(r.Remedy, " ends; ") {
		t.Errorf("got %v", r)
	}
	large := edit(t, only(raws(t, fleetYAML), "Fleet/default"), "Fleet/default", `"name":"default"`, `"name":"default","labels":{"a":"`+strings.Repeat("x", 9<<10)+`"}`)
	w.s.Plan = w.resigned(func(p *plan.Plan) { p.Requests[15].Bundle = &plan.SpecRef{Size: MaxWishes - 9<<10} })
	w.wants("d1", "fay", Command{Verb: Apply, Source: SourceFiles, Reason: "x", Objects: large}, "from a file of its own")
}

// TestFolderTakesNoTwo: what a folder brings and takes two persons waits for one (S19, S16).
func TestFolderTakesNoTwo(t *testing.T) {
	w := newWorld(t)
	files := Command{Verb: Apply, Source: SourceFiles, Folder: "d1", Reason: "spec files changed", Author: "director d1", Objects: w.twoPersons(true)}
	w.do(files)
	files.Objects = edit(t, files.Objects, "Fleet/default", `{"name":"d3"`, `{"name":"d4"},{"name":"d3"`)
	w.refused(files, "takes two persons")
}

// TestApproverMayDoIt: who may not do something may not have it done, nor keep others
// from it (S16).
func TestApproverMayDoIt(t *testing.T) {
	w := newPair(t)
	w.asked(Command{ID: "r", Verb: DirectorRemove, Scope: "d3", Reason: "gone"})
	for _, c := range []Command{{Verb: Approve, Scope: "r"}, {Verb: Deny, Scope: "r", Reason: "no"}} {
		c.By = granted(t, "cert:bob", "operator fleet")
		w.wants("d2", "cert:bob", c, "takes admin")
	}
	c := Command{Verb: Approve, Scope: "r", By: granted(t, "cert:bob", "admin fleet")}
	if got, err := w.via("d2", "cert:bob", c); err != nil || got.Noop {
		t.Errorf("got %+v, %v", got, err)
	}
	// Who asked may take it back.
	if got, err := w.via("d2", "alice", Command{Verb: Deny, Scope: "r", Reason: "a mistake"}); err != nil || got.Noop {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestWishSurvives: the command that is carried out is the one that was given.
func TestWishSurvives(t *testing.T) {
	w := newPair(t)
	c := Command{ID: "r", Verb: Drain, Scope: "service/shop@fra", Reason: "x", For: 90 * time.Minute, Force: true, Paced: true, Steps: []int{10, 100}, Wait: 40 * time.Second, LastResort: true, Author: "alice"}
	w.seen()
	r := w.asked(c)
	got, err := wished(r)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := json.Marshal(c)
	have, _ := json.Marshal(got)
	if string(have) != string(want) {
		t.Errorf("got %s, want %s", have, want)
	}
}

// TestLyingRequest: a rogue director cannot have an honest person approve something else
// than what the request says (S16, S7).
func TestLyingRequest(t *testing.T) {
	w := newPair(t)
	r := w.asked(Command{ID: "r", Verb: DirectorRemove, Scope: "d3", Reason: "gone"})
	lie := func(edit func(*plan.Request)) {
		q := proto.CloneOf(r)
		edit(q)
		q.SignAsked("fleet-1", keyOf("d1"))
		s := w.s
		s.Plan = &plan.Sealed{Plan: proto.CloneOf(w.s.Plan.Plan), Identity: w.s.Plan.Identity}
		s.Plan.Plan.Requests, s.Me = []*plan.Request{q}, "d2"
		if got, err := Decide(s, Command{ID: "y", Verb: Approve, Scope: "r", Author: "bob"}); err == nil {
			t.Errorf("got %+v, want a refusal", got.Audit)
		}
	}
	lie(func(q *plan.Request) { q.What = "remove director d9" })
	lie(func(q *plan.Request) {
		q.Command = []byte(`{"id":"r","verb":"director-remove","scope":"d2","reason":"gone"}`)
	})
	lie(func(q *plan.Request) { q.Effect = nil })
	lie(func(q *plan.Request) { q.Via = "d3" })
	lie(func(q *plan.Request) { q.Command = []byte(`{"id":"r","verb":"recover"}`) })
}

// TestRestoreTakesTwo: no backup switches two persons off by the word of one, unless that
// is recorded as break-glass (S16).
func TestRestoreTakesTwo(t *testing.T) {
	w := newWorld(t)
	for _, d := range []string{"d2", "d3"} {
		w.do(Command{Verb: DirectorJoin, Author: SpecAuthor, Director: &Director{Name: d, Key: public(d)}})
	}
	saved := Saved{Plan: w.s.Plan, Doc: w.s.Doc}
	w.do(Command{Verb: Apply, Source: SourceFiles, Objects: w.twoPersons(true)})
	c := Command{ID: "back", Verb: Restore, Author: "alice", Reason: "INC-1"}
	_, err := Restored(w.s, c, saved, Director{Name: "d1", Key: public("d1")}, 0)
	if err == nil || !strings.Contains(err.Error(), "takes two persons: it switches safety.twoPersons off") {
		t.Errorf("got %v, want a refusal", err)
	}
	c.Force = true
	got, err := Restored(w.s, c, saved, Director{Name: "d1", Key: public("d1")}, 0)
	if err != nil || !got.Audit.GetBreakGlass() || len(got.Plan.GetGlass()) != 1 {
		t.Fatalf("got %+v, %v, want it on record", got.Audit, err)
	}
	before := w.s
	w.take(got)
	if err := CheckPersons(succession(before, w.s)); err != nil {
		t.Errorf("S7: the others refuse it: %v", err)
	}
}

// FuzzWish: what a plan holds as a request brings nobody down, however it came there, and
// never says who is somebody else.
func FuzzWish(f *testing.F) {
	w := newPair(f)
	r := w.asked(Command{ID: "r", Verb: DirectorRemove, Scope: "d3", Reason: "gone"})
	f.Add(r.GetCommand(), []byte(`[{"kind":"Fleet","name":"default","json":{}}]`))
	f.Add([]byte(`{"verb":"approve","scope":"r","dryRun":true,"breakGlass":true,"folder":"d1"}`), []byte(nil))
	f.Add([]byte(`{"verb":"drain","forSeconds":1e300}`), []byte(`[{}]`))
	f.Fuzz(func(t *testing.T, command, objects []byte) {
		q := proto.CloneOf(r)
		q.Command, q.Objects = command, objects
		q.SignAsked("fleet-1", keyOf("d1"))
		s := w.s
		s.Plan = &plan.Sealed{Plan: proto.CloneOf(w.s.Plan.Plan), Identity: w.s.Plan.Identity}
		s.Plan.Plan.Requests = []*plan.Request{q}
		s.Me = "d2"
		c, err := wished(q)
		if err == nil && (c.ID != "r" || c.Author != "alice" || c.DryRun || c.BreakGlass || c.Folder != "") {
			t.Errorf("%s: got %+v", command, c)
		}
		if change, err := Decide(s, Command{ID: "y", Verb: Approve, Scope: "r", Author: "bob"}); err == nil && !change.Noop && (change.Audit.GetWho() != "alice" || change.Audit.GetApprover() != "bob") {
			t.Errorf("%s: got %v", command, change.Audit)
		}
	})
}
