package crashfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"testing"

	"github.com/divertdns/divert/director/store/fsys"
)

// outcomes counts what is left of a file after so many crashes of the machine.
func outcomes(t *testing.T, content []byte, write func(d *Disk)) map[string]int {
	t.Helper()
	seen := map[string]int{}
	for seed := range uint64(200) {
		d := New(Case{Seed: seed})
		write(d)
		d.PowerLoss()
		got, err := fsys.ReadFile(d, "/f", 1<<20)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			seen["gone"]++
		case err != nil:
			t.Fatal(err)
		case bytes.Equal(got, content):
			seen["whole"]++
		case len(got) == 0:
			seen["empty"]++
		case len(got) == len(content):
			seen["holes"]++
		default:
			seen["cut"]++
		}
	}
	return seen
}

// TestPowerLoss: what was synced is there, file and name each by its own sync, and of the
// rest anything may be.
func TestPowerLoss(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 100)
	write := func(file, dir bool) func(*Disk) {
		return func(d *Disk) {
			f, err := d.OpenFile("/f", os.O_CREATE|os.O_WRONLY, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Write(content); err != nil {
				t.Fatal(err)
			}
			if file {
				err = f.Sync()
			}
			if dir {
				err = errors.Join(err, d.SyncDir("/"))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := outcomes(t, content, write(true, true)); got["whole"] != 200 {
		t.Errorf("synced: got %v", got)
	}
	if got := outcomes(t, content, write(true, false)); got["whole"]+got["gone"] != 200 || got["gone"] == 0 || got["whole"] == 0 {
		t.Errorf("the name not synced: got %v", got)
	}
	if got := outcomes(t, content, write(false, true)); got["gone"] > 0 || len(got) != 4 {
		t.Errorf("the octets not synced: got %v, want whole, empty, holes and cut", got)
	}
	if got := outcomes(t, content, func(d *Disk) {
		err := fsys.Replace(d, "/f", func(w io.Writer) error {
			_, err := w.Write(content)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}); got["whole"] != 200 {
		t.Errorf("Replace: got %v", got)
	}
}

// TestRefusedSync: after a sync that was refused the next one succeeds, and what was
// written before it may be gone all the same.
func TestRefusedSync(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 100)
	got := outcomes(t, content, func(d *Disk) {
		d.trouble = Case{Trouble: IOError, At: 3}
		f, err := d.OpenFile("/f", os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = f.Write(content)
		if err := f.Sync(); !errors.Is(err, syscall.EIO) {
			t.Fatalf("got %v, want EIO", err)
		}
		if err := errors.Join(f.Sync(), d.SyncDir("/")); err != nil {
			t.Fatal(err)
		}
	})
	if got["whole"] == 200 || got["whole"] == 0 {
		t.Errorf("got %v", got)
	}
}

// TestKill: the page cache survives a process, and its handles do not.
func TestKill(t *testing.T) {
	d := New(Case{Trouble: Kill, At: 3})
	f, err := d.OpenFile("/f", os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); !errors.Is(err, ErrDead) || !d.Dead() {
		t.Fatalf("got %v, want a dead process", err)
	}
	if _, err := d.ReadDir("/"); !errors.Is(err, ErrDead) {
		t.Errorf("a dead process reads: %v", err)
	}
	d.Restart()
	if _, err := f.Write([]byte("two")); !errors.Is(err, ErrDead) {
		t.Errorf("a dead process writes: %v", err)
	}
	if got, err := fsys.ReadFile(d, "/f", 100); err != nil || string(got) != "one" {
		t.Errorf("got %q, %v", got, err)
	}
}
