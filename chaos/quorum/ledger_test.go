package quorum

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/linear"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
)

// order is a command as whoever gave it knows it.
type order struct {
	cmd          core.Command
	began, ended int64
	told         verdict
	open         bool // one of its tries had no answer
}

// intended is a plan that somebody signed.
type intended struct {
	sealed *plan.Sealed
	cmd    core.Command
	at     int64
}

// ledger is all that was asked for, signed and read.
type ledger struct {
	start time.Time

	mu     sync.Mutex
	signed map[plan.Hash]intended
	orders []*order
	reads  []readOf
	acked  int
}

type readOf struct {
	began, ended int64
	revision     uint64
}

func newLedger() *ledger { return &ledger{start: time.Now(), signed: map[plan.Hash]intended{}} }

func (l *ledger) now() int64 { return int64(time.Since(l.start)) }

func (l *ledger) sign(sealed *plan.Sealed, cmd core.Command) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.signed[sealed.Identity.Hash] = intended{sealed: sealed, cmd: cmd, at: l.now()}
}

func (l *ledger) ordered(o *order) (acked int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.orders = append(l.orders, o)
	if o.told.outcome == done {
		l.acked++
	}
	return l.acked
}

// audit reads the whole log.
func audit(ctx context.Context, s *store.Store) (all []*plan.Audit, err error) {
	for from := uint64(1); ; {
		page, err := s.Audit(ctx, from, 0)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < store.MaxAudit {
			return all, nil
		}
		from = page[len(page)-1].GetRevision() + 1
	}
}

// check holds what people were told against what is there: S3, S4, S5, S15.
func (l *ledger) check(t *testing.T, s *store.Store) {
	t.Helper()
	snap, err := s.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if want := snap.Sealed.Identity.Revision; uint64(len(log)) != want {
		t.Errorf("S15: %d audit records of %d revisions", len(log), want)
	}
	landed, leaders := map[string]uint64{}, 0 // by command
	var before intended
	for n, a := range log {
		p, known := l.signed[plan.Hash(a.GetPlan())]
		switch {
		case a.GetRevision() != uint64(n+1):
			t.Fatalf("S15: record %d is of revision %d", n+1, a.GetRevision())
		case !known:
			t.Fatalf("S15: revision %d: nobody signed plan %x", a.GetRevision(), a.GetPlan())
		case p.sealed.Identity.Revision != a.GetRevision():
			t.Errorf("S15: the record of revision %d names plan %s", a.GetRevision(), p.sealed.Identity)
		case a.GetCommand() != p.cmd.ID:
			t.Errorf("S15: the record of revision %d names command %s, and %s was done", a.GetRevision(), a.GetCommand(), p.cmd.ID)
		case landed[p.cmd.ID] != 0:
			t.Errorf("S4: command %s was done at revisions %d and %d", p.cmd.ID, landed[p.cmd.ID], a.GetRevision())
		case n > 0 && !slices.Equal(p.sealed.Plan.GetParent(), before.sealed.Identity.Hash[:]):
			t.Errorf("S7: revision %d does not follow the one before it", a.GetRevision())
		}
		if n > 0 {
			if why := effect(before.sealed.Plan, p.sealed.Plan, p.cmd); why != "" {
				t.Errorf("revision %d, %s %s: %s", a.GetRevision(), p.cmd.Verb, p.cmd.Scope, why)
			}
		}
		if p.cmd.Verb == core.Expire || p.cmd.Verb == core.Step {
			leaders++
		}
		landed[p.cmd.ID], before = a.GetRevision(), p
	}
	if snap.Sealed.Identity != before.sealed.Identity {
		t.Errorf("the store holds plan %s, the log ends with %s", snap.Sealed.Identity, before.sealed.Identity)
	}
	t.Logf("%d revisions, %d of them the leaders' own", len(log), leaders)
	l.honest(t, s, landed)
	l.linearizable(t, log)
}

