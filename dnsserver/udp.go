package dnsserver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/dnsserver/internal/datagram"
)

// pause is between two tries where the system refuses to read or accept.
const pause = 10 * time.Millisecond

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

// serve answers batch after batch until ctx ends.
func (w *worker) serve(ctx context.Context) error {
	b, err := datagram.New(w.conn, w.any)
	if err != nil {
		return err
	}
	for {
		n, err := b.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			// Trouble of the moment, such as no memory: the next packets may do better.
			w.counts.readErrors.Add(1)
			sleep(ctx, pause)
			continue
		}
		w.answer(b, n)
		refused, err := b.Send()
		if err != nil {
			refused++
		}
		if refused > 0 {
			w.counts.writeErrors.Add(uint64(refused))
		}
	}
}

// answer replies to the first n packets of a batch.
func (w *worker) answer(b *datagram.Batch, n int) {
	now, table := time.Now(), w.server.inForce()
	for i := 0; i < n; {
		i = w.answerFrom(b, i, n, table, now)
	}
}

// answerFrom goes on at packet i and stops behind the last, or behind one that
// made it panic: a fault of ours must cost no more than that packet (C1).
func (w *worker) answerFrom(b *datagram.Batch, i, n int, table *answer.Table, now time.Time) (next int) {
	defer func() {
		if fault := recover(); fault != nil {
			w.server.panicked(table, b.Packet(i), fault)
			next = i + 1
		}
	}()
	counts := w.counts.of(table)
	for ; i < n; i++ {
		from, packet := b.From(i), b.Packet(i)
		if barred(from) {
			w.counts.barred.Add(1)
			continue
		}
		if w.server.poison.holds(table, packet) {
			w.server.metrics.poisoned.Add(1)
			continue
		}
		reply, tally := table.Reply(b.Room(), packet, answer.Client{Addr: from, Transport: answer.UDP, Now: now})
		w.counts.count(counts, tally)
		b.Reply(i, reply)
	}
	return n
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
