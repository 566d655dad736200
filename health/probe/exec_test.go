//go:build unix

package probe

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/divertdns/divert/health"
)

func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "check")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	return path
}

// TestExec runs programs: what they say, what they know, and what is left of them.
func TestExec(t *testing.T) {
	at := netip.MustParseAddrPort("192.0.2.10:0")
	run := func(t *testing.T, path string, target Target, allowed ...string) health.Report {
		t.Helper()
		if target.Exec == nil {
			target.Exec = &Exec{}
		}
		target.Exec.Command = path
		return once(t, Options{Exec: allowed}, at, target)
	}
	t.Run("passes", func(t *testing.T) {
		path := script(t, `test "$DIVERT_ADDRESS" = 192.0.2.10 && test "$1" = "a b" && test $# = 1`)
		want(t, run(t, path, Target{Exec: &Exec{Args: []string{"a b"}}}, path), "", 0)
	})
	t.Run("fails", func(t *testing.T) {
		path := script(t, "echo secret; exit 7")
		want(t, run(t, path, Target{}, path), "exit status 7", health.SignRefused)
	})
	t.Run("knows nothing of ours", func(t *testing.T) {
		t.Setenv("DIVERT_SECRET", "x")
		path := script(t, `test -z "$DIVERT_SECRET" && test -z "$HOME" && test "$(pwd)" = /`)
		want(t, run(t, path, Target{}, path), "", 0)
	})
	t.Run("writes without end", func(t *testing.T) {
		path := script(t, "head -c 100000000 /dev/zero; head -c 1000000 /dev/zero >&2")
		want(t, run(t, path, Target{}, path), "", 0)
	})
	t.Run("not allowed", func(t *testing.T) {
		if got := run(t, "/bin/true", Target{}, "/bin/false"); !got.Void || !strings.Contains(got.Reason, "not among probe.exec") {
			t.Errorf("got %+v, want void and why", got)
		}
	})
	t.Run("not there", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "nothing")
		if got := run(t, path, Target{}, path); !got.Void || !strings.Contains(got.Reason, "does not start: no such file") {
			t.Errorf("got %+v, want void and why", got)
		}
	})
	t.Run("killed from outside", func(t *testing.T) {
		path := script(t, "kill -9 $$")
		if got := run(t, path, Target{}, path); !got.Void {
			t.Errorf("got %+v, want void", got)
		}
	})
	// Each holds a pipe open as long as anything of it lives.
	for name, text := range map[string]string{"hangs": "sleep 1000 & sleep 1000", "leaves a child": "sleep 1000 & exit 0", "ignores signals": "trap '' TERM INT HUP; sleep 1000"} {
		t.Run(name, func(t *testing.T) {
			fifo := filepath.Join(t.TempDir(), "fifo")
			if err := syscall.Mkfifo(fifo, 0o600); err != nil {
				t.Fatal(err)
			}
			// Opened both ways, so that neither this nor the program's open waits.
			hold, err := os.OpenFile(fifo, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			path := script(t, "exec 9> "+fifo+"\n"+text)
			reader, err := os.Open(fifo)
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			got := run(t, path, brief(Target{}), path)
			_ = hold.Close()
			if name == "leaves a child" {
				want(t, got, "", 0)
			} else {
				want(t, got, "timeout of the program", health.SignSilent)
			}
			// Ends only when the last of the group is gone.
			if n, err := reader.Read(make([]byte, 1)); n != 0 || err == nil {
				t.Errorf("got %d octets, %v, want the end", n, err)
			}
		})
	}
}

