package gossip

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

// sealMeta encodes what this director says of itself now.
func (n *Node) sealMeta() ([]byte, error) {
	m := n.opts.Meta()
	if m.Site == "" {
		m.Site = n.opts.Site
	}
	m.Key, m.Gossip = n.opts.Identity.Public(), n.transport.advertise.String()
	return m.seal(n.opts.Name, n.opts.Identity.Key)
}

// repeats is how often a change of meta is announced again. memberlist's queue may lose
// one of two announcements of equal length that meet in it (hashicorp/memberlist #263),
// and those of directors that start or read a file at the same time do: until the next
// push/pull, half a minute later, peers would not know where a director's DNS is.
const repeats = 4

// refreshMeta announces what this director says of itself when that changes.
func (n *Node) refreshMeta(ctx context.Context) {
	tick := time.NewTicker(n.tuning.meta)
	defer tick.Stop()
	again := time.NewTimer(0)
	again.Stop()
	refused, left := false, 0
	for {
		raw, err := n.sealMeta() // Ed25519 is deterministic: equal facts give equal bytes
		switch {
		case err != nil:
			if !refused {
				n.log.Warn("gossip goes on with what it said before", slog.Any("err", err))
			}
		case string(raw) != string(*n.meta.Load()):
			n.meta.Store(&raw)
			n.announce()
			left = repeats
			again.Reset(n.aside())
		}
		refused = err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-n.refresh:
		case <-again.C:
			n.announce()
			if left--; left > 0 {
				again.Reset(n.aside())
			}
		}
	}
}

// announce sends what this director says of itself to all.
func (n *Node) announce() {
	// The timeout only bounds the wait for the broadcast to be sent.
	if err := n.list.Load().UpdateNode(n.tuning.meta / 10); err != nil {
		n.log.Debug("announcing meta", slog.Any("err", err))
	}
}

// aside draws when to announce again, so that two whose announcements have met do not
// meet each time.
func (n *Node) aside() time.Duration {
	return n.tuning.meta/2 + time.Duration(rand.Int64N(int64(n.tuning.meta)))
}
