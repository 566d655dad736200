package audit

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Given is what a director gives of its log: records from a place on, and why they are the
// log's. Whoever takes them believes the heads' signatures, and not who gives them.
type Given struct {
	From    int64
	Under   []Under
	Records [][]byte
}

// Under is a head that some of the records are under, with two proofs: that it extends the
// log of From records, and that it extends the one of Place. Head is as it is signed; empty
// stands for the head of that size that the asker has itself signed.
type Under struct {
	Head   []byte
	Place  int64
	Before tlog.TreeProof
	After  tlog.TreeProof
}

// Bounds of what one director gives another.
const (
	MaxUnder     = 8  // heads
	maxTreeProof = 64 // hashes: of a log of 2^63 records
	// maxGivenOctets bounds the records of one giving.
	maxGivenOctets = TileWidth * (4 + MaxRecord)
)

// Prove makes what shows that records up to a place are under a head of so many.
func Prove(tree *Tree, leaves Leaves, head []byte, size, from, place int64) (u Under, err error) {
	reader := tree.Reader(leaves)
	u = Under{Head: head, Place: place}
	if from > 0 {
		if u.Before, err = tlog.ProveTree(size, from, reader); err != nil {
			return u, fmt.Errorf("proving %d of %d audit records: %w", from, size, err)
		}
	}
	if u.After, err = tlog.ProveTree(size, place, reader); err != nil {
		return u, fmt.Errorf("proving %d of %d audit records: %w", place, size, err)
	}
	return u, nil
}

// Extends tells whether a head extends the log of From records with a root: by the proof.
func (u Under) Extends(head Head, from int64, root tlog.Hash) bool {
	return from == 0 || from <= head.Size && tlog.CheckTree(u.Before, head.Size, head.Root, from, root) == nil
}

// Proven says how many of the records, put behind a log of From of them, are under each of
// the heads that opened, beginning with the first: tree is that log, and is not changed.
func (g Given) Proven(tree *Tree, open func(Under) (Head, bool)) []int64 {
	wanted := map[int64]tlog.Hash{}
	for _, u := range g.Under {
		wanted[u.Place] = tlog.Hash{}
	}
	next := tree.Clone()
	for _, raw := range g.Records {
		next.Add(tlog.RecordHash(raw))
		if _, ok := wanted[next.Size()]; ok {
			wanted[next.Size()] = next.Root()
		}
	}
	out := make([]int64, len(g.Under))
	for i, u := range g.Under {
		n := u.Place - g.From
		head, ok := open(u)
		if !ok || n < 1 || n > int64(len(g.Records)) || u.Place > head.Size || tree.Size() != g.From {
			continue
		}
		if tlog.CheckTree(u.After, head.Size, head.Root, u.Place, wanted[u.Place]) == nil {
			out[i] = n
		}
	}
	return out
}

// Encode writes what is given.
func (g Given) Encode() []byte {
	out := binary.BigEndian.AppendUint64(nil, uint64(g.From))
	out = append(out, byte(len(g.Under)))
	for _, u := range g.Under {
		out = binary.BigEndian.AppendUint16(out, uint16(len(u.Head)))
		out = append(out, u.Head...)
		out = binary.BigEndian.AppendUint64(out, uint64(u.Place))
		for _, proof := range []tlog.TreeProof{u.Before, u.After} {
			out = append(out, byte(len(proof)))
			for _, h := range proof {
				out = append(out, h[:]...)
			}
		}
	}
	for _, raw := range g.Records {
		out = binary.BigEndian.AppendUint32(out, uint32(len(raw)))
		out = append(out, raw...)
	}
	return out
}

var errGiven = errors.New("it is no list of audit records")

// DecodeGiven reads what Encode wrote. The octets are shared.
func DecodeGiven(b []byte) (g Given, err error) {
	r := octets{b: b}
	g.From = r.place()
	heads := int(r.take(1)[0])
	if heads > MaxUnder {
		return Given{}, errGiven
	}
	for range heads {
		var u Under
		size := binary.BigEndian.Uint16(r.take(2))
		if size > MaxHead {
			return Given{}, errGiven
		}
		u.Head, u.Place = r.take(int(size)), r.place()
		u.Before, u.After = r.proof(), r.proof()
		g.Under = append(g.Under, u)
	}
	for total := 0; len(r.b) > 0 && !r.bad; {
		n := binary.BigEndian.Uint32(r.take(4))
		if n > MaxRecord || len(g.Records) == TileWidth || total > maxGivenOctets {
			return Given{}, errGiven
		}
		g.Records = append(g.Records, r.take(int(n)))
		total += int(n)
	}
	if r.bad {
		return Given{}, errGiven
	}
	return g, nil
}

// octets reads from a message; past its end it gives zeros and is bad.
type octets struct {
	b   []byte
	bad bool
}

func (r *octets) take(n int) []byte {
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return make([]byte, min(n, 64))
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *octets) place() int64 {
	n := binary.BigEndian.Uint64(r.take(8))
	if n > 1<<62 {
		r.bad = true
		return 0
	}
	return int64(n)
}

func (r *octets) proof() tlog.TreeProof {
	n := int(r.take(1)[0])
	if n > maxTreeProof {
		r.bad = true
		return nil
	}
	var out tlog.TreeProof
	for range n {
		out = append(out, tlog.Hash(r.take(tlog.HashSize)))
	}
	return out
}
