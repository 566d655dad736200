package answer

import (
	"math/bits"

	"github.com/divertdns/divert/dnsserver/geo"
)

// private tells whether an address is of private use, which only its own network
// can make sense of, and cuts the address space along the edges of those blocks:
// edge is the length of the shortest prefix of it that lies in one block, or in none
// and, of native IPv6, holds no IPv4 address. No scope is shorter where the client
// matters at all, since inside and outside a block different rules hold.
func (a *address) private() (inside bool, edge int) {
	k := a.key128
	if !a.is4 {
		inside, edge = locate(k.high, 0xfc<<56, 7, inside, edge)    // RFC 4193
		inside, edge = locate(k.high, 0xfe80<<48, 10, inside, edge) // link-local
		return inside, max(edge, geo.NativeBits(a.inner()))
	}
	inside, edge = locate(k.high, 10<<56, 8, inside, edge) // RFC 1918
	inside, edge = locate(k.high, 172<<56|16<<48, 12, inside, edge)
	inside, edge = locate(k.high, 192<<56|168<<48, 16, inside, edge)
	inside, edge = locate(k.high, 127<<56, 8, inside, edge)          // loopback
	inside, edge = locate(k.high, 100<<56|64<<48, 10, inside, edge)  // RFC 6598
	inside, edge = locate(k.high, 169<<56|254<<48, 16, inside, edge) // link-local
	return inside, a.shift + edge
}

// locate adds one block, given by its leading bits, to what is known.
func locate(key, start uint64, length int, inside bool, edge int) (bool, int) {
	common := bits.LeadingZeros64(key ^ start)
	switch {
	case inside:
		return true, edge
	case common >= length:
		return true, length
	}
	return false, max(edge, common+1)
}
