package director

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/election"
)

// steward does what only the leader does: takes the steps of drains, ends overrides that
// are due, and collects garbage. Each write is fenced by its term (S4); with no leader nothing
// of it happens, and nothing that clients see depends on it.
type steward struct {
	campaign  campaign
	commander *commander
	horizon   *horizon
	unfit     func(context.Context) (why string, lasting bool) // why this director should not lead; "" = it may
	seen      func(context.Context) map[string]core.Seen       // what is known of the others
	log       *slog.Logger
	last      string                                 // what the last refusal said: a line per change
	urgent    func(context.Context) []core.Emergency // operators' words that the store is to hold
	memo      core.Memo
	weighed   time.Time // when the loads were last looked at
}

// campaign is what the steward needs of election/etcd.
type campaign interface {
	Status() election.Status
	Resign()
	Stand(may bool)
}

const (
	stewardTick = time.Second
	collectTick = 10 * time.Minute
	weighTick   = time.Minute // between two looks at the loads
)

func (s *steward) run(ctx context.Context) error {
	tick := time.NewTicker(stewardTick)
	defer tick.Stop()
	collect := time.NewTicker(collectTick)
	defer collect.Stop()
	var fit core.Stewardship
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			// Before the first plan nobody has duties, and everybody hears too few.
			why, lasting := "", false
			unbegun := s.horizon.unbegun()
			if !unbegun {
				why, lasting = s.unfit(ctx)
			}
			status := s.campaign.Status()
			if !status.Mine {
				s.campaign.Stand(why == "")
			}
			switch duties, resign := fit.Look(status.Mine && !unbegun, why, now); {
			case duties:
				s.duties(ctx, status.Term)
			case resign:
				s.log.Warn("resigning", slog.String("why", why))
				s.campaign.Resign()
			case lasting && status.Mine: // what does not pass by itself is not waited for
				s.log.Warn("resigning", slog.String("why", why))
				s.campaign.Stand(false)
			}
		case <-collect.C:
			if status := s.campaign.Status(); status.Mine {
				s.collect(ctx, status.Term)
			}
		}
	}
}

// duties commits the writes that are due.
func (s *steward) duties(ctx context.Context, term election.Term) {
	cur := s.horizon.current()
	if cur == nil || !s.horizon.usable() || s.horizon.hasty() {
		return
	}
	cur = cur.stable()
	states, observed, err := s.commander.states(ctx)
	if err != nil {
		return
	}
	state := core.State{
		Plan: cur.sealed, Doc: cur.doc, Spec: cur.spec, States: states, Observed: observed, Memo: &s.memo, Prepared: s.commander.prepared.Load(),
		Places: s.commander.earth().placesFor, Census: s.commander.earth().censusFor, Now: s.commander.now(), Me: s.commander.name, CheckZone: s.horizon.texts.check,
	}
	if cur.sealed.Plan.Paced() {
		state.Acks, state.Fresh = s.commander.gates(ctx, cur.spec, cur.sealed.Plan, "")
	}
	if state.Trial = trialOf(cur); state.Trial != nil {
		state.Seen = s.seen(ctx)
	} else {
		s.memo = core.Memo{}
	}
	if cur.sealed.Plan.GetGossipKey().GetTurn() != nil {
		state.Rings = s.commander.rings()
	}
	if len(cur.sealed.Plan.GetOperators()) > 0 {
		state.Emergencies = s.urgent(ctx)
	}
	now := time.Now()
	if now.Sub(s.weighed) >= weighTick {
		state.Loads, state.Readers = s.commander.loads(), s.commander.readers()
	}
	due := core.Due(state)
	if c := s.commander.vault.due(cur); c != nil {
		due = append(due, *c)
	}
	if state.Loads != nil {
		s.weighed = now
	}
	var refused string
	for _, cmd := range due {
		if cmd.ID == "" {
			cmd.ID = newID()
		}
		if cmd.Author == "" {
			cmd.Author = "director " + s.commander.name
		}
		if _, _, err := s.commander.commit(ctx, cmd, &term); err != nil && !errors.Is(err, store.ErrNotLeader) && ctx.Err() == nil {
			refused = string(cmd.Verb) + ": " + err.Error()
		}
	}
	if refused != s.last && refused != "" {
		s.log.Warn("a leader's write was refused", slog.String("why", refused))
	}
	s.last = refused
}

// collect removes blobs that no plan in use refers to: by reference, never by
// age (S3).
func (s *steward) collect(ctx context.Context, term election.Term) {
	cur := s.horizon.current()
	if cur == nil || s.horizon.storeNow().problem != "" {
		return
	}
	keep := map[plan.Hash]bool{}
	for _, ref := range cur.sealed.Plan.Kept() {
		for _, h := range ref.GetChunks() {
			if len(h) == len(plan.Hash{}) { // else the store says what is wrong with it
				keep[plan.Hash(h)] = true
			}
		}
	}
	collectCtx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := s.commander.store.Collect(collectCtx, keep, term); err != nil && ctx.Err() == nil {
		s.log.Warn("collecting unused blobs", slog.Any("err", err))
	}
}

// unfit says why this director should not lead: isolated, too old for the plan, abstaining,
// or with a clock that the others' contradict (SEMANTICS, Session; F15). It is no candidate
// then; one that leads resigns when that has lasted for a TTL, or at once where it does not
// pass by itself.
func (d *Director) unfit(ctx context.Context) (why string, lasting bool) {
	isolated := false
	if err := d.loop.inspect(ctx, func(now time.Time) { isolated = d.loop.book.Isolated(now) }); err != nil {
		return "", false
	}
	if d.horizon.storeNow().newer {
		return "this director is too old to read the plan in the store: upgrade it", true
	}
	if isolated {
		return "this director hears too few others", false
	}
	return cmp.Or(d.controls.abstains(), d.clock(ctx)), false
}

// clock says why this director's clock is not to be trusted; "" = it is.
func (d *Director) clock(ctx context.Context) (why string) {
	_ = d.loop.inspect(ctx, func(now time.Time) { why = d.loop.clocks.Doubt(now) })
	return why
}
