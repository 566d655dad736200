package audit

import (
	"bytes"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// BenchmarkProof is what an export of 10,000 records costs, and its verification.
func BenchmarkProof(b *testing.B) {
	log := newBook(b, 10_000)
	held := map[int64][]tlog.Hash{}
	leaves := func(tile int64) ([]tlog.Hash, error) { // as a director has them: read once a tile
		if held[tile] == nil {
			held[tile], _ = log.leaves(tile)
		}
		return held[tile], nil
	}
	signed, err := log.head().Sign("d1", key(1))
	if err != nil {
		b.Fatal(err)
	}
	var out bytes.Buffer
	export := func() {
		out.Reset()
		err := Write(&out, signed, log.Size(), log.Reader(leaves), func(give func([]byte) error) error {
			for _, raw := range log.raws {
				if err := give(raw); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.Run("export", func(b *testing.B) {
		for b.Loop() {
			export()
		}
		b.ReportMetric(float64(out.Len())/float64(log.Size()), "octets/record")
	})
	export()
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			if r, err := Verify(bytes.NewReader(out.Bytes()), directors); err != nil || !r.Good() {
				b.Fatal(r, err)
			}
		}
	})
	b.Run("add", func(b *testing.B) { // to a log, its root included
		for b.Loop() {
			log.Add(tlog.Hash{})
			log.Root()
		}
	})
}
