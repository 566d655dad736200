package api

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/divertdns/divert/director/access"
)

// credential is one way to ask, for the table.
type credential struct {
	name string
	ask  func(t *testing.T, method, path, body string) int
}

// TestEveryRoute (C5) is the table of every route × method × credential. What a row does
// not let in is denied with 401 where nobody is known, and 403 where somebody is. A route
// that is added without a row fails, as does a method that a row does not name.
func TestEveryRoute(t *testing.T) {
	// Whom a row lets in:
	const (
		all     = "loopback loopback-guarded socket none bad-token stranger viewer part operator admin-part admin token-viewer token-admin kube kube-stranger kube-unknown kube-away"
		self    = "loopback loopback-guarded socket stranger viewer part operator admin-part admin token-viewer token-admin kube kube-stranger"
		read    = "loopback loopback-guarded socket viewer part operator admin-part admin token-viewer token-admin kube"
		operate = "socket part operator admin-part admin token-admin kube" // of something: what of is asked by the verb
		admins  = "socket admin token-admin"
		keeps   = "loopback socket admin token-admin" // as admins, and whoever may read all on the machine itself
	)
	rows := map[string]string{
		"GET /v1/status": read, "GET /v1/explain": read, "GET /v1/spec": read, "GET /v1/audit": read, "GET /v1/audit/export": read, "GET /v1/audit/verify": read, "GET /v1/events": read,
		"POST /v1/probe": read, "GET /v1/emergency": read, "GET /metrics": read,
		"POST /v1/emergency": operate, "POST /v1/commands": operate,
		"POST /v1/store/init": admins, "POST /v1/store/recover": admins, "POST /v1/store/migrate": admins, "POST /v1/restore": admins,
		"GET /v1/openapi.json": self, "GET /v1/whoami": self, "GET /v1/can": self,
		"GET /v1/tokens": admins, "GET /v1/secrets": admins, "GET /v1/store/check": keeps, "GET /v1/backup": keeps,
		"GET /healthz": all, "GET /readyz": all,
	}
	for row, who := range maps.Clone(rows) {
		if path, get := strings.CutPrefix(row, "GET "); get && path != "/v1/events" {
			rows["HEAD "+path] = who
		}
	}
	f, credentials := everybody(t)
	seen := map[string]bool{}
	for path, route := range f.routes {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions, http.MethodConnect, "BREW"} {
			_, served := route[method]
			row, listed := rows[method+" "+path]
			if served != listed {
				t.Errorf("%s %s: served %v, in the table %v", method, path, served, listed)
				continue
			}
			seen[method+" "+path] = listed
			for _, c := range credentials {
				got := c.ask(t, method, path, bodyOf(path))
				in := got != http.StatusUnauthorized && got != http.StatusForbidden && (c.name != "kube-away" || got != http.StatusServiceUnavailable)
				if served && in != slices.Contains(strings.Fields(row), c.name) {
					t.Errorf("%s %s by %s: got %d", method, path, c.name, got)
				}
				if !served && got != http.StatusMethodNotAllowed && in {
					t.Errorf("%s %s by %s: got %d for a method that is not served", method, path, c.name, got)
				}
			}
		}
	}
	for row := range rows {
		if !seen[row] {
			t.Errorf("the table has %s, which is no route", row)
		}
	}
	// What is not there says so to whom it may concern, and nothing to others.
	for _, c := range credentials {
		want := http.StatusNotFound
		switch c.name {
		case "none", "bad-token", "kube-unknown":
			want = http.StatusUnauthorized
		case "kube-away":
			want = http.StatusServiceUnavailable
		}
		if got := c.ask(t, http.MethodGet, "/v1/nothing", ""); got != want {
			t.Errorf("what is not there, by %s: got %d, want %d", c.name, got, want)
		}
	}
	for _, v := range personal() {
		if !access.Action(v).Known() {
			t.Errorf("verb %s has no row in director/access: nobody may say it", v)
		}
	}
}

func bodyOf(path string) string {
	switch path {
	case "/v1/commands":
		return `{"id":"a1","verb":"thaw"}`
	case "/v1/store/migrate":
		return `{"to":["http://127.0.0.1:1"]}`
	}
	return ""
}

