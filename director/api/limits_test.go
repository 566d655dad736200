package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/divertdns/divert/director/access"
)

// TestLimits: somebody who asks too much waits, and nobody else does; refused credentials
// are logged so often, without what was brought, and keep no good one out.
func TestLimits(t *testing.T) {
	good, bad := access.FormatSecret([access.SecretBytes]byte{1}), access.FormatSecret([access.SecretBytes]byte{2})
	sum, _ := access.SumSecret(good)
	var log bytes.Buffer
	tune := func(s *Server) {
		s.log = slog.New(slog.NewJSONHandler(&log, nil))
		s.asks, s.refused = access.NewLimiter(0, 5, 10), access.NewLimiter(0, 3, 10)
	}
	f := serveSecureWith(t, tune, []access.Bearer{{Name: "ci", Sum: sum, Grant: grant(t, "", access.Viewer, "fleet"), Expires: time.Now().Add(time.Hour)}},
		grant(t, "cert:ann", access.Viewer, "fleet"), grant(t, "cert:ben", access.Viewer, "fleet"))
	status := func(c *http.Client, base string, header ...string) int {
		code, body := ask(t, c, http.MethodGet, base+"/v1/status", "", header...)
		if strings.Contains(body, bad) || strings.Contains(body, good) {
			t.Errorf("a token comes back: %s", body)
		}
		return code
	}
	ann, ben := f.http(t, f.ca.client(t, f.dir, "ann")), f.http(t, f.ca.client(t, f.dir, "ben"))
	var got []int
	for range 7 {
		got = append(got, status(ann, f.base))
	}
	if fmt.Sprint(got) != "[200 200 200 200 200 429 429]" {
		t.Errorf("ann got %v", got)
	}
	if code := status(ben, f.base); code != 200 {
		t.Errorf("another got %d", code)
	}
	if code := status(ann, f.base, "Authorization", "Bearer "+good); code != 200 {
		t.Errorf("ann by a token is another: got %d", code)
	}
	for range 20 { // the machine's own are not held up
		if code := status(socketHTTP(t, f.Server), "http://divert"); code != 200 {
			t.Fatalf("its own user got %d", code)
		}
	}
	none := f.http(t, "")
	got = nil
	for range 5 {
		got = append(got, status(none, f.base, "Authorization", "Bearer "+bad))
	}
	if fmt.Sprint(got) != "[401 401 401 429 429]" {
		t.Errorf("refused ones got %v", got)
	}
	if code := status(none, f.base, "Authorization", "Bearer "+good); code != 200 {
		t.Errorf("a good one from there got %d", code)
	}
	if code := status(none, f.base); code != 401 {
		t.Errorf("without any: got %d", code)
	}
	if n := strings.Count(log.String(), "credential refused"); n != 3 || strings.Contains(log.String(), bad) || strings.Contains(log.String(), bad[len(access.Prefix):]) || !strings.Contains(log.String(), `"from":"127.0.0.1"`) {
		t.Errorf("%d lines are logged:\n%s", n, &log)
	}
	for reason, want := range map[string]float64{deniedUnknown: 6, deniedLimited: 4, deniedForbidden: 0} {
		if got := testutil.ToFloat64(f.metrics.denied.WithLabelValues(reason)); got != want {
			t.Errorf("%s: counted %v, want %v", reason, got, want)
		}
	}
}

func TestNetwork(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:53": "192.0.2.1", "[::ffff:192.0.2.1]:53": "192.0.2.1", "[2001:db8:1:2:3::4]:1": "2001:db8:1:2::/64", "[fe80::1%eth0]:1": "fe80::/64",
		"@": "this machine", "": "this machine",
	} {
		if got := network(remote); got != want {
			t.Errorf("%q: got %s, want %s", remote, got, want)
		}
	}
}

// TestSparse: who breaks off handshakes fills no disk.
func TestSparse(t *testing.T) {
	var out bytes.Buffer
	h := newSparse(slog.NewTextHandler(&out, nil))
	log := slog.NewLogLogger(h, slog.LevelWarn)
	for range 1000 {
		log.Print("http: TLS handshake error")
	}
	if n := strings.Count(out.String(), "\n"); n != linesBurst {
		t.Errorf("%d lines", n)
	}
	out.Reset()
	r := slog.NewRecord(time.Now().Add(time.Minute), slog.LevelWarn, "later", 0)
	if err := h.Handle(t.Context(), r); err != nil || !strings.Contains(out.String(), "left_out=990") {
		t.Errorf("got %s, %v", &out, err)
	}
}

