package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/divertdns/divert/chaos/local"
)

// What is measured at scale: scaleServices endpoints a cluster, each an address
// and port of its own.
const (
	scaleServices    = 5
	scaleOutClusters = 9
	scaleInterval    = 20 * time.Second // between deep probes; all directors share the cores of this machine
	scaleWindow      = 30 * time.Second
	scalePort        = 8101        // of the first service
	scaleGossip      = 50 << 10    // octets a second that an idle director of five may send, or be sent
	scaleSettling    = time.Minute // for votes to be known to all
)

// TestScale runs five directors over 1,000 clusters of five services, all well, and
// prints what an idle one costs. Votes and membership stay within their bound:
//
//	make lab-scale
//
// DIVERT_SCALE is of how many clusters; the bound is for 1,000.
func TestScale(t *testing.T) {
	clusters, err := strconv.Atoi(os.Getenv("DIVERT_SCALE"))
	if err != nil {
		t.Skip("make lab-scale: it takes some minutes of two cores")
	}
	c := scale(t, 5, clusters)
	if c.out > scaleGossip || c.in > scaleGossip {
		t.Errorf("an idle director sends %.1f and is sent %.1f kB/s, want at most %d", c.out/1024, c.in/1024, scaleGossip>>10)
	}
}

// TestScaleOut: with twice the directors, five of whom probe a target, each has
// half as much to probe, and costs less. The clusters are few enough that no
// interval is stretched: where they are more, each director sends all the fast
// signals that it may, whatever the number of directors, and what falls is the
// interval.
func TestScaleOut(t *testing.T) {
	if os.Getenv("DIVERT_SCALE") == "" {
		t.Skip("make lab-scale: it takes some minutes of two cores")
	}
	var costs []scaleCost
	for _, directors := range []int{5, 10} {
		t.Run(fmt.Sprintf("%d directors", directors), func(t *testing.T) {
			costs = append(costs, scale(t, directors, scaleOutClusters))
		})
	}
	if len(costs) < 2 {
		return
	}
	five, ten := costs[0], costs[1]
	t.Logf("a director of ten costs, of what one of five costs: targets %.2f, fast signals %.2f, deep probes %.2f, CPU %.2f, memory %.2f, gossip sent %.2f",
		ten.targets/five.targets, ten.fast/five.fast, ten.deep/five.deep, ten.cpu/five.cpu, ten.rss/five.rss, ten.out/five.out)
	if ten.targets > 0.6*five.targets || ten.fast > 0.65*five.fast {
		t.Errorf("a director of ten has %.0f targets and %.0f fast signals a second, one of five %.0f and %.0f: want about half", ten.targets, ten.fast, five.targets, five.fast)
	}
	if ten.cpu > five.cpu {
		t.Errorf("a director of ten takes %.1f %% of a core and one of five %.1f %%", 100*ten.cpu, 100*five.cpu)
	}
}

// What one director with very many checks may take: of a core, and in MB.
const (
	checksServices  = 100
	checksClusters  = 10
	checksAddresses = 30 // of each cluster
	checksInterval  = 10 * time.Second
	checksCPU       = 0.30
	checksMemory    = 250
)

// TestScaleChecks runs one director with 30,000 HTTP checks each 10 s, over 300 addresses
// that keep connections, and prints what it costs. coredns-gslb names 60 % of a core and
// 667 MB for as many.
func TestScaleChecks(t *testing.T) {
	if os.Getenv("DIVERT_SCALE") == "" {
		t.Skip("make lab-scale: it takes some minutes of two cores")
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })}
	l := listenLoopback(t, scalePort)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-ended })
	r := start(t, local.Options{Directors: 1, Clusters: local.DefaultSites()[:1], Spec: checksSpec})
	r.until(5*time.Minute, "the director probes", func() error {
		s, err := r.status(1)
		if err == nil && s.Plan == nil {
			err = errors.New("no plan")
		}
		return err
	})
	<-time.After(scaleSettling)
	cost := func() (float64, float64) {
		user, system := cpuSeconds(t, r.pid(1))
		_, deep := r.probed(1)
		return user + system, deep
	}
	began, cpu, deep := time.Now(), 0.0, 0.0
	cpu, deep = cost()
	<-time.After(scaleWindow)
	after, probed := cost()
	took := time.Since(began).Seconds()
	cpu, deep = (after-cpu)/took, (probed-deep)/took
	rss := resident(t, r.pid(1))
	t.Logf("%.0f checks a second, %.1f %% of a core, %.0f MB", deep, 100*cpu, rss)
	if want := checksServices * checksClusters * checksAddresses / checksInterval.Seconds(); deep < 0.9*want {
		t.Errorf("%.0f checks a second, want %.0f", deep, want)
	}
	if cpu > checksCPU || rss > checksMemory {
		t.Errorf("%.0f %% of a core and %.0f MB, want at most %.0f and %d", 100*cpu, rss, 100*checksCPU, checksMemory)
	}
}

