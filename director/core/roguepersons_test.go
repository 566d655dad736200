package core

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/steer"
)

// rogue is a director, d3, that has its own key and whatever it has seen, and a fleet in
// which alice has asked, by way of d1, for an operator, whom bob has approved by way of d2,
// and for a drain that waits.
type rogue struct {
	*world
	before State // when the first was approved
	done   State
}

func newRogue(t testing.TB) *rogue {
	t.Helper()
	w := newPair(t)
	w.do(Command{Verb: Drain, Scope: "service/shop@sin", Reason: "x", For: time.Hour})
	w.asked(Command{ID: "waits", Verb: Drain, Scope: "service/shop@fra", Reason: "x", For: time.Hour, LastResort: true})
	w.asked(Command{ID: "done", Verb: OperatorAdd, Reason: "x", Operator: &Operator{Name: "ops", Key: public("ops")}})
	r := &rogue{world: w, before: w.s}
	got, err := w.via("d2", "bob", Command{Verb: Approve, Scope: "done"})
	if err != nil {
		t.Fatal(err)
	}
	w.take(got)
	r.done = w.s
	return r
}

// next is a plan over one in force, as the rogue begins it.
func (r *rogue) next(cur *plan.Sealed) *plan.Plan {
	p := proto.CloneOf(cur.Plan)
	p.Revision, p.Parent, p.Writer = cur.Identity.Revision+1, slices.Clone(cur.Identity.Hash[:]), "d3"
	p.Written = timestamppb.New(r.s.Now.Add(time.Second))
	return p
}

// taken is what each other director does with a plan of the rogue's: nil, and it is in
// force.
func (r *rogue) taken(cur State, p *plan.Plan, by string) error {
	next, err := plan.Sign(p, by, keyOf(by))
	if err != nil {
		return err
	}
	if err := plan.Trusted(cur.Plan, next); err != nil {
		return err
	}
	if err := Check(cur.Plan, next); err != nil {
		return err
	}
	if err := CheckAnswers(cur.Spec, p, everywhere()); err != nil {
		return err
	}
	return CheckPersons(Succession{Cur: cur.Plan, Spec: cur.Spec, Next: next, NextSpec: cur.Spec})
}

func drainOf(id, scope string, now time.Time) *plan.Override {
	return &plan.Override{Id: id, Kind: plan.Override_DRAIN, Scope: scope, Author: "alice", Reason: "x", Start: timestamppb.New(now), End: timestamppb.New(now.Add(time.Hour)), LastResort: true}
}

