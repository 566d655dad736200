package probe

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/divertdns/divert/health"
)

// site is an HTTP server that says of each request on which connection it came, and does
// what it is told with it.
type site struct {
	addr   netip.AddrPort
	mu     sync.Mutex
	conns  int
	took   map[int]int // requests by connection
	answer func(conn net.Conn, number, request int) (more bool)
}

func newSite(t *testing.T, answer func(conn net.Conn, number, request int) (more bool)) *site {
	t.Helper()
	w := &site{took: map[int]int{}, answer: answer}
	w.addr = newFake(t, func(conn net.Conn) {
		w.mu.Lock()
		w.conns++
		number := w.conns
		w.mu.Unlock()
		read := bufio.NewReader(conn)
		for request := 1; ; request++ {
			if _, err := http.ReadRequest(read); err != nil {
				return
			}
			w.mu.Lock()
			w.took[number]++
			answer := w.answer
			w.mu.Unlock()
			if !answer(conn, number, request) {
				return
			}
		}
	}).addr
	return w
}

func (w *site) set(answer func(conn net.Conn, number, request int) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = answer
}

// used gives how many connections carried requests, and how many.
func (w *site) used() (conns, requests int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.took {
		requests += n
	}
	return len(w.took), requests
}

func fine(conn net.Conn, _, _ int) bool {
	_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	return err == nil
}

func (w *site) targets(interval time.Duration) []Target {
	return []Target{
		{Subject: health.Subject{Kind: health.KindSignal, Addr: w.addr}, Fast: true},
		{
			Subject: health.Subject{Kind: health.KindCheck, Addr: w.addr, Def: "0123456789abcdef"}, Interval: interval, Timeout: interval,
			HTTP: &HTTP{Scheme: "http", Addr: w.addr, Body: "ok"},
		},
	}
}

// watch runs a scheduler over real sockets and gives its reports to take, until it says
// that it has seen enough.
func watch(t *testing.T, targets []Target, take func(s *Scheduler, r health.Report) (enough bool)) {
	t.Helper()
	reports := make(chan health.Report, 1024)
	s := New(Options{Allow: loopback(), Report: func(r health.Report) {
		select {
		case reports <- r:
		default:
		}
	}})
	s.Set(targets)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	for !take(s, <-reports) {
	}
	cancel()
	<-ended
}

// TestKept: with signals beside them, deep probes share a connection; without, each has
// its own; in doubt too, since a site that lets nobody in must not look well.
func TestKept(t *testing.T) {
	tests := []struct {
		name    string
		fast    bool
		doubted bool
		shared  bool
	}{{"beside signals", true, false, true}, {"without signals", false, false, false}, {"in doubt", true, true, false}}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newSite(t, fine)
			targets := w.targets(30 * time.Millisecond)
			if !tc.fast {
				targets = targets[1:]
			}
			passed := 0
			watch(t, targets, func(s *Scheduler, r health.Report) bool {
				if tc.doubted {
					s.Doubt(targets[0].Subject)
				}
				if r.Subject.Kind == health.KindCheck && r.OK {
					passed++
				}
				return passed >= 20
			})
			conns, requests := w.used()
			if shared := conns <= requests*9/10; shared != tc.shared {
				t.Errorf("got %d connections for %d requests, want them shared: %t", conns, requests, tc.shared)
			}
		})
	}
}

// TestKeptIsClosed: a server that has enough of a connection, said or unsaid, before a
// request or at it, has not failed.
func TestKeptIsClosed(t *testing.T) {
	reset := func(conn net.Conn) bool {
		_ = conn.(*net.TCPConn).SetLinger(0)
		return false
	}
	tests := map[string]func(conn net.Conn, number, request int) bool{
		"at once": func(conn net.Conn, number, request int) bool { fine(conn, number, request); return false },
		"reset":   func(conn net.Conn, number, request int) bool { fine(conn, number, request); return reset(conn) },
		"at the next request": func(conn net.Conn, number, request int) bool {
			return request == 1 && fine(conn, number, request)
		},
		"by reset at the next request": func(conn net.Conn, number, request int) bool {
			return request == 1 && fine(conn, number, request) || reset(conn)
		},
		"announced": func(conn net.Conn, _, _ int) bool {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
			return false
		},
		"with words nobody asked for": func(conn net.Conn, number, request int) bool {
			fine(conn, number, request)
			time.Sleep(5 * time.Millisecond)
			_, _ = io.WriteString(conn, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			return false
		},
	}
	for name, answer := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			passed := 0
			w := newSite(t, answer)
			watch(t, w.targets(100*time.Millisecond), func(_ *Scheduler, r health.Report) bool {
				switch {
				case r.Subject.Kind != health.KindCheck || r.Void || r.Late:
				case r.OK:
					passed++
				case r.Sign == health.SignMute || r.Sign == health.SignSilent: // this machine is busy
				default:
					t.Errorf("got %+v, want no failure", r)
				}
				return passed >= 12
			})
		})
	}
}

// TestKeptHangsF3: a server that stops answering is late, and then mute, on the
// connection where it answered before as on any other.
func TestKeptHangsF3(t *testing.T) {
	t.Parallel()
	w := newSite(t, fine)
	passed, late, mute := 0, 0, 0
	watch(t, w.targets(500*time.Millisecond), func(_ *Scheduler, r health.Report) bool {
		switch {
		case r.Subject.Kind != health.KindCheck || r.Void:
		case r.OK:
			if passed++; passed == 3 {
				w.set(func(conn net.Conn, _, _ int) bool { silent(conn); return false })
			}
		case r.Late:
			late++
		case r.Sign == health.SignMute:
			mute++
		default:
			t.Errorf("got %+v, want mute", r)
		}
		return mute >= 2
	})
	if passed < 3 || late != 1 {
		t.Errorf("got %d answers and %d late ones, want three and one", passed, late)
	}
}

// TestKeptFallsSilent: where only the connection is dead, the probe that follows at once
// over a new one is answered before the first has failed.
func TestKeptFallsSilent(t *testing.T) {
	t.Parallel()
	w := newSite(t, fine)
	passed, failed, after := 0, 0, 0
	var answered time.Time
	watch(t, w.targets(600*time.Millisecond), func(_ *Scheduler, r health.Report) bool {
		sent := r.At.Add(-r.Latency)
		switch {
		case r.Subject.Kind != health.KindCheck || r.Void || r.Late:
		case r.OK:
			if passed++; passed == 3 {
				w.mu.Lock()
				old := w.conns
				w.mu.Unlock()
				w.set(func(conn net.Conn, number, request int) bool {
					if number <= old {
						silent(conn)
						return false
					}
					return fine(conn, number, request)
				})
			}
			if failed > 0 {
				after++
			}
			answered = sent
		default:
			if failed++; failed == 1 && !sent.Before(answered) {
				t.Errorf("got %+v, want a later probe to have been answered", r)
			}
		}
		return after >= 3
	})
}
