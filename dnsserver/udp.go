package dnsserver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/divertdns/divert/dnsserver/answer"
)

const (
	// maxQuery is the longest query that is read. Real ones have less than 512
	// octets; what is cut off here cannot be parsed and gets FORMERR.
	maxQuery = 4096
	// maxReply is what answer.Reply makes at most by UDP.
	maxReply = 1232
	// pause is between two tries where the system refuses to read or accept.
	pause = 10 * time.Millisecond
)

// serveUDP answers one packet at a time, without allocating for any.
func (s *Server) serveUDP(ctx context.Context, l *listener) error {
	in, out := make([]byte, maxQuery), make([]byte, 0, maxReply)
	var control []byte
	if l.any {
		control = make([]byte, controlSize)
	}
	for {
		n, controlled, _, from, err := l.udp.ReadMsgUDPAddrPort(in, control)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			// Trouble of the moment, such as no memory: the next packet may do better.
			s.metrics.readErrors.Add(1)
			sleep(ctx, pause)
			continue
		case barred(from):
			s.metrics.barred.Add(1)
			continue
		}
		reply := s.reply(out, in[:n], answer.Client{Addr: from, Transport: answer.UDP, Now: time.Now()})
		if len(reply) == 0 {
			continue
		}
		if _, _, err := l.udp.WriteMsgUDPAddrPort(reply, returnControl(control[:controlled]), from); err != nil {
			s.metrics.writeErrors.Add(1)
		}
	}
}

// barred tells of sources that are never a client: a reply to echo (7) or chargen
// (19) would start a loop, and port 0 cannot be answered.
func barred(from netip.AddrPort) bool {
	switch from.Port() {
	case 0, 7, 19:
		return true
	}
	return !from.Addr().IsValid() || from.Addr().IsMulticast()
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
