package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/chaos/local"
)

// upstream is a recursive server of ours: it says of each name what a test tells it,
// by way of an alias, as load balancers' names are.
type upstream struct {
	addr string

	mu    sync.Mutex
	says  map[string]netip.Addr // IPv4 address by name; others do not exist
	rcode int                   // of every answer, unless 0
	mute  bool
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{addr: conn.LocalAddr().String(), says: map[string]netip.Addr{}}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(u.answer)}
	done := make(chan error, 1)
	go func() { done <- server.ActivateAndServe() }()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return u
}

func (u *upstream) answer(w dns.ResponseWriter, q *dns.Msg) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.mute {
		return
	}
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	name := q.Question[0].Name
	at := strings.TrimPrefix(strings.ToLower(name), "vip.")
	addr, ok := u.says[strings.TrimSuffix(at, ".")]
	header := func(owner string, rrtype uint16) dns.RR_Header {
		return dns.RR_Header{Name: owner, Rrtype: rrtype, Class: dns.ClassINET, Ttl: 1}
	}
	switch {
	case u.rcode != 0:
		m.Rcode = u.rcode
	case !ok:
		m.Rcode = dns.RcodeNameError
	case q.Question[0].Qtype == dns.TypeA && at == strings.ToLower(name):
		m.Answer = append(m.Answer, &dns.CNAME{Hdr: header(name, dns.TypeCNAME), Target: "vip." + at}, &dns.A{Hdr: header("vip."+at, dns.TypeA), A: addr.AsSlice()})
	case q.Question[0].Qtype == dns.TypeA:
		m.Answer = append(m.Answer, &dns.A{Hdr: header(name, dns.TypeA), A: addr.AsSlice()})
	default:
		m.Ns = append(m.Ns, &dns.SOA{Hdr: header("example.net.", dns.TypeSOA), Ns: "ns1.example.net.", Mbox: "dns-admin.example.net.", Serial: 1, Minttl: 1})
	}
	_ = w.WriteMsg(m)
}

func (u *upstream) set(change func(*upstream)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	change(u)
}

// hostnamesSpec is three services: "lb" has a hostname between addresses, "front" is
// flattened at the zone's apex, "all" is answered by a CNAME.
func hostnamesSpec(f *local.Fleet) string {
	probe := fmt.Sprintf("  probes: [{http: {scheme: http, port: %d, path: /healthz, host: lb.example.org, body: ok}, interval: 1s, timeout: 1s, fast: 100ms}]\n", local.ServicePort)
	service := func(name, host, endpoints string) string {
		return fmt.Sprintf("---\nkind: GlobalService\nmetadata: {name: %s}\nspec:\n  hosts: [%s]\n  ttl: 20s\n  endpoints: [%s]\n  steering: {policy: failover, order: [nyc, fra]}\n%s", name, host, endpoints, probe)
	}
	return local.FleetSpec(f) +
		service("lb", "lb.example.org", fmt.Sprintf("{cluster: fra, addresses: [%s]}, {cluster: nyc, hostname: nyc.example.net}", f.Cluster("fra"))) +
		service("front", "example.org", "{cluster: nyc, hostname: nyc.example.net}, {cluster: fra, hostname: fra.example.net}") +
		service("all", "all.example.org", "{cluster: nyc, hostname: nyc.example.net}, {cluster: fra, hostname: fra.example.net}")
}

