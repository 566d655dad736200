package fleet

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/store/fsys"
)

var now = time.Now()

func three(t *testing.T) []Site {
	t.Helper()
	sites, err := ParseSites([]string{"fra=203.0.113.5", "nyc=2001:db8::7", "sin=sin.example.net"})
	if err != nil {
		t.Fatal(err)
	}
	return sites
}

func TestParseSites(t *testing.T) {
	tests := []struct {
		in   []string
		want string // part of the error; "" = taken
	}{
		{[]string{"fra=203.0.113.5", "nyc=198.51.100.7"}, ""},
		{[]string{"fra", "nyc", "sin"}, ""},
		{[]string{"fra=d1.example.net"}, ""},
		{[]string{"fra=::ffff:203.0.113.5", "nyc=203.0.113.5"}, "twice"},
		{nil, "no sites"},
		{[]string{"fra=203.0.113.5", "fra=198.51.100.7"}, "twice"},
		{[]string{"Fra=203.0.113.5"}, "small letters"},
		{[]string{"../x=203.0.113.5"}, "small letters"},
		{[]string{"ca=203.0.113.5"}, "neither ca"},
		{[]string{"operator=203.0.113.5"}, "neither ca"},
		{[]string{"fra=0.0.0.0"}, "no address"},
		{[]string{"fra=ff02::1"}, "no address"},
		{[]string{"fra=fe80::1%eth0"}, "no address"},
		{[]string{"fra="}, "neither an address"},
		{[]string{"fra=a b"}, "neither an address"},
		{[]string{"fra=\"x\""}, "neither an address"},
		{[]string{"fra=x: y"}, "neither an address"},
		{slices.Repeat([]string{"x=h"}, 40), "twice"},
	}
	for _, tc := range tests {
		_, err := ParseSites(tc.in)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %q", tc.in, err, tc.want)
		}
	}
}

