package mmdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// tree is a database's search tree. It is walked here and not by the library,
// whose walk goes on for years where a damaged tree leads to one node again and
// again: a tree of n nodes is n visits.
type tree struct {
	nodes  []byte
	record uint // bits
	count  uint32
	v4     uint32 // the node of ::/96, where IPv6 databases keep IPv4; 0 = there is none
	visits uint32
	found  func(network netip.Prefix, offset uint32) error
	none   func(network netip.Prefix) error
}

var errCircles = errors.New("the tree leads to a node more than once")

// separator is what lies between tree and data, in octets.
const separator = 16

// walk visits all networks in the order of their addresses.
func (t *tree) walk(ipVersion uint) error {
	at := uint32(0)
	if ipVersion == 4 {
		return t.visit(at, netip.PrefixFrom(netip.IPv4Unspecified(), 0))
	}
	for range 96 {
		if at, _ = t.read(at); at >= t.count {
			break
		}
	}
	if at < t.count {
		t.v4 = at
	} else if err := t.leaf(at, netip.PrefixFrom(netip.IPv4Unspecified(), 0)); err != nil {
		return err // a network that is wider than all of IPv4
	}
	return t.visit(0, netip.PrefixFrom(netip.IPv6Unspecified(), 0))
}

func (t *tree) visit(at uint32, network netip.Prefix) error {
	v4 := network.Bits() == 96 && network.Addr() == netip.IPv6Unspecified()
	switch {
	case v4 && at < t.count:
		network = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	case at >= t.count:
		return t.leaf(at, network)
	case at == t.v4 && t.v4 != 0 && network.Addr().Is6():
		return nil // an alias, such as 2002::/16: such addresses are looked up by their IPv4
	}
	if t.visits++; t.visits > t.count {
		return errCircles
	}
	bits := network.Bits()
	if bits == network.Addr().BitLen() {
		return fmt.Errorf("the tree goes on below %s", network)
	}
	left, right := t.read(at)
	if err := t.visit(left, netip.PrefixFrom(network.Addr(), bits+1)); err != nil {
		return err
	}
	return t.visit(right, netip.PrefixFrom(with(network.Addr(), bits), bits+1))
}

// with sets a bit.
func with(addr netip.Addr, bit int) netip.Addr {
	if addr.Is4() {
		octets := addr.As4()
		octets[bit/8] |= 0x80 >> (bit % 8)
		return netip.AddrFrom4(octets)
	}
	octets := addr.As16()
	octets[bit/8] |= 0x80 >> (bit % 8)
	return netip.AddrFrom16(octets)
}

func (t *tree) leaf(at uint32, network netip.Prefix) error {
	if at == t.count {
		return t.none(network)
	}
	if at-t.count < separator {
		return fmt.Errorf("the tree leads nowhere at %s", network)
	}
	return t.found(network, at-t.count-separator)
}

// read gives the two records of a node.
func (t *tree) read(node uint32) (left, right uint32) {
	size := uint64(t.record / 4)
	b := t.nodes[uint64(node)*size:][:size]
	switch t.record {
	case 24:
		return uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]), uint32(b[3])<<16 | uint32(b[4])<<8 | uint32(b[5])
	case 28:
		return uint32(b[3]>>4)<<24 | uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]), uint32(b[3]&15)<<24 | uint32(b[4])<<16 | uint32(b[5])<<8 | uint32(b[6])
	default:
		return binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	}
}
