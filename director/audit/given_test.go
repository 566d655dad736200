package audit

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// giving is what a book gives from a place on, under heads of some sizes.
func (b *book) giving(t testing.TB, from, to int64, sizes ...int64) (Given, []Head) {
	t.Helper()
	g := Given{From: from, Records: b.raws[from:to]}
	var heads []Head
	for _, size := range sizes {
		root, err := b.RootAt(size, b.leaves)
		if err != nil {
			t.Fatal(err)
		}
		u, err := Prove(&b.Tree, b.leaves, []byte("head"), size, from, min(to, size))
		if err != nil {
			t.Fatal(err)
		}
		heads, g.Under = append(heads, Head{Fleet: "f1", Size: size, Root: root}), append(g.Under, u)
	}
	return g, heads
}

// before is a book's shape at an earlier size.
func (b *book) before(size int64) *Tree {
	out := &Tree{}
	for _, raw := range b.raws[:size] {
		out.Add(tlog.RecordHash(raw))
	}
	return out
}

func opening(heads []Head) func(Under) (Head, bool) {
	i := -1
	return func(Under) (Head, bool) { i++; return heads[i], true }
}

// TestGiven (S15): records are proved under every head that has them, from any place,
// also where the head has a part of them.
func TestGiven(t *testing.T) {
	b := newBook(t, 700)
	for _, from := range []int64{0, 1, 200, 255, 256, 300, 512, 699} {
		to := min(700, (from/TileWidth+1)*TileWidth)
		sizes := []int64{from + 1, to, 700}
		g, heads := b.giving(t, from, to, sizes...)
		back, err := DecodeGiven(g.Encode())
		if err != nil {
			t.Fatal(err)
		}
		got := back.Proven(b.before(from), opening(heads))
		for i, size := range sizes {
			if want := min(to, size) - from; got[i] != want {
				t.Errorf("from %d under %d: got %d, want %d", from, size, got[i], want)
			}
			if !back.Under[i].Extends(heads[i], from, b.before(from).Root()) {
				t.Errorf("from %d under %d: it does not extend", from, size)
			}
			if from > 0 && back.Under[i].Extends(heads[i], from, tlog.Hash{1}) {
				t.Errorf("from %d under %d: it extends another log", from, size)
			}
		}
	}
}

// TestGivenTampered (S15): of 1,000 random changes of what is given none has another
// record count.
func TestGivenTampered(t *testing.T) {
	b := newBook(t, 600)
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 1000 {
		from := rng.Int64N(599)
		to := min(600, (from/TileWidth+1)*TileWidth, from+1+rng.Int64N(20))
		g, heads := b.giving(t, from, to, 600, to)
		raw := g.Encode()
		kind := rng.IntN(4)
		switch k := rng.IntN(len(g.Records)); kind {
		case 0: // any octet
			raw[rng.IntN(len(raw))] ^= byte(1 + rng.IntN(255))
		case 1: // one that somebody else made
			forged := bytes.Clone(g.Records[k])
			forged[rng.IntN(len(forged))] ^= byte(1 + rng.IntN(255))
			g.Records = append(append(append([][]byte{}, g.Records[:k]...), forged), g.Records[k+1:]...)
			raw = g.Encode()
		case 2: // one is left out
			g.Records = append(append([][]byte{}, g.Records[:k]...), g.Records[k+1:]...)
			raw = g.Encode()
		case 3: // two change places
			other := rng.IntN(len(g.Records))
			g.Records = append([][]byte{}, g.Records...)
			g.Records[k], g.Records[other] = g.Records[other], g.Records[k]
			raw = g.Encode()
		}
		back, err := DecodeGiven(raw)
		if err != nil || len(back.Under) != 2 || back.From != from {
			continue // found
		}
		for i, most := range back.Proven(b.before(from), opening(heads)) {
			for k := range most {
				if !bytes.Equal(back.Records[k], b.raws[from+k]) {
					t.Fatalf("case %d, kind %d: record %d counts under head %d, and is another", n, kind, from+k, i)
				}
			}
		}
	}
}

// FuzzGiven: whatever a director sends is a list of records or none, and what is proved
// of it are a log's records.
func FuzzGiven(f *testing.F) {
	b := newBook(f, 300)
	g, heads := b.giving(f, 250, 256, 300, 253)
	f.Add(g.Encode())
	f.Add(Given{From: 3, Records: [][]byte{[]byte("one"), nil, []byte("three")}}.Encode())
	before := b.before(250)
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := DecodeGiven(raw)
		if err != nil {
			return
		}
		if again := got.Encode(); !bytes.Equal(again, raw) {
			t.Fatalf("%x came back as %x", raw, again)
		}
		for _, most := range got.Proven(before, func(Under) (Head, bool) { return heads[0], true }) {
			for k := range most {
				if !bytes.Equal(got.Records[k], b.raws[250+k]) {
					t.Fatalf("record %d counts, and is another", k)
				}
			}
		}
	})
}
