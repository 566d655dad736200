package quorum

import (
	"bytes"
	"context"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
)

// apply has the other one apply a variant of the spec.
func (c *stepCase) apply(ctx context.Context, id string, variant int) bool {
	cmd := core.Command{ID: id, Verb: core.Apply, Author: "ann", Reason: "INC-3", Source: core.SourceFiles, Objects: specOf(variant, "")}
	return c.other.commit(ctx, cmd, nil).outcome == done
}

// giveUp leaves a spec in the store that no plan names any more: two others came since, of
// which the plan keeps the one before.
func (c *stepCase) giveUp(ctx context.Context) bool {
	spec := func() (ref *plan.SpecRef) {
		c.eventually("the plan", func() bool {
			snap, _, err := c.other.read(ctx, "")
			if err == nil {
				ref = snap.Sealed.Plan.GetSpec()
			}
			return err == nil
		})
		return ref
	}
	if !c.eventually("a spec", func() bool { return c.apply(ctx, "apply-a", 1) }) {
		return false
	}
	c.given = spec()
	return c.eventually("another", func() bool { return c.apply(ctx, "apply-b", 2) }) &&
		c.eventually("a third", func() bool { return c.apply(ctx, "apply-c", 3) })
}

// kept sees that the collection of a leader that is none deleted nothing, least of all what
// a plan names again: a clean-up that came late took the plan in use away from AWS in
// October 2025 (S3, S4).
func (c *stepCase) kept(ctx context.Context, all []told) {
	for _, t := range all {
		if !c.kill && t.Outcome != refused {
			c.errorf("S4: it collected, although %s", c.meanwhile)
		}
	}
	c.eventually("the blobs", func() bool {
		snap, _, err := c.other.read(ctx, "")
		if err != nil {
			return false
		}
		reused := c.meanwhile == reuses || c.meanwhile == between
		if reused && !bytes.Equal(snap.Sealed.Plan.GetSpec().GetHash(), c.given.GetHash()) {
			c.errorf("the spec that was gone back to is another: nothing was tried")
		}
		if c.kill && !reused {
			return true // it leads again, and may collect
		}
		have, err := c.other.store.Chunks(ctx, c.given.GetChunks())
		if err == nil && len(have) != len(c.given.GetChunks()) {
			c.errorf("S3: %d of %d blobs are left", len(have), len(c.given.GetChunks()))
		}
		return err == nil
	})
}
