package crashfs

import (
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
)

// sector is what a disk writes whole, when it is kind.
const sector = 512

// node is a file or a folder: as processes see it, as the disk holds it, and what lies
// between the two.
type node struct {
	mode fs.FileMode

	data   []byte // as seen
	disk   []byte
	writes []write

	names map[string]*node // as seen; nil: a file
	kept  map[string]*node
	moves []move
}

// write is one to a file.
type write struct {
	at   int
	data []byte
	size int // where data is nil: it was truncated to that
}

// move is one of names in a folder: to names node now, and from names nothing. It is
// done or not, as rename(2) is.
type move struct {
	from, to string
	node     *node
}

func newNode(mode fs.FileMode) *node {
	n := &node{mode: mode}
	if mode.IsDir() {
		n.names, n.kept = map[string]*node{}, map[string]*node{}
	}
	return n
}

func (n *node) sorted() []string { return slices.Sorted(maps.Keys(n.names)) }

func (m move) in(names map[string]*node) {
	if m.from != "" {
		delete(names, m.from)
	}
	if m.node != nil {
		names[m.to] = m.node
	}
}

func (n *node) change(m move) {
	n.moves = append(n.moves, m)
	m.in(n.names)
}

func (n *node) write(at int, p []byte) {
	w := write{at: at, data: append([]byte{}, p...)}
	n.writes = append(n.writes, w)
	n.data = overlay(n.data, at, p)
}

func (n *node) truncate(size int) {
	n.writes = append(n.writes, write{size: size})
	n.data = resize(n.data, size)
}

func resize(data []byte, size int) []byte {
	if size <= len(data) {
		return slices.Clone(data[:size])
	}
	return append(slices.Clone(data), make([]byte, size-len(data))...)
}

func overlay(data []byte, at int, p []byte) []byte {
	data = resize(data, max(len(data), at+len(p)))
	copy(data[at:], p)
	return data
}

// sync has the disk do all that is left to do, which after a drop is not all that was
// written.
func (n *node) sync() {
	for _, w := range n.writes {
		n.disk = w.on(n.disk, len(w.data))
	}
	for _, m := range n.moves {
		m.in(n.kept)
	}
	n.writes, n.moves = nil, nil
}

// drop is a sync that was refused: what reached the disk is drawn, and nobody tries
// the rest again. Processes go on seeing what they wrote.
func (n *node) drop(rng *rand.Rand) {
	n.disk = n.survivors(rng)
	n.writes = nil
	n.keepSome(rng)
}

// lose is a crash of the machine.
func (n *node) lose(rng *rand.Rand) {
	n.disk = n.survivors(rng)
	n.data, n.writes = slices.Clone(n.disk), nil
	if n.names == nil {
		return
	}
	n.keepSome(rng)
	n.names = maps.Clone(n.kept)
	seen := map[*node]bool{}
	for _, base := range n.sorted() { // a file with two names is lost once
		if child := n.names[base]; !seen[child] {
			seen[child] = true
			child.lose(rng)
		}
	}
}

// keepSome draws which moves reached the disk, each by itself.
func (n *node) keepSome(rng *rand.Rand) {
	often := rng.IntN(4) // of 3: none, some, most, all
	for _, m := range n.moves {
		if rng.IntN(3) < often {
			m.in(n.kept)
		}
	}
	n.moves = nil
}

// survivors draws what a file has of its writes: all, nothing, those up to an octet, or
// any sectors of any of them. Of what was never written where the file grew, the disk
// has what lay there before.
func (n *node) survivors(rng *rand.Rand) []byte {
	out := n.disk
	switch rng.IntN(4) {
	case 0:
		return slices.Clone(out)
	case 1:
		for _, w := range n.writes {
			out = w.on(out, len(w.data))
		}
	case 2:
		all := 0
		for _, w := range n.writes {
			all += max(len(w.data), 1)
		}
		left := rng.IntN(all + 1)
		for _, w := range n.writes {
			if left <= 0 {
				break
			}
			out = w.on(out, min(left, len(w.data)))
			left -= max(len(w.data), 1)
		}
	case 3:
		if before := len(out); before < len(n.data) && rng.IntN(2) == 0 {
			out = resize(out, len(n.data)) // the length is there, and nothing else
			litter(rng, out, before, len(out))
		}
		for _, w := range n.writes {
			if w.data == nil {
				if rng.IntN(2) == 0 {
					out = resize(out, w.size)
				}
				continue
			}
			for from := 0; from < len(w.data); {
				to := min((w.at+from)/sector*sector+sector-w.at, len(w.data))
				if rng.IntN(2) == 0 {
					before := len(out)
					out = overlay(out, w.at+from, w.data[from:to])
					litter(rng, out, before, w.at+from)
				}
				from = to
			}
		}
	}
	return slices.Clone(out)
}

func (w write) on(data []byte, n int) []byte {
	if w.data == nil {
		return resize(data, w.size)
	}
	return overlay(data, w.at, w.data[:n])
}

// litter fills a hole with zeros or with what was there before.
func litter(rng *rand.Rand, data []byte, from, to int) {
	if from < to && rng.IntN(2) == 0 {
		for i := from; i < to; i++ {
			data[i] = byte(rng.Uint32())
		}
	}
}
