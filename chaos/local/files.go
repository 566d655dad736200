package local

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// SettingsFile gives the file that a director is started with.
func (f *Fleet) SettingsFile(i int) string {
	return filepath.Join(f.opts.Dir, Name(i), "director.yaml")
}

// GossipKeyFile gives the i-th director's own copy of the gossip key.
func (f *Fleet) GossipKeyFile(i int) string {
	return filepath.Join(f.opts.Dir, Name(i), "gossip.key")
}

// layOut writes every file that the fleet's processes read.
func (f *Fleet) layOut() error {
	var key [32]byte
	if _, err := rand.Read(key[:]); err != nil {
		return err
	}
	var servers []netip.Addr
	for _, s := range f.opts.Clusters {
		servers = append(servers, f.Cluster(s.Name))
	}
	ca, err := Certificate(f.certFile(), f.keyFile(), servers...)
	if err != nil {
		return fmt.Errorf("certificate of the stand-in API servers: %w", err)
	}
	for _, s := range f.opts.Clusters {
		if err := write(filepath.Join(f.opts.Kubeconfigs, s.Name+".kubeconfig"), Kubeconfig(s.Name, f.Cluster(s.Name), ca)); err != nil {
			return err
		}
	}
	text := DemoSpec(f)
	if f.opts.Spec != nil {
		text = f.opts.Spec(f)
	}
	for i := 1; i <= f.opts.Directors+f.opts.Spares; i++ {
		if err := write(filepath.Join(f.SpecDir(i), "fleet.yaml"), text); err != nil {
			return err
		}
		if err := write(f.SettingsFile(i), f.settings(i, Name(i))); err != nil {
			return err
		}
		if err := write(f.GossipKeyFile(i), base64.StdEncoding.EncodeToString(key[:])+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// WriteSpec replaces the i-th director's own spec file.
func (f *Fleet) WriteSpec(i int, text string) error {
	return write(filepath.Join(f.SpecDir(i), "fleet.yaml"), text)
}

// write makes a file in one step, its folder too.
func write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// Impersonate makes a spare director a clone of another: it has that one's name,
// settings and a copy of its data folder, and ports of its own. Start starts it.
func (f *Fleet) Impersonate(spare, director int) error {
	if spare <= f.opts.Directors || spare > f.opts.Directors+f.opts.Spares {
		return fmt.Errorf("%s is not a spare director", Name(spare))
	}
	if err := os.RemoveAll(f.data(spare)); err != nil {
		return err
	}
	err := filepath.WalkDir(f.data(director), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err // sockets are not cloned
		}
		raw, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // an old generation that has just been removed
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(f.data(director), path)
		if err != nil {
			return err
		}
		return write(filepath.Join(f.data(spare), rel), string(raw))
	})
	if err != nil {
		return fmt.Errorf("cloning %s: %w", Name(director), err)
	}
	return write(f.SettingsFile(spare), f.settings(spare, Name(director)))
}

// settings is the i-th director's own file.
func (f *Fleet) settings(i int, name string) string {
	var join []string
	for j := 1; j <= f.opts.Directors; j++ {
		if j != i {
			join = append(join, fmt.Sprintf("%q", f.gossip(j)))
		}
	}
	host, port, _ := net.SplitHostPort(f.opts.DNS(i))
	also := f.opts.AlsoDNS
	if also != "" {
		also = ", " + also
	}
	more := ""
	if f.opts.Geo != nil {
		more = fmt.Sprintf("geo: {database: %q}\n", f.opts.Geo(i))
	}
	return more + fmt.Sprintf(`name: %s
site: site-%d
dataDir: %s
dns: {listen: [%q]%s}
gossip: {listen: "%s:%d", advertise: %q, join: [%s], keyFile: %s}
etcd: {endpoints: ["http://%s"]}
api: {listen: %q}
probe: {source: %s, allow: ["127.0.0.0/8"], kubeconfigs: %s}
resolvers: [%q]
spec: [%s]
`, name, i, f.data(i), net.JoinHostPort(host, port), also, f.Director(i), gossipPort, f.gossip(i), strings.Join(join, ", "),
		f.GossipKeyFile(i), f.etcdOf(i), f.opts.API(i), f.Director(i), f.opts.Kubeconfigs, cmp.Or(f.opts.Resolver, f.Resolver().String()), f.SpecDir(i))
}

func (f *Fleet) certFile() string { return filepath.Join(f.opts.Dir, "server.crt") }
func (f *Fleet) keyFile() string  { return filepath.Join(f.opts.Dir, "server.key") }

// Certificate makes one for addresses, writes it and its key as PEM files, and gives it.
func Certificate(certFile, keyFile string, addresses ...netip.Addr) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stand-in API server"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: true, BasicConstraintsValid: true,
	}
	for _, a := range addresses {
		template.IPAddresses = append(template.IPAddresses, a.AsSlice())
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := write(certFile, string(cert)); err != nil {
		return nil, err
	}
	return cert, write(keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})))
}

