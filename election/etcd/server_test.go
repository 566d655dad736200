package etcd

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
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Who reaches an etcd can write plans: off loopback only mutual TLS is served.
func TestListenRefused(t *testing.T) {
	all := TLS{CA: "ca.pem", Cert: "c.pem", Key: "k.pem"}
	tests := map[string]struct {
		listen string
		tls    TLS
		want   string // part of the error; "" = accepted
	}{
		"loopback":               {listen: "http://127.0.0.1:2379"},
		"loopback, another":      {listen: "http://127.9.0.3:2379"},
		"loopback v6":            {listen: "http://[::1]:2379"},
		"localhost":              {listen: "http://localhost:2379"},
		"socket":                 {listen: "unix:///run/divert/etcd.sock"},
		"mutual TLS":             {listen: "https://192.0.2.7:2379", tls: all},
		"plain off loopback":     {listen: "http://192.0.2.7:2379", want: "mutual TLS"},
		"plain everywhere":       {listen: "http://0.0.0.0:2379", want: "mutual TLS"},
		"plain everywhere v6":    {listen: "http://[::]:2379", want: "mutual TLS"},
		"server TLS alone":       {listen: "https://192.0.2.7:2379", tls: TLS{Cert: "c.pem", Key: "k.pem"}, want: "wants a CA"},
		"certificate for http":   {listen: "http://127.0.0.1:2379", tls: all, want: "write https"},
		"certificate for socket": {listen: "unix:///run/s", tls: all, want: "leave the certificate out"},
		"name":                   {listen: "http://etcd.example.org:2379", want: "not an IP address"},
		"no port":                {listen: "http://127.0.0.1", want: "and port"},
		"no scheme":              {listen: "127.0.0.1:2379", want: "listen address"},
		"other scheme":           {listen: "ftp://127.0.0.1:2379", want: "scheme"},
		"path":                   {listen: "http://127.0.0.1:2379/v3", want: "alone"},
		"relative socket":        {listen: "unix://etcd.sock", want: "absolute"},
		"long socket":            {listen: "unix:///" + strings.Repeat("x", 110), want: "shorter"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := parseListen(tc.listen, tc.tls)
			if got := err == nil; got != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("parseListen(%q) = %v, want an error with %q", tc.listen, err, tc.want)
			}
		})
	}
}

func TestServeKeepsWhatWasWritten(t *testing.T) {
	t.Parallel()
	o := ServerOptions{Data: filepath.Join(t.TempDir(), "data"), Listen: socket(t)}
	endpoint, stop := serve(t, o)
	info, err := os.Stat(strings.TrimPrefix(endpoint, "unix://"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v %v, want mode 0600", info.Mode(), err)
	}
	put, err := client(t, endpoint).Put(t.Context(), "k", "v")
	if err != nil {
		t.Fatal(err)
	}

	// The same directory, and the same socket, are refused while in use.
	if err := Serve(t.Context(), ServerOptions{Data: o.Data, Listen: socket(t)}); !errors.Is(err, ErrLocked) {
		t.Errorf("second server on one directory: %v, want ErrLocked", err)
	}
	if err := Serve(t.Context(), ServerOptions{Data: t.TempDir(), Listen: o.Listen}); err == nil || !strings.Contains(err.Error(), "served by another process") {
		t.Errorf("second server on one socket: %v", err)
	}

	if err := stop(); err != nil {
		t.Fatalf("stop: %v", err)
	}
	endpoint, _ = serve(t, o)
	get, err := client(t, endpoint).Get(t.Context(), "k")
	if err != nil || len(get.Kvs) != 1 || get.Header.ClusterId != put.Header.ClusterId {
		t.Fatalf("after restart: %v %v", get, err)
	}

	// A store that replaces another is told by its cluster ID (F25).
	endpoint, _ = serve(t, ServerOptions{Data: t.TempDir(), Listen: socket(t)})
	other, err := client(t, endpoint).Get(t.Context(), "k")
	if err != nil || other.Header.ClusterId == put.Header.ClusterId {
		t.Errorf("another store has cluster ID %x, as the first (%v)", other.Header.ClusterId, err)
	}
}

func TestServePortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = Serve(t.Context(), ServerOptions{Data: t.TempDir(), Listen: "http://" + l.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "cannot listen on "+l.Addr().String()) {
		t.Errorf("got %v, want the address named", err)
	}
}

func TestServeMutualTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, caKey := issue(t, dir, "ca", nil, nil)
	issue(t, dir, "server", ca, caKey)
	issue(t, dir, "client", ca, caKey)
	file := func(n string) string { return filepath.Join(dir, n) }
	endpoint, _ := serve(t, ServerOptions{
		Data: t.TempDir(), Listen: "https://" + freePort(t),
		TLS: TLS{CA: file("ca.pem"), Cert: file("server.pem"), Key: file("server.key")},
	})
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	ask := func(patience time.Duration, certs ...tls.Certificate) error {
		c, err := clientv3.New(clientv3.Config{
			Endpoints: []string{endpoint}, Logger: zap.NewNop(), MaxUnaryRetries: 3,
			TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: certs},
		})
		if err != nil {
			return err
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err = c.Get(ctx, "k")
		return err
	}
	pair, err := tls.LoadX509KeyPair(file("client.pem"), file("client.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := ask(10*time.Second, pair); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	if err := ask(time.Second); err == nil {
		t.Error("without a certificate: served, want refused")
	}
}

// issue makes a certificate and key as files, signed by ca or by itself.
func issue(t *testing.T, dir, name string, ca *x509.Certificate, caKey *ecdsa.PrivateKey, change ...func(*x509.Certificate)) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: ca == nil,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	for _, f := range change {
		f(cert)
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
