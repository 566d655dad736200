package api

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// perAddressShare is what part of a listener's connections one address may have that
// is not loopback: a quarter.
const perAddressShare = 4

// capped is a listener with at most so many connections open (C3). When all places are
// taken, the connection that has waited longest without a whole request loses its own,
// as in DNS: ten thousand that say nothing keep nobody out (F21). Where every one of
// them is being answered, the next waits in the kernel's queue, and the timeouts of the
// server make room.
type capped struct {
	net.Listener
	slots chan struct{}
	open  prometheus.Gauge
	done  chan struct{}
	once  sync.Once

	mu         sync.Mutex
	clock      uint64                 // counts the changes of states
	waiting    map[*cappedConn]uint64 // which may lose their place, and since when
	perAddress map[netip.Addr]int     // of those that are not loopback
}

func newCapped(l net.Listener, most int, open prometheus.Gauge) *capped {
	return &capped{
		Listener: l, slots: make(chan struct{}, most), open: open, done: make(chan struct{}),
		waiting: map[*cappedConn]uint64{}, perAddress: map[netip.Addr]int{},
	}
}

// Accept waits for a connection, then for a place for it.
func (c *capped) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from, admitted := c.admit(conn)
		if !admitted {
			_ = conn.Close()
			continue
		}
		select {
		case c.slots <- struct{}{}:
		default:
			c.evict()
			select {
			case c.slots <- struct{}{}:
			case <-c.done:
				c.leave(from)
				return nil, errors.Join(net.ErrClosed, conn.Close())
			}
		}
		c.open.Inc()
		held := &cappedConn{Conn: conn}
		held.release = sync.OnceFunc(func() {
			c.forget(held)
			c.leave(from)
			c.open.Dec()
			<-c.slots
		})
		return held, nil
	}
}

// admit counts a connection for its address, unless that has too many. Who comes from
// this machine, or by a unix socket, is not told apart.
func (c *capped) admit(conn net.Conn) (from netip.Addr, ok bool) {
	remote, isTCP := conn.RemoteAddr().(*net.TCPAddr)
	if !isTCP {
		return netip.Addr{}, true
	}
	from = remote.AddrPort().Addr().Unmap().WithZone("")
	if from.IsLoopback() {
		return netip.Addr{}, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.perAddress[from] >= max(cap(c.slots)/perAddressShare, 1) {
		return from, false
	}
	c.perAddress[from]++
	return from, true
}

func (c *capped) leave(from netip.Addr) {
	if !from.IsValid() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.perAddress[from]--; c.perAddress[from] <= 0 {
		delete(c.perAddress, from)
	}
}

// state is http.Server's ConnState: it tells who may lose its place. A connection is
// new until its first request's header is whole, its TLS handshake included, and idle
// between two requests.
func (c *capped) state(conn net.Conn, state http.ConnState) {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	held, ok := conn.(*cappedConn)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew, http.StateIdle:
		c.clock++
		c.waiting[held] = c.clock
	case http.StateActive, http.StateHijacked, http.StateClosed:
		delete(c.waiting, held)
	}
}

func (c *capped) forget(held *cappedConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, held)
}

// evict ends the connection that has waited longest, if any waits.
func (c *capped) evict() {
	c.mu.Lock()
	var oldest *cappedConn
	for held, since := range c.waiting {
		if oldest == nil || since < c.waiting[oldest] {
			oldest = held
		}
	}
	delete(c.waiting, oldest)
	c.mu.Unlock()
	if oldest != nil {
		_ = oldest.Close()
	}
}

// Close lets go of the socket and of an Accept that waits for a place.
func (c *capped) Close() error {
	c.once.Do(func() { close(c.done) })
	return c.Listener.Close()
}

type cappedConn struct {
	net.Conn
	release func()
}

// Close gives the place back.
func (c *cappedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