// Kubeconfig leads to a cluster's stand-in API server.
func Kubeconfig(name string, address netip.Addr, ca []byte) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: %[1]s
contexts: [{name: %[1]s, context: {cluster: %[1]s, user: divert}}]
clusters: [{name: %[1]s, cluster: {server: "https://%[2]s:%[3]d", certificate-authority-data: %[4]s}}]
users: [{name: divert, user: {}}]
`, name, address, ServerPort, base64.StdEncoding.EncodeToString(ca))
}

// FleetSpec is the part of a spec that every fleet needs: roster, clusters and
// the zone.
func FleetSpec(f *Fleet) string {
	var b strings.Builder
	b.WriteString("apiVersion: divert.dev/v1alpha1\nkind: Fleet\nmetadata: {name: default}\nspec:\n  directors:\n")
	for i := 1; i <= f.opts.Directors; i++ {
		fmt.Fprintf(&b, "  - {name: %s, site: site-%d}\n", Name(i), i)
	}
	for _, s := range f.opts.Clusters {
		fmt.Fprintf(&b, `---
apiVersion: divert.dev/v1alpha1
kind: Cluster
metadata: {name: %[1]s, labels: {jurisdiction: %[4]s}}
spec:
  location: {country: %[2]s, region: %[3]s}
  controlPlane: {kubeconfig: {path: %[1]s.kubeconfig, context: %[1]s}}
`, s.Name, s.Country, s.Region, strings.ToLower(s.Country))
		if s.Capacity > 0 {
			fmt.Fprintf(&b, "  capacity: %d\n", s.Capacity)
		}
	}
	b.WriteString(`---
apiVersion: divert.dev/v1alpha1
kind: Zone
metadata: {name: example.org}
spec:
  nameservers: [ns1.example.org, ns2.example.org]
  hostmaster: dns-admin@example.org
  records: |
    ns1 A 192.0.2.53
    ns2 A 198.51.100.53
    www CNAME shop
    @   TXT "served by divert"
`)
	return b.String()
}

// ServiceSpec is one service on every cluster of the fleet.
func ServiceSpec(f *Fleet, name, policy string, weights ...int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `---
apiVersion: divert.dev/v1alpha1
kind: GlobalService
metadata: {name: %[1]s}
spec:
  hosts: [%[1]s.example.org]
  siteNames: true
  ttl: 5s
  endpoints:
`, name)
	var order []string
	for i, s := range f.opts.Clusters {
		order = append(order, s.Name)
		fmt.Fprintf(&b, "  - {cluster: %s, addresses: [%s]", s.Name, f.Cluster(s.Name))
		if len(weights) > i {
			fmt.Fprintf(&b, ", weight: %d", weights[i])
		}
		b.WriteString("}\n")
	}
	fmt.Fprintf(&b, `  probes:
  - http: {scheme: http, port: %d, path: /healthz, body: ok}
    interval: 1s
    timeout: 1s
    fast: 100ms
  steering: {policy: %s, order: [%s]}
`, ServicePort, policy, strings.Join(order, ", "))
	return b.String()
}

// DemoSpec is what `divert demo` serves.
func DemoSpec(f *Fleet) string {
	return FleetSpec(f) + ServiceSpec(f, "shop", "geo") + ServiceSpec(f, "pay", "failover") + ServiceSpec(f, "api", "weighted", 50, 30, 20)
}
