package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/local"
)

// What an idle director of idleServices may cost, etcd's process apart.
const (
	idleServices  = 100
	idleBackends  = 30
	idleEndpoints = 3
	idleWindow    = 30 * time.Second
	idleCPU       = 0.10 // of a core
	idleRSS       = 120  // MB
)

// TestIdleCost runs three directors over 100 services of three endpoints each,
// on 30 addresses: 300 fast signals and, since each service asks for a host of
// its own, 300 deep probes a second. It prints what each director costs:
//
//	DIVERT_E2E=long go test ./chaos/e2e -run IdleCost -v
func TestIdleCost(t *testing.T) {
	long(t)
	r := start(t, local.Options{Backends: idleBackends, Spec: idleSpec})
	r.settle()
	<-time.After(15 * time.Second) // what starting cost is not what idling costs

	type cost struct{ user, system, fast, deep float64 }
	look := func(i int) (c cost) {
		c.user, c.system = cpuSeconds(t, r.pid(i))
		c.fast, c.deep = r.probed(i)
		return c
	}
	var before [3]cost
	for i := range before {
		before[i] = look(i + 1)
	}
	began := time.Now()
	<-time.After(idleWindow)
	took := time.Since(began).Seconds()
	for i := range before {
		name, pid := local.Name(i+1), r.pid(i+1)
		after := look(i + 1)
		user, system := (after.user-before[i].user)/took, (after.system-before[i].system)/took
		fast, deep := (after.fast-before[i].fast)/took, (after.deep-before[i].deep)/took
		rss := resident(t, pid)
		t.Logf("%s: %.1f %% of a core (user %.1f, system %.1f), RSS %.1f MB, %.0f fast signals and %.0f deep probes a second",
			name, 100*(user+system), 100*user, 100*system, rss, fast, deep)
		if fast < 200 || deep < 200 {
			t.Skipf("the machine is too busy to measure: %s got to %.0f fast signals and %.0f deep probes a second of about 300 each", name, fast, deep)
		}
		if user+system > idleCPU {
			t.Errorf("%s takes %.1f %% of a core, want at most %.0f %%", name, 100*(user+system), 100*idleCPU)
		}
		if rss > idleRSS {
			t.Errorf("%s has %.1f MB resident, want at most %d", name, rss, idleRSS)
		}
	}
}

// idleSpec spreads the services over the backends' addresses.
func idleSpec(f *local.Fleet) string {
	var b strings.Builder
	b.WriteString(local.FleetSpec(f))
	sites := f.Sites()
	for n := range idleServices {
		fmt.Fprintf(&b, `---
apiVersion: divert.dev/v1alpha1
kind: GlobalService
metadata: {name: s%03[1]d}
spec:
  hosts: [s%03[1]d.example.org]
  siteNames: true
  ttl: 5s
  steering: {policy: geo}
  probes:
  - http: {scheme: http, port: %[2]d, path: /healthz, host: s%03[1]d.example.org, body: ok}
    interval: 1s
    timeout: 1s
    fast: 100ms
  endpoints:
`, n, local.ServicePort)
		for i := range idleEndpoints {
			addr := f.Backend((n*idleEndpoints+i)%idleBackends + 1)
			fmt.Fprintf(&b, "  - {cluster: %s, addresses: [%s]}\n", sites[i%len(sites)].Name, addr)
		}
	}
	return b.String()
}

// pid finds the i-th director's process by the settings that it was given.
func (r *rig) pid(i int) int {
	r.t.Helper()
	settings := filepath.Join(filepath.Dir(r.DataDir(i)), "director.yaml")
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(lines) == 0 {
		r.t.Skip("no /proc here to measure by")
	}
	for _, path := range lines {
		line, err := os.ReadFile(path)
		args := strings.Split(string(line), "\x00")
		if err != nil || len(args) < 4 || args[1] != "serve" || args[3] != settings {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			r.t.Fatal(err)
		}
		return pid
	}
	r.t.Fatalf("%s does not run", local.Name(i))
	return 0
}

// cpuSeconds gives what a process has used of a core, in user and system mode.
func cpuSeconds(t *testing.T, pid int) (user, system float64) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	// proc(5): the name may hold blanks, so fields are counted behind it; utime
	// and stime are the 14th and 15th, in ticks of 10 ms.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 13 {
		t.Fatalf("/proc/%d/stat: %q", pid, b)
	}
	u, err := strconv.ParseFloat(fields[11], 64)
	must(t, err)
	s, err := strconv.ParseFloat(fields[12], 64)
	must(t, err)
	return u / 100, s / 100
}

// resident gives a process's resident memory in MB.
func resident(t *testing.T, pid int) float64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			kb, err := strconv.ParseFloat(f[1], 64)
			must(t, err)
			return kb * 1024 / 1e6
		}
	}
	t.Fatalf("/proc/%d/status has no VmRSS", pid)
	return 0
}

// probed gives how many fast signals and deep probes a director has sent.
func (r *rig) probed(i int) (fast, deep float64) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:8053/metrics", r.Director(i)), nil)
	must(r.t, err)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, "divert_probe_probes_total{") {
			continue
		}
		v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		must(r.t, err)
		if strings.Contains(line, `"fast"`) {
			fast += v
		} else {
			deep += v
		}
	}
	must(r.t, lines.Err())
	return fast, deep
}
