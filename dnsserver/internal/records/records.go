// Package records owns the records of a zone on their way from its text to its table:
// packed, in few objects, since a zone may have a million. It never judges them.
package records

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/miekg/dns"
)

// Lengths of what a ready record has before its RDATA, and where its parts are: a
// pointer to the question, type, class, TTL, length.
const (
	Head     = 12
	typeAt   = 2
	ttlAt    = 6
	lengthAt = 10
)

// MaxTTL is the highest that is served, seconds (C8).
const MaxTTL = 7 * 24 * 60 * 60

// ErrTooMany says that a List is full.
var ErrTooMany = errors.New("it has more records than a table can hold")

// List is records, each with its owner as a key (see Key) and ready to be sent by one
// copy. It has one writer; once it is sorted and shared, none. The zero List is empty.
type List struct {
	blocks  [][]byte // keys, each followed by its record
	records []record
	sorted  bool
	packer  packer
}

// record is where one lies. A million are twelve million octets, without a pointer.
type record struct {
	at     uint32 // the block, and the key's place in it
	line   int32
	keyLen uint16
	rrtype uint16
}

const (
	blockBits = 20
	blockSize = 1 << blockBits
	maxBlocks = 1 << (32 - blockBits)
)

// New makes a List with room for so many records, which may be more.
func New(room int) *List { return &List{records: make([]record, 0, room)} }

// Add packs a record of class IN, whose owner is key (see AppendKey); line is where it
// was written. With an error the List is as it was.
func (l *List) Add(key []byte, rr dns.RR, line int) error {
	ready, err := l.packer.pack(rr)
	if err != nil {
		return err
	}
	at, room := l.room(len(key) + len(ready))
	if room == nil {
		return ErrTooMany
	}
	copy(room[copy(room, key):], ready)
	l.records = append(l.records, record{at: at, line: int32(line), keyLen: uint16(len(key)), rrtype: rr.Header().Rrtype})
	l.sorted = false
	return nil
}

// room gives a place for so many octets, nil where there is none. A block is never
// moved: growing one great slice would hold it twice for a while.
func (l *List) room(n int) (at uint32, to []byte) {
	last := len(l.blocks) - 1
	if last < 0 || cap(l.blocks[last])-len(l.blocks[last]) < n {
		if len(l.blocks) == maxBlocks || n > blockSize {
			return 0, nil
		}
		size := 64 * cap(l.records) // a small zone has small blocks
		if last >= 0 {
			size = 2 * cap(l.blocks[last])
		}
		size = max(n, min(size, blockSize))
		l.blocks = append(l.blocks, make([]byte, 0, size))
		last++
	}
	b := l.blocks[last]
	l.blocks[last] = b[:len(b)+n]
	return uint32(last)<<blockBits | uint32(len(b)), l.blocks[last][len(b):]
}

// Len is how many there are.
func (l *List) Len() int { return len(l.records) }

// Octets is about how many all records and keys have.
func (l *List) Octets() (n int) {
	for _, b := range l.blocks {
		n += len(b)
	}
	return n
}

// Key gives the owner of a record as AppendKey writes it.
func (l *List) Key(i int) []byte {
	r := &l.records[i]
	b := l.blocks[r.at>>blockBits]
	at := int(r.at & (blockSize - 1))
	return b[at : at+int(r.keyLen)]
}

// Data gives a record ready to be sent. It must not be written to.
func (l *List) Data(i int) []byte {
	r := &l.records[i]
	b := l.blocks[r.at>>blockBits][int(r.at&(blockSize-1))+int(r.keyLen):]
	n := Head + int(binary.BigEndian.Uint16(b[lengthAt:]))
	return b[:n:n]
}

// RDATA gives a record's data alone.
func (l *List) RDATA(i int) []byte { return l.Data(i)[Head:] }

// TTL gives a record's TTL, seconds.
func (l *List) TTL(i int) uint32 { return binary.BigEndian.Uint32(l.Data(i)[ttlAt:]) }

// Type gives a record's type.
func (l *List) Type(i int) uint16 { return l.records[i].rrtype }

// Line gives the line that a record was written in; 0 = it was not.
func (l *List) Line(i int) int { return int(l.records[i].line) }

// Sort puts the owners into canonical order (RFC 4034 section 6.1); the records of
// each stay in the order in which they were added.
func (l *List) Sort() {
	if l.sorted {
		return
	}
	compare := func(a, b record) int {
		return cmp.Or(bytes.Compare(l.keyOf(a), l.keyOf(b)), cmp.Compare(a.at, b.at))
	}
	if !slices.IsSortedFunc(l.records, compare) {
		slices.SortFunc(l.records, compare)
	}
	l.sorted = true
}

func (l *List) keyOf(r record) []byte {
	at := int(r.at & (blockSize - 1))
	return l.blocks[r.at>>blockBits][at : at+int(r.keyLen)]
}

// Owners gives the records of each owner, from first up to end, of a sorted List.
func (l *List) Owners(yield func(first, end int) bool) {
	for first := 0; first < len(l.records); {
		end := l.end(first)
		if !yield(first, end) {
			return
		}
		first = end
	}
}

// end is where the records of another owner begin.
func (l *List) end(first int) int {
	key := l.Key(first)
	end := first + 1
	for end < len(l.records) && bytes.Equal(l.Key(end), key) {
		end++
	}
	return end
}

// Find gives the records of an owner in a sorted List; first is end where there are
// none.
func (l *List) Find(key []byte) (first, end int) {
	first, found := slices.BinarySearchFunc(l.records, key, func(r record, key []byte) int { return bytes.Compare(l.keyOf(r), key) })
	if !found {
		return first, first
	}
	return first, l.end(first)
}

// RRs unpacks all, for who wants few of them.
func (l *List) RRs() ([]dns.RR, error) {
	out := make([]dns.RR, 0, len(l.records))
	for i := range l.records {
		message := append(NameOfKey(nil, l.Key(i)), l.Data(i)[typeAt:]...)
		rr, _, err := dns.UnpackRR(message, 0)
		if err != nil {
			return nil, err
		}
		out = append(out, rr)
	}
	return out, nil
}
