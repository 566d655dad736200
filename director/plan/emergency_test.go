package plan

import (
	"bytes"
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func operatorKey(name string) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, name)
	return ed25519.NewKeyFromSeed(seed)
}

func aWord(change func(*Emergency)) *Emergency {
	e := &Emergency{
		Id: "e1", Operator: "oncall", Enrolled: 7, Counter: 1, Scope: "cluster/fra", Author: "alice", Reason: "INC-1",
		Said: timestamppb.New(time.Unix(1_800_000_000, 0)), Lasts: durationpb.New(time.Hour), Revision: 9,
	}
	if change != nil {
		change(e)
	}
	return e
}

// TestWordBounds: a word opens as it was signed, within its bounds, or not at all; the
// largest one fits a datagram with another director's signature (S7).
func TestWordBounds(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Emergency)
		bad    string // "" = it opens
	}{
		{"a drain", nil, ""},
		{"the end of one", func(e *Emergency) { e.Ends, e.Id, e.Lasts = "e1", "e2", nil }, ""},
		{"as long as can be", func(e *Emergency) {
			e.Id, e.Scope, e.Author, e.Reason = strings.Repeat("i", MaxWordID), strings.Repeat("s", MaxWordScope), strings.Repeat("a", MaxWordAuthor), strings.Repeat("r", MaxWordReason)
			e.Operator, e.Ends = strings.Repeat("o", MaxOperatorName), strings.Repeat("e", MaxWordID)
			e.Counter, e.Enrolled, e.Revision = maxCounter, 1<<63, 1<<63
		}, ""},
		{"no ID", func(e *Emergency) { e.Id = "" }, "ID"},
		{"an ID with a space", func(e *Emergency) { e.Id = "e 1" }, "ID"},
		{"no reason", func(e *Emergency) { e.Reason = "" }, "reason"},
		{"a long reason", func(e *Emergency) { e.Reason = strings.Repeat("r", MaxWordReason+1) }, "reason"},
		{"control characters", func(e *Emergency) { e.Author = "a\x1b[31m" }, "control"},
		{"no scope", func(e *Emergency) { e.Scope = "" }, "scope"},
		{"counter 0", func(e *Emergency) { e.Counter = 0 }, "counter"},
		{"a counter that leaves no room", func(e *Emergency) { e.Counter = maxCounter + 1 }, "counter"},
		{"more than an hour", func(e *Emergency) { e.Lasts = durationpb.New(time.Hour + 1) }, "lasts"},
		{"no time", func(e *Emergency) { e.Lasts = nil }, "lasts"},
		{"less than none", func(e *Emergency) { e.Lasts = durationpb.New(-1) }, "lasts"},
		{"never said", func(e *Emergency) { e.Said = &timestamppb.Timestamp{Nanos: -1} }, "said"},
		{"it ends itself", func(e *Emergency) { e.Ends = e.Id }, "ID"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w, err := SignWord(strings.Repeat("f", maxWordFleet), aWord(tc.change), operatorKey("oncall"))
			switch {
			case tc.bad == "" && err != nil:
				t.Fatal(err)
			case tc.bad == "" && !proto.Equal(w.Emergency, aWord(tc.change)):
				t.Errorf("got %v", w.Emergency)
			case tc.bad != "" && (err == nil || !strings.Contains(err.Error(), tc.bad)):
				t.Errorf("got %v, want %q", err, tc.bad)
			}
		})
	}
}

