package probe

import (
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of a probe, on sockets that never block, made without telling Go's
// scheduler. Told, it wakes its monitor thread for each batch, which then looks
// every 20 µs whether the call still lasts: that took a fifth of what probing
// costs (see DESIGN.md). Nothing here waits, so nothing needs to be monitored.

func sysConnect(fd int, to netip.AddrPort) error { return sysName(unix.SYS_CONNECT, fd, to) }

// sysBind takes a source address; connect then takes the port.
func sysBind(fd int, from netip.Addr) error {
	return sysName(unix.SYS_BIND, fd, netip.AddrPortFrom(from, 0))
}

func sysName(call uintptr, fd int, name netip.AddrPort) error {
	addr := name.Addr()
	if addr.Is4() {
		sa := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: networkOrder(name.Port()), Addr: addr.As4()}
		_, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
		return sysError(errno)
	}
	sa := unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: networkOrder(name.Port()), Addr: addr.As16()}
	_, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	return sysError(errno)
}

// networkOrder gives a port whose octets in memory are big-endian.
func networkOrder(port uint16) (out uint16) {
	p := (*[2]byte)(unsafe.Pointer(&out))
	p[0], p[1] = byte(port>>8), byte(port)
	return out
}

func sysRead(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func sysWrite(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// sysPoll looks once and does not wait.
func sysPoll(fds []unix.PollFd) (ready int, err error) {
	var none unix.Timespec
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(unsafe.SliceData(fds))), uintptr(len(fds)),
		uintptr(unsafe.Pointer(&none)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func sysClose(fd int) {
	_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
}

// sysLinger has close reset the connection.
func sysLinger(fd int) error {
	linger := unix.Linger{Onoff: 1}
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER,
		uintptr(unsafe.Pointer(&linger)), unsafe.Sizeof(linger), 0)
	return sysError(errno)
}

// lateBind lets the kernel choose the source port when it knows the
// destination: chosen at bind it must be unique on this machine.
func lateBind(fd uintptr) {
	on := int32(1)
	_, _, _ = unix.RawSyscall6(unix.SYS_SETSOCKOPT, fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT,
		uintptr(unsafe.Pointer(&on)), unsafe.Sizeof(on), 0)
}

// sysConnected gives the error that a connect ended with, 0 for none.
func sysConnected(fd int) (syscall.Errno, error) {
	value, size := int32(0), uint32(4)
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_ERROR,
		uintptr(unsafe.Pointer(&value)), uintptr(unsafe.Pointer(&size)), 0)
	return syscall.Errno(value), sysError(errno)
}

func sysInfo(fd int, info *unix.TCPInfo) error {
	size := uint32(unsafe.Sizeof(*info))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(info)), uintptr(unsafe.Pointer(&size)), 0)
	return sysError(errno)
}

// sysQuiet reports whether a connection stands and nothing waits on it.
func sysQuiet(fd int) bool {
	var b [1]byte
	_, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b)), 1, unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
	return errno == unix.EAGAIN
}

func sysError(errno syscall.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}
