package probe

import (
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// keepalives without an answer after which the kernel gives a connection up.
const keepCount = 15

// stand opens a connection that is to stay, checked like any other (C12); -1 where it
// cannot.
func (f *flights) stand(to netip.AddrPort) int {
	if f.policy.check(to.Addr()) != nil {
		return -1
	}
	fd, err := f.connect(to)
	if fd < 0 {
		return -1
	}
	if err != nil && !errors.Is(err, unix.ECONNREFUSED) {
		sysClose(fd)
		return -1
	}
	for option, value := range map[int]int{unix.TCP_KEEPIDLE: 1, unix.TCP_KEEPINTVL: 1, unix.TCP_KEEPCNT: keepCount} {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, option, value)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	f.standing++
	return fd
}

// look says how a connection of that age stands.
func (f *flights) look(fd int, age time.Duration) stands {
	if err := sysInfo(fd, &f.info); err != nil {
		return standsClosed
	}
	heard := time.Duration(f.info.Last_ack_recv) * time.Millisecond
	switch {
	case f.info.State == unix.BPF_TCP_SYN_SENT && age < lookEvery:
		return standsUnknown
	case f.info.State != unix.BPF_TCP_ESTABLISHED:
		return standsClosed
	case heard <= freshAck:
		return standsAnswering
	case heard >= silentAck:
		return standsSilent
	}
	return standsUnknown
}

func (f *flights) leave(fd int) {
	sysClose(fd)
	f.standing--
}

// descriptors is how many files this process may have open.
func descriptors() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return int(min(limit.Cur, 1<<20))
}
