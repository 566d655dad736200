//go:build linux || darwin

package store

import "golang.org/x/sys/unix"

// freeOn says how many octets an ordinary user may still write on the disk of a
// folder.
func freeOn(dir string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return uint64(s.Bavail) * uint64(s.Bsize), nil
}
