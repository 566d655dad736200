package conform

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/dnsserver"
	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/dnsserver/zone"
)

// server is one that has all zones.
type server struct {
	name, addr string
}

// zoneText is a zone with its name.
type zoneText struct {
	origin, text string
}

// peer is a server of another make: what runs it, its configuration's text around
// the zones and for each of them, in which stand the folder, the port, a zone's name
// and its file. All are told to answer minimally, as Divert does.
type peer struct {
	name, program, head, each, tail string
	args                            []string // but for the file
}

var peers = []peer{
	{
		name: "nsd", program: "nsd", args: []string{"-d", "-c"},
		head: `server:
  ip-address: 127.0.0.1@%[2]s
  username: ""
  database: ""
  zonelistfile: %[1]s/zone.list
  xfrdfile: %[1]s/xfrd.state
  pidfile: %[1]s/pid
  zonesdir: %[1]s
  server-count: 1
  rrl-ratelimit: 0
  minimal-responses: yes
remote-control:
  control-enable: no
`,
		each: "zone:\n  name: %[1]s\n  zonefile: %[2]s\n",
	},
	{
		name: "knot", program: "knotd", args: []string{"-c"},
		head: `server:
  listen: 127.0.0.1@%[2]s
  rundir: %[1]s
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
database:
  storage: %[1]s
log:
- target: stderr
  any: warning
template:
- id: default
  storage: %[1]s
  zonefile-sync: -1
  zonefile-load: whole
  journal-content: none
  semantic-checks: false
zone:
`,
		each: "- domain: %[1]s\n  file: %[2]s\n",
	},
	{
		name: "bind", program: "named", args: []string{"-g", "-n", "1", "-c"},
		head: `options {
  directory "%[1]s"; pid-file none; session-keyfile none; recursion no; dnssec-validation no; notify no; empty-zones-enable no;
  listen-on port %[2]s { 127.0.0.1; }; listen-on-v6 { none; };
  minimal-responses yes; minimal-any no; check-integrity no; check-names primary ignore; check-wildcard no; check-mx ignore; check-srv-cname ignore; check-mx-cname ignore;
  answer-cookie no; zero-no-soa-ttl no;
};
controls { };
`,
		each: "zone \"%[1]s\" { type primary; file \"%[2]s\"; };\n",
	},
}

// find gives the program of a peer, "" where it is not installed.
func find(program string) string {
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
		path := filepath.Join(dir, program)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// freePort finds one that is free by both transports, below those that the kernel
// gives to whoever dials meanwhile.
func freePort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		port := strconv.Itoa(15_000 + rand.IntN(15_000))
		tcp, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		udp, err := net.ListenPacket("udp", "127.0.0.1:"+port)
		tcp.Close()
		if err == nil {
			udp.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}

// start runs a peer with zones until the test ends.
func (p *peer) start(t *testing.T, zones []zoneText) (s server, stop func()) {
	t.Helper()
	dir := t.TempDir()
	port := freePort(t)
	addr := "127.0.0.1:" + port
	var conf strings.Builder
	fmt.Fprintf(&conf, p.head, dir, port)
	for i, z := range zones {
		file := fmt.Sprintf("%d.zone", i)
		fmt.Fprintf(&conf, p.each, z.origin, file)
		write(t, filepath.Join(dir, file), z.text)
	}
	conf.WriteString(p.tail)
	write(t, filepath.Join(dir, "conf"), conf.String())
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, find(p.program), append(slices.Clip(p.args), filepath.Join(dir, "conf"))...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // nsd has children to end
	cmd.WaitDelay = 5 * time.Second
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
		log.Close()
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	s = server{name: p.name, addr: addr}
	for _, z := range zones {
		if err := s.ready(z.origin, done); err != nil {
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("%s does not serve %s: %v\n%s\nits log:\n%s", p.name, z.origin, err, z.text, text[:min(len(text), 4000)])
		}
	}
	return s, stop
}

// ready waits until a zone is served.
func (s server) ready(origin string, ended <-chan struct{}) error {
	m := new(dns.Msg)
	m.SetQuestion(origin, dns.TypeSOA)
	var last error
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); {
		reply, _, err := (&dns.Client{Net: "tcp", Timeout: 2 * time.Second}).Exchange(m, s.addr)
		if err == nil && reply.Rcode == dns.RcodeSuccess && len(reply.Answer) == 1 {
			return nil
		}
		if last = err; err == nil {
			last = fmt.Errorf("the SOA got %s", dns.RcodeToString[reply.Rcode])
		}
		select {
		case <-ended:
			return fmt.Errorf("it ended: %w", last)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return last
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// divert serves the zones in this process, by sockets, as they are read from text.
func divert(t *testing.T, zones []zoneText) (s server, stop func()) {
	t.Helper()
	var o answer.Options
	for _, z := range zones {
		records, problems := zone.Parse(zone.Source{Origin: z.origin, Text: z.text})
		if zone.Failed(problems) {
			t.Fatalf("zone %s: %v\n%s", z.origin, problems, z.text)
		}
		static, err := answer.Pack(z.origin, records.List)
		if err != nil {
			t.Fatal(err)
		}
		o.Zones = append(o.Zones, answer.Zone{Origin: z.origin, Static: static})
	}
	table, err := answer.Compile(o)
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	options := dnsserver.Options{Listen: []string{"127.0.0.1:0"}, Table: new(atomic.Pointer[answer.Table])}
	options.Table.Store(table)
	srv, err := dnsserver.New(options)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return server{name: "divert", addr: srv.Addrs()[0].String()}, stop
}
