package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/divertdns/divert/chaos/relay"
)

// Options describes a fleet to be run.
type Options struct {
	Binary    string // the divert executable
	Dir       string // everything is kept below it
	Net       byte   // 127.Net.0.0/16 is the fleet's own
	Directors int    // default 3
	Clusters  []Site // default: fra, nyc, sin
	Backends  int    // further services, each a process and an address of its own: b1, b2, …
	Spares    int    // further directors that no roster and no join list names, and that only Start starts
	Spec      func(*Fleet) string
	// Kubeconfigs is the folder that the clusters' kubeconfigs are written to, and that
	// directors read them from; default: one in Dir.
	Kubeconfigs string
	// DNS gives each director's DNS address; default: port 5353 of its own
	// loopback address.
	DNS func(i int) string
	// Port is the port of the default DNS addresses; 0 = 5353.
	Port uint16
	// AlsoDNS is what each director's settings say of DNS besides where, as YAML
	// within braces; "" = nothing.
	AlsoDNS string
	// Geo gives each director's geo database; nil: they go by the country table.
	Geo func(i int) string
	// Resolver is the recursive server that hostnames are resolved by, address:port;
	// default: port 53 of Fleet.Resolver, where nobody is unless a test puts it there.
	Resolver string
	// API gives each director's API address; default: port 8053 of its own
	// loopback address.
	API func(i int) string
	Log *slog.Logger
}

// Site is one cluster and where it pretends to be.
type Site struct {
	Name, Country, Region string
	Capacity              int // in answers a second; 0: none is written, so no load is too much
}

// Fleet is a running fleet.
type Fleet struct {
	opts  Options
	log   *slog.Logger
	wires *relay.Relay

	forge chan func() // what starts a process, for the one thread that may

	mu    sync.Mutex // guards procs; the processes guard themselves
	procs map[string]*Process
}

// DefaultSites are three clusters on three continents.
func DefaultSites() []Site {
	return []Site{
		{Name: "fra", Country: "DE", Region: "eu-central"},
		{Name: "nyc", Country: "US", Region: "us-east"},
		{Name: "sin", Country: "SG", Region: "ap-southeast"},
	}
}

// New lays the files of a fleet out and binds its relays. Nothing runs yet.
func New(o Options) (*Fleet, error) {
	if o.Directors == 0 {
		o.Directors = 3
	}
	if len(o.Clusters) == 0 {
		o.Clusters = DefaultSites()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Kubeconfigs == "" {
		o.Kubeconfigs = filepath.Join(o.Dir, "kubeconfigs")
	}
	f := &Fleet{opts: o, log: o.Log, procs: map[string]*Process{}, forge: make(chan func())}
	if o.DNS == nil {
		f.opts.DNS = func(i int) string { return netip.AddrPortFrom(f.Director(i), cmp.Or(o.Port, 5353)).String() }
	}
	if o.API == nil {
		f.opts.API = func(i int) string { return netip.AddrPortFrom(f.Director(i), 8053).String() }
	}
	if err := f.layOut(); err != nil {
		return nil, err
	}
	links := []relay.Link{}
	sources := map[netip.Addr]string{}
	for i := 1; i <= o.Directors+o.Spares; i++ {
		name := Name(i)
		sources[f.Director(i)] = name
		target := netip.AddrPortFrom(f.Director(i), gossipPort).String()
		links = append(links,
			relay.Link{To: name, Network: relay.UDP, Listen: f.gossip(i).String(), Target: target},
			relay.Link{To: streamsOf(name), Network: relay.TCP, Listen: f.gossip(i).String(), Target: target},
			relay.Link{From: name, To: "etcd", Network: relay.TCP, Listen: f.etcdOf(i).String(), Target: f.etcd().String()},
		)
	}
	var err error
	if f.wires, err = relay.New(relay.Options{Links: links, Sources: sources, Log: f.log}); err != nil {
		if errors.Is(err, syscall.EADDRNOTAVAIL) {
			return nil, fmt.Errorf("%w%s", err, loopbackHint(f.addresses()))
		}
		return nil, err
	}
	return f, nil
}

const (
	gossipPort = 7946
	etcdPort   = 2379
)

// Name of the i-th director, from 1.
func Name(i int) string { return fmt.Sprintf("d%d", i) }

// Director gives the i-th director's own loopback address, from 1: its probes,
// its gossip and its questions leave from it.
func (f *Fleet) Director(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, f.opts.Net, 1, byte(i)})
}

