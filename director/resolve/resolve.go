// Package resolve owns what the hostnames of endpoints resolve to: it asks recursive
// servers in the background, keeps the last good answer of each name for ever, and
// never asks on behalf of a client's query (S14).
package resolve

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/divertdns/divert/dnsserver/ask"
)

const (
	// MaxNames is how many hostnames are resolved.
	MaxNames = 10_000
	// MaxAddrs is how many addresses of a name and family are used: those that come
	// first by their own order.
	MaxAddrs = 16
	// Patience is how long a name may hold up the first plan that needs it (Learn).
	Patience = 2 * time.Second
	// Stale is the age from which a last good answer is alarmed.
	Stale = time.Hour

	atOnce     = 32 // names, each with a query for either family: 10,000 take 7 s of a server 20 ms away
	minRefresh = 5 * time.Second
	maxRefresh = time.Hour
	maxBackoff = time.Minute
	// kept is how long a name that no plan names any more is remembered: a plan that is
	// taken back must not find its names forgotten.
	kept = time.Hour
	// learnt is how long a name is asked for whose plan does not come into force.
	learnt = 10 * time.Minute
	tick   = time.Minute
)

// Options of a Resolver. The zero value of each field is safe.
type Options struct {
	Servers []string // host:port; none: those of /etc/resolv.conf, as it stands
	// Permit says why an address may not be used, or nil (C12).
	Permit func(netip.Addr) error
	// Changed is told, without a lock held, that answers changed: some records, not
	// their age. First says that a name of which nothing was known has some.
	Changed    func(first bool)
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Resolver keeps the records of a set of names. Its methods may be called at any time
// from any goroutine.
type Resolver struct {
	opts    Options
	log     *slog.Logger
	metrics *metrics
	ask     func(ctx context.Context, server, name string, v6 bool) (ask.Addresses, error)
	servers servers
	wake    chan struct{} // capacity 1
	names   atomic.Pointer[map[string]*entry]

	mu      sync.Mutex // guards what follows, and the fields of entries that say so
	entries map[string]*entry
	queue   queue // of those that are wanted and not being asked for
	refused int   // names beyond MaxNames
	stale   int   // names that were stale when last looked
}

// entry is one name.
type entry struct {
	name    string
	records atomic.Pointer[Records]

	// Under Resolver.mu.
	wanted   bool
	learnt   bool      // wanted by Learn alone, until then
	until    time.Time // remembered so long if not wanted
	due      time.Time
	index    int // in the queue, -1 when not there
	flying   bool
	failures int
	since    time.Time // when it was first wanted
	at       time.Time // when its records were last confirmed
	failing  time.Time // since when they are not; zero: they were, the last time
	told     bool      // of what is wrong
	gone     bool      // the name does not exist, the last time
	problem  string    // what was wrong the last time, of one family or both
	tried    chan struct{}
}

// New makes a resolver that asks nothing until it is given names and run.
func New(o Options) *Resolver {
	if o.Permit == nil {
		o.Permit = func(netip.Addr) error { return nil }
	}
	if o.Changed == nil {
		o.Changed = func(bool) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	r := &Resolver{
		opts: o, log: o.Log, ask: ask.Resolve, wake: make(chan struct{}, 1), entries: map[string]*entry{},
		servers: servers{given: slices.Clone(o.Servers), path: systemServers},
	}
	r.names.Store(&map[string]*entry{})
	r.metrics = newMetrics(o.Registerer, r)
	return r
}

// Records gives what is known of a name; nil = nothing. It takes no lock.
func (r *Resolver) Records(name string) *Records {
	if e := (*r.names.Load())[name]; e != nil {
		return e.records.Load()
	}
	return nil
}

// Set gives all names that are wanted. Those that stay keep what is known of them;
// new ones are asked for at once.
func (r *Resolver) Set(names []string) {
	names = slices.Clone(names)
	slices.Sort(names)
	names = slices.Compact(names)
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if beyond := max(len(names)-MaxNames, 0); beyond != r.refused {
		if r.refused = beyond; beyond > 0 {
			r.log.Error("too many hostnames: some are not resolved", slog.Int("limit", MaxNames), slog.Int("beyond", beyond), slog.String("first", names[MaxNames]))
		}
	}
	names = names[:min(len(names), MaxNames)]
	for _, e := range r.entries {
		if e.wanted {
			e.wanted, e.learnt, e.until = false, false, now.Add(kept)
		}
	}
	for _, name := range names {
		r.want(name, now)
	}
	for _, e := range r.entries {
		if !e.wanted && e.index >= 0 {
			r.queue.remove(e)
		}
	}
	r.forget(now)
	r.poke()
}

// Learn has names asked for of which nothing is known, before a plan that needs them
// is in force, and waits until each was tried, has been wanted for Patience, or ctx ends:
// where no server answers, a name holds up one plan and none of those after it.
func (r *Resolver) Learn(ctx context.Context, names []string) {
	var wait []chan struct{}
	var since time.Time
	r.mu.Lock()
	now := time.Now()
	r.room(len(names))
	for _, name := range names {
		e := r.entries[name]
		if e != nil && (e.records.Load() != nil || e.wanted && now.Sub(e.since) >= Patience) {
			continue
		}
		if e == nil && len(r.entries) >= 2*MaxNames {
			break
		}
		if e == nil || !e.wanted {
			e = r.want(name, now)
			e.learnt, e.until, e.since = true, now.Add(learnt), now
		}
		wait = append(wait, e.tried)
		if e.since.After(since) {
			since = e.since
		}
	}
	if len(wait) > 0 {
		r.publish()
	}
	r.mu.Unlock()
	r.poke()
	ctx, cancel := context.WithDeadline(ctx, since.Add(Patience))
	defer cancel()
	for _, tried := range wait {
		select {
		case <-tried:
		case <-ctx.Done():
			return
		}
	}
}

// want marks a name as wanted. The caller holds mu, and publishes.
func (r *Resolver) want(name string, now time.Time) *entry {
	e := r.entries[name]
	if e == nil {
		e = &entry{name: name, index: -1, since: now, tried: make(chan struct{})}
		r.entries[name] = e
	}
	if e.wanted = true; e.index < 0 && !e.flying {
		if e.due.IsZero() || e.records.Load() == nil {
			e.due = now
		}
		r.queue.add(e)
	}
	return e
}

// forget drops what nobody has wanted for long. The caller holds mu.
func (r *Resolver) forget(now time.Time) {
	for name, e := range r.entries {
		if e.learnt && !now.Before(e.until) {
			e.wanted, e.learnt, e.until = false, false, now.Add(kept)
			if e.index >= 0 {
				r.queue.remove(e)
			}
		}
		if !e.wanted && !e.flying && !now.Before(e.until) {
			delete(r.entries, name)
		}
	}
	r.room(0)
	r.publish()
}

// room drops the names that were wanted least recently, so that with some more there
// are no more than Read takes. The caller holds mu.
func (r *Resolver) room(more int) {
	beyond := len(r.entries) + more - 2*MaxNames
	if beyond <= 0 {
		return
	}
	var idle []*entry
	for _, e := range r.entries {
		if !e.wanted {
			idle = append(idle, e)
		}
	}
	slices.SortFunc(idle, func(a, b *entry) int { return cmp.Or(a.until.Compare(b.until), strings.Compare(a.name, b.name)) })
	for _, e := range idle[:min(beyond, len(idle))] {
		delete(r.entries, e.name)
	}
}

// publish shows the names to Records. The caller holds mu.
func (r *Resolver) publish() {
	names := maps.Clone(r.entries)
	r.names.Store(&names)
}

func (r *Resolver) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run asks until ctx ends, and leaves nothing in flight behind it.
func (r *Resolver) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	flying := 0
	results := make(chan struct{}, atOnce)
	timer := time.NewTimer(0)
	defer timer.Stop()
	looked := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-r.wake:
		case <-results:
			flying--
		}
		if now := time.Now(); now.Sub(looked) >= tick {
			looked = now
			r.look(now)
		}
		next := tick
		for flying < atOnce {
			e, in := r.next(time.Now())
			if e == nil {
				next = min(next, in)
				break
			}
			flying++
			wg.Go(func() {
				r.took(ctx, e, r.both(ctx, e.name))
				results <- struct{}{}
			})
		}
		timer.Reset(next)
	}
}

