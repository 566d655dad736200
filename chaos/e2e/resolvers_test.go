package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/chaos/local"
)

// resolver is a recursive server in front of the fleet.
type resolver struct {
	name string
	addr string
	ecs  bool // it passes its clients' subnets on
}

// needs finds a program; it is asked for by DIVERT_RESOLVERS.
func needs(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
			if p := filepath.Join(dir, name); executable(p) {
				return p
			}
		}
		t.Fatalf("%s is not installed: see .ci/run", name)
	}
	return path
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// unbound passes client subnets on; named does not.
func (r *rig) unbound(zone []string, balancers string) resolver {
	dir := r.t.TempDir()
	addr := netip.AddrPortFrom(r.Backend(201), 5301)
	var stub, send strings.Builder
	for _, s := range zone {
		fmt.Fprintf(&stub, "  stub-addr: %s\n", s)
		fmt.Fprintf(&send, "  send-client-subnet: %s\n", s)
	}
	conf := filepath.Join(dir, "unbound.conf")
	must(r.t, os.WriteFile(conf, []byte(fmt.Sprintf(`server:
  directory: %q
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  interface: %s@%d
  outgoing-interface: %s
  access-control: 127.0.0.0/8 allow
  do-ip6: no
  do-daemonize: no
  do-not-query-localhost: no
  use-caps-for-id: yes
  qname-minimisation-strict: yes
  module-config: "subnetcache iterator"
  client-subnet-always-forward: yes
  max-client-subnet-ipv4: 24
%sremote-control:
  control-enable: no
stub-zone:
  name: example.net
  stub-addr: %s
stub-zone:
  name: example.org
%s`, dir, addr.Addr(), addr.Port(), addr.Addr(), send.String(), balancers, stub.String())), 0o600))
	run(r.t, filepath.Join(dir, "log"), needs(r.t, "unbound"), "-d", "-c", conf)
	return resolver{name: "unbound", addr: addr.String(), ecs: true}
}

func (r *rig) named(zone []string, balancers string) resolver {
	dir := r.t.TempDir()
	// It listens on addresses that an interface has, not on all of 127.0.0.0/8.
	addr := netip.MustParseAddrPort("127.0.0.1:" + port(r.t))
	conf := filepath.Join(dir, "named.conf")
	must(r.t, os.WriteFile(conf, []byte(fmt.Sprintf(`options {
  directory %q; pid-file none; session-keyfile none;
  listen-on port %d { %s; }; listen-on-v6 { none; }; query-source address %s;
  recursion yes; allow-query { any; }; allow-recursion { any; }; dnssec-validation no; empty-zones-enable no;
};
controls { };
zone "example.net" { type static-stub; server-addresses { %s; }; };
zone "example.org" { type static-stub; server-addresses { %s; }; };
`, dir, addr.Port(), addr.Addr(), addr.Addr(), balancers, strings.Join(zone, "; "))), 0o600))
	run(r.t, filepath.Join(dir, "log"), needs(r.t, "named"), "-g", "-c", conf)
	return resolver{name: "named", addr: addr.String()}
}

// port finds one that is free by both transports, below those that the kernel gives
// to whoever dials meanwhile.
func port(t *testing.T) string {
	t.Helper()
	for range 1000 {
		p := strconv.Itoa(15_000 + rand.IntN(15_000))
		tcp, err := net.Listen("tcp", "127.0.0.1:"+p)
		if err != nil {
			continue
		}
		udp, err := net.ListenPacket("udp", "127.0.0.1:"+p)
		tcp.Close()
		if err == nil {
			udp.Close()
			return p
		}
	}
	t.Fatal("no port is free")
	return ""
}

// ask sends one query through a resolver.
func (v resolver) ask(name string, rrtype uint16, subnet string) (*dns.Msg, error) {
	m := new(dns.Msg)
	m.SetQuestion(name, rrtype)
	if subnet != "" {
		p := netip.MustParsePrefix(subnet)
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = append(m.IsEdns0().Option,
			&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(p.Bits()), Address: p.Addr().AsSlice()})
	}
	reply, _, err := (&dns.Client{Timeout: 5 * time.Second}).Exchange(m, v.addr)
	return reply, err
}

