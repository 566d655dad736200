package director

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/divertdns/divert/director/audit"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/election"
)

const (
	keepLook = time.Minute // between two looks at what the store has of the log
	keepPile = 1024        // sealed records in the store, above which they are collected …
	keepLast = 512         // … down to the newest of them
	keepEach = audit.TileWidth
	// keepHead is how old the store's head may be while the log grows.
	keepHead = time.Hour
	// keepFresh is how recently a director must have said that it has what it signed.
	keepFresh = time.Minute
	// keepPages bounds one look for altered records: so many thousand revisions.
	keepPages = 20
	// keepShown is for how long a fault of the store's head that was put right is shown.
	keepShown = time.Hour
	keepHeads = 16 // of this director, which others may still sign
	// keepReader is what a director reads of plans that asks the others for records which
	// the store has no more. One who reads less would wait for them for ever.
	keepReader = plan.ReaderDangers
)

// keepStore is what the store does for the sealed log.
type keepStore interface {
	AuditHead(ctx context.Context) (store.AuditHead, error)
	KeepAuditHead(ctx context.Context, read, next store.AuditHead, term election.Term) (store.AuditHead, error)
	CollectAudits(ctx context.Context, head store.AuditHead, from, to uint64, sealed func(revision uint64, raw []byte) bool, term election.Term) (removed int, next uint64, err error)
	CountAudits(ctx context.Context, to uint64) (int64, error)
	ChangedAudits(ctx context.Context, from uint64, since int64, each func(revision uint64, raw []byte)) (next uint64, at int64, err error)
}

// keeper looks after what the store has of the log: its head and the records that are
// sealed. It is a part of the sealer, and used by its goroutine alone.
type keeper struct {
	store      keepStore
	term       func() (election.Term, bool) // of this director's lead
	readers    func() map[string]uint32     // what each director that is heard reads of plans
	pile, last int64
	knew       map[string]uint32 // what each said last that was heard

	at     time.Time // of the last look that the store answered
	head   store.AuditHead
	signed audit.Signed // the head's; zero: it does not hold
	wrote  time.Time
	seen   store.SeenHead
	fault  string // of the store's head, which lasts or is past
	faulty time.Time
	doubts int // looks at which nobody's key counted

	next       uint64 // where the collection goes on; 0: none is under way
	to         uint64
	mine       []mineHead // signed here, the newest last
	altered    map[uint64]string
	sweep      uint64 // where the search for altered records goes on …
	since, now int64  // … for what was written since; when this round began
}

type mineHead struct {
	raw  []byte
	head audit.Head
}

// look does what is due with the store. No error of it is more than a word in the log: the
// store is away, or somebody else leads.
func (s *sealer) look(ctx context.Context, now time.Time, p *plan.Sealed) {
	k := &s.kept
	waits := s.odd.what != "" && k.at.Before(s.odd.since) // whether it was collected is to be known
	if k.store == nil || !s.usable() || now.Sub(k.at) < keepLook && k.next == 0 && !waits {
		return
	}
	if k.next == 0 || now.Sub(k.at) >= keepLook {
		h, err := k.store.AuditHead(ctx)
		if err != nil && !errors.Is(err, store.ErrAuditHead) {
			s.log.Debug("the audit log's head in the store", slog.Any("err", err))
			return
		}
		k.at = now
		s.judge(h, err, p, now)
		if err := s.search(ctx); err != nil {
			s.log.Debug("the audit records in the store", slog.Any("err", err))
			return
		}
	}
	behind := s.wouldMiss(p) // asked of all, not of who leads alone: he shall have heard them
	if term, leads := k.term(); leads && s.lost == "" && s.problem == "" {
		if err := s.collect(ctx, now, p, term, behind); err != nil {
			k.next = 0
			s.log.Debug("sealed audit records are not collected now", slog.Any("err", err))
		}
	} else {
		k.next = 0
	}
}

// judge holds the store's head against the log, and what was seen of it before.
func (s *sealer) judge(h store.AuditHead, unread error, p *plan.Sealed, now time.Time) {
	k := &s.kept
	signed, fault, nobody := s.headFault(h, unread, p)
	if nobody {
		k.doubts++ // who signed it may have been removed since: the leader signs anew
	} else {
		k.doubts = 0
	}
	k.head, k.signed = h, signed
	if fault == "" && signed.Size > 0 {
		k.head.Collected = min(h.Collected, signed.Revision)
		if next := (store.SeenHead{Size: signed.Size, Epoch: p.Identity.Epoch, Collected: k.head.Collected}); next != k.seen && signed.Size <= s.tiles.Size() {
			if next.Epoch == k.seen.Epoch {
				next.Collected = max(next.Collected, k.seen.Collected)
			}
			k.seen = next
			if err := s.tiles.SaveSeen(next); err != nil {
				s.log.Debug("what the store's head was is not on the disk", slog.Any("err", err))
			}
		}
	} else {
		k.head.Collected = 0
	}
	switch {
	case fault != "" && (!nobody || k.doubts > 2):
		if k.fault != fault {
			s.shown.conflicts.Inc()
			s.log.Error("the audit log's head in the store is not as it was written", slog.String("what", fault), slog.String("head", string(h.Raw[:min(len(h.Raw), 1024)])))
		}
		k.fault, k.faulty = fault, now
	case k.fault != "" && now.Sub(k.faulty) > keepShown:
		k.fault = ""
	}
}

