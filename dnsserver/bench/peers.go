package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// server is one that is measured.
type server struct {
	name    string
	program string   // that must be there, "" = none but our own
	needs   []string // files that must be there, too, any of them
	debian  []string // packages
	echo    bool     // it answers nothing
	static  bool     // it sends everybody to one site
	peer    bool     // one of those that the best is looked for among
	note    string
	// command writes what the server reads and gives how it is run, in front.
	command func(place) ([]string, error)
}

const divertName = "divert"

func servers() []server {
	return []server{
		{name: "echo", echo: true, note: "the floor: batches, nothing looked at", command: own("echo")},
		{name: divertName, note: "divert serve, with its store", command: divertCommand},
		{name: "gdnsd", program: "gdnsd", debian: []string{"gdnsd"}, peer: true, note: "plugin geoip, nets", command: gdnsdCommand},
		{
			name: "knot", program: "knotd", debian: []string{"knot", "knot-module-geoip"}, peer: true, note: "mod-geoip, mode subnet",
			needs: []string{"/usr/lib/*/knot/modules-*/geoip.so", "/usr/lib/knot/modules-*/geoip.so"}, command: knotCommand,
		},
		{name: "nsd", program: "nsd", debian: []string{"nsd"}, peer: true, static: true, note: "static records: it cannot steer", command: nsdCommand},
		{
			name: "powerdns", program: "pdns_server", debian: []string{"pdns-server", "pdns-backend-geoip"}, note: "backend geoip, with its packet cache",
			needs: []string{"/usr/lib/*/pdns/libgeoipbackend.so", "/usr/lib/pdns/libgeoipbackend.so", "/usr/lib64/pdns/libgeoipbackend.so"}, command: powerdnsCommand,
		},
		{name: "miekg", note: "a plain handler on github.com/miekg/dns", command: own("plain")},
	}
}

func serverNames() []string {
	var out []string
	for _, s := range servers() {
		out = append(out, s.name)
	}
	return out
}

// own runs a server out of this binary.
func own(part string) func(place) ([]string, error) {
	return func(p place) ([]string, error) {
		self, err := os.Executable()
		return []string{self, part, p.addr.String()}, err
	}
}

// look finds a program, those of administrators too.
func look(program string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin/", "/usr/local/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(dir + program); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed", program)
}

// zoneFile is the zone as static records; without a record for the hosts where
// steered is not nil but what that gives.
func zoneFile(record func(host int) string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "$ORIGIN %s.\n$TTL 3600\n@ SOA ns1 hostmaster 1 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\n", zoneName)
	for h := range hosts {
		fmt.Fprintf(&b, "%s %d %s\n", host(h), ttl, record(h))
	}
	return b.String()
}

func staticRecord(h int) string { return "A " + address(serviceOf(h), homeSite).String() }

func gdnsdCommand(p place) ([]string, error) {
	program, err := look("gdnsd")
	if err != nil {
		return nil, err
	}
	var nets strings.Builder
	for _, n := range p.world.nets {
		fmt.Fprintf(&nets, "%s => %s\n", n.prefix, siteNames[n.site])
	}
	var config strings.Builder
	fmt.Fprintf(&config, `options => {
  listen => [ "%s" ], udp_threads => %d, tcp_threads => 1,
  run_dir => "%s/run", state_dir => "%[3]s/state",
}
plugins => { geoip => {
  maps => { m => { datacenters => [ %s ], nets => nets } }
  resources => {
`, p.addr, p.workers, p.dir, strings.Join(siteNames[:], ", "))
	for s := range services {
		fmt.Fprintf(&config, "    s%d => { map => m, service_types => up, dcmap => {", s)
		for i, site := range siteNames {
			fmt.Fprintf(&config, " %s => %s,", site, address(s, i))
		}
		config.WriteString(" } }\n")
	}
	config.WriteString("  }\n} }\n")
	if err := p.files(map[string]string{
		"etc/config": config.String(), "etc/geoip/nets": nets.String(), "run/.keep": "", "state/.keep": "",
		"etc/zones/" + zoneName: zoneFile(func(h int) string { return fmt.Sprintf("DYNA geoip!s%d", serviceOf(h)) }),
	}); err != nil {
		return nil, err
	}
	return []string{program, "-c", p.dir + "/etc", "start"}, nil
}

