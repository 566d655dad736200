package director

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/time/rate"

	"github.com/divertdns/divert/director/audit"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/health"
)

const (
	sealFolder = "audit"
	sealTick   = 2 * time.Second // looks for records that are new; a plan in force wakes it at once
	sealTell   = 10 * time.Second
	sealRetry  = 10 * time.Second // after a disk that refused
	sealBatch  = 2 * audit.TileWidth
	sealOctets = 8 << 20 // of a batch
	// sealGrace is how long a record that is missing or odd is looked for among the others,
	// before the log goes on with what there is.
	sealGrace = 30 * time.Second
	sealCheck = 24 * time.Hour // between two readings of all that is sealed
	sealMail  = 64
	// sealAsked bounds what is done for one director: heads, and batches of records, a second.
	sealAsked = 2
)

// sealer seals the audit records of the store on this director's disk: it appends them to
// a Merkle log, in the order of their revisions, signs its head and tells it to the
// others, and witnesses theirs (S15). Every director does so by itself; package audit
// says why that comes to one log.
//
// Nothing waits for it, and no error of it is more than an alert.
type sealer struct {
	name    string
	key     ed25519.PrivateKey
	dir     string
	plan    func() *plan.Sealed // in force; nil: none
	usable  func() bool         // the store is this fleet's and not behind
	records func(ctx context.Context, from uint64, each func(revision uint64, raw []byte) error) error
	tell    func(kind uint8, payload []byte)            // to all
	ask     func(to string, kind uint8, payload []byte) // one
	post    func(to string, kind uint8, payload []byte) // one, what fits no datagram
	log     *slog.Logger
	now     func() time.Time
	shown   *sealMetrics
	changed func()
	mail    chan gossip.Message
	wanted  wake
	syslog  *syslogger // nil: the settings name no server

	view    atomic.Pointer[sealView] // nil: nothing is open yet. By run
	doubted atomic.Bool              // somebody found the tiles damaged: they are read anew

	// By run alone.
	fleet    string
	tiles    *store.Tiles
	chain    audit.Chain
	last     uint64 // revision of the last record
	witness  audit.Witness
	unsaved  bool // of witness
	heard    bool // a head that is new
	head     []byte
	headOf   audit.Head
	told     time.Time
	saved    time.Time // of witness
	retry    time.Time // not before
	checked  time.Time
	problem  string // of the disk
	lost     string // what this director had signed and has no more
	findings []audit.Finding
	odd      oddRecord
	damaged  []damagedTile // that the store does not have either
	repair   repair
	kept     keeper
	heardAt  map[string]time.Time // when a director last said what it has

	autos       *autoQueue // nil: transitions are not sealed
	logs        map[string]*autoLog
	autosRate   *rate.Limiter
	autosMore   map[health.State]int
	autosSaid   time.Time
	autoProblem string // of the disk
	limits      map[string]*rate.Limiter
	faults      map[string]string // of the others, as logged
}

// oddRecord is a record that does not follow the last one.
type oddRecord struct {
	what     string // "" = none
	until    uint64 // the records up to this revision are looked for
	since    time.Time
	asking   inquiry
	hopeless bool // it can never be sealed as it is
}

// sealView is what others may look at.
type sealView struct {
	name     string // of this director
	tiles    *store.Tiles
	fleet    string
	head     []byte
	headOf   audit.Head
	said     []audit.Said
	problem  string
	lost     string
	odd      string
	findings []audit.Finding
	kept     []string // what is wrong in the store
	autos    []autoView
}

// deliver takes a message in without waiting.
func (s *sealer) deliver(m gossip.Message) bool {
	select {
	case s.mail <- m:
		return true
	default:
		return false
	}
}

// run seals until ctx ends, and sends what is sealed.
func (s *sealer) run(ctx context.Context) error {
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() { s.syslog.run(ctx) })
	tick := time.NewTicker(sealTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-s.mail:
			s.message(ctx, m)
		case <-s.wanted:
			s.step(ctx)
		case <-tick.C:
			s.step(ctx)
		}
	}
}

// step does all that is due.
func (s *sealer) step(ctx context.Context) {
	now, p := s.now(), s.plan()
	if p == nil || now.Before(s.retry) {
		return
	}
	if s.tiles == nil || s.fleet != p.Identity.Fleet {
		if err := s.open(ctx, p); err != nil {
			s.fails(now, err)
			s.publish()
			return
		}
	}
	others := core.Others(core.Voters(p.Plan), s.name)
	s.witness.Keep(others)
	maps.DeleteFunc(s.heardAt, func(name string, _ time.Time) bool { return !slices.Contains(others, name) })
	s.look(ctx, now, p)
	if err := s.take(ctx, p, now); err != nil {
		s.fails(now, err)
	} else if s.problem != "" {
		s.log.Info("audit records are sealed again")
		s.problem = ""
	}
	if s.tiles != nil {
		s.heads(ctx, now)
	}
	if s.fleet != "" {
		s.transitions(now, p)
	}
	s.publish()
}

