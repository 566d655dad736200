package director

import (
	"bytes"
	"context"
	"log/slog"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
)

// enrol pins the key of a listed director at its first join (SEMANTICS,
// Enrolment), and keeps the addresses of the others in the plan. Only a director
// whose own key is in the roster can sign that, and the leader may be one whose
// key is not: so the first by name of those that are there does it, leader or not,
// fenced by the plan that it has read. The next one does it a while later where
// the first does not: its store may be out of reach, its clock off, or it is the
// one to be written down.
func (d *Director) enrol(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var own claimant
	var shown *gossip.Message // who shows a token, the last one
	var turns enrolTurns
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-d.tokens:
			shown = &m
			continue
		case <-tick.C:
		}
		f := d.horizon.current()
		if f == nil {
			continue
		}
		d.claim(&own, f.sealed.Plan)
		if shown != nil && time.Since(shown.Received) > 3*claimEvery {
			shown = nil // it would be shown again
		}
		var claimed *core.Command
		if shown != nil {
			claimed = d.claimedToken(f.sealed.Plan, *shown)
		}
		turn := turns.next(d.joiner(f.sealed.Plan), claimed, time.Now())
		if turn == nil || !d.horizon.usable() || !d.enrols(f.sealed.Plan, d.peers(ctx), time.Since(turn.since)) {
			continue
		}
		word := ""
		if _, _, err := d.commander.commit(ctx, *turn.cmd, nil); err != nil && ctx.Err() == nil {
			word = err.Error()
		}
		if word != "" && word != turn.said {
			d.log.Warn("a director cannot be enrolled", slog.String("peer", turn.who), slog.String("why", word))
		}
		turn.said = word
	}
}

// enrolTurns are whose turn it is, of those that wait to be written down: who is listed
// and joins, and who shows a token. One of each in turn, and each waits by itself: what is
// always there, or always refused, of one keeps none of the other out.
type enrolTurns struct {
	join, claim enrolTurn
	claimed     bool // the last turn was a claim's
}

// enrolTurn is the one that waits.
type enrolTurn struct {
	cmd   *core.Command
	who   string
	since time.Time // it has waited
	said  string    // why it could not be written down, the last time
}

// next notes who waits now, and gives whose turn it is; nil: nobody waits.
func (t *enrolTurns) next(join, claim *core.Command, now time.Time) *enrolTurn {
	t.join.note(join, now)
	t.claim.note(claim, now)
	switch {
	case join == nil && claim == nil:
		return nil
	case claim == nil, join != nil && t.claimed:
		t.claimed = false
		return &t.join
	}
	t.claimed = true
	return &t.claim
}

func (t *enrolTurn) note(cmd *core.Command, now time.Time) {
	if t.cmd = cmd; cmd == nil {
		t.who = ""
	} else if cmd.Director.Name != t.who {
		t.who, t.since = cmd.Director.Name, now
	}
}

// enrolPatience is what each keyed director that is there has before the next by
// name does its work.
const enrolPatience = 5 * time.Second

// enrols tells whether it is this director's turn, when somebody has waited for
// so long.
func (d *Director) enrols(p *plan.Plan, views []peerView, waited time.Duration) bool {
	if p.Holder(d.identity.Public()) == nil {
		return false
	}
	for _, v := range views {
		e := p.Director(v.name)
		if e == nil || len(e.GetKey()) == 0 {
			continue
		}
		if v.self {
			return waited >= 0
		}
		if v.heard && v.silent <= time.Second {
			waited -= enrolPatience // an earlier one that is there
		}
	}
	return false
}

// addressSettles is how long a director has been at an address before the plan
// takes note of it: one that comes and goes must not make a revision each time.
const addressSettles = 10 * time.Second

// joiner finds a member that is listed without a key, or with one and at another
// address than the plan remembers: it is redialled there for ever. One roster
// change per revision: the next one has its turn a tick later.
func (d *Director) joiner(p *plan.Plan) *core.Command {
	doubted := d.links.Alarms()
	for _, m := range d.links.Members() {
		e := p.Director(m.Name)
		if e == nil || doubted[m.Name] != "" || e.GetStanding() != plan.Director_ACTIVE || len(m.Meta.Key) == 0 {
			continue
		}
		reason := "first join"
		if len(e.GetKey()) > 0 {
			reason = "its gossip address"
			if m.Name == d.settings.Name || m.Addr == "" || m.Addr == e.GetGossip() ||
				!bytes.Equal(m.Meta.Key, e.GetKey()) || d.now().Sub(m.Since) < addressSettles {
				continue
			}
		}
		return &core.Command{
			ID: newID(), Verb: core.DirectorJoin, Author: "director " + d.settings.Name, Reason: reason,
			Director: &core.Director{Name: m.Name, Site: m.Meta.Site, Key: m.Meta.Key, Gossip: m.Addr},
		}
	}
	return nil
}
