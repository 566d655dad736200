package fleet

import (
	"bufio"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	// replacedName is a file beside the authorities: the serial numbers of certificates that
	// Renew replaced, which are good until they end.
	replacedName = "replaced"
	maxReplaced  = 1 << 20 // octets
)

// lists are the lists of revoked certificates: the authority's, and what it is called in the
// folder of a site.
var lists = []struct{ authority, file string }{{"etcd-ca", "etcd.crl"}, {"api-ca", "api.crl"}}

// crl signs a list of what the authority has revoked, in DER, as etcd reads it. Its next
// update is due when the authority ends: nobody who reads it goes by that.
func (a *Authority) crl(revoked []x509.RevocationListEntry, now time.Time) ([]byte, error) {
	list := &x509.RevocationList{Number: big.NewInt(now.UnixNano()), ThisUpdate: now.Add(-backdate), NextUpdate: a.Cert.NotAfter, RevokedCertificateEntries: revoked}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.Cert, a.key)
	if err != nil {
		return nil, fmt.Errorf("signing what %s has revoked: %w", a.Cert.Subject.CommonName, err)
	}
	return der, nil
}

// Revoke takes every certificate back that stands in a folder or stood there before it was
// renewed: that of a site, or "operator". It writes the lists anew for all other sites, and
// gives their files. Watched says whether their settings name the lists: older ones do not.
func (l Laid) Revoke(name string, now time.Time) (files []string, watched bool, err error) {
	if name != operators && !slices.ContainsFunc(l.Sites, func(s Site) bool { return s.Name == name }) {
		return nil, false, fmt.Errorf("%s is neither a site of %s nor %s", name, l.Dir, operators)
	}
	watched = true
	for _, list := range lists {
		a, err := l.authority(list.authority)
		if err != nil {
			return nil, false, err
		}
		serials, err := l.serials(name, a)
		if err != nil {
			return nil, false, err
		}
		master := l.file(authorities, list.authority+".crl")
		var revoked []x509.RevocationListEntry
		raw, err := os.ReadFile(master)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			watched = false
		case err != nil:
			return nil, false, err
		default:
			old, err := x509.ParseRevocationList(raw)
			if err != nil {
				return nil, false, fmt.Errorf("reading %s: %w", master, err)
			}
			revoked = old.RevokedCertificateEntries
		}
		for _, serial := range serials {
			if !slices.ContainsFunc(revoked, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Cmp(serial) == 0 }) {
				revoked = append(revoked, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: now})
			}
		}
		der, err := a.crl(revoked, now)
		if err != nil {
			return nil, false, err
		}
		w := writer{dir: l.file(authorities)}
		w.bytes(list.authority+".crl", der)
		for _, s := range l.Sites {
			w.dir = l.file(s.Name)
			if s.Name != name {
				w.bytes(list.file, der)
			}
		}
		if w.err != nil {
			return nil, false, w.err
		}
		files = append(files, list.file)
	}
	return files, watched, nil
}

// serials finds what an authority has signed for a name and is not known to be ended.
func (l Laid) serials(name string, a *Authority) (out []*big.Int, err error) {
	for _, file := range []string{"etcd.crt", "etcd-client.crt", "api.crt", adminName + ".pem"} {
		cert, err := readCert(l.file(name, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if cert.CheckSignatureFrom(a.Cert) == nil {
			out = append(out, cert.SerialNumber)
		}
	}
	f, err := os.Open(l.file(authorities, replacedName))
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) != 3 || words[0] != hexOf(a.Cert.SerialNumber) || words[1] != name {
			continue
		}
		if serial, ok := new(big.Int).SetString(words[2], 16); ok {
			out = append(out, serial)
		}
	}
	return out, nil
}

func hexOf(serial *big.Int) string { return serial.Text(16) }

// replaced notes that a certificate of a folder is about to be replaced: it is good until it
// ends, and Revoke is to know of it.
func (l Laid) replaced(a *Authority, name string, old *x509.Certificate) error {
	path := l.file(authorities, replacedName)
	if info, err := os.Stat(path); err == nil && info.Size() > maxReplaced {
		return fmt.Errorf("%s is too long: take out lines of certificates that have ended", path)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, hexOf(a.Cert.SerialNumber), name, hexOf(old.SerialNumber))
	return errors.Join(err, f.Sync(), f.Close())
}
