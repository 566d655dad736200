package director

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// Do commits a command and waits until every registered director has
// acknowledged a plan that holds it and answers from it (S6), or ctx ends.
func (d *Director) Do(ctx context.Context, cmd core.Command, progress func(api.Outcome)) (api.Outcome, error) {
	if cmd.ID == "" {
		cmd.ID = newID()
	}
	start := time.Now()
	d.fill(&cmd)
	if wish := d.wish(cmd); wish.Verb == core.KeyRotate {
		err := core.Authorise(nil, nil, wish) // it is of the fleet: a key is drawn for who may
		if err == nil {
			cmd.KeyTurn, err = d.keys.propose(cmd.DryRun)
		}
		if err != nil {
			return refused(cmd.ID, err), nil
		}
	}
	var urgent []string // an undrain leaves these alone
	if cmd.Verb == core.Undrain && !cmd.DryRun {
		urgent = d.urgentDrains(ctx, cmd.Scope)
	}
	change, id, err := d.commander.commit(ctx, cmd, nil)
	size := 0
	for i := range cmd.Objects {
		size += len(cmd.Objects[i].JSON)
	}
	giveBack(size)
	if err != nil {
		return refused(cmd.ID, err), nil
	}
	out := api.Outcome{ID: cmd.ID, Summary: change.Summary, Preview: change.Preview}
	if r := change.Request; r != nil && r.GetId() == cmd.ID && !cmd.DryRun {
		v := requestView(r, d.now())
		out.Request = &v
		if out, id = d.second(ctx, cmd, out, progress); id.IsZero() {
			return out, nil
		}
	}
	if id.IsZero() {
		if len(urgent) > 0 && len(d.urgentDrains(ctx, cmd.Scope)) > 0 {
			return refused(cmd.ID, &core.Refusal{Reason: cmd.Scope + " is drained in an emergency, and no plan holds that yet", Remedy: undrainUrgent}), nil
		}
		return out, nil
	}
	out.Revision = id.Revision
	out.Override = d.overrideOf(cmd.Settles())
	out = d.await(ctx, id, out, progress)
	out.Took = time.Since(start).Seconds()
	if f := d.horizon.current(); out.Code == 0 && len(urgent) > 0 && stillDrained(f.sealed.Plan, urgent, d.urgentDrains(ctx, cmd.Scope)) {
		out.Code, out.Error = 3, "the drain that the plan held is ended; "+cmd.Scope+" is also drained in an emergency, and that goes on"
		out.Remedy = undrainUrgent
	}
	return out, nil
}

// wish is the command that an approval would carry out, for who approves it; any other as
// it is.
func (d *Director) wish(cmd core.Command) core.Command {
	if cmd.Verb != core.Approve {
		return cmd
	}
	f := d.horizon.newest()
	if f == nil {
		return cmd
	}
	wish := core.Wish(f.sealed.Plan, cmd)
	wish.By = cmd.By
	return wish
}

const undrainUrgent = "repeat it in a few seconds, when the leader has taken it over; or undrain it with --emergency"

// stillDrained tells whether one of the emergency drains that were there before an undrain
// is yet: in no plan, or taken over since.
func stillDrained(p *plan.Plan, before, now []string) bool {
	return slices.ContainsFunc(before, func(id string) bool {
		return slices.Contains(now, id) || slices.ContainsFunc(p.GetOverrides(), func(o *plan.Override) bool { return o.GetId() == id && !o.GivesBack() })
	})
}

// fill adds what a person's command about a director leaves to this one to know.
func (d *Director) fill(cmd *core.Command) {
	if cmd.Director == nil || cmd.Verb != core.DirectorAdd || len(cmd.Director.Key) > 0 {
		return
	}
	shown := d.claimed(cmd.Director.Name)
	cmd.Director.Key, cmd.Director.Gossip, cmd.Director.Site = shown.Key, shown.Gossip, cmp.Or(cmd.Director.Site, shown.Site)
}

// shownKey is this director's public key as a person compares it before
// approving; of a director that has none, which says nothing to others, "none".
func (d *Director) shownKey() string {
	if d.mute != nil {
		return "none"
	}
	return spec.FormatKey(d.identity.Public())
}

// claimed gives the key that speaks for a name now, whatever the roster says,
// with the site and the address that go with it where they are known.
func (d *Director) claimed(name string) core.Director {
	return claimedBy(name, d.links.Claimed(name), d.links.Members())
}

// claimedBy prefers what was signed: a member's record may be of a lost disk.
func claimedBy(name string, signed gossip.Meta, members []gossip.Member) core.Director {
	for _, m := range members {
		if m.Name == name && len(signed.Key) == 0 {
			signed = m.Meta
		}
	}
	return core.Director{Name: name, Site: signed.Site, Key: signed.Key, Gossip: signed.Gossip}
}

