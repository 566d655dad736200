package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// stream is the TCP half of a link.
type stream struct {
	relay    *Relay
	index    int
	link     Link
	listener *net.TCPListener
}

// pair is a connection through the relay. While its link is cut it is frozen:
// what its ends send is taken and lost, and neither learns that the other has
// closed.
type pair struct {
	id       uint64
	from, to string
	held     bool // opened over a cut link: it leads nowhere
	frozen   atomic.Bool

	mu     sync.Mutex
	closed bool
	conns  []net.Conn // client, then server
}

// add takes the second connection, unless the pair was closed meanwhile.
func (p *pair) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.conns = append(p.conns, c)
	}
	return !p.closed
}

func (p *pair) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.conns {
		_ = c.Close()
	}
}

func (s *stream) run(ctx context.Context, wg *sync.WaitGroup) {
	for {
		conn, err := s.listener.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			if !rest(ctx, 50*time.Millisecond) { // out of descriptors, most likely
				return
			}
			continue
		}
		source := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		p, ok := s.relay.admit(s.relay.name(s.link, source), s.link.To, conn)
		if !ok {
			reset(conn)
			continue
		}
		wg.Go(func() {
			defer s.relay.forget(p)
			if p.held {
				_, _ = io.Copy(io.Discard, conn) // until the client gives up, or the link is healed
				return
			}
			s.join(ctx, p, conn, source)
		})
	}
}

// admit registers a connection. Of those held over cut links the oldest goes
// when there are too many; of those that pass, the newest is refused.
func (r *Relay) admit(from, to string, conn net.Conn) (*pair, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return nil, false
	}
	p := &pair{id: r.nextID, from: from, to: to, conns: []net.Conn{conn}, held: r.isCut(from, to)}
	r.nextID++
	p.frozen.Store(p.held)
	var oldest *pair
	count := 0
	for o := range r.pairs {
		if o.held != p.held {
			continue
		}
		count++
		if oldest == nil || o.id < oldest.id {
			oldest = o
		}
	}
	switch {
	case p.held && count >= maxHeld:
		oldest.close()
		delete(r.pairs, oldest)
	case !p.held && count >= maxConns:
		return nil, false
	}
	r.pairs[p] = struct{}{}
	return p, true
}

func (r *Relay) forget(p *pair) {
	p.close()
	r.mu.Lock()
	delete(r.pairs, p)
	r.mu.Unlock()
}

// join carries bytes both ways until both directions have ended.
func (s *stream) join(ctx context.Context, p *pair, client *net.TCPConn, source netip.Addr) {
	conn, err := dial(ctx, source, "tcp", s.link.Target)
	if err != nil {
		if p.frozen.Load() {
			_, _ = io.Copy(io.Discard, client)
			return
		}
		reset(client) // the closest to a refusal that a taken connection allows
		return
	}
	server := conn.(*net.TCPConn)
	if !p.add(server) {
		_ = server.Close()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { s.pump(ctx, p, server, client) })
	both.Go(func() { s.pump(ctx, p, client, server) })
	both.Wait()
}

func (s *stream) pump(ctx context.Context, p *pair, dst, src *net.TCPConn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 && !p.frozen.Load() {
			if d := s.relay.delay(p.from, p.to); d > 0 && !rest(ctx, d) {
				return
			}
			if !p.frozen.Load() {
				if _, werr := dst.Write(buf[:n]); werr != nil && !p.frozen.Load() {
					p.close()
					return
				}
			}
		}
		switch {
		case err == nil:
		case p.frozen.Load():
			return // the other side must not notice; healing closes it
		case errors.Is(err, io.EOF):
			_ = dst.CloseWrite()
			return
		default:
			if errors.Is(err, syscall.ECONNRESET) {
				reset(dst)
			}
			p.close()
			return
		}
	}
}

// reset closes with an RST instead of a FIN.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// rest waits, and says whether to go on.
func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
