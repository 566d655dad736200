package records

import (
	"encoding/binary"
	"errors"

	"github.com/miekg/dns"
)

// packer packs records one after another.
type packer struct{ scratch []byte }

// pack gives a record ready to be sent: with a pointer to the question for its
// owner, and a TTL of at most MaxTTL. What it gives is good until the next call.
func (p *packer) pack(rr dns.RR) ([]byte, error) {
	h := rr.Header()
	switch rr := rr.(type) {
	case *dns.A:
		if addr := rr.A.To4(); addr != nil {
			return p.address(h, addr), nil
		}
	case *dns.AAAA:
		if len(rr.AAAA) == 16 {
			return p.address(h, rr.AAAA), nil
		}
	}
	// Packing writes the length into the record's header, and records may be shared
	// between compilations that run at once.
	rr = dns.Copy(rr)
	rr.Header().Name, rr.Header().Ttl = ".", min(h.Ttl, MaxTTL) // one octet, so that the rest is where it is
	// With the D bit in its type of relay (RFC 8777 section 4.2.3) the library would
	// leave the relay out.
	relay, ok := rr.(*dns.AMTRELAY)
	discover := ok && relay.GatewayType&relayDiscover != 0
	if discover {
		relay.GatewayType &^= relayDiscover
	}
	room := p.room(dns.Len(rr) + 513)
	clear(room) // bitmaps are written by OR
	n, err := dns.PackRR(rr, room, 1, nil, false)
	if err != nil {
		return nil, err
	}
	ready := room[:n]
	ready[0], ready[1] = 0xc0, 12 // behind the header
	if n < Head || n-Head != int(binary.BigEndian.Uint16(ready[lengthAt:])) {
		return nil, errors.New("it cannot be packed")
	}
	if discover {
		ready[Head+1] |= relayDiscover
	}
	return ready, nil
}

const relayDiscover = 0x80

func (p *packer) address(h *dns.RR_Header, addr []byte) []byte {
	b := p.room(Head + len(addr))
	b[0], b[1] = 0xc0, 12
	binary.BigEndian.PutUint16(b[typeAt:], h.Rrtype)
	binary.BigEndian.PutUint16(b[typeAt+2:], dns.ClassINET)
	binary.BigEndian.PutUint32(b[ttlAt:], min(h.Ttl, MaxTTL))
	binary.BigEndian.PutUint16(b[lengthAt:], uint16(len(addr)))
	copy(b[Head:], addr)
	return b
}

func (p *packer) room(n int) []byte {
	if len(p.scratch) < n {
		p.scratch = make([]byte, 2*n)
	}
	return p.scratch[:n]
}
