//go:build !linux

package dnsserver

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/divertdns/divert/dnsserver/answer"
)

// serve answers one packet at a time.
func (w *worker) serve(ctx context.Context) error {
	in, out := make([]byte, maxQuery), make([]byte, 0, maxReply)
	for {
		n, from, err := w.conn.ReadFromUDPAddrPort(in)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			w.counts.readErrors.Add(1)
			sleep(ctx, pause)
			continue
		case barred(from):
			w.counts.barred.Add(1)
			continue
		}
		reply := w.reply(out, in[:n], answer.Client{Addr: from, Transport: answer.UDP, Now: time.Now()})
		if len(reply) == 0 {
			continue
		}
		if _, err := w.conn.WriteToUDPAddrPort(reply, from); err != nil {
			w.counts.writeErrors.Add(1)
		}
	}
}

func (w *worker) reply(dst, packet []byte, client answer.Client) (out []byte) {
	table := w.server.inForce()
	if w.server.poison.holds(table, packet) {
		w.server.metrics.poisoned.Add(1)
		return dst
	}
	defer func() {
		if fault := recover(); fault != nil {
			w.server.panicked(table, packet, fault)
			out = dst
		}
	}()
	counts := w.counts.of(table)
	out, tally := table.Reply(dst, packet, client)
	w.counts.count(counts, tally)
	return out
}