func knotCommand(p place) ([]string, error) {
	program, err := look("knotd")
	if err != nil {
		return nil, err
	}
	var geo strings.Builder
	for h := range hosts {
		fmt.Fprintf(&geo, "%s:\n", fullHost(h))
		for _, n := range p.world.nets {
			fmt.Fprintf(&geo, "  - net: %s\n    A: %s\n", n.prefix, address(serviceOf(h), n.site))
		}
	}
	config := fmt.Sprintf(`server:
  rundir: "%[1]s"
  listen: %[2]s@%[3]d
  udp-workers: %[4]d
  tcp-workers: 1
  background-workers: 1
  edns-client-subnet: on
log:
  - target: stderr
    any: warning
database:
  storage: "%[1]s"
mod-geoip:
  - id: geo
    config-file: "%[1]s/geo.conf"
    ttl: %[5]d
    mode: subnet
zone:
  - domain: %[6]s
    storage: "%[1]s"
    file: "%[6]s.zone"
    module: mod-geoip/geo
`, p.dir, p.addr.Addr(), p.addr.Port(), p.workers, ttl, zoneName)
	if err := p.files(map[string]string{"knot.conf": config, "geo.conf": geo.String(), zoneName + ".zone": zoneFile(func(h int) string {
		return "A " + address(serviceOf(h), 0).String() // whom no net holds
	})}); err != nil {
		return nil, err
	}
	return []string{program, "-c", p.dir + "/knot.conf"}, nil
}

func nsdCommand(p place) ([]string, error) {
	program, err := look("nsd")
	if err != nil {
		return nil, err
	}
	// Its rate limit is on by default and would hold back one client alone.
	config := fmt.Sprintf(`server:
  server-count: %d
  reuseport: yes
  ip-address: %s@%d
  database: ""
  zonesdir: "%[4]s"
  zonelistfile: "%[4]s/zone.list"
  xfrdfile: "%[4]s/xfrd.state"
  xfrdir: "%[4]s"
  pidfile: ""
  username: ""
  chroot: ""
  rrl-ratelimit: 0
remote-control:
  control-enable: no
zone:
  name: %[5]s
  zonefile: %[5]s.zone
`, p.workers, p.addr.Addr(), p.addr.Port(), p.dir, zoneName)
	if err := p.files(map[string]string{"nsd.conf": config, zoneName + ".zone": zoneFile(staticRecord)}); err != nil {
		return nil, err
	}
	return []string{program, "-d", "-c", p.dir + "/nsd.conf"}, nil
}

func powerdnsCommand(p place) ([]string, error) {
	program, err := look("pdns_server")
	if err != nil {
		return nil, err
	}
	var zone strings.Builder
	fmt.Fprintf(&zone, "domains:\n- domain: %[1]s\n  ttl: %[2]d\n  records:\n    %[1]s:\n"+
		"    - soa: ns1.%[1]s hostmaster.%[1]s 1 3600 600 86400 60\n    - ns: ns1.%[1]s\n", zoneName, ttl)
	for s := range services {
		for i, site := range siteNames {
			fmt.Fprintf(&zone, "    s%d-%s.%s:\n    - a: %s\n", s, site, zoneName, address(s, i))
		}
	}
	zone.WriteString("  services:\n")
	for h := range hosts {
		s := serviceOf(h)
		if h%perService > 0 { // the same once more
			fmt.Fprintf(&zone, "    %s: *s%d\n", fullHost(h), s)
			continue
		}
		fmt.Fprintf(&zone, "    %s: &s%d\n      default: [ s%d-%s.%s ]\n", fullHost(h), s, s, siteNames[0], zoneName)
		for _, n := range p.world.nets {
			fmt.Fprintf(&zone, "      %s: [ s%d-%s.%s ]\n", n.prefix, s, siteNames[n.site], zoneName)
		}
	}
	config := fmt.Sprintf(`launch=geoip
geoip-zones-file=%[1]s/zones.yaml
local-address=%[2]s
local-port=%[3]d
receiver-threads=%[4]d
reuseport=yes
edns-subnet-processing=yes
socket-dir=%[1]s
daemon=no
guardian=no
write-pid=no
security-poll-suffix=
loglevel=3
`, p.dir, p.addr.Addr(), p.addr.Port(), p.workers)
	if err := p.files(map[string]string{"pdns.conf": config, "zones.yaml": zone.String()}); err != nil {
		return nil, err
	}
	return []string{program, "--config-dir=" + p.dir}, nil
}

func (p place) files(files map[string]string) error {
	for name, text := range files {
		if _, err := p.write(name, text); err != nil {
			return err
		}
	}
	return nil
}
