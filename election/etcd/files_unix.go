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

// LimitConnections has the etcd that this process is going to serve take at most
// maxConnections: it goes by how many files the process may open. It is for a process
// that does nothing else.
func LimitConnections() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("asking how many files may be open: %w", err)
	}
	if limit.Cur <= maxConnections+reservedFiles {
		return nil
	}
	limit.Cur = maxConnections + reservedFiles
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("limiting how many files may be open: %w", err)
	}
	return nil
}
