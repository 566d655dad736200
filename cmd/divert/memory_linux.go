package main

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// hideMemory keeps this process' memory, and with it the keys of gossip, transfers,
// cookies and of the director itself, out of core dumps, also out of those that a handler
// of the system's writes (core(5): a pipe ignores the limit but not the flag), and from
// other processes of its user (ptrace(2), /proc/PID/mem). What it starts has no core
// dumps either; its flag is its own again.
func hideMemory() error {
	var errs error
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		errs = fmt.Errorf("setting the size of core dumps to none: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		errs = errors.Join(errs, fmt.Errorf("refusing core dumps: %w", err))
	}
	return errs
}
