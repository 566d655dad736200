package keypair

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
)

// signed makes an authority, and a list that it signed.
func signed(t testing.TB, serials ...int64) (ca, list []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	// Its next update was due long ago: it holds all the same.
	revoked := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-48 * time.Hour), NextUpdate: time.Now().Add(-24 * time.Hour)}
	for _, n := range serials {
		revoked.RevokedCertificateEntries = append(revoked.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(n), RevocationTime: time.Now()})
	}
	if list, err = x509.CreateRevocationList(rand.Reader, revoked, cert, key); err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), list
}

func TestCRL(t *testing.T) {
	ca, list := signed(t, 7, 9)
	other, foreign := signed(t, 7)
	inPEM := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list})
	for what, tc := range map[string]struct {
		list, authorities []byte
		want              string // part of the error; "" = taken
	}{
		"DER":               {list, ca, ""},
		"PEM":               {inPEM, ca, ""},
		"two authorities":   {list, append(append([]byte{}, other...), ca...), ""},
		"another authority": {foreign, ca, "signed by none"},
		"altered":           {append(append([]byte{}, list[:len(list)-1]...), list[len(list)-1]^1), ca, "signed by none"},
		"cut short":         {list[:len(list)/2], ca, "reading a list"},
		"empty":             {nil, ca, "reading a list"},
		"a certificate":     {ca, ca, "reading a list"},
	} {
		got, err := parseCRL(tc.list, tc.authorities)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", what, err, tc.want)
		}
		if err == nil && (len(got) != 2 || !got["7"] || !got["9"]) {
			t.Errorf("%s: got %v", what, got)
		}
	}
}

func FuzzCRL(f *testing.F) {
	ca, list := signed(f, 7)
	f.Add(list)
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if got, err := parseCRL(raw, ca); err == nil && (len(got) != 1 || !got["7"]) {
			t.Errorf("took %v, which the authority did not sign", got)
		}
	})
}
