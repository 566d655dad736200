package director

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/director/store/fsys"
)

const (
	missedFolder = "missed"
	missedPlans  = 64       // that are kept …
	missedOctets = 64 << 20 // … with their specs
	missedQueue  = 64
	planFile     = "plan-"
	docFile      = "spec-"
)

// missed keeps the last plans by which something turned that takes two persons, with their
// specs, for a director that was away meanwhile: what it missed may look dangerous as a
// whole, while nobody could ask a second person for any step of it. It goes through those
// steps, one after another, and holds each to what it holds every plan to (S7, S16). run
// alone writes the folder. A disk that takes nothing costs that, and nothing else.
type missed struct {
	folder fsys.Folder
	log    *slog.Logger
	queue  chan *inForce

	// By run alone:
	last *plan.Plan // that was looked at
	two  bool       // it takes two persons, and so does the one after, though that may end it

	mu     sync.Mutex
	plans  []turned // the oldest first
	chunks map[plan.Hash]piece
}

// piece is a chunk of a document that is kept.
type piece struct {
	file  string
	index int
}

// turned is one of them.
type turned struct {
	sealed *plan.Sealed
	docs   []string // files
	octets int64
}

func newMissed(dir string, log *slog.Logger) *missed {
	return &missed{folder: fsys.Folder{FS: fsys.OS{}, Dir: filepath.Join(dir, missedFolder)}, log: log, queue: make(chan *inForce, missedQueue), chunks: map[plan.Hash]piece{}}
}

// note leaves a plan that was found good here, without waiting. A nil missed keeps nothing.
func (m *missed) note(f *inForce) {
	if m == nil {
		return
	}
	select {
	case m.queue <- f:
	default: // who comes back after so many at once asks others, or a person
	}
}

func (m *missed) run(ctx context.Context) error {
	m.load()
	for {
		select {
		case <-ctx.Done():
			return nil
		case f := <-m.queue:
			if err := m.keep(f); err != nil {
				m.log.Warn("a plan is not kept for who misses it", slog.Any("err", err))
			}
		}
	}
}

