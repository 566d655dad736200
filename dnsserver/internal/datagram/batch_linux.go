package datagram

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// slot is a query's place. It is no multiple of a page, so that the heads of a
// batch do not all fall into the same lines of the cache.
const slot = MaxQuery + 100

// many is for how many replies it is cheaper to have the socket watched no longer,
// and again when there is nothing to read.
const many = 8

// Batch reads packets and sends replies by one socket. Its memory is made once:
// the headers point into it, so it never moves or grows. One goroutine uses it.
type Batch struct {
	socket  *Socket
	fd      uintptr // of it
	idle    syscall.RawConn
	raw     syscall.RawConn
	receive func(fd uintptr) bool
	send    func(fd uintptr) bool
	got     int   // packets read
	fault   error // of the last read
	put     int   // replies to be sent
	used    int   // octets of replies
	refused int   // replies of the last Send that were not sent

	in      [Max]mmsghdr
	out     [Max]mmsghdr
	inVec   [Max]unix.Iovec
	outVec  [Max]unix.Iovec
	from    [Max]unix.RawSockaddrInet6 // or Inet4, by its family
	control [Max][controlSize]byte
	joins   [Max]joined // of out
	joining bool        // the kernel takes several replies as one message
	queries [Max][slot]byte
	replies [Max * MaxReply]byte
}

// New makes the batch of a socket. With destination, which needs AskDestination,
// replies leave from the address that was asked.
func New(socket *Socket, destination bool) (*Batch, error) {
	b := &Batch{socket: socket}
	b.receive, b.send = b.receiveNow, b.sendNow
	for i := range b.in {
		b.inVec[i].Base = &b.queries[i][0]
		b.inVec[i].SetLen(MaxQuery)
		b.in[i].hdr.Iov = &b.inVec[i]
		b.in[i].hdr.SetIovlen(1)
		b.in[i].hdr.Name = (*byte)(unsafe.Pointer(&b.from[i]))
		b.out[i].hdr.Iov = &b.outVec[i]
		b.out[i].hdr.SetIovlen(1)
		if destination {
			b.in[i].hdr.Control = &b.control[i][0]
		}
		b.rearm(i)
	}
	b.joining = canJoin(socket)
	var err error
	if b.idle, err = socket.epoll.SyscallConn(); err != nil {
		return nil, err
	}
	if b.raw, err = socket.SyscallConn(); err != nil {
		return nil, err
	}
	return b, b.raw.Control(func(fd uintptr) { b.fd = fd })
}

// rearm gives the kernel its room again.
func (b *Batch) rearm(i int) {
	b.in[i].hdr.Namelen = unix.SizeofSockaddrInet6
	if b.in[i].hdr.Control != nil {
		b.in[i].hdr.SetControllen(controlSize)
	}
}

// Receive waits for packets, and gives how many there are. What the batch held
// before is gone. It waits in Go's poller, so that a deadline in the past or
// closing the socket ends it.
func (b *Batch) Receive() (n int, err error) {
	for i := range b.got {
		b.rearm(i)
	}
	b.got, b.put, b.used, b.fault = 0, 0, 0, nil
	if err := b.idle.Read(b.receive); err != nil {
		if !errors.Is(err, os.ErrDeadlineExceeded) { // closed, which package os tells by an error that has no name
			err = fmt.Errorf("%w: %w", os.ErrClosed, err)
		}
		return 0, err
	}
	return b.got, b.fault
}

// receiveNow reads what is there. The packets are looked for anew with each wait, so
// that none can come unseen between the two.
func (b *Batch) receiveNow(epoll uintptr) (done bool) {
	n, errno := recvmmsg(b.fd, b.in[:])
	switch errno {
	case 0:
		if b.got = n; n >= many {
			b.socket.unwatch(epoll, b.fd)
		}
	case unix.EAGAIN:
		b.fault = b.socket.watch(epoll, b.fd)
		return b.fault != nil
	case unix.EINTR:
	default:
		b.fault = errno
	}
	return true
}

// Packet is the i-th packet. It may be changed, but not kept.
func (b *Batch) Packet(i int) []byte { return b.queries[i][:b.in[i].length] }

// From is where packet i came from.
func (b *Batch) From(i int) netip.AddrPort {
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

// Room is where the next reply may be written, without any octets in it.
func (b *Batch) Room() []byte { return b.replies[b.used:b.used:len(b.replies)] }

// Reply has the next Send send a reply to the sender of packet i, from the address
// that it was sent to. The reply need not lie in Room, but stay until then.
func (b *Batch) Reply(i int, reply []byte) {
	if len(reply) == 0 || b.put == Max {
		return
	}
	control := returnControl(b.control[i][:b.in[i].hdr.Controllen])
	if b.joining && b.join(i, reply, control) {
		return
	}
	b.outVec[b.put].Base = &reply[0]
	b.outVec[b.put].SetLen(len(reply))
	hdr := &b.out[b.put].hdr
	hdr.Name, hdr.Namelen = b.in[i].hdr.Name, b.in[i].hdr.Namelen
	hdr.Control = unsafe.SliceData(control)
	hdr.SetControllen(len(control))
	j := &b.joins[b.put]
	j.query, j.at, j.n, j.size, j.own = i, -1, 1, len(reply), control
	b.put++
	if &reply[0] == &b.replies[b.used : b.used+1][0] {
		j.at = b.used
		b.used += len(reply)
	}
}

// Send sends the replies and tells how many were refused. Those are left out;
// nothing waits.
func (b *Batch) Send() (refused int, err error) {
	if b.put == 0 {
		return 0, nil
	}
	b.refused = 0
	err = b.raw.Write(b.send)
	return b.refused, err
}

func (b *Batch) sendNow(fd uintptr) (done bool) {
	for at := 0; at < b.put; {
		sent, errno := sendmmsg(fd, b.out[at:b.put])
		switch {
		case errno == 0:
			at += sent
		case errno == unix.EINTR:
		case b.joins[at].n > 1:
			if errno == unix.EIO || errno == unix.EINVAL || errno == unix.EOPNOTSUPP {
				b.joining = false // a tunnel that knows nothing of it, or a device without checksums
			}
			b.refused += b.apart(fd, at)
			at++
		default:
			b.refused++
			at++
		}
	}
	b.put, b.used = 0, 0
	return true
}
