package probe

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/divertdns/divert/health"
)

// TestSessions: HTTPS probes share handshakes while signals test connecting beside them,
// a session that the server has closed is no failure, and in doubt each has its own.
func TestSessions(t *testing.T) {
	ca := newAuthority(t)
	config := ca.issue(t, "shop.example.org", -time.Hour, time.Hour)
	tests := []struct {
		name    string
		most    int // requests that the server answers on a connection
		doubted bool
		shared  bool
	}{{"shared", 1000, false, true}, {"closed by the server", 3, false, true}, {"in doubt", 1000, true, false}}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var handshakes atomic.Int64
			f := newFake(t, secured(config, func(conn net.Conn) {
				handshakes.Add(1)
				for range tc.most {
					answered := false
					after(func(conn net.Conn) {
						_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nall ok")
						answered = err == nil
					})(conn)
					if !answered {
						return
					}
				}
			}))
			targets := []Target{
				{Subject: health.Subject{Kind: health.KindSignal, Addr: f.addr}, Fast: true},
				{
					Subject: health.Subject{Kind: health.KindCheck, Addr: f.addr, Def: "0123456789abcdef"}, Interval: 200 * time.Millisecond,
					HTTP: &HTTP{Scheme: "https", Addr: f.addr, Host: "shop.example.org", Body: "all ok"},
				},
			}
			reports := make(chan health.Report, 1024)
			s := New(Options{Allow: loopback(), RootCAs: ca.pool(), Report: func(r health.Report) {
				select {
				case reports <- r:
				default:
				}
			}})
			s.Set(targets)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- s.Run(ctx) }()
			// On a busy machine probes are late, so in doubt, and have a session each: then it takes more of them.
			passed := int64(0)
			for passed < 12 || tc.shared && handshakes.Load() >= passed && passed < 200 {
				r := <-reports
				if tc.doubted {
					s.Doubt(targets[0].Subject)
				}
				switch {
				case r.Subject.Kind != health.KindCheck || r.Void || r.Late:
				case r.OK:
					passed++
				case r.Sign == health.SignMute || r.Sign == health.SignSilent: // this machine is busy
				default:
					t.Errorf("got %+v, want no failure", r)
				}
			}
			cancel()
			<-ended
			if got := handshakes.Load(); (got < passed) != tc.shared || tc.name == "closed by the server" && got < passed/3 {
				t.Errorf("got %d handshakes for %d probes, want them shared: %t", got, passed, tc.shared)
			}
			if s.sessions.count != 0 {
				t.Errorf("got %d sessions after Run, want none", s.sessions.count)
			}
		})
	}
}
