package store

import (
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// member passes on to the shared etcd, until it hangs: what it is sent then gets
// no answer, as of a process that was stopped.
type member struct {
	endpoint string
	hangs    atomic.Bool
	served   atomic.Int64 // octets of answers
}

func newMember(t *testing.T, name string) *member {
	t.Helper()
	m := &member{}
	path := filepath.Join(t.TempDir(), name)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	m.endpoint = "unix://" + path
	var wg sync.WaitGroup
	done := make(chan struct{})
	t.Cleanup(func() { close(done); _ = l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", strings.TrimPrefix(shared, "unix://"))
			if err != nil {
				_ = in.Close()
				return
			}
			wg.Go(func() { <-done; _ = in.Close(); _ = out.Close() })
			wg.Go(func() { m.pass(out, in, done) })
			wg.Go(func() { m.pass(in, out, done) })
		}
	})
	return m
}

func (m *member) pass(to io.Writer, from io.Reader, done <-chan struct{}) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if m.hangs.Load() {
			<-done
			return
		}
		m.served.Add(int64(n))
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// TestHungMember: one member of several that hangs costs a second, not the
// command, before keep-alive finds it out.
func TestHungMember(t *testing.T) {
	a, b := newMember(t, "a"), newMember(t, "b")
	s, err := New(Options{Endpoints: []string{a.endpoint, b.endpoint}, Prefix: prefixOf(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	begin(t, s)
	before := a.served.Load()
	until(t, "both members to serve", func() bool {
		read(t, s)
		return a.served.Load() > before+1000 && b.served.Load() > 1000
	})
	a.hangs.Store(true)
	for range 4 {
		if _, err := s.Read(t.Context()); err != nil {
			t.Errorf("reading beside a member that hangs: %v", err)
		}
	}
}
