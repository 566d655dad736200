package store

import (
	"fmt"
	"slices"

	"github.com/divertdns/divert/director/plan"
)

const (
	// MaxChunk is the largest blob: two of them and change fit etcd's 1.5 MiB
	// request.
	MaxChunk = 512 << 10
	// MaxChunks keeps the transaction that compares each blob's existence
	// below etcd's 128 operations.
	MaxChunks = 120
	// MaxPlan is the largest plan, as sealed.
	MaxPlan = 256 << 10
)

// Split cuts a document into blobs of at most MaxChunk octets, and names them.
// The chunks share the document's memory.
func Split(doc []byte) (chunks [][]byte, ref *plan.SpecRef) {
	whole := plan.Sum(doc)
	ref = &plan.SpecRef{Hash: whole[:], Size: uint64(len(doc))}
	for chunk := range slices.Chunk(doc, MaxChunk) {
		sum := plan.Sum(chunk)
		chunks = append(chunks, chunk)
		ref.Chunks = append(ref.Chunks, sum[:])
	}
	return chunks, ref
}

// Join puts a document together again, and checks all that ref says of it.
func Join(ref *plan.SpecRef, chunks map[plan.Hash][]byte) ([]byte, error) {
	hashes, err := references(ref)
	if err != nil {
		return nil, err
	}
	if ref.GetSize() > MaxChunks*MaxChunk {
		return nil, fmt.Errorf("spec of %d octets: %w", ref.GetSize(), ErrTooLarge)
	}
	doc := make([]byte, 0, ref.GetSize()) // which is bounded
	for i, h := range hashes {
		chunk, ok := chunks[h]
		if !ok {
			return nil, fmt.Errorf("spec: %w", &Missing{Hashes: []plan.Hash{h}})
		}
		if uint64(len(doc)+len(chunk)) > ref.GetSize() {
			return nil, fmt.Errorf("spec: chunk %d passes the stated size of %d octets", i, ref.GetSize())
		}
		doc = append(doc, chunk...)
	}
	if sum := plan.Sum(doc); uint64(len(doc)) != ref.GetSize() || string(sum[:]) != string(ref.GetHash()) {
		return nil, fmt.Errorf("spec: %d octets with hash %s are not what the plan names", len(doc), sum.Short())
	}
	return doc, nil
}

// references reads the hashes of a plan's blobs, bounded.
func references(ref *plan.SpecRef) ([]plan.Hash, error) {
	if len(ref.GetChunks()) > MaxChunks {
		return nil, fmt.Errorf("spec of %d blobs, at most %d: %w", len(ref.GetChunks()), MaxChunks, ErrTooLarge)
	}
	out := make([]plan.Hash, 0, len(ref.GetChunks()))
	for i, raw := range ref.GetChunks() {
		h, err := toHash(raw)
		if err != nil {
			return nil, fmt.Errorf("spec, chunk %d: %w", i, err)
		}
		out = append(out, h)
	}
	return out, nil
}

func toHash(raw []byte) (plan.Hash, error) {
	var h plan.Hash
	if len(raw) != len(h) {
		return h, fmt.Errorf("a hash of %d octets, want %d", len(raw), len(h))
	}
	return plan.Hash(raw), nil
}
