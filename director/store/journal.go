package store

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store/fsys"
)

const (
	segmentPrefix = "segment-"
	keptPrefix    = "kept-"
	// journalReserve is what a journal leaves of a disk: plans, certificates and an
	// embedded etcd need it more (F16).
	journalReserve = 32 << 20
	// A segment is begun anew when it has a part of the room, or of the time: what is
	// dropped is the oldest of them, and each begins with all that holds.
	segmentParts             = 16
	segmentLeast             = 64 << 10
	segmentMost              = 8 << 20
	segmentYoung, segmentOld = 10 * time.Minute, 6 * time.Hour
)

// ErrNoRoom says that the disk has hardly any room left, so that nothing is written
// which no answer needs.
var ErrNoRoom = errors.New("the disk has hardly any room left")

// ErrNotKept says that what is asked for was never kept, or is kept no more.
var ErrNotKept = errors.New("is not kept")

// JournalOptions bound a journal.
type JournalOptions struct {
	Dir  string        // of its own, made when absent
	For  time.Duration // what is older goes
	Size int64         // octets; past it the oldest goes
	Log  *slog.Logger
	Free func(dir string) (octets uint64, err error) // of the disk; default: as the system says
}

// Journal keeps what a director told, and what it went by, in segments: files that
// are only appended to, each of whose entries has a checksum, and the first of
// which says all that holds then. What entries have in common, and is large, is
// kept beside them, by its hash. It is written by one goroutine and read by any.
//
// Nothing that answers or decides reads it, and no error of it is more than an
// error: it is there for people who ask what was.
type Journal struct {
	o     JournalOptions
	fsys  fsys.FS
	file  fsys.File // of the last segment; nil: Begin is wanted. By the writer
	next  uint64    // number of the next segment. By the writer
	blind bool      // some segment cannot be read now: what it refers to is not known

	mu       sync.Mutex
	segments []segment // in order
	kept     map[plan.Hash]int64
}

// segment is what is known of one without reading it.
type segment struct {
	number      uint64
	size        int64
	first, last time.Time // the earliest and the latest entry
	refs        map[plan.Hash]bool
}

// OpenJournal reads what there is. An interrupted write leaves its last entry
// torn, and nothing is appended to it: the next segment begins anew.
func OpenJournal(o JournalOptions) (*Journal, error) { return journalOn(fsys.OS{}, o) }

func journalOn(on fsys.FS, o JournalOptions) (*Journal, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Free == nil {
		o.Free = freeOn
	}
	j := &Journal{o: o, fsys: on, next: 1, kept: map[plan.Hash]int64{}}
	if err := fsys.MkdirAll(on, o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("history's folder: %w", err)
	}
	entries, err := on.ReadDir(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("history's folder: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue // gone meanwhile
		}
		if strings.HasSuffix(e.Name(), fsys.Temporary) {
			_ = on.Remove(filepath.Join(o.Dir, e.Name()))
			continue
		}
		if digits, ok := strings.CutPrefix(e.Name(), keptPrefix); ok {
			if h, err := parseHash(digits); err == nil {
				j.kept[h] = info.Size()
			}
			continue
		}
		digits, ok := strings.CutPrefix(e.Name(), segmentPrefix)
		n, err := strconv.ParseUint(digits, 10, 63)
		if !ok || err != nil || len(digits) != 20 {
			continue
		}
		s := segment{number: n, size: info.Size(), refs: map[plan.Hash]bool{}}
		whole := false
		err = j.read(n, false, func(e Entry) bool {
			s.note(e)
			whole = true
			return true
		})
		if err != nil {
			o.Log.Warn("history: a file is not whole", slog.String("file", e.Name()), slog.Any("err", err))
		}
		j.next = max(j.next, n+1)
		j.blind = j.blind || err != nil && !errors.Is(err, errFrame)
		if !whole {
			if errors.Is(err, errFrame) { // not even its beginning was written
				_ = on.Remove(j.path(n))
			}
			continue // a disk's or a newer divert's, it stays
		}
		j.segments = append(j.segments, s)
	}
	slices.SortFunc(j.segments, func(a, b segment) int { return cmp.Compare(a.number, b.number) })
	return j, nil
}

