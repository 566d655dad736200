// Package dnsserver owns the sockets that questions come in by and answers leave
// by, with their limits. It never decides an answer: dnsserver/answer does.
package dnsserver

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/dnsserver/internal/datagram"
	"github.com/divertdns/divert/dnsserver/keypair"
	"github.com/divertdns/divert/dnsserver/tap"
)

// Options is what a Server needs.
type Options struct {
	// Listen lists the addresses, each an IP address and a port, each served by UDP
	// and TCP. Without an address before the port it is all of both families. None
	// at all makes a witness, which answers nothing.
	Listen []string
	// Inherit are sockets that are bound already: those of an address in Listen are
	// used instead of new ones, the others are closed.
	Inherit []Socket
	// Table is what is answered; its owner swaps it at any time. While it holds nil
	// everything is refused as not ready (EDE 14).
	Table *atomic.Pointer[answer.Table]
	// TLS is DNS over TLS, beside Listen; Transfers is who may have whole zones.
	TLS       TLSOptions
	Transfers TransferOptions
	// Proxies lists whose PROXY headers tell who a client is: each of their
	// connections and datagrams must begin with one.
	Proxies []netip.Prefix
	// CookieKey is the fleet's: directors that have the same take one another's DNS
	// cookies. Without one this director's are its own, until it ends.
	CookieKey []byte
	// RateLimit is how many replies of one kind by UDP a network gets in a second
	// (an IPv4 /24 or an IPv6 /56) before they are truncated; 0 = as many as it
	// likes. Loopback, RateExempt and whoever has a valid cookie are not limited.
	RateLimit  int
	RateExempt []netip.Prefix
	Tap        *tap.Tap              // who looks on; its owner runs it. nil: nobody
	Log        *slog.Logger          // nil: nothing is logged
	Registerer prometheus.Registerer // nil: nothing is exported
}

// Server answers on its sockets.
type Server struct {
	table      *atomic.Pointer[answer.Table]
	notReady   *answer.Table
	log        *slog.Logger
	listeners  []listener
	metrics    *metrics
	streams    *streams
	poison     *poison
	cookieKeys cookieKeys
	cookies    atomic.Pointer[answer.CookieSecrets] // never nil
	rates      *rateLimit
	tap        *tap.Tap

	certificate  *keypair.Files // nil: no TLS
	tls          *tls.Config    // of it
	proxies      proxies
	transferring TransferOptions
	keys         atomic.Pointer[keyring] // never nil
	sharing      sync.Mutex              // of who changes it
	transfers    *transfers
	notifier     *notifier

	retired chan struct{} // closed by Retire
	retire  func()
	limits  limits
}

// listener is one address by both transports, or by TLS alone.
type listener struct {
	udp []*datagram.Socket // one for each worker: the kernel spreads the clients over them
	tcp *net.TCPListener
	any bool // bound to the unspecified address
	tls bool // by TLS alone: no UDP
}

// limits are constants but for tests.
type limits struct {
	streams   int           // TCP connections in all
	perClient int           // of one client: an IPv4 address or an IPv6 /64
	idle      time.Duration // between two queries of a connection
	message   time.Duration // for the rest of a query that has begun
	write     time.Duration // for a reply
	last      time.Duration // for a reply while the server stops
	greeting  time.Duration // for a PROXY header and a TLS handshake
	retired   time.Duration // for all connections of a server that is retired

	transfers          int           // under way, in all
	transfersPerClient int           // of one client
	transfer           time.Duration // for one

	certificate time.Duration // between two looks at the certificate's files
	notify      time.Duration // between two looks at the serials
}

func defaultLimits() limits {
	return limits{
		streams: 1024, perClient: 64, idle: 10 * time.Second, message: 2 * time.Second, write: 5 * time.Second, last: 200 * time.Millisecond,
		greeting: 3 * time.Second, retired: time.Minute, transfers: 64, transfersPerClient: 16, transfer: 10 * time.Minute,
		certificate: keypair.Tick, notify: notifyTick,
	}
}

