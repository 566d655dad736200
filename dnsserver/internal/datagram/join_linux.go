package datagram

import (
	"bytes"
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Replies to one socket that lie side by side go through the kernel as one message,
// which it cuts into datagrams at the end of the way (UDP_SEGMENT, Linux 4.18). That
// saves most of what sending costs where a resolver, or a balancer in front, asks
// much by the same port. All but the last must be of one length.

const (
	maxJoined       = 64    // UDP_MAX_SEGMENTS of the kernels that have the fewest
	maxJoinedOctets = 65000 // an IP packet has 65,535
	segmentControl  = unix.SizeofCmsghdr + 8
)

// joined is what a message of several replies needs beside its header.
type joined struct {
	query   int    // whose sender it goes to
	at      int    // where it begins in Batch.replies, -1 = elsewhere
	n       int    // replies
	size    int    // of each but the last
	own     []byte // the control message of one alone
	control [controlSize + segmentControl]byte
}

// canJoin asks the kernel. One that does not know of segments would send a message
// as a single datagram.
func canJoin(socket *Socket) bool {
	return control(socket, func(fd uintptr) error {
		_, err := unix.GetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT)
		return err
	}) == nil
}

// join makes the reply to packet i a part of the last message, if it can be.
func (b *Batch) join(i int, reply, own []byte) (done bool) {
	if b.put == 0 {
		return false
	}
	k := b.put - 1
	j := &b.joins[k]
	octets := j.n * j.size
	if uint64(b.outVec[k].Len) != uint64(octets) || len(reply) > j.size || j.n == maxJoined || octets+len(reply) > maxJoinedOctets {
		return false
	}
	if j.at < 0 || j.at+octets != b.used || &reply[0] != &b.replies[b.used] {
		return false
	}
	if b.from[i] != b.from[j.query] || !bytes.Equal(own, j.own) {
		return false
	}
	if j.n++; j.n == 2 {
		at := copy(j.control[:], own)
		// struct cmsghdr is a size_t and two ints, in the machine's order.
		word := at + unix.SizeofCmsghdr - 8
		clear(j.control[at:])
		if unix.SizeofCmsghdr == 16 {
			binary.NativeEndian.PutUint64(j.control[at:], unix.SizeofCmsghdr+2)
		} else {
			binary.NativeEndian.PutUint32(j.control[at:], unix.SizeofCmsghdr+2)
		}
		binary.NativeEndian.PutUint32(j.control[word:], unix.SOL_UDP)
		binary.NativeEndian.PutUint32(j.control[word+4:], unix.UDP_SEGMENT)
		binary.NativeEndian.PutUint16(j.control[word+8:], uint16(j.size))
		b.out[k].hdr.Control = &j.control[0]
		b.out[k].hdr.SetControllen(at + unix.CmsgSpace(2))
	}
	b.outVec[k].SetLen(octets + len(reply))
	b.used += len(reply)
	return true
}

// apart sends the replies of a message that was refused one by one, and gives how
// many were refused again.
func (b *Batch) apart(fd uintptr, k int) (refused int) {
	j := &b.joins[k]
	octets := int(b.outVec[k].Len)
	one := &b.out[k].hdr
	one.Control = unsafe.SliceData(j.own)
	one.SetControllen(len(j.own))
	for from := 0; from < octets; from += j.size {
		b.outVec[k].Base = &b.replies[j.at+from]
		b.outVec[k].SetLen(min(j.size, octets-from))
		for {
			_, errno := sendmmsg(fd, b.out[k:k+1])
			if errno == unix.EINTR {
				continue
			}
			if errno != 0 {
				refused++
			}
			break
		}
	}
	return refused
}
