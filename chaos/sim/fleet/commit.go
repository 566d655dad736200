package fleet

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/director/store/model"
	"github.com/divertdns/divert/election"
	"github.com/divertdns/divert/health"
)

const (
	attempts       = 10              // as director's commander
	commitPatience = 6 * time.Second // as director/store
	raceFirst      = 5 * time.Millisecond
	hastyTick      = 50 * time.Millisecond
)

// verdict is what a command came to.
type verdict struct {
	id      plan.Identity // committed
	noop    uint64        // it was so already, at this revision
	refusal string        // nothing was changed
	unknown bool
}

// commit is one command on its way, as director's commander and director/store go it:
// read, decide, sign, one transaction.
type commit struct {
	p     *director
	cmd   core.Command
	term  *election.Term // of the leader's own
	tries int
	then  func(verdict)

	// Of one attempt.
	snap    snapshot
	change  core.Change
	next    *inForce
	chunks  [][]byte
	tx      *store.Transaction
	began   time.Duration
	open    bool // an attempt left, and nobody knows what became of it
	known   plan.Identity
	at      time.Duration // when it was decided
	from    plan.Identity // answered from then, for the checks
	heard   int
	stopped bool // by a fault
	unsure  bool // the store alone spoke when it was read

	previous *plan.SpecDoc // for a revert
	states   map[health.Subject]health.State
	stable   *prepared    // that it was decided on
	does     core.Command // what it carries out, for the checks: what was asked for, where another person approves it
}

func (p *director) commit(cmd core.Command, term *election.Term, then func(verdict)) {
	c := &commit{p: p, cmd: cmd, term: term, then: then}
	c.begin()
}

// begin waits while who has forgotten what it had must not write.
func (c *commit) begin() {
	if c.p.ids.Hasty() {
		c.p.after(hastyTick, c.begin)
		return
	}
	c.attempt()
}

func (c *commit) refuse(why string) { c.then(verdict{refusal: why}) }

func (c *commit) again() {
	if c.tries++; c.tries >= attempts {
		c.refuse("other commands kept coming between")
		return
	}
	c.p.after(c.p.w.some(0, raceFirst<<c.tries), c.begin)
}

// maySign is why this director's clock is not to be trusted (F15).
func (p *director) maySign() string { return p.clocks.Doubt(p.w.time()) }

// attempt reads the store.
func (c *commit) attempt() {
	p := c.p
	c.previous = nil
	if why := p.maySign(); why != "" {
		c.refuse(why)
		return
	}
	c.known, c.from, c.heard, c.unsure = p.ids.Highest, p.ids.Force, p.hears(), p.ids.Unsure()
	var held []byte
	p.call(func(e *model.Etcd) {
		c.snap = p.snapshot(e)
		held = []byte(e.Get(p.w.keys.Command(c.cmd.Settles())).Value)
	}, func(o outcome) {
		switch {
		case o != replied:
			c.refuse("the store does not answer")
		case len(held) > 0:
			c.repeated(held)
		case c.cmd.Verb == verbRecover:
			c.recover()
		default:
			c.base()
		}
	})
}

// repeated is the outcome of a command that was committed before under this ID.
func (c *commit) repeated(held []byte) {
	r := resultOf(held)
	settles := c.cmd.Settles() != c.cmd.ID
	switch {
	case settles && r.GetApprover() == "" && r.GetRefused() == "": // of no request
		c.base()
		return
	case !settles && !bytes.Equal(r.GetCommand(), c.cmd.Fingerprint()):
		c.refuse("another command has this ID")
		return
	case r.GetRefused() != "" && c.cmd.Verb != core.Deny:
		c.refuse(r.GetRefused())
		return
	}
	id := plan.Identity{Epoch: r.GetEpoch(), Revision: r.GetRevision()}
	copy(id.Hash[:], r.GetPlan())
	c.then(verdict{id: id})
}