// await watches the directors take a plan into force.
func (d *Director) await(ctx context.Context, id plan.Identity, out api.Outcome, progress func(api.Outcome)) api.Outcome {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		changed := d.changes.changed()
		before := len(out.Applied)
		out = d.tally(ctx, id, out)
		if len(out.Applied) > before && progress != nil {
			progress(out)
		}
		if len(out.Missing) == 0 && len(out.Applied) > 0 {
			out.Code = 0
			return out
		}
		select {
		case <-ctx.Done():
			out.Code = 3
			names := make([]string, 0, len(out.Missing))
			for _, m := range out.Missing {
				names = append(names, m.Director+" ("+m.Why+")")
			}
			out.Error = "committed, but not complete in time: all but " + join(names)
			if len(names) == 0 {
				out.Error = "committed, but who has it could not be told in time"
			}
			out.Remedy = "it stays in force and reaches them when they are back; `divert status` shows when"
			return out
		case <-changed:
		case <-tick.C:
		}
	}
}

// tally sorts the registered directors into those that have the plan and those
// that do not, each with what is known of it.
func (d *Director) tally(ctx context.Context, id plan.Identity, out api.Outcome) api.Outcome {
	views := d.peers(ctx)
	if len(views) == 0 {
		return out // time is up: who is missing stays missing
	}
	out.Missing = nil
	// A mute DNS costs its time-out: all are asked at once.
	words := make([]string, len(views))
	var group errgroup.Group
	for i, p := range views {
		if slices.Contains(out.Applied, p.name) {
			continue
		}
		group.Go(func() error {
			words[i] = d.lacking(ctx, p, id)
			return nil
		})
	}
	_ = group.Wait() // lacking gives no error
	for i, p := range views {
		if slices.Contains(out.Applied, p.name) {
			continue
		}
		if words[i] == "" {
			out.Applied = append(out.Applied, p.name)
		} else {
			out.Missing = append(out.Missing, api.Missing{Director: p.name, Why: words[i]})
		}
	}
	return out
}

// lacking says why a director is not known to answer from a plan; "" when it is.
// Its own word is not enough: what does its DNS say?
func (d *Director) lacking(ctx context.Context, p peerView, id plan.Identity) string {
	why := p.lacks(id)
	switch {
	case why != "" || p.self:
		return why
	case p.dns != "":
		return d.mirror.confirm(ctx, p.name, p.dns, id)
	case !p.member:
		return "acknowledged, but where its DNS answers is not known yet"
	default:
		return "" // a witness
	}
}

// peerView is what is known of one registered director, this one included.
type peerView struct {
	name   string
	self   bool
	member bool          // it gossips with this one, so that what it says of itself is known
	dns    string        // address that its DNS is asked at; "" for a witness or while unknown
	acked  plan.Identity // what it acknowledged
	silent time.Duration // since it was last heard
	heard  bool          // at all
}

// lacks says why the director is not known to have a plan; "" when it has.
func (p peerView) lacks(id plan.Identity) string {
	switch {
	case core.Holds(p.acked, id):
		return ""
	case p.self:
		return "not on its disk yet"
	case !p.heard:
		return "never heard, may still answer"
	case p.silent > time.Second:
		return fmt.Sprintf("silent %s, may still answer", spec.FormatDuration(p.silent.Round(time.Second)))
	case p.acked.IsZero(): // said while it knows of a newer one than it answers from (S3), and before its first
		return "still without it, and acknowledges none before"
	default:
		return fmt.Sprintf("still on plan %d.%d", p.acked.Epoch, p.acked.Revision)
	}
}

func (d *Director) overrideOf(id string) *api.Override {
	f := d.horizon.newest()
	if f == nil {
		return nil
	}
	for _, o := range f.sealed.Plan.GetOverrides() {
		if o.GetId() == id {
			v := overrideView(o, d.now())
			return &v
		}
	}
	return nil
}

// Init is `divert store init`: it makes the first plan without waiting for the
// join addresses.
func (d *Director) Init(ctx context.Context) (api.Outcome, error) {
	if f := d.horizon.current(); f != nil {
		return api.Outcome{Code: 1, Error: fmt.Sprintf("this director holds plan %d.%d already", f.sealed.Identity.Epoch, f.sealed.Identity.Revision)}, nil
	}
	for _, m := range d.links.Members() {
		if m.Meta.HasPlan {
			return refused("", &core.Refusal{
				Reason: m.Name + " holds a plan: a second first one would make two fleets",
				Remedy: "if the store was lost, run `divert store recover` there; this director follows",
			}), nil
		}
	}
	if err := d.bootstrap(ctx); err != nil {
		return refused("", err), nil
	}
	return api.Outcome{Summary: "the first plan is written"}, nil
}

// newID makes a command ID.
func newID() string {
	var b [16]byte
	crand.Read(b[:])
	return hex.EncodeToString(b[:])
}