// Cluster gives a cluster's address.
func (f *Fleet) Cluster(name string) netip.Addr {
	i := slices.IndexFunc(f.opts.Clusters, func(s Site) bool { return s.Name == name })
	return netip.AddrFrom4([4]byte{127, f.opts.Net, 10, byte(i + 1)})
}

// Backend gives the i-th backend's address, from 1.
func (f *Fleet) Backend(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, f.opts.Net, 20, byte(i)})
}

// Resolver gives the address where directors ask what hostnames resolve to, port 53.
// Nobody is there unless somebody is put there: a fleet asks nobody outside.
func (f *Fleet) Resolver() netip.Addr { return f.Backend(253) }

// HasBackend tells whether there is an i-th backend.
func (f *Fleet) HasBackend(i int) bool { return i >= 1 && i <= f.opts.Backends }

// BackendName of the i-th backend, from 1.
func BackendName(i int) string { return fmt.Sprintf("b%d", i) }

// Sites lists the clusters.
func (f *Fleet) Sites() []Site { return f.opts.Clusters }

// Directors counts the directors.
func (f *Fleet) Directors() int { return f.opts.Directors }

// DNS gives the address that the i-th director answers at.
func (f *Fleet) DNS(i int) string { return f.opts.DNS(i) }

// API gives the address of the i-th director's read-only API.
func (f *Fleet) API(i int) string { return f.opts.API(i) }

// Socket gives the i-th director's control socket.
func (f *Fleet) Socket(i int) string { return filepath.Join(f.data(i), "control.sock") }

// SpecDir gives the i-th director's own folder of spec files.
func (f *Fleet) SpecDir(i int) string { return filepath.Join(f.opts.Dir, Name(i), "spec.d") }

func (f *Fleet) data(i int) string { return filepath.Join(f.opts.Dir, Name(i), "data") }

// DataDir gives the i-th director's data folder.
func (f *Fleet) DataDir(i int) string { return f.data(i) }

// EtcdDir gives the store's data folder.
func (f *Fleet) EtcdDir() string { return filepath.Join(f.opts.Dir, "etcd") }

func (f *Fleet) gossip(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, f.opts.Net, 2, byte(i)}), gossipPort)
}

func (f *Fleet) etcdOf(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, f.opts.Net, 3, byte(i)}), etcdPort)
}

func (f *Fleet) etcd() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, f.opts.Net, 0, 2}), etcdPort)
}

// addresses lists all that the fleet needs of loopback.
func (f *Fleet) addresses() []netip.Addr {
	out := []netip.Addr{f.etcd().Addr()}
	for i := 1; i <= f.opts.Directors+f.opts.Spares; i++ {
		out = append(out, f.Director(i), f.gossip(i).Addr(), f.etcdOf(i).Addr())
	}
	for _, s := range f.opts.Clusters {
		out = append(out, f.Cluster(s.Name))
	}
	for i := 1; i <= f.opts.Backends; i++ {
		out = append(out, f.Backend(i))
	}
	return out
}

// Run starts everything and keeps it until ctx ends; then nothing is left. ready
// is called once all processes have been started.
func (f *Fleet) Run(ctx context.Context, ready func()) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return f.wires.Run(ctx) })
	group.Go(func() error {
		// Linux ends the children with the thread that forked them
		// (golang/go#27505), so one goroutine keeps one thread for it.
		runtime.LockOSThread()
		for {
			select {
			case <-ctx.Done():
				return nil
			case start := <-f.forge:
				start()
			}
		}
	})
	defer f.stopAll()
	group.Go(func() error {
		if err := f.startAll(ctx); err != nil {
			return err
		}
		if ready != nil {
			ready()
		}
		return nil
	})
	<-ctx.Done()
	f.stopAll()
	return group.Wait()
}

func (f *Fleet) startAll(ctx context.Context) error {
	if err := f.Start(ctx, "etcd"); err != nil {
		return err
	}
	for _, s := range f.opts.Clusters {
		if err := f.Start(ctx, s.Name); err != nil {
			return err
		}
	}
	for i := 1; i <= f.opts.Backends; i++ {
		if err := f.Start(ctx, BackendName(i)); err != nil {
			return err
		}
	}
	for i := 1; i <= f.opts.Directors; i++ {
		if err := f.Start(ctx, Name(i)); err != nil {
			return err
		}
	}
	return nil
}

