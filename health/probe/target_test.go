package probe

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/divertdns/divert/health"
)

// authority signs the fake targets' certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// text is the authority as a spec has it.
func (a *authority) text() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

func (a *authority) issue(t *testing.T, name string, from, to time.Duration) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(to), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// fake is a target that does with each connection what it is told.
type fake struct {
	addr netip.AddrPort
	mu   sync.Mutex
	from []netip.AddrPort // of each connection
}

func newFake(t *testing.T, serve func(conn net.Conn)) *fake {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{addr: netip.MustParseAddrPort(listener.Addr().String())}
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { _ = listener.Close() })
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.from = append(f.from, netip.MustParseAddrPort(conn.RemoteAddr().String()))
			f.mu.Unlock()
			wg.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	return f
}

// after reads a request's header and goes on.
func after(then func(conn net.Conn)) func(net.Conn) {
	return func(conn net.Conn) {
		var got []byte
		for buf := make([]byte, 1024); !strings.Contains(string(got), "\r\n\r\n"); {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			got = append(got, buf[:n]...)
		}
		then(conn)
	}
}

func say(text string) func(net.Conn) {
	return after(func(conn net.Conn) { _, _ = io.WriteString(conn, text) })
}

// silent waits until the prober has had enough.
func silent(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

func secured(config *tls.Config, serve func(net.Conn)) func(net.Conn) {
	return func(conn net.Conn) {
		secure := tls.Server(conn, config)
		if secure.Handshake() == nil {
			serve(secure)
			_ = secure.Close()
		}
	}
}

// drip sends one piece again and again until the prober hangs up.
func drip(piece string, pause time.Duration) func(net.Conn) {
	return after(func(conn net.Conn) {
		_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		for err == nil {
			time.Sleep(pause)
			_, err = io.WriteString(conn, piece)
		}
	})
}

// ways are the ways a probe travels: each test of a real target takes all.
func ways() map[string]func(t *testing.T, o Options, target Target) health.Report {
	scheduled := func(sockets bool) func(t *testing.T, o Options, target Target) health.Report {
		return func(t *testing.T, o Options, target Target) health.Report {
			t.Helper()
			reports := make(chan health.Report, 16)
			o.Report = func(r health.Report) {
				select {
				case reports <- r:
				default:
				}
			}
			s := New(o)
			s.sockets = sockets
			s.Set([]Target{target})
			s.Doubt(target.Subject) // no random first delay
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- s.Run(ctx) }()
			for {
				r := <-reports
				if r.Void && strings.Contains(r.Reason, "stalled") {
					continue // this machine is busy; the next one will do
				}
				if r.Subject != target.Subject || r.Late {
					continue // of the warm connection; not an outcome yet
				}
				cancel()
				if err := <-ended; err != nil {
					t.Errorf("Run: got %v, want nil", err)
				}
				return r
			}
		}
	}
	all := map[string]func(t *testing.T, o Options, target Target) health.Report{
		"goroutines": scheduled(false),
		"now": func(t *testing.T, o Options, target Target) health.Report {
			t.Helper()
			return New(o).Now(t.Context(), target)
		},
	}
	if haveSockets {
		all["sockets"] = scheduled(true)
	}
	return all
}

func closedPort(t *testing.T) netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return netip.MustParseAddrPort(listener.Addr().String())
}

