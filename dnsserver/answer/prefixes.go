package answer

import "net/netip"

// prefixTree finds the longest configured prefix that holds an address, and how
// far around the address that stays so. One tree holds one family.
type prefixTree struct {
	nodes []prefixNode // the first is the root; none = an empty tree
}

type prefixNode struct {
	child [2]int32 // 0 = none
	value int32    // index of a prefix, plus one; 0 = none
}

// add notes a prefix. Of two that are the same once normalised (192.0.2.0/24 and
// ::ffff:192.0.2.0/120) the first counts.
func (t *prefixTree) add(p netip.Prefix, value int32) {
	if len(t.nodes) == 0 {
		t.nodes = append(t.nodes, prefixNode{})
	}
	octets := p.Addr().As16()
	from := 0
	if p.Addr().Is4() {
		from = 96
	}
	at := int32(0)
	for i := from; i < from+p.Bits(); i++ {
		bit := octets[i/8] >> (7 - i%8) & 1
		if t.nodes[at].child[bit] == 0 {
			t.nodes[at].child[bit] = int32(len(t.nodes))
			t.nodes = append(t.nodes, prefixNode{})
		}
		at = t.nodes[at].child[bit]
	}
	if t.nodes[at].value == 0 {
		t.nodes[at].value = value + 1
	}
}

// find gives the index of the longest prefix that holds addr, -1 for none, and
// the length of the shortest prefix of addr in which that is so for all
// addresses: no configured prefix lies inside it. Those prefixes are a partition,
// which is what keeps the scopes of RFC 7871 from overlapping.
func (t *prefixTree) find(addr netip.Addr) (value, depth int) {
	value = -1
	if len(t.nodes) == 0 {
		return value, 0
	}
	octets := addr.As16()
	from, end := 0, 128
	if addr.Is4() {
		from = 96
	}
	node := &t.nodes[0]
	for i := from; ; i++ {
		if node.value != 0 {
			value = int(node.value) - 1
		}
		if i == end || node.child == [2]int32{} {
			return value, depth
		}
		next := node.child[octets[i/8]>>(7-i%8)&1]
		depth++
		if next == 0 {
			return value, depth
		}
		node = &t.nodes[next]
	}
}