// next takes a name that is due, or says how long none is.
func (r *Resolver) next(now time.Time) (*entry, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		return nil, tick
	}
	e := r.queue[0]
	if wait := e.due.Sub(now); wait > 0 {
		return nil, wait
	}
	r.queue.remove(e)
	e.flying = true
	return e, 0
}

// both asks for the addresses of both families.
func (r *Resolver) both(ctx context.Context, name string) (got [2]outcome) {
	var wg sync.WaitGroup
	for f := range got {
		wg.Go(func() { got[f].Addresses, got[f].err = r.query(ctx, name, f == 1) })
	}
	wg.Wait()
	return got
}

// took books what came of asking for a name.
func (r *Resolver) took(ctx context.Context, e *entry, got [2]outcome) {
	if ctx.Err() != nil {
		return // called off, which says nothing
	}
	old := e.records.Load()
	records, problem, refresh := update(old, got, r.opts.Permit)
	now := time.Now()
	changed := records != old
	if changed {
		e.records.Store(records)
		r.metrics.changes.Inc()
	}
	r.mu.Lock()
	// Silence is one line for all of them: see query.
	fails := refresh == 0 && !e.told && !timedOut(got)
	again := refresh > 0 && e.told
	e.told = refresh == 0 && (e.told || fails)
	e.flying, e.problem = false, problem
	e.gone = errors.Is(got[0].err, ask.ErrNoName) && errors.Is(got[1].err, ask.ErrNoName)
	if refresh > 0 {
		e.at, e.failing, e.failures = now, time.Time{}, 0
		e.due = now.Add(spread(refresh))
	} else {
		if e.failing.IsZero() {
			e.failing = now
		}
		e.due = now.Add(backoff(e.failures))
		e.failures++
	}
	if e.wanted {
		r.queue.add(e)
	}
	select {
	case <-e.tried:
	default:
		close(e.tried)
	}
	r.mu.Unlock()
	switch {
	case fails:
		r.log.Warn("a hostname does not resolve; what is known of it stays", slog.String("hostname", e.name), slog.String("why", problem), slog.Bool("known", records != nil))
	case again:
		r.log.Info("a hostname resolves again", slog.String("hostname", e.name))
	}
	if changed {
		r.log.Debug("a hostname resolves anew", slog.String("hostname", e.name), slog.Any("addresses", records.All()))
		r.opts.Changed(old == nil)
	}
}

