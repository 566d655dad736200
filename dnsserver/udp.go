package dnsserver

import (
	"context"
	"net"
	"net/netip"
	"time"
)

const (
	// maxQuery is the longest query that is read by UDP: what an Ethernet carries
	// whole. Real ones have less than 512 octets; what is cut off here cannot be
	// parsed and gets FORMERR.
	maxQuery = 1500
	// maxReply is what answer.Reply makes at most by UDP.
	maxReply = 1232
	// pause is between two tries where the system refuses to read or accept.
	pause = 10 * time.Millisecond
)

// worker answers what comes by one UDP socket. One goroutine runs it.
type worker struct {
	server *Server
	conn   *net.UDPConn
	any    bool // bound to the unspecified address
	counts *shard
}

func (s *Server) worker(conn *net.UDPConn, any bool) *worker {
	return &worker{server: s, conn: conn, any: any, counts: s.metrics.shard()}
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
