package etcd

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

func TestParseCluster(t *testing.T) {
	got, err := ParseCluster([]string{"fra=https://192.0.2.7:2380", "nyc=https://nyc.example.net:2380"})
	if err != nil || got["fra"] != "https://192.0.2.7:2380" || got["nyc"] != "https://nyc.example.net:2380" {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"fra", "=https://192.0.2.7:2380", "fra="} {
		if _, err := ParseCluster([]string{bad}); err == nil {
			t.Errorf("took %q", bad)
		}
	}
	if _, err := ParseCluster([]string{"a=x", "a=y"}); err == nil {
		t.Error("took one name twice")
	}
}

// Whoever is heard as a member can write plans: off loopback only mutual TLS.
func TestMemberRefused(t *testing.T) {
	all := TLS{CA: "ca.pem", Cert: "c.pem", Key: "k.pem"}
	of := func(peers ...string) map[string]string {
		out := map[string]string{}
		for i, p := range peers {
			out[string(rune('a'+i))] = p
		}
		return out
	}
	tests := map[string]struct {
		member Member
		listen string
		tls    TLS
		want   string // part of the error; "" = accepted
		peers  string // where it then hears the others
	}{
		"mutual TLS":           {member: Member{Name: "a", Token: "t", Cluster: of("https://192.0.2.7:2380", "https://192.0.2.8:2380")}, listen: "https://192.0.2.7:2379", tls: all, peers: "https://192.0.2.7:2380"},
		"by its name":          {member: Member{Name: "a", Token: "t", Cluster: of("https://fra.example.net:2380")}, listen: "https://0.0.0.0:2379", tls: all, peers: "https://0.0.0.0:2380"},
		"loopback":             {member: Member{Name: "a", Token: "t", Cluster: of("http://127.0.0.1:2380")}, listen: "http://127.0.0.1:2379", peers: "http://127.0.0.1:2380"},
		"plain off loopback":   {member: Member{Name: "a", Token: "t", Cluster: of("http://192.0.2.7:2380")}, listen: "http://127.0.0.1:2379", want: "mutual TLS"},
		"plain peer listener":  {member: Member{Name: "a", Token: "t", Cluster: of("http://127.0.0.1:2380"), PeerListen: "http://0.0.0.0:2380"}, listen: "http://127.0.0.1:2379", want: "mutual TLS"},
		"clients secure alone": {member: Member{Name: "a", Token: "t", Cluster: of("http://127.0.0.1:2380")}, listen: "https://192.0.2.7:2379", tls: all, want: "all of a cluster's"},
		"none of them":         {member: Member{Name: "z", Token: "t", Cluster: of("https://192.0.2.7:2380")}, listen: "https://192.0.2.7:2379", tls: all, want: "none of the cluster's"},
		"no token":             {member: Member{Name: "a", Cluster: of("https://192.0.2.7:2380")}, listen: "https://192.0.2.7:2379", tls: all, want: "token"},
		"a path":               {member: Member{Name: "a", Token: "t", Cluster: of("https://192.0.2.7:2380/x")}, listen: "https://192.0.2.7:2379", tls: all, want: "not scheme, host and port"},
		"on a socket":          {member: Member{Name: "a", Token: "t", Cluster: of("https://192.0.2.7:2380")}, listen: "unix:///run/s", want: "unix socket"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			u, err := parseListen(tc.listen, tc.tls)
			if err != nil {
				t.Fatal(err)
			}
			peers, err := tc.member.settle(u, tc.tls)
			if got := err == nil; got != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
			if err == nil && peers.String() != tc.peers {
				t.Errorf("hears the others at %s, want %s", peers, tc.peers)
			}
		})
	}
}