// TestTargetsF23 tries hostile and broken targets over real connections.
func TestTargetsF23(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	good := ca.issue(t, "shop.example.org", -time.Hour, time.Hour)
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nall ok"
	tests := []struct {
		name   string
		scheme string
		serve  func(net.Conn) // nil: nobody listens
		reason string         // its beginning; "" = passes
		sign   health.Sign
	}{
		{"passes", "http", say(answer), "", 0},
		{"keeps the connection", "http", after(func(c net.Conn) { _, _ = io.WriteString(c, answer); silent(c) }), "", 0},
		{"answers unasked", "http", func(c net.Conn) { _, _ = io.WriteString(c, answer); silent(c) }, "", 0},
		{"refuses", "http", nil, "connection refused", health.SignRefused},
		{"refuses TLS", "https", nil, "connection refused", health.SignRefused},
		{"503", "http", say("HTTP/1.1 503 no\r\nContent-Length: 0\r\n\r\n"), "status 503", health.SignWrong},
		{"wrong page", "http", say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), `body lacks "all ok"`, health.SignWrong},
		{"302", "http", say("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n"), "status 302", health.SignWrong},
		{"says nothing", "http", silent, "timeout waiting for the answer", health.SignMute},
		{"hangs in the body", "http", after(func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nall")
			silent(c)
		}), "timeout in the body", health.SignMute},
		{"endless body", "http", drip(strings.Repeat("x", 16<<10), 0), `body lacks "all ok"`, health.SignWrong},
		{"endless drip", "http", drip("x", time.Millisecond), "timeout in the body", health.SignMute},
		{"endless body over TLS", "https", secured(good, drip(strings.Repeat("x", 16<<10), 0)), `body lacks "all ok"`, health.SignWrong},
		{"hangs in the body over TLS", "https", secured(good, after(func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nall")
			silent(c)
		})), "timeout in the body", health.SignMute},
		{"passes TLS", "https", secured(good, say(answer)), "", 0},
		{"expired", "https", secured(ca.issue(t, "shop.example.org", -2*time.Hour, -time.Hour), say(answer)), "certificate expired at ", health.SignWrong},
		{"not yet", "https", secured(ca.issue(t, "shop.example.org", time.Hour, 2*time.Hour), say(answer)), "certificate not valid before ", health.SignWrong},
		{"of another name", "https", secured(ca.issue(t, "pay.example.org", -time.Hour, time.Hour), say(answer)), "certificate is not for shop.example.org", health.SignWrong},
		{"of an unknown authority", "https", secured(other.issue(t, "shop.example.org", -time.Hour, time.Hour), say(answer)), "certificate signed by an unknown authority", health.SignWrong},
		{"no TLS", "https", func(c net.Conn) { _, _ = io.WriteString(c, answer); silent(c) }, "not TLS", health.SignWrong},
		{"hangs in the handshake", "https", silent, "timeout in the TLS handshake", health.SignMute},
		{"closes in the handshake", "https", func(net.Conn) {}, "", health.SignRefused},
	}
	for _, tc := range tests {
		addr := closedPort(t)
		if tc.serve != nil {
			addr = newFake(t, tc.serve).addr
		}
		for way, probe := range ways() {
			t.Run(tc.name+"/"+way, func(t *testing.T) {
				t.Parallel()
				subject := health.Subject{Kind: health.KindCheck, Addr: addr, Def: "0123456789abcdef"}
				interval := 10 * time.Second
				if strings.HasPrefix(tc.reason, "timeout") {
					interval = 500 * time.Millisecond
				}
				got := probe(t, Options{Allow: loopback(), RootCAs: ca.pool()}, Target{
					Subject: subject, Interval: interval, Timeout: interval,
					HTTP: &HTTP{Scheme: tc.scheme, Addr: addr, Path: "/healthz", Host: "shop.example.org", Body: "all ok"},
				})
				if tc.name == "closes in the handshake" {
					if got.OK || got.Void || got.Sign != tc.sign || !strings.HasSuffix(got.Reason, "in the TLS handshake") {
						t.Errorf("got %+v, want a failure in the handshake", got)
					}
					return
				}
				if got.OK != (tc.reason == "") || got.Void || got.Sign != tc.sign || !strings.HasPrefix(got.Reason, tc.reason) || got.Subject != subject {
					t.Errorf("got %+v, want ok %t, %v, reason %q", got, tc.reason == "", tc.sign, tc.reason)
				}
			})
		}
	}
}

