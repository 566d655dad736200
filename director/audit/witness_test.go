package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

func (b *book) signed(t testing.TB, name string, n byte) Signed {
	t.Helper()
	raw, err := b.head().Sign(name, key(n))
	if err != nil {
		t.Fatal(err)
	}
	s, err := OpenHead(raw, directors)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestWitness (S15): a director that seals another history, signs two of one length, or
// one that is shorter than before, is named; one that is behind or ahead is not. All
// holds over a restart.
func TestWitness(t *testing.T) {
	mine := newBook(t, 300)
	short, long, other := newBook(t, 280), newBook(t, 310), newBook(t, 279)
	forged := recordOf(280, 279, 1)
	forged.Who = "nobody"
	other.add(marshal(t, forged))
	otherLong := newBook(t, 279)
	otherLong.add(marshal(t, forged))
	for r := uint64(281); r <= 290; r++ {
		otherLong.add(marshal(t, recordOf(r, r-1, 1)))
	}
	for _, tc := range []struct {
		name  string
		says  []*book
		fault string // "" = none
		sides Sides
	}{
		{"nothing", []*book{newBook(t, 0)}, "", Agrees},
		{"behind", []*book{short}, "", Agrees},
		{"alike", []*book{short, mine}, "", Agrees},
		{"ahead", []*book{long}, "", SidesUnknown},
		{"another", []*book{other}, "differ within the first 280 records", Differs},
		{"another, and went on", []*book{other, otherLong}, "differ within the first 290 records", Differs},
		{"two of one length", []*book{short, other}, "signed two logs of 280 records", Differs},
		{"two of one length, hidden again", []*book{short, other, short}, "signed two logs of 280 records", Agrees},
		{"shorter", []*book{mine, short}, "had sealed 300 records, and now has 280", Agrees},
		{"shorter and back", []*book{mine, short, mine}, "", Agrees},
		{"put right", []*book{other, short, mine}, "", Agrees},
	} {
		var w Witness
		for _, b := range tc.says {
			w.Hear("d2", b.signed(t, "d2", 2))
			if err := w.Check(mine.Size(), func(n int64) (tlog.Hash, error) {
				return mine.RootAt(n, mine.leaves)
			}); err != nil {
				t.Fatal(err)
			}
		}
		for _, life := range []string{"", ", after a restart"} {
			said, alike := w.Said()
			if len(said) != 1 || !strings.Contains(said[0].Fault, tc.fault) || (tc.fault == "") != (said[0].Fault == "") || said[0].Sides != tc.sides || (alike == 1) != (tc.fault == "" && tc.sides == Agrees) {
				t.Errorf("%s%s: got %+v, %d alike; want %q, %s", tc.name, life, said, alike, tc.fault, tc.sides)
			}
			var again Witness
			if err := again.Decode(w.Encode(), directors); err != nil {
				t.Fatal(err)
			}
			again.Hear("d2", tc.says[len(tc.says)-1].signed(t, "d2", 2))
			if err := again.Check(mine.Size(), func(n int64) (tlog.Hash, error) { return mine.RootAt(n, mine.leaves) }); err != nil {
				t.Fatal(err)
			}
			w = again
		}
	}
	var w Witness
	w.Hear("d2", long.signed(t, "d2", 2))
	if w.Keep(nil); len(w.Encode()) > len("{}") {
		t.Error("a director that left is remembered")
	}
}

// FuzzWitness: whatever the disk holds is taken or refused.
func FuzzWitness(f *testing.F) {
	var w Witness
	w.Hear("d2", newBook(f, 3).signed(f, "d2", 2))
	f.Add(w.Encode())
	f.Add([]byte(`{"d2":{"most":"","twice":"AA=="}}`))
	f.Fuzz(func(_ *testing.T, raw []byte) {
		var w Witness
		if w.Decode(raw, directors) == nil {
			w.Said()
		}
	})
}

// TestWitnessKeepsOneSignature (S15): strangers' signatures that a director puts beside its
// own are not kept, so that the proofs against 64 directors outlast a process; and those
// that were kept with them before are read still.
func TestWitnessKeepsOneSignature(t *testing.T) {
	crowded := func(b *book) []byte {
		raw := b.signed(t, "d2", 2).Raw
		line := raw[bytes.Index(raw, []byte("\n\n"))+2:]
		head, sigs := raw[:len(raw)-len(line)], []byte(nil)
		for i := 0; len(head)+len(sigs)+2*len(line) < MaxHead && i < 90; i++ {
			sigs = append(sigs, bytes.Replace(line, []byte("d2"), fmt.Appendf(nil, "stranger-of-a-very-long-name-%d", i), 1)...)
		}
		return append(append(bytes.Clone(head), sigs...), line...)
	}
	one, two := newBook(t, 279), newBook(t, 280)
	one.add(marshal(t, recordOf(280, 279, 7)))
	own, w, old := Keys{"d2": directors["d2"]}, Witness{}, map[string]storedPeer{}
	keys := Keys{}
	for i := range 64 {
		name := fmt.Sprintf("d%d", i)
		keys[name] = directors["d2"]
		for _, b := range []*book{one, two} {
			s, err := OpenHead(crowded(b), own)
			if err != nil || len(s.Strangers) < 50 {
				t.Fatalf("%d strangers, %v", len(s.Strangers), err)
			}
			w.Hear(name, s)
		}
		old[name] = storedPeer{crowded(two), crowded(one)}
	}
	raw := w.Encode()
	if len(raw) > MaxWitness/16 {
		t.Errorf("%d octets", len(raw))
	}
	stored, err := json.Marshal(old)
	if err != nil {
		t.Fatal(err)
	}
	for what, raw := range map[string][]byte{"encoded": raw, "of before": stored} {
		var again Witness
		if err := again.Decode(raw, keys); err != nil {
			t.Fatalf("%s, %d octets: %v", what, len(raw), err)
		}
		said, _ := again.Said()
		if len(said) != 1 || !strings.Contains(said[0].Fault, "signed two logs of 280 records") { // of d2, whose name is signed
			t.Errorf("%s: %v", what, said)
		}
	}
}