// fails notes what the disk refused. All is read again from it: what it took is not known.
func (s *sealer) fails(now time.Time, err error) {
	if s.problem == "" {
		s.log.Error("audit records are not sealed on this disk", slog.Any("err", err))
	}
	s.shown.errors.Inc()
	s.problem, s.tiles, s.retry = err.Error(), nil, now.Add(sealRetry)
}

// open reads what this disk has of the fleet's log.
func (s *sealer) open(ctx context.Context, p *plan.Sealed) error {
	tiles, err := store.OpenTiles(filepath.Join(s.dir, sealFolder, p.Identity.Fleet))
	if err != nil {
		return err
	}
	if err := tiles.Append(); err != nil { // what was found is on the disk
		return err
	}
	if s.fleet != p.Identity.Fleet {
		s.logs = nil
	}
	s.fleet, s.head, s.headOf, s.lost = p.Identity.Fleet, nil, audit.Head{}, ""
	s.odd, s.witness, s.heard, s.repair = oddRecord{}, audit.Witness{}, true, repair{}
	s.kept = keeper{store: s.kept.store, term: s.kept.term, readers: s.kept.readers, knew: s.kept.knew, pile: s.kept.pile, last: s.kept.last, fault: s.kept.fault, faulty: s.kept.faulty}
	s.kept.seen = tiles.Seen()
	if problem := tiles.Problem(); problem != "" {
		s.log.Warn("sealed audit records are lost here, and read again from the store or the others", slog.String("why", problem))
	}
	if raw, err := tiles.Witness(); err == nil && raw != nil {
		if err := s.witness.Decode(raw, keysFor(p)); err != nil {
			s.log.Warn("the audit log", slog.Any("err", err))
		}
	}
	s.tiles = tiles
	if err := s.recheck(ctx); err != nil {
		s.tiles = nil
		return err
	}
	raw, err := tiles.Head()
	if err != nil {
		s.tiles = nil
		return err
	}
	if signed, err := audit.OpenHead(raw, audit.Keys{s.name: s.key.Public().(ed25519.PublicKey)}); err == nil && signed.Fleet == s.fleet {
		s.head, s.headOf = raw, signed.Head
		s.kept.signedHere(raw, signed.Head)
	}
	return nil
}

// keysFor gives the keys that count in a plan.
func keysFor(p *plan.Sealed) audit.Keys {
	keys := audit.Keys{}
	for _, d := range p.Plan.Active() {
		if len(d.GetKey()) == ed25519.PublicKeySize {
			keys[d.GetName()] = d.GetKey()
		}
	}
	return keys
}

// recheck reads all that is sealed here, and mends what it can of it.
func (s *sealer) recheck(ctx context.Context) error {
	s.checked = s.now()
	v, err := audited(ctx, s.tiles)
	if err == nil && (s.mend(ctx, v.damaged) || s.mendLast()) {
		v, err = audited(ctx, s.tiles)
	}
	if err != nil {
		return err
	}
	s.chain, s.last, s.findings, s.damaged = v.chain, v.last, v.findings, v.damaged
	for _, f := range s.findings {
		if !f.Harmless {
			s.log.Error("the sealed audit log is not in order", slog.String("what", f.String()))
		}
	}
	return nil
}