func TestMembers(t *testing.T) {
	sites := func(n int) (out []Site) {
		for i := range n {
			out = append(out, Site{Name: string(rune('a' + i))})
		}
		return out
	}
	for n, want := range map[int]int{1: 1, 2: 1, 3: 3, 4: 3, 5: 5, 6: 5, 9: 5} {
		got, err := Options{Sites: sites(n)}.members()
		if err != nil || len(got) != want {
			t.Errorf("of %d sites: %d members, %v, want %d", n, len(got), err, want)
		}
	}
	if got, err := (Options{Sites: sites(3), Members: []string{"c"}}).members(); err != nil || len(got) != 1 || got[0].Name != "c" {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range [][]string{{"a", "b"}, {"z"}} {
		if _, err := (Options{Sites: sites(3), Members: bad}).members(); err == nil {
			t.Errorf("took %v", bad)
		}
	}
}

// What is laid out can be read by those that it is for, and by nobody else.
func TestInit(t *testing.T) {
	out := filepath.Join(t.TempDir(), "fleet")
	if err := Init(Options{Sites: three(t), Out: out, Now: now}); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(out, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if want := map[bool]fs.FileMode{true: 0o700, false: 0o600}[d.IsDir()]; err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var secrets [][]byte
	identities := map[string]string{}
	for _, s := range three(t) {
		settings, problems := spec.LoadSettings(filepath.Join(out, s.Name, "director.yaml"))
		if len(problems) > 0 {
			t.Fatalf("%s: %v", s.Name, problems)
		}
		if settings.Etcd.Member.Name != s.Name || len(settings.Etcd.Endpoints) != 3 || len(settings.Gossip.Join) != 2 {
			t.Errorf("%s: %+v", s.Name, settings.Etcd)
		}
		keys, err := gossip.LoadSecrets(settings.Gossip.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, keys...)
		id, err := gossip.LoadIdentity(fsys.Folder{FS: fsys.OS{}, Dir: settings.DataDir}, s.Name)
		if err != nil {
			t.Fatal(err)
		}
		identities[s.Name] = spec.FormatKey(id.Public())
		set, _, problems := spec.Load(settings.Spec)
		if spec.Failed(problems) || len(set.Fleet.Directors) != 3 {
			t.Fatalf("%s: %v", s.Name, problems)
		}
		for _, f := range []string{"ca/api-ca.key", "ca/etcd-ca.key"} {
			if _, err := os.Stat(filepath.Join(out, s.Name, filepath.Base(f))); err == nil {
				t.Errorf("%s has the key of an authority", s.Name)
			}
		}
	}
	if len(secrets) != 3 || string(secrets[0]) != string(secrets[1]) || string(secrets[0]) != string(secrets[2]) || len(secrets[0]) != 32 {
		t.Error("the sites have not one gossip key")
	}
	set, _, _ := spec.Load([]string{filepath.Join(out, "sin", "spec.d")})
	for _, d := range set.Fleet.Directors {
		if got := spec.FormatKey(d.Key); got != identities[d.Name] {
			t.Errorf("the roster says %s of %s, whose key is %s", got, d.Name, identities[d.Name])
		}
	}
	before, err := os.ReadFile(filepath.Join(out, "fra", "gossip.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := Init(Options{Sites: three(t), Out: out, Now: now}); !errors.Is(err, ErrThere) {
		t.Errorf("the second time: %v", err)
	}
	if after, err := os.ReadFile(filepath.Join(out, "fra", "gossip.key")); err != nil || string(after) != string(before) {
		t.Error("it was written over")
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(out), ".fleet-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Every pair of who shows a certificate to whom: only those go through that are meant to.
func TestCertificates(t *testing.T) {
	out := filepath.Join(t.TempDir(), "fleet")
	sites, err := ParseSites([]string{"fra=127.0.0.1", "nyc=127.0.0.2"})
	if err != nil {
		t.Fatal(err)
	}
	if err := Init(Options{Sites: sites, Members: []string{"fra"}, Out: out, Now: now}); err != nil {
		t.Fatal(err)
	}
	pair := func(cert, key string) tls.Certificate {
		t.Helper()
		c, err := tls.LoadX509KeyPair(filepath.Join(out, cert), filepath.Join(out, key))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	pool := func(name string) *x509.CertPool {
		t.Helper()
		raw, err := os.ReadFile(filepath.Join(out, name))
		p := x509.NewCertPool()
		if err != nil || !p.AppendCertsFromPEM(raw) {
			t.Fatal(err)
		}
		return p
	}
	servers := map[string]struct {
		cert tls.Certificate
		ca   *x509.CertPool
	}{
		"etcd": {pair("fra/etcd.crt", "fra/etcd.key"), pool("fra/etcd-ca.crt")},
		"api":  {pair("fra/api.crt", "fra/api.key"), pool("fra/api-ca.crt")},
	}
	clients := map[string]struct {
		cert tls.Certificate
		ca   *x509.CertPool
		host string
	}{
		"member":             {pair("fra/etcd.crt", "fra/etcd.key"), pool("fra/etcd-ca.crt"), "127.0.0.1"},
		"director":           {pair("nyc/etcd-client.crt", "nyc/etcd-client.key"), pool("nyc/etcd-ca.crt"), "127.0.0.1"},
		"director elsewhere": {pair("nyc/etcd-client.crt", "nyc/etcd-client.key"), pool("nyc/etcd-ca.crt"), "127.0.0.2"},
		"admin":              {pair("operator/admin.pem", "operator/admin.pem"), pool("operator/api-ca.crt"), "127.0.0.1"},
		"api server":         {pair("nyc/api.crt", "nyc/api.key"), pool("operator/api-ca.crt"), "127.0.0.1"},
	}
	good := map[string]bool{"member>etcd": true, "director>etcd": true, "admin>api": true}
	for from, c := range clients {
		for to, s := range servers {
			a, b := net.Pipe()
			done := make(chan error, 1)
			go func() {
				server := tls.Server(b, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{s.cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: s.ca})
				err := server.Handshake()
				if err == nil {
					_, err = server.Write([]byte("x"))
				}
				_ = b.Close()
				done <- err
			}()
			client := tls.Client(a, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{c.cert}, RootCAs: c.ca, ServerName: c.host})
			err := client.Handshake()
			if err == nil {
				_, err = client.Read(make([]byte, 1))
			}
			_ = a.Close()
			if err2 := <-done; err == nil {
				err = err2
			}
			if (err == nil) != good[from+">"+to] {
				t.Errorf("%s to %s: %v", from, to, err)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(out, "nyc", "etcd.key")); err == nil {
		t.Error("a site that is no member has a member's certificate")
	}
}

func TestLoadAuthority(t *testing.T) {
	out := filepath.Join(t.TempDir(), "fleet")
	if err := Init(Options{Sites: three(t), Out: out, Now: now}); err != nil {
		t.Fatal(err)
	}
	ca := func(name string) string { return filepath.Join(out, "ca", name) }
	a, err := LoadAuthority(ca("etcd-ca.crt"), ca("etcd-ca.key"))
	if err != nil || !a.Cert.NotAfter.After(now.Add(9*365*24*time.Hour)) {
		t.Fatalf("got %v", err)
	}
	for _, bad := range [][2]string{{"etcd-ca.crt", "api-ca.key"}, {"etcd-ca.key", "etcd-ca.crt"}, {"none", "etcd-ca.key"}, {"README", "README"}} {
		if _, err := LoadAuthority(ca(bad[0]), ca(bad[1])); err == nil {
			t.Errorf("took %v", bad)
		}
	}
	if _, err := a.Issue("x", UseUnknown, nil, now); err == nil {
		t.Error("issued a certificate for nothing")
	}
	// None outlives its authority.
	late, err := a.Issue("x", UseClient, nil, a.Cert.NotAfter.Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(late.Cert, late.Key)
	if err != nil || pair.Leaf.NotAfter.After(a.Cert.NotAfter) {
		t.Errorf("ends %v, %v", pair.Leaf.NotAfter, err)
	}
}

// What cannot run is refused before anything is written.
func TestInitRefuses(t *testing.T) {
	for _, tc := range []struct {
		what   string
		change func(*Options)
		want   string
	}{
		{"gossip's port", func(o *Options) { o.DNSPort = 7946 }, "port 7946 is gossip's"},
		{"etcd's port", func(o *Options) { o.DNSPort = 2379 }, "port 2379 is etcd's"},
		{"etcd's other port", func(o *Options) { o.DNSPort = 2380 }, "port 2380 is etcd's"},
		{"the API's port", func(o *Options) { o.DNSPort = 8053 }, "port 8053 is the API's"},
		{"no port", func(o *Options) { o.DNSPort = 65536 }, "is none"},
		{"a witness that is no site", func(o *Options) { o.Witness = []string{"lon"} }, "none of the sites"},
		{"one witness twice", func(o *Options) { o.Witness = []string{"sin", "sin"} }, "twice"},
		{"witnesses alone", func(o *Options) { o.Witness = []string{"fra", "nyc", "sin"} }, "leave at least one"},
	} {
		o := Options{Sites: three(t), Out: filepath.Join(t.TempDir(), "fleet"), Now: now}
		tc.change(&o)
		err := Init(o)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.what, err, tc.want)
		}
		if _, err := os.Stat(o.Out); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: something was written", tc.what)
		}
	}
}

// Of a layout that bears less than people may think is said what to do.
func TestNotes(t *testing.T) {
	for _, tc := range []struct {
		sites   []string
		members []string
		want    []string // in that order
	}{
		{[]string{"fra=203.0.113.5", "nyc=198.51.100.7", "sin=192.0.2.9"}, nil, nil},
		{[]string{"fra=203.0.113.5"}, nil, []string{"one site"}},
		{[]string{"fra=203.0.113.5", "nyc=198.51.100.7"}, nil, []string{"--witness"}},
		{[]string{"fra", "nyc", "sin=192.0.2.9"}, nil, []string{"fra, nyc: no address was given"}},
		{[]string{"fra=203.0.113.5", "nyc=198.51.100.7", "sin=192.0.2.9"}, []string{"nyc"}, []string{"one member, at nyc"}},
	} {
		sites, err := ParseSites(tc.sites)
		if err != nil {
			t.Fatal(err)
		}
		got := Options{Sites: sites, Members: tc.members}.Notes()
		if !slices.EqualFunc(got, tc.want, strings.Contains) {
			t.Errorf("of %q: %q, want %q", tc.sites, got, tc.want)
		}
	}
}

// The folder of a site is good wherever its director is started from, and a witness answers
// nothing; a further site answers where the others do.
func TestAnywhere(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "fleet")
	if err := Init(Options{Sites: three(t), Witness: []string{"fra"}, DNSPort: 5300, Out: out, Now: now}); err != nil {
		t.Fatal(err)
	}
	for from, file := range map[string]string{"/": filepath.Join(out, "fra", settingsName), dir: "fleet/fra/" + settingsName, filepath.Join(out, "fra"): settingsName, filepath.Join(out, "sin"): "../fra/" + settingsName} {
		t.Chdir(from)
		s, problems := spec.LoadSettings(file)
		if len(problems) > 0 {
			t.Fatalf("from %s: %v", from, problems)
		}
		if keys, err := gossip.LoadSecrets(s.Gossip.KeyFile); err != nil || len(keys) != 1 {
			t.Errorf("from %s: %d gossip keys, %v", from, len(keys), err)
		}
		if s.DNS.Listen == nil || len(s.DNS.Listen) != 0 {
			t.Errorf("from %s: a witness answers at %q", from, s.DNS.Listen)
		}
		for _, f := range []string{s.Etcd.TLS.CA, s.Etcd.TLS.Cert, s.Etcd.TLS.Key, s.Etcd.Member.TLS.Key, s.API.TLS.Cert, s.API.TLS.ClientCA, filepath.Join(s.DataDir, "identity.json"), s.Spec[0]} {
			if _, err := os.Stat(f); err != nil {
				t.Errorf("from %s: %v", from, err)
			}
		}
	}
	laid, err := Open(out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := laid.Join(Site{Name: "lon", Host: "192.0.2.33"}, "", now); err != nil {
		t.Fatal(err)
	}
	if s, problems := spec.LoadSettings(filepath.Join(out, "lon", settingsName)); len(problems) > 0 || !slices.Equal(s.DNS.Listen, []string{"192.0.2.33:5300"}) {
		t.Errorf("lon answers at %q, %v", s.DNS.Listen, problems)
	}
}
