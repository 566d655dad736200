package answer

// store is names with what they have, in one block of octets: a million of them
// are two objects to the garbage collector, and what one look-up needs lies side by
// side. It is immutable once built.
//
// A name is written as its owner in wire format, then its header: flags, the
// number of its sets (2 octets), and where the flags say so an index (4): of its
// delegation in cuts, or of the steered name. Then its sets: type (2), number of
// records (2), their length (4), and the records, ready to be sent by one copy:
// a pointer to the question, type, class, TTL, length and RDATA, whose names are
// not compressed. Names come in the canonical order (RFC 4034 section 6.1).
type store struct {
	slots  []slot // open addressing; a power of two, never full
	octets []byte // the first is not used
	cuts   []cut
	names  int
	depth  int // labels of the longest
}

// slot is one place of the hash table.
type slot struct {
	tag uint32 // the upper half of the hash
	at  uint32 // where the owner is; 0 = free
}

// The flags of a name.
const (
	flagWild    = 1 << iota // a wildcard is right below
	flagCut                 // delegated
	flagDNAME               // has a DNAME
	flagCNAME               // has a CNAME
	flagSteered             // has addresses that depend on the client
	flagAlias               // of those: has a CNAME that does, whatever is asked
)

// node is a name that exists, if only because there is one below it. The zero node
// is none.
type node struct {
	store *store
	at    uint32 // where its header is
	flags byte
}

// rrset is all the records of a name and type, ready to be sent.
type rrset struct {
	rrtype uint16
	count  int
	data   []byte
}

// Lengths of what a ready record has before its RDATA, and where its parts are.
const (
	recordHead = 12
	recordTTL  = 6
	recordSize = 10
)

// find looks a name up by its hash.
func (s *store) find(h uint64, owner []byte) node {
	mask := uint64(len(s.slots) - 1)
	tag := uint32(h >> 32)
	for i := h & mask; i < uint64(len(s.slots)); i = (i + 1) & mask {
		slot := s.slots[i]
		if slot.at == 0 {
			return node{}
		}
		if slot.tag != tag {
			continue
		}
		at, end := int(slot.at), int(slot.at)+len(owner)
		if end < len(s.octets) && equalName(s.octets[at:end], owner) {
			return node{store: s, at: uint32(end), flags: s.octets[end]}
		}
	}
	return node{}
}

// wild looks up the wildcard below a name.
func (s *store) wild(h uint64, above []byte) node {
	mask := uint64(len(s.slots) - 1)
	h = wildHash(h)
	for i := h & mask; i < uint64(len(s.slots)); i = (i + 1) & mask {
		slot := s.slots[i]
		if slot.at == 0 {
			return node{}
		}
		if slot.tag != uint32(h>>32) {
			continue
		}
		name := s.octets[slot.at:]
		if len(name) > 2+len(above) && name[0] == 1 && name[1] == '*' && equalName(name[2:2+len(above)], above) {
			at := slot.at + 2 + uint32(len(above))
			return node{store: s, at: at, flags: s.octets[at]}
		}
	}
	return node{}
}

func (n node) ok() bool { return n.store != nil }

// index is that of the delegation or the steered name.
func (n node) index() int { return int(be32(n.store.octets[n.at+3:])) }

// sets is how many sets there are, and where they begin.
func (n node) sets() (count, at int) {
	at = int(n.at) + 3
	if n.flags&(flagCut|flagSteered) != 0 {
		at += 4
	}
	return int(be16(n.store.octets[n.at+1:])), at
}

func (n node) empty() bool {
	count, _ := n.sets()
	return count == 0 && n.flags&flagSteered == 0
}

// find gives the set of a type; ok is false where there is none.
func (n node) find(rrtype uint16) (set rrset, ok bool) {
	count, at := n.sets()
	octets := n.store.octets
	for range count {
		head := octets[at : at+8]
		size := int(be32(head[4:]))
		if be16(head) == rrtype {
			return rrset{rrtype: rrtype, count: int(be16(head[2:])), data: octets[at+8 : at+8+size]}, true
		}
		at += 8 + size
	}
	return rrset{}, false
}

// all gives every set.
func (n node) all(yield func(rrset) bool) {
	count, at := n.sets()
	octets := n.store.octets
	for range count {
		size := int(be32(octets[at+4:]))
		if !yield(rrset{rrtype: be16(octets[at:]), count: int(be16(octets[at+2:])), data: octets[at+8 : at+8+size]}) {
			return
		}
		at += 8 + size
	}
}

