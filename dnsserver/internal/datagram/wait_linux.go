package datagram

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Socket is a UDP socket that Go's poller does not watch. The poller wants to hear
// when a socket may be written to, so the kernel would wake one of its threads for
// each reply that leaves, and for each packet that comes while others are being
// answered. Here the kernel wakes somebody only while a worker waits for packets:
// a third of an answer's cost.
type Socket struct {
	addr  netip.AddrPort
	file  *os.File // it counts its users, so that its number is not reused under them
	raw   syscall.RawConn
	wake  *os.File // an eventfd; once written to it is never read
	event int      // its number
	ended atomic.Bool
}

// Take makes a Socket of what conn is bound to. conn is closed, whatever happens.
func Take(conn *net.UDPConn) (*Socket, error) {
	defer conn.Close()
	s := &Socket{addr: conn.LocalAddr().(*net.UDPAddr).AddrPort()}
	var fd int
	if err := control(conn, func(own uintptr) (err error) {
		if fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return err
		}
		// So that os.NewFile leaves it to us. No call of ours waits in the socket.
		return unix.SetNonblock(fd, false)
	}); err != nil {
		return nil, fmt.Errorf("taking a socket from the poller: %w", err)
	}
	s.file = os.NewFile(uintptr(fd), "udp "+s.addr.String())
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		s.file.Close()
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	s.wake, s.event = os.NewFile(uintptr(event), "eventfd"), event
	if s.raw, err = s.file.SyscallConn(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Addr is what it is bound to.
func (s *Socket) Addr() netip.AddrPort { return s.addr }

// SyscallConn gives access to the file descriptor, which is not to be waited for.
func (s *Socket) SyscallConn() (syscall.RawConn, error) { return s.raw, nil }

// Interrupt ends the waiting for packets for good: Receive gives an error at once,
// whatever is there to be read. It may be called at any time before Close.
func (s *Socket) Interrupt() {
	s.ended.Store(true)
	_, _ = s.wake.Write([]byte{0, 0, 0, 0, 0, 0, 0, 1}) // any number but 0 will do
}

// Close closes it. Who waits for packets must have been interrupted before.
func (s *Socket) Close() error { return errors.Join(s.file.Close(), s.wake.Close()) }

// Overflows tells how many packets the kernel dropped since the socket was opened
// because its queue was full.
func (s *Socket) Overflows() (uint64, error) {
	const skMeminfoDrops = 8
	var info [9]uint32
	err := controlRaw(s.raw, func(fd uintptr) error { return getMeminfo(fd, &info) })
	return uint64(info[skMeminfoDrops]), err
}