// TestHostnames: endpoints that are hostnames are probed and answered by what they
// resolve to, follow it when it changes, and keep the last good whatever goes wrong,
// over restarts and take-overs too (SEMANTICS, DNS; S1, S12, S14). No client is told
// less meanwhile.
func TestHostnames(t *testing.T) {
	u := newUpstream(t)
	r := start(t, local.Options{Resolver: u.addr, Spec: func(f *local.Fleet) string {
		u.set(func(u *upstream) {
			u.says["nyc.example.net"], u.says["fra.example.net"] = f.Cluster("nyc"), f.Cluster("fra")
		})
		return hostnamesSpec(f)
	}})
	r.settleBut("sin") // which serves nothing by itself
	flattened := []string{"lb.example.org", "example.org"}
	everywhere := func(want string) func() error {
		return func() error {
			for _, host := range flattened {
				if err := r.all(host, want)(); err != nil {
					return err
				}
			}
			return nil
		}
	}
	r.until(20*time.Second, "hostnames are answered by what they resolve to", everywhere("nyc"))
	_, stop := r.query(300, flattened...)
	defer stop()
	reply, err := r.reply(1, "example.org", "")
	if err != nil {
		t.Fatal(err)
	}
	if ttl := reply.Answer[0].Header().Ttl; ttl != 5 {
		t.Errorf("TTL %d, want the 5 s that the hostname's own is raised to", ttl)
	}
	if reply, err = r.reply(1, "all.example.org", ""); err != nil {
		t.Fatal(err)
	}
	if c, ok := reply.Answer[0].(*dns.CNAME); !ok || c.Target != "nyc.example.net." {
		t.Errorf("all endpoints are hostnames: got %v, want a CNAME", reply.Answer)
	}

	// The load balancer moves; its health is its own, not an address's.
	u.set(func(u *upstream) { u.says["nyc.example.net"] = r.Cluster("sin") })
	r.until(20*time.Second, "the answers follow", everywhere("sin"))
	st, err := r.status(1)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range siteIn(st, "lb", "nyc").Addresses {
		if a.Resolved == nil || len(a.Resolved.Addresses) != 1 || a.Resolved.Addresses[0] != r.Cluster("sin").String() {
			t.Errorf("status says of the hostname: %+v", a.Resolved)
		}
		for _, s := range a.Subjects {
			if s.Transition != 0 {
				t.Errorf("%s: a change of addresses is no transition, and it has %d", s.Subject, s.Transition)
			}
		}
	}

	// What goes wrong upstream takes nothing away.
	wrongs := []func(*upstream){
		func(u *upstream) { u.rcode = dns.RcodeNameError },
		func(u *upstream) { u.rcode = dns.RcodeServerFailure },
		func(u *upstream) { u.mute = true },
	}
	if level() != "long" {
		wrongs = wrongs[2:]
	}
	for _, wrong := range wrongs {
		u.set(wrong)
		r.holds(8*time.Second, "the last good stays", everywhere("sin"))
	}
	if out := r.must(1, "status"); !strings.Contains(out, "nyc.example.net: "+r.Cluster("sin").String()+", resolved") {
		t.Errorf("status says\n%s", out)
	}
	if out := r.must(1, "explain", "lb.example.org"); !strings.Contains(out, "nyc.example.net: "+r.Cluster("sin").String()) {
		t.Errorf("explain says\n%s", out)
	}
	// Nothing can be resolved now, and a director is replaced, another begins anew.
	must(t, r.Replace(t.Context(), "d2"))
	must(t, r.answers(2, "example.org", "sin")())
	stop()
	// A slow disk is written seldom for the sake of names: wait until each has them.
	for i := 1; i <= 3; i++ {
		r.until(time.Minute, "what the hostname resolves to is on the disk", onDisk(r.DataDir(i), r.Cluster("sin")))
	}
	must(t, r.Kill("etcd"))
	for i := 1; i <= 3; i++ {
		must(t, r.Kill(local.Name(i)))
	}
	for i := 1; i <= 3; i++ {
		must(t, r.Start(t.Context(), local.Name(i)))
	}
	r.until(15*time.Second, "the last good answers, with neither a store nor names", everywhere("sin"))
	// The load balancer fails, as seen by what it last resolved to.
	must(t, r.Kill("sin"))
	r.until(20*time.Second, "failover from a hostname", everywhere("fra"))
	// It comes back elsewhere.
	u.set(func(u *upstream) { u.mute, u.rcode, u.says["nyc.example.net"] = false, 0, r.Cluster("nyc") })
	r.until(90*time.Second, "it returns to where the hostname leads now", everywhere("nyc"))
}

