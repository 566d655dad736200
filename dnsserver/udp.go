package dnsserver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/dnsserver/internal/datagram"
	"github.com/divertdns/divert/dnsserver/tap"
)

// pause is between two tries where the system refuses to read or accept.
const pause = 10 * time.Millisecond

// worker answers what comes by one UDP socket. One goroutine runs it.
type worker struct {
	server *Server
	socket *datagram.Socket
	any    bool // bound to the unspecified address
	counts *shard
	press  pressure
	local  netip.AddrPort
	shown  tap.Sampler
	packet []byte // being answered
}

func (s *Server) worker(socket *datagram.Socket, wild bool) *worker {
	return &worker{
		server: s, socket: socket, any: wild, counts: s.metrics.shard(),
		local: plain(socket.LocalAddr().(*net.UDPAddr).AddrPort()), shown: s.tap.Sampler(),
	}
}

// serve answers batch after batch until ctx ends.
func (w *worker) serve(ctx context.Context) error {
	b, err := datagram.New(w.socket, w.any)
	if err != nil {
		return err
	}
	for {
		n, err := b.Receive()
		switch {
		case err == nil: // what has been read is answered, whatever ends
		case ctx.Err() != nil || w.server.leaving():
			return nil
		case errors.Is(err, os.ErrClosed), errors.Is(err, net.ErrClosed):
			return err
		default:
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
	client := answer.Client{
		Transport: answer.UDP, Now: now, Cookies: *w.server.cookies.Load(), Pressure: w.press.note(n == datagram.Max, now),
	}
	for i := 0; i < n; {
		i = w.answerFrom(b, i, n, table, client)
	}
}

// answerFrom goes on at packet i and stops behind the last, or behind one that
// made it panic: a fault of ours must cost no more than that packet (C1).
func (w *worker) answerFrom(b *datagram.Batch, i, n int, table *answer.Table, client answer.Client) (next int) {
	defer func() {
		if fault := recover(); fault != nil {
			w.server.panicked(table, w.packet, fault)
			next = i + 1
		}
	}()
	counts := w.counts.of(table)
	for ; i < n; i++ {
		packet := b.Packet(i)
		client.Addr = b.From(i)
		if barred(client.Addr) {
			w.counts.barred.Add(1)
			continue
		}
		if len(w.server.proxies) > 0 && w.server.proxies.holds(client.Addr.Addr()) {
			var ok bool
			if packet, client.Addr, ok = cutProxy(packet, client.Addr); !ok {
				w.server.metrics.proxyErrors.Add(1)
				continue
			}
		}
		w.packet = packet
		if w.server.poison.holds(table, packet) {
			w.server.metrics.poisoned.Add(1)
			continue
		}
		reply, tally := table.ReplyTo(&client, b.Room(), packet)
		proved := tally.Cookie == answer.CookieValid
		if again(tally) {
			j := w.server.judge(b.Room(), packet, reply, tally, table, client)
			reply, tally, proved = j.reply, j.tally, proved || j.proved
		}
		w.counts.count(counts, tally)
		if len(reply) > 0 && !proved {
			reply = w.limit(b, reply, packet, table, client, tally)
		}
		b.Reply(i, reply)
		w.shown.Take(client.Now, client.Addr, w.local, tap.UDP, packet, reply)
	}
	return n
}

// limit gives what may be sent of a reply to somebody who has proved nothing.
// Errors above the limit are dropped: nobody has a use for so many.
func (w *worker) limit(b *datagram.Batch, reply, packet []byte, table *answer.Table, client answer.Client, tally answer.Tally) []byte {
	kind := classOf(tally)
	if w.server.rates.allow(client.Addr.Addr(), kind, client.Now) {
		return reply
	}
	if kind == classError && tally.Reject != answer.RejectCookie { // whoever is told BADCOOKIE comes again with a good one
		w.counts.limitedDropped.Add(1)
		return nil
	}
	w.counts.limitedTruncated.Add(1)
	client.Truncate = true
	reply, _ = table.ReplyTo(&client, b.Room(), packet)
	return reply
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
