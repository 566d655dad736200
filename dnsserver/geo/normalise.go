package geo

import (
	"encoding/binary"
	"net/netip"
)

// Special kinds of IPv6 address carry an IPv4 address, and it is that one which
// says where the client is. Each begins this many bits into the IPv6 address.
const (
	shiftMapped = 96 // ::ffff:0:0/96
	shiftNAT64  = 96 // 64:ff9b::/96, RFC 6052
	shiftTeredo = 96 // 2001::/32, RFC 4380: the client's address, every bit inverted
	shift6to4   = 16 // 2002::/16, RFC 3056
)

// Normalise finds the address that stands for addr in look-ups: the IPv4 address
// inside a v4-mapped, 6to4, Teredo or 64:ff9b::/96 one, and the address itself
// otherwise. A prefix of n bits of the inner address is one of shift+n bits of
// addr, which is how a scope is turned back.
func Normalise(addr netip.Addr) (inner netip.Addr, shift int) {
	if !addr.Is6() {
		return addr, 0
	}
	b := addr.As16()
	switch {
	case addr.Is4In6():
		return addr.Unmap(), shiftMapped
	case b[0] == 0x20 && b[1] == 0x02:
		return netip.AddrFrom4([4]byte(b[2:6])), shift6to4
	case b[0] == 0x20 && b[1] == 0x01 && b[2] == 0 && b[3] == 0:
		return netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}), shiftTeredo
	case [12]byte(b[:12]) == [12]byte{0, 0x64, 0xff, 0x9b}:
		return netip.AddrFrom4([4]byte(b[12:])), shiftNAT64
	}
	return addr.WithZone(""), 0
}

// NormalisePrefix is Normalise for a prefix. One too short to hold any of the
// inner address stays as it is, and then holds native addresses only.
func NormalisePrefix(p netip.Prefix) (inner netip.Prefix, shift int) {
	addr, shift := Normalise(p.Addr())
	if shift == 0 || p.Bits() < shift {
		return p.Masked(), 0
	}
	bits := min(p.Bits()-shift, 32) // what follows a 6to4's IPv4 address is inside one place
	return netip.PrefixFrom(addr, bits).Masked(), shift
}

// NativeBits is the length of the shortest prefix of addr that holds native IPv6
// addresses only; 0 for IPv4 and for addresses that hold an IPv4 address. A scope
// for a native address is never shorter than that.
func NativeBits(addr netip.Addr) int {
	if _, shift := Normalise(addr); shift != 0 || !addr.Is6() {
		return 0
	}
	b := addr.As16()
	return nativeBits(binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:]))
}

// nativeBits is the length of the longest prefix of a native IPv6 address that
// could still reach an address with an IPv4 address inside, plus one: no scope
// is shorter, so that none covers a normalised one.
func nativeBits(hi, lo uint64) int {
	return max(
		commonBits(hi, lo, 0, 0xffff<<32, shiftMapped),
		commonBits(hi, lo, 0x64ff9b<<32, 0, shiftNAT64),
		commonBits(hi, lo, 0x20010000<<32, 0, 32),
		commonBits(hi, lo, 0x2002<<48, 0, shift6to4),
	)
}
