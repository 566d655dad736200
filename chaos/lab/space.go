//go:build linux

package main

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// space is a network namespace that lives as long as its thread, its processes and
// its sockets. It has no name: nothing is left of it when they have ended, however
// they ended.
type space struct {
	name string
	tid  int // its thread, by which `ip link` names it
	work chan func()
}

// newSpace makes a namespace with its loopback up, until ctx ends.
func newSpace(ctx context.Context, name string) (*space, error) {
	s := &space{name: name, work: make(chan func())}
	begun := make(chan error, 1)
	go func() { // ends with ctx; who waits for the processes waits for all that it started
		// Never unlocked: the thread ends here, and with it where it is. What it forked
		// ends with it (Pdeathsig, golang/go#27505).
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			begun <- fmt.Errorf("network namespace %s: %w", name, err)
			return
		}
		s.tid = unix.Gettid()
		begun <- nil
		s.serve(ctx)
	}()
	if err := <-begun; err != nil {
		return nil, err
	}
	return s, s.run(ctx, func() error { return ip("link set lo up") })
}

// serve does what run asks for, on one thread. That of the hub stays in the namespace
// that the lab's whole process is in.
func (s *space) serve(ctx context.Context) {
	runtime.LockOSThread()
	for {
		select {
		case f := <-s.work:
			f()
		case <-ctx.Done():
			return
		}
	}
}

// run does something in the namespace: a socket that it opens and a process that it
// starts are there.
func (s *space) run(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	select {
	case s.work <- func() { done <- f() }:
		return <-done
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ip runs lines of ip(8) in the namespace of the thread that calls it.
func ip(lines ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(lines, "; "), err, out)
	}
	return nil
}
