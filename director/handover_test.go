package director

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/divertdns/divert/dnsserver"
	"github.com/divertdns/divert/dnsserver/answer"
)

// heirAt takes the sockets as a process would, and answers on them.
func (s *stage) heirAt() (*heir, *front) {
	s.t.Helper()
	h, f, err := takeOver(s.t.Context(), s.settings, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() { defer close(served); _ = f.run(ctx) }()
	s.t.Cleanup(func() { cancel(); <-served })
	return h, f
}

// pairOf gives both ends of a hand-over.
func pairOf(t *testing.T) (before, after *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "h"), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if after, err = net.DialUnix("unixpacket", nil, l.Addr().(*net.UnixAddr)); err != nil {
		t.Fatal(err)
	}
	if before, err = l.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = before.Close(); _ = after.Close() })
	return before, after
}

// stopAt stops with the first line: when all is let go of.
type stopAt struct {
	slog.Handler
	stop func()
}

func (s stopAt) Enabled(context.Context, slog.Level) bool { return true }

func (s stopAt) Handle(context.Context, slog.Record) error {
	s.stop()
	return nil
}

// F22: one that stops while it takes over leaves the one before in charge, however
// far it has come; it never says that it has taken over.
func TestReplaceStopped(t *testing.T) {
	s := newStage(t)
	done, ready := s.serve(nil)
	within(t, ready, "the first process")
	h, f := s.heirAt()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := ServeOptions{Options: Options{Settings: s.settings, Etcd: []string{"false"}, Log: slog.New(stopAt{slog.DiscardHandler, cancel})}}
	o.Replace = true
	if err := o.direct(ctx, f, h, func() {}); err != nil {
		t.Errorf("one that was stopped says %v", err)
	}
	_ = h.conn.Close()
	within(t, ready, "the first process, again")
	select {
	case err := <-done:
		t.Errorf("the first process ended: %v", err)
	default:
	}
}

// A stop ends what waits for the other process.
func TestReplaceStopsWaiting(t *testing.T) {
	_, after := pairOf(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (&heir{conn: after}).ready(ctx); err == nil || errors.Is(err, errGone) {
		t.Errorf("got %v", err)
	}
}

// S12: where the one before dies while it is replaced, who answers already goes on.
func TestReplaceOfOneThatDies(t *testing.T) {
	s := newStage(t)
	before, after := pairOf(t)
	table, _, err := standIn(s.settings, newSurvey(""), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_ = before.Close() // as the kernel does
	o := ServeOptions{Options: Options{Settings: s.settings, Etcd: []string{"false"}, Log: slog.New(slog.DiscardHandler)}}
	ready := make(chan struct{}, 1)
	o.Ready = func() { ready <- struct{}{} }
	f, err := newFront(s.settings, tableOf(table), newSurvey(""), nil, nil, false, o.Log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served, ended := make(chan error, 1), make(chan error, 1)
	go func() { served <- f.run(ctx) }()
	go func() { ended <- o.direct(ctx, f, &heir{conn: after}, func() {}) }()
	select {
	case <-ready:
	case err := <-ended:
		t.Errorf("ended: %v", err)
		ended <- err
	}
	cancel()
	<-served
	<-ended // it writes to the folder until then
}

// One that is too slow does not direct beside the one that did not wait; what it said
// in time counts.
func TestReplaceTooSlow(t *testing.T) {
	before, after := pairOf(t)
	if err := release(t.Context(), before, time.Millisecond); err == nil {
		t.Fatal("released to nobody")
	}
	if _, err := hear(after, "released"); err != nil {
		t.Fatal(err)
	}
	if err := (&heir{conn: after}).done(t.Context()); err == nil {
		t.Error("both direct")
	}

	before, after = pairOf(t)
	if err := (&heir{conn: after}).done(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := release(t.Context(), before, -time.Second); err != nil && !errors.Is(err, errGone) {
		t.Errorf("it was done in time, and got %v", err)
	}

	// One that was stopped has not said that it stays.
	before, after = pairOf(t)
	_ = before.Close()
	if err := (&heir{conn: after}).done(t.Context()); err != nil {
		t.Errorf("nobody else is there, and got %v", err)
	}
}

// A socket of DNS over TLS that a service manager or the process before passed on is
// never served in the clear, however its address is written (RFC 7858 section 3.1).
func TestActivatedAddressesAreNotThoseOfTLS(t *testing.T) {
	at := netip.MustParseAddrPort
	sockets := []dnsserver.Socket{
		{Network: "udp", Addr: at("0.0.0.0:53")},
		{Network: "tcp", Addr: at("0.0.0.0:53")},
		{Network: "tcp", Addr: at("0.0.0.0:853")},
		{Network: "tcp", Addr: at("[::]:853")},
		{Network: "tcp", Addr: at("[2001:db8::1]:853")},
		{Network: "tcp", Addr: at("192.0.2.1:8853"), TLS: true},
	}
	got := addresses(sockets, []string{":853", "[2001:db8:0::1]:853"})
	if len(got) != 1 || got[0] != "0.0.0.0:53" {
		t.Errorf("got %q", got)
	}
}

func tableOf(t *answer.Table) *atomic.Pointer[answer.Table] {
	p := new(atomic.Pointer[answer.Table])
	p.Store(t)
	return p
}

// The socket that hands over a director's doors is its user's alone.
func TestHandoverSocketIsClosed(t *testing.T) {
	h := &handover{path: filepath.Join(t.TempDir(), handoverSocket), log: slog.New(slog.DiscardHandler)}
	h.listen()
	if h.socket == nil {
		t.Fatal("it does not listen")
	}
	defer h.socket.Close()
	info, err := os.Lstat(h.path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v, %v; want 0600", info.Mode(), err)
	}
}

// A process that connects and then says nothing keeps no other from taking over, and is told
// that it stays as it was.
func TestHandoverPassesTheStuck(t *testing.T) {
	server, err := dnsserver.New(dnsserver.Options{Table: tableOf(nil)}) // a witness, without a socket
	if err != nil {
		t.Fatal(err)
	}
	h := &handover{
		path: filepath.Join(t.TempDir(), handoverSocket), log: slog.New(slog.DiscardHandler),
		front: &front{dns: server}, plan: func() string { return "p" },
	}
	h.listen()
	ended := make(chan error, 1)
	go func() { ended <- h.run(t.Context()) }()
	dial := func() *net.UnixConn {
		conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: h.path, Net: "unixpacket"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	offered := func(conn *net.UnixConn) {
		t.Helper()
		if _, err := hear(conn, "offer"); err != nil {
			t.Fatal(err)
		}
	}
	stuck := dial()
	offered(stuck)
	next := dial()
	offered(next)
	if err := tell(next, handoverMessage{State: "ready"}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, errHandedOver) || h.conn == nil {
		t.Fatalf("got %v", err)
	}
	defer h.conn.Close()
	if _, err := hear(stuck, "released"); err == nil || !strings.Contains(err.Error(), "staying") {
		t.Errorf("the stuck one hears %v", err)
	}
}
