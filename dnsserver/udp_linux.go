package dnsserver

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/divertdns/divert/dnsserver/answer"
)

const (
	// batchSize is how many packets one system call reads or sends at most.
	batchSize = 64
	// slotSize is a query's place. It is no multiple of a page, so that the heads
	// of a batch do not all fall into the same lines of the cache.
	slotSize = maxQuery + 64
)

// batch is the memory of one worker: what the kernel reads into and sends from.
// The headers point into it, so it never moves or grows.
type batch struct {
	in      [batchSize]mmsghdr
	out     [batchSize]mmsghdr
	inVec   [batchSize]unix.Iovec
	outVec  [batchSize]unix.Iovec
	from    [batchSize]unix.RawSockaddrInet6 // or Inet4, by its family
	control [batchSize][controlSize]byte
	queries [batchSize][slotSize]byte
	replies [batchSize * maxReply]byte
}

func newBatch(control bool) *batch {
	b := &batch{}
	for i := range b.in {
		b.inVec[i].Base = &b.queries[i][0]
		b.inVec[i].SetLen(maxQuery)
		b.in[i].hdr.Iov = &b.inVec[i]
		b.in[i].hdr.SetIovlen(1)
		b.in[i].hdr.Name = (*byte)(unsafe.Pointer(&b.from[i]))
		b.out[i].hdr.Iov = &b.outVec[i]
		b.out[i].hdr.SetIovlen(1)
		if control {
			b.in[i].hdr.Control = &b.control[i][0]
		}
		b.rearm(i)
	}
	return b
}

// rearm gives the kernel its room again.
func (b *batch) rearm(i int) {
	b.in[i].hdr.Namelen = unix.SizeofSockaddrInet6
	if b.in[i].hdr.Control != nil {
		b.in[i].hdr.SetControllen(controlSize)
	}
}

// client is where packet i came from.
func (b *batch) client(i int) netip.AddrPort {
	sa := &b.from[i]
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:])
	switch sa.Family {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(sa)).Addr), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), port)
	}
	return netip.AddrPort{}
}

// serve answers batches of packets until ctx ends. Where none is there it waits
// in Go's poller, which a deadline in the past ends.
func (w *worker) serve(ctx context.Context) error {
	raw, err := w.conn.SyscallConn()
	if err != nil {
		return err
	}
	b := newBatch(w.any)
	var errno syscall.Errno
	step := func(fd uintptr) bool {
		var n int
		if n, errno = recvmmsg(fd, b.in[:]); errno == unix.EAGAIN {
			return false
		}
		if errno == 0 {
			w.send(fd, b, w.answer(b, n))
			for i := range n {
				b.rearm(i)
			}
		}
		return true
	}
	for {
		err := raw.Read(step)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil || errno != 0 && errno != unix.EINTR:
			// Trouble of the moment, such as no memory or what an earlier reply met.
			w.counts.readErrors.Add(1)
			sleep(ctx, pause)
		}
	}
}

// answer makes the replies to the first n packets and gives how many there are.
func (w *worker) answer(b *batch, n int) (replies int) {
	now := time.Now()
	table := w.server.inForce()
	end := 0 // of what is used of b.replies
	for i := 0; i < n; {
		i = w.answerFrom(b, i, n, table, now, &replies, &end)
	}
	return replies
}

// answerFrom goes on at packet i; it stops behind the last, or behind one that
// made it panic.
func (w *worker) answerFrom(b *batch, i, n int, table *answer.Table, now time.Time, replies, end *int) (next int) {
	defer func() {
		if fault := recover(); fault != nil {
			w.server.panicked(table, b.packet(i), fault)
			next = i + 1
		}
	}()
	counts := w.counts.of(table)
	for ; i < n; i++ {
		from, packet := b.client(i), b.packet(i)
		if barred(from) {
			w.counts.barred.Add(1)
			continue
		}
		if w.server.poison.holds(table, packet) {
			w.server.metrics.poisoned.Add(1)
			continue
		}
		room := b.replies[*end:*end:len(b.replies)]
		reply, tally := table.Reply(room, packet, answer.Client{Addr: from, Transport: answer.UDP, Now: now})
		w.counts.count(counts, tally)
		if len(reply) == 0 {
			continue
		}
		out := *replies
		b.outVec[out].Base = &reply[0]
		b.outVec[out].SetLen(len(reply))
		b.out[out].hdr.Name, b.out[out].hdr.Namelen = b.in[i].hdr.Name, b.in[i].hdr.Namelen
		control := returnControl(b.control[i][:b.in[i].hdr.Controllen])
		b.out[out].hdr.Control = unsafe.SliceData(control)
		b.out[out].hdr.SetControllen(len(control))
		*replies, *end = out+1, *end+len(reply)
	}
	return n
}

func (b *batch) packet(i int) []byte { return b.queries[i][:b.in[i].length] }

// send sends the first n replies. One that is refused is left out; nothing waits.
func (w *worker) send(fd uintptr, b *batch, n int) {
	for at := 0; at < n; {
		sent, errno := sendmmsg(fd, b.out[at:n])
		switch {
		case errno == 0:
			at += sent
		case errno != unix.EINTR:
			w.counts.writeErrors.Add(1)
			at++
		}
	}
}
