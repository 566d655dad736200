package dnsserver

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// listenAddrs reads one entry of Options.Listen.
func listenAddrs(text string) ([]netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return nil, fmt.Errorf("dns.listen %q: write an IP address and a port, such as 0.0.0.0:53 or [::]:53: %w", text, err)
	}
	if host == "" {
		v4, err4 := netip.ParseAddrPort("0.0.0.0:" + port)
		v6, err6 := netip.ParseAddrPort("[::]:" + port)
		if err := errors.Join(err4, err6); err != nil {
			return nil, fmt.Errorf("dns.listen %q: %w", text, err)
		}
		return []netip.AddrPort{v4, v6}, nil
	}
	addr, err := netip.ParseAddrPort(text)
	if err != nil {
		return nil, fmt.Errorf("dns.listen %q: write an IP address and a port, such as 0.0.0.0:53 or [::]:53: %w", text, err)
	}
	return []netip.AddrPort{netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())}, nil
}

// bindTries is how often a port is sought that is free for UDP and TCP alike.
const bindTries = 8

// bind opens both transports on one address. The families are apart, so that
// 0.0.0.0 and :: can both be listened on.
func bind(addr netip.AddrPort) (listener, error) {
	udp, tcp := "udp4", "tcp4"
	if addr.Addr().Is6() {
		udp, tcp = "udp6", "tcp6"
	}
	for try := 1; ; try++ {
		u, err := net.ListenUDP(udp, net.UDPAddrFromAddrPort(addr))
		if err != nil {
			return listener{}, explainBind("UDP", addr, err)
		}
		bound := netip.AddrPortFrom(addr.Addr(), u.LocalAddr().(*net.UDPAddr).AddrPort().Port())
		t, err := net.ListenTCP(tcp, net.TCPAddrFromAddrPort(bound))
		if err != nil {
			_ = u.Close()
			if addr.Port() == 0 && try < bindTries && errors.Is(err, syscall.EADDRINUSE) {
				continue
			}
			return listener{}, explainBind("TCP", bound, err)
		}
		l := listener{udp: u, tcp: t, any: addr.Addr().IsUnspecified()}
		// A burst must not be lost while a table is swapped. The kernel may give less.
		_ = u.SetReadBuffer(1 << 20)
		if l.any {
			if err := askDestination(u, addr.Addr().Is6()); err != nil {
				_ = u.Close()
				_ = t.Close()
				return listener{}, fmt.Errorf("dns.listen %s: asking for destination addresses: %w", addr, err)
			}
		}
		return l, nil
	}
}

// explainBind says what to do about an address that cannot be had.
func explainBind(transport string, addr netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && addr.Port() == 53:
		return fmt.Errorf("dns.listen %s: %s port 53 is taken, most often by systemd-resolved, which holds 127.0.0.53 "+
			"(see: ss -lpn sport = 53); listen on this machine's own addresses instead of all of them, or put "+
			"DNSStubListener=no into /etc/systemd/resolved.conf and restart it: %w", addr, transport, err)
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("dns.listen %s: the %s port is taken by another program, or by another director: %w", addr, transport, err)
	case errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM):
		return fmt.Errorf("dns.listen %s: ports below 1024 need a privilege: grant CAP_NET_BIND_SERVICE "+
			"(AmbientCapabilities= in the systemd unit, or setcap on the binary), or listen on a higher port: %w", addr, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("dns.listen %s: this machine does not have that address: %w", addr, err)
	}
	return fmt.Errorf("dns.listen %s: %w", addr, err)
}
