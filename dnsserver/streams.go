package dnsserver

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/divertdns/divert/dnsserver/answer"
)

// stream is one connection, by TCP or TLS.
type stream struct {
	tcp       *net.TCPConn // what deadlines are set on, and what ends it
	conn      net.Conn     // tcp, or TLS over it
	transport answer.Transport
	from      netip.AddrPort // the client: by a PROXY header where one came

	turn    chan struct{}  // of capacity 1: in it stands whoever writes
	sending atomic.Int32   // transfers under way
	work    sync.WaitGroup // of them

	// idle is for how long it may idle, as of the last query: what is told to a
	// client that asks is what it gets. Its reader alone uses it.
	idle time.Duration

	// Of streams, under its lock.
	client netip.Prefix // what perClient counts by; invalid where a header will tell
	used   uint64       // when it was last useful, in the order of events
	gone   bool
}

// streams owns which connections there are.
type streams struct {
	limits *limits

	mu        sync.Mutex
	all       map[*stream]struct{}
	perClient map[netip.Prefix]int
	clock     uint64
	accepted  uint64
	evicted   uint64
	refused   uint64
}

func newStreams(l *limits) *streams {
	return &streams{limits: l, all: make(map[*stream]struct{}), perClient: make(map[netip.Prefix]int)}
}

// admit takes a connection in, or gives nil where its client has too many. One of a
// proxy's counts for nobody yet: assign says for whom. When all places are taken the
// longest idle connection loses its own; the caller closes it.
func (s *streams) admit(conn *net.TCPConn, proxy bool) (st *stream, evicted *net.TCPConn) {
	remote, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return nil, nil
	}
	from := remote.AddrPort()
	st = &stream{tcp: conn, conn: conn, transport: answer.TCP, from: from, turn: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if barred(from) || !proxy && !s.count(st, from.Addr()) {
		s.refused++
		return nil, nil
	}
	if len(s.all) >= s.limits.streams {
		var oldest *stream
		for other := range s.all {
			if oldest == nil || other.used < oldest.used {
				oldest = other
			}
		}
		s.drop(oldest)
		s.evicted++
		evicted = oldest.tcp
	}
	s.clock++
	st.used = s.clock
	s.all[st] = struct{}{}
	st.idle = s.limits.idleAt(len(s.all))
	s.accepted++
	return st, evicted
}

// count takes a place of a client's; it is called with mu held.
func (s *streams) count(st *stream, addr netip.Addr) bool {
	client := clientOf(addr)
	if s.perClient[client] >= s.limits.perClient {
		return false
	}
	st.client = client
	s.perClient[client]++
	return true
}

// assign says whose a proxy's connection is; false where the client has too many.
func (s *streams) assign(st *stream, from netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.gone || !s.count(st, from.Addr()) {
		s.refused++
		return false
	}
	st.from = from
	return true
}

// drop is called with mu held.
func (s *streams) drop(st *stream) {
	if st.gone {
		return
	}
	st.gone = true
	delete(s.all, st)
	if !st.client.IsValid() {
		return
	}
	if s.perClient[st.client]--; s.perClient[st.client] == 0 {
		delete(s.perClient, st.client)
	}
}

func (s *streams) remove(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(st)
}

// touch notes that a connection was of use, and gives for how long it may idle now.
func (s *streams) touch(st *stream) (idle time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock++
	st.used = s.clock
	return s.limits.idleAt(len(s.all))
}

// idleAt shortens the time to idle when more than half of the places are taken
// (RFC 7828 section 3.4), to a tenth when all are.
func (l *limits) idleAt(open int) time.Duration {
	free := max(l.streams-open, 0)
	if 2*free >= l.streams {
		return l.idle
	}
	return max(l.idle*time.Duration(2*free)/time.Duration(l.streams), l.idle/10)
}

// interrupt wakes every connection that waits for a query, and leaves a short while
// to those whose reply is not taken.
func (s *streams) interrupt(last time.Duration) {
	s.mu.Lock()
	conns := make([]*net.TCPConn, 0, len(s.all))
	for st := range s.all {
		conns = append(conns, st.tcp)
	}
	s.mu.Unlock()
	for _, conn := range conns {
		_ = conn.SetReadDeadline(time.Unix(1, 0))
		_ = conn.SetWriteDeadline(time.Now().Add(last))
	}
}

// clientOf is who counts as one client: whoever has an IPv6 address has a /64.
func clientOf(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
