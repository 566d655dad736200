package gossip

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/store/fsys"
	"github.com/divertdns/divert/director/store/fsys/crashfs"
)

// TestIdentityCrashes (F16, F17): whatever befalls the disk at any operation of taking a
// boot, and also where the machine dies after that: no boot is given out twice or
// goes back, with a clock that stands still, and a key that was once given out is the
// same for ever.
func TestIdentityCrashes(t *testing.T) {
	const dir = "/var/lib/divert/d1"
	now := time.Unix(1_800_000_000, 0)
	var last Identity // given out
	take := func(d *crashfs.Disk) error {
		if err := fsys.MkdirAll(d, dir, 0o700); err != nil {
			return err
		}
		id, err := loadIdentity(fsys.Folder{FS: d, Dir: dir}, "d1", now)
		switch {
		case err != nil:
			return err
		case last.Key != nil && !bytes.Equal(id.Key, last.Key):
			t.Error("another key")
		case id.Boot <= last.Boot:
			t.Errorf("boot %d after %d", id.Boot, last.Boot)
		}
		last = id
		return nil
	}
	life := func(d *crashfs.Disk) {
		last = Identity{}
		for range 3 {
			_ = take(d) // an error is what the trouble is for
			d.Restart()
		}
	}
	quiet := crashfs.New(crashfs.Case{})
	life(quiet)
	for c := range crashfs.Cases(quiet.Operations(), 8) {
		d := crashfs.New(c)
		life(d)
		d.Mend()
		again := func() error {
			if err := take(d); err != nil {
				return err
			}
			entries, err := d.ReadDir(dir)
			for _, e := range entries {
				if strings.HasSuffix(e.Name(), fsys.Temporary) {
					return fmt.Errorf("%s is left", e.Name())
				}
			}
			return err
		}
		if c.Seed%2 == 0 {
			d.PowerLoss()
		}
		err := again()
		d.PowerLoss()
		if err == nil {
			err = again()
		}
		if err != nil {
			t.Errorf("%v", err)
		}
		if t.Failed() {
			t.Fatalf("%s:\n\t%s", c, strings.Join(d.Log, "\n\t"))
		}
	}
	t.Logf("%d operations", quiet.Operations())
}