func TestMemberArgs(t *testing.T) {
	got := Member{Name: "a", Token: "t", PeerListen: "https://0.0.0.0:1", Advertise: "https://a:2", Existing: true, Cluster: map[string]string{"b": "y", "a": "x"}}.Args()
	want := []string{"--name", "a", "--token", "t", "--member", "a=x", "--member", "b=y", "--peer-listen", "https://0.0.0.0:1", "--advertise", "https://a:2", "--existing"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

// Three members by mutual TLS are one store: what one takes the others have, two go on
// without the third, which has all when it comes back; and who has a certificate of another
// authority is no member.
func TestMembers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(n string) string { return filepath.Join(dir, n) }
	ca, caKey := issue(t, dir, "ca", nil, nil)
	issue(t, dir, "member", ca, caKey)
	issue(t, dir, "other", nil, nil)
	cluster := map[string]string{}
	var names, listens []string
	for _, name := range []string{"fra", "nyc", "sin"} {
		cluster[name] = "https://" + freePort(t)
		names, listens = append(names, name), append(listens, "https://"+freePort(t))
	}
	files := TLS{CA: file("ca.pem"), Cert: file("member.pem"), Key: file("member.key"), CRL: file("crl")}
	options := func(i int) ServerOptions {
		return ServerOptions{
			Data: filepath.Join(dir, names[i]), Listen: listens[i], TLS: files,
			Member: Member{Name: names[i], Token: "t", Cluster: cluster},
		}
	}
	revoke := func(serials ...*big.Int) {
		t.Helper()
		list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
		for _, n := range serials {
			list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: time.Now()})
		}
		der, err := x509.CreateRevocationList(rand.Reader, list, ca, caKey)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(files.CRL, der, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	revoke()
	type started struct {
		stop func()
		done chan error
	}
	run := func(o ServerOptions) started {
		ctx, cancel := context.WithCancel(context.Background())
		s := started{stop: cancel, done: make(chan error, 1)}
		go func() { s.done <- Serve(ctx, o) }()
		t.Cleanup(func() { cancel(); s.done <- <-s.done })
		return s
	}
	var all []started
	for i := range names {
		all = append(all, run(options(i)))
	}
	info := transport.TLSInfo{CertFile: files.Cert, KeyFile: files.Key, TrustedCAFile: files.CA}
	config, err := info.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	at := func(i int) *clientv3.Client {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{listens[i]}, TLS: config, Logger: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	put := func(c *clientv3.Client, value string) {
		t.Helper()
		eventually(t, "to write "+value, func(ctx context.Context) error {
			_, err := c.Put(ctx, "k", value)
			return err
		})
	}
	holds := func(c *clientv3.Client, value string) {
		t.Helper()
		eventually(t, "to read "+value, func(ctx context.Context) error {
			got, err := c.Get(ctx, "k")
			if err == nil && (len(got.Kvs) != 1 || string(got.Kvs[0].Value) != value) {
				err = fmt.Errorf("got %v", got.Kvs)
			}
			return err
		})
	}
	clients := []*clientv3.Client{at(0), at(1), at(2)}
	put(clients[0], "one")
	holds(clients[2], "one")
	all[2].stop()
	if err := <-all[2].done; err != nil {
		t.Fatal(err)
	}
	all[2].done <- nil
	put(clients[1], "two")

	stranger := options(2)
	stranger.Data, stranger.TLS.Cert, stranger.TLS.Key = filepath.Join(dir, "stranger"), file("other.pem"), file("other.key")
	s := run(stranger)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	members, err := clients[0].MemberList(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := at(2).Get(ctx, "k"); err == nil {
		t.Errorf("one with a certificate of another authority serves as a member of %v", members.Members)
	}
	s.stop()
	s.done <- <-s.done

	run(options(2))
	holds(clients[2], "two")

	// A director's certificate, of the same authority, is a client's: it may ask, and not vote.
	revoked, _ := issue(t, dir, "revoked", ca, caKey)
	revoke(revoked.SerialNumber)
	issue(t, dir, "director", ca, caKey, func(c *x509.Certificate) { c.IPAddresses = nil })
	for _, tc := range []struct {
		name, at string
		want     bool
	}{{"member", cluster["fra"], true}, {"director", cluster["fra"], false}, {"director", listens[0], true}, {"other", listens[0], false}, {"revoked", listens[0], false}, {"revoked", cluster["fra"], false}} {
		pair, err := tls.LoadX509KeyPair(file(tc.name+".pem"), file(tc.name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		config := config.Clone()
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: 5 * time.Second}
		resp, err := client.Get(tc.at + "/version")
		if err == nil {
			_ = resp.Body.Close()
		}
		if (err == nil) != tc.want {
			t.Errorf("with the certificate %s at %s: %v, want that it is taken: %v", tc.name, tc.at, err, tc.want)
		}
	}
}

// eventually tries until it works; nothing is measured by its bound.
func eventually(t *testing.T, what string, f func(context.Context) error) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		err := f(ctx)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		<-time.After(100 * time.Millisecond)
	}
}
