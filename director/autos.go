package director

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/audit"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/health"
)

const (
	autosFolder = ".auto" // behind the fleet's name
	// autosFleet sets the head of transitions apart from that of the audit log.
	autosFleet = "/auto"
	autosQueue = 256
	// A storm of transitions has so many records at once, then one each two seconds; of
	// the rest a record a minute says how many they were.
	autosBurst   = 64
	autosEvery   = 2 * time.Second
	autosSummary = time.Minute
	// autosRecover is for how long a director without a journal asks the others for it.
	autosRecover = 30 * time.Second
	autosWhy     = 1024 // octets of a reason
	// A journal has so many records at most, of so many octets: decades of what is usual.
	autosMost   = 1 << 18
	autosRecord = 4 << 10
)

// autoQueue is what the loop leaves for the sealer, which never keeps it waiting.
type autoQueue struct {
	mu      sync.Mutex
	entries []autoEntry
	more    map[health.State]int // for which there was no room
}

type autoEntry struct {
	at            time.Time
	id, what, why string
	to            health.State
}

// add leaves transitions that came into force; by the loop. A nil one keeps none.
func (q *autoQueue) add(certs []health.Certificate, at time.Time, tell func(health.Certificate) string) {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range certs {
		if len(q.entries) >= autosQueue {
			q.count(c.To(), 1)
			continue
		}
		q.entries = append(q.entries, autoEntry{at: at, id: autoID(c), what: tell(c), why: c.Reason[:min(len(c.Reason), autosWhy)], to: c.To()})
	}
}

func (q *autoQueue) count(to health.State, n int) {
	if q.more == nil {
		q.more = map[health.State]int{}
	}
	q.more[to] += n
}

// autoID is the same on all directors for one transition.
func autoID(c health.Certificate) string { return fmt.Sprintf("%s #%d", c.Subject, c.N) }