// New binds all addresses, so that what is wrong with them shows early. The
// sockets are closed by Run.
func New(o Options) (*Server, error) {
	if o.Table == nil {
		return nil, errors.New("dns: no table to answer from")
	}
	notReady, err := answer.Compile(answer.Options{NotReady: true})
	if err != nil {
		return nil, err
	}
	s := &Server{
		table: o.Table, notReady: notReady, log: o.Log, limits: defaultLimits(), poison: newPoison(),
		cookieKeys: cookieKeys{own: cookieKey(o.CookieKey)}, rates: newRateLimit(o.RateLimit, o.RateExempt), tap: o.Tap,
	}
	s.retired = make(chan struct{})
	s.retire = sync.OnceFunc(func() { close(s.retired) })
	if err := s.turnCookies(time.Now()); err != nil {
		return nil, fmt.Errorf("dns cookies: %w", err)
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.metrics = newMetrics()
	s.streams, s.transfers = newStreams(&s.limits), newTransfers(&s.limits)
	if err := s.admit(o); err != nil {
		return nil, err
	}
	if o.Registerer != nil {
		if err := o.Registerer.Register(s.Collector()); err != nil {
			return nil, fmt.Errorf("dns metrics: %w", err)
		}
	}
	in := &inherited{sockets: slices.Clone(o.Inherit)}
	defer func() { Discard(in.sockets) }()
	for _, text := range o.Listen {
		addrs, err := listenAddrs(text)
		if err != nil {
			s.close()
			return nil, err
		}
		for _, addr := range addrs {
			l, err := bind(addr, datagram.Workers(), in)
			if err != nil {
				s.close()
				return nil, err
			}
			s.listeners = append(s.listeners, l)
		}
	}
	for _, text := range o.TLS.Listen {
		addrs, err := listenAddrs(text)
		if err != nil {
			s.close()
			return nil, err
		}
		for _, addr := range addrs {
			l, err := bindTLS(addr, in)
			if err != nil {
				s.close()
				return nil, err
			}
			s.listeners = append(s.listeners, l)
		}
	}
	return s, nil
}

// Collector gives the metrics, for a registry that comes later than the server.
func (s *Server) Collector() prometheus.Collector {
	return s.metrics.collector(s)
}

// admit sets up who else may do what: proxies, secondaries and clients by TLS.
func (s *Server) admit(o Options) (err error) {
	s.proxies, s.transferring = o.Proxies, o.Transfers
	if len(o.TLS.Listen) > 0 {
		s.certificate = keypair.New(keypair.Options{Cert: o.TLS.Cert, Key: o.TLS.Key, Use: "DNS over TLS", Log: s.log}, time.Now())
		s.tls = s.config()
	}
	ring, err := newKeyring(o.Transfers.Keys, nil, nil)
	if err != nil {
		return fmt.Errorf("dns.transfers: %w", err)
	}
	s.keys.Store(&ring)
	s.notifier, err = newNotifier(o.Transfers, func(name []byte) *tsigKey { return (*s.keys.Load())[string(name)] }, s.log)
	return err
}

// Addrs lists the addresses bound, in the order of Options.Listen. UDP and TCP have
// the same.
func (s *Server) Addrs() []netip.AddrPort {
	out := make([]netip.AddrPort, 0, len(s.listeners))
	for _, l := range s.listeners {
		if !l.tls {
			out = append(out, l.tcp.Addr().(*net.TCPAddr).AddrPort())
		}
	}
	return out
}

// TLSAddrs lists those of Options.TLS.
func (s *Server) TLSAddrs() []netip.AddrPort {
	var out []netip.AddrPort
	for _, l := range s.listeners {
		if l.tls {
			out = append(out, l.tcp.Addr().(*net.TCPAddr).AddrPort())
		}
	}
	return out
}

// Run answers until ctx ends, then finishes what is being answered, closes the
// sockets and returns nil. It does so, too, after Retire.
func (s *Server) Run(ctx context.Context) error {
	bounded, end := context.WithCancel(ctx)
	defer end()
	serving, inner := errgroup.WithContext(bounded)
	for i := range s.listeners {
		l := &s.listeners[i]
		for _, socket := range l.udp {
			w := s.worker(socket, l.any)
			serving.Go(func() error { return w.serve(inner) })
		}
		serving.Go(func() error { return s.serveTCP(inner, l) })
	}
	if len(s.listeners) == 0 { // a witness
		serving.Go(func() error { return s.idle(inner) })
	}
	beside, stop := context.WithCancel(inner)
	var aside errgroup.Group
	aside.Go(func() error { return s.rotate(beside) })
	aside.Go(func() error { return s.notify(beside) })
	if s.certificate != nil {
		aside.Go(func() error { s.certificate.Watch(beside, s.limits.certificate); return nil })
	}
	aside.Go(func() error {
		select {
		case <-beside.Done():
		case <-s.retired:
			sleep(beside, s.limits.retired)
			end()
		}
		s.interrupt()
		return nil
	})
	err := serving.Wait()
	stop()
	err = errors.Join(err, aside.Wait())
	s.close()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Retire leaves the sockets to whoever shares them (Handles): what has been read
// is answered, nothing more is read or accepted, and each connection goes on until
// it idles, for a minute at most, since what it answers from grows old. Then Run
// returns.
func (s *Server) Retire() {
	s.retire()
	for i := range s.listeners {
		for _, socket := range s.listeners[i].udp {
			_ = socket.SetReadDeadline(time.Unix(1, 0))
		}
		_ = s.listeners[i].tcp.SetDeadline(time.Unix(1, 0))
	}
}

// leaving tells whether the server is retired.
func (s *Server) leaving() bool {
	select {
	case <-s.retired:
		return true
	default:
		return false
	}
}

// idle waits where there is nothing to serve.
func (s *Server) idle(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-s.retired:
	}
	return nil
}

// interrupt wakes everything that waits for a packet.
func (s *Server) interrupt() {
	past := time.Unix(1, 0)
	for i := range s.listeners {
		for _, socket := range s.listeners[i].udp {
			_ = socket.SetReadDeadline(past)
		}
		_ = s.listeners[i].tcp.Close()
	}
	s.streams.interrupt(s.limits.last)
}

func (s *Server) close() {
	for i := range s.listeners {
		s.listeners[i].close()
	}
}

func (l *listener) close() {
	for _, socket := range l.udp {
		_ = socket.Close()
	}
	if l.tcp != nil {
		_ = l.tcp.Close()
	}
}

// overflows sums what the kernel dropped because a worker was too slow.
func (s *Server) overflows() (sum uint64, err error) {
	for i := range s.listeners {
		for _, socket := range s.listeners[i].udp {
			n, err := datagram.Overflows(socket)
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}

// inForce is the table that answers now.
func (s *Server) inForce() *answer.Table {
	if table := s.table.Load(); table != nil {
		return table
	}
	return s.notReady
}

// reply answers one packet of a stream behind dst, or gives the zone that it asks
// for, which has its place among the transfers. A panic is a fault of ours that must
// cost no more than that packet (C1).
func (s *Server) reply(dst, packet []byte, client answer.Client) (out []byte, zone *outgoing) {
	table := s.inForce()
	if s.poison.holds(table, packet) {
		s.metrics.poisoned.Add(1)
		return dst, nil
	}
	defer func() {
		if fault := recover(); fault != nil {
			s.panicked(table, packet, fault)
			out, zone = dst, nil
		}
	}()
	counts := s.metrics.of(table)
	out, tally := table.Reply(dst, packet, client)
	if again(tally) {
		j := s.judge(dst, packet, out, tally, table, client)
		out, tally, zone = j.reply, j.tally, j.zone
		if zone != nil && !s.transfers.begin(zone.client) {
			s.transfers.counts[transferBusy].Add(1)
			client.Rcode = dns.RcodeServerFailure
			out, tally = table.Reply(dst, packet, client)
			tally.Reject = answer.RejectTransfer
			out, zone = zone.signature.signIf(zone.signed, out, len(dst), client.Now), nil
		}
	}
	s.metrics.count(counts, client.Transport, tally)
	return out, zone
}

// panicked notes a packet that could not be answered for a fault of ours.
func (s *Server) panicked(table *answer.Table, packet []byte, fault any) {
	s.metrics.panics.Add(1)
	if s.poison.add(table, packet) {
		s.log.Error("answering a packet panicked; it is dropped, and so are others like it",
			"panic", fault, "packet", hex.EncodeToString(packet[:min(len(packet), maxShown)]), "stack", string(debug.Stack()))
	}
}
