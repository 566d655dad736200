//go:build !linux

package datagram

import (
	"net"
	"net/netip"
)

// Socket is a UDP socket.
type Socket struct{ *net.UDPConn }

// Take makes one of conn, which is no longer to be used.
func Take(conn *net.UDPConn) (*Socket, error) { return &Socket{conn}, nil }

// Batch reads one packet at a time and sends the reply to it. One goroutine uses
// it.
type Batch struct {
	conn   *Socket
	query  [MaxQuery]byte
	length int
	from   netip.AddrPort
	room   [MaxReply]byte
	reply  []byte
}

// New makes the batch of a socket.
func New(conn *Socket, _ bool) (*Batch, error) { return &Batch{conn: conn}, nil }

// Receive waits for a packet. A deadline in the past or closing the socket ends
// it.
func (b *Batch) Receive() (n int, err error) {
	b.reply = nil
	b.length, b.from, err = b.conn.ReadFromUDPAddrPort(b.query[:])
	if err != nil {
		return 0, err
	}
	return 1, nil
}

// Packet is the packet. It may be changed, but not kept.
func (b *Batch) Packet(int) []byte { return b.query[:b.length] }

// From is where the packet came from.
func (b *Batch) From(int) netip.AddrPort { return b.from }

// Room is where the reply may be written, without any octets in it.
func (b *Batch) Room() []byte { return b.room[:0] }

// Reply has the next Send send a reply to the packet.
func (b *Batch) Reply(_ int, reply []byte) { b.reply = reply }

// Send sends the reply and tells whether it was refused.
func (b *Batch) Send() (refused int, err error) {
	if len(b.reply) == 0 {
		return 0, nil
	}
	if _, err := b.conn.WriteToUDPAddrPort(b.reply, b.from); err != nil {
		return 1, nil
	}
	return 0, nil
}
