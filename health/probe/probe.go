// Package probe owns the asking: it sends fast signals and deep probes to a
// wanted set of targets, each on its own time, and reports what came of each.
// It never decides who is up, and never shows anybody what a target answered.
package probe

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/divertdns/divert/health"
)

// Target is one probe of one address, or of a hostname's. At most one of its kinds is
// set; with none it is a TCP connect to the subject's address.
type Target struct {
	Subject health.Subject
	Name    string // for people, in the log; default: the subject
	// Hostname is looked up at each probe, by Options.Lookup, and its addresses are tried
	// instead of the one given, which stands for it; the port is that one's.
	Hostname string
	Fast     bool          // a fast signal: TCP connect only, halved interval in doubt, counted against the limit
	Interval time.Duration // between starts, in the mean; default 1 s, of a fast signal 100 ms
	Timeout  time.Duration // of a deep probe, at most Interval; a fast signal finds its own (see patience)
	// Turn of Turns, from 0, is the place of this director among those who probe the target:
	// their deep probes are spread evenly over its interval, so far as their clocks agree.
	// Turns < 2: at any time.
	Turn, Turns int
	HTTP        *HTTP
	TCP         *TCP
	TLS         *TLS
	GRPC        *GRPC
	DNS         *DNS
	ICMP        *ICMP
	Exec        *Exec
}

// Options of a Scheduler. The zero value of each field but Report is safe.
type Options struct {
	Source netip.Addr     // connections of its family leave from here
	Allow  []netip.Prefix // may be probed besides public and private unicast
	Exec   []string       // programs that probes may run: absolute paths
	// Lookup gives the addresses of a hostname as they are known, without waiting. nil:
	// none is known.
	Lookup func(hostname string) []netip.Addr
	// Report gets each outcome, one at a time. It must return at once: what
	// it takes is the scheduler's own time, and counts as a stall.
	Report func(health.Report)
	// Stalled is told of each time the scheduler itself did not run for more
	// than 100 ms, before the voided reports of that stall. May be nil.
	Stalled    func(at time.Time, took time.Duration)
	RootCAs    *x509.CertPool // default: the system's
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Scheduler runs the probes of a wanted set. Set, Doubt, Now and Stretch may
// be called at any time, from any goroutine, before Run too.
type Scheduler struct {
	opts    Options
	policy  policy
	log     *slog.Logger
	metrics *metrics
	shared  *shared
	expiry  *expiries
	running chan struct{} // holds a token for each program that runs
	runs    runs
	wake    chan struct{} // capacity 1
	stretch atomic.Uint64 // float64 bits; written by Run

	// sockets: the kernel's own non-blocking sockets carry what needs no TLS.
	// Tests on virtual time turn them off and replace ask.
	sockets bool
	ask     func(ctx context.Context, r *request) outcome

	sessions sessions

	mu      sync.Mutex // guards what follows
	wanted  []Target
	changed bool
	doubts  map[health.Subject]bool
	done    []result
	paces   map[health.Subject]*pace
}

// New makes a scheduler that probes nothing until it is given targets.
func New(o Options) *Scheduler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Report == nil {
		o.Report = func(health.Report) {}
	}
	if o.Lookup == nil {
		o.Lookup = func(string) []netip.Addr { return nil }
	}
	if o.Stalled == nil {
		o.Stalled = func(time.Time, time.Duration) {}
	}
	s := &Scheduler{
		opts:    o,
		policy:  policy{allow: slices.Clone(o.Allow)},
		log:     o.Log,
		shared:  &shared{},
		expiry:  &expiries{},
		running: make(chan struct{}, maxRunning),
		wake:    make(chan struct{}, 1),
		sockets: haveSockets,
		doubts:  make(map[health.Subject]bool),
	}
	s.metrics = newMetrics(o.Registerer, s.expiry)
	s.ask = s.exchange
	s.setStretch(1)
	return s
}

// Set gives the whole wanted set; what its pointers lead to must not change
// afterwards. Targets that stay keep their rhythm; of two
// with one subject the more frequent counts. Equal to the last set, it costs a
// comparison.
func (s *Scheduler) Set(targets []Target) {
	wanted := make([]Target, len(targets))
	for i, t := range targets {
		wanted[i] = t.defaulted()
	}
	s.mu.Lock()
	equal := slices.EqualFunc(s.wanted, wanted, Target.equal)
	if !equal {
		s.wanted, s.changed = wanted, true
	}
	s.mu.Unlock()
	if !equal {
		s.poke()
	}
}

// Doubt starts, or prolongs, doubt about the addresses and ports of the subjects: fast
// signals at half the interval, and deep probes once at once; a deep probe that is itself a
// subject at an eighth. Subjects at no address that is probed here are ignored.
func (s *Scheduler) Doubt(subjects ...health.Subject) { s.doubt(false, subjects) }

// Awaited is Doubt for what a peer awaits an answer of for longer than usual: it hangs, or
// is slow, so the second probe of a deep one need not wait for how the first ends.
func (s *Scheduler) Awaited(subjects ...health.Subject) { s.doubt(true, subjects) }

func (s *Scheduler) doubt(late bool, subjects []health.Subject) {
	if len(subjects) == 0 {
		return
	}
	s.mu.Lock()
	for _, subject := range subjects {
		s.doubts[subject] = s.doubts[subject] || late
	}
	s.mu.Unlock()
	s.poke()
}

// Now probes once, beside the schedule, and gives what Report would have got. A program
// that was started less than an interval ago is not started again: what it came to then
// is given, and how long ago that was.
func (s *Scheduler) Now(ctx context.Context, t Target) health.Report {
	t = t.defaulted()
	r := s.prepare(t)
	o := outcome{void: true, reason: r.refused}
	if r.refused == "" && t.Exec != nil {
		known, free := s.runs.claim(t.Subject, t.Interval, time.Now())
		if !free {
			return known.report(t.Subject, time.Now())
		}
		defer func() { s.runs.end(t.Subject, o, !o.void || ctx.Err() != nil) }()
	}
	if r.refused == "" {
		timeout := t.Timeout
		if t.Fast {
			timeout = signalLife
		}
		deadline, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		if o = s.reach(deadline, r); ctx.Err() != nil && !o.ok {
			o.void = true // called off, which says nothing of the target
		}
	}
	return o.report(t.Subject, time.Now())
}

func (s *Scheduler) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (t Target) equal(u Target) bool {
	return t.Subject == u.Subject && t.Hostname == u.Hostname && t.Fast == u.Fast && t.Interval == u.Interval && t.Timeout == u.Timeout &&
		t.Turn == u.Turn && t.Turns == u.Turns && t.asksAs(u)
}

// defaulted fills in what was left out and bounds the rest.
func (t Target) defaulted() Target {
	if t.Interval <= 0 {
		t.Interval = time.Second
		if t.Fast {
			t.Interval = 100 * time.Millisecond
		}
	}
	t.Interval = max(t.Interval, minInterval)
	if t.Timeout <= 0 {
		t.Timeout = time.Second
	}
	if !t.Fast {
		t.Timeout = min(t.Timeout, t.Interval)
	}
	return t
}
