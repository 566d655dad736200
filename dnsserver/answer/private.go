package answer

import (
	"math/bits"
	"net/netip"

	"github.com/divertdns/divert/dnsserver/geo"
)

// block is a range of addresses of private use, by its leading bits. What they
// mean only their own network knows.
type block struct {
	start  uint64
	length int
}

// private tells whether addr is of private use, and cuts the address space along
// the edges of those blocks: edge is the length of the shortest prefix of addr
// that lies in one block, or in none and, of native IPv6, holds no IPv4 address.
// No scope is shorter where the client matters at all, since inside and outside a
// block different rules hold.
func private(addr netip.Addr) (inside bool, edge int) {
	inner, shift := geo.Normalise(addr)
	if inner.Is4() {
		b := inner.As4()
		inside, edge = locate(uint64(be32(b[:]))<<32,
			block{10 << 56, 8}, block{127 << 56, 8}, block{172<<56 | 16<<48, 12}, block{192<<56 | 168<<48, 16}, // RFC 1918, loopback
			block{100<<56 | 64<<48, 10},  // RFC 6598
			block{169<<56 | 254<<48, 16}) // link-local
		return inside, shift + edge
	}
	b := inner.As16()
	key := uint64(be32(b[:]))<<32 | uint64(be32(b[4:]))
	inside, edge = locate(key, block{0xfc << 56, 7}, block{0xfe80 << 48, 10}) // RFC 4193, link-local
	return inside, max(edge, geo.NativeBits(addr))
}

func locate(key uint64, blocks ...block) (inside bool, edge int) {
	for _, b := range blocks {
		common := bits.LeadingZeros64(key ^ b.start)
		if common >= b.length {
			return true, b.length
		}
		edge = max(edge, common+1)
	}
	return false, edge
}
