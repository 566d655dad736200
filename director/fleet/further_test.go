package fleet

import (
	"crypto/tls"
	"errors"
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

func laid(t *testing.T) Laid {
	t.Helper()
	out := filepath.Join(t.TempDir(), "fleet")
	if err := Init(Options{Sites: three(t), Out: out, DNSPort: 5300, Now: now}); err != nil {
		t.Fatal(err)
	}
	l, err := Open(out)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A further site has what it needs to join, and no part of the authorities or of etcd.
func TestJoin(t *testing.T) {
	l := laid(t)
	if want := three(t); !slices.Equal(l.Sites, want) {
		t.Fatalf("sites %v, want %v", l.Sites, want)
	}
	lon := Site{Name: "lon", Host: "192.0.2.33"}
	key, err := l.Join(lon, "", now)
	if err != nil {
		t.Fatal(err)
	}
	s, problems := spec.LoadSettings(l.file("lon", settingsName))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if s.Etcd.Member.Name != "" || len(s.Etcd.Endpoints) != 3 || len(s.Gossip.Join) != 3 || len(s.Spec) != 0 || s.DNS.Listen[0] != "192.0.2.33:5300" {
		t.Errorf("got %+v", s)
	}
	id, err := gossip.LoadIdentity(fsys.Folder{FS: fsys.OS{}, Dir: s.DataDir}, "lon")
	if err != nil || spec.FormatKey(id.Public()) != key {
		t.Errorf("its key is not %s: %v", key, err)
	}
	mine, err := os.ReadFile(s.Gossip.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.ReadFile(l.file("fra", "gossip.key"))
	if err != nil || string(mine) != string(theirs) {
		t.Error("it has another gossip key")
	}
	if _, err := l.Join(Site{Name: "lon", Host: "192.0.2.34"}, "", now); !errors.Is(err, ErrThere) {
		t.Errorf("the second time: %v", err)
	}
	if _, err := l.Join(Site{Name: "x", Host: "203.0.113.5"}, "", now); err == nil {
		t.Error("took the address of another")
	}
	two := filepath.Join(t.TempDir(), "gossip.key")
	if err := os.WriteFile(two, gossip.FormatSecrets([][]byte{[]byte("0123456789abcdef"), []byte("fedcba9876543210")}), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Join(Site{Name: "x", Host: "192.0.2.35"}, two, now); err == nil || !strings.Contains(err.Error(), "turn-over") {
		t.Errorf("with two keys: %v", err)
	}
	if err := os.RemoveAll(l.file(authorities)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Join(Site{Name: "x", Host: "192.0.2.35"}, "", now); err == nil || !strings.Contains(err.Error(), "bring the folder") {
		t.Errorf("without ca/: %v", err)
	}
	if _, err := os.Stat(l.file("x")); err == nil {
		t.Error("half a site is left behind")
	}
}

// Renewed certificates are good for what the old ones were, a year longer, under new keys.
func TestRenew(t *testing.T) {
	l := laid(t)
	if _, err := l.Join(Site{Name: "lon", Host: "192.0.2.33"}, "", now); err != nil {
		t.Fatal(err)
	}
	l, err := Open(l.Dir)
	if err != nil {
		t.Fatal(err)
	}
	load := func(cert, key string) tls.Certificate {
		t.Helper()
		c, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	all := map[string]tls.Certificate{}
	each := func(f func(cert, key string)) {
		for _, s := range l.Sites {
			for _, name := range []string{"api", "etcd", "etcd-client"} {
				if name != "etcd" || s.Name != "lon" {
					f(l.file(s.Name, name+".crt"), l.file(s.Name, name+".key"))
				}
			}
		}
		f(l.file(operators, "admin.pem"), l.file(operators, "admin.pem"))
	}
	each(func(cert, key string) { all[cert] = load(cert, key) })
	later := now.Add(300 * 24 * time.Hour)
	files, err := l.Renew(later)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 5 || len(files["fra"]) != 6 || len(files["lon"]) != 4 || slices.Contains(files["fra"], "gossip.key") {
		t.Errorf("renewed %v", files)
	}
	each(func(cert, key string) {
		was, is := all[cert], load(cert, key)
		if is.Leaf.NotAfter.Sub(was.Leaf.NotAfter) < 299*24*time.Hour || is.Leaf.SerialNumber.Cmp(was.Leaf.SerialNumber) == 0 {
			t.Errorf("%s ends %v, before %v", cert, is.Leaf.NotAfter, was.Leaf.NotAfter)
		}
		if is.Leaf.Subject.CommonName != was.Leaf.Subject.CommonName || !slices.Equal(hostsOf(is.Leaf), hostsOf(was.Leaf)) || !slices.Equal(is.Leaf.ExtKeyUsage, was.Leaf.ExtKeyUsage) {
			t.Errorf("%s is for something else", cert)
		}
		if string(is.Leaf.RawSubjectPublicKeyInfo) == string(was.Leaf.RawSubjectPublicKeyInfo) {
			t.Errorf("%s has its old key", cert)
		}
	})
	for name, change := range map[string]func() error{
		"signed by another": func() error {
			raw, err := os.ReadFile(l.file("fra", "api.crt"))
			if err != nil {
				return err
			}
			return os.WriteFile(l.file("fra", "etcd.crt"), raw, 0o600)
		},
		"no certificate": func() error { return os.WriteFile(l.file("fra", "etcd.crt"), []byte("x"), 0o600) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Renew(later); err == nil {
			t.Errorf("%s: renewed", name)
		}
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("opened an empty folder")
	}
}
