package health

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestSaveRetiredWithoutProofs: what is no longer in the spec keeps its number, its past and
// its age over a restart, and costs no more than that on the disk; back in the spec it is in
// force.
func TestSaveRetiredWithoutProofs(t *testing.T) {
	b := newTestBook(3, 2)
	for i := range 2 {
		cert := certify(signal(i+1), 1, 1, 5, "d2", "d3")
		if applied, _ := b.Merge([]Certificate{cert}, verifyFor(rosterOf(3)), at(time.Minute)); len(applied) != 1 {
			t.Fatal("not applied")
		}
	}
	b.SetSubjects(subjectsOf(1), at(2*time.Minute)) // the second is gone
	data := b.Save(at(3 * time.Minute))
	back := newTestBook(3, 1)
	if err := back.Restore(data, at(0)); err != nil {
		t.Fatal(err)
	}
	if c := back.topics[signal(1)]; len(c.cert.Proof) != 2 {
		t.Errorf("what is in the spec has lost its proof: %+v", c.cert)
	}
	gone := back.topics[signal(2)]
	if gone == nil || gone.chain.N != 1 || len(gone.cert.Proof) != 0 || gone.known {
		t.Fatalf("what is gone came back as %+v", gone)
	}
	if got, want := gone.chain.Since(), at(-2*time.Minute); !got.Equal(want) {
		t.Errorf("down since %v, want %v", got, want)
	}
	if got, want := gone.retired, at(-time.Minute); !got.Equal(want) {
		t.Errorf("retired at %v, want %v", got, want)
	}
	back.SetSubjects(subjectsOf(2), at(0))
	if back.States()[signal(2)] != Down || back.Digest() != func() uint64 {
		b.SetSubjects(subjectsOf(2), at(3*time.Minute))
		return b.Digest()
	}() {
		t.Error("back in the spec it is not in force as it was")
	}
}

// TestImageIsOfOneInstant: what comes into force after it was taken is not in it.
func TestImageIsOfOneInstant(t *testing.T) {
	b := newTestBook(3, 2)
	b.Merge([]Certificate{certify(signal(1), 1, 1, 5, "d2", "d3")}, verifyFor(rosterOf(3)), epoch)
	want := b.Save(at(time.Minute))
	image := b.Image(at(time.Minute))
	b.Merge([]Certificate{certify(signal(1), 2, 1, 6, "d2", "d3"), certify(signal(2), 1, 1, 6, "d2", "d3")}, verifyFor(rosterOf(3)), at(time.Minute))
	b.SetSubjects(subjectsOf(1), at(time.Minute))
	if !slices.Equal(image.Bytes(), want) {
		t.Error("the image changed with the book")
	}
}

// TestEncodeSome: one message of the first, and no more work than that.
func TestEncodeSome(t *testing.T) {
	if EncodeSomeCertificates(nil) != nil {
		t.Error("something of nothing")
	}
	var certs []Certificate
	for i := range maxCerts + 10 {
		certs = append(certs, Certificate{Subject: Subject{Kind: KindSignal, Addr: at4(i, 443)}, N: 1, Proof: [][]byte{fmt.Append(nil, i)}})
	}
	if got := EncodeSomeCertificates(certs); !slices.Equal(got, EncodeCertificates(certs)[0]) {
		t.Error("not the first of the messages")
	}
}

// BenchmarkImage is what saving costs the loop where thousands are down, and what it costs
// the saver.
func BenchmarkImage(b *testing.B) {
	const subjects = 3000
	roster := rosterOf(5)
	book := NewBook("d1", roster, 0)
	var all []Subject
	for i := range subjects {
		all = append(all, Subject{Kind: KindCheck, Addr: at4(i, 443), Def: fmt.Sprintf("%016x", i)})
	}
	book.SetSubjects(all, epoch)
	for i, s := range all {
		c := certify(s, 1, 1, uint64(i+1), "d1", "d2", "d3", "d4", "d5")
		for j := range c.Proof {
			c.Proof[j] = append(slices.Clone(c.Proof[j]), make([]byte, 150)...) // as long as real ones are
		}
		book.advance(book.topics[s], c, epoch)
	}
	b.Run("loop", func(b *testing.B) {
		for b.Loop() {
			book.Image(epoch)
		}
	})
	b.Run("saver", func(b *testing.B) {
		for b.Loop() {
			book.Save(epoch)
		}
	})
}
