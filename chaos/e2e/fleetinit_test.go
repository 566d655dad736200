package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/director/api"
)

// hosts is three hosts that a person reaches by scp and ssh; here these are folders, and
// addresses of loopback. Commands run as they are written in the README.
type hosts struct {
	t     *testing.T
	dir   string // the first host's, where init runs
	env   []string
	sites map[string]string // site: address
	procs map[string]*exec.Cmd
	dns   string // port
}

// replaces stand for ssh, scp and sudo.
var replaces = map[string]string{
	"sudo": "exec \"$@\"\n",
	"ssh":  "host=$1; shift; cd \"$HOSTS/$host\" && exec \"$@\"\n",
	"scp": `test "$1" = -r && shift
for last; do :; done
to="$HOSTS/${last%%:*}/${last#*:}"
mkdir -p "$to"
while test $# -gt 1; do cp -r "$1" "$to/"; shift; done
`,
}

// section gives the sh blocks of a part of the README.
func section(t *testing.T, title string) [][]string {
	t.Helper()
	raw, err := os.ReadFile("../../README.md")
	must(t, err)
	_, text, found := strings.Cut(string(raw), "\n## "+title+"\n")
	if !found {
		t.Fatalf("the README has no %q", title)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	var blocks [][]string
	for _, m := range regexp.MustCompile("(?ms)^```sh\n(.*?)\n```").FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, strings.Split(m[1], "\n"))
	}
	return blocks
}

func newHosts(t *testing.T) *hosts {
	t.Helper()
	if runtimeHasOneLoopback() {
		t.Skip("loopback has only 127.0.0.1 here: each host needs an address")
	}
	n := claim(t)
	h := &hosts{t: t, dir: filepath.Join(t.TempDir(), "here"), sites: map[string]string{}, procs: map[string]*exec.Cmd{}, dns: "53"}
	for i, site := range []string{"fra", "nyc", "sin"} {
		h.sites[site] = fmt.Sprintf("127.%d.7.%d", n, i+1)
	}
	bin, away := filepath.Join(filepath.Dir(h.dir), "bin"), filepath.Join(filepath.Dir(h.dir), "away")
	for _, d := range []string{h.dir, bin, away} {
		must(t, os.MkdirAll(d, 0o700))
	}
	for name, text := range replaces {
		must(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text), 0o700))
	}
	must(t, os.Symlink(binary, filepath.Join(h.dir, "divert")))
	h.env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HOSTS="+away)
	if c, err := net.ListenPacket("udp", net.JoinHostPort(h.sites["fra"], "53")); err == nil {
		_ = c.Close()
	} else { // an ordinary user may not
		h.dns = "5353"
	}
	t.Cleanup(func() {
		for site := range h.procs {
			h.kill(site)
		}
		nothingLeft(t, filepath.Dir(h.dir))
	})
	return h
}

// here writes a command of the README for these hosts.
func (h *hosts) here(line string) string {
	line = strings.NewReplacer("203.0.113.5", h.sites["fra"], "198.51.100.7", h.sites["nyc"], "192.0.2.9", h.sites["sin"]).Replace(line)
	if h.dns != "53" && strings.Contains(line, "fleet init") {
		line += " --dns-port " + h.dns
	}
	return line
}

func (h *hosts) command(line string) *exec.Cmd {
	c := exec.CommandContext(context.WithoutCancel(h.t.Context()), "sh", "-c", line)
	c.Dir, c.Env = h.dir, h.env
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return c
}

// run runs a command to its end, and gives its exit code.
func (h *hosts) run(line string) (out string, code int) {
	h.t.Helper()
	b, err := h.command(line).CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(b), exit.ExitCode()
	}
	must(h.t, err)
	return string(b), 0
}

// serve starts a director that goes on until it is killed.
func (h *hosts) serve(site, line string) {
	h.t.Helper()
	c := h.command(line)
	var log bytes.Buffer
	c.Stderr = &log
	must(h.t, c.Start())
	h.procs[site] = c
	h.t.Cleanup(func() {
		if text := log.String(); h.t.Failed() {
			h.t.Logf("--- log of %s\n%s", site, text[max(0, len(text)-8000):])
		}
	})
}