// spread lets names that came together go their own ways. Never earlier: the server
// would answer from what it is about to forget.
func spread(d time.Duration) time.Duration { return d + rand.N(d/10+1) }

// backoff is 5, 10, 20 … 60 s, a fifth more or less.
func backoff(failures int) time.Duration {
	d := min(minRefresh<<min(failures, 8), maxBackoff)
	return d - d/5 + rand.N(2*d/5+1)
}

func timedOut(got [2]outcome) bool {
	for _, g := range got {
		if g.err == nil || !errors.Is(g.err, errSilent) {
			return false
		}
	}
	return true
}

// look tells, once a minute, of what has become stale, and forgets what is not wanted.
func (r *Resolver) look(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(now)
	stale, example := 0, ""
	for _, e := range r.entries {
		if e.wanted && e.age(now) >= Stale {
			stale++
			if example == "" || e.name < example {
				example = e.name
			}
		}
	}
	switch {
	case stale > 0 && r.stale == 0:
		r.log.Error("hostnames were not resolved for an hour; the last good addresses go on serving",
			slog.Int("hostnames", stale), slog.String("first", example), slog.String("why", r.entries[example].problem))
	case stale == 0 && r.stale > 0:
		r.log.Info("all hostnames are fresh again")
	}
	r.stale = stale
}

// age is how long ago the name was last resolved, or since when it should be.
func (e *entry) age(now time.Time) time.Duration {
	if e.at.IsZero() {
		return now.Sub(e.since)
	}
	return max(now.Sub(e.at), 0)
}
