package director

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/audit"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/health"
)

// autoAuthor is who made a transition that nobody asked for.
const autoAuthor = "auto"

// sealedNow is what is sealed here; nil where nothing is.
func (d *Director) sealedNow() *sealView {
	if d.sealer == nil {
		return nil
	}
	v := d.sealer.view.Load()
	if v == nil || v.tiles == nil || v.head == nil || v.lost != "" {
		return nil
	}
	return v
}

// Audit lists audit records: what is sealed here, and of the store what came after. With
// the store away it is what is sealed, where that is all that this director knows of.
func (d *Director) Audit(ctx context.Context, from uint64, limit int) ([]api.AuditRecord, error) {
	return d.auditRecords(ctx, from, time.Time{}, limit)
}

func (d *Director) auditRecords(ctx context.Context, from uint64, since time.Time, limit int) ([]api.AuditRecord, error) {
	v := d.sealedNow()
	var sealed []*plan.Audit
	last := uint64(0)
	if v != nil {
		last = v.headOf.Revision
		var err error
		if from > 0 {
			sealed, err = sealedFrom(v, from, limit)
		} else {
			sealed, err = sealedNewest(v, since, limit)
		}
		if err != nil { // the store may have them
			sealed, last = nil, 0
		}
	}
	var tail []*plan.Audit
	if room := limit - len(sealed); from == 0 || room > 0 {
		after := from
		if from > 0 {
			limit, after = room, max(from, last+1)
		}
		var err error
		if tail, err = d.store.Audit(ctx, after, limit); err != nil {
			f := d.horizon.current()
			if last == 0 || f == nil || last < f.sealed.Identity.Revision {
				return nil, &core.Refusal{
					Reason: "the store does not answer, and only it holds the end of the audit log (" + err.Error() + ")",
					Remedy: "answers and failover go on without it; bring etcd back and ask again",
				}
			}
		}
	}
	out := make([]api.AuditRecord, 0, len(sealed)+len(tail))
	for _, a := range sealed {
		out = append(out, recordView(a, true))
	}
	for _, a := range tail {
		if a.GetRevision() > last && !a.GetAt().AsTime().Before(since) {
			out = append(out, recordView(a, false))
		}
	}
	if from == 0 && len(out) > limit {
		out = out[len(out)-limit:]
	}
	return out, nil
}

func recordView(a *plan.Audit, sealed bool) api.AuditRecord {
	return api.AuditRecord{
		Revision: a.GetRevision(), At: a.GetAt().AsTime(), Who: a.GetWho(), Via: a.GetVia(), What: a.GetWhat(), Why: a.GetWhy(),
		Command: a.GetCommand(), Forced: a.GetForced(), Approver: a.GetApprover(), BreakGlass: a.GetBreakGlass(), Plan: hex.EncodeToString(a.GetPlan()),
		Policy: hex.EncodeToString(a.GetPolicy()), Passed: a.GetPassed(), Sealed: sealed,
	}
}