// TestResolvers puts real resolvers in front of a fleet: each client subnet gets
// its own site (RFC 7871), TTLs are honoured, and a failover reaches clients a
// TTL later. Real clients read every answer.
func TestResolvers(t *testing.T) {
	if os.Getenv("DIVERT_RESOLVERS") == "" {
		t.Skip("unbound, BIND and the clients were not asked for: make test-resolvers, as root, since they ask port 53 only")
	}
	r := start(t, local.Options{Port: 53, Spec: func(f *local.Fleet) string {
		spec := local.DemoSpec(f)
		for i, doc := range []string{"192.0.2.53", "198.51.100.53"} { // the name servers are the directors
			spec = strings.ReplaceAll(spec, doc, f.Director(i+1).String())
		}
		return spec + balanced(f)
	}})
	r.settle()
	servers := []string{r.Director(1).String(), r.Director(2).String(), r.Director(3).String()}
	balancers := r.balancers()
	resolvers := []resolver{r.unbound(servers, balancers), r.named(servers, balancers)}
	for _, v := range resolvers {
		r.until(30*time.Second, v.name+" answers", func() error {
			reply, err := v.ask("example.org.", dns.TypeSOA, "")
			if err == nil && (reply.Rcode != dns.RcodeSuccess || len(reply.Answer) != 1) {
				err = fmt.Errorf("got\n%v", reply)
			}
			return err
		})
		for _, tc := range []struct {
			name   string
			rrtype uint16
			rcode  int
			count  int // records in the answer
		}{
			{"shop.example.org.", dns.TypeA, dns.RcodeSuccess, 1},
			{"SHOP.example.ORG.", dns.TypeA, dns.RcodeSuccess, 1},
			{"shop.example.org.", dns.TypeAAAA, dns.RcodeSuccess, 0},
			{"shop.example.org.", dns.TypeMX, dns.RcodeSuccess, 0},
			{"www.example.org.", dns.TypeA, dns.RcodeSuccess, 2},
			{"fra.shop.example.org.", dns.TypeA, dns.RcodeSuccess, 1},
			{"example.org.", dns.TypeTXT, dns.RcodeSuccess, 1},
			{"nothing.example.org.", dns.TypeA, dns.RcodeNameError, 0},
		} {
			reply, err := v.ask(tc.name, tc.rrtype, "")
			if err != nil || reply.Rcode != tc.rcode || len(reply.Answer) != tc.count {
				t.Errorf("%s: %s %s: %v\n%v", v.name, tc.name, dns.TypeToString[tc.rrtype], err, reply)
				continue
			}
			for _, rr := range reply.Answer {
				if ttl := rr.Header().Ttl; rr.Header().Rrtype == dns.TypeA && ttl > 5 {
					t.Errorf("%s: %s has TTL %d, more than it was given", v.name, tc.name, ttl)
				}
			}
		}
		if v.ecs {
			r.subnets(v)
		}
		r.aliases(v)
	}
	r.tools(r.Director(1).String())

	must(t, r.Kill("fra"))
	for _, v := range resolvers {
		r.until(15*time.Second, v.name+" tells of the failover a TTL later", func() error {
			reply, err := v.ask("pay.example.org.", dns.TypeA, "")
			if err != nil {
				return err
			}
			if len(reply.Answer) != 1 || r.siteOf(reply.Answer[0].(*dns.A).A.String()) != "nyc" {
				return fmt.Errorf("got\n%v", reply)
			}
			return nil
		})
	}
	v := resolvers[0]
	r.until(15*time.Second, "the CNAME of a client leaves a load balancer that is down", func() error {
		reply, err := v.ask("lb.example.org.", dns.TypeAAAA, "81.2.69.0/24")
		if err != nil {
			return err
		}
		for _, rr := range reply.Answer {
			if alias, ok := rr.(*dns.CNAME); ok && alias.Target != "lb-fra.example.net." {
				return nil
			}
		}
		return fmt.Errorf("got\n%v", reply)
	})
}

// subnets checks that each subnet gets its own site, first from the fleet and then
// from the resolver's cache.
func (r *rig) subnets(v resolver) {
	r.t.Helper()
	for range 3 {
		for subnet, want := range map[string]string{
			"81.2.69.0/24": "fra", "8.8.8.0/24": "nyc", "103.1.200.0/24": "sin", "8.8.4.0/24": "nyc", "81.2.69.128/25": "fra",
		} {
			reply, err := v.ask("shop.example.org.", dns.TypeA, subnet)
			if err != nil || len(reply.Answer) != 1 || r.siteOf(reply.Answer[0].(*dns.A).A.String()) != want {
				r.t.Errorf("%s: a client of %s: %v\n%v\nwant %s", v.name, subnet, err, reply, want)
			}
		}
	}
}

