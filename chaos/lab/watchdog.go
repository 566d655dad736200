//go:build linux

package main

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What the machine may not do to a round.
const (
	stallLimit = 20 * time.Millisecond
	stallPace  = 2 * time.Millisecond
)

// watchdog is a thread that wants to run every 2 ms and notes when it could not: then
// nothing else that has the same right to run may have run either.
type watchdog struct {
	mu     sync.Mutex // guards the below
	stalls []span     // in order
}

type span struct{ from, to time.Time }

func (w *watchdog) run(ctx context.Context) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	last := time.Now()
	for ctx.Err() == nil {
		nap := unix.NsecToTimespec(int64(stallPace))
		_ = unix.Nanosleep(&nap, nil)
		now := time.Now()
		if now.Sub(last) > stallPace+stallLimit {
			w.mu.Lock()
			w.stalls = append(w.stalls, span{last, now})
			w.mu.Unlock()
		}
		last = now
	}
}

// stalled tells whether the machine stood still within a time.
func (w *watchdog) stalled(from, to time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range slices.Backward(w.stalls) {
		if s.to.Before(from) {
			return false
		}
		if s.from.Before(to) {
			return true
		}
	}
	return false
}

// count gives how often it stalled, and the longest time.
func (w *watchdog) count() (n int, longest time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.stalls {
		longest = max(longest, s.to.Sub(s.from))
	}
	return len(w.stalls), longest
}
