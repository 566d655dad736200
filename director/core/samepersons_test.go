package core

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
)

// TestOnePersonTwice: nobody approves by another credential of his own, or by a token,
// what he has asked for, nor acknowledges so that he broke the glass (S16).
func TestOnePersonTwice(t *testing.T) {
	w := newPair(t)
	w.do(w.drain("cluster/sin"))
	token := makeToken("ci", "operator", "fleet")
	token.Author = "unix:alice"
	w.do(token)
	tests := []struct {
		name, asks, approves string
		want                 string // "": it is done
	}{
		{"the same name in a certificate", "unix:alice", "cert:alice", "may not approve it as well"},
		{"and by the socket", "cert:alice (root)", "unix:alice (bob)", "may not approve it as well"},
		{"by a token", "unix:alice", "token:ci", "no second person"},
		{"by a ServiceAccount", "unix:alice", "kube:fra/system:serviceaccount:ops:ci", "no second person"},
		{"who made the token that asked", "token:ci", "cert:alice", "may not approve it as well"},
		{"another person", "unix:alice", "cert:bob", ""},
		{"another than made the token", "token:ci", "unix:bob", ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w := &world{t: t, s: w.s, key: w.key}
			asked, err := w.via("d1", tc.asks, Command{ID: "second", Verb: Drain, Scope: "cluster/fra", Reason: "INC-2", For: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			w.take(asked)
			if tc.want != "" {
				w.wants("d2", tc.approves, Command{Verb: Approve, Scope: "second"}, tc.want)
			} else if got, err := w.via("d2", tc.approves, Command{Verb: Approve, Scope: "second"}); err != nil || got.Noop {
				t.Fatalf("got %+v, %v, want it done", got, err)
			}
			// A director that writes that it was approved so is not believed (S7).
			next := proto.CloneOf(w.s.Plan.Plan)
			next.Revision, next.Parent, next.Writer, next.Written = w.s.Plan.Identity.Revision+1, w.s.Plan.Identity.Hash[:], "d2", timestamppb.New(w.s.Now)
			r := next.Request("second")
			r.State, r.By, r.ByVia, r.Done, r.At = plan.Request_DONE, tc.approves, "d2", next.Revision, next.Written
			r.SignApproved(next.GetFleet(), keyOf("d2"))
			drain := drainOf("second", "cluster/fra", w.s.Now)
			drain.Author, drain.Revision = tc.asks, next.Revision
			next.Overrides = append(next.Overrides, drain)
			sealed, err := plan.Sign(next, "d2", keyOf("d2"))
			if err != nil {
				t.Fatal(err)
			}
			err = CheckPersons(Succession{Cur: w.s.Plan, Spec: w.s.Spec, Next: sealed, NextSpec: w.s.Spec})
			if refused := err != nil; refused != (tc.want != "") {
				t.Errorf("the other directors say %v", err)
			}
		})
	}
	w.s.Now = w.s.Now.Add(time.Hour)
	broken, err := w.via("d1", "token:ci", Command{ID: "glass", Verb: Drain, Scope: "cluster/fra", Reason: "INC-3", For: time.Hour, BreakGlass: true})
	if err != nil {
		t.Fatal(err)
	}
	w.take(broken)
	w.wants("d2", "cert:alice", Command{Verb: Acknowledge, Scope: "glass"}, "may not acknowledge it as well")
	w.wants("d2", "token:other", Command{Verb: Acknowledge, Scope: "glass"}, "no second person")
	w.wants("d2", "kube:fra/system:serviceaccount:ops:ci", Command{Verb: Acknowledge, Scope: "glass"}, "no second person")
	if _, err := w.via("d2", "unix:bob", Command{Verb: Acknowledge, Scope: "glass"}); err != nil {
		t.Error(err)
	}
}

// TestRestoredByOne: what a backup brings back is held against S16 as an apply is, and
// what comes of it is a plan that the other directors take: one that they refuse would
// leave each command and each answer of theirs behind (S12).
func TestRestoredByOne(t *testing.T) {
	w := newPair(t)
	with := w.s
	old := newWorld(t)
	for _, d := range []string{"d2", "d3"} {
		old.do(Command{Verb: DirectorJoin, Author: SpecAuthor, Director: &Director{Name: d, Key: public(d)}})
	}
	b := old.saved() // from before two persons were asked for
	c := Command{ID: "r", Verb: Restore, Author: "unix:alice", Reason: "INC-1"}
	if _, err := Restored(w.s, c, b, Director{Name: "d1"}, 40); err == nil || !strings.Contains(err.Error(), "switches safety.twoPersons off") {
		t.Errorf("got %v, want what takes two persons", err)
	}
	c.Force = true
	got, err := Restored(w.s, c, b, Director{Name: "d1"}, 40)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Audit.GetBreakGlass() || len(got.Plan.GetGlass()) != 1 {
		t.Errorf("got %v, want broken glass on record", got.Audit)
	}
	w.take(got)
	if err := CheckPersons(succession(with, w.s)); err != nil {
		t.Errorf("the other directors refuse it: %v", err)
	}
}

// TestRecoveredByOne: a plan that is given up may have held what others go by, so that the
// recovered one says so, and they follow it.
func TestRecoveredByOne(t *testing.T) {
	w := newPair(t)
	mine := w.s
	w.do(w.drain("cluster/sin"))
	added, err := w.via("d1", "unix:alice", Command{ID: "op", Verb: OperatorAdd, Reason: "INC-1", BreakGlass: true, Operator: &Operator{Name: "ops", Key: public("ops")}})
	if err != nil {
		t.Fatal(err)
	}
	w.take(added)
	theirs := w.s
	w.s = mine
	lost := Known{Director: "the store", Store: true, Identity: theirs.Plan.Identity}
	c := Command{ID: "rec", Verb: RecoverStore, Author: "unix:alice", Reason: "the store was lost", Force: true}
	got, err := Recover(w.s, c, 0, lost)
	if err != nil {
		t.Fatal(err)
	}
	w.take(got)
	if err := CheckPersons(succession(theirs, w.s)); err != nil {
		t.Errorf("who held the plan that was given up refuses the one that replaces it: %v", err)
	}
	w.s = mine
	if got, err = Recover(w.s, c, 0); err != nil || len(got.Plan.GetGlass()) != 0 {
		t.Errorf("got %v, %v, want no broken glass where nothing is given up", got.Plan.GetGlass(), err)
	}
}

// TestForcedRolloutGoesOn: what two persons had some directors try, by force, the leader has
// all take: it asks nobody once more.
func TestForcedRolloutGoesOn(t *testing.T) {
	k := newKeeper(t)
	k.joined()
	k.do(Command{Verb: Apply, Source: SourceFiles, Objects: k.twoPersons(true)})
	c := Command{ID: "try", Verb: Apply, Source: SourceFiles, Objects: slower(t)[6:7], Canary: []string{"d2"}, Soak: 5 * time.Minute, Reason: "try"}
	k.do(c)
	k.s.Plan.Plan.Rollout.Forced = true // as one is that passed a rule
	k.acknowledged()
	k.s.Now = k.s.Now.Add(6 * time.Minute)
	if got := k.leader(); got != GoOn || k.s.Plan.Plan.Soaking() != nil || len(k.s.Plan.Plan.GetRequests()) != 0 {
		t.Errorf("got %q, the rollout is %v, requests %v", got, k.s.Plan.Plan.GetRollout(), k.s.Plan.Plan.GetRequests())
	}
}

// TestWhoMayAcknowledge: who looks at what was done by break-glass might have done it: an
// operator of something else acknowledges nothing (S16).
func TestWhoMayAcknowledge(t *testing.T) {
	w := newPair(t)
	for _, c := range []Command{
		{ID: "g", Verb: Drain, Scope: "service/shop@nyc", For: time.Hour, Force: true, Reason: "INC-1", BreakGlass: true},
		{ID: "op", Verb: OperatorAdd, Reason: "INC-1", BreakGlass: true, Operator: &Operator{Name: "ops", Key: public("ops")}},
	} {
		got, err := w.via("d1", "unix:alice", c)
		if err != nil || !got.Audit.GetBreakGlass() {
			t.Fatalf("%s: got %+v, %v", c.Verb, got, err)
		}
		w.take(got)
	}
	for _, tc := range []struct{ id, grant, want string }{
		{"g", "operator service/pay", "takes operator of"},
		{"g", "operator cluster/fra", "takes operator of"},
		{"g", "operator service/shop", ""},
		{"op", "operator fleet", "takes admin"},
		{"op", "admin service/shop", "takes admin of"},
		{"op", "admin fleet", ""},
	} {
		c := Command{Verb: Acknowledge, Scope: tc.id, By: granted(t, "cert:bob", tc.grant)}
		if tc.want != "" {
			w.wants("d2", "cert:bob", c, tc.want)
			continue
		}
		got, err := w.via("d2", "cert:bob", c)
		if err != nil || got.Noop {
			t.Errorf("%s of %s: got %+v, %v", tc.grant, tc.id, got, err)
		}
	}
	// One of before this field was is the fleet's, and what keeps the store an admin's.
	w.s.Plan.Plan.GetGlass()[0].Verb, w.s.Plan.Plan.GetGlass()[0].Scope = "", ""
	w.s.Plan.Plan.GetGlass()[1].Verb = string(Restore)
	w.wants("d2", "cert:bob", Command{Verb: Acknowledge, Scope: "g", By: granted(t, "cert:bob", "operator service/shop")}, "takes operator of")
	w.wants("d2", "cert:bob", Command{Verb: Acknowledge, Scope: "op", By: granted(t, "cert:bob", "operator fleet")}, "takes admin")
	if got, err := w.via("d2", "cert:bob", Command{Verb: Acknowledge, Scope: "g", By: granted(t, "cert:bob", "operator fleet")}); err != nil || got.Noop {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestGoOnApproved: who lags when somebody asks that a rollout go on need not when another
// approves it: that is how the fleet is, and no part of what was asked for.
func TestGoOnApproved(t *testing.T) {
	k := newKeeper(t)
	k.joined()
	k.do(Command{Verb: Apply, Source: SourceFiles, Objects: k.twoPersons(true)})
	k.do(Command{ID: "try", Verb: Apply, Source: SourceFiles, Objects: slower(t)[6:7], Canary: []string{"d2"}, Soak: 5 * time.Minute, Reason: "try"})
	k.acknowledged()
	delete(k.s.Seen, "d3")
	asked, err := k.via("d1", "unix:alice", Command{ID: "on", Verb: GoOn, Force: true, Reason: "INC-1"})
	if err != nil || asked.Request == nil || strings.Contains(asked.Request.GetWhat(), "d3") {
		t.Fatalf("got %+v, %v, want a request", asked, err)
	}
	k.write(asked)
	k.s.Seen["d3"] = k.s.Seen["d1"]
	delete(k.s.Seen, "d1")
	lying := k.s
	lying.Plan = &plan.Sealed{Plan: proto.CloneOf(k.s.Plan.Plan), Identity: k.s.Plan.Identity}
	lying.Me = "d2"
	q := lying.Plan.Plan.Request("on")
	q.What += "; without d1, which may still answer otherwise"
	q.SignAsked("fleet-1", keyOf("d1"))
	if got, err := Decide(lying, Command{ID: "y", Verb: Approve, Scope: "on", Author: "unix:bob"}); err == nil {
		t.Errorf("a text that is not the command's: got %+v", got.Audit)
	}
	got, err := k.via("d2", "unix:bob", Command{Verb: Approve, Scope: "on"})
	if err != nil || got.Noop {
		t.Fatalf("got %+v, %v, want it done", got, err)
	}
	if what := got.Audit.GetWhat(); !strings.HasSuffix(what, "; without d1, which may still answer otherwise") {
		t.Errorf("the record says %q, and not who lags", what)
	}
}
