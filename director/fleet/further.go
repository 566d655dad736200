package fleet

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/spec"
)

// Laid is a folder that Init laid out.
type Laid struct {
	Dir   string
	Sites []Site // by name, with what Join has added
}

// Open reads what sites a folder is laid out for.
func Open(dir string) (Laid, error) {
	l := Laid{Dir: dir}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return l, fmt.Errorf("reading what was laid out: %w", err)
	}
	for _, e := range entries {
		cert, err := readCert(filepath.Join(dir, e.Name(), "api.crt"))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return l, err
		}
		hosts := hostsOf(cert)
		if len(hosts) != 1 {
			return l, fmt.Errorf("%s is for %d hosts: `divert fleet init` makes certificates for one", filepath.Join(dir, e.Name(), "api.crt"), len(hosts))
		}
		l.Sites = append(l.Sites, Site{Name: e.Name(), Host: hosts[0]})
	}
	if len(l.Sites) == 0 {
		return l, fmt.Errorf("%s holds no site: name the folder that `divert fleet init` made", dir)
	}
	return l, nil
}

func (l Laid) file(parts ...string) string {
	return filepath.Join(append([]string{l.Dir}, parts...)...)
}

// authority reads one of the two.
func (l Laid) authority(name string) (*Authority, error) {
	a, err := LoadAuthority(l.file(authorities, name+".crt"), l.file(authorities, name+".key"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not there: bring the folder %s back from where it is kept", l.file(authorities, name+".key"), authorities)
	}
	return a, err
}

// members lists the sites that run etcd.
func (l Laid) members() []Site {
	return slices.DeleteFunc(slices.Clone(l.Sites), func(s Site) bool {
		_, err := os.Stat(l.file(s.Name, "etcd.crt"))
		return err != nil
	})
}

// Join lays out a further site, which runs no etcd of its own, and gives its director's
// public key, by which people take it in. GossipKey is a file with the key that the fleet
// gossips under now; "" = as it was laid out.
func (l Laid) Join(s Site, gossipKey string, now time.Time) (key string, err error) {
	if slices.ContainsFunc(l.Sites, func(o Site) bool { return o.Name == s.Name || o.Host == s.Host }) {
		return "", fmt.Errorf("site %s, or its address %s, is one of the fleet's already", s.Name, s.Host)
	}
	first := l.Sites[0].Name
	if gossipKey == "" {
		gossipKey = l.file(first, "gossip.key")
	}
	secrets, err := gossip.LoadSecrets(gossipKey)
	if err != nil {
		return "", err
	}
	if len(secrets) != 1 {
		return "", fmt.Errorf("%s holds two keys: wait until the turn-over is complete (`divert keys status`)", gossipKey)
	}
	port, err := l.port()
	if err != nil {
		return "", err
	}
	etcd, err := l.authority("etcd-ca")
	if err != nil {
		return "", err
	}
	api, err := l.authority("api-ca")
	if err != nil {
		return "", err
	}
	return key, whole(l.file(s.Name), func(dir string) error {
		public, err := gossip.MakeIdentity(folder(dir, "data"), s.Name)
		if err != nil {
			return err
		}
		key = spec.FormatKey(public)
		w := writer{dir: dir}
		w.text("gossip.key", base64.StdEncoding.EncodeToString(secrets[0])+"\n")
		crl, err := os.ReadFile(l.file(authorities, "api-ca.crl"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		w.text(settingsName, settings(s, append(slices.Clone(l.Sites), s), l.members(), layout{port: port, crl: len(crl) > 0}))
		if len(crl) > 0 {
			w.bytes("api.crl", crl)
		}
		w.certificates(s, false, etcd, api, now)
		return w.err
	})
}

// port is where the sites answer DNS, by the first that does.
func (l Laid) port() (int, error) {
	for _, s := range l.Sites {
		old, problems := spec.LoadSettings(l.file(s.Name, settingsName))
		if spec.Failed(problems) {
			return 0, fmt.Errorf("reading the settings of %s: %s", s.Name, problems[0])
		}
		if len(old.DNS.Listen) > 0 {
			if _, text, err := net.SplitHostPort(old.DNS.Listen[0]); err == nil {
				return strconv.Atoi(text) // it was read as a port
			}
		}
	}
	return 53, nil
}

// Renew signs every certificate anew, each with a key of its own, and lists the files of
// each folder that are new.
func (l Laid) Renew(now time.Time) (map[string][]string, error) {
	out := map[string][]string{}
	for _, kind := range []struct {
		authority string
		files     []string
	}{{"etcd-ca", []string{"etcd", "etcd-client"}}, {"api-ca", []string{"api"}}} {
		a, err := l.authority(kind.authority)
		if err != nil {
			return nil, err
		}
		for _, s := range l.Sites {
			for _, name := range kind.files {
				pair, err := l.renew(a, s.Name, name+".crt", now)
				if errors.Is(err, fs.ErrNotExist) {
					continue // no member of etcd
				}
				w := writer{dir: l.file(s.Name)}
				w.pair(name, pair, err)
				if w.err != nil {
					return nil, w.err
				}
				out[s.Name] = append(out[s.Name], name+".crt", name+".key")
			}
		}
		if kind.authority != "api-ca" {
			continue
		}
		pair, err := l.renew(a, operators, adminName+".pem", now)
		if err != nil {
			return nil, err
		}
		w := writer{dir: l.file(operators)}
		if w.bytes(adminName+".pem", append(pair.Cert, pair.Key...)); w.err != nil {
			return nil, w.err
		}
		out[operators] = []string{adminName + ".pem"}
	}
	return out, nil
}

// renew makes a certificate that is good for what another one is good for, with a new key.
func (l Laid) renew(a *Authority, folder, name string, now time.Time) (Pair, error) {
	file := l.file(folder, name)
	old, err := readCert(file)
	if err != nil {
		return Pair{}, err
	}
	if err := old.CheckSignatureFrom(a.Cert); err != nil {
		return Pair{}, fmt.Errorf("%s was not signed by the authority in %s: %w", file, authorities, err)
	}
	use := UseUnknown
	switch server, client := slices.Contains(old.ExtKeyUsage, x509.ExtKeyUsageServerAuth), slices.Contains(old.ExtKeyUsage, x509.ExtKeyUsageClientAuth); {
	case server && client:
		use = UsePeer
	case server:
		use = UseServer
	case client:
		use = UseClient
	}
	pair, err := a.Issue(old.Subject.CommonName, use, hostsOf(old), now)
	if err != nil {
		return Pair{}, err
	}
	return pair, l.replaced(a, folder, old)
}

// hostsOf gives the addresses and names that a certificate is for.
func hostsOf(cert *x509.Certificate) []string {
	hosts := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	return hosts
}

func readCert(file string) (*x509.Certificate, error) {
	raw, err := readPEM(file, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	return cert, nil
}
