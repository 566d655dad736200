package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// exchange sends one request over a connection of its own and waits for its
// end: what https, Now, and systems without sockets of our own use. There is
// no http.Client, so nothing follows a redirect, asks a proxy or keeps a cookie.
func (s *Scheduler) exchange(ctx context.Context, r *request) (o outcome) {
	start := time.Now()
	defer func() { o.latency = time.Since(start) }() // of a failure too: it tells when it began, which a stall may void
	switch {
	case r.kind == kindICMP:
		return s.echo(ctx, r)
	case r.kind == kindExec:
		return s.run(ctx, r)
	case r.kind == kindDNS && r.dns.datagram:
		return s.datagram(ctx, r)
	}
	if r.shares && r.tls != nil {
		if out, done := s.again(ctx, r); done {
			return out
		}
	}
	conn, err := s.dial(ctx, r.addr)
	if err != nil {
		return dialFailure(err)
	}
	kept := false
	defer func() {
		if kept {
			return
		}
		// Nothing is worth waiting for once the outcome is known; a reset
		// frees the port at both ends at once.
		_ = conn.SetLinger(0)
		_ = conn.Close()
	}()
	if r.opened != nil {
		r.opened()
	}
	o, kept = s.converse(ctx, conn, r)
	return o
}

// converse says, too, whether it has kept the connection for others.
func (s *Scheduler) converse(ctx context.Context, conn *net.TCPConn, r *request) (out outcome, kept bool) {
	if r.kind == kindFast || r.kind == kindTCP && !r.talks() {
		return outcome{ok: true}, false
	}
	stop, err := bound(ctx, conn)
	if err != nil {
		return outcome{void: true, reason: "our own side: " + errnoText(err)}, false
	}
	defer stop()
	if r.kind == kindTCP {
		out := talk(conn, r)
		part(conn)
		return out, false
	}
	var expires time.Time
	stream, version := net.Conn(conn), ""
	if r.tls != nil {
		secure, out := r.handshake(ctx, conn)
		if !out.ok || r.kind == kindTLS {
			return out, false
		}
		expires, stream, version = out.expires, secure, secure.ConnectionState().NegotiatedProtocol
	}
	switch {
	case r.kind == kindGRPC:
		out = r.healthCheck(ctx, stream)
	case r.kind == kindDNS:
		out = r.dns.over(stream)
	case r.h2 == h2Only, version == "h2":
		out = r.http2Page(ctx, stream)
	default:
		reusable := false
		out, reusable = r.http1Page(stream)
		if secure, ok := stream.(*tls.Conn); ok && out.ok && reusable && r.shares && stop() {
			now := time.Now()
			s.leave(r.handshakes(), &session{tcp: conn, conn: secure, expires: expires, opened: now, used: now}, true)
			kept = true
		}
	}
	out.expires = expires
	return out, kept
}

// bound ends what is done with a connection at the context's deadline, and when it is
// cancelled: a deadline that has passed wakes a read, a cancelled context does not.
func bound(ctx context.Context, conn interface{ SetDeadline(t time.Time) error }) (stop func() bool, err error) {
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }), nil
}

// http1Page asks for a page by HTTP/1.1, and says whether the connection may be used again.
func (r *request) http1Page(stream io.ReadWriter) (o outcome, reusable bool) {
	if _, err := stream.Write(r.send); err != nil {
		return ioFailure(err, "timeout sending the request"), false
	}
	answer := response{req: r}
	for {
		n, err := stream.Read(answer.room())
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			if n > 0 && answer.add(n, false) {
				return answer.out, false
			}
			return ioFailure(err, answer.stage()), false
		}
		if answer.add(n, err != nil) {
			return answer.out, answer.reusable
		}
	}
}

// dial connects from the configured source. The policy is asked about the
// address that the kernel is about to be given, in the hook and nowhere
// earlier: what is checked is what is dialled.
func (s *Scheduler) dial(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
	from := s.from(to.Addr())
	dialer := s.dialer(from.IsValid())
	return dialer.DialTCP(ctx, "tcp", from, to)
}

func (s *Scheduler) dialer(bound bool) *net.Dialer {
	return &net.Dialer{
		KeepAlive: -1,
		ControlContext: func(_ context.Context, _, address string, c syscall.RawConn) error {
			actual, err := netip.ParseAddrPort(address)
			if err != nil {
				return &refusedError{err}
			}
			if err := s.policy.check(actual.Addr()); err != nil {
				return &refusedError{err}
			}
			if !bound {
				return nil
			}
			return c.Control(lateBind)
		},
	}
}

// from gives the source for a destination, or nothing where its family is not
// the destination's.
func (s *Scheduler) from(to netip.Addr) netip.AddrPort {
	source := s.opts.Source.Unmap()
	if !source.IsValid() || source.Is4() != to.Is4() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(source, 0)
}
