// Package tap owns what is shown of queries and replies to those who look on: a
// sample of them, as log lines or by dnstap. It never holds up an answer.
package tap

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// queued is how many packets wait at most to be written; beyond it they are
	// dropped and counted.
	queued = 1024
	// maxPacket is what is kept of a packet.
	maxPacket = 4096
)

// Transport is how a query came.
type Transport uint8

// The transports.
const (
	UDP Transport = iota
	TCP
	TLS
)

func (t Transport) String() string { return [...]string{"udp", "tcp", "tls"}[t%3] }

// Options say who looks on.
type Options struct {
	LogShare float64 // of queries that are logged, 0 to 1
	TapShare float64 // of queries that are sent to Socket
	Socket   string  // a unix socket where a dnstap receiver listens; "" = none
	Identity string  // dnstap's identity; "" = none
	Version  string  // dnstap's version; "" = none
	Log      *slog.Logger
}

// Tap takes copies of packets. A nil Tap takes none.
type Tap struct {
	log     *slog.Logger
	outlets []*outlet
}

// outlet is one who looks on.
type outlet struct {
	name    string
	share   float64
	queue   chan *Event
	free    chan *Event // used before, so that a copy allocates nothing
	written atomic.Uint64
	dropped atomic.Uint64
	run     func(context.Context, *outlet) error
}

// Event is one query with its reply.
type Event struct {
	At         time.Time
	From, To   netip.AddrPort
	Transport  Transport
	query      [maxPacket]byte
	reply      [maxPacket]byte
	queryLen   int
	replyLen   int
	queryWhole int // how long the query was
	replyWhole int
}

// Query is what is kept of the query.
func (e *Event) Query() []byte { return e.query[:e.queryLen] }

// Reply is what is kept of the reply; none where there was none.
func (e *Event) Reply() []byte { return e.reply[:e.replyLen] }

// New makes a tap; nil where nobody looks on.
func New(o Options) *Tap {
	t := &Tap{log: o.Log}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	if o.LogShare > 0 {
		t.outlets = append(t.outlets, newOutlet("log", o.LogShare, t.runLog))
	}
	if o.Socket != "" && o.TapShare > 0 {
		s := &stream{socket: o.Socket, identity: []byte(o.Identity), version: []byte(o.Version), log: t.log}
		t.outlets = append(t.outlets, newOutlet("dnstap", o.TapShare, s.run))
	}
	if len(t.outlets) == 0 {
		return nil
	}
	return t
}

func newOutlet(name string, share float64, run func(context.Context, *outlet) error) *outlet {
	return &outlet{name: name, share: min(share, 1), queue: make(chan *Event, queued), free: make(chan *Event, queued), run: run}
}

// Run writes what is taken until ctx ends.
func (t *Tap) Run(ctx context.Context) error {
	if t == nil {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, o := range t.outlets {
		group.Go(func() error { return o.run(ctx, o) })
	}
	return group.Wait()
}

// Sampler chooses which packets are taken, evenly: of a share of 1 % each
// hundredth. One goroutine owns it.
type Sampler struct {
	tap  *Tap
	due  []float64 // of each outlet; at 1 the next is taken
	some bool
}

// Sampler makes one more.
func (t *Tap) Sampler() Sampler {
	if t == nil {
		return Sampler{}
	}
	s := Sampler{tap: t, due: make([]float64, len(t.outlets)), some: true}
	for i := range s.due {
		s.due[i] = rand.Float64() //nolint:gosec // nobody gains by knowing which packets are shown
	}
	return s
}

// Take may take a copy of a query and its reply, which may be none. It allocates
// nothing in the long run and never waits.
func (s *Sampler) Take(at time.Time, from, to netip.AddrPort, transport Transport, query, reply []byte) {
	if !s.some {
		return
	}
	for i, o := range s.tap.outlets {
		if s.due[i] += o.share; s.due[i] >= 1 {
			s.due[i]--
			o.take(at, from, to, transport, query, reply)
		}
	}
}

func (o *outlet) take(at time.Time, from, to netip.AddrPort, transport Transport, query, reply []byte) {
	if len(o.queue) == cap(o.queue) {
		o.dropped.Add(1)
		return
	}
	var e *Event
	select {
	case e = <-o.free:
	default:
		e = new(Event)
	}
	e.At, e.From, e.To, e.Transport = at, from, to, transport
	e.queryLen, e.queryWhole = copy(e.query[:], query), len(query)
	e.replyLen, e.replyWhole = copy(e.reply[:], reply), len(reply)
	select {
	case o.queue <- e:
	default:
		o.dropped.Add(1)
		o.release(e)
	}
}

func (o *outlet) release(e *Event) {
	select {
	case o.free <- e:
	default:
	}
}
