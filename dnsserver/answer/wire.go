package answer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/miekg/dns"
)

// wire packs a name, lower case, not compressed.
func wire(name string) ([]byte, error) {
	buf := make([]byte, 256)
	if _, ok := dns.IsDomainName(name); !ok || name == "" {
		return nil, fmt.Errorf("%q is not a domain name", name)
	}
	n, err := dns.PackDomainName(dns.Fqdn(name), buf, 0, nil, false)
	if err != nil {
		return nil, fmt.Errorf("%q is not a domain name: %w", name, err)
	}
	return lower(buf[:n]), nil // not the text: a letter may be written as its number
}

// show is the presentation form of a packed name, for messages.
func show(name string) string {
	text, _, err := dns.UnpackDomainName([]byte(name), 0)
	if err != nil {
		return fmt.Sprintf("%q", name)
	}
	return text
}

// appendName appends a name in wire format, lower case. Most names are of letters,
// digits and hyphens, and need no parser.
func appendName(b []byte, name string) ([]byte, error) {
	from := len(b)
	b = append(b, 0)
	start := from // of the label
	for i := range len(name) {
		c := lowerOctet(name[i])
		switch {
		case c == '.' && len(b)-start > 1 && len(b)-start <= 64:
			b[start] = byte(len(b) - start - 1)
			start = len(b)
			b = append(b, 0)
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '*':
			b = append(b, c)
		default:
			return appendOddName(b[:from], name)
		}
	}
	if len(b)-start > 1 || len(b)-from > 255 || len(name) == 0 {
		return appendOddName(b[:from], name)
	}
	return b, nil
}

func appendOddName(b []byte, name string) ([]byte, error) {
	packed, err := wire(name)
	return append(b, packed...), err
}

// pack appends a record ready to be sent: with a pointer to the question for its
// owner, and a TTL of at most maxTTL (C8).
func (g *gathered) pack(b []byte, rr dns.RR) ([]byte, error) {
	h := rr.Header()
	ttl := min(h.Ttl, maxTTL)
	switch rr := rr.(type) {
	case *dns.A:
		if addr := rr.A.To4(); addr != nil {
			return appendAddress(b, netip.AddrFrom4([4]byte(addr)), ttl), nil
		}
	case *dns.AAAA:
		if len(rr.AAAA) == 16 {
			return appendAddress(b, netip.AddrFrom16([16]byte(rr.AAAA)), ttl), nil
		}
	}
	// Packing writes the length into the record's header, and records are shared
	// between compilations that run at once.
	rr = dns.Copy(rr)
	rr.Header().Name, rr.Header().Ttl = ".", ttl // one octet, so that the rest is where it is
	// With the D bit in its type of relay (RFC 8777 section 4.2.3) the library would
	// leave the relay out.
	relay, ok := rr.(*dns.AMTRELAY)
	discover := ok && relay.GatewayType&relayDiscover != 0
	if discover {
		relay.GatewayType &^= relayDiscover
	}
	room := dns.Len(rr) + 513
	if len(g.scratch) < room {
		g.scratch = make([]byte, 2*room)
	}
	clear(g.scratch[:room]) // bitmaps are written by OR
	n, err := dns.PackRR(rr, g.scratch[:room], 1, nil, false)
	if err != nil {
		return b, err
	}
	record := g.scratch[:n]
	record[0], record[1] = 0xc0, headerLen
	if n < recordHead || n-recordHead != int(be16(record[recordSize:])) {
		return b, errors.New("it cannot be packed")
	}
	if discover {
		record[recordHead+1] |= relayDiscover
	}
	return append(b, record...), nil
}

const relayDiscover = 0x80

// inside tells whether name is at or under origin, by label (C6).
func inside(name, origin []byte) bool {
	for len(name) > len(origin) {
		name = name[1+int(name[0]):]
	}
	return string(name) == string(origin)
}

// lower copies a packed name in lower case. The length octets are below 'A'.
func lower(name []byte) []byte {
	out := make([]byte, len(name))
	for i, c := range name {
		out[i] = lowerOctet(c)
	}
	return out
}

func lowerOctet(c byte) byte {
	if c-'A' < 26 {
		return c + 'a' - 'A'
	}
	return c
}

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
func be64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

func putLE64(b []byte, v uint64) { binary.LittleEndian.PutUint64(b, v) }

func put16(b []byte, v uint16) { binary.BigEndian.PutUint16(b, v) }
func put32(b []byte, v uint32) { binary.BigEndian.PutUint32(b, v) }
