package api

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// ask sends one request and gives code and body.
func ask(t *testing.T, c *http.Client, method, url, body string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

// TestRoutes tries every path with every method on both listeners (C5: what is
// refused on one transport is not let through by another).
func TestRoutes(t *testing.T) {
	s := serve(t, newFake())
	socket, tcp := socketHTTP(t, s), &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	const command = `{"id":"a1","verb":"thaw"}`
	tests := []struct {
		path string
		get  int
		post int // over the socket; over TCP always 403
		body string
	}{
		{"/v1/status", 200, 405, ""},
		{"/v1/explain?host=Shop.example.org.&client=192.0.2.1", 200, 405, ""},
		{"/v1/explain?host=shop.example.org", 200, 405, ""},
		{"/v1/explain?host=shop.example.org&client=192.0.2.0/24", 200, 405, ""},
		{"/v1/explain?host=www.example.net", 404, 405, ""},
		{"/v1/explain", 400, 405, ""},
		{"/v1/explain?host=shop.example.org&client=nowhere", 400, 405, ""},
		{"/v1/explain?host=shop.example.org&clinet=192.0.2.1", 400, 405, ""},
		{"/v1/explain?host=shop.example.org&host=shop.example.org", 400, 405, ""},
		{"/v1/explain?host=shop.example.org&at=-2h", 200, 405, ""},
		{"/v1/explain?host=shop.example.org&at=-2d", 404, 405, ""},
		{"/v1/explain?host=shop.example.org&at=yesterday", 400, 405, ""},
		{"/v1/store/check", 200, 405, ""},
		{"/v1/backup", 200, 405, ""},
		{"/v1/backup?local=maybe", 400, 405, ""},
		{"/v1/restore", 405, 200, "a backup"},
		{"/v1/restore?force=perhaps", 405, 400, "a backup"},
		{"/v1/store/migrate", 405, 400, ""},
		{"/v1/store/migrate", 405, 400, `{"to":[]}`},
		{"/v1/store/migrate", 405, 200, `{"to":["http://127.0.0.1:1"]}`},
		{"/v1/store/recover?force=true", 405, 409, ""},
		{"/v1/store/recover?force=x", 405, 400, ""},
		{"/v1/spec", 200, 405, ""},
		{"/v1/audit", 200, 405, ""},
		{"/v1/audit?from=7&limit=1", 200, 405, ""},
		{"/v1/audit?limit=0", 400, 405, ""},
		{"/v1/audit?from=x", 400, 405, ""},
		{"/v1/audit?since=-2h", 200, 405, ""},
		{"/v1/audit?since=yesterday", 400, 405, ""},
		{"/v1/audit?since=-2h&from=7", 400, 405, ""},
		{"/v1/audit/verify", 200, 405, ""},
		{"/v1/audit/verify?x=1", 400, 405, ""},
		{"/v1/audit/export", 200, 405, ""},
		{"/v1/commands", 405, 200, command},
		{"/v1/commands?timeout=1s", 405, 200, command},
		{"/v1/commands?timeout=1h", 405, 400, command},
		{"/v1/store/init", 405, 200, ""},
		{"/v1/store/init", 405, 400, "{}"},
		{"/v1/store/recover", 405, 409, ""},
		{"/v1/probe?target=service/shop", 405, 200, ""},
		{"/v1/probe?target=service/shop&timeout=5s", 405, 200, ""},
		{"/v1/probe?target=service/shop&timeout=5m", 405, 400, ""},
		{"/v1/probe?target=service/none", 405, 409, ""},
		{"/v1/probe?target=", 405, 400, ""},
		{"/v1/probe?target=a%0ab", 405, 400, ""},
		{"/v1/probe?target=shop&scope=shop", 405, 400, ""},
		{"/v1/probe?target=shop", 405, 400, "{}"},
		{"/metrics", 200, 405, ""},
		{"/healthz", 200, 405, ""},
		{"/readyz", 200, 405, ""},
		{"/", 404, 404, ""},
		{"/v1/status/", 404, 404, ""},
	}
	for _, tc := range tests {
		t.Run(strings.TrimPrefix(tc.path, "/"), func(t *testing.T) {
			for _, via := range []struct {
				name string
				c    *http.Client
				base string
			}{{viaTCP, tcp, "http://" + s.Addr()}, {viaSocket, socket, "http://divert"}} {
				if got, body := ask(t, via.c, http.MethodGet, via.base+tc.path, ""); got != tc.get {
					t.Errorf("%s: GET gave %d, want %d: %s", via.name, got, tc.get, body)
				}
				if got, _ := ask(t, via.c, http.MethodHead, via.base+tc.path, ""); got != tc.get {
					t.Errorf("%s: HEAD gave %d, want %d", via.name, got, tc.get)
				}
				for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
					want := tc.post
					if method != http.MethodPost && want != 404 {
						want = 405
					}
					if via.name == viaTCP && (method != http.MethodPost || !strings.HasPrefix(tc.path, probePath+"?")) {
						want = 403 // but for what changes nothing
					}
					got, body := ask(t, via.c, method, via.base+tc.path, tc.body, "Content-Type", "application/json")
					if got != want {
						t.Errorf("%s: %s gave %d, want %d: %s", via.name, method, got, want, body)
					}
					if want == 403 && !strings.Contains(body, "unix:"+s.socket) {
						t.Errorf("%s: %s does not name the socket: %s", via.name, method, body)
					}
				}
			}
		})
	}
}

