package gossip

import (
	"context"
	"log/slog"
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

// refreshMeta announces what this director says of itself when that changes.
func (n *Node) refreshMeta(ctx context.Context) {
	tick := time.NewTicker(n.tuning.meta)
	defer tick.Stop()
	refused := false
	for {
		raw, err := n.sealMeta() // Ed25519 is deterministic: equal facts give equal bytes
		switch {
		case err != nil:
			if !refused {
				n.log.Warn("gossip goes on with what it said before", slog.Any("err", err))
			}
		case string(raw) != string(*n.meta.Load()):
			n.meta.Store(&raw)
			// The timeout only bounds the wait for the broadcast to be sent.
			if err := n.list.Load().UpdateNode(n.tuning.meta / 10); err != nil {
				n.log.Debug("announcing meta", slog.Any("err", err))
			}
		}
		refused = err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-n.refresh:
		}
	}
}
