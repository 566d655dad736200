package geo

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net/netip"
	"slices"
	"time"
)

// Table is the country table, about 6 MB, or what was read of a database. It is
// immutable.
type Table struct {
	origin  Origin
	places  []Place
	v4      []uint32 // where ranges start, ascending; the first is 0
	v4place []uint16
	v4index []uint32 // of a /16: the range that holds its first address
	v6      []uint64 // likewise, of the first 64 bits
	v6place []uint16
}

// Origin is where a table's data come from. Directors that show the same hash
// place all clients alike.
type Origin struct {
	Name  string    // "country table", or a database's type, such as "GeoLite2-City"
	Built time.Time // of a database; the zero time of the country table
	Hash  string    // of the data, in hexadecimal
	// Step is the width in degrees of the cells that a database's coordinates are
	// rounded to; 0 of the country table, which knows countries only.
	Step float64
	// Found is how many places the database tells apart, before they were rounded;
	// 0 of the country table.
	Found int
}

func (o Origin) String() string {
	if o.Built.IsZero() {
		return o.Name + ", " + o.Hash
	}
	return o.Name + " of " + o.Built.UTC().Format(time.DateOnly) + ", " + o.Hash
}

// Default unpacks the table in the binary, which takes some ten milliseconds:
// keep what it gives. It panics if the data is damaged, which only a faulty build
// can cause.
func Default() *Table {
	t, err := decode(rangesData, Countries())
	if err != nil {
		panic(fmt.Sprintf("geo: ranges.bin: %v", err))
	}
	return t
}

// DefaultHash is Origin.Hash of Default.
func DefaultHash() string { return hashOf(rangesData) }

func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

// Places lists the places that Lookup gives by index. The first is the unknown
// place; the next are the countries, by code. The caller must not change it.
func (t *Table) Places() []Place { return t.places }

// Origin tells where the data come from.
func (t *Table) Origin() Origin { return t.origin }

// Ranges counts the ranges of addresses of each family.
func (t *Table) Ranges() (v4, v6 int) { return len(t.v4), len(t.v6) }

// Lookup finds the place of addr, by its inner IPv4 address where it has one (see
// Normalise), and the leaf: the length of the longest-reaching aligned prefix
// of addr, in addr's own family, of which every address is in that range and so
// has that place. Leaves never overlap. An invalid address is unknown, leaf 0.
func (t *Table) Lookup(addr netip.Addr) (place uint16, leaf int) {
	if !addr.IsValid() {
		return 0, 0
	}
	inner, shift := Normalise(addr)
	if inner.Is4() {
		b := inner.As4()
		place, leaf = t.lookup4(binary.BigEndian.Uint32(b[:]))
		return place, shift + leaf
	}
	b := inner.As16()
	return t.lookup6(binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:]))
}

func (t *Table) lookup4(key uint32) (place uint16, leaf int) {
	// The range is between the one that holds the /16's first address and the one
	// that holds the next /16's.
	low, high := t.v4index[key>>16], uint32(len(t.v4))
	if key>>16 < 0xffff {
		high = t.v4index[key>>16+1] + 1
	}
	for low+1 < high {
		mid := (low + high) / 2
		if t.v4[mid] <= key {
			low = mid
		} else {
			high = mid
		}
	}
	last := ^uint32(0)
	if int(low)+1 < len(t.v4) {
		last = t.v4[low+1] - 1
	}
	return t.v4place[low], leaf64(uint64(key), uint64(t.v4[low]), uint64(last), 32)
}

func (t *Table) lookup6(hi, lo uint64) (place uint16, leaf int) {
	low, high := 0, len(t.v6)
	for low+1 < high {
		mid := int(uint(low+high) / 2)
		if t.v6[mid] <= hi {
			low = mid
		} else {
			high = mid
		}
	}
	last := ^uint64(0)
	if low+1 < len(t.v6) {
		last = t.v6[low+1] - 1
	}
	leaf = leaf64(hi, t.v6[low], last, 64)
	return t.v6place[low], max(leaf, nativeBits(hi, lo))
}

