package fleet

import (
	"fmt"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store/model"
	"github.com/divertdns/divert/election"
)

const (
	leaseLife = 5 * time.Second
	queueAt   = prefix + "election/"
)

// campaign is a director's standing in the election: election/etcd, in short.
type campaign struct {
	lease   int64
	key     string
	expires time.Duration // by what was sent last and answered
	mine    bool
	term    election.Term
	aside   time.Duration // no candidate before this
	session int           // which of them; what belongs to an older one is nobody's
}

// leads tells whether this director may believe that it leads (F11).
func (p *director) leads() bool { return p.campaign.mine && p.w.now < p.campaign.expires }

// stand asks for a lease and joins the queue, again and again.
func (p *director) stand() {
	c := &p.campaign
	if p.w.now < c.aside {
		p.after(c.aside-p.w.now, p.stand)
		return
	}
	c.session++
	n, sent, id := c.session, p.w.now, int64(0)
	p.call(func(e *model.Etcd) {
		id = e.Grant(p.w.now, leaseLife)
	}, func(o outcome) {
		if o != replied {
			p.after(p.w.some(100*time.Millisecond, time.Second), p.stand)
			return
		}
		*c = campaign{lease: id, key: fmt.Sprintf("%s%x", queueAt, id), expires: sent + leaseLife, session: n, aside: c.aside}
		p.call(func(e *model.Etcd) { e.Put(c.key, p.name, id) }, func(outcome) { p.look(n) })
		p.after(leaseLife/3, func() { p.keepAlive(n) })
	})
}

func (p *director) over(n int) {
	c := &p.campaign
	if c.session != n {
		return
	}
	id := c.lease
	c.session++
	c.mine, c.lease = false, 0
	p.call(func(e *model.Etcd) { e.Revoke(id) }, func(outcome) {})
	p.after(p.w.some(50*time.Millisecond, 400*time.Millisecond), p.stand)
}

func (p *director) keepAlive(n int) {
	c := &p.campaign
	if c.session != n {
		return
	}
	if p.w.now >= c.expires {
		p.over(n)
		return
	}
	sent, kept := p.w.now, false
	p.call(func(e *model.Etcd) { kept = e.Renew(c.lease, p.w.now, leaseLife) }, func(o outcome) {
		switch {
		case c.session != n:
		case o != replied:
			p.after(100*time.Millisecond, func() { p.keepAlive(n) })
		case !kept:
			p.over(n)
		default:
			c.expires = sent + leaseLife
			p.after(leaseLife/3, func() { p.keepAlive(n) })
		}
	})
}

// look reads the queue: the oldest key leads.
func (p *director) look(n int) {
	c := &p.campaign
	if c.session != n {
		return
	}
	var first string
	var v model.Entry
	here := false
	p.call(func(e *model.Etcd) {
		first, v = e.First(queueAt)
		here = e.Get(c.key).Create > 0
	}, func(o outcome) {
		switch {
		case c.session != n:
			return
		case o == replied && !here:
			p.over(n)
			return
		case o == replied:
			was := c.mine
			c.mine = first == c.key && p.w.now >= c.aside
			c.term = election.Term{Leader: p.name, Key: c.key, CreateRevision: v.Create}
			if c.mine && !was {
				p.tell("leads")
			}
		}
		p.after(500*time.Millisecond, func() { p.look(n) }) // in place of the watch
	})
}

// steward does what only the leader does, each second.
func (p *director) steward() {
	leads, why := p.leads(), ""
	if leads {
		if p.book.Isolated(p.w.time()) {
			why = "this director hears too few others"
		} else {
			why = p.maySign()
		}
	}
	switch duties, resign := p.fit.Look(leads, why, p.w.time()); {
	case duties:
		p.duties(p.campaign.term)
	case resign:
		p.tell("resigns: %s", why)
		p.campaign.aside = p.w.now + leaseLife
		p.over(p.campaign.session)
	}
}

func (p *director) duties(term election.Term) {
	if p.force == nil || !p.usable() || p.ids.Hasty() || p.busy {
		return
	}
	var next func(due []core.Command)
	next = func(due []core.Command) {
		if p.busy = len(due) > 0; p.busy {
			p.commit(due[0], &term, func(verdict) { next(due[1:]) })
		}
	}
	s := p.state(p.force, true, "")
	if s.Trial != nil {
		s.Seen = p.seen()
	}
	s.Emergencies = p.wordsDue()
	next(core.Due(s))
}

// collect removes blobs that no plan in use refers to.
func (p *director) collect() {
	if !p.leads() || p.force == nil || p.store.problem != "" {
		return
	}
	keep := map[plan.Hash]bool{}
	for _, ref := range p.force.sealed.Plan.Kept() {
		for _, h := range ref.GetChunks() {
			keep[plan.Hash(h)] = true
		}
	}
	term := p.campaign.term
	var snap snapshot
	var blobs []string
	p.call(func(e *model.Etcd) {
		snap = p.snapshot(e)
		blobs = e.Below(p.w.keys.Blobs())
	}, func(o outcome) {
		if o != replied || snap.sealed == nil {
			return
		}
		unused, fence, err := p.w.keys.Collectable(blobs, keep, snap.sealed, snap.mod, term)
		p.must(err)
		if len(unused) == 0 {
			return
		}
		p.tell("collects %d blobs", len(unused))
		p.paused = max(p.paused, p.w.now+p.w.stops(p.name))
		p.after(0, func() { p.call(func(e *model.Etcd) { e.Delete(fence, unused) }, func(outcome) {}) })
	})
}
