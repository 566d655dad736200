package dnsserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/divertdns/divert/dnsserver/internal/datagram"
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

// ListenAddrs gives all addresses that entries of Options.Listen mean, but for those
// that New refuses.
func ListenAddrs(entries []string) (out []netip.AddrPort) {
	for _, text := range entries {
		addrs, err := listenAddrs(text)
		if err == nil {
			out = append(out, addrs...)
		}
	}
	return out
}

// bindTries is how often a port is sought that is free for UDP and TCP alike.
const bindTries = 8

// queueSize is asked for the queues of each UDP socket, in octets.
const queueSize = 4 << 20

// bind opens both transports on one address, UDP by as many sockets as there are
// workers. The families are apart, so that 0.0.0.0 and :: can both be listened on.
// What was inherited for the address is used as it is.
func bind(addr netip.AddrPort, workers int, in *inherited) (listener, error) {
	for try := 1; ; try++ {
		l, err := bindBoth(addr, workers, in)
		if err == nil || addr.Port() != 0 || try == bindTries || !errors.Is(err, syscall.EADDRINUSE) {
			return l, err
		}
	}
}

func bindBoth(addr netip.AddrPort, workers int, in *inherited) (l listener, err error) {
	l.any = addr.Addr().IsUnspecified()
	conns, err := in.udp(addr)
	defer func() {
		if err != nil {
			for _, conn := range conns {
				_ = conn.Close()
			}
			l.close()
			l = listener{}
		}
	}()
	if err != nil {
		return l, fmt.Errorf("dns.listen %s: taking over UDP: %w", addr, err)
	}
	if l.tcp, err = in.tcp(addr); err != nil {
		return l, fmt.Errorf("dns.listen %s: taking over TCP: %w", addr, err)
	}
	given := len(conns) > 0
	if !given {
		// The first is bound alone, so that a port that another program holds is an
		// error; it is shared only when TCP, which never is, is bound too.
		first, err := net.ListenUDP(network("udp", addr), net.UDPAddrFromAddrPort(addr))
		if err != nil {
			return l, explainBind("UDP", addr, err)
		}
		conns = append(conns, first)
	}
	bound := netip.AddrPortFrom(addr.Addr(), conns[0].LocalAddr().(*net.UDPAddr).AddrPort().Port())
	if l.tcp == nil {
		if l.tcp, err = net.ListenTCP(network("tcp", addr), net.TCPAddrFromAddrPort(bound)); err != nil {
			return l, explainBind("TCP", bound, err)
		}
	}
	if !given {
		if conns, err = share(conns, bound, workers); err != nil {
			return l, err
		}
	}
	for _, conn := range conns {
		datagram.Enlarge(conn, queueSize)
		if err = datagram.Whole(conn, addr.Addr().Is6()); err != nil {
			return l, fmt.Errorf("dns.listen %s: forbidding fragments: %w", addr, err)
		}
		if l.any {
			if err = datagram.AskDestination(conn, addr.Addr().Is6()); err != nil {
				return l, fmt.Errorf("dns.listen %s: asking for destination addresses: %w", addr, err)
			}
		}
		socket, err := datagram.Take(conn)
		if err != nil {
			return l, fmt.Errorf("dns.listen %s: %w", addr, err)
		}
		l.udp = append(l.udp, socket)
	}
	return l, nil
}

// bindTLS opens an address for DNS over TLS.
func bindTLS(addr netip.AddrPort, in *inherited) (l listener, err error) {
	l.tls = true
	if l.tcp, err = in.tcp(addr); err != nil {
		return l, fmt.Errorf("dns.tls.listen %s: taking over TCP: %w", addr, err)
	}
	if l.tcp == nil {
		if l.tcp, err = net.ListenTCP(network("tcp", addr), net.TCPAddrFromAddrPort(addr)); err != nil {
			return l, explainBind("TCP", addr, err)
		}
	}
	return l, nil
}

// share binds further sockets beside the first, which alone is bound, and gives all.
func share(conns []*net.UDPConn, addr netip.AddrPort, workers int) ([]*net.UDPConn, error) {
	if workers < 2 {
		return conns, nil
	}
	if err := datagram.Share(conns[0]); err != nil {
		return conns, fmt.Errorf("dns.listen %s: sharing the port among workers: %w", addr, err)
	}
	shared := net.ListenConfig{Control: datagram.ShareRaw}
	for len(conns) < workers {
		conn, err := shared.ListenPacket(context.Background(), network("udp", addr), addr.String())
		if err != nil {
			return conns, explainBind("UDP", addr, err)
		}
		conns = append(conns, conn.(*net.UDPConn))
	}
	return conns, nil
}

func network(transport string, addr netip.AddrPort) string {
	if addr.Addr().Is6() {
		return transport + "6"
	}
	return transport + "4"
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