// note takes an entry into account.
func (s *segment) note(e Entry) {
	if s.first.IsZero() || e.At.Before(s.first) {
		s.first = e.At
	}
	if e.At.After(s.last) {
		s.last = e.At
	}
	for _, h := range e.Refs {
		s.refs[h] = true
	}
}

func (j *Journal) path(n uint64) string {
	return filepath.Join(j.o.Dir, fmt.Sprintf("%s%020d", segmentPrefix, n))
}

func (j *Journal) keptPath(h plan.Hash) string {
	return filepath.Join(j.o.Dir, keptPrefix+h.String())
}

// Due tells whether a new segment is to be begun.
func (j *Journal) Due(now time.Time) bool {
	if j.file == nil {
		return true
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.segments[len(j.segments)-1]
	age := now.Sub(s.first)
	return s.size >= min(max(j.o.Size/segmentParts, segmentLeast), segmentMost) ||
		age >= min(max(j.o.For/segmentParts, segmentYoung), segmentOld)
}

// Begin begins a segment with an entry that says all that holds. The one before is
// synced, since nothing comes back to it.
func (j *Journal) Begin(first Entry) error {
	_ = j.Close()
	if err := j.room(); err != nil {
		return err
	}
	raw := appendFrame(segmentHeader(), first)
	n := j.next
	j.next++ // a number is never used twice, whatever becomes of it
	f, err := j.fsys.OpenFile(j.path(n), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("beginning a part of the history: %w", err)
	}
	if _, err = f.Write(raw); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = j.fsys.SyncDir(j.o.Dir)
	}
	if err != nil {
		return fmt.Errorf("beginning a part of the history: %w", errors.Join(err, f.Close(), j.fsys.Remove(j.path(n))))
	}
	j.file = f
	s := segment{number: n, size: int64(len(raw)), refs: map[plan.Hash]bool{}}
	s.note(first)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.segments = append(j.segments, s)
	return nil
}

// Append writes entries. After an error the segment is over, and what it had
// before can be read.
func (j *Journal) Append(entries ...Entry) error {
	if j.file == nil {
		return errors.New("history: no part is begun")
	}
	var raw []byte
	for _, e := range entries {
		raw = appendFrame(raw, e)
	}
	if len(raw) == 0 {
		return nil
	}
	err := j.room()
	if err == nil {
		_, err = j.file.Write(raw)
	}
	j.mu.Lock()
	s := &j.segments[len(j.segments)-1]
	size := s.size
	if err == nil {
		s.size += int64(len(raw))
		for _, e := range entries {
			s.note(e)
		}
	}
	j.mu.Unlock()
	if err != nil {
		_ = j.file.Truncate(size) // else it is torn there, which reads as well
		_ = j.Close()             // nothing comes back to what it had
		return fmt.Errorf("writing history: %w", err)
	}
	return nil
}

// room refuses to take the last of a disk.
func (j *Journal) room() error {
	free, err := j.o.Free(j.o.Dir)
	if err == nil && free < journalReserve {
		return fmt.Errorf("%w: %d MiB", ErrNoRoom, free>>20)
	}
	return nil
}

// Sync has what was appended outlast the machine. What only this process's end
// would take is safe before. After an error the segment is over: a second sync would
// say that all is well, and it is not.
func (j *Journal) Sync() error {
	if j.file == nil {
		return nil
	}
	err := j.file.Sync()
	if err != nil {
		j.close()
	}
	return err
}

// Close ends the segment.
func (j *Journal) Close() error {
	err := j.Sync()
	j.close()
	return err
}

