package audit

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
)

var monday = time.Date(2026, 3, 9, 12, 0, 0, 0, time.UTC)

// key is a director's, the same for each number.
func key(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

func planHash(revision uint64) plan.Hash { return plan.Sum(fmt.Appendf(nil, "plan %d", revision)) }

// recordOf is the record of a revision that follows another.
func recordOf(revision, parent, epoch uint64) *plan.Audit {
	h, p := planHash(revision), planHash(parent)
	a := &plan.Audit{
		Revision: revision, At: timestamppb.New(monday.Add(time.Duration(revision) * time.Minute)), Who: "ann", Via: "d1",
		What: fmt.Sprintf("drain cluster/c%d for 1h", revision), Why: "INC-1", Command: fmt.Sprint("id-", revision), Plan: h[:], Epoch: epoch,
	}
	if parent > 0 {
		a.Parent = p[:]
	}
	return a
}

func marshal(t testing.TB, a *plan.Audit) []byte {
	t.Helper()
	raw, err := proto.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// book is a log in memory.
type book struct {
	Tree
	raws [][]byte
}

func newBook(t testing.TB, n int) *book {
	b := &book{}
	for r := range uint64(n) {
		b.add(marshal(t, recordOf(r+1, r, 1)))
	}
	return b
}

func (b *book) add(raw []byte) {
	b.raws = append(b.raws, raw)
	b.Add(tlog.RecordHash(raw))
}

func (b *book) leaves(tile int64) (out []tlog.Hash, err error) {
	for _, raw := range b.raws[tile*TileWidth : (tile+1)*TileWidth] {
		out = append(out, tlog.RecordHash(raw))
	}
	return out, nil
}

func (b *book) head() Head {
	return Head{Fleet: "f1", Size: b.Size(), Root: b.Root(), Revision: uint64(b.Size())}
}

func (b *book) export(t testing.TB, name string, keys ...ed25519.PrivateKey) []byte {
	t.Helper()
	var signed [][]byte
	for i, k := range keys {
		if i > 0 {
			name = fmt.Sprint("d", i+1)
		}
		raw, err := b.head().Sign(name, k)
		if err != nil {
			t.Fatal(err)
		}
		signed = append(signed, raw)
	}
	var out bytes.Buffer
	err := Write(&out, Join(signed...), b.Size(), b.Reader(b.leaves), func(give func([]byte) error) error {
		for _, raw := range b.raws {
			if err := give(raw); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

var directors = Keys{"d1": public(key(1)), "d2": public(key(2))}

// TestTree: roots, old roots and proofs are those of a log that keeps every hash (the
// dumb twin), at sizes around a tile's edge.
func TestTree(t *testing.T) {
	b := &book{}
	var all []tlog.Hash
	twin := tlog.HashReaderFunc(func(at []int64) (out []tlog.Hash, err error) {
		for _, i := range at {
			out = append(out, all[i])
		}
		return out, nil
	})
	roots := []tlog.Hash{}
	for n := range int64(3*TileWidth + 3) {
		root, err := tlog.TreeHash(n, twin)
		if err != nil || b.Root() != root {
			t.Fatalf("%d records: got %s, want %s, %v", n, b.Root(), root, err)
		}
		roots = append(roots, root)
		raw := fmt.Append(nil, "record ", n)
		hashes, err := tlog.StoredHashes(n, raw, twin)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, hashes...)
		b.add(raw)
	}
	for n, want := range roots {
		if got, err := b.RootAt(int64(n), b.leaves); err != nil || got != want {
			t.Fatalf("of %d: got %s, want %s, %v", n, got, want, err)
		}
	}
	for n := range b.Size() {
		p, err := tlog.ProveRecord(b.Size(), n, b.Reader(b.leaves))
		if err != nil || tlog.CheckRecord(p, b.Size(), b.Root(), n, tlog.RecordHash(b.raws[n])) != nil {
			t.Fatalf("record %d is not proved: %v", n, err)
		}
	}
	// And from one size to another: nothing that was there has changed.
	for n := int64(1); n < b.Size(); n += 37 {
		p, err := tlog.ProveTree(b.Size(), n, b.Reader(b.leaves))
		if err != nil || tlog.CheckTree(p, b.Size(), b.Root(), n, roots[n]) != nil {
			t.Fatalf("%d to %d is not proved: %v", n, b.Size(), err)
		}
		if tlog.CheckTree(p, b.Size(), b.Root(), n, roots[n-1]) == nil {
			t.Fatalf("%d to %d: another history is proved", n, b.Size())
		}
	}
	// A log that is read again by its tiles' roots is the same.
	var again Tree
	for n := range b.Tiles() {
		if err := again.AddTile(b.TileRoot(n)); err != nil {
			t.Fatal(err)
		}
	}
	for _, raw := range b.raws[b.Tiles()*TileWidth:] {
		again.Add(tlog.RecordHash(raw))
	}
	if again.Root() != b.Root() || again.Size() != b.Size() {
		t.Errorf("read again: %d records, %s; want %d, %s", again.Size(), again.Root(), b.Size(), b.Root())
	}
	if again.AddTile(b.TileRoot(0)) == nil {
		t.Error("a tile was added in the middle of one")
	}
}

// TestHead: what several directors sign alike is one head with their signatures; a wrong
// one is refused, a stranger's is named and counts for nothing.
func TestHead(t *testing.T) {
	h := newBook(t, 5).head()
	one, err := h.Sign("d1", key(1))
	if err != nil {
		t.Fatal(err)
	}
	two, _ := h.Sign("d2", key(2))
	stranger, _ := h.Sign("d1", key(9))
	other := h
	other.Size++
	third, _ := other.Sign("d2", key(2))
	for _, tc := range []struct {
		name               string
		raw                []byte
		directors, strange []string
		err                string
	}{
		{"one", one, []string{"d1"}, nil, ""},
		{"both", Join(one, two, one), []string{"d1", "d2"}, nil, ""},
		{"of other sizes", Join(one, third), []string{"d1"}, nil, ""},
		{"a stranger", stranger, nil, nil, "nobody whose key counts"},
		{"a stranger beside", Join(two, stranger), []string{"d2"}, []string{"d1"}, ""},
		{"altered", bytes.Replace(one, []byte("\n5\n"), []byte("\n4\n"), 1), nil, nil, "does not hold"},
		{"nothing", nil, nil, nil, "malformed"},
		{"too large", bytes.Repeat([]byte("x"), MaxHead+1), nil, nil, "at most"},
	} {
		got, err := OpenHead(tc.raw, directors)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: got %v, want …%s…", tc.name, err, tc.err)
			}
			continue
		}
		if err != nil || got.Head != h || !slices.Equal(got.Directors, tc.directors) || !slices.Equal(got.Strangers, tc.strange) {
			t.Errorf("%s: got %+v, %v", tc.name, got, err)
		}
	}
	if _, err := (Head{Fleet: "two\nlines"}).Sign("d1", key(1)); err == nil {
		t.Error("a fleet of two lines was signed")
	}
}

// TestChain: what is missing, altered or out of order shows in the next record; what a
// recovery gave up is said and is no fault (F25).
func TestChain(t *testing.T) {
	old := func(revision uint64) *plan.Audit {
		a := recordOf(revision, revision-1, 0)
		a.Parent = nil
		return a
	}
	for _, tc := range []struct {
		name     string
		records  []*plan.Audit
		want     string // of the last record; "" = nothing
		harmless bool
	}{
		{"all", []*plan.Audit{recordOf(1, 0, 1), recordOf(2, 1, 1), recordOf(3, 2, 1)}, "", false},
		{"begins late", []*plan.Audit{recordOf(7, 6, 1)}, "begins here", true},
		{"missing", []*plan.Audit{recordOf(1, 0, 1), recordOf(4, 3, 1)}, "missing: of revisions 2 to 3", false},
		{"reordered", []*plan.Audit{recordOf(2, 1, 1), recordOf(1, 0, 1)}, "stands behind", false},
		{"another plan", []*plan.Audit{recordOf(1, 0, 1), recordOf(2, 9, 1)}, "follows another plan", false},
		{"inserted", []*plan.Audit{recordOf(1, 0, 1), recordOf(2, 1, 1), recordOf(3, 1, 1)}, "of no plan that came before", false},
		{"recovered", []*plan.Audit{recordOf(1, 0, 1), recordOf(9, 1, 2)}, "", false},
		{"given up", []*plan.Audit{recordOf(1, 0, 1), recordOf(2, 1, 1), recordOf(9, 1, 2)}, "given up", true},
		{"lost with the store", []*plan.Audit{recordOf(1, 0, 1), recordOf(9, 5, 2)}, "no record of", true},
		{"of before", []*plan.Audit{old(1), old(2), recordOf(3, 2, 1)}, "", false},
		{"of before, a gap", []*plan.Audit{old(1), old(5)}, "revisions 2 to 4", true},
		{"passed for old", []*plan.Audit{recordOf(1, 0, 1), old(5)}, "does not say after which plan", false},
		{"of an older director", []*plan.Audit{recordOf(1, 0, 1), old(2)}, "", false},
		{"old, with a parent that is not the one before", []*plan.Audit{recordOf(1, 0, 1), recordOf(2, 9, 0)}, "follows another plan", false},
		{"old, and altered", []*plan.Audit{recordOf(1, 0, 1), old(2), recordOf(3, 7, 1)}, "follows another plan", false},
		{"no parent", []*plan.Audit{recordOf(1, 0, 1), recordOf(2, 0, 1)}, "names no plan", false},
	} {
		var c Chain
		var f *Finding
		for i, a := range tc.records {
			if f = c.Add(a); i < len(tc.records)-1 && f != nil && !f.Harmless {
				t.Errorf("%s: record %d: %s", tc.name, i, f)
			}
		}
		got, harmless := "", false
		if f != nil {
			got, harmless = f.String(), f.Harmless
		}
		if !strings.Contains(got, tc.want) || (tc.want == "") != (got == "") || harmless != tc.harmless {
			t.Errorf("%s: got %q, harmless %t; want %q, %t", tc.name, got, harmless, tc.want, tc.harmless)
		}
	}
}

// TestVerifyNames: of a record that was altered, dropped or moved, verify says which.
func TestVerifyNames(t *testing.T) {
	b := newBook(t, TileWidth+44)
	whole := b.export(t, "d1", key(1), key(2))
	r, err := Verify(bytes.NewReader(whole), directors)
	if err != nil || !r.Good() || len(r.Findings) > 0 || r.Records != b.Size() || !slices.Equal(r.Signed.Directors, []string{"d1", "d2"}) {
		t.Fatalf("as written: %+v, %v", r, err)
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	lines = lines[:len(lines)-1]
	altered := *b
	altered.raws = slices.Clone(b.raws)
	other := recordOf(70, 69, 1)
	other.Who = "nobody"
	altered.raws[69] = marshal(t, other)
	edited := slices.Clone(lines) // the record alone, its proof as it was
	edited[70] = bytes.SplitAfter(altered.export(t, "d1", key(1)), []byte("\n"))[70]
	for _, tc := range []struct {
		name  string
		lines [][]byte
		want  []string
	}{
		{"altered", edited, []string{"record 69 (revision 70): it is not the one that was sealed: it was altered, or put in another's place"}},
		{"dropped", slices.Delete(slices.Clone(lines), 70, 71), []string{"record 69: it is missing"}},
		{"two dropped", slices.Delete(slices.Clone(lines), 70, 72), []string{"record 69: it and those up to record 70 are missing"}},
		{"the last dropped", lines[:len(lines)-1], []string{fmt.Sprintf("record %d: it is missing", b.Size()-1)}},
		{"twice", slices.Insert(slices.Clone(lines), 70, lines[70]), []string{"record 69: it stands twice, or not in its place"}},
		{"swapped", swap(lines, 70, 71), []string{"record 69: it is missing", "record 69: it stands twice, or not in its place"}},
	} {
		r, err := Verify(bytes.NewReader(bytes.Join(tc.lines, nil)), directors)
		got := []string{}
		for _, f := range r.Findings {
			got = append(got, f.String())
		}
		if err != nil || r.Good() || !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %q, %v; want %q", tc.name, got, err, tc.want)
		}
	}
	if _, err := Verify(strings.NewReader("kind: Zone\n"), directors); err == nil || !strings.Contains(err.Error(), "no export") {
		t.Errorf("of another file: %v", err)
	}
}

func swap(lines [][]byte, i, j int) [][]byte {
	out := slices.Clone(lines)
	out[i], out[j] = out[j], out[i]
	return out
}

// TestTamperings: of 1,000 random changes of an export, each is found (S15). Each begins
// with another log, and those who change it know how it is made; they lack the keys.
func TestTamperings(t *testing.T) {
	kinds := map[string]int{}
	for seed := range uint64(1000) {
		rng := rand.New(rand.NewPCG(seed, 15))
		size := 2 + rng.IntN(20)
		if seed%10 == 0 { // over a tile's edge, some
			size += rng.IntN(TileWidth + 40)
		}
		b := newBook(t, size)
		whole := b.export(t, "d1", key(1), key(2))
		kind, bad := tamper(t, rng, b, whole)
		if bytes.Equal(bad, whole) {
			t.Fatalf("seed %d: %s changed nothing", seed, kind)
		}
		kinds[kind]++
		if r, err := Verify(bytes.NewReader(bad), directors); err == nil && r.Good() {
			t.Errorf("seed %d: %s of %d records was not found", seed, kind, b.Size())
		}
	}
	t.Log(kinds)
	if len(kinds) < 10 {
		t.Errorf("kinds: %v", kinds)
	}
}

func tamper(t *testing.T, rng *rand.Rand, b *book, whole []byte) (kind string, bad []byte) {
	lines := bytes.SplitAfter(whole, []byte("\n"))
	lines = lines[:len(lines)-1]
	i := 1 + rng.IntN(len(lines)-1)
	j := 1 + (i+rng.IntN(len(lines)-2))%(len(lines)-1)
	if i == j { // at the end of the ring
		j = 1 + i%(len(lines)-1)
	}
	forged := func() *book { // the whole log again, with one record that says otherwise
		out := &book{}
		for n, raw := range b.raws {
			if n == i-1 {
				a := recordOf(uint64(i), uint64(i-1), 1)
				a.Who = "nobody"
				raw = marshal(t, a)
			}
			out.add(raw)
		}
		return out
	}
	switch rng.IntN(12) {
	case 0:
		bad = bytes.Clone(whole)
		bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
		return "a bit", bad
	case 1:
		return "drop", bytes.Join(slices.Delete(slices.Clone(lines), i, i+1), nil)
	case 2:
		return "reorder", bytes.Join(swap(lines, i, j), nil)
	case 3:
		return "cut", whole[:rng.IntN(len(whole))]
	case 4:
		return "cut at a line", bytes.Join(lines[:i], nil)
	case 5: // what they say, each in the other's place and with its proof
		out := *b
		out.raws = slices.Clone(b.raws)
		out.raws[i-1], out.raws[j-1] = out.raws[j-1], out.raws[i-1]
		return "swap", out.export(t, "d1", key(1), key(2))
	case 6:
		return "sign by a stranger", forged().export(t, "d1", key(9))
	case 7:
		return "sign by a stranger of another name", forged().export(t, "mallory", key(9))
	case 8: // a new history under the true head
		f := forged().export(t, "d1", key(9))
		_, rest, _ := bytes.Cut(f, []byte("\n"))
		return "another history", append(bytes.Clone(lines[0]), rest...)
	case 9:
		return "twice", bytes.Join(slices.Insert(slices.Clone(lines), i, lines[j]), nil)
	case 10: // a shorter log, with the head of the longer one
		short := &book{}
		for _, raw := range b.raws[:len(b.raws)-1] {
			short.add(raw)
		}
		_, rest, _ := bytes.Cut(short.export(t, "d1", key(1)), []byte("\n"))
		return "roll back", append(bytes.Clone(lines[0]), rest...)
	default:
		out := *b
		out.raws = slices.Clone(b.raws)
		out.raws[i-1] = append(bytes.Clone(out.raws[i-1]), 0xf8, 0x07, byte(rng.IntN(128))) // a field that no reader knows
		return "a field more", out.export(t, "d1", key(1), key(2))
	}
}

// FuzzVerify: whatever a file holds ends in a report or an error, never as good where it
// is not what was written.
func FuzzVerify(f *testing.F) {
	b := newBook(f, 3)
	whole := b.export(f, "d1", key(1))
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(bytes.Replace(whole, []byte(`"record"`), []byte(`"Record"`), 1))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if r, err := Verify(bytes.NewReader(raw), directors); err == nil && r.Good() && !bytes.Equal(raw, whole) {
			t.Errorf("%q is good", raw)
		}
	})
}

// FuzzHead: a head that is read is written the same.
func FuzzHead(f *testing.F) {
	f.Add(newBook(f, 3).head().Text())
	f.Add("divert.dev/audit/f1\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\nrevision 0\n")
	f.Fuzz(func(t *testing.T, text string) {
		if h, err := ParseHead(text); err == nil && h.Text() != text {
			t.Errorf("%q is written %q", text, h.Text())
		}
	})
}

// FuzzRecord: whatever a store or a disk holds is a record or none, and a chain takes it.
func FuzzRecord(f *testing.F) {
	f.Add(marshal(f, recordOf(2, 1, 1)), marshal(f, recordOf(3, 2, 1)))
	f.Fuzz(func(_ *testing.T, one, two []byte) {
		var c Chain
		for _, raw := range [][]byte{one, two} {
			if a, err := ReadRecord(raw); err == nil {
				c.Add(a)
			} else {
				c.Skip()
			}
		}
	})
}

// TestVerifyOneSigner: a director that writes all of history anew signs that alone, and who
// verifies it is told.
func TestVerifyOneSigner(t *testing.T) {
	b := newBook(t, 3)
	for _, tc := range []struct {
		name string
		raw  []byte
		keys Keys
		want int
	}{
		{"alone of two", b.export(t, "d1", key(1)), directors, 1},
		{"both", b.export(t, "d1", key(1), key(2)), directors, 0},
		{"alone in its fleet", b.export(t, "d1", key(1)), Keys{"d1": public(key(1))}, 0},
	} {
		r, err := Verify(bytes.NewReader(tc.raw), tc.keys)
		if err != nil || !r.Good() || len(r.Findings) != tc.want || tc.want > 0 && !strings.Contains(r.Findings[0].String(), "of 2 directors only d1 has signed") {
			t.Errorf("%s: got %v, %v", tc.name, r.Findings, err)
		}
	}
}

// TestVerifyBy: by one key of several signers that signature is verified, and the others
// are named; a wrong one, under a name whose key was given, is a finding as ever.
func TestVerifyBy(t *testing.T) {
	b := newBook(t, 3)
	both := b.export(t, "d1", key(1), key(2))
	one := Keys{"d1": public(key(1))}
	for _, tc := range []struct {
		name      string
		raw       []byte
		keys      Keys
		good      bool
		unchecked string
	}{
		{"one of two", both, one, true, "d2"},
		{"both", both, directors, true, ""},
		{"one, which alone has signed", b.export(t, "d1", key(1)), one, true, ""},
		{"another key of d2's", both, Keys{"d1": public(key(1)), "d2": public(key(3))}, false, ""},
		{"neither", both, Keys{"d3": public(key(3))}, false, ""},
		{"altered", bytes.Replace(both, []byte(`"record":1`), []byte(`"record":2`), 1), one, false, "d2"},
	} {
		r, err := VerifyBy(bytes.NewReader(tc.raw), tc.keys)
		if err != nil || r.Good() != tc.good || strings.Join(r.Unchecked, " ") != tc.unchecked {
			t.Errorf("%s: good %t, unchecked %v, %v, %v", tc.name, r.Good(), r.Unchecked, r.Findings, err)
		}
	}
	if r, err := Verify(bytes.NewReader(both), one); err != nil || r.Good() {
		t.Errorf("by the keys of all, of which d2's is none: %v, %v", r.Findings, err)
	}
}
