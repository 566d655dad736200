package main

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"testing"

	"github.com/divertdns/divert/director/store/fsys"
	"github.com/divertdns/divert/director/store/fsys/crashfs"
)

// TestBackupCrashes: whatever befalls the disk at any operation, a backup of which was
// said that it is there is there, whole, also after the machine's end; one of which
// that was not said is whole or not there.
func TestBackupCrashes(t *testing.T) {
	const dir, file = "/backups", "/backups/fleet.backup"
	raw := oneBackup(t)
	var made error
	life := func(d *crashfs.Disk) {
		if made = fsys.MkdirAll(d, dir, 0o700); made == nil {
			_, made = saveBackup(d, file, func(w io.Writer) error {
				_, err := w.Write(raw)
				return err
			})
		}
	}
	quiet := crashfs.New(crashfs.Case{})
	if life(quiet); made != nil {
		t.Fatal(made)
	}
	for c := range crashfs.Cases(quiet.Operations(), 12) {
		d := crashfs.New(c)
		life(d)
		d.Mend()
		for _, power := range []bool{false, true} {
			if power {
				d.PowerLoss()
			} else {
				d.Restart()
			}
			got, err := fsys.ReadFile(d, file, 1<<20)
			switch {
			case errors.Is(err, fs.ErrNotExist) && made != nil:
			case err != nil || !bytes.Equal(got, raw):
				t.Errorf("%s: said %v, then %d octets of %d, %v", c, made, len(got), len(raw), err)
			}
		}
	}
}