// TestRogueDirector: a director with its own key signs what it likes; what breaks S1, S3,
// S7, S11, S13, S16, S18 or the roster's rule is refused by every other, which goes on with
// the plan in force (S7).
func TestRogueDirector(t *testing.T) {
	forge := func(r *plan.Request, edit func(*plan.Request)) {
		r.State, r.By, r.ByVia, r.Done, r.At = plan.Request_DONE, "bob", "d3", 0, nil
		edit(r)
	}
	tests := []struct {
		name string
		make func(*rogue, *plan.Plan)
		want string
	}{
		{"half of a service goes, and nobody asked", func(r *rogue, p *plan.Plan) {
			p.Overrides = append(p.Overrides, drainOf("x", "service/shop@nyc", r.s.Now))
		}, "no request for it was approved"},
		{"under the name of an operator, without his word", func(r *rogue, p *plan.Plan) {
			o := drainOf("x", "service/shop@nyc", r.s.Now)
			o.Author, o.Word = "operator ops", []byte("so he said")
			p.Overrides = append(p.Overrides, o)
		}, "no request for it was approved"},
		{"a request appears approved at once", func(r *rogue, p *plan.Plan) {
			q := &plan.Request{Id: "new", Author: "alice", Via: "d3", By: "bob", ByVia: "d3", State: plan.Request_DONE, Revision: p.GetRevision(), Done: p.GetRevision()}
			q.SignAsked(p.GetFleet(), keyOf("d3"))
			q.SignApproved(p.GetFleet(), keyOf("d3"))
			p.Requests = append(p.Requests, q)
			p.Overrides = append(p.Overrides, drainOf("new", "service/shop@nyc", r.s.Now))
		}, "over before anybody has seen it asked for"},
		{"a request in the name of another director", func(r *rogue, p *plan.Plan) {
			q := &plan.Request{Id: "new", Author: "alice", Via: "d1", State: plan.Request_OPEN, Revision: p.GetRevision(), Parent: p.GetParent()}
			q.SignAsked(p.GetFleet(), keyOf("d3"))
			p.Requests = append(p.Requests, q)
		}, "request new is not of this plan"},
		{"approved by who asked", func(r *rogue, p *plan.Plan) {
			q := p.Request("waits")
			forge(q, func(q *plan.Request) {
				q.By, q.Done, q.At = "alice (bob)", p.GetRevision(), p.GetWritten()
				q.SignApproved(p.GetFleet(), keyOf("d3"))
			})
			p.Overrides = append(p.Overrides, drainOf("waits", "service/shop@fra", r.s.Now))
		}, "has approved what he asked for himself"},
		{"approved in the name of another director", func(r *rogue, p *plan.Plan) {
			q := p.Request("waits")
			forge(q, func(q *plan.Request) {
				q.ByVia, q.Done, q.At = "d2", p.GetRevision(), p.GetWritten()
				q.SignApproved(p.GetFleet(), keyOf("d3"))
			})
			p.Overrides = append(p.Overrides, drainOf("waits", "service/shop@fra", r.s.Now))
		}, "another director than the plan's writer"},
		{"approved after it had expired", func(r *rogue, p *plan.Plan) {
			p.Written = timestamppb.New(r.s.Now.Add(RequestLasts))
			q := p.Request("waits")
			forge(q, func(q *plan.Request) {
				q.Done, q.At = p.GetRevision(), p.GetWritten()
				q.SignApproved(p.GetFleet(), keyOf("d3"))
			})
			p.Overrides = append(p.Overrides, drainOf("waits", "service/shop@fra", r.s.Now))
		}, "had expired"},
		{"approved late, and said to be in time", func(r *rogue, p *plan.Plan) {
			p.Written = timestamppb.New(r.s.Now.Add(RequestLasts))
			q := p.Request("waits")
			forge(q, func(q *plan.Request) {
				q.Done, q.At = p.GetRevision(), timestamppb.New(r.s.Now)
				q.SignApproved(p.GetFleet(), keyOf("d3"))
			})
			p.Overrides = append(p.Overrides, drainOf("waits", "service/shop@fra", r.s.Now))
		}, "had expired when this plan was written"},
		{"its time is prolonged", func(r *rogue, p *plan.Plan) {
			p.Request("waits").Expires = timestamppb.New(r.s.Now.Add(time.Hour))
			q := p.Request("waits")
			forge(q, func(q *plan.Request) {
				q.Done, q.At = p.GetRevision(), p.GetWritten()
				q.SignApproved(p.GetFleet(), keyOf("d3"))
			})
			p.Overrides = append(p.Overrides, drainOf("waits", "service/shop@fra", r.s.Now))
		}, "had expired"},
		{"what was approved is another command", func(r *rogue, p *plan.Plan) {
			q := p.Request("waits")
			forge(q, func(q *plan.Request) {
				q.Command = []byte(`{"id":"waits","verb":"drain","scope":"service/shop@nyc"}`)
				q.Done, q.At = p.GetRevision(), p.GetWritten()
				q.SignApproved(p.GetFleet(), keyOf("d3"))
			})
			p.Overrides = append(p.Overrides, drainOf("waits", "service/shop@nyc", r.s.Now))
		}, "has not signed it"},
		{"an approval, and something else with it", func(r *rogue, p *plan.Plan) {
			q := p.Request("waits")
			forge(q, func(q *plan.Request) {
				q.Done, q.At = p.GetRevision(), p.GetWritten()
				q.SignApproved(p.GetFleet(), keyOf("d3"))
			})
			p.Overrides = append(p.Overrides, drainOf("waits", "service/shop@fra", r.s.Now), drainOf("y", "service/shop@nyc", r.s.Now))
		}, "more than was approved"},
		{"an approval is used for another drain", func(r *rogue, p *plan.Plan) {
			p.Overrides = append(p.Overrides, drainOf("done", "service/shop@nyc", r.s.Now))
		}, "no request for it was approved"},
		{"an approval is used twice", func(r *rogue, p *plan.Plan) {
			p.Request("done").Done = p.GetRevision()
			p.Overrides = append(p.Overrides, drainOf("z", "service/shop@nyc", r.s.Now))
		}, "no request for it was approved"},
		{"glass broken without a reason", func(r *rogue, p *plan.Plan) {
			p.Glass = append(p.Glass, &plan.BreakGlass{Id: "g", Author: "alice", Revision: p.GetRevision()})
			p.Overrides = append(p.Overrides, drainOf("g", "service/shop@nyc", r.s.Now))
		}, "no request for it was approved"},
		{"glass broken before", func(r *rogue, p *plan.Plan) {
			p.Glass = append(p.Glass, &plan.BreakGlass{Id: "g", Author: "alice", Reason: "x", Revision: p.GetRevision() - 1})
			p.Overrides = append(p.Overrides, drainOf("g", "service/shop@nyc", r.s.Now))
		}, "no request for it was approved"},
		{"two directors removed", func(_ *rogue, p *plan.Plan) {
			p.Director("d1").Standing, p.Director("d2").Standing = plan.Director_REMOVED, plan.Director_REMOVED
		}, "2 directors of the roster change at once"},
		{"one director removed", func(_ *rogue, p *plan.Plan) {
			p.Director("d1").Standing = plan.Director_REMOVED
		}, "roster: d1"},
		{"a director of its own added", func(_ *rogue, p *plan.Plan) {
			p.Roster = append(p.Roster, &plan.Director{Name: "d4", Site: "x", Key: public("d4"), Standing: plan.Director_ACTIVE})
		}, "roster: d4"},
		{"another's key replaced", func(_ *rogue, p *plan.Plan) { p.Director("d1").Key = public("x") }, "d1 gets another key"},
		{"an operator of its own", func(_ *rogue, p *plan.Plan) {
			p.Operators = append(p.Operators, &plan.Operator{Name: "me", Key: public("me"), Revision: p.GetRevision()})
		}, "emergency: me"},
		{"a token of its own", func(r *rogue, p *plan.Plan) {
			p.Tokens = append(p.Tokens, &plan.Token{Name: "me", Sum: make([]byte, 32), Role: "admin", Scopes: []string{"fleet"}, Author: "unix:alice", Reason: "x", Since: p.GetWritten(), Expires: timestamppb.New(r.s.Now.Add(time.Hour)), Revision: p.GetRevision()})
		}, "token me"},
		{"a director vanishes", func(_ *rogue, p *plan.Plan) { p.Roster = p.Roster[1:] }, "vanished"},
		{"another writer's name", func(_ *rogue, p *plan.Plan) { p.Writer = "d1" }, "names \"d1\" as its writer"},
		{"an override without an end", func(r *rogue, p *plan.Plan) {
			o := drainOf("e", "cluster/sin", r.s.Now)
			o.End = nil
			p.Overrides = append(p.Overrides, o)
		}, "has no end"},
		{"one of a year", func(r *rogue, p *plan.Plan) {
			o := drainOf("e", "cluster/sin", r.s.Now)
			o.End = timestamppb.New(r.s.Now.Add(365 * 24 * time.Hour))
			p.Overrides = append(p.Overrides, o)
		}, "ends later"},
		{"another fleet", func(_ *rogue, p *plan.Plan) { p.Fleet = "fleet-2" }, "is of fleet"},
		{"a serial that goes back", func(_ *rogue, p *plan.Plan) { p.Zones[0].Serial-- }, "goes back"},
		{"another parent", func(_ *rogue, p *plan.Plan) { p.Parent = make([]byte, 32) }, "follows another plan"},
		{"an older revision", func(_ *rogue, p *plan.Plan) { p.Revision -= 2 }, "older than"},
		{"the last number there is", func(_ *rogue, p *plan.Plan) { p.Revision = 1 << 63 }, "no room"},
		{"readers that know less, so that the next plan is held to less", func(_ *rogue, p *plan.Plan) { p.MinReader = plan.ReaderPersons }, "held to less"},
		{"such readers, revisions later", func(_ *rogue, p *plan.Plan) {
			p.MinReader, p.Revision, p.Parent = plan.ReaderPersons, p.GetRevision()+5, make([]byte, 32)
		}, "held to less"},
		// As if revisions had been missed, or the store been lost: nothing is let through for it.
		{"revisions skipped", func(r *rogue, p *plan.Plan) {
			p.Revision, p.Parent = p.GetRevision()+5, make([]byte, 32)
			p.Overrides = append(p.Overrides, drainOf("x", "service/shop@nyc", r.s.Now))
		}, "no request for it was approved"},
		{"another epoch", func(r *rogue, p *plan.Plan) {
			p.Epoch++
			p.Overrides = append(p.Overrides, drainOf("x", "service/shop@nyc", r.s.Now))
		}, "no request for it was approved"},
		{"a roster of its own in another epoch", func(_ *rogue, p *plan.Plan) {
			p.Epoch++
			p.Roster = []*plan.Director{{Name: "d3", Site: "sin", Key: public("d3"), Standing: plan.Director_ACTIVE}}
		}, "roster: d1, d2"},
		{"asked and approved in revisions that nobody has", func(r *rogue, p *plan.Plan) {
			p.Revision, p.Parent = p.GetRevision()+5, make([]byte, 32)
			q := proto.CloneOf(p.Request("waits"))
			q.Id, q.Via, q.Revision, q.Command = "new", "d3", p.GetRevision()-1, []byte(`{"id":"new","verb":"drain","scope":"service/shop@nyc"}`)
			q.SignAsked(p.GetFleet(), keyOf("d3"))
			forge(q, func(q *plan.Request) {
				q.Done, q.At = p.GetRevision(), q.GetAsked()
				q.SignApproved(p.GetFleet(), keyOf("d3"))
			})
			p.Requests = append(p.Requests, q)
			p.Overrides = append(p.Overrides, drainOf("new", "service/shop@nyc", r.s.Now))
		}, "d3 alone says"},
	}
	r := newRogue(t)
	for _, tc := range tests {
		p := r.next(r.done.Plan)
		tc.make(r, p)
		if err := r.taken(r.done, p, "d3"); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want it refused: %q", tc.name, err, tc.want)
		}
	}
	if err := r.taken(r.done, r.next(r.done.Plan), "d3"); err != nil {
		t.Errorf("a plan that changes nothing: %v", err)
	}
	if err := r.taken(r.done, r.next(r.done.Plan), "x"); err == nil {
		t.Error("a stranger's plan is taken")
	}
}

