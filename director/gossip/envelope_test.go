package gossip

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// S7, F13: only what a registered director of this fleet signed opens.
func TestOpen(t *testing.T) {
	d1 := identity("d1", "", 5)
	other := identity("d1", "another", 5)
	roster := func(name string) ed25519.PublicKey {
		if name == "d1" {
			return d1.Public()
		}
		return nil
	}
	good := Seal("fleet-1", 7, "d1", d1.Key, 5, 9, 11, []byte("payload"))
	flip := func(i int) []byte {
		b := bytes.Clone(good)
		b[i] ^= 1
		return b
	}
	tests := []struct {
		name string
		raw  []byte
		want error
	}{
		{"good", good, nil},
		{"empty payload", Seal("fleet-1", 7, "d1", d1.Key, 5, 9, 11, nil), nil},
		{"empty", nil, ErrMalformed},
		{"cut short", good[:headerSize], ErrMalformed},
		{"last octet missing", good[:len(good)-1], ErrUnsigned},
		{"one octet more", append(bytes.Clone(good), 0), ErrUnsigned},
		{"another version", flip(0), ErrMalformed},
		{"another kind", flip(1), ErrUnsigned},
		{"another fleet's digest", flip(2), ErrForeignFleet},
		{"another boot", flip(17), ErrUnsigned},
		{"another instance", flip(21), ErrUnsigned},
		{"another seq", flip(29), ErrUnsigned},
		{"another payload", flip(len(good) - ed25519.SignatureSize - 1), ErrUnsigned},
		{"another signature", flip(len(good) - 1), ErrUnsigned},
		{"name runs into the signature", func() []byte { b := bytes.Clone(good); b[headerSize-1] = 255; return b }(), ErrMalformed},
		{"no name", Seal("fleet-1", 7, "", d1.Key, 5, 9, 11, []byte("payload")), ErrMalformed},
		{"name with a newline", Seal("fleet-1", 7, "d\n", d1.Key, 5, 9, 11, []byte("payload")), ErrMalformed},
		{"name too long", Seal("fleet-1", 7, strings.Repeat("d", MaxName+1), d1.Key, 5, 9, 11, nil), ErrMalformed},
		{"boot 0", Seal("fleet-1", 7, "d1", d1.Key, 0, 9, 11, nil), ErrMalformed},
		{"seq 0", Seal("fleet-1", 7, "d1", d1.Key, 5, 9, 0, nil), ErrMalformed},
		{"another fleet", Seal("fleet-2", 7, "d1", d1.Key, 5, 9, 11, nil), ErrForeignFleet},
		{"no fleet", Seal("", 7, "d1", d1.Key, 5, 9, 11, nil), ErrForeignFleet},
		{"not in the roster", Seal("fleet-1", 7, "d2", d1.Key, 5, 9, 11, nil), ErrUnknownDirector},
		{"another key", Seal("fleet-1", 7, "d1", other.Key, 5, 9, 11, nil), ErrChangedKey},
		{"another's signature under the roster's key", func() []byte {
			b := Seal("fleet-1", 7, "d1", other.Key, 5, 9, 11, nil)
			copy(b[30:], d1.Public())
			return b
		}(), ErrUnsigned},
		{"oversized", make([]byte, MaxReliable+1), ErrOversized},
	}
	for _, tc := range tests {
		m, err := Open("fleet-1", tc.raw, roster)
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		}
		if err == nil && (!m.Pinned || m.From != "d1" || m.Boot != 5 || m.Instance != 9 || m.Seq != 11 || m.Kind != 7 || m.Fleet != "fleet-1") {
			t.Errorf("%s: %+v", tc.name, m)
		}
	}
}

// A signature is of one use: none of a plan or a meta passes for a message's.
func TestTagsDiffer(t *testing.T) {
	if messageTag == metaTag || strings.HasPrefix(messageTag, metaTag) || strings.HasPrefix(metaTag, messageTag) {
		t.Error("one tag begins with the other")
	}
	// Length before content: no two fleets share signed octets.
	if bytes.Equal(underSignature("ab", []byte("c")), underSignature("a", []byte("bc"))) {
		t.Error("two fleets share signed octets")
	}
}

func TestSealOpens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := identity(rapid.StringMatching(`[a-zA-Z0-9._-]{1,100}`).Draw(t, "name"), "", 1)
		fleet := rapid.StringN(0, 40, 64).Draw(t, "fleet")
		payload := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "payload")
		boot, seq := rapid.Uint64Min(1).Draw(t, "boot"), rapid.Uint64Min(1).Draw(t, "seq")
		raw := Seal(fleet, 3, id.Name, id.Key, boot, 4, seq, payload)
		if len(raw) != Overhead(id.Name)+len(payload) {
			t.Fatalf("sealed to %d octets, Overhead says %d", len(raw), Overhead(id.Name)+len(payload))
		}
		m, err := Open(fleet, raw, func(string) ed25519.PublicKey { return id.Public() })
		if err != nil {
			t.Fatal(err)
		}
		if m.From != id.Name || m.Boot != boot || m.Seq != seq || !bytes.Equal(m.Payload, payload) || !bytes.Equal(m.Raw, raw) {
			t.Fatalf("opened to %+v", m)
		}
	})
}