// mend writes tiles that cannot be read anew, with what the store still has of them.
func (s *sealer) mend(ctx context.Context, damaged []damagedTile) (mended bool) {
	for _, d := range damaged {
		var raws [][]byte
		err := s.records(ctx, d.after+1, func(_ uint64, raw []byte) error {
			if raws = append(raws, raw); len(raws) == audit.TileWidth {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			continue
		}
		if err := s.tiles.Mend(d.tile, raws); err == nil {
			s.mended(d.tile, "could not be read", "the store")
			mended = true
		}
	}
	return mended
}

// mendLast writes the file of the last tile anew where it is not what was sealed by this
// process, which has it in memory.
func (s *sealer) mendLast() bool {
	if s.tiles.CheckLast() == nil || s.tiles.WriteLast() != nil {
		return false
	}
	s.mended(s.tiles.Size()/audit.TileWidth, "was not what this director had sealed", "its memory")
	return true
}

// damagedTile is one that cannot be read, and the revision that it comes after.
type damagedTile struct {
	tile  int64
	after uint64
}

// auditedLog is what a reading of all tiles comes to.
type auditedLog struct {
	chain    audit.Chain
	last     uint64
	findings []audit.Finding
	records  int64
	damaged  []damagedTile
}

// maxFindings bounds what is kept and shown of what is wrong.
const maxFindings = 100

func (v *auditedLog) find(f audit.Finding) {
	if len(v.findings) < maxFindings {
		v.findings = append(v.findings, f)
	}
}

// audited reads all tiles, whole, in order.
func audited(ctx context.Context, tiles *store.Tiles) (v auditedLog, err error) {
	size := tiles.Size()
	for tile := int64(0); tile*audit.TileWidth < size; tile++ {
		if err := ctx.Err(); err != nil {
			return v, err
		}
		raws, err := tiles.Records(tile)
		if err != nil {
			v.find(audit.Finding{Record: tile * audit.TileWidth, What: fmt.Sprintf("it and the %d after it cannot be read: %s", audit.TileWidth-1, err)})
			v.damaged = append(v.damaged, damagedTile{tile, v.last})
			v.chain.Skip()
			continue
		}
		for i, raw := range raws {
			at := tile*audit.TileWidth + int64(i)
			if at >= size {
				break
			}
			v.records++
			a, err := audit.ReadRecord(raw)
			if err != nil {
				v.find(audit.Finding{Record: at, What: err.Error()})
				v.chain.Skip()
				continue
			}
			v.last = a.GetRevision()
			if f := v.chain.Add(a); f != nil {
				f.Record = at
				v.find(*f)
			}
		}
	}
	if err := tiles.CheckLast(); err != nil {
		v.find(audit.Finding{Record: size / audit.TileWidth * audit.TileWidth, What: fmt.Sprintf("it and those after it were altered on this director's disk: %s", err)})
	}
	return v, nil
}

// heads signs what is new, tells it, and holds what the others say against it.
func (s *sealer) heads(ctx context.Context, now time.Time) {
	if s.heard || s.lost != "" || s.tiles.Size() != s.headOf.Size {
		s.heard = false
		s.compare(now)
	}
	if s.tiles != nil && (now.Sub(s.checked) >= sealCheck || s.doubted.Swap(false)) {
		s.kept.sweep, s.kept.since, s.kept.altered = 0, 0, nil // of the store, too
		if err := s.recheck(ctx); err != nil {
			s.fails(now, err)
		}
	}
	if s.tiles == nil {
		return
	}
	s.mendFromOthers(now)
	if s.head != nil && s.lost == "" && now.Sub(s.told) >= sealTell {
		s.told = now
		s.tell(kindAuditHead, s.head)
	}
	if s.unsaved && now.Sub(s.saved) >= sealTell {
		s.saved = now
		if err := s.tiles.SaveWitness(s.witness.Encode()); err == nil {
			s.unsaved = false
		}
	}
}

// compare signs what is new, and holds all heads against this log.
func (s *sealer) compare(now time.Time) {
	tree := s.tiles.Tree()
	head := audit.Head{Fleet: s.fleet, Size: tree.Size(), Root: tree.Root(), Revision: s.last}
	err := s.witness.Check(tree.Size(), func(size int64) (tlog.Hash, error) { return tree.RootAt(size, s.tiles.Leaves) })
	if err != nil {
		s.log.Debug("the others' audit logs cannot be compared", slog.Any("err", err))
	}
	said, _ := s.witness.Said()
	faults := map[string]string{}
	for _, o := range said {
		if faults[o.Director] = o.Fault; o.Fault != "" && s.faults[o.Director] == "" {
			s.log.Error("an audit log is no extension of what was sealed before", slog.String("director", o.Director), slog.String("why", o.Fault))
			s.shown.conflicts.Inc()
		}
	}
	s.faults = faults
	switch {
	case head == s.headOf:
		s.lost = ""
	case head.Size > 0:
		s.sign(tree, head, now)
	}
}

// sign signs a head that is an extension of the last one, and no other: a log that has
// lost what it had says nothing until it has it again.
func (s *sealer) sign(tree *audit.Tree, head audit.Head, now time.Time) {
	s.lost = ""
	if s.head != nil {
		if head.Size < s.headOf.Size {
			s.lost = fmt.Sprintf("of the %d audit records that this director had sealed, its disk has %d", s.headOf.Size, head.Size)
			return
		}
		if root, err := tree.RootAt(s.headOf.Size, s.tiles.Leaves); err != nil || root != s.headOf.Root {
			s.lost = fmt.Sprintf("the first %d audit records on this director's disk are not those that it had sealed", s.headOf.Size)
			return
		}
	}
	raw, err := head.Sign(s.name, s.key)
	if err == nil {
		err = s.tiles.SaveHead(raw)
	}
	if err != nil {
		s.fails(now, err)
		return
	}
	s.head, s.headOf, s.told = raw, head, time.Time{}
	s.kept.signedHere(raw, head)
	s.changed()
}

// publish shows where the log stands.
func (s *sealer) publish() {
	v := &sealView{name: s.name, tiles: s.tiles, fleet: s.fleet, head: s.head, headOf: s.headOf, problem: s.problem, lost: s.lost, odd: s.odd.told(s.now()), findings: s.findings, kept: s.kept.faults(), autos: s.autoViews()}
	if s.autoProblem != "" {
		v.kept = append(v.kept, "transitions are not sealed on this director's disk: "+s.autoProblem)
	}
	for _, l := range v.autos {
		if l.fault != "" {
			v.kept = append(v.kept, l.fault)
		}
	}
	v.said, _ = s.witness.Said()
	old := s.view.Swap(v)
	s.shown.observe(v)
	if old == nil || old.problem != v.problem || old.lost != v.lost || old.odd != v.odd || len(old.findings) != len(v.findings) || !slices.Equal(old.kept, v.kept) || !bytes.Equal(faultsOf(old), faultsOf(v)) {
		s.changed()
	}
}

func faultsOf(v *sealView) (out []byte) {
	for _, o := range v.said {
		out = append(append(out, o.Fault...), 0)
	}
	return out
}
