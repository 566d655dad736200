package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// idle is how long a UDP source may be silent before it is forgotten.
const idle = time.Minute

// datagram is the UDP half of a link.
type datagram struct {
	relay *Relay
	index int
	link  Link
	conn  *net.UDPConn

	mu       sync.Mutex
	closed   bool
	sessions map[netip.AddrPort]*session
}

// session is one source's way to the target, with a socket of its own, so that
// answers find their way back.
type session struct {
	owner  *datagram
	name   string
	source netip.AddrPort
	conn   net.Conn
	last   time.Time // guarded by datagram.mu
}

func (d *datagram) run(ctx context.Context, wg *sync.WaitGroup) {
	buf := make([]byte, 64<<10)
	for {
		n, source, err := d.conn.ReadFromUDPAddrPort(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			if !rest(ctx, time.Millisecond) {
				return
			}
			continue
		}
		source = netip.AddrPortFrom(source.Addr().Unmap(), source.Port())
		name := d.relay.name(d.link, source.Addr())
		if d.relay.blocked(name, d.link.To) {
			continue
		}
		s, err := d.session(ctx, wg, name, source)
		if err != nil {
			continue // as good as lost
		}
		d.relay.pass(name, d.link.To, append([]byte(nil), buf[:n]...), func(b []byte) { _, _ = s.conn.Write(b) })
	}
}

// session finds a source's session or opens one, at the cost of the one that
// has been silent longest when there are too many.
func (d *datagram) session(ctx context.Context, wg *sync.WaitGroup, name string, source netip.AddrPort) (*session, error) {
	now := time.Now()
	d.mu.Lock()
	s := d.sessions[source]
	if s != nil {
		s.last = now
	}
	d.mu.Unlock()
	if s != nil {
		return s, nil
	}
	conn, err := dial(ctx, source.Addr(), "udp", d.link.Target)
	if err != nil {
		return nil, err
	}
	s = &session{owner: d, name: name, source: source, conn: conn, last: now}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errors.Join(net.ErrClosed, conn.Close())
	}
	if len(d.sessions) >= maxSessions {
		oldest := s
		for _, o := range d.sessions {
			if o.last.Before(oldest.last) {
				oldest = o
			}
		}
		delete(d.sessions, oldest.source)
		_ = oldest.conn.Close()
	}
	d.sessions[source] = s
	wg.Go(s.run)
	return s, nil
}

func (d *datagram) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, s := range d.sessions {
		_ = s.conn.Close()
	}
}

// run carries answers back.
func (s *session) run() {
	defer s.end()
	buf := make([]byte, 64<<10)
	for {
		if err := s.conn.SetReadDeadline(time.Now().Add(idle)); err != nil {
			return
		}
		n, err := s.conn.Read(buf)
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			s.owner.mu.Lock()
			silent := time.Since(s.last) >= idle
			s.owner.mu.Unlock()
			if silent {
				return
			}
			continue
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			continue // nobody listens at the target now: an ICMP error, read once
		}
		if s.owner.relay.blocked(s.name, s.owner.link.To) {
			continue
		}
		s.owner.relay.pass(s.name, s.owner.link.To, append([]byte(nil), buf[:n]...), func(b []byte) {
			_, _ = s.owner.conn.WriteToUDPAddrPort(b, s.source)
		})
	}
}

func (s *session) end() {
	_ = s.conn.Close()
	s.owner.mu.Lock()
	defer s.owner.mu.Unlock()
	if s.owner.sessions[s.source] == s {
		delete(s.owner.sessions, s.source)
	}
}
