//go:build unix

package etcd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lockData takes a data directory for this process alone, and says so at once
// when it cannot: etcd itself would wait for ever, in silence.
func lockData(dir string) (release func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "divert.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking data directory: %w", err)
	}
	if err := tryLock(f); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	// A bare etcd does not know of our lock, but it holds its database's.
	if db, err := os.OpenFile(filepath.Join(dir, "member", "snap", "db"), os.O_RDWR, 0); err == nil {
		err = tryLock(db)
		_ = db.Close()
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("data directory %s: %w", dir, err)
		}
	}
	return func() { _ = f.Close() }, nil
}

func tryLock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}