// TestGuard proves that a web page elsewhere cannot read the loopback listener
// through a browser.
func TestGuard(t *testing.T) {
	s := serve(t, newFake())
	_, port, _ := net.SplitHostPort(s.Addr())
	tests := []struct {
		name, header, value string
		want                int
	}{
		{"plain", "X-Nothing", "", 200},
		{"localhost", "Host", "localhost:" + port, 200},
		{"another port, as through a tunnel", "Host", "127.0.0.1:9999", 200},
		{"IPv6 loopback", "Host", "[::1]:" + port, 200},
		{"upper case", "Host", "LOCALHOST", 200},
		{"rebound name", "Host", "evil.example.net:" + port, 403},
		{"rebound name with a loopback label", "Host", "127.0.0.1.example.net", 403},
		{"an address that is not ours", "Host", "192.0.2.1", 403},
		{"own origin", "Origin", "http://" + s.Addr(), 200},
		{"foreign origin", "Origin", "https://evil.example.net", 403},
		{"own name, other port", "Origin", "http://127.0.0.1:1", 403},
		{"no origin", "Origin", "null", 403},
	}
	for _, tc := range tests {
		t.Run("probe, "+tc.name, func(t *testing.T) {
			got, body := ask(t, http.DefaultClient, http.MethodPost, "http://"+s.Addr()+"/v1/probe?target=shop", "", tc.header, tc.value)
			if got != tc.want {
				t.Errorf("got %d, want %d: %s", got, tc.want, body)
			}
		})
		t.Run(tc.name, func(t *testing.T) {
			got, body := ask(t, http.DefaultClient, http.MethodGet, "http://"+s.Addr()+"/v1/status", "", tc.header, tc.value)
			if got != tc.want {
				t.Errorf("got %d, want %d: %s", got, tc.want, body)
			}
		})
	}
	if got, _ := ask(t, socketHTTP(t, s), http.MethodGet, "http://divert/v1/status", "", "Origin", "http://divert"); got != 403 {
		t.Errorf("a page's request over the socket gave %d, want 403", got)
	}
}

func TestListenRefusesOffLoopback(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", "[::]:0", ":0", "192.0.2.1:0", "director.example.org:0", "8053"} {
		l, err := listenLoopback(listen)
		if err == nil {
			t.Errorf("%s: listens on %s, want a refusal", listen, l.Addr())
			_ = l.Close()
			continue
		}
		if listen != "8053" && !strings.Contains(err.Error(), "refused without TLS") {
			t.Errorf("%s: the refusal does not give the reason: %v", listen, err)
		}
	}
	l, err := listenLoopback("localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

func TestSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, SocketName)

	t.Run("has mode 0600", func(t *testing.T) {
		l, err := listenSocket(path, false)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("got mode %o, want 600", got)
		}
		if _, err := listenSocket(path, false); err == nil || !strings.Contains(err.Error(), "another process answers") {
			t.Errorf("a live socket was taken over: %v", err)
		}
	})
	t.Run("stale is replaced", func(t *testing.T) {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		_ = l.Close()
		again, err := listenSocket(path, false)
		if err != nil {
			t.Fatal(err)
		}
		_ = again.Close()
	})
	t.Run("a file is left alone", func(t *testing.T) {
		if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := listenSocket(path, false); err == nil || !strings.Contains(err.Error(), "not a socket") {
			t.Errorf("got %v, want a refusal", err)
		}
		if data, _ := os.ReadFile(path); string(data) != "mine" {
			t.Errorf("the file was changed to %q", data)
		}
	})
	t.Run("a long path is explained", func(t *testing.T) {
		long := filepath.Join(dir, strings.Repeat("x", 100), SocketName)
		if _, err := listenSocket(long, false); err == nil || !strings.Contains(err.Error(), "104") {
			t.Errorf("got %v, want the limit named", err)
		}
		if _, err := NewClient("unix:" + long); err == nil || !strings.Contains(err.Error(), "104") {
			t.Errorf("client: got %v, want the limit named", err)
		}
	})
}