// checksSpec is services that all are at all addresses, each with a check of its own.
func checksSpec(f *local.Fleet) string {
	var b strings.Builder
	b.WriteString(local.FleetSpec(f))
	for i := range checksClusters {
		fmt.Fprintf(&b, "---\napiVersion: divert.dev/v1alpha1\nkind: Cluster\nmetadata: {name: c%d}\nspec: {location: {country: DE}}\n", i)
	}
	for n := range checksServices {
		fmt.Fprintf(&b, `---
apiVersion: divert.dev/v1alpha1
kind: GlobalService
metadata: {name: s%[1]d}
spec:
  hosts: [s%[1]d.example.org]
  probes:
  - http: {scheme: http, port: %[2]d, path: /healthz/%[1]d}
    interval: %[3]s
    timeout: 1s
  endpoints:
`, n, scalePort, checksInterval)
		for i := range checksClusters {
			var addrs []string
			for a := range checksAddresses {
				addrs = append(addrs, fmt.Sprintf("127.%d.%d.%d", f.Director(1).As4()[1], 100+i, 1+a))
			}
			fmt.Fprintf(&b, "  - {cluster: c%d, addresses: [%s]}\n", i, strings.Join(addrs, ", "))
		}
	}
	return b.String()
}

// scaleCost is what a director costs, in the mean of a fleet's.
type scaleCost struct {
	targets   float64 // fast signals and checks of its own
	fast      float64 // a second
	deep      float64
	cpu       float64 // of a core
	rss       float64 // MB
	out, in   float64 // octets of gossip a second
	votes     float64 // ballots sent a second
	falls     float64 // transitions made, which there should be none of
	heartbeat float64 // heartbeats sent a second
}