// headFault says what is wrong with the store's head; nobody: no key counts that it is
// signed with.
func (s *sealer) headFault(h store.AuditHead, unread error, p *plan.Sealed) (signed audit.Signed, fault string, nobody bool) {
	if unread != nil {
		return signed, unread.Error(), false
	}
	const remedy = ": records are sealed on the directors' disks all the same, and the leader writes it anew"
	seen := s.kept.seen
	if h.Raw == nil {
		if seen.Size > 0 && seen.Epoch == p.Identity.Epoch {
			return signed, fmt.Sprintf("the store has no head of the audit log any more, which had %d records: it was deleted there", seen.Size) + remedy, false
		}
		return signed, "", false
	}
	opened, err := audit.OpenHead(h.Raw, keysFor(p))
	switch {
	case err != nil:
		return signed, "in the store: " + err.Error() + remedy, true
	case opened.Fleet != s.fleet:
		return signed, "the head of the audit log in the store is another fleet's" + remedy, false
	case opened.Size < seen.Size && seen.Epoch == p.Identity.Epoch:
		return signed, fmt.Sprintf("the head of the audit log in the store had %d records, and now has %d: an old one was put back", seen.Size, opened.Size) + remedy, false
	case opened.Size <= s.tiles.Size():
		root, err := s.tiles.Tree().RootAt(opened.Size, s.tiles.Leaves)
		if err == nil && root != opened.Root {
			return signed, fmt.Sprintf("the head in the store is of another log than the one that this director has sealed: they differ within the first %d records", opened.Size), false
		}
	}
	return opened, "", false
}

// search looks for sealed records that are others in the store: of all once, then of what
// was written there since the last round.
func (s *sealer) search(ctx context.Context) error {
	k := &s.kept
	for range keepPages {
		found := map[uint64][]byte{}
		next, at, err := k.store.ChangedAudits(ctx, k.sweep, k.since, func(revision uint64, raw []byte) { found[revision] = raw })
		if err != nil {
			return err
		}
		if k.sweep == 0 {
			k.now = at
		}
		if err := s.compareAltered(found); err != nil {
			return err
		}
		if k.sweep = next; next == 0 {
			k.since = k.now
			return nil
		}
	}
	return nil
}

func (s *sealer) compareAltered(found map[uint64][]byte) error {
	k := &s.kept
	in := finder{tiles: s.tiles, size: s.tiles.Size()}
	for _, revision := range slices.Sorted(maps.Keys(found)) {
		if revision > s.last {
			continue
		}
		sealed, err := in.find(revision)
		if err != nil {
			return err
		}
		raw := found[revision]
		if sealed != nil && string(sealed) == string(raw) {
			delete(k.altered, revision)
			continue
		}
		if len(k.altered) >= maxFindings {
			continue
		}
		what := fmt.Sprintf("the record of revision %d in the store is another than the one that was sealed: it was altered there", revision)
		if sealed == nil {
			what = fmt.Sprintf("the store has a record of revision %d, and none is sealed: it was put there", revision)
		}
		if k.altered[revision] == "" {
			s.log.Error("an audit record was altered in the store", slog.Uint64("revision", revision), slog.String("what", what))
			s.shown.conflicts.Inc()
		}
		if k.altered == nil {
			k.altered = map[uint64]string{}
		}
		k.altered[revision] = what
	}
	return nil
}

// finder finds sealed records by their revisions. It remembers the tile of the last one:
// those that are asked for one after another lie side by side, and to find a tile takes
// reading several.
type finder struct {
	tiles *store.Tiles
	size  int64
	from  uint64 // revisions of held
	to    uint64
	held  map[uint64][]byte
}

// find gives the record of a revision; nil: there is none.
func (f *finder) find(revision uint64) ([]byte, error) {
	if f.size == 0 {
		return nil, nil
	}
	if f.held != nil && f.from <= revision && revision <= f.to {
		return f.held[revision], nil
	}
	low, high := int64(0), (f.size-1)/audit.TileWidth
	for low < high { // the last tile that does not begin past it
		middle := (low + high + 1) / 2
		raws, err := f.tiles.Records(middle)
		if err != nil {
			return nil, err
		}
		a, err := audit.ReadRecord(raws[0])
		if err != nil {
			return nil, err
		}
		if a.GetRevision() <= revision {
			low = middle
		} else {
			high = middle - 1
		}
	}
	raws, err := f.tiles.Records(low)
	if err != nil {
		return nil, err
	}
	f.held = make(map[uint64][]byte, len(raws))
	for _, raw := range raws {
		if a, err := audit.ReadRecord(raw); err == nil {
			if f.to = a.GetRevision(); len(f.held) == 0 {
				f.from = f.to
			}
			f.held[f.to] = raw
		}
	}
	return f.held[revision], nil
}