// TestApprovedFarAway: a director that was away while a request was asked for and approved
// takes the plan by what it proves, and one that comes back too late for that by the word
// of another that was there (S7).
func TestApprovedFarAway(t *testing.T) {
	r := newRogue(t)
	before := newRogue(t) // the very same fleet: its plan before anybody asked
	away := before.before
	if err := CheckPersons(succession(away, r.done)); err != nil {
		t.Errorf("a revision missed: %v", err)
	}
	forgotten := r.done
	p := proto.CloneOf(r.done.Plan.Plan)
	p.Revision += 3
	p.Requests = nil
	sealed, err := plan.Sign(p, "d1", keyOf("d1"))
	if err != nil {
		t.Fatal(err)
	}
	forgotten.Plan = sealed
	s := succession(r.before, forgotten)
	if err := CheckPersons(s); err == nil {
		t.Error("what nothing proves is taken")
	}
	if s.Vouched = true; CheckPersons(s) != nil {
		t.Error("what another that was there acknowledges is not taken")
	}
	direct := succession(r.before, r.done)
	direct.Vouched = true
	direct.Next = r.sign(func(p *plan.Plan) { p.Request("done").ApprovedSignature = nil })
	if err := CheckPersons(direct); err == nil {
		t.Error("a word of others goes before what the plan itself must prove")
	}
}