// balanced is a service whose endpoints are the hostnames of load balancers.
func balanced(f *local.Fleet) string {
	text := local.ServiceSpec(f, "lb", "geo")
	for _, s := range local.DefaultSites() {
		text = strings.ReplaceAll(text, "addresses: ["+f.Cluster(s.Name).String()+"]", "hostname: lb-"+s.Name+".example.net")
	}
	return text
}

// balancers serves example.net, whose load balancers have the clusters' addresses, to
// resolvers and to the directors.
func (r *rig) balancers() string {
	addr := netip.AddrPortFrom(r.Resolver(), 53)
	conn, err := net.ListenPacket("udp4", addr.String())
	must(r.t, err)
	started, ended := make(chan struct{}), make(chan error, 1)
	server := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Authoritative = true
		name := q.Question[0].Name
		cluster, found := strings.CutPrefix(strings.TrimSuffix(dns.CanonicalName(name), ".example.net."), "lb-")
		if found && q.Question[0].Qtype == dns.TypeA {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5}, A: r.Cluster(cluster).AsSlice()}}
		} else {
			m.Ns = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: "example.net.", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 5}, Ns: "ns.example.net.", Mbox: "h.example.net.", Minttl: 5}}
		}
		_ = w.WriteMsg(m) // who does not hear it asks again
	})}
	go func() { ended <- server.ActivateAndServe() }()
	<-started
	r.t.Cleanup(func() {
		_ = server.Shutdown()
		<-ended
	})
	return addr.Addr().String()
}

// aliases checks that a resolver follows a steered CNAME to the balancer of its
// client's own site, for each type, and keeps those of different subnets apart (RFC 7871
// section 7.3.1).
func (r *rig) aliases(v resolver) {
	r.t.Helper()
	wants := map[string]string{"": ""}
	if v.ecs {
		wants = map[string]string{"81.2.69.0/24": "fra", "8.8.8.0/24": "nyc", "103.1.200.0/24": "sin"}
	}
	for range 3 {
		for subnet, site := range wants {
			for _, rrtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeMX} {
				reply, err := v.ask("lb.example.org.", rrtype, subnet)
				if err != nil || reply.Rcode != dns.RcodeSuccess || len(reply.Answer) == 0 {
					r.t.Errorf("%s: %s for %s: %v\n%v", v.name, dns.TypeToString[rrtype], subnet, err, reply)
					continue
				}
				alias, ok := reply.Answer[0].(*dns.CNAME)
				if !ok || alias.Hdr.Ttl > 5 || site != "" && alias.Target != "lb-"+site+".example.net." {
					r.t.Errorf("%s: %s for %s: got\n%v\nwant a CNAME to lb-%s", v.name, dns.TypeToString[rrtype], subnet, reply, site)
					continue
				}
				if rrtype != dns.TypeA {
					continue
				}
				cluster := strings.TrimSuffix(strings.TrimPrefix(alias.Target, "lb-"), ".example.net.")
				if len(reply.Answer) != 2 || reply.Answer[1].(*dns.A).A.String() != r.Cluster(cluster).String() {
					r.t.Errorf("%s: A for %s: got\n%v\nwant the address of %s", v.name, subnet, reply, cluster)
				}
			}
		}
	}
}

// tools has the clients that people use read an answer.
func (r *rig) tools(server string) {
	r.t.Helper()
	want := r.Cluster("fra").String()
	for _, args := range [][]string{
		{"dig", "@" + server, "pay.example.org", "A", "+nocookie"},
		{"dig", "@" + server, "pay.example.org", "A", "+cookie", "+nsid", "+subnet=81.2.69.0/24", "+ednsopt=65001:00"},
		{"dig", "@" + server, "pay.example.org", "A", "+tcp", "+keepalive"},
		{"kdig", "@" + server, "pay.example.org", "A", "+subnet=81.2.69.0/24", "+cookie"},
		{"kdig", "@" + server, "pay.example.org", "A", "+tcp"},
		{"delv", "@" + server, "pay.example.org", "A", "+noroot", "-i"},
		{"drill", "pay.example.org", "A", "@" + server},
	} {
		ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
		out, err := exec.CommandContext(ctx, needs(r.t, args[0]), args[1:]...).CombinedOutput()
		cancel()
		if err != nil || !strings.Contains(string(out), want) {
			r.t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
		for _, complaint := range []string{"FORMERR", "malformed", "Warning", "WARNING", "parse error"} {
			if strings.Contains(string(out), complaint) && !strings.Contains(string(out), "recursion") {
				r.t.Errorf("%s complains:\n%s", strings.Join(args, " "), out)
			}
		}
	}
}
