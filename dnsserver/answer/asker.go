package answer

import (
	"encoding/binary"
	"net/netip"

	"github.com/divertdns/divert/dnsserver/geo"
)

// asker is who an answer is for.
type asker struct {
	resolver address // who sent the packet
	subnet   address // from the client-subnet option
	named    bool    // there is one
}

// address is an address as it is decided by: as a number, and where it holds an
// IPv4 address, as that. It is made of words, which cost nothing to hand on.
type address struct {
	key128
	is4   bool
	shift int // so many bits of the address as it came are before it
}

// key128 is an address as a number; one of IPv4 has the top 32 bits of it.
type key128 struct{ high, low uint64 }

func keyOf(addr netip.Addr) key128 {
	if addr.Is4() {
		b := addr.As4()
		return key128{high: uint64(be32(b[:])) << 32}
	}
	b := addr.As16()
	return key128{high: be64(b[:8]), low: be64(b[8:])}
}

// addressOf normalises; what is not valid is 0.0.0.0.
func addressOf(addr netip.Addr) address {
	switch {
	case addr.Is4():
		return address{key128: keyOf(addr), is4: true}
	case !addr.IsValid():
		return address{is4: true}
	}
	inner, shift := geo.Normalise(addr)
	return address{key128: keyOf(inner), is4: inner.Is4(), shift: shift}
}

// inner is the address that it is decided by.
func (a *address) inner() netip.Addr {
	if a.is4 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(a.high>>32))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.high)
	binary.BigEndian.PutUint64(b[8:], a.low)
	return netip.AddrFrom16(b)
}
