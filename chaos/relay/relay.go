// Package relay owns the wire between two parties of a demo or a test: TCP and
// UDP links that can be cut, healed, delayed and made lossy while they run,
// without privileges, and the same for the packets of a device. It never looks
// into what passes, but for the addresses of packets, and is never part of a
// director.
package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Any stands for every party in a rule.
const Any = "*"

// Limits of what one relay holds.
const (
	maxConns    = 1024 // TCP connections that pass
	maxHeld     = 256  // TCP connections that were opened over a cut link
	maxSessions = 1024 // UDP sources
	maxLate     = 4096 // delayed datagrams under way
)

// Network says what a link carries.
type Network int

// The networks.
const (
	Both Network = iota
	TCP
	UDP
)

// Link takes what comes in at Listen to Target.
type Link struct {
	From    string // whose traffic it is; "": told by the source address
	To      string // whom it leads to
	Network Network
	Listen  string // ip:port; port 0 takes any, the same for TCP and UDP
	Target  string // ip:port
}

// Options says what there is to relay.
type Options struct {
	Links   []Link
	Sources map[netip.Addr]string // who speaks from an address; others are called by their address
	// Device gives IP packets, one with each Read, and takes back those that pass, one
	// with each Write: a TUN device that routes lead to. Rules befall them by their
	// two addresses. Run closes it. nil: there is none.
	Device io.ReadWriteCloser
	Seed   uint64 // of loss, duplication and jitter
	Log    *slog.Logger
}

// Rule names a link's two ends, either of which may be Any.
type Rule struct{ From, To string }

func (r Rule) covers(from, to string) bool {
	return (r.From == Any || r.From == from) && (r.To == Any || r.To == to)
}

// Relay passes traffic over its links as its rules allow.
type Relay struct {
	opts Options
	log  *slog.Logger
	tcp  []*stream
	udp  []*datagram
	post *postman

	mu     sync.Mutex
	cuts   map[Rule]struct{}
	faults map[Rule]Fault
	random *rand.Rand
	pairs  map[*pair]struct{}
	nextID uint64
	ended  bool
}

// New binds every link.
func New(opts Options) (*Relay, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	r := &Relay{
		opts: opts, log: opts.Log, post: newPostman(),
		cuts: map[Rule]struct{}{}, faults: map[Rule]Fault{}, pairs: map[*pair]struct{}{},
		random: rand.New(rand.NewPCG(opts.Seed, 0)),
	}
	for i, l := range opts.Links {
		if err := r.bind(i, l); err != nil {
			return nil, errors.Join(fmt.Errorf("link %d to %s on %s: %w", i, l.To, l.Listen, err), r.unbind())
		}
	}
	return r, nil
}

func (r *Relay) bind(i int, l Link) error {
	addr, err := netip.ParseAddrPort(l.Listen)
	if err != nil {
		return err
	}
	if _, err := netip.ParseAddrPort(l.Target); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	attempts := 1
	if addr.Port() == 0 && l.Network == Both {
		attempts = 10 // the port that TCP got may be taken for UDP
	}
	for range attempts {
		if err = r.bindOnce(i, l, addr); err == nil {
			return nil
		}
	}
	return err
}

func (r *Relay) bindOnce(i int, l Link, addr netip.AddrPort) error {
	var tcp *net.TCPListener
	var err error
	if l.Network != UDP {
		if tcp, err = listen(addr); err != nil {
			return err
		}
		addr = netip.AddrPortFrom(addr.Addr(), tcp.Addr().(*net.TCPAddr).AddrPort().Port())
	}
	if l.Network != TCP {
		udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		if err != nil {
			if tcp != nil {
				err = errors.Join(err, tcp.Close())
			}
			return err
		}
		r.udp = append(r.udp, &datagram{relay: r, index: i, link: l, conn: udp, sessions: map[netip.AddrPort]*session{}})
	}
	if tcp != nil {
		r.tcp = append(r.tcp, &stream{relay: r, index: i, link: l, listener: tcp})
	}
	return nil
}

