package answer

import "math/bits"

// name is a name as it stands in a message, in whatever case, with its label
// boundaries. It is read where it is: a copy in lower case would cost more than all
// that is done with it.
type name struct {
	data   []byte // begins with the name; more may follow
	length int
	labels int
	starts [128]byte // of each label; the root has none
}

// suffix is the name from a label on, in the case that it came in.
func (n *name) suffix(label int) []byte { return n.data[n.start(label):n.length] }

// start is where a label begins; the root is behind the last.
func (n *name) start(label int) int {
	if label >= n.labels {
		return n.length - 1
	}
	return int(n.starts[label&127])
}

// set reads an uncompressed name from the front of data; ok is false for one that
// is not a name of at most 255 octets.
func (n *name) set(data []byte) (ok bool) {
	labels, at := 0, 0
	for at < len(data) {
		size := int(data[at])
		if size == 0 {
			n.data, n.labels, n.length = data, labels, at+1
			return true
		}
		next := at + 1 + size
		// 255 octets in all, the root's included; a pointer has no place here.
		if size > 63 || next > 254 {
			return false
		}
		n.starts[labels&127] = byte(at)
		labels++
		at = next
	}
	return false
}

// lowerWord brings eight octets to lower case at once. The length octets of a name
// are below 'A' and stay.
func lowerWord(x uint64) uint64 {
	const ones = 0x0101010101010101
	low := x &^ (0x80 * ones)
	// The top bit of an octet: it is at least 'A'; it is above 'Z'; it is ASCII.
	letter := (low + (0x80-'A')*ones) &^ (low + (0x80-'Z'-1)*ones) &^ x & (0x80 * ones)
	return x | letter>>2
}

// equalName tells whether a name, in any case, is one that is in lower case.
func equalName(lower, name []byte) bool {
	if len(lower) != len(name) {
		return false
	}
	n := len(name)
	if n < 8 {
		for i, c := range name {
			if lowerOctet(c) != lower[i] {
				return false
			}
		}
		return true
	}
	for i := 0; i+8 < n; i += 8 {
		if lowerWord(le64(name[i:i+8])) != le64(lower[i:i+8]) {
			return false
		}
	}
	return lowerWord(le64(name[n-8:])) == le64(lower[n-8:])
}

// The hash of a name is made from the root down, label by label, so that one walk
// along a name has the hashes of all that is above it. It stays inside a table and
// decides nothing but where to look.
const (
	hashRoot  = 0x9e3779b97f4a7c15
	hashWord  = 0xa0761d6478bd642f
	hashLabel = 0xe7037ed1a0b428db
)

func fold(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	return high ^ low
}

// below gives the hash of the name from a label on, from that of what is above it.
func (n *name) below(h uint64, label int) uint64 {
	at := int(n.starts[label&127])
	size := uint(n.data[at])
	at++
	h += uint64(size) * hashWord
	for ; size > 8; size -= 8 {
		h = fold(h^lowerWord(le64(n.data[at:at+8])), hashWord)
		at += 8
	}
	var last uint64
	if at+8 <= len(n.data) {
		last = le64(n.data[at:at+8]) & (1<<(8*size) - 1)
	} else {
		for i := range int(size) {
			last |= uint64(n.data[at+i]) << (8 * i)
		}
	}
	return fold(h^lowerWord(last), hashLabel)
}

// wildHash gives the hash of the wildcard below a name.
func wildHash(h uint64) uint64 { return fold((h+hashWord)^'*', hashLabel) }

// hash is that of the whole name.
func (n *name) hash() uint64 {
	h := uint64(hashRoot)
	for i := n.labels - 1; i >= 0; i-- {
		h = n.below(h, i)
	}
	return h
}
