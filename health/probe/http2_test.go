package probe

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/divertdns/divert/health"
)

// TestHTTP2 tries versions of HTTP, and hostile servers of the second (C12, F23).
func TestHTTP2(t *testing.T) {
	ca := newAuthority(t)
	var asked atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, r.Proto+" "+r.Method+" "+r.Host+" "+r.Header.Get("X-Probe")+r.Header.Get("User-Agent")+" "+string(body)+" "+r.URL.RawQuery)
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
		http.Redirect(w, r, "/asked", http.StatusFound)
	})
	mux.HandleFunc("/asked", func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	var sent atomic.Int64
	mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		for piece := []byte(strings.Repeat("x", 16<<10)); sent.Load() < 10<<30; sent.Add(int64(len(piece))) {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/hangs", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "all")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/header", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", 100<<10))
	})
	secure := httptest.NewUnstartedServer(mux)
	secure.EnableHTTP2 = true
	secure.TLS = ca.issue(t, "shop.example.org", -time.Hour, time.Hour)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	plain := httptest.NewUnstartedServer(mux)
	plain.Config.Protocols = new(http.Protocols)
	plain.Config.Protocols.SetUnencryptedHTTP2(true)
	plain.Config.Protocols.SetHTTP1(true)
	plain.Start()
	t.Cleanup(plain.Close)
	old := newFake(t, secured(ca.issue(t, "shop.example.org", -time.Hour, time.Hour), say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nHTTP")))
	hung := newFake(t, silent)
	at := func(s *httptest.Server) netip.AddrPort { return netip.MustParseAddrPort(s.Listener.Addr().String()) }

	tests := []struct {
		name   string
		addr   netip.AddrPort
		http   HTTP
		reason string
		sign   health.Sign
	}{
		{"auto", at(secure), HTTP{Scheme: "https", Version: "auto", Path: "/ok?a=%2F", BodyRegexp: `^HTTP/2\.0 GET shop\.example\.org divert-probe  a=%2F$`}, "", 0},
		{"auto, with an old server", old.addr, HTTP{Scheme: "https", Version: "auto", Body: "HTTP"}, "", 0},
		{"1.1 where 2 is spoken", at(secure), HTTP{Scheme: "https", Path: "/ok", BodyRegexp: `^HTTP/1\.1 `}, "", 0},
		{"2", at(secure), HTTP{Scheme: "https", Version: "2", Path: "/ok", Body: "HTTP/2.0"}, "", 0},
		{"2 without TLS", at(plain), HTTP{Scheme: "http", Version: "2", Path: "/ok", Body: "HTTP/2.0"}, "", 0},
		{"2, with an old server", old.addr, HTTP{Scheme: "https", Version: "2"}, "does not speak HTTP/2", health.SignWrong},
		{"a request with all", at(secure), HTTP{
			Scheme: "https", Version: "2", Method: "POST", Path: "/ok", RequestBody: "hello",
			Headers: []Header{{"X-Probe", "p"}, {"user-agent", "me"}}, Body: "HTTP/2.0 POST shop.example.org pme hello",
		}, "", 0},
		{"the same by 1.1", at(plain), HTTP{
			Scheme: "http", Method: "POST", Path: "/ok", RequestBody: "hello",
			Headers: []Header{{"X-Probe", "p"}, {"user-agent", "me"}}, Body: "HTTP/1.1 POST shop.example.org pme hello",
		}, "", 0},
		{"HEAD", at(secure), HTTP{Scheme: "https", Version: "2", Method: "HEAD", Path: "/ok"}, "", 0},
		{"a range of statuses", at(secure), HTTP{Scheme: "https", Version: "2", Path: "/nowhere", Statuses: []int{404, 410}}, "", 0},
		{"wrong status", at(secure), HTTP{Scheme: "https", Version: "2", Path: "/nowhere"}, "status 404", health.SignWrong},
		{"wrong page", at(secure), HTTP{Scheme: "https", Version: "2", Path: "/ok", Body: "all ok"}, `body lacks "all ok"`, health.SignWrong},
		{"no match", at(plain), HTTP{Scheme: "http", Path: "/ok", BodyRegexp: "all? ok"}, `body does not match "all? ok"`, health.SignWrong},
		{"redirect", at(secure), HTTP{Scheme: "https", Version: "2", Path: "/away"}, "status 302 (redirects are not followed)", health.SignWrong},
		{"redirect that is wanted", at(secure), HTTP{Scheme: "https", Version: "2", Path: "/away", Statuses: []int{302}}, "", 0},
		{"10 GB", at(secure), HTTP{Scheme: "https", Version: "2", Path: "/endless", Body: "all ok"}, `body lacks "all ok"`, health.SignWrong},
		{"10 GB without TLS", at(plain), HTTP{Scheme: "http", Version: "2", Path: "/endless"}, "", 0},
		{"long header", at(secure), HTTP{Scheme: "https", Version: "2", Path: "/header"}, "malformed HTTP/2 answer", health.SignWrong},
		{"hangs in the body", at(secure), HTTP{Scheme: "https", Version: "2", Path: "/hangs"}, "timeout in the body", health.SignMute},
		{"says nothing", hung.addr, HTTP{Scheme: "http", Version: "2"}, "timeout waiting for the answer", health.SignMute},
		{"no HTTP/2", newFake(t, func(c net.Conn) { _, _ = io.WriteString(c, strings.Repeat("no ", 100)); silent(c) }).addr, HTTP{Scheme: "http", Version: "2"}, "malformed HTTP/2 answer", health.SignWrong},
		{"closes", newFake(t, func(net.Conn) {}).addr, HTTP{Scheme: "http", Version: "2"}, "", health.SignRefused},
		{"of another name", at(secure), HTTP{Scheme: "https", Version: "2", Path: "/ok", Secure: Secure{SNI: "pay.example.org"}}, "certificate is not for pay.example.org", health.SignWrong},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.http.Host = "shop.example.org"
			target := Target{HTTP: &tc.http}
			if strings.HasPrefix(tc.reason, "timeout") {
				target = brief(target)
			}
			got := once(t, Options{RootCAs: ca.pool()}, tc.addr, target)
			if tc.name == "closes" {
				if got.OK || got.Void || got.Sign != tc.sign {
					t.Errorf("got %+v, want refused", got)
				}
				return
			}
			want(t, got, tc.reason, tc.sign)
		})
	}
	t.Cleanup(func() {
		if n := asked.Load(); n != 0 {
			t.Errorf("a redirect was followed %d times (C12)", n)
		}
		if n := sent.Load(); n > 64<<20 {
			t.Errorf("%d octets of endless pages were taken (C12)", n)
		}
	})
}
