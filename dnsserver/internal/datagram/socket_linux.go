package datagram

import (
	"net"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Workers is how many sockets one address is best served by: one for each core
// that Go may use.
func Workers() int { return runtime.GOMAXPROCS(0) }

// Share lets further sockets of this user bind what conn is bound to. The kernel
// spreads packets over them by the addresses and ports of both ends.
func Share(conn syscall.Conn) error {
	return control(conn, func(fd uintptr) error {
		return unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
}

// ShareRaw is Share for net.ListenConfig.Control.
func ShareRaw(_, _ string, raw syscall.RawConn) error {
	return controlRaw(raw, func(fd uintptr) error {
		return unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
}

// AskDestination has a socket that is bound to all addresses tell which one each
// packet was sent to.
func AskDestination(conn *net.UDPConn, is6 bool) error {
	return control(conn, func(fd uintptr) error {
		if is6 {
			return unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		}
		return unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	})
}

// Enlarge gives a socket queues of so many octets, as far as the kernel lets it:
// beyond net.core.rmem_max and wmem_max only who has CAP_NET_ADMIN may go. A burst
// must not be lost while a table is swapped; and replies to addresses of the own
// network that nobody has are charged to the socket for seconds, until the kernel
// gives up asking who has them, so that a small queue is soon full of those.
func Enlarge(conn *net.UDPConn, octets int) {
	_ = control(conn, func(fd uintptr) error {
		for _, o := range [][2]int{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
			if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, o[0], octets) != nil {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, o[1], octets)
			}
		}
		return nil
	})
}

// Whole has replies leave as one packet each, or not at all: with the DF bit, and
// with the MTU of the interface, whatever a router, or who poses as one, said of
// the path. A reply in fragments is one that somebody else can complete (RFC 9715
// section 3.1). Nor does the kernel then need to number the packets for
// reassembly, which is 3 % of what sending costs.
func Whole(conn *net.UDPConn, is6 bool) error {
	return control(conn, func(fd uintptr) error {
		if is6 {
			return unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
		}
		return unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
	})
}

// Overflows tells how many packets the kernel dropped since the socket was opened
// because its queue was full.
func Overflows(conn *Socket) (uint64, error) {
	const skMeminfoDrops = 8
	var info [9]uint32
	err := control(conn, func(fd uintptr) error { return getMeminfo(fd, &info) })
	return uint64(info[skMeminfoDrops]), err
}

func control(conn syscall.Conn, f func(fd uintptr) error) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	return controlRaw(raw, f)
}

func controlRaw(raw syscall.RawConn, f func(fd uintptr) error) error {
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(fd) }); err != nil {
		return err
	}
	return inner
}
