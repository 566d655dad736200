package resolve

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestServersFileComesAndGoes: a file that is removed and written anew is looked at
// between the two as well.
func TestServersFileComesAndGoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	var wg sync.WaitGroup
	defer wg.Wait()
	done := make(chan struct{})
	defer close(done)
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			_ = os.WriteFile(path, []byte("nameserver 192.0.2.53\n"), 0o600)
			_ = os.Remove(path)
		}
	})
	for range 5000 {
		s := servers{path: path}
		if list, err := s.all(); err == nil && len(list) != 1 {
			t.Fatalf("got %v", list)
		}
	}
}

// TestServersGone: where the servers refuse, or there is no way to them, they are told
// of once, not once a name.
func TestServersGone(t *testing.T) {
	for _, why := range []error{syscall.ECONNREFUSED, syscall.ENETUNREACH} {
		var log bytes.Buffer
		run(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, func(t *testing.T, r *Resolver, u *upstream) {
			gone := &net.OpError{Op: "read", Net: "udp", Err: os.NewSyscallError("read", why)}
			u.set(func(string, string, bool) outcome { return outcome{err: fmt.Errorf("asking s1: %w", gone)} })
			var names []string
			for i := range 100 {
				names = append(names, fmt.Sprintf("lb-%d.example.net", i))
			}
			r.Set(names)
			time.Sleep(10 * time.Minute)
			if s, _ := r.Status(names[0]); !strings.Contains(s.Problem, why.Error()) {
				t.Errorf("got %q, want why", s.Problem)
			}
			u.set(always(time.Hour, "192.0.2.1"))
			time.Sleep(2 * time.Minute)
			if text := log.String(); strings.Count(text, "cannot be resolved") != 1 || strings.Count(text, "answers again") != 1 || strings.Contains(text, "a hostname ") {
				t.Errorf("%v: got\n%.2000s", why, text)
			}
			// What is wrong with a name after that is told.
			u.set(func(string, string, bool) outcome { return outcome{err: fmt.Errorf("asking s1: %w", gone)} })
			time.Sleep(70 * time.Minute)
			u.set(func(string, string, bool) outcome { return no("SERVFAIL") })
			time.Sleep(2 * time.Minute)
			if n := strings.Count(log.String(), "a hostname does not resolve"); n != len(names) {
				t.Errorf("%v: told of %d names that fail, want %d", why, n, len(names))
			}
		})
	}
}
