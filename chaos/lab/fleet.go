//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/divertdns/divert/chaos/local"
	"github.com/divertdns/divert/director/api"
)

// service is one that the fleet and its rivals answer for: the primary as long as that
// lives, else a fallback.
type service struct {
	name    string
	primary netip.Addr
	port    int
}

// fallback gives where the others of a service's clusters answer.
func fallback(cluster int) netip.Addr { return serviceAddress(cluster, 0) }

// fleet is a store and directors, all of them real processes.
type fleet struct {
	world     *world
	binary    string
	directors int
	clients   []*api.Client
	processes []*process
	control   netip.Addr // of the first cluster's API server
}

func newFleet(ctx context.Context, w *world, binary string, directors int) (*fleet, error) {
	f := &fleet{world: w, binary: binary, directors: directors}
	if err := f.layOut(); err != nil {
		return nil, err
	}
	if _, err := w.processes.start(ctx, w.hub, "etcd", binary, "etcd", "--data", filepath.Join(w.dir, "etcd"), "--listen", f.etcd()); err != nil {
		return nil, err
	}
	for i, s := range w.clusters {
		ports := []string{fmt.Sprintf("0.0.0.0:%d", openPort)}
		if i > 0 {
			ports = append(ports, fmt.Sprintf("0.0.0.0:%d", lonePort))
		}
		if _, err := w.backend(s, ports...); err != nil {
			return nil, err
		}
	}
	// The stand-in API server; its service, on the port that it brings, is not used.
	if _, err := w.processes.start(ctx, w.clusters[0], "api-server", binary, "demo", "cluster", "--name", clusterNames[0],
		"--address", f.control.String(), "--cert", filepath.Join(w.dir, "server.crt"), "--key", filepath.Join(w.dir, "server.key")); err != nil {
		return nil, err
	}
	for i := 1; i <= directors; i++ {
		p, err := w.processes.start(ctx, w.directors[i-1], fmt.Sprintf("d%d", i), binary, "serve", "-c", f.file(i, "director.yaml"))
		if err != nil {
			return nil, err
		}
		c, err := api.NewClient("unix:" + f.file(i, "data/control.sock"))
		if err != nil {
			return nil, err
		}
		f.processes, f.clients = append(f.processes, p), append(f.clients, c)
	}
	return f, until(ctx, time.Minute, "every director answers", func(ctx context.Context) error {
		for i, c := range f.clients {
			s, err := c.Status(ctx)
			switch {
			case err != nil:
				return fmt.Errorf("d%d: %w", i+1, err)
			case s.Plan == nil || s.Store != "ok" || s.Quorum.Hears != directors:
				return fmt.Errorf("d%d hears %d, store %q, waits %q", i+1, s.Quorum.Hears, s.Store, s.Waiting)
			}
		}
		return nil
	})
}

func (f *fleet) etcd() string { return "unix://" + filepath.Join(f.world.dir, "etcd.sock") }

func (f *fleet) file(i int, name string) string {
	return filepath.Join(f.world.dir, fmt.Sprintf("d%d", i), name)
}

func (f *fleet) kubeconfigs() string { return filepath.Join(f.world.dir, "kubeconfigs") }

// dns gives where a director answers.
func (f *fleet) dns(i int) netip.AddrPort { return netip.AddrPortFrom(directorAddress(i), 53) }

func write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o600)
}

func (f *fleet) layOut() error {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	f.control = f.world.fresh()
	ca, err := local.Certificate(filepath.Join(f.world.dir, "server.crt"), filepath.Join(f.world.dir, "server.key"), f.control)
	if err != nil {
		return err
	}
	errs := []error{
		write(filepath.Join(f.world.dir, "gossip.key"), base64.StdEncoding.EncodeToString(key[:])+"\n"),
		write(filepath.Join(f.kubeconfigs(), "fra"), local.Kubeconfig(clusterNames[0], f.control, ca)),
		write(filepath.Join(f.world.dir, "spec.d", "fleet.yaml"), f.base()),
	}
	for i := 1; i <= f.directors; i++ {
		var join []string
		for j := 1; j <= f.directors; j++ {
			if j != i {
				join = append(join, fmt.Sprintf("%q", gossipAddress(j).String()+":7946"))
			}
		}
		errs = append(errs, write(f.file(i, "director.yaml"), fmt.Sprintf(`name: d%d
site: site-%[1]d
dataDir: data
dns: {listen: ["%[2]s:53"], rateLimit: {exempt: ["198.18.0.0/15"]}}
gossip: {listen: "%[2]s:7946", advertise: "%[3]s:7946", join: [%[4]s], keyFile: %[5]q}
etcd: {endpoints: [%[6]q]}
probe: {source: %[2]s, allow: [%[7]q], kubeconfigs: %[8]q}
spec: [%[9]q]
`, i, directorAddress(i), gossipAddress(i), strings.Join(join, ", "), filepath.Join(f.world.dir, "gossip.key"), f.etcd(), netAll, f.kubeconfigs(), filepath.Join(f.world.dir, "spec.d"))))
	}
	return errors.Join(errs...)
}

