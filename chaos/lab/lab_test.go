//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestMain lets the test binary be what the lab starts itself as.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == backendWord || os.Args[1] == insideWord) {
		main()
	}
	os.Exit(m.Run())
}

// TestShort is the lab at its shortest: some rounds of each death (F1, F2, F3), paths
// that lose, delay and reorder (F4, F5, F6, F14), a starved and an isolated director
// (F12, S8). What it fails for may not be on any machine: a move where nothing died, a
// death that moved nothing. Times are the long form's: make lab-detect.
func TestShort(t *testing.T) {
	if os.Getenv("DIVERT_LAB") == "" {
		t.Skip("network namespaces were not asked for: make lab-detect-short, as root")
	}
	binary := filepath.Join(t.TempDir(), "divert")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../../cmd/divert").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	code := run([]string{"-divert", binary, "-judge", "-rounds", "3", "-hours", "0.01", "-phase", "20s", "-faults", "F1,F1-link,F2,F3,F4,F5,F6,F14,F12,F12-stop,isolated"})
	switch code {
	case 0:
	case skipped:
		t.Skip("this machine lacks what is said above")
	default:
		t.Errorf("the lab ended with %d: see what it says above", code)
	}
}