// end is where the next name begins.
func (n node) end() int {
	count, at := n.sets()
	for range count {
		at += 8 + int(be32(n.store.octets[at+4:]))
	}
	return at
}

// walk gives every name in canonical order.
func (s *store) walk(yield func(owner []byte, n node) bool) { s.walkFrom(0)(yield) }

// walkFrom gives every name from where one ends; 0 = from the first.
func (s *store) walkFrom(at int) func(func([]byte, node) bool) {
	return func(yield func([]byte, node) bool) {
		for at := max(at, 1); at < len(s.octets); {
			owner := s.octets[at : at+wireLen(s.octets[at:])]
			n := node{store: s, at: uint32(at + len(owner)), flags: s.octets[at+len(owner)]}
			if !yield(owner, n) {
				return
			}
			at = n.end()
		}
	}
}

// records gives the RDATA of each record.
func (s rrset) records(yield func(data []byte) bool) {
	for rest := s.data; len(rest) > 0; {
		end := recordHead + int(be16(rest[recordSize:]))
		if !yield(rest[recordHead:end]) {
			return
		}
		rest = rest[end:]
	}
}

// first is the RDATA of the first record.
func (s rrset) first() []byte { return s.data[recordHead : recordHead+int(be16(s.data[recordSize:]))] }

func (s rrset) ttl() uint32 { return be32(s.data[recordTTL:]) }

// wireLen is the length of the name that data begins with.
func wireLen(data []byte) int {
	at := 0
	for data[at] != 0 {
		at += 1 + int(data[at])
	}
	return at + 1
}

// builder makes a store. Names are added in canonical order, whatever is above
// them before them.
type builder struct {
	*store
	stack []placed // the last name and what is above it
	name  name
}

// placed is a name that was added.
type placed struct {
	owner string
	at    int // of its header
}

// add begins a name; its sets follow. Names above it that were not added come
// before it, with what lack gives them.
func (b *builder) add(owner, origin string, lack func(owner string) error) error {
	for len(b.stack) > 0 && !inside([]byte(owner), []byte(b.stack[len(b.stack)-1].owner)) {
		b.stack = b.stack[:len(b.stack)-1]
	}
	if len(owner) > len(origin) {
		up := owner[1+int(owner[0]):]
		if len(b.stack) == 0 || len(b.stack[len(b.stack)-1].owner) < len(up) {
			if err := lack(up); err != nil {
				return err
			}
		}
		if owner[0] == 1 && owner[1] == '*' && len(b.stack) > 0 {
			b.octets[b.stack[len(b.stack)-1].at] |= flagWild
		}
	}
	if !b.name.set([]byte(owner)) {
		return errTooLarge
	}
	if len(b.octets) > maxStore {
		return errTooLarge
	}
	b.put(b.name.hash(), uint32(len(b.octets)))
	b.depth = max(b.depth, b.name.labels)
	b.octets = append(b.octets, owner...)
	b.stack = append(b.stack, placed{owner: owner, at: len(b.octets)})
	return nil
}

// head writes a name's header.
func (b *builder) head(flags byte, sets, index int) {
	b.octets = append(b.octets, flags, byte(sets>>8), byte(sets))
	if flags&(flagCut|flagSteered) != 0 {
		b.octets = append(b.octets, byte(index>>24), byte(index>>16), byte(index>>8), byte(index))
	}
}

// newBuilder has room for so many names.
func newBuilder(names, octets int) *builder {
	size := 4
	for size < names*8/5 {
		size *= 2
	}
	s := &store{slots: make([]slot, size), octets: make([]byte, 1, 1+octets)}
	return &builder{store: s}
}

// put enters a name into the hash table, which grows as it fills.
func (b *builder) put(h uint64, at uint32) {
	if (b.names+1)*4 > len(b.slots)*3 {
		b.grow()
	}
	b.names++
	b.enter(h, at)
}

func (b *builder) enter(h uint64, at uint32) {
	mask := uint64(len(b.slots) - 1)
	i := h & mask
	for b.slots[i].at != 0 {
		i = (i + 1) & mask
	}
	b.slots[i] = slot{tag: uint32(h >> 32), at: at}
}

func (b *builder) grow() {
	old := b.slots
	b.slots = make([]slot, 2*len(old))
	var n name
	for _, s := range old {
		if s.at != 0 && n.set(b.octets[s.at:]) {
			b.enter(n.hash(), s.at)
		}
	}
}