func (q *autoQueue) take() (entries []autoEntry, more map[health.State]int) {
	if q == nil {
		return nil, nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	entries, more = q.entries, q.more
	q.entries, q.more = nil, nil
	return entries, more
}

// autoLog is one director's journal of transitions, its own or a copy of another's: a
// sealed log of its own, under a head that its director alone signs. By the sealer.
type autoLog struct {
	owner  string
	key    ed25519.PublicKey // that its heads count under
	tiles  *store.Tiles
	head   []byte // the longest that its director signed, and this disk has in whole
	headOf audit.Head
	fault  string
	asked  time.Time
	begun  time.Time // of the search for what the others have of this director's own
	told   time.Time
}

// autoView is what others may look at of one.
type autoView struct {
	owner  string
	tiles  *store.Tiles
	headOf audit.Head
	fault  string
}

// transitions seals what came to be, and keeps the others' journals open.
func (s *sealer) transitions(now time.Time, p *plan.Sealed) {
	if s.autos == nil {
		return
	}
	others := core.Others(core.Voters(p.Plan), s.name)
	keys := keysFor(p)
	if s.logs == nil {
		s.logs = map[string]*autoLog{}
	}
	for _, owner := range append([]string{s.name}, others...) {
		if l := s.logs[owner]; l != nil && owner != s.name && len(keys[owner]) > 0 && !l.key.Equal(keys[owner]) {
			delete(s.logs, owner) // who was replaced begins a journal of its own
		}
		if s.logs[owner] == nil {
			l, err := s.openAuto(owner, keys)
			if err != nil {
				s.autoFails(err)
				continue
			}
			s.logs[owner] = l
		}
	}
	own := s.logs[s.name]
	if own == nil || s.recovers(own, others, now) {
		return
	}
	if err := s.sealAutos(own, now); err != nil {
		s.autoFails(err)
		if own.tiles.Size() < autosMost { // else nothing was written
			delete(s.logs, s.name) // what the disk took is read again
		}
	} else if s.autoProblem != "" && len(s.logs) > len(others) {
		s.autoProblem = ""
	}
	if own.head != nil && now.Sub(own.told) >= sealTell {
		own.told = now
		s.tell(kindAuditHead, own.head)
	}
}

func (s *sealer) autoFails(err error) {
	if s.autoProblem == "" {
		s.log.Error("transitions are not sealed on this disk", slog.Any("err", err))
		s.shown.errors.Inc()
	}
	s.autoProblem = err.Error()
}

// autosAside is where a journal is put that was not what its director has signed: it may be
// that of a director of the same name and another key, which was replaced since.
const autosAside = ".aside"

func (s *sealer) putAside(dir, owner string) error {
	to := filepath.Join(s.dir, sealFolder, s.fleet+autosAside, owner)
	return errors.Join(os.MkdirAll(filepath.Dir(to), 0o700), os.RemoveAll(to), os.Rename(dir, to))
}

// openAuto reads a journal from this disk. One that is not what its director signed is
// put aside: the others have it.
func (s *sealer) openAuto(owner string, keys audit.Keys) (*autoLog, error) {
	if !fs.ValidPath(owner) || strings.ContainsAny(owner, `/\`) {
		return nil, fmt.Errorf("a director's name %q is no name of a folder", owner)
	}
	key := keys[owner]
	if owner == s.name { // which may be in no roster now
		key = s.key.Public().(ed25519.PublicKey)
	}
	dir := filepath.Join(s.dir, sealFolder, s.fleet+autosFolder, owner)
	for try := 0; ; try++ {
		tiles, err := store.OpenTiles(dir)
		if err == nil {
			err = tiles.Append()
		}
		if err != nil {
			return nil, err
		}
		l := &autoLog{owner: owner, key: key, tiles: tiles}
		raw, err := tiles.Head()
		if err != nil {
			return nil, err
		}
		wrong := tiles.Problem()
		for tile := int64(0); wrong == "" && tile < tiles.Tree().Tiles(); tile++ {
			if _, err := tiles.Records(tile); err != nil {
				wrong = err.Error()
			}
		}
		signed, err := audit.OpenHead(raw, audit.Keys{owner: key})
		switch {
		case wrong != "":
		case raw == nil && tiles.Size() > 0 && owner != s.name: // killed before it had all that it asked for
			if err := os.RemoveAll(dir); err != nil || try > 0 {
				return nil, errors.Join(errors.New("a copy of transitions without a head"), err)
			}
			continue
		case raw == nil:
		case err != nil || signed.Fleet != s.fleet+autosFleet:
			wrong = "its head is not as it was signed"
		case signed.Size > tiles.Size():
			wrong = fmt.Sprintf("of %d transitions it has %d", signed.Size, tiles.Size())
		default:
			if root, err := tiles.Tree().RootAt(signed.Size, tiles.Leaves); err != nil || root != signed.Root {
				wrong = "it is not what was signed"
			}
			l.head, l.headOf = raw, signed.Head
		}
		if wrong == "" {
			return l, nil
		}
		s.log.Error("a journal of transitions was altered or damaged on this disk, and is taken from the others anew", slog.String("of", owner), slog.String("why", wrong))
		s.shown.mended.Inc()
		if err := s.putAside(dir, owner); err != nil || try > 0 {
			return nil, errors.Join(errors.New(wrong), err)
		}
	}
}

// recovers tells whether this director still looks for what the others have of its own
// journal: it writes nothing before, which would be another history.
func (s *sealer) recovers(own *autoLog, others []string, now time.Time) bool {
	if own.headOf.Size > 0 && own.begun.IsZero() || len(others) == 0 {
		return false
	}
	if own.begun.IsZero() {
		own.begun = now
	}
	if now.Sub(own.begun) >= autosRecover {
		own.begun = time.Time{}
		if own.headOf.Size == 0 {
			own.headOf.Fleet = s.fleet + autosFleet // looked, and nobody has any
			own.begun = now.Add(-autosRecover)
		}
		return false
	}
	for i, name := range others {
		if int(now.Sub(own.begun)/sealTick)%len(others) == i {
			s.wantAuto(name, own, now)
		}
	}
	return true
}

func (s *sealer) wantAuto(from string, l *autoLog, now time.Time) {
	l.asked = now
	s.ask(from, kindAuditWant, append(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(l.tiles.Size())), 0), l.owner...))
}

// sealAutos appends what the loop has left, as far as the bounds let it, and signs.
func (s *sealer) sealAutos(own *autoLog, now time.Time) error {
	if own.tiles.Size() >= autosMost {
		return fmt.Errorf("the journal has %d records: stop this director, move %s in its data folder aside on all directors, and start it", own.tiles.Size(), filepath.Join(sealFolder, s.fleet+autosFolder, s.name))
	}
	entries, more := s.autos.take()
	for to, n := range more {
		s.autosMore[to] += n
	}
	var raws [][]byte
	add := func(a *plan.Audit) error {
		a.Revision, a.Who, a.Via = uint64(own.tiles.Size())+uint64(len(raws))+1, autoAuthor, s.name
		raw, err := proto.Marshal(a)
		raws = append(raws, raw)
		return err
	}
	var wrong error
	for _, e := range entries {
		if !s.autosRate.AllowN(now, 1) {
			s.autosMore[e.to]++
			continue
		}
		wrong = errors.Join(wrong, add(&plan.Audit{At: timestamppb.New(e.at), What: e.what, Why: e.why, Command: e.id}))
	}
	if len(s.autosMore) > 0 && now.Sub(s.autosSaid) >= autosSummary {
		wrong = errors.Join(wrong, add(&plan.Audit{At: timestamppb.New(now), What: summaryOf(s.autosMore), Why: "too many at once for a record of each"}))
		s.autosSaid = now
		clear(s.autosMore)
	}
	if len(raws) == 0 || wrong != nil {
		return wrong
	}
	if err := own.tiles.Append(raws...); err != nil {
		return err // they are in the history, and no more than that
	}
	tree := own.tiles.Tree()
	head := audit.Head{Fleet: s.fleet + autosFleet, Size: tree.Size(), Root: tree.Root(), Revision: uint64(tree.Size())}
	raw, err := head.Sign(s.name, s.key)
	if err == nil {
		err = own.tiles.SaveHead(raw)
	}
	if err == nil {
		own.head, own.headOf, own.told = raw, head, time.Time{}
	}
	return err
}

func summaryOf(more map[health.State]int) string {
	total, parts := 0, []string{}
	for _, to := range []health.State{health.Down, health.Up, health.Unknown} {
		if n := more[to]; n > 0 {
			total, parts = total+n, append(parts, fmt.Sprintf("%d to %s", n, to))
		}
	}
	return fmt.Sprintf("%d more transitions: %s", total, strings.Join(parts, ", "))
}

// hearAuto takes in the head of another director's journal, signed by it.
func (s *sealer) hearAuto(m gossip.Message, signed audit.Signed) {
	l, now := s.logs[m.From], s.now()
	if l == nil || m.From == s.name {
		return
	}
	if signed.Size > l.tiles.Size() {
		switch {
		case l.tiles.Size() >= autosMost:
			s.autoFault(l, fmt.Sprintf("%s has sealed more than %d transitions: no more are kept here", m.From, autosMost))
		case now.Sub(l.asked) >= sealTick/2:
			s.wantAuto(m.From, l, now)
		}
		return
	}
	root, err := l.tiles.Tree().RootAt(signed.Size, l.tiles.Leaves)
	switch {
	case err != nil:
	case root != signed.Root:
		s.autoFault(l, fmt.Sprintf("%s has sealed other transitions than before: they differ within the first %d; those of before are kept here", m.From, signed.Size))
	case signed.Size >= l.headOf.Size: // a shorter one came late
		s.autoFault(l, "")
	}
}

func (s *sealer) autoFault(l *autoLog, fault string) {
	if fault != "" && l.fault == "" {
		s.log.Error("a journal of transitions is no extension of what was sealed before", slog.String("of", l.owner), slog.String("why", fault))
		s.shown.conflicts.Inc()
	}
	l.fault = fault
}

// giveAuto sends what this disk has of a director's journal, under its head.
func (s *sealer) giveAuto(m gossip.Message, from int64, owner string) {
	l := s.logs[owner]
	if l == nil || l.head == nil || from >= l.headOf.Size {
		return
	}
	raws, err := l.tiles.Records(from / audit.TileWidth)
	if err != nil || from%audit.TileWidth >= int64(len(raws)) {
		return
	}
	g, octets := audit.Given{From: from}, 0
	for i, raw := range raws[from%audit.TileWidth:] {
		if octets += len(raw); octets > maxGiven || from+int64(i) >= l.headOf.Size {
			break
		}
		g.Records = append(g.Records, raw)
	}
	u, err := audit.Prove(l.tiles.Tree(), l.tiles.Leaves, l.head, l.headOf.Size, from, from+int64(len(g.Records)))
	if err != nil {
		return
	}
	g.Under = []audit.Under{u}
	s.post(m.From, kindAuditRecords, g.Encode())
}

// autoOf gives the journal that records are of, by their head; nil: they are no
// transitions.
func (s *sealer) autoOf(g audit.Given) (*autoLog, audit.Signed) {
	p := s.plan()
	if len(g.Under) != 1 || len(g.Under[0].Head) == 0 || p == nil {
		return nil, audit.Signed{}
	}
	signed, err := audit.OpenHead(g.Under[0].Head, keysFor(p))
	if err != nil || signed.Fleet != s.fleet+autosFleet || len(signed.Directors) != 1 {
		return nil, audit.Signed{}
	}
	return s.logs[signed.Directors[0]], signed
}

// takeAuto appends what was given of a journal, where its director's head proves it.
func (s *sealer) takeAuto(m gossip.Message, l *autoLog, signed audit.Signed, g audit.Given) {
	now := s.now()
	own := l.owner == s.name
	if g.From != l.tiles.Size() || own && l.begun.IsZero() {
		return
	}
	for _, raw := range g.Records {
		if len(raw) > autosRecord {
			s.shown.refused.Inc()
			return
		}
	}
	n := g.Proven(l.tiles.Tree(), func(audit.Under) (audit.Head, bool) { return signed.Head, true })[0]
	if n < int64(len(g.Records)) || n == 0 {
		if m.From == l.owner {
			s.autoFault(l, fmt.Sprintf("%s has sealed other transitions than before: they differ within the first %d", l.owner, g.From))
		}
		return
	}
	if err := l.tiles.Append(g.Records...); err != nil {
		s.autoFails(err)
		delete(s.logs, l.owner)
		return
	}
	if signed.Size > l.tiles.Size() {
		if l.tiles.Size() < autosMost {
			s.wantAuto(m.From, l, now)
		}
		return
	}
	raw := audit.Join(g.Under[0].Head)
	if err := l.tiles.SaveHead(raw); err != nil {
		s.autoFails(err)
		return
	}
	l.head, l.headOf = raw, signed.Head
	s.autoFault(l, "")
}

// autoViews are the journals as they may be read.
func (s *sealer) autoViews() (out []autoView) {
	for _, l := range s.logs {
		out = append(out, autoView{l.owner, l.tiles, l.headOf, l.fault})
	}
	slices.SortFunc(out, func(a, b autoView) int { return strings.Compare(a.owner, b.owner) })
	return out
}

// newest gives the last transitions of a journal that are not older than an instant.
func (v autoView) newest(since time.Time, limit int) (out []*plan.Audit, err error) {
	for tile := (v.headOf.Size - 1) / audit.TileWidth; v.headOf.Size > 0 && tile >= 0 && len(out) < limit; tile-- {
		raws, err := v.tiles.Records(tile)
		if err != nil {
			return nil, err
		}
		var found []*plan.Audit
		raws = raws[:min(int64(len(raws)), v.headOf.Size-tile*audit.TileWidth)]
		for _, raw := range raws {
			if a, err := audit.ReadRecord(raw); err == nil && !a.GetAt().AsTime().Before(since) {
				found = append(found, a)
			}
		}
		if out = append(found, out...); len(found) == 0 {
			break
		}
	}
	return out[max(0, len(out)-limit):], nil
}

// check reads a journal whole, and says what is wrong with it; "" = nothing.
func (v autoView) check() string {
	if v.fault != "" {
		return v.fault
	}
	tree := v.tiles.Tree()
	for tile := range tree.Tiles() {
		if _, err := v.tiles.Records(tile); err != nil {
			return fmt.Sprintf("the transitions of %s on this director's disk: %s", v.owner, err)
		}
	}
	if err := v.tiles.CheckLast(); err != nil {
		return fmt.Sprintf("the transitions of %s were altered on this director's disk: %s", v.owner, err)
	}
	if v.headOf.Size > 0 {
		if root, err := tree.RootAt(v.headOf.Size, v.tiles.Leaves); err != nil || root != v.headOf.Root {
			return fmt.Sprintf("the transitions of %s on this director's disk are not those that it has signed", v.owner)
		}
	}
	return ""
}

func newAutosRate() *rate.Limiter { return rate.NewLimiter(rate.Every(autosEvery), autosBurst) }