// TestExecBounded: no more than so many programs run at once, and who waits too long says
// nothing of its target.
func TestExecBounded(t *testing.T) {
	path := script(t, "exit 0")
	s := New(Options{Exec: []string{path}})
	for range maxRunning {
		s.running <- struct{}{}
	}
	target := brief(Target{Subject: health.Subject{Kind: health.KindCheck, Addr: netip.MustParseAddrPort("192.0.2.10:0"), Def: "0123456789abcdef"}, Exec: &Exec{Command: path}})
	if got := s.Now(t.Context(), target); !got.Void || !strings.Contains(got.Reason, "programs run already") {
		t.Errorf("got %+v, want void and why", got)
	}
	var wg sync.WaitGroup
	target.Interval, target.Timeout = time.Minute, time.Minute
	wg.Go(func() { want(t, s.Now(t.Context(), target), "", 0) })
	<-s.running
	wg.Wait()
}

// TestExecAskedSeldom: however often somebody asks, a program is not started more often
// than its interval, whether for a question or by the schedule; who asks is told what it
// came to, and when.
func TestExecAskedSeldom(t *testing.T) {
	count := filepath.Join(t.TempDir(), "count")
	path := script(t, "echo x >> "+count+"; exit 7")
	started := func() int {
		b, err := os.ReadFile(count)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(b), "x")
	}
	target := Target{
		Subject:  health.Subject{Kind: health.KindCheck, Addr: netip.MustParseAddrPort("192.0.2.10:0"), Def: "0123456789abcdef"},
		Interval: time.Hour, Timeout: time.Minute, Exec: &Exec{Command: path},
	}
	t.Run("questions", func(t *testing.T) {
		s := New(Options{Exec: []string{path}})
		want(t, s.Now(t.Context(), target), "exit status 7", health.SignRefused)
		for range 3 {
			got := s.Now(t.Context(), target)
			if got.OK || got.Void || !strings.HasPrefix(got.Reason, "ran ") || !strings.HasSuffix(got.Reason, " ago: exit status 7") {
				t.Errorf("got %+v, want what it came to, and when", got)
			}
		}
		if n := started(); n != 1 {
			t.Errorf("it was started %d times", n)
		}
	})
	t.Run("beside the schedule", func(t *testing.T) {
		s := New(Options{Exec: []string{path}})
		s.runs.begin(target.Subject, target.Interval, time.Now())
		if got := s.Now(t.Context(), target); !got.Void || !strings.HasPrefix(got.Reason, "runs already") {
			t.Errorf("got %+v, want void while it runs", got)
		}
		s.runs.end(target.Subject, outcome{ok: true}, true)
		if got := s.Now(t.Context(), target); !got.OK || !strings.HasPrefix(got.Reason, "ran ") {
			t.Errorf("got %+v, want well, and when", got)
		}
		if n := started(); n != 1 {
			t.Errorf("it was started %d times", n)
		}
	})
	t.Run("called off", func(t *testing.T) { // it was started, and says nothing of its target
		s, ctx := New(Options{Exec: []string{path}}), t.Context()
		ctx, cancel := context.WithDeadline(ctx, time.Now())
		defer cancel()
		for range 2 {
			if got := s.Now(ctx, target); !got.Void {
				t.Errorf("got %+v, want void", got)
			}
		}
		if got := s.Now(t.Context(), target); !got.Void || !strings.HasPrefix(got.Reason, "ran ") {
			t.Errorf("got %+v, want void, and when", got)
		}
	})
	t.Run("again after an interval", func(t *testing.T) {
		s := New(Options{Exec: []string{path}})
		s.runs.begin(target.Subject, target.Interval, time.Now().Add(-target.Interval))
		want(t, s.Now(t.Context(), target), "exit status 7", health.SignRefused)
		if len(s.runs.last) != 1 {
			t.Errorf("%d runs are remembered", len(s.runs.last))
		}
	})
}

// TestProgramsInDoubt: doubt, which any one peer can have, runs a program once a second at
// most.
func TestProgramsInDoubt(t *testing.T) {
	for interval, want := range map[time.Duration]time.Duration{time.Second: time.Second, 4 * time.Second: time.Second, 16 * time.Second: 2 * time.Second} {
		e := &entry{Target: &Target{Interval: interval, Exec: &Exec{}}}
		if got := e.hurried(); got != want {
			t.Errorf("each %s: each %s in doubt, want %s", interval, got, want)
		}
	}
}
