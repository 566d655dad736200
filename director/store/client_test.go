package store

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/divertdns/divert/election/etcd"
)

// Plans leave this machine only through mutual TLS.
func TestEndpoints(t *testing.T) {
	all := TLS{CA: "ca.pem", Cert: "c.pem", Key: "k.pem"}
	tests := map[string]struct {
		endpoints []string
		tls       TLS
		want      string // part of the error; "" = accepted
	}{
		"none":                {want: "no endpoint"},
		"socket":              {endpoints: []string{"unix:///run/divert/etcd.sock"}},
		"relative socket":     {endpoints: []string{"unix://etcd.sock"}, want: "absolute"},
		"loopback":            {endpoints: []string{"http://127.0.0.1:2379", "http://127.0.0.2:2379", "http://[::1]:2379", "http://localhost:2379"}},
		"plain off loopback":  {endpoints: []string{"http://192.0.2.1:2379"}, want: "mutual TLS"},
		"plain to a name":     {endpoints: []string{"http://etcd.example.org:2379"}, want: "mutual TLS"},
		"TLS":                 {endpoints: []string{"https://etcd.example.org:2379", "https://192.0.2.1:2379"}, tls: all},
		"TLS without a key":   {endpoints: []string{"https://192.0.2.1:2379"}, tls: TLS{CA: "ca.pem"}, want: "etcd.tls"},
		"TLS and plain mixed": {endpoints: []string{"https://192.0.2.1:2379", "http://127.0.0.1:2379"}, tls: all, want: "mixed"},
		"no port":             {endpoints: []string{"https://192.0.2.1"}, tls: all, want: "port"},
		"no scheme":           {endpoints: []string{"192.0.2.1:2379"}, want: "endpoint"},
		"other scheme":        {endpoints: []string{"ftp://127.0.0.1:2379"}, want: "scheme"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := New(Options{Endpoints: tc.endpoints, TLS: tc.tls})
			if got := err == nil; got != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
			if err == nil {
				_ = s.Close()
			}
		})
	}
}

// What etcd cannot be reached for is said at the start, by the file's name.
func TestMissingFileIsNamed(t *testing.T) {
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	files := TLS{CA: ca, Cert: filepath.Join(dir, "c.pem"), Key: filepath.Join(dir, "k.pem")}
	said := func() string {
		var log strings.Builder
		s, err := New(Options{Endpoints: []string{"https://192.0.2.1:2379"}, TLS: files, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
		return log.String()
	}
	if got := said(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, ca) {
		t.Errorf("got %q, want a warning of %s", got, ca)
	}
	if err := os.WriteFile(ca, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := said(); !strings.Contains(got, "no certificate in "+ca) {
		t.Errorf("got %q", got)
	}
}

// A missing certificate keeps a director from etcd, never from starting, and
// is picked up when it comes; a foreign authority is not trusted.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(n string) string { return filepath.Join(dir, n) }
	ca, caKey := issue(t, dir, "ca", nil, nil)
	issue(t, dir, "server", ca, caKey)
	issue(t, dir, "stranger", nil, nil)
	endpoint := serveTLS(t, etcd.TLS{CA: file("ca.pem"), Cert: file("server.pem"), Key: file("server.key")})
	s, err := New(Options{Endpoints: []string{endpoint}, TLS: TLS{CA: file("trusted.pem"), Cert: file("client.pem"), Key: file("client.key")}})
	if err != nil {
		t.Fatalf("without its files: %v", err)
	}
	defer s.Close()
	if _, err := s.Read(t.Context()); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "trusted.pem") {
		t.Errorf("without its files: %v, want the missing one named", err)
	}
	issue(t, dir, "client", ca, caKey)
	copyFile(t, file("stranger.pem"), file("trusted.pem"))
	if _, err := s.Read(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a foreign authority: %v, want ErrUnavailable", err)
	}
	copyFile(t, file("ca.pem"), file("trusted.pem"))
	until(t, "a read with the right files", func() bool {
		_, err := s.Read(t.Context())
		return err == nil
	})
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	raw, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func serveTLS(t *testing.T, files etcd.TLS) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- etcd.Serve(ctx, etcd.ServerOptions{Data: t.TempDir(), Listen: "https://" + addr, TLS: files, Ready: func(e string) { ready <- e }})
	}()
	select {
	case e := <-ready:
		t.Cleanup(func() { cancel(); <-done })
		return e
	case err := <-done:
		cancel()
		t.Fatal(err)
		return ""
	}
}

// issue makes a certificate and key as files, signed by ca or by itself.
func issue(t *testing.T, dir, name string, ca *x509.Certificate, caKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: ca == nil,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if ca == nil {
		ca, caKey = cert, key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, ca, &key.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		name + ".pem": {Type: "CERTIFICATE", Bytes: der},
		name + ".key": {Type: "PRIVATE KEY", Bytes: raw},
	} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed, key
}

func TestMetricsAreLinted(t *testing.T) {
	r := prometheus.NewRegistry()
	m, err := newMetrics(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = m.start("read")(nil)
	problems, err := testutil.GatherAndLint(r)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}
