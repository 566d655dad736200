package dnsserver

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/divertdns/divert/dnsserver/answer"
)

// maxStreamQuery is the longest query that a connection may bring.
const maxStreamQuery = 4096

// keepBuffer is how large a reply buffer a connection holds on to.
const keepBuffer = 4096

// serveTCP accepts, and waits for all that it accepted.
func (s *Server) serveTCP(ctx context.Context, l *net.TCPListener) error {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		conn, err := l.AcceptTCP()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case err != nil && s.leaving():
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			// Out of file descriptors, most likely; UDP goes on all the while.
			s.metrics.acceptErrors.Add(1)
			sleep(ctx, pause)
			continue
		}
		st, evicted := s.streams.admit(conn)
		if evicted != nil {
			_ = evicted.Close()
		}
		if st == nil {
			_ = conn.Close()
			continue
		}
		all.Go(func() {
			defer func() {
				s.streams.remove(st)
				_ = conn.Close()
			}()
			s.serveStream(ctx, st)
		})
	}
}

// serveStream answers the queries of one connection in order, as they come
// (RFC 7766 section 6.2.1.1), until it is idle, broken or asks too much.
func (s *Server) serveStream(ctx context.Context, st *stream) {
	reader := bufio.NewReaderSize(st.conn, maxStreamQuery)
	in, out := make([]byte, maxStreamQuery), make([]byte, 2, keepBuffer)
	for ctx.Err() == nil {
		if !s.readQuery(ctx, st, reader, &in) {
			return
		}
		client := answer.Client{Addr: st.from, Transport: answer.TCP, Now: time.Now(), Cookies: *s.cookies.Load()}
		reply := s.reply(out[:2], in, client)
		if len(reply) == 2 {
			return // not answered at all: nothing good will follow
		}
		binary.BigEndian.PutUint16(reply, uint16(len(reply)-2))
		if err := s.write(ctx, st, reply); err != nil {
			s.metrics.writeErrors.Add(1)
			return
		}
		if cap(reply) <= keepBuffer {
			out = reply
		}
		s.streams.touch(st)
	}
}

func (s *Server) write(ctx context.Context, st *stream, reply []byte) error {
	err := st.conn.SetWriteDeadline(time.Now().Add(s.limits.write))
	if ctx.Err() != nil { // interrupt may have set a deadline just before
		err = st.conn.SetWriteDeadline(time.Now().Add(s.limits.last))
	}
	if err != nil {
		return err
	}
	_, err = st.conn.Write(reply)
	return err
}

// readQuery reads one query within its deadlines. The first octet may take as long
// as a connection may idle, the rest must come quickly (C3).
func (s *Server) readQuery(ctx context.Context, st *stream, reader *bufio.Reader, in *[]byte) bool {
	if err := st.conn.SetReadDeadline(time.Now().Add(s.limits.idle)); err != nil || ctx.Err() != nil {
		return false // interrupt may have set a deadline just before
	}
	if _, err := reader.Peek(1); err != nil {
		return false
	}
	if err := st.conn.SetReadDeadline(time.Now().Add(s.limits.message)); err != nil {
		return false
	}
	var length [2]byte
	if _, err := io.ReadFull(reader, length[:]); err != nil {
		return false
	}
	n := int(binary.BigEndian.Uint16(length[:]))
	if n > maxStreamQuery {
		return false
	}
	*in = (*in)[:n]
	_, err := io.ReadFull(reader, *in)
	return err == nil
}

// stream is one TCP connection.
type stream struct {
	conn   *net.TCPConn
	from   netip.AddrPort
	client netip.Prefix // what perClient counts by
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

// admit takes a connection in, or gives nil where its client has too many. When
// all places are taken the longest idle connection loses its own; the caller
// closes it.
func (s *streams) admit(conn *net.TCPConn) (st *stream, evicted *net.TCPConn) {
	remote, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return nil, nil
	}
	from := remote.AddrPort()
	st = &stream{conn: conn, from: from, client: clientOf(from.Addr())}
	s.mu.Lock()
	defer s.mu.Unlock()
	if barred(from) || s.perClient[st.client] >= s.limits.perClient {
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
		evicted = oldest.conn
	}
	s.clock++
	st.used = s.clock
	s.all[st] = struct{}{}
	s.perClient[st.client]++
	s.accepted++
	return st, evicted
}

// drop is called with mu held.
func (s *streams) drop(st *stream) {
	if st.gone {
		return
	}
	st.gone = true
	delete(s.all, st)
	if s.perClient[st.client]--; s.perClient[st.client] == 0 {
		delete(s.perClient, st.client)
	}
}

func (s *streams) remove(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(st)
}

func (s *streams) touch(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock++
	st.used = s.clock
}

// interrupt wakes every connection that waits for a query, and leaves a short while
// to those whose reply is not taken.
func (s *streams) interrupt(last time.Duration) {
	s.mu.Lock()
	conns := make([]*net.TCPConn, 0, len(s.all))
	for st := range s.all {
		conns = append(conns, st.conn)
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