// leaf64 is the length of the largest aligned block around key inside first to
// last: it must differ in its prefix from the addresses just outside.
func leaf64(key, first, last uint64, width int) int {
	common := func(other uint64) int { return bits.LeadingZeros64(key^other) - (64 - width) }
	leaf := 0
	if first > 0 {
		leaf = common(first-1) + 1
	}
	if last < 1<<(width-1)<<1-1 {
		leaf = max(leaf, common(last+1)+1)
	}
	return leaf
}

// commonBits counts the leading bits shared with a block of the given length,
// plus one; 0 inside the block, where the question does not arise.
func commonBits(hi, lo, blockHi, blockLo uint64, length int) int {
	n := bits.LeadingZeros64(hi ^ blockHi)
	if n == 64 {
		n += bits.LeadingZeros64(lo ^ blockLo)
	}
	if n >= length {
		return 0
	}
	return n + 1
}

// decode reads what internal/gen wrote, deflated: the version and the names of
// the countries, then for each family the number of ranges, the distances from
// start to start (IPv4 in units of a /24, IPv6 in units of a /64) and one octet of
// country each, 0 for none.
func decode(data []byte, countries []Place) (*Table, error) {
	body, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(data)), 16<<20))
	if err != nil {
		return nil, err
	}
	r := &reader{data: body}
	t := &Table{origin: Origin{Name: "country table " + string(r.take(int(r.octet()))), Hash: hashOf(data)}}
	t.places = append([]Place{{}}, countries...)
	names := r.take(2 * int(r.octet()))
	index := make([]uint16, 1, 1+len(names)/2)
	for i := 0; i < len(names); i += 2 {
		place := slices.IndexFunc(t.places, func(p Place) bool { return p.Country == string(names[i:i+2]) })
		if place < 0 {
			return nil, fmt.Errorf("country %q is not in the table of countries", names[i:i+2])
		}
		index = append(index, uint16(place))
	}
	t.v4 = make([]uint32, r.count())
	readStarts(r, t.v4, 8)
	t.v4place = readPlaces(r, len(t.v4), index)
	t.v6 = make([]uint64, r.count())
	readStarts(r, t.v6, 0)
	t.v6place = readPlaces(r, len(t.v6), index)
	switch {
	case r.err != nil:
		return nil, r.err
	case len(t.v4) == 0 || t.v4[0] != 0 || !slices.IsSorted(t.v4):
		return nil, errors.New("the IPv4 ranges do not cover all addresses in order")
	case len(t.v6) == 0 || t.v6[0] != 0 || !slices.IsSorted(t.v6):
		return nil, errors.New("the IPv6 ranges do not cover all addresses in order")
	}
	t.index()
	return t, nil
}

// index notes for each /16 the range that holds its first address.
func (t *Table) index() {
	t.v4index = make([]uint32, 1<<16)
	at := uint32(0)
	for block := range uint32(1 << 16) {
		for int(at)+1 < len(t.v4) && t.v4[at+1] <= block<<16 {
			at++
		}
		t.v4index[block] = at
	}
}

func readStarts[T uint32 | uint64](r *reader, starts []T, shift uint) {
	last := uint64(0)
	for i := range starts {
		last += r.uvarint() << shift
		starts[i] = T(last)
	}
}

func readPlaces(r *reader, n int, index []uint16) []uint16 {
	read := r.take(n)
	out := make([]uint16, len(read))
	for i, place := range read {
		if int(place) >= len(index) {
			r.fail()
			return nil
		}
		out[i] = index[place]
	}
	return out
}

// reader keeps the first error, so that decode asks once.
type reader struct {
	data []byte
	err  error
}

func (r *reader) fail() {
	r.data, r.err = nil, io.ErrUnexpectedEOF
}

func (r *reader) take(n int) []byte {
	if n > len(r.data) {
		r.fail()
		return nil
	}
	out := r.data[:n]
	r.data = r.data[n:]
	return out
}

func (r *reader) octet() byte {
	b := r.take(1)
	if len(b) == 0 {
		return 0
	}
	return b[0]
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.data)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.data = r.data[n:]
	return v
}

// count reads a number of items, each of which takes two octets or more.
func (r *reader) count() int {
	n := r.uvarint()
	if n > uint64(len(r.data)) {
		r.fail()
		return 0
	}
	return int(n)
}