// kill takes a host's power: its director, and the etcd beside that.
func (h *hosts) kill(site string) {
	c := h.procs[site]
	delete(h.procs, site)
	_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
	_ = c.Wait()
}

// divert asks the director of a site, as the admin.
func (h *hosts) divert(site string, args ...string) (string, int) {
	h.t.Helper()
	return h.run("./divert " + strings.Join(args, " ") + " --server https://" + h.sites[site] + ":8053 --ca fleet/operator/api-ca.crt --cert fleet/operator/admin.pem")
}

// answer is what a site's DNS says of a name.
func (h *hosts) answer(site, host string) (string, error) {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(host), dns.TypeA)
	reply, _, err := (&dns.Client{Timeout: time.Second}).Exchange(m, net.JoinHostPort(h.sites[site], h.dns))
	if err != nil {
		return "", err
	}
	if len(reply.Answer) != 1 {
		return dns.RcodeToString[reply.Rcode], nil
	}
	a, _ := reply.Answer[0].(*dns.A)
	if a == nil {
		return "", fmt.Errorf("%v", reply.Answer)
	}
	return a.A.String(), nil
}

// answers waits until the sites answer a name with an address.
func (h *hosts) answers(host, want string, sites ...string) {
	h.t.Helper()
	h.until(30*time.Second, host+" is at "+want, func() error {
		for _, site := range sites {
			if got, err := h.answer(site, host); err != nil || got != want {
				return fmt.Errorf("%s answers %s, %w", site, got, cmpErr(err))
			}
		}
		return nil
	})
}

func cmpErr(err error) error {
	if err == nil {
		return errors.New("another one")
	}
	return err
}

func (h *hosts) until(within time.Duration, what string, check func() error) {
	h.t.Helper()
	(&rig{t: h.t}).until(within, what, check)
}

// settled waits until a director sees all three active, heard and at one plan.
func (h *hosts) settled(site string) {
	h.t.Helper()
	h.until(60*time.Second, "three directors", func() error {
		out, code := h.divert(site, "director", "list", "-o", "json")
		var list []api.DirectorState
		err := json.Unmarshal([]byte(out), &list)
		list = slices.DeleteFunc(list, func(d api.DirectorState) bool { return d.Standing == "removed" })
		if err != nil || code != 0 || len(list) != 3 {
			return fmt.Errorf("code %d: %s", code, out)
		}
		for _, d := range list {
			if d.Standing != "active" || !d.Heard || d.DNS != "ok" || d.Key == "" || d.Plan != list[0].Plan {
				return fmt.Errorf("%s sees %+v", site, d)
			}
		}
		return nil
	})
}

// backend serves what probes ask for, at an address, until the test ends.
func backend(t *testing.T, addr string) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(addr, "8080"))
	must(t, err)
	s := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
}