// honest is what people were told (S4). What nobody knew is told by the command's ID.
func (l *ledger) honest(t *testing.T, s *store.Store, landed map[string]uint64) {
	t.Helper()
	lost, resolved, open, outcomes := 0, 0, 0, map[outcome]int{}
	for _, o := range l.orders {
		at, is := landed[o.cmd.ID]
		outcomes[o.told.outcome]++
		if o.open {
			open++
		}
		switch {
		case o.told.outcome == done && (!is || at != o.told.revision):
			lost++
			t.Errorf("S4: %s was said to be done at revision %d, and is at %d", o.cmd.ID, o.told.revision, at)
		case o.told.outcome != done && !o.open && is:
			t.Errorf("S4: %s was said to be %s, and was done at revision %d", o.cmd.ID, o.told, at)
		case o.open && o.told.outcome != done:
			resolved++
			r, err := s.Result(t.Context(), o.cmd.ID)
			if err != nil || (r != nil) != is || r.GetRevision() != at {
				t.Errorf("S4: of %s nobody knew the outcome: its ID has %v, %v; the audit log has revision %d", o.cmd.ID, r, err, at)
			}
		}
	}
	t.Logf("acknowledged %d, lost %d; refused %d, so already %d; unknown at first %d, to the end and told by the ID %d",
		l.acked, lost, outcomes[refused], outcomes[noop], open, resolved)
}

// linearizable is S5.
func (l *ledger) linearizable(t *testing.T, log []*plan.Audit) {
	t.Helper()
	orders := map[string]*order{}
	var h linear.History
	for _, o := range l.orders {
		orders[o.cmd.ID] = o
		if o.told.outcome == noop && !o.open {
			h.Add(o.began, o.ended, linear.Call{Verb: o.cmd.Verb, Scope: o.cmd.Scope}, linear.Reply{Revision: o.told.revision})
		}
	}
	for _, a := range log[1:] {
		p := l.signed[plan.Hash(a.GetPlan())]
		began, ended := p.at, int64(linear.Open)
		if o := orders[p.cmd.ID]; o != nil {
			began = o.began
			if o.told.outcome == done {
				ended = o.ended
			}
		}
		h.Add(began, ended, linear.Call{Verb: p.cmd.Verb, Scope: p.cmd.Scope, After: linear.Drains(p.sealed.Plan)}, linear.Reply{Revision: a.GetRevision(), Wrote: true})
	}
	for _, r := range l.reads {
		h.Add(r.began, r.ended, linear.Call{}, linear.Reply{Revision: r.revision})
	}
	if !h.Linearizable() {
		t.Errorf("S5: there is no order in which these %d calls could have been made", h.Len())
	}
	t.Logf("%d calls in the history", h.Len())
}

// effect says what a plan lacks of its command; "" when it has it.
func effect(before, after *plan.Plan, cmd core.Command) string {
	find := func(p *plan.Plan, kind plan.Override_Kind) *plan.Override {
		for _, o := range p.GetOverrides() {
			if o.GetKind() == kind && o.GetScope() == cmd.Scope && o.GetAuthor() != core.SpecAuthor {
				return o
			}
		}
		return nil
	}
	switch cmd.Verb {
	case core.Drain:
		if find(after, plan.Override_DRAIN).GetId() != cmd.ID {
			return "not in the plan"
		}
	case core.Undrain:
		if o := find(after, plan.Override_DRAIN); o != nil && o.GetId() == find(before, plan.Override_DRAIN).GetId() && o.Keep() == find(before, plan.Override_DRAIN).Keep() && !o.Ends() {
			return "still in the plan"
		}
	case core.Freeze:
		if find(after, plan.Override_OBSERVE).GetId() != cmd.ID {
			return "not in the plan"
		}
	case core.Thaw:
		if find(after, plan.Override_OBSERVE) != nil {
			return "still in the plan"
		}
	case core.Apply:
		if slices.Equal(before.GetSpec().GetHash(), after.GetSpec().GetHash()) {
			return "the spec is the same"
		}
	}
	return ""
}

// isBroken tells errors that are no refusals.
func isBroken(err error) bool { return errors.Is(err, errBroken) }
