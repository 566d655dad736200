package dnsserver

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/dnsserver/tap"
)

// maxStreamQuery is the longest query that a connection may bring.
const maxStreamQuery = 4096

// keepBuffer is how large a reply buffer a connection holds on to.
const keepBuffer = 4096

// serveTCP accepts, and waits for all that it accepted.
func (s *Server) serveTCP(ctx context.Context, l *listener) error {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		conn, err := l.tcp.AcceptTCP()
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
		proxy := s.proxies.trusts(conn.RemoteAddr())
		st, evicted := s.streams.admit(conn, proxy)
		if evicted != nil {
			_ = evicted.Close()
		}
		if st == nil {
			_ = conn.Close()
			continue
		}
		all.Go(func() {
			defer func() {
				st.farewell(ctx)
				s.streams.remove(st)
				_ = conn.Close()
			}()
			if s.greet(ctx, st, proxy, l.tls) {
				s.serveStream(ctx, st)
			}
		})
	}
}

// greet takes what stands before the first query: a PROXY header where a proxy is
// at the other end, and the TLS handshake. One deadline holds for both (C3).
func (s *Server) greet(ctx context.Context, st *stream, proxy, secure bool) bool {
	if !proxy && !secure {
		return true
	}
	if err := st.tcp.SetDeadline(time.Now().Add(s.limits.greeting)); err != nil || ctx.Err() != nil {
		return false // interrupt may have set a deadline just before
	}
	if proxy {
		from, err := readProxy(st.tcp, st.from)
		if err != nil {
			s.metrics.proxyErrors.Add(1)
			return false
		}
		if !s.streams.assign(st, from) {
			return false
		}
	}
	if secure {
		conn, err := s.handshake(st.tcp)
		if err != nil {
			s.metrics.handshakes[failed].Add(1)
			return false
		}
		s.metrics.handshakes[passed].Add(1)
		st.conn, st.transport = conn, answer.TLS
	}
	return true
}

// farewell ends TLS in order, so that the client knows that nothing was cut off.
// It takes 5 s at most, and no time while the server stops.
func (st *stream) farewell(ctx context.Context) {
	if secure, ok := st.conn.(*tls.Conn); ok && ctx.Err() == nil {
		_ = secure.CloseWrite()
	}
}

// abort ends a connection whose other end does not read: what is on its way is
// forgotten, or the system would hold on to it long after.
func (st *stream) abort() {
	_ = st.tcp.SetLinger(0)
	_ = st.tcp.Close()
}

func (st *stream) local() netip.AddrPort {
	if addr, ok := st.tcp.LocalAddr().(*net.TCPAddr); ok {
		return plain(addr.AddrPort())
	}
	return netip.AddrPort{}
}

func (st *stream) shownAs() tap.Transport {
	if st.transport == answer.TLS {
		return tap.TLS
	}
	return tap.TCP
}

// serveStream answers the queries of one connection as they come, until it is idle,
// broken or asks too much. Replies are in order, since each is made at once; a
// transfer is written beside them, message by message (RFC 7766 section 6.2.1.1).
func (s *Server) serveStream(ctx context.Context, st *stream) {
	// Who has said all may still be waiting for a transfer.
	defer st.work.Wait()
	reader := bufio.NewReaderSize(st.conn, maxStreamQuery)
	in, out := make([]byte, maxStreamQuery), make([]byte, 2, keepBuffer)
	shown, local := s.tap.Sampler(), st.local()
	for ctx.Err() == nil {
		idled, err := s.readQuery(ctx, st, reader, &in)
		switch {
		case err == nil:
		case idled && st.sending.Load() > 0 && ctx.Err() == nil:
			continue
		case errors.Is(err, io.EOF):
			return
		default:
			_ = st.tcp.Close() // whatever is being written is not taken any more
			return
		}
		client := answer.Client{Addr: st.from, Transport: st.transport, Now: time.Now(), Cookies: *s.cookies.Load(), Idle: st.idle}
		if s.leaving() {
			client.Idle = 0 // RFC 7828 section 3.4: the client closes it when it can
		}
		reply, transfer := s.reply(out[:2], in, client)
		shown.Take(client.Now, st.from, local, st.shownAs(), in, reply[2:])
		if transfer != nil {
			s.send(ctx, st, transfer)
			st.idle = s.streams.touch(st)
			continue
		}
		if len(reply) == 2 {
			_ = st.tcp.Close()
			return // not answered at all: nothing good will follow
		}
		if err := s.write(ctx, st, reply); err != nil {
			s.metrics.writeErrors.Add(1)
			st.abort()
			return
		}
		if cap(reply) <= keepBuffer {
			out = reply
		}
		st.idle = s.streams.touch(st)
	}
}

// write writes one message, whose first two octets are for its length. Whoever holds
// the turn has a deadline, so waiting for it ends.
func (s *Server) write(ctx context.Context, st *stream, message []byte) error {
	st.turn <- struct{}{}
	defer func() { <-st.turn }()
	binary.BigEndian.PutUint16(message, uint16(len(message)-2))
	err := st.tcp.SetWriteDeadline(time.Now().Add(s.limits.write))
	if ctx.Err() != nil { // interrupt may have set a deadline just before
		err = st.tcp.SetWriteDeadline(time.Now().Add(s.limits.last))
	}
	if err != nil {
		return err
	}
	_, err = st.conn.Write(message)
	return err
}

// readQuery reads one query within its deadlines. The first octet may take as long
// as a connection may idle, the rest must come quickly (C3).
func (s *Server) readQuery(ctx context.Context, st *stream, reader *bufio.Reader, in *[]byte) (idled bool, err error) {
	if err := st.tcp.SetReadDeadline(time.Now().Add(st.idle)); err != nil {
		return false, err
	}
	if err := ctx.Err(); err != nil {
		return false, err // interrupt may have set a deadline just before
	}
	if _, err := reader.Peek(1); err != nil {
		return errors.Is(err, os.ErrDeadlineExceeded), err
	}
	if err := st.tcp.SetReadDeadline(time.Now().Add(s.limits.message)); err != nil {
		return false, err
	}
	var length [2]byte
	if _, err := io.ReadFull(reader, length[:]); err != nil {
		return false, err
	}
	n := int(binary.BigEndian.Uint16(length[:]))
	if n > maxStreamQuery {
		return false, errTooLong
	}
	*in = (*in)[:n]
	_, err = io.ReadFull(reader, *in)
	return false, err
}

var errTooLong = errors.New("a query longer than a connection may bring")