// base finds the plan that is decided upon.
func (c *commit) base() {
	p := c.p
	same, err := core.Base(c.known, p.inForce(), c.snap.sealed)
	switch {
	case errors.Is(err, core.ErrOvertaken):
		c.again()
	case err != nil:
		c.refuse(err.Error())
	case c.unsure && p.force != nil:
		c.again()
	case c.unsure:
		c.refuse("no plan is in force here yet")
	case same:
		c.decide(p.force)
	case p.untrusted(c.snap.sealed) != nil:
		c.refuse(refusedPlan)
	default:
		p.documents(c.snap.sealed, func(f *inForce) {
			if f == nil {
				c.refuse("the store does not answer")
				return
			}
			if err := lacksPerson(p.before(f), f, p.vouched(f.sealed)); err != nil {
				p.distrust(f.sealed, err)
				c.refuse(refusedPlan)
				return
			}
			c.decide(f)
		})
	}
}

// decide takes a moment, in which the world goes on.
func (c *commit) decide(base *inForce) {
	p := c.p
	wish := core.Wish(base.sealed.Plan, c.cmd)
	if wish.Verb == core.Revert && c.previous == nil && base.sealed.Plan.GetPrevious() != nil {
		p.read(base.sealed.Plan.GetPrevious(), func(raw []byte) {
			if raw == nil {
				c.refuse("the store does not answer")
				return
			}
			var err error
			c.previous, err = plan.ReadDoc(raw)
			p.must(err)
			c.decide(base)
		})
		return
	}
	p.after(p.w.some(0, 3*time.Millisecond), func() {
		c.at = p.w.now
		s := p.state(base, wish.Paced || c.cmd.Verb == core.Step, wish.Scope)
		s.Previous, c.states, c.stable = c.previous, s.States, base.prepared
		if wish.Verb == core.GoOn {
			s.Seen = p.seen()
		}
		change, err := core.Decide(s, c.cmd)
		switch {
		case err != nil:
			c.refuse(err.Error())
		case change.Noop:
			c.then(verdict{noop: c.snap.sealed.Identity.Revision})
		default:
			c.write(change, base, c.snap.sealed)
		}
	})
}

// state is what a decision depends on.
func (p *director) state(f *inForce, paced bool, scope string) core.State {
	s := core.State{
		Plan: f.sealed, Doc: f.doc, Spec: f.set, States: p.book.States(), Observed: p.book.Observed(p.w.time()),
		Places: placesFor, Now: p.wallTime(), Me: p.name, Prepared: f.steer, Memo: &p.memo, Trial: trialOf(f), Loads: p.w.loads(),
	}
	if paced {
		s.Acks, s.Fresh = p.gates(f, scope)
	}
	return s
}

// gates gives what the steps of drains wait for, as director's gates does; what DNS says
// apart.
func (p *director) gates(f *inForce, scope string) (acks map[string]plan.Identity, fresh map[health.Subject]bool) {
	now := p.w.time()
	acks, fresh = map[string]plan.Identity{}, core.Watched(f.set, f.sealed.Plan, scope)
	for _, d := range core.Voters(f.sealed.Plan) {
		if d.Name == p.name {
			acks[d.Name] = p.ids.Acked()
		} else if h, at, ok := p.book.Peer(d.Name); ok && now.Sub(at) <= time.Second {
			if id, err := plan.ParseIdentity(h.Plan); err == nil {
				acks[d.Name] = id
			}
		}
	}
	maps.DeleteFunc(fresh, func(s health.Subject, _ bool) bool { return !p.book.VotedUp(s, now) })
	return acks, fresh
}

// recover makes a store that was lost, restored or replaced hold the highest plan
// again (F25).
func (c *commit) recover() {
	p := c.p
	if p.force == nil {
		c.refuse("this director holds no plan")
		return
	}
	known := p.ids.Heard()
	if c.snap.sealed != nil {
		if core.Foreign(c.known, c.snap.sealed.Identity) == "" && p.refused != c.snap.sealed.Identity {
			c.refuse("there is nothing to recover")
			return
		}
		known = append(known, core.Known{Director: "the store", Store: true, Identity: c.snap.sealed.Identity})
	}
	known = append(known, core.Known{Identity: p.ids.Highest})
	// A store is lost or restored here as a whole: no audit record of it lies past its plan.
	change, err := core.Recover(p.state(p.force, false, ""), c.cmd, 0, known...)
	if err != nil {
		c.refuse(err.Error())
		return
	}
	c.write(change, p.force, p.force.sealed)
}

