package keypair

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pair makes a certificate of a name, and its key, as PEM.
func pair(t testing.TB, name string, until time.Time) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: until.Add(-48 * time.Hour), NotAfter: until,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

func writePair(t testing.TB, o Options, cert, key []byte) {
	t.Helper()
	for name, data := range map[string][]byte{o.Cert: cert, o.Key: key} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A new pair is taken when both files hold it; what is no good leaves the old one,
// is counted and said once.
func TestCertificateReload(t *testing.T) {
	dir := t.TempDir()
	o := Options{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	now := time.Now()
	one, oneKey := pair(t, "one", now.Add(time.Hour))
	two, twoKey := pair(t, "two", now.Add(time.Hour))
	old, oldKey := pair(t, "old", now.Add(-time.Hour))
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	writePair(t, o, one, oneKey)
	o.Log = logger
	c := New(o, now)
	for _, step := range []struct {
		name      string
		cert, key []byte
		looks     int
		want      string
		good, bad uint64
	}{
		{"nothing new", one, oneKey, 3, "one", 0, 0},
		{"half written", two, oneKey, 1, "one", 0, 0},
		{"written", two, twoKey, 1, "one", 0, 0},
		{"and stands", two, twoKey, 1, "two", 1, 0},
		{"another's key", two, oneKey, 4, "two", 1, 1},
		{"the old one back", two, twoKey, 2, "two", 1, 1},
		{"expired", old, oldKey, 4, "two", 1, 2},
		{"no PEM", []byte("x"), nil, 4, "two", 1, 3},
		{"new", one, oneKey, 2, "one", 2, 3},
	} {
		writePair(t, o, step.cert, step.key)
		for range step.looks {
			c.look(now)
		}
		if got := c.Current().Leaf.Subject.CommonName; got != step.want || c.renewed.Load() != step.good || c.refused.Load() != step.bad {
			t.Errorf("%s: got %s, %d good, %d bad; want %s, %d, %d", step.name, got, c.renewed.Load(), c.refused.Load(), step.want, step.good, step.bad)
		}
	}
	if err := os.Remove(o.Key); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		c.look(now)
	}
	if got := c.Current().Leaf.Subject.CommonName; got != "one" || c.refused.Load() != 4 {
		t.Errorf("a file gone: got %s, %d bad", got, c.refused.Load())
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 4 {
		t.Errorf("%d errors logged:\n%s", n, &log)
	}
}

// TestRoots: who signs clients comes into force with the pair, and a file that holds
// no certificate leaves all as it was.
func TestRoots(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	o := Options{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), CA: filepath.Join(dir, "ca.pem")}
	cert, key := pair(t, "one", now.Add(time.Hour))
	writePair(t, o, cert, key)
	f := New(o, now)
	if f.Current() != nil {
		t.Error("a pair is in force without its CA")
	}
	for _, step := range []struct {
		name, ca string
		want     bool
	}{
		{"no certificate", "x", false},
		{"one", string(cert), true},
		{"gone bad", "x", true},
	} {
		if err := os.WriteFile(o.CA, []byte(step.ca), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			f.look(now)
		}
		if got := f.Current() != nil && f.Current().Roots != nil; got != step.want {
			t.Errorf("%s: got %v, want %v", step.name, got, step.want)
		}
	}
}