// TestWhoami: each is told who he is, and whether he may; nobody is told of another.
func TestWhoami(t *testing.T) {
	secret := access.FormatSecret([access.SecretBytes]byte{1})
	sum, _ := access.SumSecret(secret)
	until := time.Now().Add(time.Hour)
	f := serveSecure(t, []access.Bearer{{Name: "ci", Sum: sum, Grant: grant(t, "", access.Operator, "cluster/fra"), Expires: until}},
		grant(t, "cert:ann", access.Admin, "zone/example.org", "service/shop"))
	for _, tc := range []struct {
		name            string
		server          string
		with            Credentials
		who, grants     string
		expires         bool
		yes, no, absent string
	}{
		{"a token", f.base, Credentials{Token: secret}, "token:ci", `[{"role":"operator","scopes":["cluster/fra"]}]`, true, "drain cluster/fra", "drain cluster/nyc", "explode"},
		{"a certificate", f.base, Credentials{Cert: f.ca.client(t, f.dir, "ann")}, "cert:ann", `[{"role":"admin","scopes":["zone/example.org","service/shop"]}]`, true, "apply zone/example.org", "apply zone/example.net", "expire"},
		{"a certificate without a grant", f.base, Credentials{Cert: f.ca.client(t, f.dir, "eve")}, "cert:eve", `[]`, true, "", "see", ""},
		{"the socket", "unix:" + f.socket, Credentials{}, "unix:" + me(t), `[{"role":"admin","scopes":["fleet"]}]`, false, "keep", "", "step"},
		{"loopback", "http://" + serve(t, newFake()).Addr(), Credentials{}, "loopback", `[]`, false, "backup", "thaw", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.with.CA = f.caFile
			c, err := NewClientWith(tc.server, tc.with)
			if err != nil {
				t.Fatal(err)
			}
			who, err := c.Whoami(t.Context())
			grants, _ := json.Marshal(who.Grants)
			if err != nil || who.Who != tc.who || string(grants) != tc.grants || (who.Expires != nil) != tc.expires {
				t.Errorf("got %+v, %v", who, err)
			}
			for text, want := range map[string]bool{tc.yes: true, tc.no: false} {
				if text == "" {
					continue
				}
				action, scope, _ := strings.Cut(text, " ")
				can, err := c.Can(t.Context(), action, scope)
				if err != nil || can.Can != want || can.Why == "" || can.Who != tc.who {
					t.Errorf("%s: got %+v, %v", text, can, err)
				}
			}
			if tc.absent != "" {
				if can, err := c.Can(t.Context(), tc.absent, ""); err == nil {
					t.Errorf("%s: got %+v", tc.absent, can)
				}
			}
		})
	}
}

// believing is an Issuer made of values.
type believing map[string]string // token: who

func (b believing) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func (b believing) Identify(token string, now time.Time) (access.Identity, error) {
	who, ok := b[token]
	if !ok {
		return access.Identity{}, errors.New("log in again")
	}
	return access.Identity{Who: who, Method: access.OpenID, Groups: []string{"group:oidc:sre"}, Expires: now.Add(time.Hour)}, nil
}

// TestOpenID: whom a provider names may what the settings grant him, and nothing that the
// token says by itself.
func TestOpenID(t *testing.T) {
	tune := func(s *Server) {
		s.asks, s.refused = nil, nil
		s.issuer = believing{"a.b.c": "oidc:ann", "d.e.f": "oidc:ben"}
	}
	f := serveSecureWith(t, tune, nil, grant(t, "oidc:ann", access.Operator, "cluster/fra"), grant(t, "group:oidc:sre", access.Viewer, "fleet"), grant(t, "cert:ben", access.Admin, "fleet"))
	none := f.http(t, "")
	for _, tc := range []struct {
		token     string
		get, post int
	}{
		{"a.b.c", 200, 200}, {"d.e.f", 200, 403}, {"x.y.z", 401, 401}, {"a.b", 401, 401}, {"a.b.c.d", 401, 401},
	} {
		if got, body := ask(t, none, http.MethodGet, f.base+"/v1/status", "", "Authorization", "Bearer "+tc.token); got != tc.get {
			t.Errorf("%s: GET gave %d: %s", tc.token, got, body)
		}
		got, body := ask(t, none, http.MethodPost, f.base+"/v1/commands", `{"id":"a1","verb":"thaw"}`, "Content-Type", "application/json", "Authorization", "Bearer "+tc.token)
		if got != tc.post {
			t.Errorf("%s: POST gave %d: %s", tc.token, got, body)
		}
	}
	if sent := f.fake.sent(); len(sent) != 1 || sent[0].Author != "oidc:ann" {
		t.Errorf("sent %+v", sent)
	}
}