// onDisk tells whether a director's disk holds an address that a hostname resolved to.
func onDisk(dataDir string, addr netip.Addr) func() error {
	return func() error {
		files, err := filepath.Glob(filepath.Join(dataDir, "state", "*"))
		if err != nil {
			return err
		}
		for _, path := range files {
			if data, err := os.ReadFile(path); err == nil && bytes.Contains(data, append([]byte{2<<3 | 2, 4}, addr.AsSlice()...)) {
				return nil
			}
		}
		return fmt.Errorf("%s is in none of %v", addr, files)
	}
}

// TestResolversOfHostnames has real resolvers say what hostnames are: a fleet asks them
// and answers by it, and follows when it changes.
func TestResolversOfHostnames(t *testing.T) {
	if os.Getenv("DIVERT_RESOLVERS") == "" {
		t.Skip("unbound and BIND were not asked for: make test-resolvers")
	}
	for name, recurse := range map[string]func(*testing.T, *upstream) string{"unbound": unboundFor, "named": namedFor} {
		t.Run(name, func(t *testing.T) {
			u := newUpstream(t)
			r := start(t, local.Options{Directors: 1, Resolver: recurse(t, u), Spec: func(f *local.Fleet) string {
				u.set(func(u *upstream) {
					u.says["nyc.example.net"], u.says["fra.example.net"] = f.Cluster("nyc"), f.Cluster("fra")
				})
				return hostnamesSpec(f)
			}})
			r.until(60*time.Second, "the answers are what the resolver says", r.all("example.org", "nyc"))
			u.set(func(u *upstream) { u.says["nyc.example.net"] = r.Cluster("sin") })
			r.until(30*time.Second, "they follow", r.all("example.org", "sin"))
			u.set(func(u *upstream) { u.rcode = dns.RcodeNameError })
			r.holds(8*time.Second, "the last good stays", r.all("example.org", "sin"))
			if out := r.must(1, "status"); !strings.Contains(out, "NXDOMAIN") {
				t.Errorf("status says\n%s", out)
			}
		})
	}
}

// unboundFor runs an unbound that asks an upstream.
func unboundFor(t *testing.T, u *upstream) string {
	dir, p := t.TempDir(), port(t)
	conf := filepath.Join(dir, "unbound.conf")
	must(t, os.WriteFile(conf, []byte(fmt.Sprintf(`server:
  directory: %q
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  interface: 127.0.0.1@%s
  do-ip6: no
  do-daemonize: no
  do-not-query-localhost: no
  use-caps-for-id: yes
  module-config: "iterator"
remote-control:
  control-enable: no
forward-zone:
  name: example.net
  forward-addr: %s
`, dir, p, strings.Replace(u.addr, ":", "@", 1))), 0o600))
	run(t, filepath.Join(dir, "log"), needs(t, "unbound"), "-d", "-c", conf)
	return "127.0.0.1:" + p
}

// namedFor runs a BIND that asks an upstream.
func namedFor(t *testing.T, u *upstream) string {
	dir, p := t.TempDir(), port(t)
	conf := filepath.Join(dir, "named.conf")
	must(t, os.WriteFile(conf, []byte(fmt.Sprintf(`options {
  directory %q; pid-file none; session-keyfile none;
  listen-on port %s { 127.0.0.1; }; listen-on-v6 { none; };
  recursion yes; allow-query { any; }; allow-recursion { any; }; dnssec-validation no; empty-zones-enable no;
};
controls { };
zone "example.net" { type forward; forward only; forwarders { 127.0.0.1 port %s; }; };
`, dir, p, strings.TrimPrefix(u.addr, "127.0.0.1:"))), 0o600))
	run(t, filepath.Join(dir, "log"), needs(t, "named"), "-g", "-c", conf)
	return "127.0.0.1:" + p
}
