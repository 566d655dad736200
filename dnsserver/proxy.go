package dnsserver

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
)

// proxies are those whose word is taken for who a client is: each of their
// connections and datagrams begins with a PROXY header of version 2
// (https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt). Without exception:
// were it optional, a client of theirs could write its own.
type proxies []netip.Prefix

const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyFixed     = 16      // octets before the addresses
	maxProxy       = 2 << 10 // octets of addresses and what follows them
)

var errProxy = errors.New("no PROXY header of version 2")

func (p proxies) trusts(addr net.Addr) bool {
	if len(p) == 0 {
		return false
	}
	tcp, ok := addr.(*net.TCPAddr)
	return ok && p.holds(tcp.AddrPort().Addr())
}

func (p proxies) holds(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for _, prefix := range p {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// proxyHead reads the fixed part of a header: how many octets follow, and what
// addresses they begin with (0: none that count).
func proxyHead(head []byte) (follow, family int, ok bool) {
	if len(head) < proxyFixed || string(head[:12]) != proxySignature {
		return 0, 0, false
	}
	follow = int(binary.BigEndian.Uint16(head[14:]))
	command, kind := head[12], head[13]
	switch {
	case follow > maxProxy || kind&15 > 2:
		return 0, 0, false
	case command == 0x20: // LOCAL: the proxy itself, as in its health checks
		return follow, 0, true
	case command != 0x21: // PROXY
		return 0, 0, false
	case kind>>4 == 0: // UNSPEC: it does not know, either
		return follow, 0, true
	case kind>>4 == 1 && follow >= 12:
		return follow, 4, true
	case kind>>4 == 2 && follow >= 36:
		return follow, 6, true
	}
	return 0, 0, false
}

// proxySource reads the client's address from what follows the fixed part. The
// transport is the client's, which may be another than the proxy's.
func proxySource(body []byte, family int, peer netip.AddrPort) (from netip.AddrPort, ok bool) {
	switch family {
	case 4:
		from = netip.AddrPortFrom(netip.AddrFrom4([4]byte(body)), binary.BigEndian.Uint16(body[8:]))
	case 6:
		from = netip.AddrPortFrom(netip.AddrFrom16([16]byte(body)).Unmap(), binary.BigEndian.Uint16(body[32:]))
	default:
		return peer, true
	}
	return from, !from.Addr().IsMulticast()
}

// cutProxy takes the header off a datagram.
func cutProxy(packet []byte, peer netip.AddrPort) (rest []byte, from netip.AddrPort, ok bool) {
	follow, family, ok := proxyHead(packet)
	if !ok || len(packet) < proxyFixed+follow {
		return nil, peer, false
	}
	from, ok = proxySource(packet[proxyFixed:proxyFixed+follow], family, peer)
	return packet[proxyFixed+follow:], from, ok
}

// readProxy reads the header of a connection, and not an octet more.
func readProxy(r io.Reader, peer netip.AddrPort) (netip.AddrPort, error) {
	var head [proxyFixed]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return peer, err
	}
	follow, family, ok := proxyHead(head[:])
	if !ok {
		return peer, errProxy
	}
	body := make([]byte, follow)
	if _, err := io.ReadFull(r, body); err != nil {
		return peer, err
	}
	from, ok := proxySource(body, family, peer)
	if !ok {
		return peer, errProxy
	}
	return from, nil
}
