package audit

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// TileWidth is how many records a tile has.
const (
	TileWidth  = 1 << tileHeight
	tileHeight = 8
)

// Tree is the shape of a log: the roots of its full tiles, what stands above them, and
// the hashes of the records that fill no tile yet. So it takes half an octet a record or
// less; the hashes within a tile are read again where a proof wants them.
//
// The zero Tree is that of an empty log. It is not safe for concurrent use.
type Tree struct {
	above []tlog.Hash // in tlog's order, of the tree whose leaves are the tiles' roots
	tiles int64
	tail  []tlog.Hash
}

// Leaves gives the hashes of a full tile's records, in order.
type Leaves func(tile int64) ([]tlog.Hash, error)

// Size is how many records the log has.
func (t *Tree) Size() int64 { return t.tiles*TileWidth + int64(len(t.tail)) }

// Tiles is how many tiles are full.
func (t *Tree) Tiles() int64 { return t.tiles }

// TileRoot is the root over the records of a full tile.
func (t *Tree) TileRoot(n int64) tlog.Hash { return t.above[tlog.StoredHashIndex(0, n)] }

// Add appends a record by its hash. Full tells that it filled a tile, whose root is given.
func (t *Tree) Add(record tlog.Hash) (root tlog.Hash, full bool) {
	t.tail = append(t.tail, record)
	if len(t.tail) < TileWidth {
		return tlog.Hash{}, false
	}
	root = node(t.tail)
	t.tail = nil
	t.addRoot(root)
	return root, true
}

// AddTile appends a full tile by its root.
func (t *Tree) AddTile(root tlog.Hash) error {
	if len(t.tail) > 0 {
		return fmt.Errorf("a tile in the middle of one: %d records stand before it", len(t.tail))
	}
	t.addRoot(root)
	return nil
}

func (t *Tree) addRoot(root tlog.Hash) {
	hashes, err := tlog.StoredHashesForRecordHash(t.tiles, root, tlog.HashReaderFunc(t.readAbove))
	if err != nil {
		panic(err) // it reads what is in memory
	}
	t.above, t.tiles = append(t.above, hashes...), t.tiles+1
}

func (t *Tree) readAbove(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		if at < 0 || at >= int64(len(t.above)) {
			return nil, fmt.Errorf("hash %d is not there", at)
		}
		out[i] = t.above[at]
	}
	return out, nil
}

// node is the root over 2^n hashes.
func node(hashes []tlog.Hash) tlog.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	half := len(hashes) / 2
	return tlog.NodeHash(node(hashes[:half]), node(hashes[half:]))
}

// TileRootOf is the root over the records of one full tile.
func TileRootOf(records []tlog.Hash) (tlog.Hash, error) {
	if len(records) != TileWidth {
		return tlog.Hash{}, fmt.Errorf("a full tile has %d records, and this one %d", TileWidth, len(records))
	}
	return node(records), nil
}

// Reader reads any hash of the tree; leaves may be nil where none within a full tile is
// wanted.
func (t *Tree) Reader(leaves Leaves) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		var of int64 = -1
		var held []tlog.Hash
		for i, at := range indexes {
			level, n := tlog.SplitStoredHashIndex(at)
			if level >= tileHeight {
				found, err := t.readAbove([]int64{tlog.StoredHashIndex(level-tileHeight, n)})
				if err != nil {
					return nil, err
				}
				out[i] = found[0]
				continue
			}
			first := n << level
			tile := first / TileWidth
			switch {
			case tile == t.tiles:
				held, of = t.tail, tile
			case tile > t.tiles:
				return nil, fmt.Errorf("record %d is not in the log of %d", first, t.Size())
			case tile != of:
				if leaves == nil {
					return nil, errors.New("the tiles are not at hand")
				}
				var err error
				if held, err = leaves(tile); err != nil {
					return nil, err
				}
				of = tile
			}
			from, to := first%TileWidth, first%TileWidth+1<<level
			if to > int64(len(held)) {
				return nil, fmt.Errorf("record %d is not in the log of %d", first+1<<level-1, t.Size())
			}
			out[i] = node(held[from:to])
		}
		return out, nil
	})
}

// Root is the hash of the whole log.
func (t *Tree) Root() tlog.Hash {
	root, err := tlog.TreeHash(t.Size(), t.Reader(nil))
	if err != nil {
		panic(err) // a tree's own root is made of what is in memory
	}
	return root
}

// RootAt is the hash that the log had when it had so many records.
func (t *Tree) RootAt(size int64, leaves Leaves) (tlog.Hash, error) {
	if size < 0 || size > t.Size() {
		return tlog.Hash{}, fmt.Errorf("the log has %d records, and never had %d", t.Size(), size)
	}
	return tlog.TreeHash(size, t.Reader(leaves))
}

// Clone is a tree that the other's changes do not touch.
func (t *Tree) Clone() *Tree {
	return &Tree{above: append([]tlog.Hash(nil), t.above...), tiles: t.tiles, tail: append([]tlog.Hash(nil), t.tail...)}
}
