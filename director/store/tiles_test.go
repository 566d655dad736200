package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/divertdns/divert/director/audit"
	"github.com/divertdns/divert/director/store/fsys"
	"github.com/divertdns/divert/director/store/fsys/crashfs"
)

const tilesDir = "/var/lib/divert/d1/audit/f1"

func roomy(string) (uint64, error) { return 1 << 40, nil }

func sealed(n int) []byte { return fmt.Appendf(nil, "record %d", n) }

func sealedFrom(from, to int) (out [][]byte) {
	for n := from; n < to; n++ {
		out = append(out, sealed(n))
	}
	return out
}

// prefix says what of a log is not the beginning of what was appended.
func prefix(t *Tiles, least, most int) error {
	size := int(t.Size())
	if size < least || size > most {
		return fmt.Errorf("%d records are there, want %d to %d", size, least, most)
	}
	var twin audit.Tree
	err := t.Each(context.Background(), 0, func(n int64, raw []byte) error {
		if !bytes.Equal(raw, sealed(int(n))) {
			return fmt.Errorf("record %d is %q", n, raw)
		}
		twin.Add(tlog.RecordHash(raw))
		return nil
	})
	if err == nil && (twin.Size() != int64(size) || twin.Root() != t.Tree().Root()) {
		err = errors.New("the root is not that of the records")
	}
	return err
}

