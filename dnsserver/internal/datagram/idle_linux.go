package datagram

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Socket is a UDP socket that is watched for packets only while somebody waits for
// one. In Go's own poller it would be watched always, and the kernel would go there
// for each packet that comes and, worse, for each reply that has left: 7 % of what
// an answer costs. So the socket is in an epoll instance of its own, which holds it
// while a worker has nothing to read, and that instance is in Go's poller.
type Socket struct {
	file    *os.File // the socket, of which Go's poller knows nothing
	epoll   *os.File
	local   net.Addr
	watched bool // epoll holds it; of the one who receives, as is event
	event   unix.EpollEvent
}

// Take makes one of conn, which is no longer to be used. No packet is lost: the
// socket stays open.
func Take(conn *net.UDPConn) (s *Socket, err error) {
	s = &Socket{local: conn.LocalAddr()}
	defer func() {
		err = errors.Join(err, conn.Close())
		if err != nil {
			err = errors.Join(err, s.Close())
			s = nil
		}
	}()
	if err := control(conn, func(fd uintptr) error {
		own, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("fcntl", err)
		}
		// os.NewFile gives to the poller what is set not to block. No call on the
		// socket blocks: each says so itself.
		if err := unix.SetNonblock(own, false); err != nil {
			return errors.Join(os.NewSyscallError("fcntl", err), unix.Close(own))
		}
		s.file = os.NewFile(uintptr(own), "udp "+s.local.String())
		return nil
	}); err != nil {
		return s, err
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return s, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(epoll, true); err != nil {
		return s, errors.Join(os.NewSyscallError("fcntl", err), unix.Close(epoll))
	}
	s.epoll = os.NewFile(uintptr(epoll), "epoll of udp "+s.local.String())
	return s, nil
}

// LocalAddr is what it is bound to.
func (s *Socket) LocalAddr() net.Addr { return s.local }

// SyscallConn implements syscall.Conn. Reads by it never wait.
func (s *Socket) SyscallConn() (syscall.RawConn, error) { return s.file.SyscallConn() }

// SetReadDeadline ends Receive at a time.
func (s *Socket) SetReadDeadline(t time.Time) error { return s.epoll.SetReadDeadline(t) }

// Close ends Receive, and waits for that.
func (s *Socket) Close() (err error) {
	if s.epoll != nil {
		err = s.epoll.Close()
	}
	if s.file != nil {
		err = errors.Join(err, s.file.Close())
	}
	return err
}

// watch has the epoll instance hold the socket. Where a packet is there already, it
// says so at once.
func (s *Socket) watch(epoll, socket uintptr) error {
	if s.watched {
		return nil
	}
	s.event.Events = unix.EPOLLIN
	err := unix.EpollCtl(int(epoll), unix.EPOLL_CTL_ADD, int(socket), &s.event)
	s.watched = err == nil
	return err
}

func (s *Socket) unwatch(epoll, socket uintptr) {
	if s.watched && unix.EpollCtl(int(epoll), unix.EPOLL_CTL_DEL, int(socket), nil) == nil {
		s.watched = false
	}
}