// scale runs a fleet and measures its directors.
func scale(t *testing.T, directors, clusters int) scaleCost {
	// Loopback is one device, so one socket a port serves every address of it.
	for i := range scaleServices {
		serveLoopback(t, scalePort+i)
	}
	r := start(t, local.Options{Directors: directors, Clusters: local.DefaultSites()[:1], Spec: func(f *local.Fleet) string { return scaleSpec(f, clusters) }})
	r.until(5*time.Minute, "every director probes", func() error {
		for i := 1; i <= directors; i++ {
			s, err := r.status(i)
			if err != nil {
				return err
			}
			if s.Plan == nil || s.Plan.Revision < uint64(2*directors-1) {
				return fmt.Errorf("%s waits for plans", local.Name(i))
			}
		}
		return nil
	})
	<-time.After(scaleSettling)

	look := func(i int) (c scaleCost) {
		m := r.metrics(i)
		c.fast, c.deep = r.probed(i)
		user, system := cpuSeconds(t, r.pid(i))
		c.cpu, c.rss = user+system, resident(t, r.pid(i))
		for name, v := range m {
			switch {
			case strings.HasPrefix(name, "divert_gossip_bytes_total{") && strings.Contains(name, `direction="out"`):
				c.out += v
			case strings.HasPrefix(name, "divert_gossip_bytes_total{"):
				c.in += v
			case strings.HasPrefix(name, "divert_gossip_sent_total{") && strings.Contains(name, `"ballot"`):
				c.votes += v
			case strings.HasPrefix(name, "divert_gossip_sent_total{") && strings.Contains(name, `"heartbeat"`):
				c.heartbeat += v
			case strings.HasPrefix(name, "divert_certificates_total{"):
				c.falls += v
			case strings.HasPrefix(name, "divert_probe_targets"):
				c.targets += v
			}
		}
		return c
	}
	before := make([]scaleCost, directors)
	for i := range before {
		before[i] = look(i + 1)
	}
	began := time.Now()
	<-time.After(scaleWindow)
	took := time.Since(began).Seconds()
	var mean scaleCost
	for i, b := range before {
		a := look(i + 1)
		c := scaleCost{
			targets: a.targets, fast: (a.fast - b.fast) / took, deep: (a.deep - b.deep) / took, cpu: (a.cpu - b.cpu) / took, rss: a.rss,
			out: (a.out - b.out) / took, in: (a.in - b.in) / took, votes: (a.votes - b.votes) / took, heartbeat: (a.heartbeat - b.heartbeat) / took, falls: a.falls,
		}
		t.Logf("%s: %5.0f targets, %4.0f fast and %4.0f deep probes a second, %4.1f %% of a core, %5.1f MB, gossip %5.1f kB/s out and %5.1f in (%.1f heartbeats and %.1f ballots a second)",
			local.Name(i+1), c.targets, c.fast, c.deep, 100*c.cpu, c.rss, c.out/1024, c.in/1024, c.heartbeat, c.votes)
		if c.falls > 0 {
			t.Errorf("%s made or took %.0f transitions, though all is well", local.Name(i+1), c.falls)
		}
		n := float64(directors)
		mean.targets, mean.fast, mean.deep, mean.cpu, mean.rss = mean.targets+c.targets/n, mean.fast+c.fast/n, mean.deep+c.deep/n, mean.cpu+c.cpu/n, mean.rss+c.rss/n
		mean.out, mean.in, mean.votes, mean.heartbeat = mean.out+c.out/n, mean.in+c.in/n, mean.votes+c.votes/n, mean.heartbeat+c.heartbeat/n
	}
	return mean
}

// scaleSpec is services on clusters that have an address each.
func scaleSpec(f *local.Fleet, clusters int) string {
	var b strings.Builder
	b.WriteString(local.FleetSpec(f))
	addr := func(i int) string {
		a := f.Director(1).As4()
		return fmt.Sprintf("127.%d.%d.%d", a[1], 100+i/250, 1+i%250)
	}
	for i := range clusters {
		fmt.Fprintf(&b, "---\napiVersion: divert.dev/v1alpha1\nkind: Cluster\nmetadata: {name: c%04d}\nspec: {location: {country: DE}, capacity: 10}\n", i)
	}
	for n := range scaleServices {
		fmt.Fprintf(&b, `---
apiVersion: divert.dev/v1alpha1
kind: GlobalService
metadata: {name: s%[1]d}
spec:
  hosts: [s%[1]d.example.org]
  ttl: 5s
  steering: {policy: geo}
  probes:
  - http: {scheme: http, port: %[2]d, path: /healthz}
    interval: %[3]s
    timeout: 1s
    fast: 100ms
  endpoints:
`, n, scalePort+n, scaleInterval)
		for i := range clusters {
			fmt.Fprintf(&b, "  - {cluster: c%04d, addresses: [%s]}\n", i, addr(i))
		}
	}
	return b.String()
}

// listenLoopback listens at every address of loopback.
func listenLoopback(t *testing.T, port int) net.Listener {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		failed := c.Control(func(fd uintptr) { err = unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "lo") })
		return errors.Join(err, failed)
	}}
	l, err := lc.Listen(t.Context(), "tcp4", fmt.Sprintf("0.0.0.0:%d", port))
	if err != nil {
		t.Skipf("no listener for all of loopback: %v", err)
	}
	return l
}

// serveLoopback answers whoever comes by loopback, at whatever address of it.
func serveLoopback(t *testing.T, port int) {
	l := listenLoopback(t, port)
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection, which has a deadline
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(5 * time.Second))
				var buf [1024]byte
				if n, err := c.Read(buf[:]); err != nil || n == 0 {
					return // a fast signal
				}
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
			}()
		}
	}()
}
