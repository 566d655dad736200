package probe

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/divertdns/divert/health"
)

// deafen has the kernel throw away whatever arrives at a socket, or no longer.
func deafen(t *testing.T, socket syscall.Conn, deaf bool) {
	t.Helper()
	raw, err := socket.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	verdict := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 18} // all of it
	if deaf {
		verdict.K = 0
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &verdict})
	})
	if err != nil || failed != nil {
		t.Fatal(err, failed)
	}
}

// held is a listener whose connections the test holds.
type held struct {
	listener *net.TCPListener
	mu       sync.Mutex
	conns    []*net.TCPConn
}

func newHeld(t *testing.T) *held {
	t.Helper()
	config := net.ListenConfig{}
	config.SetMultipathTCP(false) // a socket of that takes no filter
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &held{listener: listener.(*net.TCPListener)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := h.listener.AcceptTCP()
			if err != nil {
				return
			}
			h.mu.Lock()
			h.conns = append(h.conns, conn)
			h.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		wg.Wait()
		for _, c := range h.conns {
			_ = c.Close()
		}
	})
	return h
}

// standing gives the connections that the prober has not closed. A signal's is gone at
// once, by reset, which ends a read.
func (h *held) standing() (out []*net.TCPConn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); isTimeout(err) {
			out = append(out, c)
		} else {
			_ = c.Close()
		}
	}
	h.conns = out
	return out
}

func (h *held) signal() Target {
	return Target{Subject: health.Subject{Kind: health.KindSignal, Addr: netip.MustParseAddrPort(h.listener.Addr().String())}, Fast: true}
}

// TestGray: where new connections are refused and the one that stands answers, or the
// other way round, that is a gray failure, and no sooner than at the second look.
func TestGray(t *testing.T) {
	tests := []struct {
		name   string
		fail   func(t *testing.T, h *held)
		reason string
	}{
		{"no new ones", func(_ *testing.T, h *held) { _ = h.listener.Close() }, "new connections failed while a standing one answers"},
		{"no old ones", func(t *testing.T, h *held) {
			for _, c := range h.standing() {
				deafen(t, c, true)
			}
		}, "a standing connection is silent while new ones are answered"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h := newHeld(t)
			looks, failed := 0, false
			var since time.Time
			watch(t, []Target{h.signal()}, func(_ *Scheduler, r health.Report) bool {
				if r.Subject != health.Gray(h.signal().Subject.Addr) {
					return false
				}
				switch looks++; {
				case looks == 3:
					if n := len(h.standing()); n < 1 {
						t.Errorf("got %d standing connections, want one", n)
					}
					tc.fail(t, h)
					failed, since = true, time.Now()
				case !failed && !r.OK:
					t.Errorf("got %+v before anything failed", r)
				case failed && !r.OK:
					if !strings.Contains(r.Reason, tc.reason) || r.At.Sub(since) < lookEvery {
						t.Errorf("got %q after %v, want %q at the second look", r.Reason, r.At.Sub(since), tc.reason)
					}
					return true
				}
				return false
			})
		})
	}
}

// TestWarmIsClosed: a server that lets no connection stand has no failure, and is not
// asked for one each second.
func TestWarmIsClosed(t *testing.T) {
	t.Parallel()
	f := newFake(t, func(net.Conn) {})
	looks := 0
	watch(t, []Target{{Subject: health.Subject{Kind: health.KindSignal, Addr: f.addr}, Fast: true}}, func(_ *Scheduler, r health.Report) bool {
		if !r.OK && !r.Void && !r.Late {
			t.Errorf("got %+v, want no failure", r)
		}
		if r.Subject.Kind == health.KindSoft {
			looks++
		}
		return looks >= 4
	})
}

// TestWarmC12: it is checked like any other connection.
func TestWarmC12(t *testing.T) {
	h := newHeld(t)
	f := newFlights(netip.Addr{}, policy{})
	if fd := f.stand(h.signal().Subject.Addr); fd >= 0 || f.standing != 0 {
		t.Errorf("got descriptor %d to loopback, want none", fd)
	}
}

// TestSilenceOverSockets: signals to a listener that no SYN reaches are missed 300 ms
// after they left, while others leave, and answered as soon as it hears again.
func TestSilenceOverSockets(t *testing.T) {
	t.Parallel()
	h := newHeld(t)
	passed, missed, overlapped := 0, 0, 0
	var last time.Time // when a miss was last known
	watch(t, []Target{h.signal()}, func(_ *Scheduler, r health.Report) bool {
		sent := r.At.Add(-r.Latency)
		switch {
		case r.Subject.Kind != health.KindSignal || r.Void || r.Late:
		case r.OK:
			if passed++; passed == 5 {
				deafen(t, h.listener, true)
			}
			return missed > 0
		default:
			if r.Sign != health.SignSilent || r.Latency < leastPatience {
				t.Errorf("got %+v, want a silence of 300 ms", r)
			}
			if sent.Before(last) {
				overlapped++
			}
			last = r.At
			if missed++; missed == 5 {
				deafen(t, h.listener, false)
			}
		}
		return false
	})
	if overlapped == 0 {
		t.Errorf("got %d misses, each sent after the one before was known, want them to overlap", missed)
	}
}