func (r *rogue) sign(edit func(*plan.Plan)) *plan.Sealed {
	r.t.Helper()
	p := proto.CloneOf(r.done.Plan.Plan)
	edit(p)
	s, err := plan.Sign(p, "d2", keyOf("d2"))
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// TestRogueProperty: whatever a rogue director adds to a plan of what it has seen and can
// sign, no other one's answers lose more than half of a service, nor does the roster or who
// is believed in an emergency change, unless glass is broken, which alerts (S16, S7).
func TestRogueProperty(t *testing.T) {
	r := newRogue(t)
	rapid.Check(t, func(t *rapid.T) {
		cur := rapid.SampledFrom([]State{r.before, r.done}).Draw(t, "in force")
		p := r.next(cur.Plan)
		p.Revision += rapid.Uint64Range(0, 3).Draw(t, "skipped")
		p.Epoch += rapid.Uint64Range(0, 1).Draw(t, "epochs")
		ids := []string{"waits", "done", "new", "x"}
		scopes := []string{"service/shop@nyc", "service/shop@fra", "service/pay@nyc", "service/pay@fra", "cluster/nyc", "domain/fra-dc1"}
		for range rapid.IntRange(0, 3).Draw(t, "drains") {
			o := drainOf(rapid.SampledFrom(ids).Draw(t, "id"), rapid.SampledFrom(scopes).Draw(t, "scope"), r.s.Now)
			o.Forced, o.Approver = rapid.Bool().Draw(t, "forced"), rapid.SampledFrom([]string{"", "bob"}).Draw(t, "approver")
			p.Overrides = append(p.Overrides, o)
		}
		who := []string{"d1", "d2", "d3", "d4", ""}
		people := []string{"alice", "bob", "alice (bob)", ""}
		for range rapid.IntRange(0, 3).Draw(t, "requests") {
			q := p.Request(rapid.SampledFrom(ids).Draw(t, "request"))
			if q == nil {
				q = &plan.Request{Id: "new", Author: "alice", Revision: cur.Plan.Identity.Revision + 1, Parent: p.GetParent(), Asked: p.GetWritten(), Expires: timestamppb.New(r.s.Now.Add(RequestLasts))}
				p.Requests = append(p.Requests, q)
			}
			if rapid.Bool().Draw(t, "asked anew") {
				q.Via, q.Author = rapid.SampledFrom(who).Draw(t, "via"), rapid.SampledFrom(people).Draw(t, "author")
				q.Command = []byte(`{"verb":"drain","scope":"` + rapid.SampledFrom(scopes).Draw(t, "wish") + `"}`)
				q.SignAsked(p.GetFleet(), keyOf("d3"))
			}
			q.State = plan.Request_State(rapid.Int32Range(0, 3).Draw(t, "state"))
			q.By, q.ByVia = rapid.SampledFrom(people).Draw(t, "by"), rapid.SampledFrom(who).Draw(t, "by way of")
			q.Done, q.At = p.GetRevision(), p.GetWritten()
			q.SignApproved(p.GetFleet(), keyOf("d3"))
		}
		if rapid.Bool().Draw(t, "roster") {
			d := p.GetRoster()[rapid.IntRange(0, 2).Draw(t, "director")]
			d.Key, d.Standing = public(rapid.SampledFrom(who).Draw(t, "key")), plan.Director_Standing(rapid.Int32Range(0, 2).Draw(t, "standing"))
		}
		if err := r.taken(cur, p, "d3"); err != nil {
			return
		}
		// Alice did ask for what waits: that much a director may do alone, see DESIGN.
		asked := p.Request("waits").GetState() == plan.Request_DONE && string(p.Request("waits").GetAskedSignature()) == string(cur.Plan.Plan.Request("waits").GetAskedSignature())
		asked = asked || cur.Plan == r.before.Plan && p.Request("done").GetState() == plan.Request_DONE && string(p.Request("done").GetAskedSignature()) == string(cur.Plan.Plan.Request("done").GetAskedSignature())
		if why := dangers(side{cur.Plan.Plan, cur.Spec}, side{p, cur.Spec}); len(why) > 0 && !asked {
			t.Fatalf("taken, and %v: %v", why, p)
		}
		for _, d := range cur.Plan.Plan.Active() {
			if now := p.Director(d.GetName()); now.GetStanding() != plan.Director_ACTIVE || string(now.GetKey()) != string(d.GetKey()) {
				t.Fatalf("director %s is another: %v", d.GetName(), now)
			}
		}
		for _, svc := range steer.Decide(steer.Input{Spec: cur.Spec, Plan: p, Places: everywhere()}).Services {
			if len(svc.V4.Sets) > 0 && svc.Well() == 0 && !asked {
				t.Fatalf("%s has no site left: %v", svc.Name, p)
			}
		}
	})
}