func (j *Journal) close() {
	if j.file != nil {
		_ = j.file.Close()
		j.file = nil
	}
}

// Keep puts something large beside the segments, once, and gives its hash for the
// entries that refer to it. It goes when no entry does. Call it just before such an
// entry is written.
func (j *Journal) Keep(content []byte) (plan.Hash, error) {
	h := plan.Sum(content)
	j.mu.Lock()
	_, have := j.kept[h]
	j.mu.Unlock()
	if have {
		return h, nil
	}
	if int64(len(content)) > j.o.Size*keptRatio {
		return h, fmt.Errorf("history: %d octets: %w", len(content), ErrTooLarge)
	}
	if err := j.room(); err != nil {
		return h, err
	}
	size, err := writeKept(j.fsys, j.keptPath(h), content)
	if err != nil {
		_ = j.fsys.Remove(j.keptPath(h)) // its name may be there, and not last
		return h, fmt.Errorf("history: %w", err)
	}
	if size > j.o.Size/2 {
		_ = j.fsys.Remove(j.keptPath(h))
		return h, fmt.Errorf("history: %d octets: %w", size, ErrTooLarge)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.kept[h] = size
	return h, nil
}

// Tidy drops what is too old, where the clock is sure, then what there is no room for:
// the oldest segments, never the last, and what nothing refers to any more.
func (j *Journal) Tidy(now time.Time, sure bool) {
	j.mu.Lock()
	var gone []uint64
	for len(j.segments) > 1 && (sure && now.Sub(j.segments[0].last) > j.o.For || j.octets() > j.o.Size) {
		gone = append(gone, j.segments[0].number)
		j.segments = slices.Delete(j.segments, 0, 1)
	}
	var loose []plan.Hash
	for h := range j.kept {
		if !j.blind && !j.referenced(h) {
			loose = append(loose, h)
			delete(j.kept, h)
		}
	}
	j.mu.Unlock()
	for _, n := range gone {
		j.remove(j.path(n))
	}
	for _, h := range loose {
		j.remove(j.keptPath(h))
	}
}

func (j *Journal) remove(path string) {
	if err := j.fsys.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		j.o.Log.Warn("old history stays", slog.Any("err", err))
	}
}

// octets counts what is used by what some segment has or refers to. Under mu.
func (j *Journal) octets() int64 {
	var n int64
	for i := range j.segments {
		n += j.segments[i].size
	}
	for h, size := range j.kept {
		if j.referenced(h) {
			n += size
		}
	}
	return n
}

func (j *Journal) referenced(h plan.Hash) bool {
	return slices.ContainsFunc(j.segments, func(s segment) bool { return s.refs[h] })
}

// Since gives the entries from an instant on, until each wants no more, in the order in
// which they were written. What was torn by a crash is left out.
func (j *Journal) Since(since time.Time, each func(Entry) bool) error {
	j.mu.Lock()
	var numbers []uint64
	for i := range j.segments {
		if !j.segments[i].last.Before(since) {
			numbers = append(numbers, j.segments[i].number)
		}
	}
	j.mu.Unlock()
	more := true
	for _, n := range numbers {
		err := j.read(n, true, func(e Entry) bool {
			more = e.At.Before(since) || each(e)
			return more
		})
		if err != nil && !errors.Is(err, errFrame) && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("history: %w", err)
		}
		if !more {
			break
		}
	}
	return nil
}

// Span says how much there is.
type Span struct {
	First, Last time.Time // zero: nothing
	Octets      int64
}

// Span says from when to when there are entries, and in how many octets.
func (j *Journal) Span() Span {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := Span{Octets: j.octets()}
	for i := range j.segments {
		if s.First.IsZero() || j.segments[i].first.Before(s.First) {
			s.First = j.segments[i].first
		}
		if j.segments[i].last.After(s.Last) {
			s.Last = j.segments[i].last
		}
	}
	return s
}
