package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Limits of the sockets.
const (
	maxPacket   = 1500    // octets of a datagram with all framing; ours have at most 1,445
	maxStream   = 2 << 20 // octets read from one TCP connection
	maxInbound  = 64      // TCP connections accepted at one time
	maxFromOne  = 16      // of them from one address
	maxStranger = 32      // of them from addresses that no registered director or member is known to have
	streamGrace = 10 * time.Second
	streamLife  = 15 * time.Second // of an inbound connection as a whole, whatever deadlines memberlist sets

	sendPatience = 5 * time.Millisecond // of a datagram, for room in the socket's buffer
)

// transport is memberlist's Transport over one TCP and one UDP socket of the
// same address. It stands in for memberlist's NetTransport, which dials from
// any address, allocates 64 KiB for each packet and accepts connections
// without limit.
type transport struct {
	tcp       *net.TCPListener
	udp       *net.UDPConn
	bound     netip.AddrPort
	advertise netip.AddrPort
	label     []byte // how every packet of ours begins
	metrics   *metrics

	packets chan *memberlist.Packet
	streams chan net.Conn
	ctx     context.Context // ends when the transport shuts down; memberlist's dials carry none of their own
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	mu      sync.Mutex
	inbound map[netip.Addr]int
	known   map[netip.Addr]bool   // of registered directors and members; redial tells
	open    map[net.Conn]struct{} // every connection, in and out, so that a stop ends them
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// listen binds both sockets. With port 0 the kernel's choice for TCP must be
// free for UDP too, hence the attempts.
func listen(addr netip.AddrPort, label string, m *metrics) (*transport, error) {
	attempts := 1
	if addr.Port() == 0 {
		attempts = 10
	}
	var err error
	for range attempts {
		var t *transport
		if t, err = bind(addr, label, m); err == nil {
			return t, nil
		}
	}
	return nil, fmt.Errorf("listening for gossip on %s: %w", addr, err)
}

func bind(addr netip.AddrPort, label string, m *metrics) (*transport, error) {
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(addr))
	if err != nil {
		return nil, err
	}
	port := tcp.Addr().(*net.TCPAddr).AddrPort().Port()
	bound := netip.AddrPortFrom(addr.Addr(), port)
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(bound))
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &transport{
		tcp: tcp, udp: udp, bound: bound, label: append([]byte{labelType, byte(len(label))}, label...), metrics: m,
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn),
		ctx: ctx, cancel: cancel,
		inbound: map[netip.Addr]int{}, open: map[net.Conn]struct{}{},
	}, nil
}

// labelType is memberlist's hasLabelMsg.
const labelType = 244

// run reads both sockets until Shutdown.
func (t *transport) run() {
	t.wg.Go(t.accept)
	t.wg.Go(t.read)
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.advertise.Addr().AsSlice(), int(t.advertise.Port()), nil
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, err
	}
	// A datagram that finds no room is as good as lost: a network that has stalled
	// must not hold up who decides who is down.
	now := time.Now()
	if err = t.udp.SetWriteDeadline(now.Add(sendPatience)); err != nil {
		return now, err
	}
	if _, err = t.udp.WriteToUDPAddrPort(b, to); err == nil {
		t.metrics.udpOut.Add(datagram(len(b), to.Addr()))
	}
	return time.Now(), err
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

