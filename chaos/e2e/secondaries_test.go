package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/chaos/local"
)

// tsigSecret is what the directors of the test share with their secondaries.
const tsigSecret = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

// secondaryConfigs are servers that fetch example.org from a director, and what
// runs each. In them stand the folder, the port, the director's address and port.
var secondaryConfigs = []struct {
	name, config string
	args         []string // but for the file
}{
	{"nsd", `server:
  ip-address: 127.0.0.1@%[2]s
  username: ""
  database: ""
  zonelistfile: %[1]s/zone.list
  xfrdfile: %[1]s/xfrd.state
  pidfile: %[1]s/pid
  zonesdir: %[1]s
remote-control:
  control-enable: no
key:
  name: secondary.example.net
  algorithm: hmac-sha256
  secret: "` + tsigSecret + `"
zone:
  name: example.org
  zonefile: org.zone
  allow-notify: 127.0.0.0/8 secondary.example.net
  request-xfr: %[3]s@%[4]s secondary.example.net
`, []string{"-d", "-c"}},
	{"knotd", `server:
  listen: 127.0.0.1@%[2]s
  rundir: %[1]s
database:
  storage: %[1]s
log:
- target: stderr
  any: info
key:
- id: secondary.example.net
  algorithm: hmac-sha256
  secret: ` + tsigSecret + `
remote:
- id: director
  address: %[3]s@%[4]s
  key: secondary.example.net
acl:
- id: notify
  key: secondary.example.net
  action: notify
template:
- id: default
  storage: %[1]s
zone:
- domain: example.org
  master: director
  acl: notify
`, []string{"-c"}},
	{"named", `options {
  directory "%[1]s"; pid-file none; session-keyfile none; recursion no; dnssec-validation no; notify no;
  listen-on port %[2]s { 127.0.0.1; }; listen-on-v6 { none; };
};
controls { };
key secondary.example.net { algorithm hmac-sha256; secret "` + tsigSecret + `"; };
zone example.org {
  type secondary; file "org.zone";
  primaries { %[3]s port %[4]s key secondary.example.net; };
  allow-notify { key secondary.example.net; };
};
`, []string{"-g", "-c"}},
}

// TestSecondaries puts servers of other makes behind a fleet as a second provider
// would: they fetch the zone with a signature, follow a drain by NOTIFY, and a
// failure moves nothing there, serial included (S13).
func TestSecondaries(t *testing.T) {
	if os.Getenv("DIVERT_RESOLVERS") == "" {
		t.Skip("NSD, Knot and BIND were not asked for: make test-resolvers")
	}
	secret := filepath.Join(t.TempDir(), "tsig.key")
	must(t, os.WriteFile(secret, []byte(tsigSecret+"\n"), 0o600))
	var ports, notify []string
	for range secondaryConfigs {
		ports = append(ports, port(t))
		notify = append(notify, fmt.Sprintf(`{address: "127.0.0.1:%s", key: secondary.example.net}`, ports[len(ports)-1]))
	}
	r := start(t, local.Options{AlsoDNS: fmt.Sprintf(
		"transfers: {allow: [127.0.0.0/8], keys: [{name: secondary.example.net, secretFile: %q}], notify: [%s]}", secret, strings.Join(notify, ", "))})
	r.settle()
	for i, s := range secondaryConfigs {
		dir := t.TempDir()
		conf := filepath.Join(dir, "conf")
		must(t, os.WriteFile(conf, fmt.Appendf(nil, s.config, dir, ports[i], r.Director(1+i), "5353"), 0o600))
		run(t, filepath.Join(dir, "log"), needs(t, s.name), append(slices.Clone(s.args), conf)...)
	}
	follow := func(what string, want ...string) {
		t.Helper()
		for i, s := range secondaryConfigs {
			r.until(20*time.Second, s.name+" "+what, func() error {
				serial, sites, err := r.second("127.0.0.1:" + ports[i])
				if err != nil {
					return err
				}
				own, _, err := r.second(net.JoinHostPort(r.Director(1).String(), "5353"))
				if err != nil {
					return err
				}
				if serial != own || !slices.Equal(sites, want) {
					return fmt.Errorf("it has serial %d with %v; the directors have %d, and %v is wanted", serial, sites, own, want)
				}
				return nil
			})
		}
	}
	follow("has fetched the zone", "fra", "nyc", "sin")

	r.must(1, "drain", "cluster/fra", "--reason", "a second provider follows", "--for", "10m")
	follow("follows a drain", "nyc", "sin")
	before, _, err := r.second(net.JoinHostPort(r.Director(1).String(), "5353"))
	must(t, err)

	must(t, r.Kill("nyc"))
	r.until(15*time.Second, "the fleet moves", r.all("pay.example.org", "sin"))
	if after, _, err := r.second(net.JoinHostPort(r.Director(1).String(), "5353")); err != nil || after != before {
		t.Errorf("a failure moved the serial from %d to %d: %v", before, after, err)
	}
	follow("knows no failure", "nyc", "sin")

	r.must(1, "undrain", "cluster/fra", "--reason", "over")
	follow("follows the drain's end", "fra", "nyc", "sin")
}

// second asks any server for the zone's serial and for the sites of pay.
func (r *rig) second(addr string) (serial uint32, sites []string, err error) {
	client := &dns.Client{Timeout: 2 * time.Second}
	m := new(dns.Msg)
	m.SetQuestion("example.org.", dns.TypeSOA)
	reply, _, err := client.Exchange(m, addr)
	if err != nil {
		return 0, nil, err
	}
	if len(reply.Answer) != 1 {
		return 0, nil, fmt.Errorf("no SOA: %s", dns.RcodeToString[reply.Rcode])
	}
	serial = reply.Answer[0].(*dns.SOA).Serial
	m.SetQuestion("pay.example.org.", dns.TypeA)
	if reply, _, err = client.Exchange(m, addr); err != nil {
		return 0, nil, err
	}
	for _, rr := range reply.Answer {
		if a, ok := rr.(*dns.A); ok {
			sites = append(sites, r.siteOf(a.A.String()))
		}
	}
	slices.Sort(sites)
	return serial, sites, nil
}
