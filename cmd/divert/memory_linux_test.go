package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHideMemory has another process hide its memory, since this one is to stay one that
// can be looked into.
func TestHideMemory(t *testing.T) {
	if os.Getenv("DIVERT_TEST_HIDE") != "" {
		if err := hideMemory(); err != nil {
			t.Fatal(err)
		}
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
			t.Fatal(err)
		}
		dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		fmt.Printf("core %d %d, dumpable %d, %v\n", limit.Cur, limit.Max, dumpable, err)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHideMemory$")
	cmd.Env = append(os.Environ(), "DIVERT_TEST_HIDE=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "core 0 0, dumpable 0, <nil>") {
		t.Errorf("got %s, %v", out, err)
	}
}
