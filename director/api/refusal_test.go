package api

import (
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/director/core"
)

// TestOlderDirector: a director that does not know a route, a method, a parameter, a verb or
// a field is told of as what it is, whatever the client asked it; one that does know and
// says no is not.
func TestOlderDirector(t *testing.T) {
	s := serve(t, newFake()) // the words of now are those of all versions
	c := client(t, "unix:"+s.socket)
	get := func(path string) error {
		var into any
		return c.get(t.Context(), path, nil, &into)
	}
	send := func(body string) error {
		_, err := c.send(t.Context(), "/v1/commands", []byte(body), "", time.Second, nil)
		return err
	}
	post := func(path string) error {
		_, err := c.send(t.Context(), path, nil, "", time.Second, nil)
		return err
	}
	for _, tc := range []struct {
		name  string
		err   error
		older bool
	}{
		{"a route", get("/v1/keyring"), true},
		{"a route that is told something", post("/v1/later"), true},
		{"a method", post("/v1/spec"), true},
		{"a parameter", get("/v1/explain?host=shop.example.org&later=x"), true},
		{"a verb", send(`{"id":"a1","verb":"later"}`), true},
		{"a field", send(`{"id":"a1","verb":"thaw","later":true}`), true},
		{"a host that there is not", get("/v1/explain?host=www.example.net"), false},
		{"what is wrong with a field", send(`{"id":"","verb":"thaw"}`), false},
	} {
		var e *Error
		if !errors.As(tc.err, &e) {
			t.Errorf("%s: got %v", tc.name, tc.err)
			continue
		}
		if older := strings.Contains(e.Reason, "of an older version") && strings.Contains(e.Reason, c.Server) && strings.Contains(e.Remedy, "upgrade it"); older != tc.older {
			t.Errorf("%s: got %v", tc.name, e)
		}
	}
	if _, err := c.Do(t.Context(), core.Command{ID: "a2", Verb: core.Thaw}, time.Second, nil); err != nil {
		t.Errorf("what it knows: %v", err)
	}
}

// TestTLSRemedies: whoever is on the wrong side of TLS is told what to write.
func TestTLSRemedies(t *testing.T) {
	f := serveSecure(t, nil, grant(t, "cert:ann", access.Viewer, "fleet"))
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	stranger := newAuthority(t, "elsewhere")
	at := strings.TrimPrefix(f.base, "https://")
	ended := f.ca.client(t, t.TempDir(), "ann", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	alone := stranger.client(t, t.TempDir(), "ann")
	for _, tc := range []struct {
		name, server string
		with         Credentials
		want         string
	}{
		{"http to TLS", "http://" + at, Credentials{}, "write https://"},
		{"https to none", "https://" + strings.TrimPrefix(plain.URL, "http://"), Credentials{CA: f.caFile}, "write http://"},
		{"nobody signed the director's certificate", f.base, Credentials{}, "--ca FILE"},
		{"another name", "https://localhost:" + at[strings.LastIndex(at, ":")+1:], Credentials{CA: f.caFile}, "by a name or an address that it has"},
		{"a certificate that nobody takes", f.base, Credentials{CA: f.caFile, Cert: alone}, "signed by nobody whom this director takes (api.tls.clientCA"},
		{"one that has ended", f.base, Credentials{CA: f.caFile, Cert: ended}, "must be in force"},
	} {
		c, err := NewClientWith(tc.server, tc.with)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
		}
		if tc.with.Cert == alone { // nothing was sent, so it is refused and not unknown
			if out, err := c.Do(t.Context(), core.Command{ID: "x", Verb: core.Thaw}, time.Second, nil); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: a command gives %+v, %v", tc.name, out, err)
			}
		}
	}
	// A token beside it counts by itself.
	c, err := NewClientWith(f.base, Credentials{CA: f.caFile, Cert: alone, Token: access.FormatSecret([access.SecretBytes]byte{7})})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "not in force") {
		t.Errorf("a token beside a certificate that nobody takes: %v", err)
	}
}
