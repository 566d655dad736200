package api

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/director/core"
)

// authority is a small CA of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key, a.pem, _ = a.issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	})
	return a
}

// issue signs a certificate, of itself where the authority has none yet, and gives both
// halves as PEM.
func (a *authority) issue(t *testing.T, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey, []byte, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(time.Hour)
	}
	c.NotBefore = c.NotAfter.Add(-48 * time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

// client writes a client's certificate and key into one file.
func (a *authority) client(t *testing.T, dir, name string, change ...func(*x509.Certificate)) string {
	t.Helper()
	c := &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, f := range change {
		f(c)
	}
	_, _, cert, key := a.issue(t, c)
	return writeFile(t, dir, name+".pem", append(cert, key...))
}

// server writes what a director shows of itself.
func (a *authority) server(t *testing.T, o TLSOptions, name string) {
	t.Helper()
	_, _, cert, key := a.issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	})
	writeFile(t, "", o.Cert, cert)
	writeFile(t, "", o.Key, key)
}

func writeFile(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// secureFleet is a server with TLS, its files and who signed them.
type secureFleet struct {
	*Server
	fake   *fake
	ca     *authority
	dir    string
	files  TLSOptions
	caFile string
	base   string
}

func grant(t *testing.T, who string, role access.Role, scopes ...string) access.Grant {
	t.Helper()
	g := access.Grant{Who: who, Role: role}
	for _, text := range scopes {
		s, err := access.ParseScope(text)
		if err != nil {
			t.Fatal(err)
		}
		g.Scopes = append(g.Scopes, s)
	}
	return g
}

func serveSecure(t *testing.T, bearers []access.Bearer, grants ...access.Grant) *secureFleet {
	t.Helper()
	return serveSecureWith(t, func(s *Server) { s.asks, s.refused = nil, nil }, bearers, grants...) // TestLimits has its own
}

// serveSecureWith changes the server before it runs.
func serveSecureWith(t *testing.T, tune func(*Server), bearers []access.Bearer, grants ...access.Grant) *secureFleet {
	t.Helper()
	return serveSecureBy(t, "", tune, bearers, grants...)
}

// serveSecureBy names a list of revoked certificates, too, in the fleet's folder; "" = none.
func serveSecureBy(t *testing.T, crl string, tune func(*Server), bearers []access.Bearer, grants ...access.Grant) *secureFleet {
	t.Helper()
	f := &secureFleet{fake: newFake(), ca: newAuthority(t, "fleet"), dir: t.TempDir()}
	f.files = TLSOptions{Cert: filepath.Join(f.dir, "d1.pem"), Key: filepath.Join(f.dir, "d1.key"), ClientCA: filepath.Join(f.dir, "ca.pem")}
	if crl != "" {
		f.files.CRL = filepath.Join(f.dir, crl)
	}
	f.ca.server(t, f.files, "d1.example.net")
	f.caFile = writeFile(t, f.dir, "ca.pem", f.ca.pem)
	s, err := NewServer(Options{
		Director: f.fake, Listen: "127.0.0.1:0", TLS: f.files, Socket: filepath.Join(f.dir, SocketName), Grants: grants,
		Bearers: func() []access.Bearer { return bearers },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.look, f.Server, f.base = time.Millisecond, s, "https://"+s.Addr()
	tune(s)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return f
}

// http is a plain client that shows a certificate, "" for none.
func (f *secureFleet) http(t *testing.T, cert string, change ...func(*tls.Config)) *http.Client {
	t.Helper()
	config, err := Credentials{CA: f.caFile, Cert: cert}.config()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(config)
	}
	transport := &http.Transport{TLSClientConfig: config}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

// TestCertificates: who is signed by the fleet's CA is known by name, and may what he was
// granted; anybody else is not known, or gets no connection.
func TestCertificates(t *testing.T) {
	f := serveSecure(t, nil,
		grant(t, "cert:ann", access.Operator, "cluster/fra"), grant(t, "group:cert:sre", access.Viewer, "fleet"), grant(t, "unix:ben", access.Admin, "fleet"))
	stranger := newAuthority(t, "fleet")
	tests := []struct {
		name, cert string
		get, post  int // 0: no connection
	}{
		{"ann", f.ca.client(t, f.dir, "ann"), 200, 200},
		{"of a group", f.ca.client(t, f.dir, "eve", func(c *x509.Certificate) { c.Subject.Organization = []string{"sre"} }), 200, 403},
		{"granted nothing", f.ca.client(t, f.dir, "bob"), 403, 403},
		{"a user of the system is no certificate", f.ca.client(t, f.dir, "unix:ben"), 403, 403},
		{"nor is one of that name", f.ca.client(t, f.dir, "ben"), 403, 403},
		{"no certificate", "", 401, 401},
		{"of another CA", stranger.client(t, f.dir, "ann2", func(c *x509.Certificate) { c.Subject.CommonName = "ann" }), 0, 0},
		{"expired", f.ca.client(t, f.dir, "old", func(c *x509.Certificate) {
			c.Subject.CommonName, c.NotAfter = "ann", time.Now().Add(-time.Minute)
		}), 0, 0},
		{"a server's", f.ca.client(t, f.dir, "srv", func(c *x509.Certificate) {
			c.Subject.CommonName, c.ExtKeyUsage = "ann", []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), 0, 0},
		{"without a name", f.ca.client(t, f.dir, "none", func(c *x509.Certificate) { c.Subject.CommonName = "" }), 401, 401},
		{"a name that draws", f.ca.client(t, f.dir, "esc", func(c *x509.Certificate) { c.Subject.CommonName = "ann\x1b[2J" }), 401, 401},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			c := f.http(t, tc.cert)
			if tc.get == 0 {
				if resp, err := c.Get(f.base + "/healthz"); err == nil {
					resp.Body.Close()
					t.Errorf("got %d, want no connection", resp.StatusCode)
				}
				return
			}
			if got, body := ask(t, c, http.MethodGet, f.base+"/v1/status", ""); got != tc.get {
				t.Errorf("GET gave %d, want %d: %s", got, tc.get, body)
			}
			got, body := ask(t, c, http.MethodPost, f.base+"/v1/commands", `{"id":"a1","verb":"thaw","author":"root"}`, "Content-Type", "application/json")
			if got != tc.post {
				t.Errorf("POST gave %d, want %d: %s", got, tc.post, body)
			}
			if got, _ := ask(t, c, http.MethodGet, f.base+"/healthz", ""); got != 200 {
				t.Errorf("healthz gave %d", got)
			}
		})
	}
	sent := f.fake.sent()
	if len(sent) != 1 || sent[0].Author != "cert:ann" || sent[0].Who() != "cert:ann (root)" || len(sent[0].By.Grants) != 1 {
		t.Errorf("sent %+v, want ann's, with what ann was granted", sent)
	}
}

// TestOldTLS: nothing below TLS 1.3 gets a connection, nor one that resumes.
func TestOldTLS(t *testing.T) {
	f := serveSecure(t, nil, grant(t, "cert:ann", access.Viewer, "fleet"))
	cert := f.ca.client(t, f.dir, "ann")
	old := f.http(t, cert, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 })
	if resp, err := old.Get(f.base + "/healthz"); err == nil {
		resp.Body.Close()
		t.Error("TLS 1.2 got a connection")
	}
	cache := tls.NewLRUClientSessionCache(1)
	c := f.http(t, cert, func(c *tls.Config) { c.ClientSessionCache = cache })
	for range 2 {
		resp, err := c.Get(f.base + "/v1/status")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.TLS.Version != tls.VersionTLS13 || resp.TLS.DidResume || resp.TLS.NegotiatedProtocol == "h2" {
			t.Errorf("version %x, resumed %v, protocol %q", resp.TLS.Version, resp.TLS.DidResume, resp.TLS.NegotiatedProtocol)
		}
		c.CloseIdleConnections()
	}
}

// TestSecureGuard: also with TLS a page elsewhere reads nothing, by whatever name.
func TestSecureGuard(t *testing.T) {
	f := serveSecure(t, nil, grant(t, "cert:ann", access.Viewer, "fleet"))
	c := f.http(t, f.ca.client(t, f.dir, "ann"))
	tests := []struct {
		header, value string
		want          int
	}{
		{"Host", "d1.example.net", 200},
		{"Host", "D1.example.net:443", 200},
		{"Host", "127.0.0.1:1", 200},
		{"Host", "d2.example.net", 403},
		{"Host", "localhost", 403},
		{"Host", "d1.example.net.evil.example", 403},
		{"Host", "[::1]", 403},
		{"Origin", f.base, 200},
		{"Origin", "http://" + f.Addr(), 403},
		{"Origin", "https://evil.example.net", 403},
		{"Origin", "null", 403},
	}
	for _, tc := range tests {
		if got, body := ask(t, c, http.MethodGet, f.base+"/v1/status", "", tc.header, tc.value); got != tc.want {
			t.Errorf("%s %s: got %d, want %d: %s", tc.header, tc.value, got, tc.want, body)
		}
	}
}

// TestRenewal: a new certificate, and another CA of clients, are in force without a
// restart; who was signed by the old one is known no more.
func TestRenewal(t *testing.T) {
	f := serveSecure(t, nil, grant(t, "cert:ann", access.Viewer, "fleet"))
	before := f.ca.client(t, f.dir, "ann")
	client, err := NewClientWith(f.base, Credentials{CA: f.caFile, Cert: before})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := client.Status(t.Context()); err != nil || s.Director != "d1" {
		t.Fatalf("got %+v, %v", s, err)
	}
	client.http.CloseIdleConnections()
	next := newAuthority(t, "next")
	next.server(t, f.files, "d1.example.net")
	writeFile(t, f.dir, "ca.pem", next.pem)
	after := next.client(t, f.dir, "ann2", func(c *x509.Certificate) { c.Subject.CommonName = "ann" })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		c, err := NewClientWith(f.base, Credentials{CA: f.caFile, Cert: after})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = c.Status(ctx); err == nil {
			c.http.CloseIdleConnections()
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("the new one is not in force: %v", err)
		}
	}
	old, err := NewClientWith(f.base, Credentials{CA: f.caFile, Cert: before})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.Status(t.Context()); err == nil {
		t.Error("who was signed by the old CA is known yet")
	}
}