// TestFleetInit runs the README's commands, from nothing to three directors with TLS on
// three hosts, in six commands at most; has them answer DNS; kills one host; and drains
// through another. What has no certificate of the fleet reaches nothing.
func TestFleetInit(t *testing.T) {
	h := newHosts(t)
	blocks := section(t, "Three sites from nothing")
	if len(blocks) != 4 || len(blocks[0]) > 6 {
		t.Fatalf("the README takes %d commands in %d blocks, want 6 at most, and how to ask", len(blocks[0]), len(blocks))
	}
	serves := map[string]string{}
	for _, line := range blocks[0] {
		line = h.here(line)
		if !strings.Contains(line, " serve ") {
			if out, code := h.run(line); code != 0 {
				t.Fatalf("%s: code %d\n%s", line, code, out)
			}
			continue
		}
		for site := range h.sites {
			if strings.Contains(line, site+"/director.yaml") {
				serves[site] = line
				h.serve(site, line)
			}
		}
	}
	if len(serves) != 3 {
		t.Fatalf("the README starts %v", serves)
	}
	for _, site := range []string{"fra", "nyc", "sin"} {
		h.settled(site)
	}
	if out, code := h.run(h.here(blocks[1][0])); code != 0 || !strings.Contains(out, "hears 3 of 3 directors") || strings.Contains(out, "ALERTS") {
		t.Errorf("status, as in the README: code %d\n%s", code, out)
	}
	if out, code := h.run(h.here("./divert fleet init --sites fra=203.0.113.5 --out fleet")); code != 1 || !strings.Contains(out, "nothing is written over") {
		t.Errorf("init over what is there: code %d\n%s", code, out)
	}

	// A service at two places.
	one, two := strings.Replace(h.sites["fra"], ".7.", ".10.", 1), strings.Replace(h.sites["nyc"], ".7.", ".10.", 1)
	backend(t, one)
	backend(t, two)
	must(t, os.MkdirAll(filepath.Join(h.dir, "spec.d"), 0o700))
	must(t, os.WriteFile(filepath.Join(h.dir, "spec.d", "shop.yaml"), fmt.Appendf(nil, shopSpec, one, two), 0o600))
	if out, code := h.run(h.here(blocks[1][1])); code != 0 {
		t.Fatalf("apply, as in the README: code %d\n%s", code, out)
	}
	h.answers("shop.example.org", one, "fra", "nyc", "sin")

	// Who has no certificate, or one of the API alone, is nobody to the API or to the store.
	for what, line := range map[string]string{
		"the API without a certificate": "./divert drain cluster/one --reason x --server https://" + h.sites["fra"] + ":8053 --ca fleet/operator/api-ca.crt",
		"a director's certificate":      "DIVERT_KEY=fleet/fra/etcd-client.key ./divert drain cluster/one --reason x --server https://" + h.sites["fra"] + ":8053 --ca fleet/operator/api-ca.crt --cert fleet/fra/etcd-client.crt",
	} {
		if out, code := h.run(line); code != 1 {
			t.Errorf("%s: code %d, want 1\n%s", what, code, out)
		}
	}

	// One host loses its power; two go on, the store too.
	h.kill("nyc")
	h.until(30*time.Second, "a drain with nyc dead", func() error { // if it led etcd, others have to agree first who does
		out, code := h.divert("sin", "drain", "cluster/one", "--reason", "INC-1", "--timeout", "5s")
		if code != 3 || !strings.Contains(out, "nyc") {
			return fmt.Errorf("code %d, want 3 and its name\n%s", code, out)
		}
		return nil
	})
	h.answers("shop.example.org", two, "fra", "sin")

	// It comes back, and has what was said meanwhile.
	h.serve("nyc", serves["nyc"])
	h.settled("fra")
	h.answers("shop.example.org", two, "fra", "nyc", "sin")
	if level() != "long" {
		return
	}
	h.renewed()
	h.joined()
	// Each in turn, and a command each time.
	for i, site := range []string{"fra", "nyc", "sin"} {
		h.kill(site)
		left := slices.DeleteFunc([]string{"fra", "nyc", "sin"}, func(s string) bool { return s == site })
		verb, at := "undrain", one
		if i%2 == 1 {
			verb, at = "drain", two
		}
		h.until(30*time.Second, "a command with "+site+" dead", func() error {
			if out, code := h.divert(left[0], verb, "cluster/one", "--reason", "INC-2", "--timeout", "5s"); code != 3 && code != 0 {
				return fmt.Errorf("code %d: %s", code, out)
			}
			return nil
		})
		h.answers("shop.example.org", at, left...)
		h.serve(site, serves[site])
		h.settled(left[0])
	}
}

const shopSpec = `apiVersion: divert.dev/v1alpha1
kind: Cluster
metadata: {name: one}
spec: {location: {country: DE}}
---
apiVersion: divert.dev/v1alpha1
kind: Cluster
metadata: {name: two}
spec: {location: {country: US}}
---
apiVersion: divert.dev/v1alpha1
kind: Zone
metadata: {name: example.org}
spec:
  nameservers: [ns1.example.org]
  hostmaster: dns-admin@example.org
  records: |
    ns1 A 192.0.2.53
---
apiVersion: divert.dev/v1alpha1
kind: GlobalService
metadata: {name: shop}
spec:
  hosts: [shop.example.org]
  ttl: 5s
  endpoints:
  - {cluster: one, addresses: [%s]}
  - {cluster: two, addresses: [%s]}
  probes: [{http: {scheme: http, port: 8080, path: /, body: ok}}]
  steering: {policy: failover, order: [one, two]}
`
