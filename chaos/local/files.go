package local

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

func (f *Fleet) settingsFile(i int) string {
	return filepath.Join(f.opts.Dir, Name(i), "director.yaml")
}

// layOut writes every file that the fleet's processes read.
func (f *Fleet) layOut() error {
	var key [32]byte
	if _, err := rand.Read(key[:]); err != nil {
		return err
	}
	if err := write(filepath.Join(f.opts.Dir, "gossip.key"), base64.StdEncoding.EncodeToString(key[:])+"\n"); err != nil {
		return err
	}
	for _, s := range f.opts.Clusters {
		if err := write(filepath.Join(f.opts.Dir, s.Name+".kubeconfig"), f.kubeconfig(s)); err != nil {
			return err
		}
	}
	text := DemoSpec(f)
	if f.opts.Spec != nil {
		text = f.opts.Spec(f)
	}
	for i := 1; i <= f.opts.Directors; i++ {
		if err := write(filepath.Join(f.SpecDir(i), "fleet.yaml"), text); err != nil {
			return err
		}
		if err := write(f.settingsFile(i), f.settings(i)); err != nil {
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

// settings is the i-th director's own file.
func (f *Fleet) settings(i int) string {
	var join []string
	for j := 1; j <= f.opts.Directors; j++ {
		if j != i {
			join = append(join, fmt.Sprintf("%q", f.gossip(j)))
		}
	}
	host, port, _ := net.SplitHostPort(f.opts.DNS(i))
	return fmt.Sprintf(`name: %s
site: site-%d
dataDir: %s
dns: {listen: [%q]}
gossip: {listen: "%s:%d", advertise: %q, join: [%s], keyFile: %s}
etcd: {endpoints: ["http://%s"]}
api: {listen: %q}
probe: {source: %s, allow: ["127.0.0.0/8"]}
spec: [%s]
`, Name(i), i, f.data(i), net.JoinHostPort(host, port), f.Director(i), gossipPort, f.gossip(i), strings.Join(join, ", "),
		filepath.Join(f.opts.Dir, "gossip.key"), f.etcdOf(i), f.opts.API(i), f.Director(i), f.SpecDir(i))
}

// kubeconfig leads to a cluster's stand-in API server.
func (f *Fleet) kubeconfig(s Site) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: %[1]s
contexts: [{name: %[1]s, context: {cluster: %[1]s, user: divert}}]
clusters: [{name: %[1]s, cluster: {server: "http://%[2]s:%[3]d"}}]
users: [{name: divert, user: {}}]
`, s.Name, f.Cluster(s.Name), ServerPort)
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
metadata: {name: %[1]s, labels: {jurisdiction: %[5]s}}
spec:
  location: {country: %[2]s, region: %[3]s}
  capacity: %[4]d
  controlPlane: {kubeconfig: {path: %[6]s, context: %[1]s}}
`, s.Name, s.Country, s.Region, max(s.Capacity, 1), strings.ToLower(s.Country), filepath.Join(f.opts.Dir, s.Name+".kubeconfig"))
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