// everybody is a director with TLS and one with loopback, and all who ask them.
func everybody(t *testing.T) (*secureFleet, []credential) {
	t.Helper()
	token := func(n byte) string { return access.FormatSecret([access.SecretBytes]byte{n}) }
	bearer := func(n byte, role access.Role) access.Bearer {
		sum, _ := access.SumSecret(token(n))
		return access.Bearer{Name: fmt.Sprint("t", n), Sum: sum, Grant: grant(t, "", role, "fleet"), Expires: time.Now().Add(time.Hour)}
	}
	reviews := func(s *Server) {
		s.asks, s.refused, s.headers = nil, nil, time.Minute // thousands of handshakes, on a machine that may be busy
		s.reviews = reviewing{"kube.a.b": "kube:fra/system:serviceaccount:ops:drills", "strange.a.b": "kube:fra/system:serviceaccount:x:y", "away.a.b": ""}
	}
	f := serveSecureWith(t, reviews, []access.Bearer{bearer(1, access.Viewer), bearer(2, access.Admin)},
		grant(t, "cert:viewer", access.Viewer, "cluster/fra"), grant(t, "cert:part", access.Operator, "cluster/fra"), grant(t, "cert:operator", access.Operator, "fleet"),
		grant(t, "cert:admin-part", access.Admin, "cluster/*", "service/*", "zone/*", "namespace/*"), grant(t, "cert:admin", access.Admin, "fleet"),
		grant(t, "kube:fra/system:serviceaccount:ops:drills", access.Operator, "cluster/fra"))
	loopback := serve(t, newFake())
	guarded := serve(t, newFake(), func(s *Server) { s.grants = []access.Grant{grant(t, "cert:nobody", access.Viewer, "fleet")} })
	plain := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	by := func(c *http.Client, base string, header ...string) func(*testing.T, string, string, string) int {
		return func(t *testing.T, method, path, body string) int {
			t.Helper()
			req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			for i := 0; i < len(header); i += 2 {
				req.Header.Set(header[i], header[i+1])
			}
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close() // unread: one streams for ever
			return resp.StatusCode
		}
	}
	out := []credential{
		{"loopback", by(plain, "http://"+loopback.Addr())},
		{"loopback-guarded", by(plain, "http://"+guarded.Addr())},
		{"socket", by(socketHTTP(t, f.Server), "http://divert")},
		{"none", by(f.http(t, ""), f.base)},
		{"bad-token", by(f.http(t, f.ca.client(t, f.dir, "admin-with-a-bad-token")), f.base, "Authorization", "Bearer "+token(9))},
		{"stranger", by(f.http(t, f.ca.client(t, f.dir, "stranger")), f.base)},
		{"token-viewer", by(f.http(t, ""), f.base, "Authorization", "Bearer "+token(1))},
		{"token-admin", by(f.http(t, ""), f.base, "Authorization", "Bearer "+token(2))},
		{"kube", by(f.http(t, ""), f.base, "Authorization", "Bearer kube.a.b")},
		{"kube-stranger", by(f.http(t, ""), f.base, "Authorization", "Bearer strange.a.b")},
		{"kube-unknown", by(f.http(t, f.ca.client(t, f.dir, "admin-with-a-token-of-nobody")), f.base, "Authorization", "Bearer x.a.b")},
		{"kube-away", by(f.http(t, ""), f.base, "Authorization", "Bearer away.a.b")},
	}
	for _, name := range []string{"viewer", "part", "operator", "admin-part", "admin"} {
		out = append(out, credential{name, by(f.http(t, f.ca.client(t, f.dir, name)), f.base)})
	}
	return f, out
}

// TestActions: each route's action has a row of its own in director/access.
func TestActions(t *testing.T) {
	s := &Server{}
	for path, route := range s.table(prometheus.NewRegistry()) {
		for method, end := range route {
			if !end.action.Known() || end.serve == nil {
				t.Errorf("%s %s: action %q", method, path, end.action)
			}
		}
	}
}