// stopAll ends every process of the fleet and waits for it.
func (f *Fleet) stopAll() {
	var wg sync.WaitGroup
	for _, name := range f.started() {
		wg.Go(func() { f.process(name).end() })
	}
	wg.Wait()
}

// started lists the processes that were started, in order.
func (f *Fleet) started() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.procs))
}

// Ended names a process that has ended by itself, such as one whose port is
// taken; Log has its last words.
func (f *Fleet) Ended() (string, bool) {
	for _, name := range f.started() {
		if f.process(name).ended() {
			return name, true
		}
	}
	return "", false
}

func (f *Fleet) process(name string) *Process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.procs[name]
}

// Start starts a process of the fleet: "etcd", a cluster or a director. One that
// runs already is left alone. It waits for Run to have begun.
func (f *Fleet) Start(ctx context.Context, name string) error {
	f.mu.Lock()
	p := f.procs[name]
	if p == nil {
		args, err := f.command(name)
		if err != nil {
			f.mu.Unlock()
			return err
		}
		p = &Process{name: name, args: args, log: filepath.Join(f.opts.Dir, name+".log")}
		f.procs[name] = p
	}
	f.mu.Unlock()
	result := make(chan error, 1)
	select {
	case f.forge <- func() { result <- p.start() }:
		return <-result
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Use has a process of the fleet be of another executable from its next start, or the
// next that takes over from it, on. It must have been started once.
func (f *Fleet) Use(name, executable string) error {
	return f.signal(name, func(p *Process) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.args[0] = executable
		return nil
	})
}

// Replace has another process take over from a running director, and waits until
// the one before has ended.
func (f *Fleet) Replace(ctx context.Context, name string) error {
	p := f.process(name)
	if p == nil {
		return fmt.Errorf("%s was never started", name)
	}
	type begun struct {
		s   succession
		err error
	}
	result := make(chan begun, 1)
	select {
	case f.forge <- func() { s, err := p.succeed("--replace"); result <- begun{s, err} }:
	case <-ctx.Done():
		return ctx.Err()
	}
	b := <-result
	if b.err != nil {
		return b.err
	}
	return p.await(b.s)
}

// command gives the command line of a process.
func (f *Fleet) command(name string) ([]string, error) {
	if name == "etcd" {
		return []string{f.opts.Binary, "etcd", "--data", f.EtcdDir(), "--listen", "http://" + f.etcd().String()}, nil
	}
	if slices.ContainsFunc(f.opts.Clusters, func(s Site) bool { return s.Name == name }) {
		return []string{f.opts.Binary, "demo", "cluster", "--name", name, "--address", f.Cluster(name).String(), "--cert", f.certFile(), "--key", f.keyFile()}, nil
	}
	for i := 1; i <= f.opts.Backends; i++ {
		if BackendName(i) == name {
			return []string{f.opts.Binary, "demo", "cluster", "--name", name, "--address", f.Backend(i).String(), "--cert", f.certFile(), "--key", f.keyFile()}, nil
		}
	}
	for i := 1; i <= f.opts.Directors+f.opts.Spares; i++ {
		if Name(i) == name {
			return []string{f.opts.Binary, "serve", "-c", f.SettingsFile(i)}, nil
		}
	}
	return nil, fmt.Errorf("%s is neither a cluster nor a director of this fleet", name)
}

// Kill ends a process at once, as a power loss would.
func (f *Fleet) Kill(name string) error { return f.signal(name, (*Process).kill) }

// Pause stops a process without ending it; Resume lets it go on.
func (f *Fleet) Pause(name string) error { return f.signal(name, (*Process).pause) }

// Resume lets a paused process go on.
func (f *Fleet) Resume(name string) error { return f.signal(name, (*Process).resume) }

// Stop ends a process gracefully and waits for it.
func (f *Fleet) Stop(name string) error {
	return f.signal(name, func(p *Process) error { p.end(); return nil })
}

func (f *Fleet) signal(name string, do func(*Process) error) error {
	p := f.process(name)
	if p == nil {
		return fmt.Errorf("%s does not run here", name)
	}
	return do(p)
}

// Log gives what a process has written.
func (f *Fleet) Log(name string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(f.opts.Dir, name+".log"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return b, err
}
