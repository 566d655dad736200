package fleet

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/director/store/model"
)

// outcome is what is known of a request to etcd.
type outcome int

const (
	replied outcome = iota
	unsent          // it never left
	unknown         // it left, and no answer came
)

// callPatience is how long an answer is waited for.
const callPatience = time.Second

// call has etcd do something, and goes on with what is known of it.
func (p *director) call(do func(*model.Etcd), then func(outcome)) {
	w := p.w
	reaches := func() bool { return !w.any("etcd-down", "") && !w.any("etcd-cut", p.name) }
	if !reaches() {
		p.after(w.some(time.Millisecond, 50*time.Millisecond), func() { then(unsent) })
		return
	}
	w.after(w.way(), func() {
		flaky := w.any("etcd-flaky", "")
		if !reaches() || flaky && w.rnd.IntN(6) == 0 {
			w.push(w.now+callPatience, p, func() { then(unknown) })
			return
		}
		w.etcd.Expire(w.now)
		do(w.etcd)
		back := w.way()
		if flaky && w.rnd.IntN(3) == 0 || w.any("etcd-deaf", p.name) {
			w.push(w.now+callPatience, p, func() { then(unknown) })
			return
		}
		w.push(w.now+back, p, func() {
			if !reaches() {
				p.after(callPatience, func() { then(unknown) })
				return
			}
			then(replied)
		})
	})
}

// snapshot is store.Snapshot, as far as it matters here.
type snapshot struct {
	sealed *plan.Sealed
	mod    int64
	store  int64 // etcd's own revision
}

func (p *director) snapshot(e *model.Etcd) (s snapshot) {
	s.store = e.Revision()
	if v := e.Get(p.w.keys.Plan()); v.Create > 0 {
		sealed, err := plan.Open([]byte(v.Value))
		p.must(err)
		s.sealed, s.mod = sealed, v.Mod
	}
	return s
}

// readStore takes what the store holds, and says whether commands can be; as
// director's librarian does.
func (p *director) readStore() {
	known, began := p.ids.Highest, p.w.now
	var snap snapshot
	p.call(func(e *model.Etcd) { snap = p.snapshot(e) }, func(o outcome) {
		if o == replied && snap.sealed != nil {
			p.w.ledger.read(p, snap.sealed, began)
		}
		if o != replied {
			p.store = storeState{problem: "the store does not answer"}
			return
		}
		p.learn(known, snap)
	})
}

func (p *director) learn(known plan.Identity, snap snapshot) {
	var found plan.Identity
	if snap.sealed != nil {
		found = snap.sealed.Identity
	}
	p.store = storeState{ok: true, problem: core.Foreign(known, found)}
	if snap.sealed != nil && p.store.problem == "" {
		if err := p.untrusted(snap.sealed); err != nil {
			p.distrust(snap.sealed, err)
		}
		if p.refused == found && !found.IsZero() {
			p.store.problem = refusedPlan
		}
	}
	p.ids.Stored = plan.Identity{}
	if p.store.problem == "" {
		p.ids.Stored = found
	}
	if snap.sealed == nil || p.store.problem != "" {
		return
	}
	if p.force != nil && p.ids.Force.Compare(found) >= 0 {
		return // it is in force, or what came into force since the read
	}
	p.documents(snap.sealed, func(f *inForce) {
		if f == nil {
			return
		}
		if p.offer(f); p.refused == f.sealed.Identity {
			p.store.problem, p.ids.Stored = refusedPlan, plan.Identity{}
		}
	})
}

// refusedPlan is what is wrong with a store that holds a plan that is refused.
const refusedPlan = "the store holds a plan that is not to be trusted"

// documents gets a plan's specs: what is at hand, the rest from the store; nil: they cannot
// be had now.
func (p *director) documents(s *plan.Sealed, then func(*inForce)) {
	has, refs := p.at(), s.Plan.Specs()
	chunks := map[plan.Hash][]byte{}
	finish := func() {
		var docs [][]byte
		for _, ref := range refs {
			doc := has[string(ref.GetHash())]
			if doc == nil {
				var err error
				if doc, err = store.Join(ref, chunks); err != nil {
					then(nil)
					return
				}
			}
			docs = append(docs, doc)
		}
		then(p.w.put(s, docs))
	}
	if !slices.ContainsFunc(refs, func(ref *plan.SpecRef) bool { return has[string(ref.GetHash())] == nil }) {
		finish()
		return
	}
	p.call(func(e *model.Etcd) {
		for _, ref := range refs {
			for _, h := range ref.GetChunks() {
				if v := e.Get(p.w.keys.Blob(plan.Hash(h))); v.Create > 0 {
					chunks[plan.Hash(h)] = []byte(v.Value)
				}
			}
		}
	}, func(o outcome) {
		if o != replied {
			then(nil)
			return
		}
		finish()
	})
}

