package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/divertdns/divert/election"
)

const (
	// DefaultTTL is the session's life without an answered keep-alive.
	DefaultTTL = 5 * time.Second

	retryFirst = 100 * time.Millisecond
	// L3 leaves two seconds over the TTL; a candidate must be back in the
	// queue well inside them.
	retryMost = time.Second
)

// Options say who campaigns, and where.
type Options struct {
	Client     *clientv3.Client
	Prefix     string        // of the candidates' keys, such as "divert/election/"
	Name       string        // director
	TTL        time.Duration // whole seconds; default DefaultTTL
	Log        *slog.Logger
	Registerer prometheus.Registerer // may be nil
	Held       bool                  // campaigns only once Stand allows it
}

// Campaign is one director's standing in the election. Run owns the session;
// the mutex guards what others read.
type Campaign struct {
	o       Options
	changed chan struct{}
	kick    chan struct{} // wakes Run after Resign and Stand
	metrics *metrics

	mu      sync.Mutex
	status  election.Status
	expires time.Time // by the monotonic clock; what Mine ends at
	aside   time.Time // no candidate before this
	held    bool      // no candidate while Stand does not allow it
}

// New makes a campaign. Nothing is asked of etcd before Run.
func New(o Options) (*Campaign, error) {
	if o.Client == nil || o.Name == "" || o.Prefix == "" {
		return nil, errors.New("campaign: client, name and prefix are wanted")
	}
	o.Prefix = strings.TrimSuffix(o.Prefix, "/") + "/"
	if o.TTL == 0 {
		o.TTL = DefaultTTL
	}
	if o.TTL < time.Second || o.TTL%time.Second != 0 {
		return nil, fmt.Errorf("campaign: a TTL of %s is not a number of whole seconds", o.TTL)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("campaign: %w", err)
	}
	return &Campaign{o: o, changed: make(chan struct{}, 1), kick: make(chan struct{}, 1), metrics: m, held: o.Held}, nil
}

// Status says who leads as far as this director knows. Mine holds only while
// the lease has time left by this process's own monotonic clock, counted from
// when the last answered keep-alive was *sent*: a director that was paused
// past its lease reads false at its first look (F11), whoever ran first.
func (c *Campaign) Status() election.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status.Mine && !time.Now().Before(c.expires) {
		return election.Status{}
	}
	return c.status
}

// Changed gives a wake-up when Status may have changed. It has room for one:
// one reader, who looks at Status again.
func (c *Campaign) Changed() <-chan struct{} { return c.changed }

// Resign gives up the leadership, or the place in the queue, at once, and
// stands aside for one TTL from now. Who may not lead (isolated, abstaining,
// a wrong clock) calls it again and again.
func (c *Campaign) Resign() {
	c.mu.Lock()
	c.aside = time.Now().Add(c.o.TTL)
	was := c.status.Mine
	c.mu.Unlock()
	if was {
		c.set(election.Status{})
	}
	wake(c.kick)
}

// Stand says whether this director may be a candidate. Who may not gives up the leadership,
// or the place in the queue, at once, and only looks who leads; it is back at once when it may.
func (c *Campaign) Stand(may bool) {
	c.mu.Lock()
	same, was := c.held != may, c.status.Mine
	c.held = !may
	c.mu.Unlock()
	if same {
		return
	}
	if was && !may {
		c.set(election.Status{})
	}
	wake(c.kick)
}

// Run campaigns until ctx ends, through every loss of etcd, and returns nil.
// It gives the lease back at the end, so that another leads at once.
func (c *Campaign) Run(ctx context.Context) error {
	wait := retryFirst
	for ctx.Err() == nil {
		if !c.standAside(ctx) {
			break
		}
		start := time.Now()
		err := c.session(ctx)
		c.set(election.Status{})
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			c.metrics.lost.Inc()
			c.o.Log.Debug("election session ended", slog.Any("error", err))
		}
		if time.Since(start) > c.o.TTL {
			wait = retryFirst
		}
		sleep(ctx, wait/2+rand.N(wait))
		wait = min(2*wait, retryMost)
	}
	return nil
}

// standAside waits until this director may be a candidate; false: ctx ended.
func (c *Campaign) standAside(ctx context.Context) bool {
	for {
		c.mu.Lock()
		left, held := time.Until(c.aside), c.held
		c.mu.Unlock()
		switch {
		case held:
			c.observe(ctx)
			left = retryMost
		case left <= 0:
			return ctx.Err() == nil
		}
		t := time.NewTimer(left)
		select {
		case <-t.C:
		case <-c.kick:
		case <-ctx.Done():
		}
		t.Stop()
		if ctx.Err() != nil {
			return false
		}
	}
}

// observe looks who leads, for one that is no candidate.
func (c *Campaign) observe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), c.o.TTL)
	defer cancel()
	var status election.Status
	resp, err := c.o.Client.Get(ctx, c.o.Prefix, clientv3.WithPrefix(),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend), clientv3.WithLimit(1))
	if err == nil && len(resp.Kvs) > 0 && string(resp.Kvs[0].Value) != c.o.Name { // its own is about to be revoked
		status.Leader = string(resp.Kvs[0].Value)
	}
	c.set(status)
}

func (c *Campaign) mayStand() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.held && !time.Now().Before(c.aside)
}

// set publishes a status, unless Resign came in between, and logs a change.
func (c *Campaign) set(s election.Status) {
	c.mu.Lock()
	if s.Mine && (c.held || time.Now().Before(c.aside)) {
		s = election.Status{}
	}
	old := c.status
	c.status = s
	c.mu.Unlock()
	c.metrics.mine.Set(0)
	if s.Mine {
		c.metrics.mine.Set(1)
	}
	if old == s {
		return
	}
	if old.Leader != s.Leader || old.Mine != s.Mine {
		c.metrics.changes.Inc()
		c.o.Log.Info("leadership", slog.String("leader", s.Leader), slog.String("was", old.Leader), slog.Bool("mine", s.Mine))
	}
	wake(c.changed)
}

// renew moves the moment that Mine ends at.
func (c *Campaign) renew(expires time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expires = expires
}

func wake(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
