package director

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// controls doubts this director itself: one that has lost two thirds of its
// control points, the peers' DNS ports and those of its settings, is more likely
// cut off than right, and abstains (SEMANTICS, Know thyself). With fewer than
// three points it has nothing to go by. It alone writes lost.
type controls struct {
	points []string // host:port, connected to each second
	source netip.Addr
	peers  func() map[string]sighting
	log    *slog.Logger
	change func()

	lost atomic.Pointer[string] // why this director abstains; nil: it does not
}

const (
	controlsTick    = time.Second
	controlsTimeout = 700 * time.Millisecond
	controlsLeast   = 3
)

// abstains says why this director does not vote; "" = it does.
func (c *controls) abstains() string {
	if why := c.lost.Load(); why != nil {
		return *why
	}
	return ""
}

// run looks each second, until ctx ends.
func (c *controls) run(ctx context.Context) error {
	tick := time.NewTicker(controlsTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		lost, all := c.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		c.judge(lost, all)
	}
}

// look counts the points that do not answer.
func (c *controls) look(ctx context.Context) (lost, all int) {
	for _, s := range c.peers() {
		all++
		if s.fault != "" {
			lost++
		}
	}
	if all+len(c.points) < controlsLeast {
		return 0, all + len(c.points)
	}
	var silent atomic.Int64
	var group errgroup.Group
	group.SetLimit(16)
	for _, p := range c.points {
		group.Go(func() error {
			if !c.answers(ctx, p) {
				silent.Add(1)
			}
			return nil
		})
	}
	_ = group.Wait() // answers gives no error
	return lost + int(silent.Load()), all + len(c.points)
}

// answers connects and hangs up. A refusal is an answer: somebody is there.
func (c *controls) answers(ctx context.Context, point string) bool {
	ctx, cancel := context.WithTimeout(ctx, controlsTimeout)
	defer cancel()
	dialer := &net.Dialer{}
	if c.source.IsValid() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.source, 0))
	}
	conn, err := dialer.DialContext(ctx, "tcp", point)
	if err != nil {
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	_ = conn.Close()
	return true
}

// judge notes what follows, and says so when it changes.
func (c *controls) judge(lost, all int) {
	why := ""
	if all >= controlsLeast && 3*lost >= 2*all {
		why = fmt.Sprintf("%d of %d control points do not answer: it may be cut off itself", lost, all)
	}
	old := c.abstains()
	if (why == "") == (old == "") {
		return
	}
	if why != "" {
		c.lost.Store(&why)
		c.log.Warn("abstaining", slog.String("why", why))
	} else {
		c.lost.Store(nil)
		c.log.Info("voting again")
	}
	c.change()
}
