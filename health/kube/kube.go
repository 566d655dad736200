// Package kube owns the view of clusters' control planes: it asks each API
// server, with what a kubeconfig gives, whether it lives and whether its
// storage does. All it ever says is *impaired*, which explains and alerts; it
// never says that a cluster is down, and nothing here steers (S17).
package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Condition is one director's view of one control plane.
type Condition struct {
	Cluster   string
	Impaired  bool
	Reason    string // "" when all is well; may be set though not impaired
	Endpoints []Endpoint
	At        time.Time
}

// Endpoint is one API server.
type Endpoint struct {
	URL     string
	State   State
	Reason  string        // "" when alive
	Latency time.Duration // of /livez; 0 unless it answered
}

// Options of an Observer.
type Options struct {
	Cluster    string
	Kubeconfig string   // path; files that it names by relative paths are looked for beside it
	Context    string   // default: the kubeconfig's current context
	Endpoints  []string // https URLs, one for each API server; default: the kubeconfig's server
	// Report gets the condition after each round. It must return at once.
	Report   func(Condition)
	Interval time.Duration // between rounds, default 5 s, ±20 %
	Log      *slog.Logger
}

// Bounds. The time-out lies above the 2 s after which an API server without
// its storage answers /livez, and it does not matter if that grows.
const (
	askTimeout    = 3 * time.Second
	confirmAfter  = time.Second // a first bad round is repeated so soon
	confirmations = 2           // bad rounds in a row that make *impaired*
	maxEndpoints  = 64
)

// Observer watches one control plane.
type Observer struct {
	opts    Options
	servers []*url.URL
	timeout time.Duration // askTimeout and confirmAfter; tests are in more of a hurry
	confirm time.Duration

	// Run's alone.
	material *material
	clients  []*client
	bad      int // rounds in a row
	last     string
}

// New checks the options; the kubeconfig is read by Run, each round anew, so
// that a rotated token or a file that comes late needs no restart.
func New(o Options) (*Observer, error) {
	if o.Kubeconfig == "" {
		return nil, errors.New("control plane without a kubeconfig")
	}
	if len(o.Endpoints) > maxEndpoints {
		return nil, fmt.Errorf("%d API server endpoints; at most %d are watched", len(o.Endpoints), maxEndpoints)
	}
	observer := &Observer{opts: o, timeout: askTimeout, confirm: confirmAfter}
	for _, endpoint := range o.Endpoints {
		u, err := url.Parse(endpoint)
		switch {
		case err != nil:
			return nil, fmt.Errorf("API server endpoint: %w", err)
		case u.Scheme != "https" || u.Host == "" || u.User != nil:
			return nil, fmt.Errorf("API server endpoint %q is not https://host:port", u.Redacted())
		}
		observer.servers = append(observer.servers, u)
	}
	if observer.opts.Interval <= 0 {
		observer.opts.Interval = 5 * time.Second
	}
	if observer.opts.Report == nil {
		observer.opts.Report = func(Condition) {}
	}
	if observer.opts.Log == nil {
		observer.opts.Log = slog.New(slog.DiscardHandler)
	}
	return observer, nil
}

// Run asks, round after round, until ctx ends.
func (o *Observer) Run(ctx context.Context) error {
	defer o.drop()
	wait := time.Duration(0)
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		condition, again := o.round(ctx)
		if ctx.Err() != nil {
			return nil
		}
		o.log(condition)
		if !again {
			o.opts.Report(condition)
		}
		wait = time.Duration(float64(o.opts.Interval) * (0.8 + 0.4*rand.Float64()))
		if again {
			wait = min(wait, o.confirm)
		}
	}
}

// round asks all servers side by side. again means that it looked bad for the
// first time, which is not told before it has been confirmed.
func (o *Observer) round(ctx context.Context) (c Condition, again bool) {
	if err := o.prepare(); err != nil {
		o.drop()
		o.bad = 0
		return Condition{Cluster: o.opts.Cluster, Reason: "not observed: " + err.Error(), At: time.Now()}, false
	}
	endpoints := make([]Endpoint, len(o.clients))
	var wg sync.WaitGroup
	for i, client := range o.clients {
		wg.Go(func() { endpoints[i] = client.look(ctx) })
	}
	wg.Wait()
	c = Condition{Cluster: o.opts.Cluster, Endpoints: endpoints, At: time.Now()}
	c.Impaired, c.Reason = sum(endpoints)
	if slices.ContainsFunc(endpoints, func(e Endpoint) bool { return e.State != Alive }) {
		for _, client := range o.clients {
			client.http.CloseIdleConnections() // the next round must not hang on a connection that has died
		}
	}
	if !c.Impaired {
		o.bad = 0
		return c, false
	}
	o.bad = min(o.bad+1, confirmations)
	return c, o.bad < confirmations
}

// prepare reads the kubeconfig and makes the clients, if anything has changed.
func (o *Observer) prepare() error {
	m, err := load(o.opts.Kubeconfig, o.opts.Context)
	if err != nil {
		return err
	}
	if o.material != nil && m.equal(o.material) {
		return nil
	}
	clients, err := m.clients(o.servers, o.timeout)
	if err != nil {
		return err
	}
	o.drop()
	o.material, o.clients = m, clients
	return nil
}

func (o *Observer) drop() {
	for _, client := range o.clients {
		client.http.CloseIdleConnections()
	}
	o.material, o.clients = nil, nil
}

// log writes a line when an endpoint changes, and none per round.
func (o *Observer) log(c Condition) {
	var text strings.Builder
	text.WriteString(c.Reason)
	for _, e := range c.Endpoints {
		text.WriteString("; " + e.URL + " " + e.State.String())
	}
	if text.String() == o.last {
		return
	}
	o.last = text.String()
	for _, e := range c.Endpoints {
		o.opts.Log.Info("API server", slog.String("cluster", c.Cluster), slog.String("url", e.URL),
			slog.String("state", e.State.String()), slog.String("why", e.Reason))
	}
}