// keep takes a plan up, if something turned by it since the one before.
func (m *missed) keep(f *inForce) error {
	side := f.stable()
	held := side.spec.Fleet.TwoPersons || m.two
	m.two = side.spec.Fleet.TwoPersons
	if !held {
		return nil
	}
	p := side.sealed
	turns := m.last == nil || core.Turns(m.last, p.Plan)
	m.last = p.Plan
	m.mu.Lock()
	m.plans = slices.DeleteFunc(m.plans, func(t turned) bool { return t.sealed.Identity.Fleet != p.Identity.Fleet }) // whose files go at the next start
	known := slices.ContainsFunc(m.plans, func(t turned) bool { return t.sealed.Identity.Compare(p.Identity) >= 0 })
	m.mu.Unlock()
	if !turns || known {
		return nil
	}
	if err := fsys.MkdirAll(m.folder.FS, m.folder.Dir, 0o700); err != nil {
		return err
	}
	t := turned{sealed: p, octets: int64(len(p.Raw))}
	chunks := map[plan.Hash]piece{}
	for _, s := range []*inForce{side, side.tried()} {
		if s == nil {
			continue
		}
		name := docFile + plan.Sum(s.bytes).String()
		if _, err := m.folder.FS.Stat(m.folder.Path(name)); errors.Is(err, fs.ErrNotExist) {
			err = m.folder.Replace(name, s.bytes)
			if err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
		t.docs, t.octets = append(t.docs, name), t.octets+int64(len(s.bytes))
		pieces(s.bytes, name, chunks)
	}
	if err := m.folder.Replace(missedName(p.Identity), p.Raw); err != nil {
		return err
	}
	m.mu.Lock()
	m.plans = append(m.plans, t)
	maps.Copy(m.chunks, chunks)
	gone := m.tidyLocked()
	m.mu.Unlock()
	for _, name := range gone {
		_ = m.folder.Remove(name) // again at the next start
	}
	return nil
}

// tidyLocked drops the oldest plans beyond the bounds, and says which files nobody needs.
func (m *missed) tidyLocked() (gone []string) {
	total := func() (n int64) {
		seen := map[string]bool{}
		for _, t := range m.plans {
			if !seen[strings.Join(t.docs, "/")] { // most have the document of the one before
				n += t.octets
			}
			seen[strings.Join(t.docs, "/")] = true
		}
		return n
	}
	for len(m.plans) > 1 && (len(m.plans) > missedPlans || total() > missedOctets) {
		gone = append(gone, missedName(m.plans[0].sealed.Identity))
		for _, name := range m.plans[0].docs {
			if !slices.ContainsFunc(m.plans[1:], func(t turned) bool { return slices.Contains(t.docs, name) }) {
				gone = append(gone, name)
			}
		}
		m.plans = m.plans[1:]
	}
	maps.DeleteFunc(m.chunks, func(_ plan.Hash, p piece) bool { return slices.Contains(gone, p.file) })
	return gone
}

// load reads what was kept before. What cannot be read is dropped.
func (m *missed) load() {
	entries, err := m.folder.FS.ReadDir(m.folder.Dir)
	if err != nil {
		return
	}
	var plans []turned
	chunks := map[plan.Hash]piece{}
	used := map[string]bool{}
	docs := map[string]int64{}  // octets of those that were read; most plans have the one of the plan before
	for _, e := range entries { // by name, which is by order
		if !strings.HasPrefix(e.Name(), planFile) {
			continue
		}
		raw, err := fsys.ReadFile(m.folder.FS, m.folder.Path(e.Name()), 2*core.MaxManifest)
		if err != nil {
			continue
		}
		sealed, err := plan.Open(raw)
		if err != nil || missedName(sealed.Identity) != e.Name() {
			continue
		}
		t, whole := turned{sealed: sealed, octets: int64(len(raw))}, true
		for _, ref := range sealed.Plan.Specs() {
			name := fmt.Sprintf("%s%x", docFile, ref.GetHash())
			size, known := docs[name]
			if !known {
				doc, err := m.document(name)
				if size = int64(len(doc)); err != nil {
					size = -1
				}
				docs[name] = size
				pieces(doc, name, chunks)
			}
			whole = whole && size >= 0
			t.docs, t.octets = append(t.docs, name), t.octets+size
		}
		if whole {
			plans = append(plans, t)
			used[e.Name()] = true
			for _, name := range t.docs {
				used[name] = true
			}
		}
	}
	for _, e := range entries {
		if !used[e.Name()] {
			_ = m.folder.Remove(e.Name())
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.plans, m.chunks, m.two = plans, chunks, len(plans) > 0
}

// document reads one that is what its name says.
func (m *missed) document(name string) ([]byte, error) {
	doc, err := fsys.ReadFile(m.folder.FS, m.folder.Path(name), missedOctets)
	if err == nil && docFile+plan.Sum(doc).String() != name {
		err = errors.New("it is damaged")
	}
	return doc, err
}

// after gives the first plan that is kept and newer than another; nil: none is.
func (m *missed) after(want []byte, fleet string) []byte {
	if m == nil || len(want) != wantSize {
		return nil
	}
	id := plan.Identity{Fleet: fleet, Epoch: binary.BigEndian.Uint64(want), Revision: binary.BigEndian.Uint64(want[8:])}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.plans {
		if t.sealed.Identity.Fleet == fleet && t.sealed.Identity.Compare(id) > 0 {
			return t.sealed.Raw
		}
	}
	return nil
}

// chunk gives a piece of a spec that is kept; nil: it is of none.
func (m *missed) chunk(h plan.Hash) []byte {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	p := m.chunks[h]
	m.mu.Unlock()
	if p.file == "" {
		return nil
	}
	doc, err := fsys.ReadFile(m.folder.FS, m.folder.Path(p.file), missedOctets)
	if err != nil {
		return nil
	}
	from := min(p.index*store.MaxChunk, len(doc))
	c := doc[from:min(from+store.MaxChunk, len(doc))]
	if plan.Sum(c) != h {
		return nil
	}
	return c
}

// wantSize is of what asks for a plan after another: epoch and revision.
const wantSize = 16

// wantAfter asks for the first plan after one at which something turned. A director of
// before gives the newest, as to who names none.
func wantAfter(id plan.Identity) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, id.Epoch), id.Revision)
}

func missedName(id plan.Identity) string {
	return fmt.Sprintf("%s%020d-%020d", planFile, id.Epoch, id.Revision)
}

func pieces(doc []byte, name string, into map[plan.Hash]piece) {
	chunks, _ := store.Split(doc)
	for i, c := range chunks {
		into[plan.Sum(c)] = piece{name, i}
	}
}