// reviewing is a Reviews made of values: whatever has ".a.b" is a cluster's.
type reviewing map[string]string // token: who, "" = nobody can tell

func (r reviewing) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func (r reviewing) Review(_ context.Context, from, token string) (id access.Identity, ours bool, err error) {
	who, known := r[token]
	switch {
	case !strings.HasSuffix(token, ".a.b"):
		return id, false, nil
	case token == "hurried.a.b":
		return id, true, fmt.Errorf("%w: from %s", access.ErrHurried, from)
	case !known:
		return id, true, errors.New("cluster fra does not know this token")
	case who == "":
		return id, true, fmt.Errorf("%w: the API server of cluster fra did not answer: timeout", access.ErrUnavailable)
	}
	return access.Identity{Who: who, Method: access.Kube, Groups: []string{"group:kube:fra/system:serviceaccounts"}, Expires: time.Now().Add(time.Hour)}, true, nil
}

// TestServiceAccount: whom a cluster names may what the settings grant him, his groups
// included; where nobody can tell who it is, it is nobody, and is told why; what is no
// cluster's goes to the OpenID provider.
func TestServiceAccount(t *testing.T) {
	tune := func(s *Server) {
		s.asks = nil
		s.issuer = believing{"x.y.z": "oidc:ann"}
		s.reviews = reviewing{"d.a.b": "kube:fra/system:serviceaccount:ops:drills", "o.a.b": "kube:fra/system:serviceaccount:ops:other", "n.a.b": "kube:nyc/system:serviceaccount:ops:drills", "away.a.b": ""}
	}
	f := serveSecureWith(t, tune, nil, grant(t, "kube:fra/system:serviceaccount:ops:drills", access.Operator, "cluster/fra"), grant(t, "group:kube:fra/system:serviceaccounts", access.Viewer, "fleet"),
		grant(t, "oidc:ann", access.Viewer, "fleet"))
	none := f.http(t, "")
	for _, tc := range []struct {
		token     string
		get, post int
		why       string
	}{
		{"d.a.b", 200, 200, ""},
		{"o.a.b", 200, 403, ""},
		{"n.a.b", 200, 403, ""},
		{"x.y.z", 200, 403, ""},
		{"p.q.r", 401, 401, "log in again"},
		{"u.a.b", 401, 401, "cluster fra does not know this token"},
		{"away.a.b", 503, 503, "the API server of cluster fra did not answer: timeout"},
		{"hurried.a.b", 429, 429, "from 127.0.0.1"},
	} {
		got, body := ask(t, none, http.MethodGet, f.base+"/v1/status", "", "Authorization", "Bearer "+tc.token)
		if got != tc.get || !strings.Contains(body, tc.why) || strings.Contains(body, tc.token) {
			t.Errorf("%s: GET gave %d: %s", tc.token, got, body)
		}
		if got, body := ask(t, none, http.MethodPost, f.base+"/v1/commands", `{"id":"a1","verb":"thaw"}`, "Content-Type", "application/json", "Authorization", "Bearer "+tc.token); got != tc.post {
			t.Errorf("%s: POST gave %d: %s", tc.token, got, body)
		}
	}
	if sent := f.fake.sent(); len(sent) != 1 || sent[0].Author != "kube:fra/system:serviceaccount:ops:drills" {
		t.Errorf("sent %+v", sent)
	}
	if got := testutil.ToFloat64(f.metrics.denied.WithLabelValues(deniedUnavailable)); got != 2 {
		t.Errorf("counted %v that nobody could tell of", got)
	}
	c, err := NewClientWith(f.base, Credentials{CA: f.caFile, Token: "d.a.b"})
	if err != nil {
		t.Fatal(err)
	}
	if who, err := c.Whoami(t.Context()); err != nil || who.Method != "kube" || who.Who != "kube:fra/system:serviceaccount:ops:drills" || len(who.Groups) != 1 || len(who.Grants) != 2 || who.Expires == nil {
		t.Errorf("got %+v, %v", who, err)
	}
	if can, err := c.Can(t.Context(), "drain", "cluster/fra"); err != nil || !can.Can {
		t.Errorf("got %+v, %v", can, err)
	}
}
