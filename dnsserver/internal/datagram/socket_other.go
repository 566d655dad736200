//go:build !linux

package datagram

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"
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

// Socket is a UDP socket.
type Socket struct{ conn *net.UDPConn }

// Take makes a Socket of conn.
func Take(conn *net.UDPConn) (*Socket, error) { return &Socket{conn}, nil }

// Addr is what it is bound to.
func (s *Socket) Addr() netip.AddrPort { return s.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// SyscallConn gives access to the file descriptor.
func (s *Socket) SyscallConn() (syscall.RawConn, error) { return s.conn.SyscallConn() }

// Interrupt ends the waiting for packets for good.
func (s *Socket) Interrupt() { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) }

// Close closes it.
func (s *Socket) Close() error { return s.conn.Close() }

// Overflows is not known here.
func (s *Socket) Overflows() (uint64, error) { return 0, errors.ErrUnsupported }
