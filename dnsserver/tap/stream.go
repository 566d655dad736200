package tap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	dnstap "github.com/dnstap/golang-dnstap"
	"google.golang.org/protobuf/proto"
)

const (
	// streamPatience bounds the handshake and each write.
	streamPatience = 2 * time.Second
	// streamAgain is between two tries to reach the receiver.
	streamAgain = time.Second
)

// stream sends events to a dnstap receiver by a unix socket. It dials again for
// ever; what comes meanwhile is dropped.
type stream struct {
	socket            string
	identity, version []byte
	log               *slog.Logger
	told              bool // that the receiver is away
}

func (s *stream) run(ctx context.Context, o *outlet) error {
	for {
		err := s.connected(ctx, o)
		if ctx.Err() != nil {
			return nil
		}
		if !s.told {
			s.told = true
			s.log.Warn("the dnstap receiver is away: queries are not shown there until it is back", slog.String("socket", s.socket), slog.Any("err", err))
		}
		s.skip(ctx, o)
	}
}

// skip drops what comes for a while.
func (s *stream) skip(ctx context.Context, o *outlet) {
	timer := time.NewTimer(streamAgain)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case e := <-o.queue:
			o.dropped.Add(1)
			o.release(e)
		}
	}
}

// connected writes to the receiver until something fails.
func (s *stream) connected(ctx context.Context, o *outlet) error {
	conn, err := (&net.Dialer{Timeout: streamPatience}).DialContext(ctx, "unix", s.socket)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	w, err := dnstap.NewWriter(conn, &dnstap.WriterOptions{Bidirectional: true, Timeout: streamPatience})
	if err != nil {
		return fmt.Errorf("dnstap handshake: %w", err)
	}
	if s.told {
		s.told = false
		s.log.Info("the dnstap receiver is back", slog.String("socket", s.socket))
	}
	flush := func() error { return nil }
	if f, ok := w.(interface{ Flush() error }); ok {
		flush = f.Flush
	}
	for {
		if len(o.queue) == 0 {
			if err := flush(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return errors.Join(flush(), w.Close())
		case e := <-o.queue:
			err := s.write(w, e)
			o.release(e)
			if err != nil {
				o.dropped.Add(1)
				return err
			}
			o.written.Add(1)
		}
	}
}

// write sends one frame for the query and one for the reply, as authoritative
// servers do.
func (s *stream) write(w dnstap.Writer, e *Event) error {
	m := message(e)
	m.Type, m.QueryMessage = dnstap.Message_AUTH_QUERY.Enum(), e.Query()
	if err := s.frame(w, m); err != nil || e.replyWhole == 0 {
		return err
	}
	m = message(e)
	m.Type, m.ResponseMessage = dnstap.Message_AUTH_RESPONSE.Enum(), e.Reply()
	m.ResponseTimeSec, m.ResponseTimeNsec = m.QueryTimeSec, m.QueryTimeNsec
	return s.frame(w, m)
}

func (s *stream) frame(w dnstap.Writer, m *dnstap.Message) error {
	data, err := proto.Marshal(&dnstap.Dnstap{Type: dnstap.Dnstap_MESSAGE.Enum(), Identity: s.identity, Version: s.version, Message: m})
	if err != nil {
		return err
	}
	_, err = w.WriteFrame(data)
	return err
}

func message(e *Event) *dnstap.Message {
	m := &dnstap.Message{
		SocketFamily: dnstap.SocketFamily_INET6.Enum(), SocketProtocol: dnstap.SocketProtocol_UDP.Enum(),
		QueryAddress: octets(e.From), QueryPort: new(uint32(e.From.Port())),
		ResponseAddress: octets(e.To), ResponsePort: new(uint32(e.To.Port())),
		QueryTimeSec: new(uint64(e.At.Unix())), QueryTimeNsec: new(uint32(e.At.Nanosecond())),
	}
	if e.From.Addr().Unmap().Is4() {
		m.SocketFamily = dnstap.SocketFamily_INET.Enum()
	}
	switch e.Transport {
	case TCP:
		m.SocketProtocol = dnstap.SocketProtocol_TCP.Enum()
	case TLS:
		m.SocketProtocol = dnstap.SocketProtocol_DOT.Enum()
	}
	return m
}

func octets(a netip.AddrPort) []byte { return a.Addr().Unmap().AsSlice() }
