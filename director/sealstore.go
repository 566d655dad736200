package director

import (
	"context"
	"errors"
	"fmt"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/audit"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
)

// compareStore holds what the store has against what is sealed, record by record, in
// order. Its error says why that could not be done.
func (d *Director) compareStore(ctx context.Context, v *sealView, out *api.AuditReport, find func(audit.Finding)) error {
	next := cursor{v: v}
	gone := uint64(0)
	collected, err := d.collectedUpTo(ctx, v, find)
	if err != nil {
		return err
	}
	err = d.store.EachAudit(ctx, 0, func(revision uint64, raw []byte) error {
		for {
			at, sealed, a, err := next.peek()
			if err != nil {
				return err
			}
			switch of := a.GetRevision(); {
			case a == nil || of > revision:
				if revision <= v.headOf.Revision {
					find(audit.Finding{Record: -1, Revision: revision, What: fmt.Sprintf("the store has a record of revision %d, and none is sealed", revision)})
				} else {
					out.Tail++
				}
				return nil
			case of < revision:
				if of > collected {
					gone++
				}
				next.step()
			default:
				if string(sealed) != string(raw) {
					find(audit.Finding{Record: at, Revision: revision, What: "in the store it is another than the one that was sealed: it was altered there"})
				}
				next.step()
				return nil
			}
		}
	})
	if err != nil {
		return err
	}
	for {
		_, _, a, err := next.peek()
		if err != nil || a == nil {
			break
		}
		if a.GetRevision() > collected {
			gone++
		}
		next.step()
	}
	if gone > 0 {
		find(audit.Finding{Record: -1, Harmless: true, What: fmt.Sprintf("the store has no more %d of the records that are sealed: lost with it, or deleted there; they are whole here", gone)})
	}
	return nil
}

// collectedUpTo gives the revision up to which the store's records were collected, as far
// as its head holds against what is sealed here.
func (d *Director) collectedUpTo(ctx context.Context, v *sealView, find func(audit.Finding)) (uint64, error) {
	h, err := d.store.AuditHead(ctx)
	if errors.Is(err, store.ErrAuditHead) {
		find(audit.Finding{Record: -1, What: err.Error()})
		return 0, nil
	}
	f := d.horizon.current()
	if err != nil || f == nil {
		return 0, err
	}
	s := &sealer{tiles: v.tiles, fleet: v.fleet}
	s.kept.seen = v.tiles.Seen()
	signed, fault, _ := s.headFault(h, nil, f.sealed)
	if fault != "" {
		find(audit.Finding{Record: -1, What: fault})
		return 0, nil
	}
	return min(h.Collected, signed.Revision), nil
}

// alteredInStore finds sealed records that are others in the store, and what is wrong with
// its head.
func (d *Director) alteredInStore(ctx context.Context, find func(audit.Finding)) (collected uint64, err error) {
	v := d.sealedNow()
	if v == nil {
		return 0, nil // this director has nothing to compare them with
	}
	only := func(f audit.Finding) {
		if !f.Harmless {
			find(f)
		}
	}
	if err := d.compareStore(ctx, v, &api.AuditReport{}, only); err != nil {
		return 0, err
	}
	return d.collectedUpTo(ctx, v, func(audit.Finding) {})
}

// eachAudit gives the records of the log, as they are stored: those that were collected
// from this director's disk, the others from the store.
func (d *Director) eachAudit(ctx context.Context, each func(revision uint64, raw []byte) error) error {
	h, err := d.store.AuditHead(ctx)
	if err != nil && !errors.Is(err, store.ErrAuditHead) {
		return err
	}
	if h.Collected > 0 {
		v := d.sealedNow()
		if v == nil || v.headOf.Revision < h.Collected {
			return &core.Refusal{
				Reason: fmt.Sprintf("the audit records of up to revision %d are no more in the store, and this director has not sealed all of them yet", h.Collected),
				Remedy: "ask another director with --server, or wait: it takes them from the others",
			}
		}
		err := v.tiles.Each(ctx, 0, func(_ int64, raw []byte) error {
			a, err := audit.ReadRecord(raw)
			if err != nil || a.GetRevision() > h.Collected {
				return err
			}
			return each(a.GetRevision(), raw)
		})
		if err != nil {
			return err
		}
	}
	return d.store.EachAudit(ctx, h.Collected+1, each)
}

// cursor goes through what is under a head.
type cursor struct {
	v    *sealView
	at   int64
	tile int64
	raws [][]byte
}

// errUnread ends a comparison where tiles cannot be read, which is found by other means.
var errUnread = errors.New("some of what is sealed on this disk cannot be read")

// peek gives the next record; nil: there is none.
func (c *cursor) peek() (at int64, raw []byte, a *plan.Audit, err error) {
	if c.at >= c.v.headOf.Size {
		return 0, nil, nil, nil
	}
	if tile := c.at / audit.TileWidth; c.raws == nil || tile != c.tile {
		if c.raws, err = c.v.tiles.Records(tile); err != nil {
			return 0, nil, nil, errUnread
		}
		c.tile = tile
	}
	raw = c.raws[c.at%audit.TileWidth]
	if a, err = audit.ReadRecord(raw); err != nil {
		return 0, nil, nil, errUnread
	}
	return c.at, raw, a, nil
}

func (c *cursor) step() { c.at++ }
