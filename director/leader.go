package director

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/election"
)

// steward does what only the leader does: ends overrides that are due, and
// collects garbage. Each write is fenced by its term (S4); with no leader nothing
// of it happens, and nothing that clients see depends on it.
type steward struct {
	campaign  campaign
	commander *commander
	horizon   *horizon
	unfit     func(context.Context) string // why this director should not lead; "" = it may
	log       *slog.Logger
	last      string // what the last refusal said: a line per change
}

// campaign is what the steward needs of election/etcd.
type campaign interface {
	Status() election.Status
	Resign()
}

const (
	stewardTick = time.Second
	collectTick = 10 * time.Minute
	resignAfter = 5 * time.Second // unfit for one session TTL
)

func (s *steward) run(ctx context.Context) error {
	tick := time.NewTicker(stewardTick)
	defer tick.Stop()
	collect := time.NewTicker(collectTick)
	defer collect.Stop()
	var unfitSince time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			status := s.campaign.Status()
			// Before the first plan nobody has duties, and everybody hears too few.
			if !status.Mine || s.horizon.unbegun() {
				unfitSince = time.Time{}
				continue
			}
			why := s.unfit(ctx)
			if why == "" {
				unfitSince = time.Time{}
				s.duties(ctx, status.Term)
				continue
			}
			if unfitSince.IsZero() {
				unfitSince = now
			}
			if now.Sub(unfitSince) >= resignAfter {
				s.log.Warn("resigning", slog.String("why", why))
				s.campaign.Resign()
				unfitSince = time.Time{}
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
	if cur == nil || !s.horizon.usable() {
		return
	}
	states, observed, err := s.commander.states(ctx)
	if err != nil {
		return
	}
	due := core.Due(core.State{
		Plan: cur.sealed, Doc: cur.doc, Spec: cur.spec, States: states, Observed: observed,
		Places: s.commander.earth().placesFor, Now: s.commander.now(), Me: s.commander.name, CheckZone: s.horizon.texts.check,
	})
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
	for _, h := range cur.sealed.Plan.GetSpec().GetChunks() {
		keep[plan.Hash(h)] = true
	}
	collectCtx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := s.commander.store.Collect(collectCtx, keep, term); err != nil && ctx.Err() == nil {
		s.log.Warn("collecting unused blobs", slog.Any("err", err))
	}
}
