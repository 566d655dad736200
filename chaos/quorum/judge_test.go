package quorum

import (
	"bytes"
	"context"
	"strings"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
)

// log reads the audit log, and holds it against what every log must be: a record a
// revision, and no command twice (S4, S15).
func (c *stepCase) log(ctx context.Context) (all []*plan.Audit) {
	c.t.Helper()
	c.eventually("the audit log", func() (ok bool) {
		var err error
		all, err = audit(ctx, c.other.store)
		return err == nil
	})
	seen := map[string]bool{}
	for n, a := range all {
		if a.GetRevision() != uint64(n+1) {
			c.errorf("S15: record %d is of revision %d", n+1, a.GetRevision())
		}
		if seen[a.GetCommand()] {
			c.errorf("S4: %s was done twice", a.GetCommand())
		}
		seen[a.GetCommand()] = true
	}
	return all
}

// judge holds what the director says of its commands against the audit log, and its own
// writes against the time that it led (S4, F11).
func (c *stepCase) judge(ctx context.Context, all []told) {
	log := c.log(ctx)
	for _, t := range all {
		if t.NotLeader {
			c.fenced = true
		}
		byIt := false
		for _, a := range log {
			byIt = byIt || a.GetCommand() == t.Command && a.GetVia() == "d1"
		}
		switch {
		case t.Broken:
			c.errorf("%s", t.Err)
		case t.Outcome == done && (t.Revision == 0 || t.Revision > uint64(len(log))):
			c.errorf("S4: %s was said to be done at revision %d of %d", t.Command, t.Revision, len(log))
		case t.Outcome == done && t.Command != "" && log[t.Revision-1].GetCommand() != t.Command:
			c.errorf("S4: %s was said to be done at revision %d, which is %s", t.Command, t.Revision, log[t.Revision-1].GetCommand())
		case t.Outcome == refused && byIt:
			c.errorf("S4: %s was said to be refused (%s), and was done", t.Command, t.Err)
		}
	}
	if c.work == collectors {
		c.kept(ctx, all)
	}
	if c.kill || c.work != leaders || c.meanwhile == between {
		return // it led again, or needed not to, or still did
	}
	for _, a := range log {
		if !strings.HasPrefix(a.GetCommand(), "expire-") || a.GetVia() != "d1" {
			continue
		}
		key := store.KeysBelow(c.other.store.Prefix()).Audit(a.GetRevision())
		c.eventually("when it was written", func() bool {
			got, err := c.other.store.Client().Get(ctx, key)
			if err != nil {
				return false
			}
			if at := got.Kvs[0].CreateRevision; at > c.led {
				c.errorf("S4: a stale write: %s at etcd's revision %d, and another leads since %d", a.GetCommand(), at, c.led)
			}
			return true
		})
	}
}

// disk sees that the director's disk has a whole plan that was committed, or none, and
// that nothing newer was acknowledged (S3, S6, F24).
func (c *stepCase) disk(dir string) {
	log := c.log(context.WithoutCancel(c.t.Context()))
	g, err := store.Peek(dir, nil)
	if err != nil {
		c.errorf("F24: its disk: %v", err)
		return
	}
	if len(g.Plan) > 0 {
		sealed, err := plan.Open(g.Plan)
		if err != nil {
			c.errorf("F24: the plan on its disk: %v", err)
			return
		}
		id := sealed.Identity
		if id.Revision > uint64(len(log)) || !bytes.Equal(log[id.Revision-1].GetPlan(), id.Hash[:]) {
			c.errorf("S3: its disk has plan %s, which was never committed", id)
		}
		if _, ref := store.Split(g.Doc); !bytes.Equal(ref.GetHash(), sealed.Plan.GetSpec().GetHash()) {
			c.errorf("F24: its disk has a plan and the spec of another")
		}
	}
	c.eventually("the acknowledgements", func() bool {
		snap, err := c.other.store.Read(context.WithoutCancel(c.t.Context()))
		if err != nil {
			return false
		}
		if ack := snap.Acks["d1"]; ack != nil && (ack.GetRevision() > g.Highest.Revision || !bytes.Equal(ack.GetPlan(), log[ack.GetRevision()-1].GetPlan())) {
			c.errorf("S6: it acknowledged %d (%x), and its disk has %s", ack.GetRevision(), ack.GetPlan(), g.Highest)
		}
		return true
	})
}

// total has everything done that is left, and sees that all was done once.
func (c *stepCase) total(ctx context.Context) {
	over := c.leads(ctx)
	defer over()
	if !c.eventually("what is due", func() bool { return c.works(ctx) }) {
		return
	}
	if c.work == persons && !c.eventually("the command, repeated", func() bool { return c.other.commit(ctx, applied(), nil).outcome == done }) {
		return
	}
	counts := map[string]int{}
	for _, a := range c.log(ctx) {
		verb, _, _ := strings.Cut(a.GetCommand(), "-")
		counts[verb]++
	}
	want := map[string]int{"freeze": 1, "expire": 1, "apply": 0, "drain": 0}
	switch c.work {
	case persons:
		want["apply"] = 1
	case collectors:
		want["apply"] = 3
	}
	switch {
	case c.meanwhile == reuses, c.meanwhile == between && c.work == collectors:
		want["apply"]++
	case c.meanwhile == different, c.meanwhile == between:
		want["drain"] = 1
	}
	for verb, n := range want {
		if counts[verb] != n {
			c.errorf("%d commands %s in the audit log, want %d", counts[verb], verb, n)
		}
	}
	// Whoever comes new reads all of it: no blob is missing (S3).
	fresh, err := newWriter("d3", c.e.clients["d3"], c.prefix, briefLease, nil)
	if err != nil {
		c.errorf("%v", err)
		return
	}
	defer fresh.store.Close()
	c.eventually("the plan and its spec", func() bool {
		snap, _, err := fresh.read(ctx, "")
		if err != nil {
			return false
		}
		if _, err = fresh.document(ctx, snap.Sealed); isBroken(err) {
			c.errorf("%v", err)
		}
		return err == nil || isBroken(err)
	})
}