// listen opens a plain TCP listener: on the multipath sockets that Go prefers,
// the kernel takes no filter.
func listen(addr netip.AddrPort) (*net.TCPListener, error) {
	var c net.ListenConfig
	c.SetMultipathTCP(false)
	l, err := c.Listen(context.Background(), "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

func (r *Relay) unbind() error {
	var errs error
	for _, s := range r.tcp {
		errs = errors.Join(errs, s.listener.Close())
	}
	for _, d := range r.udp {
		errs = errors.Join(errs, d.conn.Close())
	}
	if r.opts.Device != nil {
		errs = errors.Join(errs, r.opts.Device.Close())
	}
	return errs
}

// Addr gives the address that a link, by its place in Options, is bound to.
func (r *Relay) Addr(link int) netip.AddrPort {
	for _, s := range r.tcp {
		if s.index == link {
			return s.listener.Addr().(*net.TCPAddr).AddrPort()
		}
	}
	for _, d := range r.udp {
		if d.index == link {
			return d.conn.LocalAddr().(*net.UDPAddr).AddrPort()
		}
	}
	return netip.AddrPort{}
}

// Run relays until ctx ends.
func (r *Relay) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { r.post.run(ctx) })
	if r.opts.Device != nil {
		wg.Go(func() { r.carry(ctx) })
	}
	for _, s := range r.tcp {
		wg.Go(func() { s.run(ctx, &wg) })
	}
	for _, d := range r.udp {
		wg.Go(func() { d.run(ctx, &wg) })
	}
	<-ctx.Done()
	err := r.unbind()
	r.mu.Lock()
	r.ended = true // for a connection that was accepted just before
	for p := range r.pairs {
		p.close()
	}
	r.mu.Unlock()
	for _, d := range r.udp {
		d.close()
	}
	wg.Wait()
	return err
}

// Cut silences all that from opens or sends to to, and the answers to it.
// Connections that stand are frozen; new ones, as far as the system allows, get
// no answer to their SYN, else they are taken and held. Nothing is reset: a cut
// link is silent.
func (r *Relay) Cut(from, to string) {
	rule := rule(from, to)
	r.mu.Lock()
	_, was := r.cuts[rule]
	r.cuts[rule] = struct{}{}
	r.apply()
	r.mu.Unlock()
	if !was {
		r.log.Info("link cut", slog.String("from", rule.From), slog.String("to", rule.To))
	}
}

// Heal takes back every cut that lies within the ends given, and says how many
// there were: Heal(Any, Any) heals all. Frozen connections are then closed, as
// peers that slept through a partition would find them.
func (r *Relay) Heal(from, to string) int {
	rule := rule(from, to)
	r.mu.Lock()
	before := len(r.cuts)
	maps.DeleteFunc(r.cuts, func(c Rule, _ struct{}) bool { return rule.covers(c.From, c.To) })
	healed := before - len(r.cuts)
	r.apply()
	r.mu.Unlock()
	if healed > 0 {
		r.log.Info("link healed", slog.String("from", rule.From), slog.String("to", rule.To))
	}
	return healed
}

// Shape makes a link worse from now on; the zero Fault makes it good again. Of
// several that fit, the one that names most ends holds.
func (r *Relay) Shape(from, to string, f Fault) {
	rule := rule(from, to)
	r.mu.Lock()
	defer r.mu.Unlock()
	if f == (Fault{}) {
		delete(r.faults, rule)
		return
	}
	r.faults[rule] = f
}

// Cuts lists the cuts in force, in order.
func (r *Relay) Cuts() []Rule {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.SortedFunc(maps.Keys(r.cuts), func(a, b Rule) int {
		return strings.Compare(a.From+"\x00"+a.To, b.From+"\x00"+b.To)
	})
}

func rule(from, to string) Rule {
	if from == "" {
		from = Any
	}
	if to == "" {
		to = Any
	}
	return Rule{From: from, To: to}
}

// apply brings connections and listeners in line with the cuts. r.mu is held;
// nothing here waits for the network.
func (r *Relay) apply() {
	for p := range r.pairs {
		switch cut := r.isCut(p.from, p.to); {
		case cut:
			p.frozen.Store(true)
		case p.frozen.Load():
			p.close()
		}
	}
	for _, s := range r.tcp {
		if err := s.silence(); err != nil {
			r.log.Debug("a cut link accepts connections and holds them", slog.String("to", s.link.To), slog.Any("err", err))
		}
	}
}

// isCut is asked with r.mu held.
func (r *Relay) isCut(from, to string) bool {
	for c := range r.cuts {
		if c.covers(from, to) {
			return true
		}
	}
	return false
}

func (r *Relay) blocked(from, to string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.isCut(from, to)
}

// name tells who speaks on a link.
func (r *Relay) name(l Link, source netip.Addr) string {
	if l.From != "" {
		return l.From
	}
	return r.party(source)
}

// dialer speaks to a target from the source's own address where that is one of
// this machine's loopback addresses, so that the target can tell sources apart.
func dialer(source netip.Addr, network string) net.Dialer {
	d := net.Dialer{Timeout: 5 * time.Second}
	if !source.IsLoopback() {
		return d
	}
	if network == "udp" {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	} else {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	}
	return d
}

// dial tries from the source's address first, then from any.
func dial(ctx context.Context, source netip.Addr, network, target string) (net.Conn, error) {
	d := dialer(source, network)
	conn, err := d.DialContext(ctx, network, target)
	if err != nil && d.LocalAddr != nil && !refused(err) {
		plain := net.Dialer{Timeout: d.Timeout}
		return plain.DialContext(ctx, network, target)
	}
	return conn, err
}
