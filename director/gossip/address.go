package gossip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// advertised settles the address that others are told.
func advertised(given string, bound netip.AddrPort) (netip.AddrPort, error) {
	if given != "" {
		addr, err := netip.ParseAddrPort(given)
		if err != nil || addr.Addr().IsUnspecified() {
			return netip.AddrPort{}, fmt.Errorf("gossip.advertise %q is not ip:port", given)
		}
		if addr.Port() == 0 {
			addr = netip.AddrPortFrom(addr.Addr(), bound.Port())
		}
		return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), nil
	}
	if !bound.Addr().IsUnspecified() {
		return netip.AddrPortFrom(bound.Addr().Unmap(), bound.Port()), nil
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("looking for an address to advertise: %w", err)
	}
	ip, err := only(own)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(ip, bound.Port()), nil
}

// only finds the machine's one address that peers could reach: of IPv4 if there
// is any, since most fleets have it throughout. Which of several they reach
// cannot be known here.
func only(own []net.Addr) (netip.Addr, error) {
	var v4, v6 []netip.Addr
	for _, a := range own {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		switch ip := prefix.Addr().Unmap(); {
		case !ip.IsGlobalUnicast():
		case ip.Is4():
			v4 = append(v4, ip)
		default:
			v6 = append(v6, ip)
		}
	}
	found := v4
	if len(found) == 0 {
		found = v6
	}
	switch len(found) {
	case 0:
		return netip.Addr{}, errors.New("gossip.listen takes every address, and this machine has none that peers could reach: set gossip.advertise")
	case 1:
		return found[0], nil
	}
	names := make([]string, len(found))
	for i, ip := range found {
		names[i] = ip.String()
	}
	return netip.Addr{}, fmt.Errorf("gossip.listen takes every address, and this machine has %s: say which one peers reach in gossip.advertise", strings.Join(names, ", "))
}

// checkHostPort refuses what could never be dialled.
func checkHostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is not host:port", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
		return fmt.Errorf("%q is not host:port", s)
	}
	return nil
}