// base is what the spec has besides services.
func (f *fleet) base() string {
	var b strings.Builder
	b.WriteString("apiVersion: divert.dev/v1alpha1\nkind: Fleet\nmetadata: {name: default}\nspec:\n  directors:\n")
	for i := 1; i <= f.directors; i++ {
		fmt.Fprintf(&b, "  - {name: d%d, site: site-%[1]d}\n", i)
	}
	for i, name := range clusterNames {
		control := "" // capacities are beyond what the lab asks: nothing is to spill
		if i == 0 {
			control = fmt.Sprintf("\n  controlPlane: {kubeconfig: {path: fra, context: %s}}", name)
		}
		fmt.Fprintf(&b, `---
apiVersion: divert.dev/v1alpha1
kind: Cluster
metadata: {name: %s}
spec:
  location: {country: %s}
  capacity: 100000%s
`, name, [...]string{"DE", "US", "SG"}[i], control)
	}
	fmt.Fprintf(&b, `---
apiVersion: divert.dev/v1alpha1
kind: Zone
metadata: {name: %[1]s}
spec:
  nameservers: [ns1.%[1]s]
  hostmaster: dns-admin@%[1]s
  records: |
    ns1 A 192.0.2.53
`, zone)
	return b.String()
}

func (s service) spec() string {
	return fmt.Sprintf(`---
apiVersion: divert.dev/v1alpha1
kind: GlobalService
metadata: {name: %[1]s}
spec:
  hosts: [%[1]s.%[2]s]
  ttl: 5s
  endpoints:
  - {cluster: fra, addresses: [%[3]s]}
  - {cluster: nyc, addresses: [%[4]s]}
  - {cluster: sin, addresses: [%[5]s]}
  probes:
  - http: {scheme: http, port: %[6]d, path: /healthz, body: ok}
    interval: 1s
    timeout: 1s
    fast: 100ms
  steering: {policy: failover, order: [fra, nyc, sin]}
`, s.name, zone, s.primary, fallback(1), fallback(2), s.port)
}

// apply makes these all the services there are, and waits until every director has
// probed them: each sees each endpoint up, and knows that all the others do.
func (f *fleet) apply(ctx context.Context, services []service) error {
	var text strings.Builder
	text.WriteString(f.base())
	for _, s := range services {
		text.WriteString(s.spec())
	}
	file := filepath.Join(f.world.dir, "now.yaml")
	if err := write(file, text.String()); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, f.binary, "apply", "-f", file, "--prune", "--force", "--confirm", "apply", "--reason", "lab", "--server", f.clients[0].Server)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("divert apply: %w: %s", err, out)
	}
	return until(ctx, time.Minute, "all directors see all services up", func(ctx context.Context) error {
		for i := range f.clients {
			if err := f.settled(ctx, i+1, services); err != nil {
				return fmt.Errorf("d%d: %w", i+1, err)
			}
		}
		return nil
	})
}

func (f *fleet) settled(ctx context.Context, i int, services []service) error {
	s, err := f.clients[i-1].Status(ctx)
	if err != nil {
		return err
	}
	known := map[string]api.Service{}
	for _, svc := range s.Services {
		known[svc.Name] = svc
	}
	for _, want := range services {
		for _, site := range known[want.name].Sites {
			for _, a := range site.Addresses {
				for _, subject := range a.Subjects {
					up := 0
					for _, vote := range subject.Votes {
						if vote == "up" {
							up++
						}
					}
					if subject.State == "down" || up < min(f.directors, 5) {
						return fmt.Errorf("%s in %s: %s is %s, votes %v", want.name, site.Cluster, subject.Probe, subject.State, subject.Votes)
					}
				}
			}
		}
		if len(known[want.name].Sites) == 0 {
			return fmt.Errorf("%s is unknown", want.name)
		}
	}
	return nil
}

// until waits for a condition; nothing is measured by it.
func until(ctx context.Context, most time.Duration, what string, ok func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %s in vain: %s: %w", most, what, err)
		case <-tick.C:
		}
	}
}
