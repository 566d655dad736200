package director

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/store/fsys"
)

// write puts the keys into the key file: old or new after a crash, and never both halves.
func (k *keyring) write(keys [][]byte) error {
	path, err := filepath.EvalSymlinks(k.path)
	if err != nil {
		return err
	}
	if err := fsys.Replace(fsys.OS{}, path, func(w io.Writer) error {
		_, err := w.Write(gossip.FormatSecrets(keys))
		return err
	}); err != nil {
		return err
	}
	k.file, err = os.Stat(k.path)
	return err
}

// try looks now and then whether the key file can be written: a turn-over is a bad time to
// learn that it cannot.
func (k *keyring) try() {
	every := ringTries
	if k.unwritten != "" {
		every = ringFresh
	}
	now := k.now()
	if !k.tried.IsZero() && now.Sub(k.tried) < every {
		return
	}
	before := k.unwritten
	k.tried, k.unwritten = now, ""
	if err := k.writable(); err != nil {
		k.unwritten = "cannot write its key file: " + err.Error()
	}
	k.shown.unwritten.Set(yes(k.unwritten != ""))
	if k.unwritten != "" && before == "" {
		k.log.Warn("the gossip key file cannot be written: no turn-over is possible", slog.String("why", k.unwritten))
	}
}

// writable tells whether the key file can be written anew, and changes nothing.
func (k *keyring) writable() error {
	path, err := filepath.EvalSymlinks(k.path)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".try-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