// TestSharedSocket: where users of the system are granted something the socket is open to
// them, and who was granted nothing is hung up on.
func TestSharedSocket(t *testing.T) {
	f := serveSecure(t, nil, grant(t, "unix:nobody-here", access.Viewer, "fleet"))
	info, err := os.Stat(f.socket)
	if err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("mode %v, %v; want it open to whom something is granted", info.Mode(), err)
	}
	if got, _ := ask(t, socketHTTP(t, f.Server), http.MethodGet, "http://divert/v1/status", ""); got != 200 {
		t.Errorf("its own user got %d", got)
	}
	inner, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	l := vetting{Listener: inner, admits: func(net.Conn) bool { n++; return n > 1 }}
	defer l.Close()
	first, err := net.Dial("unix", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := net.Dial("unix", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := first.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("who was granted nothing read %v, want that he is hung up on", err)
	}
}

// TestBearers: a token counts on every listener, and nothing beside it does; a revoked one
// ends what was begun with it.
func TestBearers(t *testing.T) {
	secret := access.FormatSecret([access.SecretBytes]byte{7})
	sum, _ := access.SumSecret(secret)
	bearers := []access.Bearer{{Name: "ci", Sum: sum, Grant: grant(t, "", access.Operator, "cluster/fra"), Expires: time.Now().Add(time.Hour)}}
	f := newFake()
	current := make(chan []access.Bearer, 1)
	current <- bearers
	s := serve(t, f, func(s *Server) {
		s.keepAlive = time.Millisecond
		s.bearers = func() []access.Bearer { now := <-current; current <- now; return now }
	})
	for _, via := range []struct {
		name string
		http *http.Client
		base string
	}{{"loopback", http.DefaultClient, "http://" + s.Addr()}, {"socket", socketHTTP(t, s), "http://divert"}} {
		for _, tc := range []struct {
			header string
			want   int
		}{
			{"Bearer " + secret, 200},
			{"bearer " + secret, 200},
			{"Bearer " + access.FormatSecret([access.SecretBytes]byte{8}), 401},
			{"Bearer", 401},
			{"Basic " + secret, 401},
			{secret, 401},
		} {
			got, body := ask(t, via.http, http.MethodPost, via.base+"/v1/commands", `{"id":"a1","verb":"thaw"}`, "Content-Type", "application/json", "Authorization", tc.header)
			if got != tc.want || strings.Contains(body, secret) {
				t.Errorf("%s, %.12s…: got %d, want %d: %s", via.name, tc.header, got, tc.want, body)
			}
		}
	}
	for _, c := range f.sent() {
		if c.Author != "token:ci" {
			t.Errorf("a command of %s", c.Author)
		}
	}
	client, err := NewClientWith("http://"+s.Addr(), Credentials{Token: secret})
	if err != nil {
		t.Fatal(err)
	}
	err = client.Watch(t.Context(), func(Status) error {
		<-current
		current <- nil // revoked
		return nil
	})
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("whoever follows with a revoked token got %v", err)
	}
	if _, err := client.Do(t.Context(), core.Command{ID: "a2", Verb: core.Thaw}, time.Second, nil); err == nil || !strings.Contains(err.Error(), "not in force") {
		t.Errorf("got %v", err)
	}
	if _, err := NewClientWith("http://192.0.2.1:8053", Credentials{Token: secret}); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("a token would go over the network in the clear: %v", err)
	}
}