// TestTiles: what was appended is there after a restart, over tiles' edges, and any of it
// is read from any place.
func TestTiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	n := 0
	for _, batch := range []int{1, 2, 250, 3, 1, 255, 0, 300} {
		log, err := tilesOn(fsys.OS{}, dir, roomy)
		must(t, err)
		must(t, prefix(log, n, n))
		must(t, log.Append(sealedFrom(n, n+batch)...))
		n += batch
		must(t, prefix(log, n, n))
	}
	log, err := OpenTiles(dir)
	must(t, err)
	if log.Problem() != "" {
		t.Error(log.Problem())
	}
	got := 0
	must(t, log.Each(t.Context(), 300, func(at int64, raw []byte) error {
		if int(at) != 300+got || !bytes.Equal(raw, sealed(int(at))) {
			t.Fatalf("record %d is %q", at, raw)
		}
		got++
		return nil
	}))
	if got != n-300 {
		t.Errorf("%d records from 300 on, want %d", got, n-300)
	}
	must(t, log.SaveHead([]byte("head")))
	if raw, err := log.Head(); err != nil || string(raw) != "head" {
		t.Errorf("head: %q, %v", raw, err)
	}
	if raw, err := log.Witness(); err != nil || raw != nil {
		t.Errorf("witness: %q, %v", raw, err)
	}
	if err := log.Append(bytes.Repeat([]byte("x"), audit.MaxRecord+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
}

// TestTilesDamaged (F17, S15): of files with any octet flipped or cut, nothing is read
// that was not sealed, and whoever reads is told; what was sealed puts it right.
func TestTilesDamaged(t *testing.T) {
	dir := t.TempDir()
	log, err := tilesOn(fsys.OS{}, dir, roomy)
	must(t, err)
	const all = 2*audit.TileWidth + 20
	must(t, log.Append(sealedFrom(0, all)...))
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range int64(3) {
		path := log.path(n)
		whole, err := os.ReadFile(path)
		must(t, err)
		for i := range 150 {
			bad := bytes.Clone(whole)
			at := rng.IntN(len(bad))
			if i < 2*tileHeader { // all of the header
				at = i % tileHeader
			}
			bad[at] ^= 1 << rng.IntN(8)
			if i%5 == 4 {
				bad = whole[:at]
			}
			must(t, os.WriteFile(path, bad, 0o600))
			if _, err := log.Records(n); n < 2 && !errors.Is(err, errTile) {
				t.Fatalf("tile %d, octet %d: read as %v by the process that wrote it", n, at, err)
			}
			if err := log.CheckLast(); (err == nil) != (n < 2) {
				t.Fatalf("tile %d, octet %d: the last one is read as %v by the process that wrote it", n, at, err)
			}
			again, err := tilesOn(fsys.OS{}, dir, roomy)
			must(t, err)
			if err := prefix(again, 0, all); err != nil && !errors.Is(err, errTile) {
				t.Fatalf("tile %d, octet %d: %v", n, at, err)
			} else if err == nil && again.Problem() == "" {
				t.Fatalf("tile %d, octet %d: nobody is told", n, at)
			}
			if n < 2 {
				if log.Mend(n, sealedFrom(0, audit.TileWidth)) == nil != (n == 0) {
					t.Fatalf("tile %d: mended with other records, or not with its own", n)
				}
				must(t, log.Mend(n, sealedFrom(int(n)*audit.TileWidth, int(n+1)*audit.TileWidth)))
			} else {
				must(t, os.WriteFile(path, whole, 0o600))
			}
		}
		if back, err := os.ReadFile(path); err != nil || !bytes.Equal(back, whole) {
			t.Fatalf("tile %d was not put right: %v", n, err)
		}
	}
	// A tile that is gone: what is before it stands, and the rest is appended again.
	must(t, os.Remove(log.path(1)))
	again, err := tilesOn(fsys.OS{}, dir, roomy)
	must(t, err)
	must(t, prefix(again, audit.TileWidth, audit.TileWidth))
	if !strings.Contains(again.Problem(), "0000000001") {
		t.Errorf("problem: %q", again.Problem())
	}
	must(t, again.Append(sealedFrom(audit.TileWidth, all)...))
	must(t, prefix(again, all, all))
	if again, err = tilesOn(fsys.OS{}, dir, roomy); err != nil || again.Problem() != "" || again.Size() != all {
		t.Errorf("again: %v, %q, %d", err, again.Problem(), again.Size())
	}
	if err := again.Mend(2, nil); err == nil {
		t.Error("a tile that grows was mended")
	}
}

// TestTilesNoRoom (F16): the last of a disk is not the audit log's.
func TestTilesNoRoom(t *testing.T) {
	free := uint64(1 << 40)
	log, err := tilesOn(fsys.OS{}, t.TempDir(), func(string) (uint64, error) { return free, nil })
	must(t, err)
	must(t, log.Append(sealedFrom(0, 3)...))
	free = journalReserve - 1
	if err := errors.Join(log.Append(sealed(3)), log.SaveHead(nil)); !errors.Is(err, ErrNoRoom) {
		t.Errorf("got %v", err)
	}
	must(t, prefix(log, 3, 3))
	free = 1 << 40
	must(t, log.Append(sealedFrom(3, 5)...))
	must(t, prefix(log, 5, 5))
}

// TestTilesCrashes (F16, F17, S15): whatever befalls a disk at any operation of sealing,
// the log is the beginning of what was appended, with all that was said to be on the disk.
func TestTilesCrashes(t *testing.T) {
	var log *Tiles
	var acked, tried int
	add := func(n int) {
		if log == nil {
			return
		}
		tried = max(tried, int(log.Size())+n)
		if log.Append(sealedFrom(int(log.Size()), int(log.Size())+n)...) == nil {
			acked = int(log.Size())
		}
		_ = log.SaveHead([]byte("head"))
	}
	everywhere(t, 4, func(d *crashfs.Disk) {
		acked, tried = 0, 0
		log, _ = tilesOn(d, tilesDir, roomy)
		add(3)
		add(252)
		add(3)
		d.Restart()
		log, _ = tilesOn(d, tilesDir, roomy)
		add(2)
	}, func(c crashfs.Case, d *crashfs.Disk) error {
		d.Mend()
		if log != nil && !d.Dead() && c.Seed%3 == 0 {
			add(2)
			if acked != int(log.Size()) || acked == 0 {
				return fmt.Errorf("F16: the process goes on, and nothing is sealed")
			}
		}
		for _, after := range []string{"the process", "the machine"} {
			if after == "the machine" {
				d.PowerLoss()
			}
			d.Restart()
			again, err := tilesOn(d, tilesDir, roomy)
			if err == nil && again.Problem() != "" {
				err = errors.New(again.Problem())
			}
			if err == nil {
				err = prefix(again, acked, tried)
			}
			if err == nil {
				err = litter(d, tilesDir)
			}
			if err != nil {
				return fmt.Errorf("after %s: %w", after, err)
			}
			must(t, again.Append())
			acked = int(again.Size())
		}
		return nil
	})
}

// FuzzTile: whatever a file holds is a tile or none, and a tile is written the same.
func FuzzTile(f *testing.F) {
	dir := f.TempDir()
	log, err := tilesOn(fsys.OS{}, dir, roomy)
	if err == nil {
		err = log.Append(sealedFrom(0, 3)...)
	}
	if err != nil {
		f.Fatal(err)
	}
	raw, err := os.ReadFile(log.path(0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		records, err := parseTile(0, raw)
		if err != nil {
			return
		}
		again, err := tilesOn(fsys.OS{}, t.TempDir(), roomy)
		must(t, err)
		must(t, again.Append(records...))
		if got, err := again.Records(0); err != nil || !slices.EqualFunc(got, records, bytes.Equal) {
			t.Errorf("got %q, %v", got, err)
		}
	})
}
