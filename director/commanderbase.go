package director

import (
	"context"
	"errors"
	"log/slog"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
)

// base is the plan that the store holds, ready to decide upon: refused where the
// store is not the one known before it was read (F25), and never older than what
// is in force.
func (c *commander) base(ctx context.Context, known plan.Identity, snap store.Snapshot) (*inForce, error) {
	cur := c.horizon.current()
	var in *plan.Sealed
	if cur != nil {
		in = cur.sealed
	}
	same, err := core.Base(known, in, snap.Sealed)
	switch {
	case errors.Is(err, core.ErrOvertaken):
		return nil, store.ErrConflict
	case errors.As(err, new(*core.Refusal)):
		return nil, err
	case same:
		return cur.stable(), nil
	}
	if problem := untrusted(cur, snap.Sealed); problem != "" {
		return nil, &core.Refusal{Reason: problem}
	}
	if err != nil {
		return nil, err
	}
	docs, err := c.librarian.documents(ctx, snap.Sealed)
	if problem := specless(cur, snap.Sealed, err); problem != "" {
		return nil, &core.Refusal{Reason: problem}
	}
	if err != nil {
		return nil, unavailable(err)
	}
	f, err := c.horizon.texts.prepareAfter(c.horizon.newest(), snap.Sealed, docs...)
	if err != nil {
		return nil, err
	}
	before, vouched := c.horizon.before(snap.Sealed), c.horizon.vouched(c.name, snap.Sealed)
	if err = lacksPerson(before, f, vouched); err != nil && skips(before.sealed, snap.Sealed) && c.librarian.refusals.missed(snap.Sealed.Identity) {
		return nil, &core.Refusal{
			Reason: "this director was away, and goes through the plans that it missed", // its writer is accused of nothing yet
			Remedy: "repeat it in a moment, or give it to another director with --server",
		}
	}
	if err == nil {
		err = c.policies.confirm(ctx, before, f, vouched) // what follows it would be taken by nobody
	}
	if err != nil {
		c.librarian.refusals.note(snap.Sealed, cur, err)
		return nil, &core.Refusal{Reason: c.librarian.refusals.of(snap.Sealed.Identity)}
	}
	return f, nil
}

// trialOf is what core wants to know of the spec that some directors try.
func trialOf(f *inForce) *core.Trial {
	if t := f.tried(); t != nil {
		return &core.Trial{Doc: t.doc, Spec: t.spec}
	}
	return nil
}

// previous gets the document that a revert goes back to; nil where it is gone, which core
// says.
func (c *commander) previous(ctx context.Context, base *inForce, cmd core.Command) *plan.SpecDoc {
	ref := base.sealed.Plan.GetPrevious()
	if cmd.Verb != core.Revert || ref == nil {
		return nil
	}
	octets, err := c.librarian.document(ctx, ref)
	if err != nil {
		c.log.Warn("the spec before this one cannot be had", slog.Any("err", err))
		return nil
	}
	doc, err := plan.ReadDoc(octets)
	if err != nil {
		c.log.Error("the spec before this one cannot be read", slog.Any("err", err))
		return nil
	}
	return doc
}
