package plan

import (
	"bytes"
	"crypto/ed25519"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

func keyOf(name string) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, name)
	return ed25519.NewKeyFromSeed(seed)
}

func public(name string) []byte { return keyOf(name).Public().(ed25519.PublicKey) }

// draft is a plan whose roster are the names given, in fleet f.
func draft(epoch, revision uint64, names ...string) *Plan {
	p := &Plan{Fleet: "f", Epoch: epoch, Revision: revision, MinReader: ReaderFirst}
	for _, n := range names {
		p.Roster = append(p.Roster, &Director{Name: n, Site: n, Key: public(n), Standing: Director_ACTIVE})
	}
	return p
}

func sealed(t testing.TB, p *Plan, signer string) *Sealed {
	t.Helper()
	s, err := Sign(p, signer, keyOf(signer))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSignAndOpen(t *testing.T) {
	p := draft(1, 7, "d1")
	s := sealed(t, p, "d1")
	again, err := Open(s.Raw)
	if err != nil {
		t.Fatal(err)
	}
	if again.Identity != s.Identity || !proto.Equal(again.Plan, p) || again.Signer != "d1" || !bytes.Equal(again.Key, public("d1")) {
		t.Errorf("opened %+v, want %+v", again, s)
	}
	id, err := ParseIdentity(s.Identity.String())
	if err != nil || id != s.Identity {
		t.Errorf("identity %q read as %+v, %v", s.Identity, id, err)
	}
}

// TestOpenRefuses everything that was not written by who signed it, whole.
func TestOpenRefuses(t *testing.T) {
	good := sealed(t, draft(1, 7, "d1"), "d1").Raw
	change := func(f func(*Envelope)) []byte {
		var e Envelope
		if err := proto.Unmarshal(good, &e); err != nil {
			t.Fatal(err)
		}
		f(&e)
		raw, err := proto.Marshal(&e)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	// resigned keeps the signature good, so that what is inside decides.
	resigned := func(f func(*Envelope, *Plan)) []byte {
		return change(func(e *Envelope) {
			p := &Plan{}
			if err := proto.Unmarshal(e.GetPayload(), p); err != nil {
				t.Fatal(err)
			}
			f(e, p)
			payload, err := proto.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			e.Payload = payload
			e.Signature = ed25519.Sign(keyOf("d1"), signed(e))
		})
	}
	tests := []struct {
		name string
		raw  []byte
		want string
	}{
		{"empty", nil, "no plan envelope"},
		{"noise", []byte("noise"), "reading plan envelope"},
		{"newer format", change(func(e *Envelope) { e.Format = Format + 1 }), "upgrade it"},
		{"another kind", change(func(e *Envelope) { e.Kind = "vote" }), `holds "vote"`},
		{"another fleet's envelope", change(func(e *Envelope) { e.Fleet = "g" }), "does not verify"},
		{"another key", change(func(e *Envelope) { e.Key = public("d2") }), "does not verify"},
		{"no key", change(func(e *Envelope) { e.Key = nil }), "no Ed25519 key"},
		{"long key", change(func(e *Envelope) { e.Key = append(e.Key, 0) }), "no Ed25519 key"},
		{"no signature", change(func(e *Envelope) { e.Signature = nil }), "does not verify"},
		{"flipped payload", change(func(e *Envelope) { e.Payload[3] ^= 1 }), "does not verify"},
		{"cut payload", change(func(e *Envelope) { e.Payload = e.Payload[:len(e.Payload)-1] }), "does not verify"},
		{"plan of another fleet", resigned(func(_ *Envelope, p *Plan) { p.Fleet = "g" }), `plan of fleet "g" in an envelope of fleet "f"`},
		{"no fleet", resigned(func(e *Envelope, p *Plan) { e.Fleet, p.Fleet = "", "" }), `plan of fleet ""`},
		{"wants a newer reader", resigned(func(_ *Envelope, p *Plan) { p.MinReader = Reader + 1 }), "wants a reader"},
		{"no revision", resigned(func(_ *Envelope, p *Plan) { p.Revision = 0 }), "no epoch or no revision"},
		{"no epoch", resigned(func(_ *Envelope, p *Plan) { p.Epoch = 0 }), "no epoch or no revision"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if s, err := Open(tc.raw); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %+v, %v, want %q", s, err, tc.want)
			}
		})
	}
}