func FuzzOpen(f *testing.F) {
	id := identity("d1", "", 1)
	f.Add(Seal("fleet-1", 7, "d1", id.Key, 5, 9, 11, []byte("payload")))
	f.Add(Seal("", 0, "d1", id.Key, 1, 1, 1, nil))
	f.Add([]byte{envelopeVersion})
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := Open("fleet-1", raw, func(string) ed25519.PublicKey { return id.Public() })
		if err != nil {
			return
		}
		// What opens is what its author sealed, octet for octet.
		if again := Seal("fleet-1", m.Kind, m.From, id.Key, m.Boot, m.Instance, m.Seq, m.Payload); !bytes.Equal(again, raw) {
			t.Errorf("%x opens, but seals to %x", raw, again)
		}
	})
}

func TestMeta(t *testing.T) {
	id := identity("d1", "", 1)
	want := Meta{Fleet: "fleet-1", Site: "fra-dc1", DNS: "192.0.2.53:53", HasPlan: true, Key: id.Public(), Gossip: "192.0.2.1:7946", Geo: "0123456789abcdef", Reads: 300}
	raw, err := want.seal("d1", id.Key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := openMeta("d1", raw)
	if err != nil {
		t.Fatal(err)
	}
	if got.Fleet != want.Fleet || got.Site != want.Site || got.DNS != want.DNS || got.HasPlan != want.HasPlan || !bytes.Equal(got.Key, want.Key) || got.Gossip != want.Gossip || got.Geo != want.Geo || got.Reads != want.Reads {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for i := range raw {
		b := bytes.Clone(raw)
		b[i] ^= 4
		if _, err := openMeta("d1", b); err == nil {
			t.Errorf("octet %d changed, and it opens", i)
		}
	}
	if _, err := openMeta("d2", raw); err == nil {
		t.Error("one director's meta opens under another's name")
	}
	if _, err := openMeta("d1", append(raw, make([]byte, 512)...)); err == nil {
		t.Error("more than 512 octets open")
	}
	for name, bad := range map[string]Meta{
		"escape in site":  {Site: "fra\x1b[2J", Key: id.Public(), Gossip: "192.0.2.1:1"},
		"long fleet":      {Fleet: strings.Repeat("f", maxFleet+1), Key: id.Public(), Gossip: "192.0.2.1:1"},
		"site is no text": {Site: "\xff", Key: id.Public(), Gossip: "192.0.2.1:1"},
		"geo is no hash":  {Geo: "GeoLite2", Key: id.Public(), Gossip: "192.0.2.1:1"},
		"geo is too long": {Geo: strings.Repeat("00", maxGeo+1), Key: id.Public(), Gossip: "192.0.2.1:1"},
	} {
		if _, err := bad.seal("d1", id.Key); err == nil {
			t.Errorf("%s: sealed", name)
		}
	}
	// A later version's fields are skipped.
	body := append([]byte{}, raw[:len(raw)-ed25519.SignatureSize]...)
	body = append(body, 0x9a, 0x06, 1, 'x', 0xa0, 0x06, 5) // fields 99 and 100
	body = append(body, ed25519.Sign(id.Key, metaSigned("d1", body))...)
	if got, err := openMeta("d1", body); err != nil || got.Site != want.Site {
		t.Errorf("with a later version's fields: %+v, %v", got, err)
	}
}

// What was sealed by a version that knew of no geo table must fit with one, too; and
// what a later version says of it, this one shows only where it can.
func TestMetaOfGeo(t *testing.T) {
	id := identity("d1", "", 1)
	for site := 1; ; site++ {
		m := Meta{Fleet: "fleet-1", Site: strings.Repeat("s", site), HasPlan: true, Key: id.Public(), Gossip: "192.0.2.1:7946"}
		if _, err := m.seal("d1", id.Key); err != nil {
			if site < 300 {
				t.Errorf("a site of %d octets: %v", site, err)
			}
			break
		}
		m.Geo = "0123456789abcdef"
		raw, err := m.seal("d1", id.Key)
		if err != nil {
			t.Fatalf("a site of %d octets was sealed before: %v", site, err)
		}
		got, err := openMeta("d1", raw)
		if err != nil || got.Site != m.Site || got.Geo != "" && got.Geo != m.Geo || site < 300 && got.Geo == "" {
			t.Fatalf("a site of %d octets opens as %+v, %v", site, got, err)
		}
	}
	raw, err := Meta{Site: "s", Key: id.Public(), Gossip: "192.0.2.1:1"}.seal("d1", id.Key)
	if err != nil {
		t.Fatal(err)
	}
	body := append(bytes.Clone(raw[:len(raw)-ed25519.SignatureSize]), byte(metaGeo)<<3|2, maxGeo+1)
	body = append(body, make([]byte, maxGeo+1)...)
	body = append(body, ed25519.Sign(id.Key, metaSigned("d1", body))...)
	if got, err := openMeta("d1", body); err != nil || got.Geo != "" || got.Site != "s" {
		t.Errorf("with a longer hash it opens as %+v, %v", got, err)
	}
}

func FuzzOpenMeta(f *testing.F) {
	id := identity("d1", "", 1)
	raw, err := Meta{Fleet: "f", Site: "s", DNS: "d", HasPlan: true, Key: id.Public(), Gossip: "192.0.2.1:1"}.seal("d1", id.Key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, body []byte) {
		_, _ = openMeta("d1", body)
		// With a good signature, so that the fields are read.
		if len(body) == 0 {
			return
		}
		signed := append(bytes.Clone(body), ed25519.Sign(id.Key, metaSigned("d1", body))...)
		if m, err := openMeta("d1", signed); err == nil && !bytes.Equal(m.Key, id.Public()) {
			t.Errorf("opened under key %x", m.Key)
		}
	})
}
