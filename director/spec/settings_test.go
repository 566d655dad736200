package spec

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/divertdns/divert/director/access"
)

func comparePrefixes() cmp.Option {
	return cmp.Options{
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	}
}

// TestDefaultSettings: `divert serve` with no file answers on loopback.
func TestDefaultSettings(t *testing.T) {
	s, problems := LoadSettings("")
	if len(problems) != 0 {
		t.Fatalf("got %v", problems)
	}
	want := Settings{Name: s.Name, Site: s.Name, DataDir: s.DataDir}
	want.DNS.Listen = []string{"127.0.0.1:5300", "[::1]:5300"}
	want.DNS.RateLimit = 2000
	want.Gossip.Listen = "127.0.0.1:7946"
	want.Etcd.Embedded = true
	want.API.Listen = "127.0.0.1:8053"
	want.History.For, want.History.Size = 7*24*time.Hour, 64<<20
	if diff := cmp.Diff(want, s, comparePrefixes()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	host, err := os.Hostname()
	if err == nil && isDotted(strings.ToLower(host)) && s.Name != strings.ToLower(host) {
		t.Errorf("name %q, want the host's, %q", s.Name, host)
	}
	if os.Geteuid() == 0 && s.DataDir != "/var/lib/divert" || os.Geteuid() != 0 && !strings.HasSuffix(s.DataDir, "/.local/state/divert") {
		t.Errorf("data in %s", s.DataDir)
	}
}

// TestSettings reads the file of DESIGN section 5, and a witness's.
func TestSettings(t *testing.T) {
	text := `
name: d1
site: fra-dc1
dataDir: data
dns:
  listen: ["0.0.0.0:53", "[::]:53"]
  identity: d1.example.net
  version: Divert
  rateLimit: {perSecond: 500, exempt: [198.51.100.0/24, "2001:db8::/32"]}
  queryLog: {sample: 0.1%}
  dnstap: {socket: tap.sock}
gossip: {listen: "0.0.0.0:7946", advertise: "203.0.113.5:7946", join: [d2.example.net, "[2001:db8::5]", "192.0.2.5:7000"], keyFile: gossip.key}
etcd: {endpoints: ["https://etcd.example.net:2379"], tls: {ca: ca.pem, cert: d1.pem, key: /etc/d1.key}}
api:
  listen: "127.0.0.1:8053"
  kubernetes:
  - {name: fra, kubeconfig: fra.kubeconfig, audiences: [divert, more], issuer: "https://kubernetes.default.svc"}
  - {name: nyc, kubeconfig: nyc.kubeconfig, context: it, audiences: [divert], issuer: "https://nyc.example.net"}
  grants: [{who: "kube:nyc/system:serviceaccount:ops:drills", role: viewer, scopes: [fleet]}]
geo: {database: cities.mmdb}
probe: {source: 203.0.113.5, allow: ["127.0.0.0/8"], secrets: secrets, kubeconfigs: kube}
controls: ["192.0.2.1:53", "control.example.net:53"]
history: {for: 30d, size: 1GiB}
audit: {syslog: {address: "tls://SIEM.example.net", format: cef, ca: siem.pem}}
resolvers: [192.0.2.53, "2001:db8::53", "[2001:db8::53]:5353"]
spec: [spec.d, /etc/more.d]
`
	s, problems := ParseSettings("/etc/divert/director.yaml", []byte(text))
	if len(problems) != 0 {
		t.Fatalf("got %v", problems)
	}
	var want Settings
	want.Name, want.Site, want.DataDir = "d1", "fra-dc1", "/etc/divert/data"
	want.DNS.Listen = []string{"0.0.0.0:53", "[::]:53"}
	want.DNS.Identity, want.DNS.Version, want.DNS.RateLimit = "d1.example.net", "Divert", 500
	want.DNS.RateExempt = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8::/32")}
	want.DNS.QueryLog, want.DNS.Tap.Socket, want.DNS.Tap.Sample = 0.001, "/etc/divert/tap.sock", 1
	want.Gossip.Listen, want.Gossip.Advertise = "0.0.0.0:7946", "203.0.113.5:7946"
	want.Gossip.Join = []string{"d2.example.net:7946", "[2001:db8::5]:7946", "192.0.2.5:7000"}
	want.Gossip.KeyFile = "/etc/divert/gossip.key"
	want.Etcd.Endpoints = []string{"https://etcd.example.net:2379"}
	want.Etcd.TLS.CA, want.Etcd.TLS.Cert, want.Etcd.TLS.Key = "/etc/divert/ca.pem", "/etc/divert/d1.pem", "/etc/d1.key"
	want.API.Listen = "127.0.0.1:8053"
	want.API.Kubernetes = []APICluster{
		{Name: "fra", Kubeconfig: "/etc/divert/fra.kubeconfig", Audiences: []string{"divert", "more"}, Issuer: "https://kubernetes.default.svc"},
		{Name: "nyc", Kubeconfig: "/etc/divert/nyc.kubeconfig", Context: "it", Audiences: []string{"divert"}, Issuer: "https://nyc.example.net"},
	}
	want.API.Grants = []access.Grant{{Who: "kube:nyc/system:serviceaccount:ops:drills", Role: access.Viewer, Scopes: []access.Scope{{Kind: access.Fleet}}}}
	want.Probe.Source = netip.MustParseAddr("203.0.113.5")
	want.Probe.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	want.Probe.Secrets, want.Probe.Kubeconfigs = "/etc/divert/secrets", "/etc/divert/kube"
	want.Geo.Database = "/etc/divert/cities.mmdb"
	want.History.For, want.History.Size = 30*24*time.Hour, 1<<30
	want.Audit.Syslog.Address, want.Audit.Syslog.Format, want.Audit.Syslog.CA = "tls://siem.example.net:6514", "cef", "/etc/divert/siem.pem"
	want.Controls = []string{"192.0.2.1:53", "control.example.net:53"}
	want.Resolvers = []string{"192.0.2.53:53", "[2001:db8::53]:53", "[2001:db8::53]:5353"}
	want.Spec = []string{"/etc/divert/spec.d", "/etc/more.d"}
	want.File = "/etc/divert/director.yaml"
	if diff := cmp.Diff(want, s, comparePrefixes()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	witness, problems := ParseSettings("w.yaml", []byte("name: w\ndns: {listen: []}\netcd: {endpoints: [\"unix:etcd.sock\", \"http://127.0.0.1:2379\"]}\n"))
	if len(problems) != 0 {
		t.Fatalf("witness: got %v", problems)
	}
	if witness.DNS.Listen == nil || len(witness.DNS.Listen) != 0 || witness.Site != "w" || witness.Etcd.Embedded || witness.Etcd.Endpoints[0] != "unix://etcd.sock" {
		t.Errorf("witness: got %+v", witness)
	}
	empty, problems := ParseSettings("e.yaml", []byte("# nothing\n"))
	if len(problems) != 0 || len(empty.DNS.Listen) != 2 {
		t.Errorf("an empty file: got %+v, %v", empty, problems)
	}
	if _, problems := LoadSettings(filepath.Join(t.TempDir(), "nowhere.yaml")); !Failed(problems) || !strings.Contains(problems[0].String(), "is not there") {
		t.Errorf("got %v", problems)
	}
}

// TestSharedSocket: a user of the system who is granted something, and cannot reach the
// socket, is warned of; where he can, or nobody is, nothing is said.
func TestSharedSocket(t *testing.T) {
	dir := t.TempDir()
	open, closed := filepath.Join(dir, "open"), filepath.Join(dir, "closed")
	for path, mode := range map[string]os.FileMode{filepath.Dir(dir): 0o711, dir: 0o711, open: 0o755, closed: 0o700, filepath.Join(closed, "inner"): 0o755} {
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct{ data, socket, who, want string }{
		"in the data folder, not made yet": {filepath.Join(open, "d1"), "", "unix:alice", "will be the director's alone"},
		"in the data folder":               {closed, "", "group:unix:ops", "lets nobody else pass (mode 0700)"},
		"a data folder that is open":       {open, "", "unix:alice", ""},
		"a socket of its own":              {closed, filepath.Join(open, "control.sock"), "unix:alice", ""},
		"below what is closed":             {open, filepath.Join(closed, "inner", "control.sock"), "unix:alice", closed + " lets nobody else pass"},
		"nobody of the system":             {closed, "", "cert:alice", ""},
		"root":                             {closed, "", "unix:root", ""},
	} {
		var s Settings
		s.DataDir, s.API.Socket = tc.data, tc.socket
		s.API.Grants = []access.Grant{{Who: "cert:ann", Role: access.Viewer}, {Who: tc.who, Role: access.Viewer}}
		got := ""
		for _, p := range CheckFiles(s, &Set{}, nil) {
			if strings.Contains(p.Message, "cannot reach the socket") {
				got += p.String()
				if !p.Warning || !strings.Contains(p.Remedy, "api: {socket:") {
					t.Errorf("%s: got %+v", name, p)
				}
			}
		}
		if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

// TestCheckFiles: what is not on this machine is a warning, with its line.
func TestCheckFiles(t *testing.T) {
	set := resolved(t, strings.Replace(base, "capacity: 200", "controlPlane: {kubeconfig: {path: fra.conf}}", 1))
	dir := t.TempDir()
	path := filepath.Join(dir, "director.yaml")
	write(t, path, `
name: d1
gossip: {keyFile: gossip.key, join: ["192.0.2.1"]}
etcd:
  endpoints: ["https://192.0.2.1:2379"]
  tls: {ca: ca.pem, cert: cert.pem,
        key: tls}
spec: [spec.d]
geo: {database: cities.mmdb}
probe: {kubeconfigs: kube}
`)
	s, problems := LoadSettings(path)
	if Failed(problems) {
		t.Fatalf("got %v", problems)
	}
	if err := os.Mkdir(filepath.Join(dir, "tls"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "cert.pem"), "")
	want := []string{
		"warning: Cluster/fra spec.controlPlane.kubeconfig.path: kube/fra.conf is not there",
		"director.yaml:3: warning: gossip.keyFile: gossip.key is not there",
		"director.yaml:6: warning: etcd.tls.ca: ca.pem is not there",
		"director.yaml:7: warning: etcd.tls.key: tls is a folder",
		"director.yaml:8: warning: spec[0]: spec.d is not there",
		"director.yaml:9: warning: geo.database: cities.mmdb is not there",
	}
	bad := func(path string) error { return errors.New(path + ": no database") }
	got := CheckFiles(s, set, bad)
	if !slices.EqualFunc(got, want, func(p Problem, want string) bool {
		return strings.HasPrefix(strings.ReplaceAll(p.String(), dir+"/", ""), want)
	}) {
		t.Errorf("got %v, want %v", got, want)
	}
	if err := os.Mkdir(filepath.Join(dir, "kube"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gossip.key", "ca.pem", "spec.d", "kube/fra.conf", "cities.mmdb"} {
		write(t, filepath.Join(dir, name), "")
	}
	s.Etcd.TLS.Key = filepath.Join(dir, "cert.pem")
	if got := CheckFiles(s, set, nil); len(got) != 0 {
		t.Errorf("with all of them: got %v", got)
	}
	got = CheckFiles(s, set, bad)
	if len(got) != 1 || !strings.HasPrefix(got[0].String(), path+":9: error: geo.database: "+dir+"/cities.mmdb: no database (put a MaxMind DB file") {
		t.Errorf("with a file that is no database: got %v", got)
	}
	if got := CheckFiles(DefaultSettings(), nil, bad); len(got) != 0 {
		t.Errorf("the defaults: got %v", got)
	}
}

// TestKubeconfigsConfined: a spec names a kubeconfig in the folder that a director's own
// settings give, or in a folder of its spec, links followed first; nothing else is opened,
// and the check says so, and what to do (C11).
func TestKubeconfigsConfined(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kube/deep", "spec.d", "alone", "elsewhere"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"kube/fra", "kube/deep/nyc", "spec.d/ams", "alone/fleet.yaml", "alone/sin", "elsewhere/secret", "beside"} {
		write(t, filepath.Join(dir, name), name)
	}
	links := map[string]string{
		"kube/in": "deep/nyc", "kube/out": "../elsewhere/secret", "kube/absolute": dir + "/kube/fra", "kube/gone": "../elsewhere/none",
		"spec.d/folder": "../elsewhere", "linked": "kube",
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	settings := func(text string) *Settings {
		write(t, filepath.Join(dir, "director.yaml"), "name: d1\n"+text)
		s, problems := LoadSettings(filepath.Join(dir, "director.yaml"))
		if Failed(problems) {
			t.Fatal(problems)
		}
		return &s
	}
	whole := settings("probe: {kubeconfigs: kube}\nspec: [spec.d, alone/fleet.yaml]\n")
	tests := []struct {
		s          *Settings
		name, want string // what it holds, or "outside", or another error
	}{
		{whole, "fra", "kube/fra"},
		{whole, "deep/nyc", "kube/deep/nyc"},
		{whole, "in", "kube/deep/nyc"},
		{whole, "absolute", "kube/fra"},
		{whole, dir + "/linked/fra", "kube/fra"},
		{whole, dir + "/spec.d/ams", "spec.d/ams"},
		{whole, dir + "/alone/sin", "alone/sin"},
		{whole, "nothing", "no such file"},
		{whole, "out", "outside"},
		{whole, "gone", "path escapes"},
		{whole, dir + "/spec.d/folder/secret", "outside"},
		{whole, "../beside", "outside"},
		{whole, dir + "/beside", "outside"},
		{whole, dir + "/director.yaml", "outside"},
		{whole, dir + "/kubes", "outside"},
		{settings("probe: {kubeconfigs: linked}\n"), "fra", "kube/fra"},
		{settings("spec: [spec.d]\n"), "spec.d/ams", "spec.d/ams"},
		{settings("spec: [spec.d]\n"), "beside", "outside"},
		{settings("probe: {secrets: elsewhere}\n"), dir + "/elsewhere/secret", "outside"},
		{settings(""), "beside", "outside"},
	}
	for _, tc := range tests {
		k := tc.s.Kubeconfigs()
		path := k.Path(tc.name)
		got := ""
		file, err := k.Open(path)
		if err == nil {
			data, readErr := io.ReadAll(file)
			got, err = string(data), errors.Join(readErr, file.Close())
		}
		switch {
		case err == nil && got == tc.want:
		case err != nil && tc.want == "outside" && strings.Contains(err.Error(), path+" is not read: it lies outside") && strings.Contains(err.Error(), "probe.kubeconfigs"):
		case err != nil && strings.Contains(err.Error(), path+": "+tc.want):
		default:
			t.Errorf("%s: got %q, %v, want %q", tc.name, got, err, tc.want)
		}
		set := resolved(t, strings.Replace(base, "capacity: 200", "controlPlane: {kubeconfig: {path: "+tc.name+"}}", 1))
		told := ""
		for _, p := range CheckFiles(*tc.s, set, nil) {
			if strings.HasSuffix(p.Path, "kubeconfig.path") && p.Warning {
				told = p.String()
			}
		}
		if outside := strings.Contains(told, path+" lies outside") && strings.Contains(told, "probe.kubeconfigs"); outside != (tc.want == "outside") {
			t.Errorf("%s: the check says %q", tc.name, told)
		}
	}
}

// TestCheckProbeFiles: programs and secrets of probes are looked for, too.
func TestCheckProbeFiles(t *testing.T) {
	set := resolved(t, base+`
kind: GlobalService
metadata: {name: shop}
spec:
  hosts: [shop.example.org]
  endpoints: [{cluster: fra, addresses: [192.0.2.10]}]
  probes:
  - tcp: {port: 443}
  - prometheus: {url: "https://p", query: up, below: 1, bearer: token, tls: {ca: ca.pem}}
  - prometheus: {url: "https://q", query: up, below: 1, bearer: token}
`)
	dir := t.TempDir()
	path := filepath.Join(dir, "director.yaml")
	settings := "name: d1\nprobe:\n  exec: [DIR/queue, DIR/none, DIR]\n  secrets: secrets\n"
	write(t, path, strings.ReplaceAll(settings, "DIR", dir))
	s, problems := LoadSettings(path)
	if Failed(problems) {
		t.Fatalf("got %v", problems)
	}
	write(t, filepath.Join(dir, "queue"), "#!/bin/sh")
	if err := os.Chmod(filepath.Join(dir, "queue"), 0o700); err != nil {
		t.Fatal(err)
	}
	check := func(want ...string) {
		t.Helper()
		want = append([]string{
			"director.yaml:3: warning: probe.exec[1]: none is not there",
			"director.yaml:3: warning: probe.exec[2]: " + dir + " is no program",
		}, want...)
		got := CheckFiles(s, set, nil)
		if !slices.EqualFunc(got, want, func(p Problem, want string) bool {
			return strings.HasPrefix(strings.ReplaceAll(p.String(), dir+"/", ""), want)
		}) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	check("director.yaml:4: warning: probe.secrets: secrets is not there")
	if err := os.Mkdir(filepath.Join(dir, "secrets"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "secrets", "ca.pem"), "")
	check("director.yaml:4: warning: probe.secrets: secrets/token is not there, on this machine, and a probe of shop wants it")
	if err := os.RemoveAll(filepath.Join(dir, "secrets")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "secrets"), "")
	check("director.yaml:4: warning: probe.secrets: secrets is no folder")
}

func TestCheckTogether(t *testing.T) {
	set := resolved(t, base+`
kind: Fleet
metadata: {name: default}
spec: {directors: [{name: d1, site: fra-dc1}, {name: d2}, {name: d3}]}
---
kind: GlobalService
metadata: {name: shop}
spec:
  hosts: [shop.example.org]
  endpoints: [{cluster: fra, addresses: [127.0.0.10]}, {cluster: nyc, addresses: [127.1.0.10]}]
  probes: [{http: {scheme: https, port: 443, host: shop.example.org}}]
---
kind: GlobalService
metadata: {name: flat}
spec:
  hosts: [flat.example.org]
  alias: true
  endpoints: [{cluster: fra, hostname: lb.fra.example.net}]
---
kind: GlobalService
metadata: {name: mixed}
spec:
  hosts: [mixed.example.org]
  endpoints: [{cluster: fra, hostname: lb.fra.example.net}, {cluster: nyc, addresses: [192.0.2.10]}]
---
kind: GlobalService
metadata: {name: cname}
spec:
  hosts: [cname.example.org]
  endpoints: [{cluster: fra, hostname: lb.fra.example.net}]
`)
	tests := []struct {
		name, settings string
		want           []string
	}{
		{"good", `
name: d1
site: fra-dc1
gossip: {join: ["d2.example.net", "badexample.org", "127.0.0.2"]}
etcd: {endpoints: ["https://etcd.example.com:2379"], tls: {ca: a, cert: b, key: c}}
probe: {allow: [127.0.0.0/8]}
`, nil},
		{"inside", `
name: d1
site: fra-dc1
gossip: {join: ["192.0.2.1", "D2.Example.org"], advertise: "d1.example.org:7946", keyFile: k}
etcd: {endpoints: ["https://192.0.2.1:2379", "https://etcd.example.org:2379"], tls: {ca: a, cert: b, key: c}}
controls: ["a.example.org:53"]
probe: {allow: [127.0.0.0/8]}
`, []string{
			"4: error: gossip.advertise: d1.example.org must be resolved",
			"4: error: gossip.join[1]: d2.example.org must be resolved",
			"5: error: etcd.endpoints[1]: etcd.example.org must be resolved",
			"6: error: controls[0]: a.example.org must be resolved",
		}},
		{"stranger", `
name: d9
probe: {allow: [127.0.0.0/16]}
`, []string{
			"2: warning: etcd: this director keeps its own store",
			"2: warning: name: \"d9\" is not in the roster",
			"3: warning: probe.allow: 127.1.0.10 of shop in nyc is loopback or link-local, which probes refuse",
		}},
		{"secondary", `
name: d1
site: fra-dc1
etcd: {endpoints: ["http://127.0.0.1:2379"]}
dns: {transfers: {allow: [192.0.2.0/24]}}
probe: {allow: [127.0.0.0/8]}
`, []string{"5: warning: dns.transfers: secondaries have no address of flat.example.org (service flat)"}},
		{"site", `
name: d1
site: ams-dc1
etcd: {endpoints: ["http://127.0.0.1:2379"]}
probe: {allow: [127.0.0.0/8]}
`, []string{"3: warning: site: \"ams-dc1\" differs from the roster's \"fra-dc1\""}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "director.yaml")
			write(t, path, tc.settings)
			s, problems := LoadSettings(path)
			if Failed(problems) {
				t.Fatalf("got %v", problems)
			}
			problems = CheckTogether(s, set)
			matches := slices.EqualFunc(problems, tc.want, func(p Problem, want string) bool {
				return strings.HasPrefix(strings.TrimPrefix(p.String(), path+":"), want)
			})
			if !matches {
				t.Errorf("got %v, want %v", problems, tc.want)
			}
			if got := CheckTogether(s, nil); Failed(got) {
				t.Errorf("without a spec: got %v", got)
			}
		})
	}
}
