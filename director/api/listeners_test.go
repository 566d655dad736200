package api

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/divertdns/divert/director/access"
)

// descriptors skips a test where a process may not have so many open files.
func descriptors(t *testing.T, n uint64) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < n { // Go has raised it to what is allowed
		t.Skipf("a process may have %d open files here, and this takes %d: raise `ulimit -Hn`", limit.Cur, n)
	}
}

func dial(t *testing.T, network, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// F21: ten thousand connections that say nothing, on either listener, keep nobody out
// for as long as a second, and the director keeps the cap's number of them.
func TestIdleConnections(t *testing.T) {
	const idle = 10_000
	descriptors(t, idle+1000)
	s := serve(t, newFake())
	for via, addr := range map[string]string{viaTCP: s.Addr(), viaSocket: s.socket} {
		network := map[string]string{viaTCP: "tcp", viaSocket: "unix"}[via]
		conns := make([]net.Conn, 0, idle)
		for i := range idle {
			conn, err := net.DialTimeout(network, addr, 10*time.Second)
			if err != nil {
				t.Fatalf("%s: connection %d: %v", via, i, err)
			}
			conns = append(conns, conn)
			if i%1000 != 999 {
				continue
			}
			began := time.Now()
			honest := dial(t, network, addr)
			if _, err := io.WriteString(honest, "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(honest), nil)
			if err != nil {
				t.Fatalf("%s: an honest client among %d idle ones: %v", via, i+1, err)
			}
			_ = resp.Body.Close()
			if took := time.Since(began); took > headerTimeout-time.Second {
				t.Errorf("%s: an honest client among %d idle ones waited %v", via, i+1, took)
			}
		}
		if open := testutil.ToFloat64(s.metrics.connections.WithLabelValues(via)); open > maxConnections {
			t.Errorf("%s: %v connections are open, at most %d may be", via, open, maxConnections)
		}
		for _, conn := range conns {
			_ = conn.Close()
		}
	}
}

// ended waits until the server has hung up, and says how long that took.
func ended(t *testing.T, conn net.Conn) time.Duration {
	t.Helper()
	began := time.Now()
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection was never ended")
	}
	return time.Since(began)
}

// trickle writes text again and again until that fails.
func trickle(conn net.Conn, text string, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for range tick.C {
		if _, err := io.WriteString(conn, text); err != nil {
			return
		}
	}
}

// C3: who sends an octet at a time, of a header or of a body, is let go when the
// deadline of the whole has come; each octet does not begin it anew.
func TestSlowLoris(t *testing.T) {
	t.Parallel()
	s := serve(t, newFake())
	tests := []struct {
		name, network, addr, begin, octet string
		most                              time.Duration
	}{
		{"a header", "tcp", s.Addr(), "GET /v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ", "x", headerTimeout},
		{"nothing", "tcp", s.Addr(), "", "", headerTimeout},
		{"a header by the socket", "unix", s.socket, "GET /v1/status HTTP/1.1\r\nHost: divert\r\nX: ", "x", headerTimeout},
		{
			"a body by the socket", "unix", s.socket, "POST /v1/commands HTTP/1.1\r\nHost: divert\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{", " ",
			readTimeout,
		},
		// A refused body is not waited for as long as one that is wanted.
		{"a body that is refused", "tcp", s.Addr(), "POST /v1/commands HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n", "x", drainTimeout},
		{"a body of a read", "tcp", s.Addr(), "GET /v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n", "x", drainTimeout},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			conn := dial(t, tc.network, tc.addr)
			if _, err := io.WriteString(conn, tc.begin); err != nil {
				t.Fatal(err)
			}
			if tc.octet != "" {
				go trickle(conn, tc.octet, 100*time.Millisecond)
			}
			if took := ended(t, conn); took > tc.most+4*time.Second {
				t.Errorf("it was let go after %v, want %v", took, tc.most)
			}
		})
	}
}

// C3: of a body of a gigabyte no more is taken than a command may have, and of one that
// is refused next to nothing; a header without an end has its bound, too.
func TestFloods(t *testing.T) {
	t.Parallel()
	s := serve(t, newFake())
	const giga = 1 << 30
	tests := []struct {
		name, network, addr, begin string
		most                       int
	}{
		{
			"announced", "unix", s.socket,
			fmt.Sprintf("POST /v1/commands HTTP/1.1\r\nHost: divert\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", giga), maxBody,
		},
		{
			"in one chunk", "unix", s.socket,
			fmt.Sprintf("POST /v1/commands HTTP/1.1\r\nHost: divert\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", giga), maxBody,
		},
		{
			"a word", "unix", s.socket,
			fmt.Sprintf("POST /v1/emergency HTTP/1.1\r\nHost: divert\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", giga), 1 << 20,
		},
		{
			"refused", "tcp", s.Addr(), fmt.Sprintf("POST /v1/commands HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n", giga), 1 << 20,
		},
		{"a header", "tcp", s.Addr(), "GET /v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ", maxHeader},
		{"a first line", "tcp", s.Addr(), "GET /", maxHeader},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			conn := dial(t, tc.network, tc.addr)
			go func() { _, _ = io.Copy(io.Discard, conn) }() // a refusal is not waited for
			if _, err := io.WriteString(conn, tc.begin); err != nil {
				t.Fatal(err)
			}
			chunk, taken := []byte(strings.Repeat(" ", 64<<10)), 0
			for taken < giga {
				n, err := conn.Write(chunk)
				if taken += n; err != nil {
					break
				}
			}
			// The system's buffers hold some that nobody reads.
			if slack := 16 << 20; taken > tc.most+slack {
				t.Errorf("%d octets were taken, want %d at most", taken, tc.most)
			}
		})
	}
}

// C3: who stops in the middle of a TLS handshake, or sends an octet of it at a time, is
// let go as one without a header is, and keeps nobody out meanwhile.
func TestHalfHandshakes(t *testing.T) {
	t.Parallel()
	f := serveSecure(t, nil, grant(t, "cert:alice", access.Viewer))
	half := []byte{22, 3, 1, 2, 0, 1}
	for range 3 * maxConnections {
		if _, err := dial(t, "tcp", f.Addr()).Write(half); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	resp, err := f.http(t, f.ca.client(t, f.dir, "alice")).Get(f.base + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if took := time.Since(began); took > headerTimeout-time.Second {
		t.Errorf("an honest client waited %v", took)
	}
	slow := dial(t, "tcp", f.Addr())
	if _, err := slow.Write(half); err != nil {
		t.Fatal(err)
	}
	go trickle(slow, "\x01", 100*time.Millisecond)
	if took := ended(t, slow); took > headerTimeout+4*time.Second {
		t.Errorf("a slow handshake was let go after %v, want %v", took, headerTimeout)
	}
}