// TestWordForged: a word whose octets, signer or tag are other than what was signed is
// none.
func TestWordForged(t *testing.T) {
	w, err := SignWord("f", aWord(nil), operatorKey("oncall"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range w.Raw {
		raw := bytes.Clone(w.Raw)
		raw[i] ^= 1
		if got, err := OpenWord(raw); err == nil && (!proto.Equal(got.Emergency, w.Emergency) || got.Fleet != w.Fleet) {
			t.Errorf("octet %d flipped: it opens as %v", i, got.Emergency)
		}
	}
	p := &Plan{Fleet: "f", Epoch: 1, Revision: 1}
	sealed, err := Sign(p, "oncall", operatorKey("oncall"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenWord(sealed.Raw); err == nil {
		t.Error("a plan opens as a word")
	}
	if _, err := Open(w.Raw); err == nil {
		t.Error("a word opens as a plan")
	}
}

// TestWordRewritten: what was signed can be written in other octets by whoever passes it
// on. It is the same word, or one director could have a drain go on for ever, and put
// others out, by many of them.
func TestWordRewritten(t *testing.T) {
	w, err := SignWord("f", aWord(nil), operatorKey("oncall"))
	if err != nil {
		t.Fatal(err)
	}
	unknown := protowire.AppendVarint(protowire.AppendTag(bytes.Clone(w.Raw), 99, protowire.VarintType), 1)
	twice := append(bytes.Clone(w.Raw), w.Raw...)
	for _, raw := range [][]byte{unknown, twice} {
		got, err := OpenWord(raw)
		if err != nil {
			continue // just as well
		}
		if sum, err := WordSum(raw); got.Sum != w.Sum || err != nil || sum != w.Sum {
			t.Errorf("it is another word: %s and %s, not %s: %v", got.Sum.Short(), sum.Short(), w.Sum.Short(), err)
		}
	}
	if sum, err := WordSum(w.Raw); sum != w.Sum || err != nil {
		t.Errorf("the word itself: %s, not %s: %v", sum.Short(), w.Sum.Short(), err)
	}
	if _, err := WordSum([]byte("junk")); err == nil {
		t.Error("junk has a sum")
	}
}

// TestHeeds: a word counts by the plan in force alone: its fleet, the key that the plan
// lists for its operator, and the very listing that it names.
func TestHeeds(t *testing.T) {
	key := operatorKey("oncall")
	listed := func(change func(*Operator)) *Plan {
		o := &Operator{Name: "oncall", Key: key.Public().(ed25519.PublicKey), Revision: 7}
		if change != nil {
			change(o)
		}
		return &Plan{Fleet: "f", Operators: []*Operator{o}}
	}
	w, err := SignWord("f", aWord(nil), key)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		p      *Plan
		heeded bool
	}{
		{"listed", listed(nil), true},
		{"nobody is", &Plan{Fleet: "f"}, false},
		{"another fleet's", &Plan{Fleet: "g", Operators: listed(nil).Operators}, false},
		{"another key", listed(func(o *Operator) { o.Key = operatorKey("x").Public().(ed25519.PublicKey) }), false},
		{"removed and listed anew: nothing of before counts", listed(func(o *Operator) { o.Revision = 8 }), false},
	}
	for _, tc := range tests {
		if got := tc.p.Heeds(w) == nil; got != tc.heeded {
			t.Errorf("%s: heeded %t, want %t", tc.name, got, tc.heeded)
		}
	}
	for name, p := range map[string]*Plan{
		"below the floor":          listed(func(o *Operator) { o.Floor = 1 }),
		"settled":                  listed(func(o *Operator) { o.Settled = []*Settled{{Id: "e1", Counter: 1}} }),
		"ended, unknown till then": listed(func(o *Operator) { o.Settled = []*Settled{{Id: "e9", Counter: 9, Ends: "e1"}} }),
		"an override":              {Fleet: "f", Overrides: []*Override{{Id: "e1"}}},
	} {
		if !p.Settles(w) {
			t.Errorf("%s: not settled", name)
		}
	}
	if p := listed(func(o *Operator) { o.Settled = []*Settled{{Id: "e2", Counter: 1}, {Id: "e1", Counter: 2}} }); p.Settles(w) {
		t.Error("settled by others' words")
	}
}

func FuzzOpenWord(f *testing.F) {
	w, err := SignWord("f", aWord(nil), operatorKey("oncall"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(w.Raw)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		w, err := OpenWord(raw)
		if err != nil {
			return
		}
		sum, bad := WordSum(raw)
		if err := w.check(); err != nil || len(w.Raw) > MaxWord || sum != w.Sum || bad != nil {
			t.Errorf("opened out of bounds: %v", err)
		}
	})
}
