package gossip

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
)

// label marks every packet and stream. It names the protocol, not the fleet:
// the fleet ID is not known at the first start, so fleets are told apart by
// their key, by the signed meta and by the envelope.
const label = "divert/1"

// State is what push/pull carries beside the membership, opaque to this
// package. Merge gets what a registered director of this fleet sealed.
type State interface {
	MarshalBinary() ([]byte, error)
	Merge(state []byte)
}

// Options says who the director is, where it speaks, and whom it asks about
// the fleet. The functions are called from several goroutines and, some, under
// memberlist's lock: they must return at once and must not call the Node.
type Options struct {
	Name      string // default: Identity.Name, which it must equal
	Site      string // fault domain; serves when Meta gives none
	Identity  Identity
	Listen    string   // ip:port; port 0 takes any
	Advertise string   // ip:port; default: what is listened on
	Join      []string // host:port, redialled for ever
	// Secrets are the fleet's gossip keys, each of 16, 24 or 32 octets: what is sent goes
	// under the first, what comes is taken under any. None, on loopback only: nothing is
	// encrypted, and Rekey cannot change that. They are two while a key is turned over.
	Secrets [][]byte

	Fleet func() string                       // fleet ID, "" before a plan is known
	Keys  func(name string) ed25519.PublicKey // the roster's key of a director, nil for none
	Peers func() map[string]string            // registered directors and their last known gossip address
	Meta  func() Meta                         // what to say of oneself; Key and Gossip are filled in
	Kinds map[uint8]string                    // names of the kinds, for metrics

	// Deliver gets each verified message, from one goroutine. While it waits,
	// the inbox fills and then drops. It must return once Run's context ends.
	Deliver func(Message)
	State   State // optional

	Log        *slog.Logger
	Registerer prometheus.Registerer

	tune func(*tuning) // tests shorten the timers
}

// tuning holds the timers.
type tuning struct {
	list   *memberlist.Config
	tick   time.Duration // how often redials are considered
	redial time.Duration // mean pause between attempts at an absent director
	meta   time.Duration // how often Options.Meta is asked

	resolve func(ctx context.Context, addr string, timeout time.Duration) ([]string, error)
}

// Node is a director's presence among the others.
type Node struct {
	opts      Options
	log       *slog.Logger
	metrics   *metrics
	transport *transport
	tuning    tuning
	instance  uint32
	seq       atomic.Uint64
	ran       atomic.Bool
	list      atomic.Pointer[memberlist.Memberlist] // nil until Run
	meta      atomic.Pointer[[]byte]                // sealed; written by New and refreshMeta
	refresh   chan struct{}                         // capacity 1
	inbox     *inbox
	members   *members
	alarms    *alarms
	claims    *claims
	answered  *answered
	absent    *absent
	ring      *memberlist.Keyring // nil: nothing is encrypted; changed by Rekey alone
	rekeying  sync.Mutex
}

// New checks the options and binds the sockets, so that what is wrong shows
// before anything runs. It starts no goroutine.
func New(opts Options) (*Node, error) {
	listenOn, err := settle(&opts)
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(opts.Registerer, opts.Kinds)
	if err != nil {
		return nil, fmt.Errorf("registering gossip's metrics: %w", err)
	}
	t, err := listen(listenOn, label, m)
	if err != nil {
		return nil, err
	}
	n := &Node{
		opts: opts, log: opts.Log, metrics: m, transport: t,
		refresh: make(chan struct{}, 1), inbox: newInbox(), answered: newAnswered(opts.Join), absent: newAbsent(),
		tuning: tuning{list: memberlist.DefaultLANConfig(), tick: 250 * time.Millisecond, redial: 2 * time.Second, meta: time.Second, resolve: resolve},
	}
	n.alarms, n.claims = newAlarms(opts.Log, m), newClaims()
	n.members = newMembers(n)
	if err := n.prepare(); err != nil {
		return nil, errors.Join(err, t.tcp.Close(), t.udp.Close())
	}
	return n, nil
}

