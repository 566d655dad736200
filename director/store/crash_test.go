package store

import (
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"strings"
	"testing"

	"github.com/divertdns/divert/director/store/fsys"
	"github.com/divertdns/divert/director/store/fsys/crashfs"
)

// diskLife is a director's use of its generations, over processes.
type diskLife struct {
	disk  *crashfs.Disk
	open  *Disk // by the process that lives; nil: it could not
	acked int   // the newest that was acknowledged: saved, or loaded and in force (S6)
	tried int   // the newest that Save was given
}

const lifeDir = "/var/lib/divert/d1/state"

// saves opens the folder as a process does, and saves a few generations.
func (l *diskLife) saves(n int) {
	l.open = nil
	d, err := diskOn(l.disk, lifeDir, nil)
	if err != nil {
		return
	}
	l.open = d
	g, note, err := d.Load()
	if err == nil && note == "" {
		l.acked = max(l.acked, int(g.Highest.Revision))
	}
	l.more(n)
}

func (l *diskLife) more(n int) {
	for range n {
		l.tried++
		if err := l.open.Save(sized(l.tried)); err == nil {
			l.acked = l.tried
		}
	}
}

// sized is a generation of a few sectors.
func sized(n int) Generation {
	g := generation(n)
	g.Health = []byte(strings.Repeat(fmt.Sprint("health ", n, " "), 150))
	return g
}

// check loads as the next process does.
func (l *diskLife) check() error {
	d, err := diskOn(l.disk, lifeDir, nil)
	if err != nil {
		return err
	}
	g, note, err := d.Load()
	switch n := int(g.Highest.Revision); {
	case err != nil:
		return err
	case note != "":
		return fmt.Errorf("said: %s", note)
	case n < l.acked:
		return fmt.Errorf("S3, S6: generation %d after %d was acknowledged", n, l.acked)
	case n > l.tried:
		return fmt.Errorf("generation %d of %d", n, l.tried)
	case n > 0 && !reflect.DeepEqual(g, sized(n)):
		return fmt.Errorf("F24: generation %d is a mix: %q", n, g.Health)
	default:
		l.acked = n // and it is in force
	}
	return litter(l.disk, lifeDir)
}

// litter says what a folder has of interrupted writes.
func litter(d *crashfs.Disk, dir string) error {
	entries, err := d.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), fsys.Temporary) {
			err = errors.Join(err, fmt.Errorf("%s is left", e.Name()))
		}
	}
	return err
}

// everywhere has every trouble at every operation of a life, and draws so often what
// comes of it.
func everywhere(t *testing.T, draws int, life func(*crashfs.Disk), check func(c crashfs.Case, d *crashfs.Disk) error) {
	t.Helper()
	quiet := crashfs.New(crashfs.Case{})
	life(quiet)
	cases, bad := 0, 0
	for c := range crashfs.Cases(quiet.Operations(), draws) {
		cases++
		d := crashfs.New(c)
		life(d)
		if err := check(c, d); err != nil {
			if bad++; bad > 5 {
				t.Fatal("and more")
			}
			t.Errorf("%s: %v\n\t%s", c, err, strings.Join(d.Log[max(0, c.At-8):min(c.At, len(d.Log))], "\n\t"))
		}
	}
	t.Logf("%d operations, %d cases", quiet.Operations(), cases)
}

// TestDiskCrashes (S3, S6, F16, F17, F24): whatever befalls a disk at any operation of
// saving, what is loaded is the last generation that was acknowledged or the one
// that was being saved, whole; also where the machine dies after the next start, and
// that process has acknowledged what it found.
func TestDiskCrashes(t *testing.T) {
	var l *diskLife
	everywhere(t, 6, func(d *crashfs.Disk) {
		l = &diskLife{disk: d}
		l.saves(4)
		d.Restart()
		l.saves(2)
	}, func(c crashfs.Case, d *crashfs.Disk) error {
		d.Mend()
		if !d.Dead() {
			if err := litter(d, lifeDir); err != nil { // F16: a full disk needs the room
				return err
			}
		}
		if l.open != nil && !d.Dead() && c.Seed%3 == 0 {
			if l.more(1); l.acked != l.tried {
				return fmt.Errorf("F16: the process goes on, and generation %d of %d is saved", l.acked, l.tried)
			}
		}
		d.Restart()
		if err := l.check(); err != nil {
			return err
		}
		if c.Seed%2 == 0 {
			l.saves(4)
			if l.acked != l.tried {
				return fmt.Errorf("after the trouble, generation %d of %d is saved", l.acked, l.tried)
			}
		}
		d.PowerLoss()
		return l.check()
	})
}

// TestDiskSyncRefused (F16): a folder that cannot be synced at a start leaves it open
// whether what is found there lasts: this director is behind, and acknowledges nothing.
func TestDiskSyncRefused(t *testing.T) {
	refused := errors.New("refused")
	d := &unsynced{Disk: crashfs.New(crashfs.Case{})}
	(&diskLife{disk: d.Disk}).saves(2)
	d.err = refused
	disk, err := diskOn(d, lifeDir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if g, note, err := disk.Load(); err != nil || g.Highest.Revision != 2 || !strings.Contains(note, "behind: refused") {
		t.Errorf("got %v, %q, %v, want generation 2 and that it is behind", g.Highest, note, err)
	}
	if err := disk.Save(sized(3)); !errors.Is(err, refused) {
		t.Errorf("saved: %v", err)
	}
	d.err = nil
	if err := disk.Save(sized(3)); err != nil {
		t.Error(err)
	}
}

// unsynced refuses to sync folders.
type unsynced struct {
	*crashfs.Disk
	err error
}

func (u *unsynced) SyncDir(name string) error {
	if u.err != nil {
		return u.err
	}
	return u.Disk.SyncDir(name)
}
