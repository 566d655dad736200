//go:build unix

package etcd

import (
	"fmt"
	"syscall"
)

const (
	// maxConnections is how many clients a store has at most: three directors have three,
	// with some watches each. etcd takes as many as its process may open files, but 150,
	// and never ends one that says nothing (C3).
	maxConnections = 1024
	// reservedFiles is what etcd keeps back of a process' files for itself
	// (embed's reservedInternalFDNum).
	reservedFiles = 150
)

// limitConnections has the etcd that starts until free is called take at most maxConnections
// of clients: it goes by how many files the process may open then. Afterwards it may open as
// many as before: etcd does not count those of strangers at the port for members, ends each
// that says nothing for five seconds, and would take nobody there any more, and spin, once it
// had found no file left for one.
func limitConnections() (free func() error, err error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return nil, fmt.Errorf("asking how many files may be open: %w", err)
	}
	before := limit
	free = func() error {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
			return fmt.Errorf("setting how many files may be open: %w", err)
		}
		return nil
	}
	if limit.Cur <= maxConnections+reservedFiles {
		return free, nil
	}
	limit.Cur = maxConnections + reservedFiles
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return nil, fmt.Errorf("limiting how many files may be open: %w", err)
	}
	return free, nil
}