// settle fills in defaults and refuses what cannot work.
func settle(o *Options) (netip.AddrPort, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Fleet == nil {
		o.Fleet = func() string { return "" }
	}
	if o.Keys == nil {
		o.Keys = func(string) ed25519.PublicKey { return nil }
	}
	if o.Peers == nil {
		o.Peers = func() map[string]string { return nil }
	}
	if o.Meta == nil {
		o.Meta = func() Meta { return Meta{} }
	}
	if o.Deliver == nil {
		o.Deliver = func(Message) {}
	}
	if o.Name == "" {
		o.Name = o.Identity.Name
	}
	switch {
	case !validName(o.Name):
		return netip.AddrPort{}, fmt.Errorf("director name %q: use 1 to %d letters, digits, dots, dashes and underscores", o.Name, MaxName)
	case o.Name != o.Identity.Name:
		return netip.AddrPort{}, fmt.Errorf("director %q has the identity of %q", o.Name, o.Identity.Name)
	case len(o.Identity.Key) != ed25519.PrivateKeySize || o.Identity.Boot == 0:
		return netip.AddrPort{}, fmt.Errorf("director %q has no key or no boot", o.Name)
	}
	for _, j := range o.Join {
		if err := checkHostPort(j); err != nil {
			return netip.AddrPort{}, fmt.Errorf("gossip.join: %w", err)
		}
	}
	addr, err := netip.ParseAddrPort(o.Listen)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("gossip.listen %q is not ip:port", o.Listen)
	}
	return addr, nil
}

// prepare settles what depends on the bound address.
func (n *Node) prepare() error {
	adv, err := advertised(n.opts.Advertise, n.transport.bound)
	if err != nil {
		return err
	}
	n.transport.advertise = adv
	if err = checkSecrets(n.opts.Secrets, n.transport.bound, adv); err != nil {
		return err
	}
	if n.ring, err = newRing(n.opts.Secrets); err != nil {
		return err
	}
	var random [4]byte
	if _, err = rand.Read(random[:]); err != nil {
		return fmt.Errorf("drawing the instance number: %w", err)
	}
	n.instance = binary.BigEndian.Uint32(random[:])
	raw, err := n.sealMeta()
	if err != nil {
		return err
	}
	n.meta.Store(&raw)
	n.configure(n.tuning.list)
	if n.opts.tune != nil {
		n.opts.tune(&n.tuning)
	}
	return nil
}

// configure sets memberlist up: its LAN timers, which suit sites a few hundred
// milliseconds apart, and nothing that costs more than it brings.
func (n *Node) configure(c *memberlist.Config) {
	d := &delegate{node: n}
	c.Name = n.opts.Name
	c.Label = label
	c.Keyring = n.ring
	c.Transport = n.transport
	c.BindPort = int(n.transport.bound.Port())
	c.AdvertiseAddr, c.AdvertisePort = n.transport.advertise.Addr().String(), int(n.transport.advertise.Port())
	c.Delegate, c.Events, c.Alive, c.Conflict = d, d, d, d
	c.Logger = newListLogger(n.log, n.metrics)
	c.TCPTimeout = 3 * time.Second
	c.DeadNodeReclaimTime = 10 * time.Second
	// Signatures and ciphertext do not shrink, and what cannot expand cannot
	// be a bomb.
	c.EnableCompression = false
	c.HandoffQueueDepth = 1024
}

// Addr gives the address that both sockets are bound to.
func (n *Node) Addr() netip.AddrPort { return n.transport.bound }

// Advertised gives the address that others are told.
func (n *Node) Advertised() netip.AddrPort { return n.transport.advertise }

// Refresh asks for Options.Meta to be read again soon; it is read every second
// besides.
func (n *Node) Refresh() {
	select {
	case n.refresh <- struct{}{}:
	default:
	}
}

// Alarms lists directors whose identity is in doubt, each with what a person
// should know and do.
func (n *Node) Alarms() map[string]string { return n.alarms.list() }

// Run gossips until ctx ends, then leaves politely. It may be called once.
func (n *Node) Run(ctx context.Context) error {
	if n.ran.Swap(true) {
		return errors.New("gossip: Run was called twice")
	}
	if ctx.Err() != nil { // it only lets go of its port
		return n.transport.Shutdown()
	}
	list, err := memberlist.Create(n.tuning.list)
	if err != nil {
		return errors.Join(fmt.Errorf("starting gossip: %w", err), n.transport.Shutdown())
	}
	n.transport.run()
	n.list.Store(list)
	var wg sync.WaitGroup
	wg.Go(func() { n.receive(ctx) })
	wg.Go(func() { n.redial(ctx) })
	wg.Go(func() { n.refreshMeta(ctx) })
	<-ctx.Done()
	n.transport.hangUp()
	wg.Wait()
	// Peers that hear it do not suspect first; those that do not, will.
	if err := list.Leave(500 * time.Millisecond); err != nil {
		n.log.Debug("leaving gossip unheard", slog.Any("err", err))
	}
	return list.Shutdown()
}

// receive opens what the inbox holds.
func (n *Node) receive(ctx context.Context) {
	r := newReceiver(n)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			n.alarms.settle(r.authors.alarms(now), n.opts.Keys, now)
		case <-n.inbox.wake:
			for _, l := range n.inbox.take() {
				if ctx.Err() != nil {
					return
				}
				r.open(l)
			}
		}
	}
}
