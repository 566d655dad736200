package quorum

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/divertdns/divert/chaos/relay"
)

const (
	members   = 3
	directors = 3
)

func member(i int) string { return fmt.Sprintf("m%d", i) }
func named(i int) string  { return fmt.Sprintf("d%d", i) }
func host(i int) string   { return member(i) + ".quorum.test" }

// memberOptions say what a member's process is.
type memberOptions struct {
	Name, Dir      string
	Clients, Peers string // where it listens
	Host           string // what the others call it
	Cluster        string
	PeerPort       string
	Hosts          map[string]string // where it finds them
}

// playMember is an etcd of three, set as `divert etcd` is where that matters here, but
// with shorter ticks, so that it is seldom without a leader for long.
func playMember() error {
	var o memberOptions
	if err := options(&o); err != nil {
		return err
	}
	net.DefaultResolver = resolving(o.Hosts)
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = o.Name, o.Dir
	at := func(raw string) []url.URL {
		u, err := url.Parse(raw)
		if err != nil {
			panic(err)
		}
		return []url.URL{*u}
	}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = at("http://"+o.Clients), at("http://"+o.Clients)
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = at("http://"+o.Peers), at("http://"+net.JoinHostPort(o.Host, o.PeerPort))
	cfg.InitialCluster, cfg.InitialClusterToken = o.Cluster, "quorum"
	cfg.TickMs, cfg.ElectionMs = 50, 500
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = 500, 50 // one that was away gets snapshots
	cfg.BackendBatchInterval = time.Second
	cfg.EnableGRPCGateway = false
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	cfg.LogLevel = "error"
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0) // whoever started it is gone
	}()
	select {
	case err := <-server.Err():
		return err
	case <-server.Server.StopNotify():
		return errors.New("etcd stopped by itself")
	}
}

// etcd is three members, and the wires between them and from the directors.
type etcd struct {
	*relay.Relay
	t       *testing.T
	options [members + 1]memberOptions
	clients map[string][]string // endpoints of a director, by its name

	mu    sync.Mutex
	alive [members + 1]*process
}

// startEtcd runs an etcd until the test's end.
func startEtcd(t *testing.T) *etcd {
	t.Helper()
	e := &etcd{t: t, clients: map[string][]string{}}
	// All that is called by one URL listens at one port, at addresses of its own.
	peers, clients := freePort(t), freePort(t)
	address := func(from, to int, port string) string { return fmt.Sprintf("127.77.%d.%d:%s", from, to, port) }
	var cluster []string
	for i := 1; i <= members; i++ {
		cluster = append(cluster, fmt.Sprintf("%s=http://%s:%s", member(i), host(i), peers))
	}
	var links []relay.Link
	for i := 1; i <= members; i++ {
		o := memberOptions{
			Name: member(i), Dir: t.TempDir(), Clients: address(0, i, clients), Peers: address(0, i, peers), Host: host(i),
			Cluster: strings.Join(cluster, ","), PeerPort: peers, Hosts: map[string]string{host(i) + ".": fmt.Sprintf("127.77.0.%d", i)},
		}
		for j := 1; j <= members; j++ {
			if j != i {
				o.Hosts[host(j)+"."] = fmt.Sprintf("127.77.%d.%d", i, j)
				links = append(links, relay.Link{From: member(i), To: member(j), Network: relay.TCP, Listen: address(i, j, peers), Target: address(0, j, peers)})
			}
		}
		for d := 1; d <= directors; d++ {
			front := address(10+d, i, clients)
			links = append(links, relay.Link{From: named(d), To: member(i), Network: relay.TCP, Listen: front, Target: o.Clients})
			e.clients[named(d)] = append(e.clients[named(d)], "http://"+front)
		}
		e.options[i] = o
	}
	var err error
	if e.Relay, err = relay.New(relay.Options{Links: links}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		for i := 1; i <= members; i++ {
			e.kill(i)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("relay: %v", err)
		}
	})
	for i := 1; i <= members; i++ {
		e.start(i)
	}
	return e
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.77.0.1:0")
	if err != nil {
		t.Skipf("no whole 127.0.0.0/8 here: %v", err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// start runs a member on the disk that it has.
func (e *etcd) start(i int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.alive[i] != nil {
		return
	}
	p, err := spawn("member", e.options[i], nil, e.t.Output())
	if err != nil {
		e.t.Errorf("%s: %v", member(i), err)
		return
	}
	e.alive[i] = p
}

func (e *etcd) kill(i int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.alive[i]; p != nil {
		p.kill()
		e.alive[i] = nil
	}
}

func (e *etcd) signal(i int, s syscall.Signal) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.alive[i]; p != nil {
		p.signal(s)
	}
}

// mend takes all faults back.
func (e *etcd) mend() {
	e.Heal(relay.Any, relay.Any)
	for i := 1; i <= members; i++ {
		e.signal(i, syscall.SIGCONT)
		e.start(i)
	}
}
