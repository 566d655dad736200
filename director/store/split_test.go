package store

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/plan"
)

func chunkMap(chunks [][]byte) map[plan.Hash][]byte {
	out := map[plan.Hash][]byte{}
	for _, c := range chunks {
		out[plan.Sum(c)] = c
	}
	return out
}

func TestSplitJoin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(0, 100), rapid.SampledFrom([]int{MaxChunk - 1, MaxChunk, MaxChunk + 1, 2 * MaxChunk, 3*MaxChunk + 7})).Draw(t, "size")
		doc := bytes.Repeat([]byte{rapid.Byte().Draw(t, "octet")}, size)
		if size > 0 {
			doc[rapid.IntRange(0, size-1).Draw(t, "at")] ^= 0x55
		}
		chunks, ref := Split(doc)
		if want := (size + MaxChunk - 1) / MaxChunk; len(chunks) != want || len(ref.GetChunks()) != want {
			t.Fatalf("%d chunks, want %d", len(chunks), want)
		}
		got, err := Join(ref, chunkMap(chunks))
		if err != nil || !bytes.Equal(got, doc) {
			t.Fatalf("joined %d octets of %d: %v", len(got), len(doc), err)
		}
	})
}

func TestJoinRefuses(t *testing.T) {
	doc := bytes.Repeat([]byte("divert"), MaxChunk/3)
	tests := map[string]func(*plan.SpecRef, map[plan.Hash][]byte){
		"a chunk missing":   func(r *plan.SpecRef, m map[plan.Hash][]byte) { delete(m, plan.Hash(r.GetChunks()[1])) },
		"another order":     func(r *plan.SpecRef, _ map[plan.Hash][]byte) { r.Chunks[0], r.Chunks[1] = r.Chunks[1], r.Chunks[0] },
		"another size":      func(r *plan.SpecRef, _ map[plan.Hash][]byte) { r.Size++ },
		"too small a size":  func(r *plan.SpecRef, _ map[plan.Hash][]byte) { r.Size = 1 },
		"a huge size":       func(r *plan.SpecRef, _ map[plan.Hash][]byte) { r.Size = 1 << 60 },
		"another hash":      func(r *plan.SpecRef, _ map[plan.Hash][]byte) { r.Hash = make([]byte, 32) },
		"a crippled hash":   func(r *plan.SpecRef, _ map[plan.Hash][]byte) { r.Chunks[0] = r.Chunks[0][:31] },
		"a chunk repeated":  func(r *plan.SpecRef, _ map[plan.Hash][]byte) { r.Chunks = append(r.Chunks, r.Chunks[0]) },
		"a thousand chunks": func(r *plan.SpecRef, _ map[plan.Hash][]byte) { r.Chunks = make([][]byte, 1000) },
	}
	for name, spoil := range tests {
		chunks, ref := Split(doc)
		have := chunkMap(chunks)
		spoil(ref, have)
		if got, err := Join(ref, have); err == nil {
			t.Errorf("%s: joined %d octets", name, len(got))
		}
	}
}