// write signs the next plan and begins to send it.
func (c *commit) write(change core.Change, base *inForce, parent *plan.Sealed) {
	p := c.p
	sealed, docs, chunks, held := p.seal(change, base)
	if err := follows(parent, sealed); err != nil {
		c.refuse(err.Error())
		return
	}
	if err := plan.Trusted(nil, sealed); err != nil {
		c.refuse(err.Error())
		return
	}
	c.change, c.chunks, c.next = change, chunks, p.w.put(sealed, docs)
	if err := lacksPerson(base, c.next, true); err != nil {
		c.refuse(err.Error())
		return
	}
	change.Audit.Plan = sealed.Identity.Hash[:]
	in := base.sealed.Plan
	if c.cmd.Verb == verbRecover {
		in = nil
	}
	var err error
	c.tx, err = store.Prepare(prefix, store.Commit{
		Parent: c.snap.mod, Next: sealed, Chunks: chunks, Held: held, Audit: change.Audit, Leader: c.term,
		Read: c.snap.store, Interlocks: core.InterlockChanges(change, in, base.doc),
		Result: c.result(change),
	})
	if err != nil {
		c.refuse(err.Error())
		return
	}
	p.w.ledger.sign(c)
	c.began, c.open = p.w.now, false
	if held {
		c.send()
	} else {
		c.ensure()
	}
}

// result is what the store keeps of it, as director's commander says.
func (c *commit) result(change core.Change) *plan.Result {
	r := &plan.Result{Id: cmp.Or(change.Kept, c.cmd.ID), Summary: change.Summary, At: change.Plan.GetWritten(), Command: change.Of, Approver: change.Audit.GetApprover(), Refused: change.Refused}
	if change.Of == nil {
		r.Command = c.cmd.Fingerprint()
	}
	return r
}

// ensure writes the blobs that the store lacks.
func (c *commit) ensure() {
	p := c.p
	p.call(func(e *model.Etcd) {
		for _, chunk := range c.chunks {
			if key := p.w.keys.Blob(plan.Sum(chunk)); e.Get(key).Create == 0 {
				e.Put(key, string(chunk), 0)
			}
		}
	}, func(o outcome) {
		if o != replied && !c.open {
			c.refuse("the store does not answer")
			return
		}
		c.send()
	})
}

// send sends the transaction until its outcome is known, or time is up, as
// director/store's settle does.
func (c *commit) send() {
	p := c.p
	var a answer
	if !c.stopped {
		if long := p.w.stops(p.name); long > 0 {
			c.stopped = true
			p.paused = p.w.now + long
			p.after(0, c.send)
			return
		}
	}
	p.call(func(e *model.Etcd) { a.done, a.result, a.again, a.err = e.Commit(c.tx) }, func(o outcome) {
		if o == replied {
			c.answered(a)
			return
		}
		c.open = c.open || o == unknown
		switch over := p.w.now-c.began > commitPatience; {
		case c.open && over:
			c.then(verdict{unknown: true})
		case !c.open && p.w.now-c.began > 1500*time.Millisecond:
			c.refuse("the store does not answer")
		default:
			p.after(50*time.Millisecond, c.send)
		}
	})
}

// answer is etcd's, judged.
type answer struct {
	done, again bool
	result      *plan.Result
	err         error
}

func (c *commit) answered(a answer) {
	mine := a.result != nil && bytes.Equal(a.result.GetPlan(), c.tx.Result().GetPlan())
	switch {
	case a.done:
		c.done()
	case a.again:
		c.ensure()
	case errors.Is(a.err, store.ErrDone) && mine:
		c.done() // it was our own attempt
	case errors.Is(a.err, store.ErrDone), errors.Is(a.err, store.ErrConflict):
		c.again()
	default:
		c.refuse(fmt.Sprint(a.err))
	}
}

func (c *commit) done() {
	id := c.next.sealed.Identity
	c.p.tell("committed %d.%d: %s", id.Epoch, id.Revision, c.change.Summary)
	c.p.offer(c.next)
	c.then(verdict{id: id})
}
