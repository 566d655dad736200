package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// burst is how many packets one system call of the load moves at most.
const burst = 64

// socket is a client's: it sends and reads many packets in one system call, and
// never waits. Its memory never moves.
type socket struct {
	fd     int
	in     [burst]mmsghdr
	out    [burst]mmsghdr
	inVec  [burst]unix.Iovec
	outVec [burst]unix.Iovec
	reads  [burst][1500]byte
	writes [burst][128]byte
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr    unix.Msghdr
	length uint32
}

func dial(to netip.AddrPort) (*socket, error) {
	fd, err := dialOne(to)
	if err != nil {
		return nil, err
	}
	// No reply is to be lost at the client.
	const room = 4 << 20
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room)
	}
	s := &socket{fd: fd}
	for i := range burst {
		s.inVec[i].Base = &s.reads[i][0]
		s.inVec[i].SetLen(len(s.reads[i]))
		s.in[i].hdr.Iov = &s.inVec[i]
		s.in[i].hdr.SetIovlen(1)
		s.outVec[i].Base = &s.writes[i][0]
		s.out[i].hdr.Iov = &s.outVec[i]
		s.out[i].hdr.SetIovlen(1)
	}
	return s, nil
}

func (s *socket) close() { _ = unix.Close(s.fd) }

// receive reads what is there and gives how many packets that is.
func (s *socket) receive() (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.in[0])), burst, unix.MSG_DONTWAIT, 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case unix.EAGAIN, unix.EINTR:
		return 0, nil
	}
	return 0, errno
}

func (s *socket) packet(i int) []byte { return s.reads[i][:s.in[i].length] }

// room is where the i-th packet to be sent is written, and put says how long it is.
func (s *socket) room(i int) []byte { return s.writes[i][:] }

func (s *socket) put(i, length int) { s.outVec[i].SetLen(length) }

// send sends the first n packets and gives how many the kernel took.
func (s *socket) send(n int) (int, error) {
	for at := 0; at < n; {
		sent, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.out[at])), uintptr(n-at), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			at += int(sent)
		case unix.EAGAIN, unix.ENOBUFS:
			return at, nil
		case unix.EINTR:
		default:
			return at, errno
		}
	}
	return n, nil
}

// dialOne makes a socket with a port of its own that never waits.
func dialOne(to netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func closeOne(fd int) { _ = unix.Close(fd) }

// readOne reads a packet into room; nil is none.
func readOne(fd int, room []byte) ([]byte, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&room[0])), uintptr(len(room)), unix.MSG_DONTWAIT, 0, 0)
	switch errno {
	case 0:
		return room[:n], nil
	case unix.EAGAIN, unix.EINTR:
		return nil, nil
	}
	return nil, errno
}

// writeOne sends a packet; sent is false where the kernel has no room.
func writeOne(fd int, packet []byte) (sent bool, err error) {
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&packet[0])), uintptr(len(packet)), unix.MSG_DONTWAIT, 0, 0)
	switch errno {
	case 0:
		return true, nil
	case unix.EAGAIN, unix.EINTR, unix.ENOBUFS:
		return false, nil
	}
	return false, errno
}

// nap rests for about 20 microseconds. The load waits this way and not for its
// sockets, so that no server pays for waking it.
func nap() {
	rest := unix.NsecToTimespec(20_000)
	_ = unix.Nanosleep(&rest, nil)
}

// prepareThread makes the caller's thread, to which it must be locked, the one of
// the load: naps end on time, and with a core given it stays there.
func prepareThread(core int) error {
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	if core < 0 {
		return nil
	}
	var set unix.CPUSet
	set.Set(core)
	return unix.SchedSetaffinity(0, &set)
}

// enter is the part of a child: it goes into a cgroup, keeps to some cores, and
// becomes the server. So nothing of the server runs outside.
func enter(args []string) error {
	if len(args) < 3 {
		return errors.New("enter: needs a cgroup, cores and a command")
	}
	group, cores, argv := args[0], args[1], args[2:]
	if group != "" {
		if err := os.WriteFile(group, []byte("0"), 0); err != nil {
			return err
		}
	}
	if cores != "" {
		runtime.LockOSThread()
		var set unix.CPUSet
		for text := range strings.SplitSeq(cores, ",") {
			core, err := strconv.Atoi(text)
			if err != nil {
				return err
			}
			set.Set(core)
		}
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return err
		}
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", path, syscall.Exec(path, argv, os.Environ()))
}

// dieWithUs ends a child when we end, however we do.
func dieWithUs(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// cores lists those that this process may use.
func cores() []int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil
	}
	var out []int
	for i := range 1024 {
		if set.IsSet(i) {
			out = append(out, i)
		}
	}
	return out
}

// tick is the unit of CPU times in /proc: USER_HZ, which Linux shows as 100
// everywhere.
const tick = 10 * time.Millisecond