// read gets one document from the store; nil: it cannot be had.
func (p *director) read(ref *plan.SpecRef, then func([]byte)) {
	chunks := map[plan.Hash][]byte{}
	p.call(func(e *model.Etcd) {
		for _, h := range ref.GetChunks() {
			if v := e.Get(p.w.keys.Blob(plan.Hash(h))); v.Create > 0 {
				chunks[plan.Hash(h)] = []byte(v.Value)
			}
		}
	}, func(o outcome) {
		doc, err := store.Join(ref, chunks)
		if o != replied || err != nil {
			then(nil)
			return
		}
		then(doc)
	})
}

// offer leaves a plan to the loop, which takes the highest offered.
func (p *director) offer(f *inForce) {
	if err := follows(p.inForce(), f.sealed); err != nil {
		p.distrust(f.sealed, err) // the old one stays in force (S7)
		return
	}
	if err := lacksPerson(p.before(f), f, p.vouched(f.sealed)); err != nil {
		p.distrust(f.sealed, err)
		return
	}
	if p.refused == f.sealed.Identity {
		p.refused = plan.Identity{}
	}
	if p.next == nil || f.sealed.Identity.Compare(p.next.sealed.Identity) > 0 {
		p.next = f
	}
	p.ids.Raise(f.sealed.Identity)
	p.step()
}

// follows says why a plan must not replace the one in force, as director's does.
func follows(cur, next *plan.Sealed) error {
	if err := plan.Trusted(cur, next); err != nil {
		return err
	}
	return core.Check(cur, next)
}

// before is the plan that another is held against: its parent, where that is here.
func (p *director) before(f *inForce) *inForce {
	if p.next != nil && string(p.next.sealed.Identity.Hash[:]) == string(f.sealed.Plan.GetParent()) {
		return p.next
	}
	return p.force
}

// vouched tells whether a registered director besides a plan's writer and this one has
// acknowledged it, or a later one, as director's does.
func (p *director) vouched(s *plan.Sealed) bool {
	return p.force != nil && slices.ContainsFunc(p.ids.Holders(s.Identity), func(name string) bool {
		return name != p.name && name != s.Signer && p.force.sealed.Plan.Director(name).GetStanding() == plan.Director_ACTIVE
	})
}

// lacksPerson says what takes two persons in a plan over another, and is approved by no
// second one, as director's does.
func lacksPerson(base, next *inForce, vouched bool) error {
	if base == nil {
		return nil
	}
	s := core.Succession{Cur: base.sealed, Spec: base.set, Next: next.sealed, NextSpec: next.set, Vouched: vouched}
	if next.trial != nil {
		s.Tries = next.trial.set
	}
	return core.CheckPersons(s)
}

// fetch asks one peer for the newest plan that any live peer names.
func (p *director) fetch() {
	if p.force == nil {
		return
	}
	top, _ := p.ids.Named()
	if p.ids.Force.Compare(top) >= 0 {
		p.wanted, p.got = nil, nil
		return
	}
	if holders := p.ids.Holders(top); len(holders) > 0 {
		p.send(holders[p.w.rnd.IntN(len(holders))], kindPlanWant, nil)
	}
}

// library serves peers that want a plan, and takes what was wanted from them.
func (p *director) library(m message) {
	switch m.kind {
	case kindPlanWant:
		p.send(m.from, kindPlan, p.claims().Raw)
	case kindChunkWant:
		if doc := p.hands(m.payload); doc != nil {
			p.send(m.from, kindChunk, doc)
		}
	case kindPlan:
		s, err := plan.Open(m.payload)
		if err != nil || s.Identity.Compare(p.ids.Force) <= 0 {
			return
		}
		if err := follows(p.force.sealed, s); err != nil {
			p.distrust(s, err)
			return
		}
		p.wanted, p.got = s, p.at()
		p.gather(m.from)
	case kindChunk:
		if p.wanted != nil {
			sum := plan.Sum(m.payload)
			p.got[string(sum[:])] = m.payload
			p.gather(m.from)
		}
	}
}

// gather asks for the next document that a wanted plan lacks, and offers it when none is.
func (p *director) gather(from string) {
	var docs [][]byte
	for _, ref := range p.wanted.Plan.Specs() {
		doc := p.got[string(ref.GetHash())]
		if doc == nil {
			p.send(from, kindChunkWant, ref.GetHash())
			return
		}
		docs = append(docs, doc)
	}
	s := p.wanted
	p.wanted, p.got = nil, nil
	p.offer(p.w.put(s, docs))
}

// usable tells whether what acts by itself may (F25).
func (p *director) usable() bool { return p.store.ok && p.store.problem == "" && p.ids.Current() }

// acknowledge tells the store which plan this director holds (S6).
func (p *director) acknowledge() {
	id := p.ids.Acked()
	if id.IsZero() || id == p.acked || p.store.problem != "" {
		return
	}
	ack := &plan.Ack{Director: p.name, Fleet: id.Fleet, Epoch: id.Epoch, Revision: id.Revision, Plan: id.Hash[:], At: timestamppb.New(p.w.time())}
	raw, err := proto.Marshal(ack)
	p.must(err)
	p.call(func(e *model.Etcd) { e.Put(p.w.keys.Ack(p.name), string(raw), 0) }, func(o outcome) {
		if o == replied {
			p.acked = id
		}
	})
}
