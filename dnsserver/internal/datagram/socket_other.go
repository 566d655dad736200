//go:build !linux

package datagram

import (
	"errors"
	"net"
	"syscall"
)

// Workers is how many sockets one address is best served by.
func Workers() int { return 1 }

// Share is not needed for one.
func Share(syscall.Conn) error { return nil }

// ShareRaw is not needed for one.
func ShareRaw(_, _ string, _ syscall.RawConn) error { return nil }

// AskDestination does nothing: away from Linux, where only the demo runs,
// directors listen on addresses of their own, and the kernel picks the source of
// a socket bound to all.
func AskDestination(*net.UDPConn, bool) error { return nil }

// Enlarge gives a socket queues of so many octets, as far as the kernel lets it.
func Enlarge(conn *net.UDPConn, octets int) {
	_ = conn.SetReadBuffer(octets)
	_ = conn.SetWriteBuffer(octets)
}

// Whole does nothing: no reply is longer than every path takes.
func Whole(*net.UDPConn, bool) error { return nil }

// Overflows is not known here.
func Overflows(*Socket) (uint64, error) { return 0, errors.ErrUnsupported }
