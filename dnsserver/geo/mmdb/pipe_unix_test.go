//go:build unix

package mmdb

import (
	"path/filepath"
	"syscall"
	"testing"
)

// pipe makes one that nobody writes into.
func pipe(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