// TestConnects tries fast signals and plain TCP probes over real connections:
// a new source port each time, from the configured source.
func TestConnects(t *testing.T) {
	source := netip.MustParseAddr("127.0.0.2")
	if listener, err := net.Listen("tcp", "127.0.0.2:0"); err != nil {
		t.Skipf("this machine has only one loopback address: %v", err)
	} else {
		_ = listener.Close()
	}
	for way, probe := range ways() {
		t.Run(way, func(t *testing.T) {
			f := newFake(t, silent)
			signal := Target{Subject: health.Subject{Kind: health.KindSignal, Addr: f.addr}, Fast: true}
			tcp := Target{Subject: health.Subject{Kind: health.KindCheck, Addr: f.addr, Def: "0123456789abcdef"}, TCP: &TCP{Addr: f.addr}}
			for _, target := range []Target{signal, tcp, signal, tcp} {
				if got := probe(t, Options{Allow: loopback(), Source: source}, target); !got.OK || got.Latency <= 0 {
					t.Errorf("got %+v, want ok with a latency", got)
				}
			}
			if got := probe(t, Options{Source: source}, signal); !got.Void || !strings.Contains(got.Reason, "loopback") {
				t.Errorf("loopback without leave: got %+v, want void and why (C12)", got)
			}
			if got := probe(t, Options{Allow: loopback(), Source: netip.MustParseAddr("192.0.2.99")}, signal); !got.Void || !strings.HasPrefix(got.Reason, "our own side: ") {
				t.Errorf("from an address that is not ours: got %+v, want void", got)
			}
			refused := Target{Subject: health.Subject{Kind: health.KindSignal, Addr: closedPort(t)}, Fast: true}
			if got := probe(t, Options{Allow: loopback()}, refused); got.OK || got.Void || got.Sign != health.SignRefused || got.Reason != "connection refused" {
				t.Errorf("nobody listening: got %+v, want refused", got)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			seen := map[netip.AddrPort]bool{}
			for _, from := range f.from {
				if seen[from] || from.Addr() != source {
					t.Errorf("connection from %v, want a new port of %v each time", from, source)
				}
				seen[from] = true
			}
		})
	}
}

// TestFailureTellsWhenItBegan: what a stall voids is what began before it.
func TestFailureTellsWhenItBegan(t *testing.T) {
	addr := closedPort(t)
	s := New(Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	subject := health.Subject{Kind: health.KindCheck, Addr: addr, Def: "0123456789abcdef"}
	if got := s.Now(t.Context(), Target{Subject: subject, HTTP: &HTTP{Scheme: "https", Addr: addr}}); got.OK || got.Void || got.Latency <= 0 {
		t.Errorf("got %+v, want a failure and how long it took", got)
	}
}

// TestManyTargets: many targets on real sockets, some of which hang, and none
// is left open after Run.
func TestManyTargets(t *testing.T) {
	f := newFake(t, say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
	hung := newFake(t, silent)
	var mu sync.Mutex
	passed, failed := map[health.Subject]int{}, map[health.Subject]int{}
	enough := make(chan struct{})
	var targets []Target
	add := func(addr netip.AddrPort, i byte) {
		targets = append(targets, Target{
			Subject:  health.Subject{Kind: health.KindCheck, Addr: addr, Def: "000000000000000" + string("0123456789"[i])},
			Interval: 300 * time.Millisecond, HTTP: &HTTP{Scheme: "http", Addr: addr},
		})
	}
	for i := range byte(10) {
		add(f.addr, i)
		add(hung.addr, i)
	}
	s := New(Options{Allow: loopback(), Report: func(r health.Report) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case r.OK:
			passed[r.Subject]++
		case !r.Void:
			failed[r.Subject]++
		}
		for _, t := range targets {
			if passed[t.Subject]+failed[t.Subject] < 2 {
				return
			}
		}
		select {
		case <-enough:
		default:
			close(enough)
		}
	}})
	s.Set(targets)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	<-enough
	cancel()
	<-ended
	mu.Lock()
	defer mu.Unlock()
	for _, target := range targets {
		if hangs := target.Subject.Addr == hung.addr; hangs != (passed[target.Subject] == 0) {
			t.Errorf("%v: got %d passed and %d failed", target.Subject, passed[target.Subject], failed[target.Subject])
		}
	}
}
