package answer

import (
	"encoding/binary"

	"github.com/divertdns/divert/dnsserver/internal/records"
)

// wire packs a name, lower case, not compressed.
func wire(name string) ([]byte, error) { return records.Name(name) }

// show is the presentation form of a packed name, for messages.
func show(name string) string { return records.Show([]byte(name)) }

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