// TestTrusted is S3 and S7: which plan may follow which.
func TestTrusted(t *testing.T) {
	cur := sealed(t, draft(2, 7, "d1", "d2"), "d1")
	child := func(p *Plan) *Plan { p.Parent = cur.Identity.Hash[:]; return p }
	other := draft(2, 8, "d1")
	other.Fleet = "g"
	fork := draft(2, 7, "d1", "d2")
	fork.Writer = "other content"
	removed := draft(2, 8, "d1", "d2")
	removed.Roster[1].Standing = Director_REMOVED
	tests := []struct {
		name      string
		cur, next *Sealed
		want      string // "" = trusted
	}{
		{"the first plan", nil, cur, ""},
		{"a first plan by a stranger", nil, sealed(t, draft(1, 1, "d1"), "dx"), "not in its roster"},
		{"the same plan", cur, cur, ""},
		{"the child", cur, sealed(t, child(draft(2, 8, "d1", "d2")), "d2"), ""},
		{"a child by a stranger", cur, sealed(t, child(draft(2, 8, "d1", "d2")), "dx"), "not in the roster"},
		{"a child by a stranger who puts himself in", cur, sealed(t, child(draft(2, 8, "d1", "d2", "dx")), "dx"), "not in the roster"},
		{"a later one by a newcomer, with steps missed", cur, sealed(t, draft(2, 9, "d1", "d3"), "d3"), ""},
		{"a later one by a stranger, with steps missed", cur, sealed(t, draft(2, 9, "d1", "d3"), "dx"), "not in its roster"},
		{"an older one", cur, sealed(t, draft(2, 6, "d1", "d2"), "d1"), "is older"},
		{"a higher revision of an older epoch", cur, sealed(t, draft(1, 99, "d1", "d2"), "d1"), "is older"},
		{"a lower revision of a newer epoch", cur, sealed(t, draft(3, 1, "d1", "d2"), "d1"), ""},
		{"another of the same order", cur, sealed(t, fork, "d1"), "two plans claim 2.7"},
		{"another fleet's", cur, sealed(t, other, "d1"), "is of fleet g"},
		{"signed by one whom it removes", nil, sealed(t, removed, "d2"), "not in its roster"},
		{"after the signer's removal", sealed(t, removed, "d1"), sealed(t, child(draft(2, 9, "d1")), "d2"), "not in its roster"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			err := Trusted(tc.cur, tc.next)
			if tc.want == "" && err != nil {
				t.Errorf("refused: %v", err)
			}
			if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// TestUnknownFieldsSurvive: what a newer version wrote passes through a rewrite
// by this one.
func TestUnknownFieldsSurvive(t *testing.T) {
	payload, err := proto.Marshal(draft(1, 1, "d1"))
	if err != nil {
		t.Fatal(err)
	}
	payload = protowire.AppendTag(payload, 9999, protowire.BytesType)
	payload = protowire.AppendString(payload, "from the future")
	p := &Plan{}
	if err := proto.Unmarshal(payload, p); err != nil {
		t.Fatal(err)
	}
	next := proto.CloneOf(p)
	next.Revision = 2
	s := sealed(t, next, "d1")
	if !bytes.Contains(s.Raw, []byte("from the future")) {
		t.Error("a field from the future was lost")
	}
}

// TestIdentityOrder: Compare is a total order by epoch, then revision.
func TestIdentityOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one := func(label string) Identity {
			return Identity{Fleet: "f", Epoch: rapid.Uint64Range(0, 3).Draw(t, label), Revision: rapid.Uint64Range(0, 3).Draw(t, label)}
		}
		a, b, c := one("a"), one("b"), one("c")
		if a.Compare(b) != -b.Compare(a) {
			t.Fatal("not antisymmetric")
		}
		if a.Compare(b) <= 0 && b.Compare(c) <= 0 && a.Compare(c) > 0 {
			t.Fatal("not transitive")
		}
		if (a.Compare(b) == 0) != (a.Epoch == b.Epoch && a.Revision == b.Revision) {
			t.Fatal("equal without being equal")
		}
	})
}

func TestParseIdentityRefuses(t *testing.T) {
	for _, s := range []string{"", "fleet=f epoch=1 revision=2 hash=zz", "fleet=f epoch=1 revision=2 hash=abcd", "fleet=f epoch=-1 revision=2 hash=00", "none"} {
		if id, err := ParseIdentity(s); err == nil {
			t.Errorf("%q read as %+v", s, id)
		}
	}
}

func TestActiveAndHolder(t *testing.T) {
	p := draft(1, 1, "d1", "d2", "d3")
	p.Roster[1].Standing = Director_REMOVED
	p.Roster[2].Key = nil
	var names []string
	for _, d := range p.Active() {
		names = append(names, d.GetName())
	}
	if got := strings.Join(names, " "); got != "d1 d3" {
		t.Errorf("active %s", got)
	}
	if p.Holder(public("d2")) != nil || p.Holder(nil) != nil || p.Holder(public("d1")).GetName() != "d1" {
		t.Error("holder of a removed, an empty or a good key")
	}
	if p.Director("d2").GetStanding() != Director_REMOVED || p.Director("dx") != nil {
		t.Error("director by name")
	}
}

// FuzzOpen: whatever comes, Open gives a plan that was signed as it says, or an
// error; and Trusted never panics on one.
func FuzzOpen(f *testing.F) {
	cur, err := Sign(draft(1, 2, "d1"), "d1", keyOf("d1"))
	if err != nil {
		f.Fatal(err)
	}
	next, err := Sign(draft(1, 3, "d1"), "d1", keyOf("d1"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(cur.Raw)
	f.Add(next.Raw)
	f.Add([]byte{})
	f.Add([]byte{0x08, 0x01, 0x12, 0x04, 'p', 'l', 'a', 'n'})
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := Open(raw)
		if err != nil {
			if s != nil {
				t.Fatal("a plan beside an error")
			}
			return
		}
		if s.Identity.Epoch == 0 || s.Identity.Revision == 0 || s.Identity.Fleet == "" {
			t.Fatalf("identity %v", s.Identity)
		}
		var e Envelope
		if err := proto.Unmarshal(raw, &e); err != nil || !ed25519.Verify(s.Key, signed(&e), e.GetSignature()) {
			t.Fatal("opened without a good signature")
		}
		if Trusted(cur, s) == nil && s.Identity.Compare(cur.Identity) < 0 {
			t.Fatal("S3: trusted a plan of lower order")
		}
	})
}

// FuzzParseIdentity: what is read is what would be written.
func FuzzParseIdentity(f *testing.F) {
	f.Add(Identity{Fleet: "f", Epoch: 1, Revision: 2}.String())
	f.Add("fleet=f epoch=1 revision=2 hash=")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseIdentity(text)
		if err != nil {
			return
		}
		again, err := ParseIdentity(id.String())
		if err != nil || again != id {
			t.Fatalf("%q read as %v, written as %q, read as %v (%v)", text, id, id.String(), again, err)
		}
	})
}
