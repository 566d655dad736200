package api

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"testing"
	"time"

	"github.com/divertdns/divert/director/access"
)

// revoke writes a list of revoked certificates, signed by the authority.
func (a *authority) revoke(t *testing.T, path string, serials ...*big.Int) {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(time.Now().UnixNano()), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for _, serial := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, "", path, der)
}

// TestRevoked: who is in the list of revoked certificates is nobody from then on, by a
// connection that is open too, without a restart; others are who they were; and a list that
// another authority signed changes nothing.
func TestRevoked(t *testing.T) {
	f := serveSecureBy(t, "crl", func(s *Server) { s.asks, s.refused = nil, nil }, nil, grant(t, "cert:ann", access.Viewer, "fleet"), grant(t, "cert:bob", access.Viewer, "fleet"))
	leaf, _, cert, key := f.ca.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "ann"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	ann, bob := f.http(t, writeFile(t, f.dir, "ann.pem", append(cert, key...))), f.http(t, f.ca.client(t, f.dir, "bob"))
	status := func(c *http.Client) int {
		resp, err := c.Get(f.base + "/v1/status")
		if err != nil {
			return 0
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	until := func(what string, c *http.Client, want int) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); status(c) != want; {
			if time.Now().After(end) {
				t.Fatalf("%s: got %d, want %d", what, status(c), want)
			}
		}
	}
	if got := status(ann); got != 0 {
		t.Errorf("without the list that is named: got %d, want no connection", got)
	}
	f.ca.revoke(t, f.files.CRL)
	until("nobody is revoked", ann, 200)
	until("nobody is revoked", bob, 200)
	_, before := f.Server.files.Looks()
	newAuthority(t, "fleet").revoke(t, f.files.CRL, leaf.SerialNumber)
	for refused := before; refused == before; _, refused = f.Server.files.Looks() { // it is looked at each millisecond
		<-time.After(time.Millisecond)
	}
	if got := status(ann); got != 200 {
		t.Errorf("a list of another authority: got %d", got)
	}
	f.ca.revoke(t, f.files.CRL, leaf.SerialNumber)
	until("ann is revoked", ann, 401)
	if got := status(bob); got != 200 {
		t.Errorf("bob, who is not: got %d", got)
	}
}
