package gossip

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// An absent director, registered and not a member, gets this many datagrams a
// second: enough for heartbeats to find a healed link before memberlist does.
const (
	absentRate  = 10
	absentBurst = 20
)

// absent limits what is sent into the void.
type absent struct {
	mu      sync.Mutex
	buckets map[string]*bucket // by director; as many as are registered
}

func newAbsent() *absent { return &absent{buckets: map[string]*bucket{}} }

func (a *absent) allow(name string, registered int, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.buckets[name]
	if b == nil {
		if len(a.buckets) > 2*registered+16 {
			clear(a.buckets) // names that are registered no more
		}
		b = newBucket(absentRate, absentBurst)
		a.buckets[name] = b
	}
	return b.allow(now)
}

var errUnreachable = errors.New("no address is known of the director")

// seal signs a payload with the next sequence number.
func (n *Node) seal(kind uint8, payload []byte, limit int) (Message, error) {
	if size := Overhead(n.opts.Name) + len(payload); size > limit {
		n.metrics.drop(oversized)
		return Message{}, fmt.Errorf("sealing %d octets, %d are allowed: %w", size, limit, ErrOversized)
	}
	m := Message{
		Kind: kind, From: n.opts.Name, Key: n.opts.Identity.Public(),
		Boot: n.opts.Identity.Boot, Instance: n.instance, Seq: n.seq.Add(1),
		Payload: payload, Fleet: n.opts.Fleet(), Received: time.Now(),
	}
	pin := n.opts.Keys(n.opts.Name)
	m.Pinned = m.Fleet != "" && string(pin) == string(m.Key)
	m.Raw = Seal(m.Fleet, kind, m.From, n.opts.Identity.Key, m.Boot, m.Instance, m.Seq, payload)
	return m, nil
}

// Broadcast signs a payload once and sends it to every peer by UDP, at once:
// to members and suspects, and at a limited rate to registered directors that
// memberlist has given up. Nobody is waited for and loss is normal. The
// message is returned as the peers see it, since one's own vote is part of a
// proof. The only error is a payload too large (see Overhead).
func (n *Node) Broadcast(kind uint8, payload []byte) (Message, error) {
	m, err := n.seal(kind, payload, MaxDatagram)
	if err != nil {
		return Message{}, err
	}
	list := n.list.Load()
	if list == nil {
		return m, nil
	}
	for _, peer := range n.members.others() {
		n.count(kind, list.SendBestEffort(&peer, m.Raw))
	}
	absent := n.addresses()
	now := time.Now()
	for name, addrs := range absent {
		if name == n.opts.Name || n.members.has(name) || !n.absent.allow(name, len(absent), now) {
			continue
		}
		for _, addr := range addrs {
			if to, err := netip.ParseAddrPort(addr); err == nil {
				n.count(kind, list.SendToAddress(memberlist.Address{Addr: to.String(), Name: name}, m.Raw))
			}
		}
	}
	return m, nil
}

// Send signs a payload and sends it to one director by UDP. Loss is normal.
func (n *Node) Send(to string, kind uint8, payload []byte) (Message, error) {
	m, err := n.seal(kind, payload, MaxDatagram)
	if err != nil {
		return Message{}, err
	}
	nodes, list, err := n.reach(to)
	if err != nil {
		return Message{}, err
	}
	for _, node := range nodes {
		n.count(kind, list.SendBestEffort(&node, m.Raw))
	}
	return m, nil
}

// SendReliable signs a payload of up to a mebibyte and sends it to one director
// by TCP. It takes seconds if the peer is silent, and ends early when Run does.
// No error means that the peer's kernel took it, not that the peer did.
func (n *Node) SendReliable(to string, kind uint8, payload []byte) error {
	m, err := n.seal(kind, payload, MaxReliable)
	if err != nil {
		return err
	}
	nodes, list, err := n.reach(to)
	if err != nil {
		return err
	}
	for _, node := range nodes {
		if err = list.SendReliable(&node, m.Raw); err == nil {
			break
		}
	}
	n.count(kind, err)
	if err != nil {
		return fmt.Errorf("sending to %s: %w", to, err)
	}
	return nil
}

// reach finds where a director is: where it says, else where the roster
// remembers it.
func (n *Node) reach(name string) ([]memberlist.Node, *memberlist.Memberlist, error) {
	list := n.list.Load()
	if list == nil {
		return nil, nil, errors.New("gossip is not running yet")
	}
	nodes := n.members.where(name)
	if len(nodes) > 0 {
		return nodes, list, nil
	}
	for _, a := range n.addresses()[name] {
		if addr, err := netip.ParseAddrPort(a); err == nil {
			nodes = append(nodes, memberlist.Node{Name: name, Addr: addr.Addr().AsSlice(), Port: addr.Port()})
		}
	}
	if len(nodes) == 0 {
		return nil, nil, fmt.Errorf("%s: %w", name, errUnreachable)
	}
	return nodes, list, nil
}

func (n *Node) count(kind uint8, err error) {
	if err != nil {
		n.metrics.failed.WithLabelValues(n.metrics.kind(kind)).Inc()
		return
	}
	n.metrics.sent.WithLabelValues(n.metrics.kind(kind)).Inc()
}
