package answer

import (
	"cmp"
	"math/bits"
	"net/netip"
	"slices"
)

// prefixTable finds the longest configured prefix that holds an address, and how
// far around the address that stays so. It holds one family: all addresses, cut at
// the ends of every prefix into ranges, each with the prefix that counts in it.
type prefixTable struct {
	width  int
	starts []key128 // of the ranges, ascending, the first 0; none = no prefix
	values []int32  // indices of prefixes, -1 = none
	index  []uint16 // by the first octet: the range that holds its first address
}

// prefixed is a configured prefix, and its index.
type prefixed struct {
	prefix netip.Prefix
	value  int32
}

func (k key128) compare(other key128) int {
	return cmp.Or(cmp.Compare(k.high, other.high), cmp.Compare(k.low, other.low))
}

// common counts the leading bits that two have in common.
func (k key128) common(other key128) int {
	if n := bits.LeadingZeros64(k.high ^ other.high); n < 64 {
		return n
	}
	return 64 + bits.LeadingZeros64(k.low^other.low)
}

// after gives the first address behind a prefix; ok is false behind the last.
func after(k key128, length int) (next key128, ok bool) {
	if length == 0 {
		return key128{}, false
	}
	if length <= 64 {
		next.high = k.high + 1<<(64-length)
		return next, next.high != 0
	}
	low, carry := bits.Add64(k.low, 1<<(128-length), 0)
	high, over := bits.Add64(k.high, 0, carry)
	return key128{high: high, low: low}, over == 0
}

// newPrefixTable sorts prefixes into ranges. Of two that are the same once
// normalised (192.0.2.0/24 and ::ffff:192.0.2.0/120) the first counts.
func newPrefixTable(prefixes []prefixed, width int) prefixTable {
	t := prefixTable{width: width}
	if len(prefixes) == 0 {
		return t
	}
	slices.SortStableFunc(prefixes, func(a, b prefixed) int {
		return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()))
	})
	prefixes = slices.CompactFunc(prefixes, func(a, b prefixed) bool { return a.prefix == b.prefix })
	t.starts, t.values = append(t.starts, key128{}), append(t.values, -1)
	type level struct {
		end   key128
		ended bool
		value int32
	}
	var stack []level // the prefixes around where it stands
	begin := func(at key128, value int32) {
		if last := len(t.starts) - 1; t.starts[last] == at {
			t.values[last] = value
			return
		}
		t.starts, t.values = append(t.starts, at), append(t.values, value)
	}
	pop := func() {
		top := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if !top.ended {
			return
		}
		value := int32(-1)
		if len(stack) > 0 {
			value = stack[len(stack)-1].value
		}
		begin(top.end, value)
	}
	for _, p := range prefixes {
		at := keyOf(p.prefix.Addr())
		for len(stack) > 0 && stack[len(stack)-1].ended && stack[len(stack)-1].end.compare(at) <= 0 {
			pop()
		}
		begin(at, p.value)
		end, ended := after(at, p.prefix.Bits())
		stack = append(stack, level{end: end, ended: ended, value: p.value})
	}
	for len(stack) > 0 {
		pop()
	}
	if len(t.starts) <= 1<<16 {
		t.index = make([]uint16, 257)
		r := 0
		for octet := range 256 {
			for r+1 < len(t.starts) && t.starts[r+1].compare(key128{high: uint64(octet) << 56}) <= 0 {
				r++
			}
			t.index[octet] = uint16(r)
		}
		t.index[256] = uint16(len(t.starts) - 1)
	}
	return t
}

// find gives the index of the longest prefix that holds an address, -1 for none,
// and the range that it was found in.
func (t *prefixTable) find(k key128) (value int32, at int) {
	if len(t.starts) == 0 {
		return -1, 0
	}
	low, high := 0, len(t.starts)
	if t.index != nil {
		low, high = int(t.index[k.high>>56]), int(t.index[k.high>>56+1])+1
	}
	for low+1 < high {
		mid := int(uint(low+high) / 2)
		if s := &t.starts[mid]; s.high < k.high || s.high == k.high && s.low <= k.low {
			low = mid
		} else {
			high = mid
		}
	}
	return t.values[low], low
}

// depth is the length of the shortest prefix of an address that lies within its
// range: no configured prefix begins or ends inside it. Those prefixes are a
// partition, which is what keeps the scopes of RFC 7871 from overlapping.
func (t *prefixTable) depth(k key128, at int) int {
	depth := 0
	if at > 0 {
		s := t.starts[at]
		low, borrow := bits.Sub64(s.low, 1, 0)
		high, _ := bits.Sub64(s.high, 0, borrow)
		depth = k.common(key128{high: high, low: low}) + 1
	}
	if at+1 < len(t.starts) {
		depth = max(depth, k.common(t.starts[at+1])+1)
	}
	return min(depth, t.width)
}
