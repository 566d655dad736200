package gossip

import (
	"log/slog"

	"github.com/hashicorp/memberlist"
)

// delegate is memberlist's view of the Node. Its methods run on memberlist's
// goroutines, some under its lock: none waits and none calls memberlist.
type delegate struct{ node *Node }

var (
	_ memberlist.Delegate         = (*delegate)(nil)
	_ memberlist.EventDelegate    = (*delegate)(nil)
	_ memberlist.AliveDelegate    = (*delegate)(nil)
	_ memberlist.ConflictDelegate = (*delegate)(nil)
)

// NodeMeta implements memberlist.Delegate. What it gives fits: sealMeta checks,
// since memberlist panics otherwise.
func (d *delegate) NodeMeta(int) []byte { return *d.node.meta.Load() }

// NotifyMsg implements memberlist.Delegate.
func (d *delegate) NotifyMsg(raw []byte) { d.node.notify(raw) }

// GetBroadcasts implements memberlist.Delegate. Nothing of ours takes the
// gossip queue: it is a second slower than a datagram to each peer.
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate.
func (d *delegate) LocalState(bool) []byte {
	if d.node.opts.State == nil {
		return nil
	}
	state, err := d.node.opts.State.MarshalBinary()
	if err == nil {
		var m Message
		if m, err = d.node.seal(kindState, state, MaxReliable); err == nil {
			return m.Raw
		}
	}
	d.node.log.Debug("push/pull without state", slog.Any("err", err))
	return nil
}

// MergeRemoteState implements memberlist.Delegate.
func (d *delegate) MergeRemoteState(raw []byte, _ bool) {
	if len(raw) > 0 {
		d.node.notify(raw)
	}
}

// NotifyAlive implements memberlist.AliveDelegate: an error keeps the node out.
func (d *delegate) NotifyAlive(n *memberlist.Node) error { return d.node.members.admit(n) }

// NotifyJoin implements memberlist.EventDelegate.
func (d *delegate) NotifyJoin(n *memberlist.Node) { d.node.members.set(n, true) }

// NotifyUpdate implements memberlist.EventDelegate.
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.node.members.set(n, false) }

// NotifyLeave implements memberlist.EventDelegate.
func (d *delegate) NotifyLeave(n *memberlist.Node) { d.node.members.remove(n.Name) }

// NotifyConflict implements memberlist.ConflictDelegate: a director has come
// back under another address, and memberlist will not have it there for
// DeadNodeReclaimTime after it gave up the old one. NotifyAlive has seen it.
func (d *delegate) NotifyConflict(_, other *memberlist.Node) { d.node.members.move(other) }
