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
// no http.Client, so nothing follows a redirect, asks a proxy, keeps an idle
// connection or a cookie.
func (s *Scheduler) exchange(ctx context.Context, r *request) outcome {
	start := time.Now()
	conn, err := s.dial(ctx, r.addr)
	if err != nil {
		o := dialFailure(err)
		o.latency = time.Since(start) // tells when it began, which a stall may void
		return o
	}
	defer func() {
		// Nothing is worth waiting for once the outcome is known; a reset
		// frees the port at both ends at once.
		_ = conn.SetLinger(0)
		_ = conn.Close()
	}()
	if r.opened != nil {
		r.opened()
	}
	o := s.converse(ctx, conn, r)
	o.latency = time.Since(start)
	return o
}

func (s *Scheduler) converse(ctx context.Context, conn *net.TCPConn, r *request) outcome {
	if r.kind == kindFast || r.kind == kindTCP {
		return outcome{ok: true}
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return outcome{void: true, reason: "our own side: " + errnoText(err)}
		}
	}
	// A deadline that has passed wakes a read; a cancelled context does not.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	stream := io.ReadWriter(conn)
	if r.kind == kindHTTPS {
		secure := tls.Client(conn, r.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			return tlsFailure(err, r)
		}
		stream = secure
	}
	if _, err := stream.Write(r.send); err != nil {
		return ioFailure(err, "timeout sending the request")
	}
	answer := response{req: r}
	for {
		n, err := stream.Read(answer.room())
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			if n > 0 && answer.add(n, false) {
				return answer.out
			}
			return ioFailure(err, answer.stage())
		}
		if answer.add(n, err != nil) {
			return answer.out
		}
	}
}

// dial connects from the configured source. The policy is asked about the
// address that the kernel is about to be given, in the hook and nowhere
// earlier: what is checked is what is dialled.
func (s *Scheduler) dial(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
	from := s.from(to.Addr())
	dialer := net.Dialer{
		KeepAlive: -1,
		ControlContext: func(_ context.Context, _, address string, c syscall.RawConn) error {
			actual, err := netip.ParseAddrPort(address)
			if err != nil {
				return &refusedError{err}
			}
			if err := s.policy.check(actual.Addr()); err != nil {
				return &refusedError{err}
			}
			if !from.IsValid() {
				return nil
			}
			return c.Control(lateBind)
		},
	}
	return dialer.DialTCP(ctx, "tcp", from, to)
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
