package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/divertdns/divert/director/store/fsys"
)

const (
	generationPrefix = "generation-"
	// Keep is how many good generations stay.
	Keep = 3
)

// ErrDamaged says that the disk holds generations and none can be read: this
// director is not new, and must not behave as if it were.
var ErrDamaged = errors.New("no generation on this disk can be read")

// ErrInUse says that another process holds the data folder (LockDir).
var ErrInUse = errors.New("is used by another divert")

// Disk keeps the last good generations in a folder of its own. One process
// writes it (see LockDir).
type Disk struct {
	fsys fsys.FS
	dir  string
	log  *slog.Logger

	mu   sync.Mutex // one Save at a time; nothing else takes it
	next uint64     // number of the next generation
	good []uint64   // known to be whole, ascending
	bare uint64     // nothing is left of those below; 0 = not known
	lost error      // why what Load finds may be gone after the next crash; nil: it stays
}

// HasGenerations tells whether a folder was ever a Disk's that has saved something, whether
// or not that can be read.
func HasGenerations(dir string) bool {
	entries, err := fsys.OS{}.ReadDir(dir)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return strings.HasPrefix(e.Name(), generationPrefix) })
}

// OpenDisk makes the folder where it is absent, and clears what an interrupted
// Save left behind. It reads no generation.
func OpenDisk(dir string, log *slog.Logger) (*Disk, error) { return diskOn(fsys.OS{}, dir, log) }

func diskOn(on fsys.FS, dir string, log *slog.Logger) (*Disk, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := fsys.MkdirAll(on, dir, 0o700); err != nil {
		return nil, fmt.Errorf("generations' folder: %w", err)
	}
	d := &Disk{fsys: on, dir: dir, log: log, next: 1}
	numbers, err := d.list()
	if err != nil {
		return nil, err
	}
	if len(numbers) > 0 {
		d.next = numbers[0] + 1
	}
	entries, err := on.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("generations' folder: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), generationPrefix) && strings.HasSuffix(e.Name(), fsys.Temporary) {
			// A read-only disk keeps its litter and still serves (F16).
			_ = on.Remove(filepath.Join(dir, e.Name()))
		}
	}
	// A Save that was killed between its renaming and the sync of the folder left a
	// name that is seen and may be gone after a crash of the machine. Whoever loads
	// it acknowledges it (S6).
	d.lost = on.SyncDir(dir)
	return d, nil
}

// Peek reads the newest generation of a folder that another process may be
// writing: it makes, clears and changes nothing.
func Peek(dir string, log *slog.Logger) (Generation, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	g, _, err := (&Disk{fsys: fsys.OS{}, dir: dir, log: log}).Load()
	return g, err
}

// list gives the numbers of the generations on disk, newest first.
func (d *Disk) list() ([]uint64, error) {
	entries, err := d.fsys.ReadDir(d.dir)
	if err != nil {
		return nil, fmt.Errorf("generations' folder: %w", err)
	}
	var out []uint64
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), generationPrefix)
		if n, err := strconv.ParseUint(digits, 10, 63); ok && err == nil && len(digits) == 20 {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	slices.Reverse(out)
	return out, nil
}

func (d *Disk) path(n uint64) string {
	return filepath.Join(d.dir, fmt.Sprintf("%s%020d", generationPrefix, n))
}

// Load gives the newest generation that can be read. The note says, for
// people, when that is not the newest one written: the director is *behind*
// then (S3, F17). A disk that never held one gives a Generation without a plan
// and no error; one that holds only unreadable ones gives ErrDamaged.
func (d *Disk) Load() (g Generation, note string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	numbers, err := d.list()
	if err != nil {
		return Generation{}, "", err
	}
	var wrong []string
	for _, n := range numbers {
		g, err := d.read(n)
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("generation %d %s", n, err))
			continue
		}
		if !slices.Contains(d.good, n) {
			d.good = append(d.good, n)
			slices.Sort(d.good)
		}
		if d.lost != nil {
			note = fmt.Sprintf("whether generation %d outlasts a crash is not known, behind: %s", n, d.lost)
			d.log.Error("folder of generations cannot be synced", slog.String("dir", d.dir), slog.Any("err", d.lost))
		}
		if len(wrong) > 0 {
			note = fmt.Sprintf("%s; went back to generation %d, behind", strings.Join(wrong, "; "), n)
			d.log.Error("newest generation cannot be used", slog.String("dir", d.dir), slog.String("why", note))
		}
		return g, note, nil
	}
	if len(wrong) == 0 {
		return Generation{}, "", nil
	}
	note = strings.Join(wrong, "; ")
	return Generation{}, note, fmt.Errorf("%s: %w: %s", d.dir, ErrDamaged, note)
}

// read reads and checks one generation.
func (d *Disk) read(n uint64) (Generation, error) {
	raw, err := fsys.ReadFile(d.fsys, d.path(n), maxGeneration+1)
	if err != nil {
		return Generation{}, fmt.Errorf("cannot be read: %w", err)
	}
	if len(raw) > maxGeneration {
		return Generation{}, fmt.Errorf("has more than %d octets: %w", maxGeneration, ErrTooLarge)
	}
	return decode(raw)
}

// Save writes a generation so that a crash at any point leaves the old newest
// or the new one (F24), and returns when it is on the disk: the file is
// synced, renamed into place, and the folder synced. Then the oldest beyond
// Keep good ones go. On an error the older generations are as they were (F16).
func (d *Disk) Save(g Generation) error {
	raw, err := g.encode()
	if err != nil {
		return fmt.Errorf("saving: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.next
	if err := d.write(n, raw); err != nil {
		return fmt.Errorf("saving generation %d: %w", n, err)
	}
	d.next++
	d.good = append(d.good, n)
	if len(d.good) > Keep {
		d.good = d.good[len(d.good)-Keep:]
	}
	d.prune()
	return nil
}

func (d *Disk) write(n uint64, raw []byte) error {
	err := fsys.Replace(d.fsys, d.path(n), func(w io.Writer) error {
		_, err := w.Write(raw)
		return err
	})
	if err != nil {
		// Where the folder was not synced, it is not known whether the name lasts: no
		// process after this one may find it and acknowledge it.
		_ = d.fsys.Remove(d.path(n))
	}
	return err
}

// prune deletes what is older than the oldest good generation that is kept.
// Until Keep good ones are known nothing is deleted. The generation in use is
// the last one loaded or saved, so it is always among them.
func (d *Disk) prune() {
	if len(d.good) < Keep {
		return
	}
	var old []uint64
	if d.bare > 0 {
		for n := d.bare; n < d.good[0]; n++ {
			old = append(old, n)
		}
	} else {
		numbers, err := d.list()
		if err != nil {
			return // the next Save tries again
		}
		for _, n := range numbers {
			if n < d.good[0] {
				old = append(old, n)
			}
		}
	}
	d.bare = d.good[0]
	for _, n := range old {
		if err := d.fsys.Remove(d.path(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.log.Warn("old generation stays", slog.Any("error", err))
			d.bare = 0
		}
	}
}