// joint is the newest head of this director that so many have signed alike, and say that
// they have; nil: there is none.
func (s *sealer) joint(now time.Time, need int) (raw []byte, head audit.Head) {
	said, _ := s.witness.Said()
	for _, m := range slices.Backward(s.kept.mine) {
		heads := [][]byte{m.raw}
		for _, o := range said {
			if o.Head == m.head && o.Fault == "" && now.Sub(s.heardAt[o.Director]) <= keepFresh {
				heads = append(heads, o.Raw)
			}
		}
		if len(heads) >= need {
			return audit.Join(heads...), m.head
		}
	}
	return nil, audit.Head{}
}

// collect writes the log's head to the store, and removes records that it covers, unless a
// director is behind that would miss them; "" = none is.
func (s *sealer) collect(ctx context.Context, now time.Time, p *plan.Sealed, term election.Term, behind string) error {
	k := &s.kept
	voters := len(core.Voters(p.Plan))
	if voters < 2 {
		return nil // a disk and the store are its two places
	}
	if k.next > 0 && behind == "" {
		return s.remove(ctx, term)
	}
	k.next = 0
	raw, head := s.joint(now, max(2, voters/2+1))
	if raw == nil || head.Size < k.signed.Size {
		return nil
	}
	last, err := s.revisionAt(head.Size - k.last - 1)
	if err != nil {
		return err
	}
	pile := int64(0)
	if last > 0 {
		if pile, err = k.store.CountAudits(ctx, head.Revision); err != nil {
			return err
		}
	}
	full := pile > k.pile && last > 0
	if full && behind != "" {
		s.log.Debug("sealed audit records stay in the store: this director is too old to ask others for them, or was not heard yet", slog.String("director", behind))
		full = false
	}
	due := k.signed.Size == 0 || head.Size >= k.signed.Size+keepEach || head != k.signed.Head && now.Sub(k.wrote) >= keepHead
	if !full && !due {
		return nil
	}
	next := store.AuditHead{Raw: raw, Collected: k.head.Collected}
	if k.seen.Epoch == p.Identity.Epoch { // should the head have been lost
		next.Collected = max(next.Collected, min(k.seen.Collected, head.Revision))
	}
	if full {
		next.Collected = max(next.Collected, last)
	}
	if k.head, err = k.store.KeepAuditHead(ctx, k.head, next, term); err != nil {
		return err
	}
	k.wrote = now
	if k.signed, err = audit.OpenHead(raw, keysFor(p)); err != nil {
		return err
	}
	if full {
		k.next, k.to = 1, last
	}
	return nil
}

// wouldMiss names a director that may not ask the others for what is collected: it is too
// old to, or nobody has heard it since this process began; "" = there is none.
func (s *sealer) wouldMiss(p *plan.Sealed) string {
	k := &s.kept
	if p.Plan.GetMinReader() >= keepReader {
		return "" // who is older has no plan to seal by
	}
	said := k.readers()
	knew := make(map[string]uint32, len(said))
	missed := ""
	for _, d := range p.Plan.Active() {
		name := d.GetName()
		reads, heard := said[name]
		if !heard {
			reads, heard = k.knew[name]
		}
		if heard {
			knew[name] = reads
		}
		if reads < keepReader {
			missed = name
		}
	}
	k.knew = knew
	return missed
}

// remove takes the next few records out of the store.
func (s *sealer) remove(ctx context.Context, term election.Term) error {
	k := &s.kept
	var wrong error
	in := finder{tiles: s.tiles, size: s.tiles.Size()}
	removed, next, err := k.store.CollectAudits(ctx, k.head, k.next, k.to, func(revision uint64, raw []byte) bool {
		sealed, err := in.find(revision)
		wrong = errors.Join(wrong, err)
		return err == nil && sealed != nil && string(sealed) == string(raw)
	}, term)
	s.shown.collected.Add(float64(removed))
	if k.next = next; err == nil && wrong != nil {
		return wrong
	}
	return err
}

// revisionAt is that of the record at a place; 0: there is no such place.
func (s *sealer) revisionAt(place int64) (uint64, error) {
	if place < 0 {
		return 0, nil
	}
	raws, err := s.tiles.Records(place / audit.TileWidth)
	if err != nil {
		return 0, err
	}
	a, err := audit.ReadRecord(raws[place%audit.TileWidth])
	return a.GetRevision(), err
}

// signedHere notes a head that this director has signed.
func (k *keeper) signedHere(raw []byte, head audit.Head) {
	if k.mine = append(k.mine, mineHead{raw, head}); len(k.mine) > keepHeads {
		k.mine = slices.Clone(k.mine[1:])
	}
}

// faults are sentences of what is wrong in the store.
func (k *keeper) faults() (out []string) {
	if k.fault != "" {
		out = append(out, k.fault)
	}
	for _, revision := range slices.Sorted(maps.Keys(k.altered)) {
		if len(out) == shownFaults {
			return append(out, fmt.Sprintf("%d records in the store were altered there: `divert audit verify`", len(k.altered)))
		}
		out = append(out, k.altered[revision])
	}
	return out
}