// DialTimeout implements memberlist.Transport. It dials from the bound address,
// so that firewalls, and the relay on loopback, can tell directors apart.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: timeout}
	if !t.bound.Addr().IsUnspecified() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(t.bound.Addr(), 0))
	}
	conn, err := dialer.DialContext(t.ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	// memberlist sets no deadline for a user message: a frozen peer would hold
	// its sender for ever.
	if err := conn.SetDeadline(time.Now().Add(timeout + streamGrace)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	s := &streamConn{Conn: conn, left: maxStream, metrics: t.metrics}
	s.closed = func() { t.release(conn, netip.Addr{}) }
	if !t.hold(conn) {
		return nil, errors.Join(net.ErrClosed, conn.Close())
	}
	return s, nil
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

// hangUp ends all TCP traffic, so that nothing under way delays a stop.
func (t *transport) hangUp() {
	t.cancel()
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.open {
		_ = c.Close()
	}
}

// Shutdown implements memberlist.Transport.
func (t *transport) Shutdown() error {
	t.hangUp()
	err := errors.Join(t.tcp.Close(), t.udp.Close())
	t.wg.Wait()
	return err
}

func (t *transport) hold(c net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() != nil {
		return false
	}
	t.open[c] = struct{}{}
	return true
}

func (t *transport) release(c net.Conn, from netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, c)
	if !from.IsValid() {
		return
	}
	if t.inbound[from]--; t.inbound[from] <= 0 {
		delete(t.inbound, from)
	}
}

// know says where directors are known to be: whoever is elsewhere leaves half of the
// places to them, so that nobody without the key can keep them from one another.
func (t *transport) know(addrs map[netip.Addr]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known = addrs
}

// admit counts a connection in, unless there are too many.
func (t *transport) admit(c net.Conn, from netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	total, strangers := 0, 0
	for addr, n := range t.inbound {
		total += n
		if !t.known[addr] {
			strangers += n
		}
	}
	switch {
	case t.ctx.Err() != nil, total >= maxInbound, t.inbound[from] >= maxFromOne, !t.known[from] && strangers >= maxStranger:
		return false
	}
	t.inbound[from]++
	t.open[c] = struct{}{}
	return true
}

func (t *transport) accept() {
	var pause time.Duration
	for {
		conn, err := t.tcp.AcceptTCP()
		if err != nil {
			if t.ctx.Err() != nil {
				return
			}
			// Out of descriptors, most likely: others must finish first.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			if !t.rest(pause) {
				return
			}
			continue
		}
		pause = 0
		from := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		if !t.admit(conn, from) {
			t.metrics.drop(connectionLimit)
			_ = conn.Close()
			continue
		}
		// memberlist gives an inbound connection three seconds to be read and as long to
		// be written; this holds even where it would not.
		end := time.AfterFunc(streamLife, func() { _ = conn.Close() })
		s := &streamConn{Conn: conn, left: maxStream, metrics: t.metrics, closed: func() { end.Stop(); t.release(conn, from) }}
		select {
		case t.streams <- s:
		case <-t.ctx.Done():
			_ = s.Close()
		}
	}
}

// rest waits, and says whether to go on.
func (t *transport) rest(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.ctx.Done():
		return false
	}
}

func (t *transport) read() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := t.udp.ReadFromUDPAddrPort(buf)
		now := time.Now()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			if !t.rest(time.Millisecond) {
				return
			}
			continue
		}
		t.metrics.udpIn.Add(datagram(n, from.Addr()))
		switch {
		case n > maxPacket:
			t.metrics.drop(oversized)
			continue
		case n <= len(t.label) || string(buf[:len(t.label)]) != string(t.label):
			t.metrics.drop(foreignLabel)
			continue
		}
		p := &memberlist.Packet{Buf: append([]byte(nil), buf[:n]...), From: net.UDPAddrFromAddrPort(from), Timestamp: now}
		select {
		case t.packets <- p:
		case <-t.ctx.Done():
			return
		}
	}
}

// streamConn bounds what is read from a connection and tells once when it is
// closed.
type streamConn struct {
	net.Conn
	left    int
	metrics *metrics
	once    sync.Once
	closed  func()
}

var errStreamTooLong = errors.New("gossip stream is longer than allowed")

// Read implements io.Reader.
func (c *streamConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errStreamTooLong
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	c.metrics.tcpIn.Add(float64(n))
	return n, err
}

// Write implements io.Writer. It closes what cannot be written to: memberlist
// forgets a fresh connection whose label it could not send.
func (c *streamConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.metrics.tcpOut.Add(float64(n))
	if err != nil {
		_ = c.Close()
	}
	return n, err
}

// Close implements io.Closer.
func (c *streamConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.closed)
	return err
}
