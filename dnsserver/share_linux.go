package dnsserver

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// workersPerAddress: one for each core that Go may use.
func workersPerAddress() int { return runtime.GOMAXPROCS(0) }

// sharePort lets further sockets of this user bind what this one is bound to. The
// kernel spreads packets over them by the addresses and ports of both ends.
func sharePort(fd uintptr) error {
	return unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
}

// overflows tells how many packets the kernel dropped because a socket's queue
// was full.
func overflows(fd uintptr) (uint64, error) {
	const skMeminfoDrops = 8
	var info [9]uint32
	if err := getMeminfo(fd, &info); err != nil {
		return 0, err
	}
	return uint64(info[skMeminfoDrops]), nil
}
