package fleet

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/divertdns/divert/director/spec"
)

// Who is revoked is so by every certificate that he has or had, by the list of the authority
// that signed it, for all others; and he stays so.
func TestRevoke(t *testing.T) {
	out := filepath.Join(t.TempDir(), "fleet")
	if err := Init(Options{Sites: three(t), Out: out, Now: now}); err != nil {
		t.Fatal(err)
	}
	cert := func(folder, file string) *x509.Certificate {
		t.Helper()
		c, err := readCert(filepath.Join(out, folder, file))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	revoked := func(site, list string) map[string]bool {
		t.Helper()
		raw, err := os.ReadFile(filepath.Join(out, site, list))
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := x509.ParseRevocationList(raw)
		if err != nil {
			t.Fatal(err)
		}
		ca, err := readCert(filepath.Join(out, site, list[:len(list)-4]+"-ca.crt"))
		if err != nil || parsed.CheckSignatureFrom(ca) != nil {
			t.Errorf("%s of %s is not signed by its authority: %v", list, site, err)
		}
		serials := map[string]bool{}
		for _, e := range parsed.RevokedCertificateEntries {
			serials[e.SerialNumber.String()] = true
		}
		return serials
	}
	for _, site := range []string{"fra", "nyc", "sin"} {
		if len(revoked(site, "etcd.crl")) != 0 || len(revoked(site, "api.crl")) != 0 {
			t.Errorf("somebody is revoked from the start at %s", site)
		}
		s, problems := spec.LoadSettings(filepath.Join(out, site, settingsName))
		if len(problems) > 0 || filepath.Base(s.API.TLS.CRL) != "api.crl" || filepath.Base(s.Etcd.Member.TLS.CRL) != "etcd.crl" {
			t.Errorf("the settings of %s name %q and %q: %v", site, s.API.TLS.CRL, s.Etcd.Member.TLS.CRL, problems)
		}
	}
	before := []*x509.Certificate{cert("sin", "etcd.crt"), cert("sin", "etcd-client.crt")}
	laid, err := Open(out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := laid.Renew(now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := laid.Revoke("lon", now); err == nil {
		t.Error("revoked who is not there")
	}
	for _, name := range []string{"sin", operators} {
		if _, watched, err := laid.Revoke(name, now.Add(2*time.Hour)); err != nil || !watched {
			t.Fatalf("%s: %v, %v", name, watched, err)
		}
	}
	for _, site := range []string{"fra", "nyc"} {
		etcd, api := revoked(site, "etcd.crl"), revoked(site, "api.crl")
		for _, c := range append(before, cert("sin", "etcd.crt"), cert("sin", "etcd-client.crt")) {
			if !etcd[c.SerialNumber.String()] {
				t.Errorf("%s takes a certificate of %s", site, c.Subject.CommonName)
			}
		}
		for what, yes := range map[*x509.Certificate]bool{cert("sin", "api.crt"): true, cert(operators, "admin.pem"): true, cert("fra", "api.crt"): false} {
			if api[what.SerialNumber.String()] != yes {
				t.Errorf("%s: that %s is revoked is %v", site, what.Subject.CommonName, !yes)
			}
		}
		if etcd[cert("fra", "etcd.crt").SerialNumber.String()] || len(etcd) != 4 {
			t.Errorf("%s: %d are revoked, want 4", site, len(etcd))
		}
	}
	if _, err := laid.Join(Site{Name: "lon", Host: "192.0.2.33"}, "", now); err != nil {
		t.Fatal(err)
	}
	if !revoked("lon", "api.crl")[cert("sin", "api.crt").SerialNumber.String()] {
		t.Error("a further site does not know who is revoked")
	}
}
