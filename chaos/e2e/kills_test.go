package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/local"
)

// rounds is how often the long suite kills or drains: DIVERT_E2E_ROUNDS, 20 by
// default.
func rounds(t *testing.T) int {
	t.Helper()
	v := os.Getenv("DIVERT_E2E_ROUNDS")
	if v == "" {
		return 20
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > 100 {
		t.Fatalf("DIVERT_E2E_ROUNDS=%s: want a number from 1 to 100", v)
	}
	return n
}

// TestKills measures L1 with three directors and deep probes each second: a
// killed service is out of all answers within 3 s (p95), and no query of 1,000 a
// second is answered empty or with an error in between (S1). A fresh service and
// a fresh process for each kill, so that none profits from the one before.
func TestKills(t *testing.T) {
	long(t)
	n := rounds(t)
	r := start(t, local.Options{Clusters: local.DefaultSites()[:2], Backends: n, Spec: killSpec})
	r.settle()
	load, stop := r.query(1000, killHost(1))
	defer stop()
	var first, last times
	for i := 1; i <= n; i++ {
		host, was, to := killHost(i), r.Backend(i).String(), r.Cluster("nyc").String()
		// Half of the queries are for what was killed before: it stays answered.
		load.hosts.Store(&[]string{host, killHost(1 + rand.IntN(i))})
		r.until(10*time.Second, host+" is at its backend", r.all(host, was))
		<-time.After(time.Duration(rand.IntN(1000)) * time.Millisecond) // at any moment of the probes' second
		load.watch(r.Directors(), host, was)
		killed := time.Now()
		must(t, r.Kill(local.BackendName(i)))
		var a, b time.Time
		r.until(15*time.Second, host+" fails over", func() (err error) {
			a, b, err = load.moved(r.Directors(), host, to)
			return err
		})
		first, last = append(first, a.Sub(killed)), append(last, b.Sub(killed))
	}
	stop()
	t.Logf("from the kill to the first director's changed answer: %s", first)
	t.Logf("from the kill to the last director's changed answer:  %s", last)
	if got := last.at(95); got > 3*time.Second {
		t.Errorf("L1: p95 of the last director is %s, want at most 3s: %v", got, []time.Duration(last))
	}
}

func killHost(i int) string { return fmt.Sprintf("k%d.example.org", i) }

// killSpec is one service for each backend: first the backend, then nyc.
func killSpec(f *local.Fleet) string {
	text := local.FleetSpec(f)
	for i := 1; f.HasBackend(i); i++ {
		text += fmt.Sprintf(`---
apiVersion: divert.dev/v1alpha1
kind: GlobalService
metadata: {name: k%d}
spec:
  hosts: [%s]
  ttl: 5s
  endpoints:
  - {cluster: fra, addresses: [%s]}
  - {cluster: nyc, addresses: [%s]}
  probes:
  - http: {scheme: http, port: %d, path: /healthz, body: ok}
    interval: 1s
    timeout: 1s
    fast: 100ms
  steering: {policy: failover, order: [fra, nyc]}
`, i, killHost(i), f.Backend(i), f.Cluster("nyc"), local.ServicePort)
	}
	return text
}
