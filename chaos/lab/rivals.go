//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// rival is another server that takes dead endpoints out of its answers, at its
// tightest settings. It is started anew for each batch of services.
type rival struct {
	name    string
	needs   []string // programs and files that must be there; a * stands for any text
	command func(dir string, at netip.Addr, services []service) (argv []string, files map[string]string)

	where   *space
	address netip.Addr
	process *process
}

// rivals gives those that are installed, each in a namespace of its own, and says why
// the others are not taken.
func (w *world) findRivals(say func(format string, args ...any)) ([]*rival, error) {
	var out []*rival
	for i, r := range []*rival{
		{name: "gdnsd", needs: []string{"/usr/sbin/gdnsd"}, command: gdnsd},
		{name: "powerdns", needs: []string{"/usr/sbin/pdns_server", "/usr/lib/*/pdns/libbindbackend.so"}, command: powerdns},
	} {
		missing := ""
		for _, need := range r.needs {
			if found, _ := filepath.Glob(need); len(found) == 0 {
				missing = need
			}
		}
		if missing != "" {
			say("%s is left out: %s is not there (apt-get install gdnsd pdns-server pdns-backend-bind)", r.name, missing)
			continue
		}
		var err error
		if r.where, err = w.link(r.name, rivalBlock, i); err != nil {
			return nil, err
		}
		_, r.address = addressOf(rivalBlock, i)
		out = append(out, r)
	}
	return out, nil
}

// start has it answer for services, and waits until it finds them all alive.
func (r *rival) start(ctx context.Context, w *world, services []service) error {
	dir := filepath.Join(w.dir, r.name)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	argv, files := r.command(dir, r.address, services)
	for name, text := range files {
		if err := write(filepath.Join(dir, name), text); err != nil {
			return err
		}
	}
	// Debian's packages run them as users of their own; here they are root's.
	if _, err := exec.LookPath(argv[0]); err != nil {
		return err
	}
	var err error
	if r.process, err = w.processes.start(ctx, r.where, r.name, argv...); err != nil {
		return err
	}
	return until(ctx, 30*time.Second, r.name+" finds all services alive", func(ctx context.Context) error {
		var errs []error // all are asked each time: PowerDNS begins to check what it is asked for
		for _, s := range services {
			errs = append(errs, answers(ctx, netip.AddrPortFrom(r.address, 53), s, s.primary))
		}
		return errors.Join(errs...)
	})
}

func (r *rival) stop(w *world) {
	if r.process != nil {
		w.processes.kill(r.process)
		r.process = nil
	}
}

// answers asks a server once.
func answers(ctx context.Context, server netip.AddrPort, s service, want netip.Addr) error {
	a, err := newAsker(server, s.name)
	if err != nil {
		return err
	}
	defer a.close()
	got, err := a.once(ctx)
	if err == nil && got != want {
		err = fmt.Errorf("the answer is %s, want %s", got, want)
	}
	if err != nil {
		return fmt.Errorf("%s of %s: %w", s.name, server, err)
	}
	return nil
}

const zoneHead = "$TTL 5\n@ SOA ns1 hostmaster 1 3600 600 86400 5\n@ NS ns1\nns1 A 192.0.2.53\n"

// gdnsd: an interval of 2 s is the least that it takes, since the timeout is at least
// 1 s and less than the interval (gdnsd.config(5)).
func gdnsd(dir string, at netip.Addr, services []service) ([]string, map[string]string) {
	var resources, records strings.Builder
	for _, s := range services {
		fmt.Fprintf(&resources, "    %s => { service_types => p%d, primary => %s, secondary => %s },\n", s.name, s.port, s.primary, fallback(1))
		fmt.Fprintf(&records, "%s 5 DYNA simplefo!%[1]s\n", s.name)
	}
	var types strings.Builder
	for _, port := range []int{openPort, lonePort} {
		fmt.Fprintf(&types, "  p%d => { plugin => http_status, port => %[1]d, url_path => /healthz, up_thresh => 1, ok_thresh => 1, down_thresh => 1, interval => 2, timeout => 1 },\n", port)
	}
	return []string{"/usr/sbin/gdnsd", "-c", dir + "/etc", "start"}, map[string]string{
		"etc/config": fmt.Sprintf("options => { listen => [ \"%s\" ], run_dir => \"%s/run\", state_dir => \"%[2]s/state\" }\nservice_types => {\n%s}\nplugins => { simplefo => {\n%s} }\n",
			at, dir, types.String(), resources.String()),
		"etc/zones/" + zone: zoneHead + records.String(), "run/.keep": "", "state/.keep": "",
	}
}

// powerdns: every second, and one failure is enough (ifurlup knows no threshold in
// this version; a timeout of 1 s is the least).
func powerdns(dir string, at netip.Addr, services []service) ([]string, map[string]string) {
	var records strings.Builder
	for _, s := range services {
		fmt.Fprintf(&records, "%s IN LUA A \"ifurlup('http://lab:%d/healthz', {{'%s'},{'%s'}}, {timeout=1, selector='first'})\"\n", s.name, s.port, s.primary, fallback(1))
	}
	return []string{"/usr/sbin/pdns_server", "--config-dir=" + dir}, map[string]string{
		"zone":       zoneHead + records.String(),
		"named.conf": fmt.Sprintf("zone \"%s\" { type master; file \"%s/zone\"; };\n", zone, dir),
		"pdns.conf": fmt.Sprintf(`launch=bind
bind-config=%[1]s/named.conf
local-address=%[2]s
local-port=53
enable-lua-records=yes
lua-health-checks-interval=1
lua-health-checks-expire-delay=3600
cache-ttl=0
query-cache-ttl=0
negquery-cache-ttl=0
socket-dir=%[1]s
daemon=no
guardian=no
write-pid=no
security-poll-suffix=
loglevel=4
`, dir, at),
	}
}