// TestRunLetsGo: after Run nothing of the server is left (L5).
func TestRunLetsGo(t *testing.T) {
	f := newFake()
	path := filepath.Join(t.TempDir(), SocketName)
	s, err := NewServer(Options{Director: f, Listen: "127.0.0.1:0", Socket: path})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	watched := make(chan error)
	c := client(t, "http://"+s.Addr())
	go func() {
		watched <- c.Watch(context.Background(), func(Status) error { cancel(); return nil })
	}()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := <-watched; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the watcher got %v, want an unexpected EOF", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket file is still there")
	}
	if _, err := net.Dial("tcp", s.Addr()); err == nil {
		t.Error("the port is still bound")
	}
}

// TestConnectionCap (C3): connections beyond the cap wait, and are served once
// others leave.
func TestConnectionCap(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	open := prometheus.NewGauge(prometheus.GaugeOpts{Name: "open"})
	l := newCapped(inner, 2, open)
	accepted := make(chan net.Conn)
	ended := make(chan error)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- conn
		}
	}()
	for range 3 {
		conn, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	first, second := <-accepted, <-accepted
	select {
	case <-accepted:
		t.Fatal("a third connection was accepted with two open")
	default:
	}
	if got := testutil.ToFloat64(open); got != 2 {
		t.Errorf("got %v open, want 2", got)
	}
	_ = first.Close()
	_ = first.Close() // a second Close gives no second slot
	third := <-accepted
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept ended with %v, want net.ErrClosed", err)
	}
	_ = second.Close()
	_ = third.Close()
	if got := testutil.ToFloat64(open); got != 0 {
		t.Errorf("got %v open at the end, want 0", got)
	}
}

func TestReady(t *testing.T) {
	f := newFake()
	f.ready = errors.New("no plan yet")
	s := serve(t, f)
	code, body := ask(t, socketHTTP(t, s), http.MethodGet, "http://divert/readyz", "")
	if code != 503 || !strings.Contains(body, "no plan yet") {
		t.Errorf("got %d %s, want 503 and the reason", code, body)
	}
	if code, _ := ask(t, socketHTTP(t, s), http.MethodGet, "http://divert/healthz", ""); code != 200 {
		t.Errorf("healthz gave %d while not ready, want 200", code)
	}
}

func TestMetricsLint(t *testing.T) {
	r := prometheus.NewRegistry()
	m, err := newMetrics(r)
	if err != nil {
		t.Fatal(err)
	}
	m.requests.WithLabelValues(viaTCP, "/v1/status", "200").Inc()
	m.connections.WithLabelValues(viaTCP).Inc()
	problems, err := testutil.GatherAndLint(r)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}

// TestHeaderLimit (C3).
func TestHeaderLimit(t *testing.T) {
	s := serve(t, newFake())
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://divert/v1/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Long", strings.Repeat("x", 64<<10))
	resp, err := socketHTTP(t, s).Do(req)
	if err == nil { // the server may hang up before all is sent
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("got %d, want 431", resp.StatusCode)
		}
	}
	server := s.httpServer(t.Context(), viaTCP)
	if server.ReadHeaderTimeout <= 0 || server.ReadTimeout <= 0 || server.WriteTimeout <= 0 || server.IdleTimeout <= 0 {
		t.Errorf("a timeout is missing: %+v", server)
	}
}
