package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/dnsserver/keypair"
)

// The limits of both listeners (C3). They are constants: nobody needs another
// value, and a director that can be told to have none can be told to be an
// outage.
const (
	maxConnections = 128             // per listener; beyond, who waits longest without a request goes
	maxStreams     = 32              // event streams at once, per listener: who may only read never keeps out who may change
	maxCommands    = 16              // commands under way at once
	maxHeader      = 16 << 10        // octets
	maxBody        = 64 << 20        // octets of a command: the largest spec that the store takes, with its zone files
	largeBody      = 1 << 20         // octets from which on one command at a time is read
	headerTimeout  = 5 * time.Second // from the first octet of a request to the last of its header
	readTimeout    = 20 * time.Second
	writeTimeout   = 20 * time.Second
	idleTimeout    = 30 * time.Second
	drainTimeout   = time.Second     // for a body that nobody read, once its request is answered
	stopTimeout    = 3 * time.Second // for requests under way when Run ends; more than the grace of a command
)

// Options is what a Server needs.
type Options struct {
	Director Director
	Listen   string         // TCP; without TLS loopback alone, where whoever has no token reads; "" = none
	TLS      TLSOptions     // of Listen
	Socket   string         // path of the unix socket; mode 0600 unless users of the system are granted something; "" = none
	Grants   []access.Grant // who may do what; this process's user and root may do all by the socket
	// Bearers gives the tokens of the plan in force; nil: there are none.
	Bearers  func() []access.Bearer
	Issuer   Issuer               // whose ID tokens count; nil: nobody's
	Reviews  Reviews              // whose ServiceAccounts' tokens count; nil: nobody's
	Registry *prometheus.Registry // shown at /metrics; the server adds its own; nil = a private one
	Log      *slog.Logger         // nil = silent
	Large    chan struct{}        // a slot for a command that is large, shared with what else takes much memory; nil = one of its own
}

// Issuer knows people by ID tokens. Identify asks nobody; Run keeps what it goes by up to
// date, until ctx ends.
type Issuer interface {
	Identify(token string, now time.Time) (access.Identity, error)
	Run(ctx context.Context) error
}

// Reviews knows programs by what a cluster says of their tokens. Review may ask it, for
// seconds, and tells whether a token claims to be a cluster's, so that no other is asked.
// From is where the request came from, as its limits go. Errors of access.ErrUnavailable and
// access.ErrHurried say that it may be good.
type Reviews interface {
	Review(ctx context.Context, from, token string) (id access.Identity, ours bool, err error)
	Run(ctx context.Context) error
}

// Server serves the API on its two listeners.
type Server struct {
	director Director
	socket   string
	grants   []access.Grant
	bearers  func() []access.Bearer
	issuer   Issuer
	reviews  Reviews
	files    *keypair.Files // nil: no TLS
	log      *slog.Logger
	metrics  *metrics
	routes   map[string]route
	tcp      net.Listener // nil where there is none
	unix     net.Listener // nil where there is none

	streams  map[string]chan struct{} // by listener, a slot for each event stream
	probes   chan struct{}            // a slot for each question to probe
	commands chan struct{}            // a slot for each command
	looks    chan struct{}            // a slot for each look at the whole store
	asks     *access.Limiter          // by identity
	refused  *access.Limiter          // credentials that were refused, by network
	proofs   chan struct{}            // a slot for each reading of the whole audit log
	large    chan struct{}            // a slot for one that is large, from its first octet to its outcome

	// Fixed by NewServer, shortened by tests.
	keepAlive time.Duration // between comments on a quiet event stream
	gap       time.Duration // least time between two events of a stream
	grace     time.Duration // what a command still has once its client is gone
	look      time.Duration // between two looks at the certificate's files
	headers   time.Duration // for a handshake, and for a request's header
	most      int64         // octets of a command
}

// NewServer binds both listeners, so that a taken port or a foreign socket
// shows at start. Run must be called to serve and to let go of them.
func NewServer(o Options) (*Server, error) {
	if o.Director == nil {
		return nil, errors.New("api: no director to serve")
	}
	s := &Server{
		director: o.Director, socket: o.Socket, log: o.Log, grants: o.Grants, bearers: o.Bearers, issuer: o.Issuer, reviews: o.Reviews,
		streams: map[string]chan struct{}{
			viaTCP: make(chan struct{}, maxStreams), viaTLS: make(chan struct{}, maxStreams), viaSocket: make(chan struct{}, maxStreams),
		},
		probes:    make(chan struct{}, maxProbes),
		commands:  make(chan struct{}, maxCommands),
		looks:     make(chan struct{}, 1),
		proofs:    make(chan struct{}, 1),
		large:     o.Large,
		asks:      access.NewLimiter(asksPerSecond, asksBurst, maxAskers),
		refused:   access.NewLimiter(refusedPerSecond, refusedBurst, maxRefused),
		keepAlive: 15 * time.Second, gap: 200 * time.Millisecond, grace: 2 * time.Second, look: keypair.Tick,
		headers: headerTimeout, most: maxBody,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.large == nil {
		s.large = make(chan struct{}, 1)
	}
	registry := o.Registry
	if registry == nil {
		registry = prometheus.NewRegistry()
	}
	var err error
	if s.metrics, err = newMetrics(registry); err != nil {
		return nil, err
	}
	s.routes = s.table(registry)
	if o.Listen != "" {
		if s.tcp, err = s.listen(o); err != nil {
			return nil, err
		}
	}
	if o.Socket != "" {
		if s.unix, err = listenSocket(o.Socket, s.sharesSocket()); err != nil {
			if s.tcp != nil {
				err = errors.Join(err, s.tcp.Close())
			}
			return nil, err
		}
	}
	return s, nil
}

// Addr is the bound TCP address, "" where there is none.
func (s *Server) Addr() string {
	if s.tcp == nil {
		return ""
	}
	return s.tcp.Addr().String()
}

// Run serves until ctx ends, then gives requests under way a moment and lets go
// of both listeners.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	tcp := viaTCP
	if s.files != nil {
		tcp = viaTLS
		group.Go(func() error { s.files.Watch(ctx, s.look); return nil })
	}
	if s.reviews != nil {
		group.Go(func() error { return s.reviews.Run(ctx) })
	}
	if s.issuer != nil {
		group.Go(func() error { return s.issuer.Run(ctx) })
	}
	for _, l := range []struct {
		listener net.Listener
		via      string
	}{{s.tcp, tcp}, {s.vetted(s.unix), viaSocket}} {
		if l.listener == nil {
			continue
		}
		server := s.httpServer(ctx, l.via)
		capped := newCapped(l.listener, maxConnections, s.metrics.connections.WithLabelValues(l.via))
		server.ConnState = capped.state
		var listener net.Listener = capped
		if l.via == viaTLS {
			listener = tls.NewListener(capped, secured(s.files))
		}
		group.Go(func() error {
			if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serving the API on %s: %w", l.listener.Addr(), err)
			}
			return nil
		})
		group.Go(func() error {
			<-ctx.Done()
			return stop(context.WithoutCancel(ctx), server)
		})
	}
	return group.Wait()
}

// stop waits a moment for requests under way; their contexts have ended, so
// that only a stuck one is cut off.
func stop(ctx context.Context, server *http.Server) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return server.Close()
	}
	return nil
}

func (s *Server) httpServer(ctx context.Context, via string) *http.Server {
	return &http.Server{
		Handler:           s.handler(via),
		ReadHeaderTimeout: s.headers,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/1.1 alone: its limits are the ones above
		ErrorLog:          slog.NewLogLogger(newSparse(s.log.Handler()), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       withConn,
	}
}