// sealedTile reads the records of a tile that are under a head.
func sealedTile(v *sealView, tile int64) (out []*plan.Audit, err error) {
	raws, err := v.tiles.Records(tile)
	if err != nil {
		return nil, err
	}
	raws = raws[:min(int64(len(raws)), v.headOf.Size-tile*audit.TileWidth)]
	for _, raw := range raws {
		a, err := audit.ReadRecord(raw)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

// sealedNewest gives the last records that are not older than an instant.
func sealedNewest(v *sealView, since time.Time, limit int) (out []*plan.Audit, err error) {
	for tile := (v.headOf.Size - 1) / audit.TileWidth; tile >= 0 && len(out) < limit; tile-- {
		found, err := sealedTile(v, tile)
		if err != nil {
			return nil, err
		}
		all := len(found)
		found = slices.DeleteFunc(found, func(a *plan.Audit) bool { return a.GetAt().AsTime().Before(since) })
		out = append(found, out...)
		if len(found) == 0 && all > 0 {
			break // what came before is older, but for clocks that were hours off
		}
	}
	return out[max(0, len(out)-limit):], nil
}

// sealedFrom gives the first records from a revision on.
func sealedFrom(v *sealView, from uint64, limit int) (out []*plan.Audit, err error) {
	tiles := (v.headOf.Size + audit.TileWidth - 1) / audit.TileWidth
	low, high := int64(0), tiles // the first tile that begins past from is in low < n <= high
	for low+1 < high {
		middle := (low + high) / 2
		found, err := sealedTile(v, middle)
		if err != nil {
			return nil, err
		}
		if len(found) > 0 && found[0].GetRevision() <= from {
			low = middle
		} else {
			high = middle
		}
	}
	for tile := low; tile < tiles && len(out) < limit; tile++ {
		found, err := sealedTile(v, tile)
		if err != nil {
			return nil, err
		}
		for _, a := range found {
			if a.GetRevision() >= from && len(out) < limit {
				out = append(out, a)
			}
		}
	}
	return out, nil
}

// AuditSince lists what people and the leader wrote since an instant, and the transitions
// of all directors' journals among it.
func (d *Director) AuditSince(ctx context.Context, since time.Time, limit int) ([]api.AuditRecord, error) {
	out, err := d.auditRecords(ctx, 0, since, limit)
	if err != nil {
		return nil, err
	}
	autos, err := d.history.transitionsSince(ctx, since, limit)
	if err != nil {
		return nil, fmt.Errorf("reading the journal of transitions: %w", err)
	}
	names, f := d.loop.prepared.Load(), d.horizon.current()
	sealed, err := d.sealedTransitions(since, limit)
	if err != nil {
		return nil, err
	}
	out = append(out, sealed.records...)
	for _, t := range autos {
		if sealed.has[autoID(t.Certificate)] {
			continue
		}
		at := t.Subject.Addr.Addr().String()
		if f != nil && f.spec != nil {
			at = f.spec.NameOf(t.Subject.Addr.Addr())
		}
		out = append(out, api.AuditRecord{
			At: t.Since, Who: autoAuthor, Via: d.settings.Name, What: fmt.Sprintf("%s at %s is %s", names.Name(t.Subject), at, t.To()), Why: t.Reason, Auto: true,
		})
	}
	slices.SortStableFunc(out, func(a, b api.AuditRecord) int { return a.At.Compare(b.At) })
	return out[max(0, len(out)-limit):], nil
}

// toldTransitions are records of transitions, one for each, and of which they are.
type toldTransitions struct {
	records []api.AuditRecord
	has     map[string]bool // by autoID
}

// sealedTransitions merges all directors' journals, as far as this one has them: a
// transition that several had is one record, of the time that the first had it, and names
// them all.
func (d *Director) sealedTransitions(since time.Time, limit int) (toldTransitions, error) {
	out := toldTransitions{has: map[string]bool{}}
	if d.sealer == nil {
		return out, nil
	}
	v := d.sealer.view.Load()
	if v == nil {
		return out, nil
	}
	at := map[string]int{}
	for _, l := range v.autos {
		found, err := l.newest(since, limit)
		if err != nil {
			return out, fmt.Errorf("reading the transitions of %s: %w", l.owner, err)
		}
		for _, a := range found {
			i, known := at[a.GetCommand()]
			if a.GetCommand() == "" || !known {
				at[a.GetCommand()] = len(out.records)
				out.has[a.GetCommand()] = true
				out.records = append(out.records, api.AuditRecord{At: a.GetAt().AsTime(), Who: autoAuthor, Via: l.owner, What: a.GetWhat(), Why: a.GetWhy(), Auto: true, Sealed: true})
				continue
			}
			r := &out.records[i]
			r.Via += "," + l.owner
			if t := a.GetAt().AsTime(); t.Before(r.At) {
				r.At = t
			}
		}
	}
	return out, nil
}

// transitionsSince gives the last certificates that came into force here since an
// instant, with when they did. A nil history has none. One reads at a time, as of those
// who decide again.
func (h *history) transitionsSince(ctx context.Context, since time.Time, limit int) (out []health.Transition, err error) {
	if h == nil {
		return nil, nil
	}
	j := h.journal.Load()
	if j == nil {
		return nil, nil
	}
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	err = j.Since(since, func(e store.Entry) bool {
		if ctx.Err() != nil {
			return false
		}
		var entry historyEntry
		if json.Unmarshal(e.Body, &entry) != nil || entry.Kind != historyProved {
			return true
		}
		for _, raw := range entry.Certificates {
			certs, err := health.DecodeCertificates(raw)
			if err != nil {
				continue // of a newer divert
			}
			for _, c := range certs {
				c.Proof = nil
				out = append(out, health.Transition{Certificate: c, Since: e.At})
			}
		}
		if len(out) > 2*limit {
			out = append(out[:0], out[len(out)-limit:]...)
		}
		return true
	})
	if err == nil {
		err = ctx.Err()
	}
	return out[max(0, len(out)-limit):], err
}

// notSealed refuses what wants a sealed log.
func (d *Director) notSealed() error {
	why := "nothing is sealed on this director yet"
	if d.sealer == nil {
		why = "this director's data folder cannot be written, and nothing is sealed there"
	} else if v := d.sealer.view.Load(); v != nil {
		if faults := v.faults(); len(faults) > 0 {
			why = faults[0]
		}
	}
	return &core.Refusal{Reason: why, Remedy: "ask another director with --server, or wait some seconds"}
}

// AuditExport writes what is sealed here, under the signatures of all who say the same.
func (d *Director) AuditExport(ctx context.Context, w io.Writer) error {
	v := d.sealedNow()
	if v == nil {
		return d.notSealed()
	}
	tree, heads := v.tiles.Tree(), [][]byte{v.head}
	for _, o := range v.said {
		if o.Head == v.headOf && o.Fault == "" {
			heads = append(heads, o.Raw)
		}
	}
	held, of := []tlog.Hash(nil), int64(-1)
	leaves := func(tile int64) ([]tlog.Hash, error) { // each record's proof wants the same
		if tile == of {
			return held, nil
		}
		found, err := v.tiles.Leaves(tile)
		if err == nil {
			held, of = found, tile
		}
		return found, err
	}
	return audit.Write(w, audit.Join(heads...), v.headOf.Size, tree.Reader(leaves), func(each func([]byte) error) error {
		return v.tiles.Each(ctx, 0, func(_ int64, raw []byte) error { return each(raw) })
	})
}

// AuditVerify reads all that is sealed here, and holds it against its head, the store, and
// what the others have signed.
func (d *Director) AuditVerify(ctx context.Context) (api.AuditReport, error) {
	v := d.sealedNow()
	if v == nil {
		return api.AuditReport{}, d.notSealed()
	}
	out := api.AuditReport{Fleet: v.fleet, Records: v.headOf.Size, Revision: v.headOf.Revision, Root: base64.StdEncoding.EncodeToString(v.headOf.Root[:]), Signers: v.signers(), Findings: []api.AuditFinding{}}
	log, err := audited(ctx, v.tiles)
	if err != nil {
		return out, err
	}
	find := func(f audit.Finding) {
		if len(out.Findings) >= maxFindings {
			out.More++
			return
		}
		out.Findings = append(out.Findings, api.AuditFinding(f))
	}
	for _, f := range log.findings {
		find(f)
	}
	if len(log.damaged) > 0 || v.tiles.CheckLast() != nil {
		d.sealer.doubted.Store(true) // it is mended where it can be
	}
	if root, err := v.tiles.Tree().RootAt(v.headOf.Size, v.tiles.Leaves); err == nil && root != v.headOf.Root {
		find(audit.Finding{Record: -1, What: "the root of what is on this disk is not the one that was signed"})
	}
	for _, l := range v.autos {
		if what := l.check(); what != "" {
			find(audit.Finding{Record: -1, What: what})
		}
	}
	if err := d.compareStore(ctx, v, &out, find); err != nil {
		out.Store = err.Error()
	}
	for _, o := range v.said {
		out.Directors = append(out.Directors, api.AuditDirector{Name: o.Director, Records: o.Head.Size, Revision: o.Head.Revision, State: o.Sides.String(), Fault: o.Fault})
		if o.Fault != "" {
			find(audit.Finding{Record: -1, What: o.Fault})
		}
	}
	if v.problem != "" {
		find(audit.Finding{Record: -1, What: "records are not sealed on this director's disk: " + v.problem})
	}
	if v.odd != "" {
		find(audit.Finding{Record: -1, What: v.odd})
	}
	out.Good = out.More == 0 && !slices.ContainsFunc(out.Findings, func(f api.AuditFinding) bool { return !f.Harmless })
	return out, nil
}

// signers are who has signed this very head.
func (v *sealView) signers() []string {
	names := []string{v.name}
	for _, o := range v.said {
		if o.Head == v.headOf && o.Fault == "" {
			names = append(names, o.Director)
		}
	}
	slices.Sort(names)
	return names
}
