package dnsserver

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// Socket is one that is bound already: by the director that this one replaces, or
// by a service manager (socket activation). It is used as it is, so that no query
// in its queue is lost.
type Socket struct {
	Network string // "udp" or "tcp"
	Addr    netip.AddrPort
	TLS     bool     // it was answered by TLS alone
	File    *os.File // New or Discard takes it
}

// SocketOf tells what a file descriptor is.
func SocketOf(f *os.File) (Socket, error) {
	s := Socket{File: f}
	if l, err := net.FileListener(f); err == nil {
		defer func() { _ = l.Close() }()
		if tcp, ok := l.Addr().(*net.TCPAddr); ok {
			s.Network, s.Addr = "tcp", plain(tcp.AddrPort())
			return s, nil
		}
		return s, fmt.Errorf("%s listens on %s, which is no DNS socket", f.Name(), l.Addr())
	}
	c, err := net.FilePacketConn(f)
	if err != nil {
		return s, fmt.Errorf("%s is no socket that DNS can use: %w", f.Name(), err)
	}
	defer func() { _ = c.Close() }()
	udp, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok {
		return s, fmt.Errorf("%s is bound to %s, which is no DNS socket", f.Name(), c.LocalAddr())
	}
	s.Network, s.Addr = "udp", plain(udp.AddrPort())
	return s, nil
}

func plain(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// Discard closes sockets that nobody wants.
func Discard(sockets []Socket) {
	for _, s := range sockets {
		_ = s.File.Close()
	}
}

// Handle is a socket of a running server, to be handed on while it serves.
type Handle struct {
	Network string
	Addr    netip.AddrPort
	TLS     bool // answered by TLS alone
	Conn    syscall.Conn
}

// Handles lists all sockets.
func (s *Server) Handles() []Handle {
	var out []Handle
	for i := range s.listeners {
		l := &s.listeners[i]
		for _, socket := range l.udp {
			out = append(out, Handle{"udp", plain(socket.LocalAddr().(*net.UDPAddr).AddrPort()), false, socket})
		}
		out = append(out, Handle{"tcp", plain(l.tcp.Addr().(*net.TCPAddr).AddrPort()), l.tls, l.tcp})
	}
	return out
}

// inherited are the sockets that a server was given and has not used yet.
type inherited struct {
	sockets []Socket
}

// udp takes those of an address.
func (in *inherited) udp(addr netip.AddrPort) (out []*net.UDPConn, err error) {
	for _, f := range in.take("udp", addr) {
		conn, fileErr := net.FilePacketConn(f)
		_ = f.Close()
		if fileErr != nil {
			err = errors.Join(err, fileErr)
			continue
		}
		out = append(out, conn.(*net.UDPConn))
	}
	return out, err
}

// tcp takes that of an address; nil where there is none.
func (in *inherited) tcp(addr netip.AddrPort) (out *net.TCPListener, err error) {
	for _, f := range in.take("tcp", addr) {
		l, fileErr := net.FileListener(f)
		_ = f.Close()
		switch {
		case fileErr != nil:
			err = errors.Join(err, fileErr)
		case out != nil:
			_ = l.Close()
		default:
			out = l.(*net.TCPListener)
		}
	}
	return out, err
}

func (in *inherited) take(network string, addr netip.AddrPort) (out []*os.File) {
	rest := in.sockets[:0]
	for _, s := range in.sockets {
		if s.Network == network && s.Addr == addr {
			out = append(out, s.File)
		} else {
			rest = append(rest, s)
		}
	}
	in.sockets = rest
	return out
}
