package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/divertdns/divert/director/store/fsys"
	"github.com/divertdns/divert/director/store/fsys/crashfs"
)

// TestEmergenciesCrashes (F16, F24): whatever befalls a disk while it is written, the file
// is the last one of which was said that it is saved, or the one being saved, whole.
func TestEmergenciesCrashes(t *testing.T) {
	body := func(n int) string { return strings.Repeat(fmt.Sprint("word ", n, " "), 200) }
	saved, tried := 0, 0
	everywhere(t, 6, func(d *crashfs.Disk) {
		saved, tried = 0, 0
		if fsys.MkdirAll(d, lifeDir, 0o700) != nil {
			return
		}
		e := emergenciesOn(d, lifeDir)
		for range 4 {
			tried++
			if e.Save([]byte(body(tried))) == nil {
				saved = tried
			}
		}
	}, func(_ crashfs.Case, d *crashfs.Disk) error {
		d.Mend()
		d.Restart()
		raw, err := emergenciesOn(d, lifeDir).Load()
		if err != nil {
			return err
		}
		for n := saved; n <= tried; n++ {
			if n == 0 && raw == nil || n > 0 && string(raw) == body(n) {
				return nil
			}
		}
		return fmt.Errorf("%d octets, want those of %d to %d", len(raw), saved, tried)
	})
}

// TestEmergenciesDamaged: what is no file of ours, torn or flipped is told, and never used.
func TestEmergenciesDamaged(t *testing.T) {
	dir := t.TempDir()
	e := NewEmergencies(dir)
	if raw, err := e.Load(); raw != nil || err != nil {
		t.Fatalf("a new disk: %q, %v", raw, err)
	}
	if err := e.Save([]byte("words")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "emergencies")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := append([]byte{}, good...)
		bad[i] ^= 1
		for _, octets := range [][]byte{bad, good[:i]} {
			if err := os.WriteFile(path, octets, 0o600); err != nil {
				t.Fatal(err)
			}
			if raw, err := e.Load(); err == nil {
				t.Errorf("octet %d: loaded as %q", i, raw)
			}
		}
	}
	if err := e.Save(make([]byte, maxEmergencies)); err == nil {
		t.Error("more than any director takes was saved")
	}
}
