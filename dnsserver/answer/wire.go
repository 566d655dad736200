package answer

import (
	"encoding/binary"
	"errors"
	"fmt"

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

// pack gives a record's owner, lower case, and the record ready to be sent: with a
// pointer to the question for its owner, and a TTL of at most maxTTL (C8).
func pack(rr dns.RR) (owner, record []byte, err error) {
	owner, err = wire(rr.Header().Name)
	if err != nil {
		return nil, nil, err
	}
	// Packing writes the length into the record's header, and records are shared
	// between compilations that run at once.
	rr = dns.Copy(rr)
	rr.Header().Name = "." // one octet, so that the rest is where it is
	rr.Header().Ttl = min(rr.Header().Ttl, maxTTL)
	// With the D bit in its type of relay (RFC 8777 section 4.2.3) the library would
	// leave the relay out.
	relay, ok := rr.(*dns.AMTRELAY)
	discover := ok && relay.GatewayType&relayDiscover != 0
	if discover {
		relay.GatewayType &^= relayDiscover
	}
	buf := make([]byte, 1, dns.Len(rr)+513)
	buf[0] = 0xc0
	buf = buf[:cap(buf)]
	n, err := dns.PackRR(rr, buf, 1, nil, false)
	if err != nil {
		return nil, nil, err
	}
	buf[1] = headerLen
	if n < recordHead || n-recordHead != int(be16(buf[recordSize:])) {
		return nil, nil, errors.New("it cannot be packed")
	}
	if discover {
		buf[recordHead+1] |= relayDiscover
	}
	return owner, buf[:n:n], nil
}

const relayDiscover = 0x80

// inside tells whether name is at or under origin, by label (C6).
func inside(name, origin []byte) bool {
	for len(name) > len(origin) {
		name = name[1+int(name[0]):]
	}
	return string(name) == string(origin)
}

// countLabels counts the labels of a packed name; the root has none.
func countLabels(name []byte) int {
	n := 0
	for name[0] != 0 {
		name = name[1+int(name[0]):]
		n++
	}
	return n
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
