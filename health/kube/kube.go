// Package kube owns the view of clusters' control planes: it asks each API
// server, with what a kubeconfig gives, whether it lives and whether its
// storage does. All it ever says of that is *impaired*, which explains and alerts; it
// never says that a cluster is down, and nothing of it steers (S17). Through a control
// plane it also counts what is ready, nodes and the addresses behind a Service, for
// who makes soft evidence of it; and a Reviewer asks it whose a bearer's token is.
package kube

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
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
	Nodes     Fraction // that are ready; none of none before they have been counted
	NodesWhy  string   // why they could not be counted the last time, "" when they were
	At        time.Time
}

// Endpoint is one API server.
type Endpoint struct {
	URL     string
	State   State
	Reason  string        // "" when alive
	Latency time.Duration // of /livez; 0 unless it answered
	Version string        // as it last said; shown, and never health: it is told with the storage gone, too
}

// Options of an Observer.
type Options struct {
	Cluster    string
	Kubeconfig string // path; files that it names by relative paths are looked for beside it
	// Open opens the kubeconfig, and the files that it names; default: wherever they lie.
	Open      func(path string) (*os.File, error)
	Context   string   // default: the kubeconfig's current context
	Endpoints []string // https URLs, one for each API server; default: the kubeconfig's server
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

	// What is only shown is asked seldom: an API server's version, and how many nodes are ready.
	asideEvery = 30 * time.Second
)

// Observer watches one control plane.
type Observer struct {
	opts    Options
	timeout time.Duration // askTimeout and confirmAfter; tests are in more of a hurry
	confirm time.Duration

	// Run's alone.
	access   access
	bad      int // rounds in a row
	last     string
	aside    time.Time // when what is only shown is due
	versions map[string]string
	nodes    Fraction
	nodesWhy string
}

// New checks the options; the kubeconfig is read by Run, each round anew, so
// that a rotated token or a file that comes late needs no restart.
func New(o Options) (*Observer, error) {
	access, err := newAccess(o)
	if err != nil {
		return nil, err
	}
	observer := &Observer{opts: o, access: access, timeout: askTimeout, confirm: confirmAfter, versions: map[string]string{}}
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
	defer o.access.drop()
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
	if err := o.access.prepare(o.timeout); err != nil {
		o.access.drop()
		o.bad = 0
		return Condition{Cluster: o.opts.Cluster, Reason: "not observed: " + err.Error(), At: time.Now()}, false
	}
	clients := o.access.clients
	endpoints := make([]Endpoint, len(clients))
	var wg sync.WaitGroup
	for i, client := range clients {
		wg.Go(func() { endpoints[i] = client.look(ctx) })
	}
	wg.Wait()
	o.lookAside(ctx, endpoints)
	c = Condition{Cluster: o.opts.Cluster, Endpoints: endpoints, Nodes: o.nodes, NodesWhy: o.nodesWhy, At: time.Now()}
	c.Impaired, c.Reason = sum(endpoints)
	if slices.ContainsFunc(endpoints, func(e Endpoint) bool { return e.State != Alive }) {
		for _, client := range clients {
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

// lookAside asks for what is only shown: of servers that live, so that it delays no
// round that finds one dead.
func (o *Observer) lookAside(ctx context.Context, endpoints []Endpoint) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	if now := time.Now(); !now.Before(o.aside) {
		alive := slices.IndexFunc(endpoints, func(e Endpoint) bool { return e.State == Alive })
		if alive < 0 {
			o.nodes, o.nodesWhy = Fraction{}, "no API server is alive to be asked"
		} else {
			o.aside = now.Add(asideEvery)
			var wg sync.WaitGroup
			versions := make([]string, len(endpoints))
			for i, client := range o.access.clients {
				if endpoints[i].State == Alive || endpoints[i].State == Restarting {
					wg.Go(func() { versions[i] = client.version(ctx) })
				}
			}
			wg.Go(func() {
				nodes, err := o.access.clients[alive].nodes(ctx, "")
				if o.nodes, o.nodesWhy = nodes, ""; err != nil {
					o.nodes, o.nodesWhy = Fraction{}, err.Error()
				}
			})
			wg.Wait()
			for i, v := range versions {
				if v != "" {
					o.versions[endpoints[i].URL] = v
				}
			}
		}
	}
	for i := range endpoints {
		endpoints[i].Version = o.versions[endpoints[i].URL]
	}
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
