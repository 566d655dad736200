package secret

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func keyOf(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func identityOf(t testing.TB, name string) *Identity {
	t.Helper()
	id, err := NewIdentity(keyOf(name))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// An identity is the X25519 key that is derived of the director's, the same each time, and
// shows nothing of itself.
func TestIdentity(t *testing.T) {
	id := identityOf(t, "d1")
	scalar, err := hkdf.Key(sha256.New, keyOf("d1").Seed(), nil, identityInfo, 32)
	if err != nil {
		t.Fatal(err)
	}
	private, err := ecdh.X25519().NewPrivateKey(scalar)
	if err != nil {
		t.Fatal(err)
	}
	if want := bech32("age", private.PublicKey().Bytes()); id.Recipient() != want {
		t.Errorf("recipient %s, want %s", id.Recipient(), want)
	}
	if id.Recipient() != identityOf(t, "d1").Recipient() || id.Recipient() == identityOf(t, "d2").Recipient() {
		t.Error("it is not the director's own")
	}
	if err := ParseRecipient(id.Recipient()); err != nil {
		t.Error(err)
	}
	for _, text := range []string{"", "age1", strings.ToUpper(id.Recipient()), id.Recipient() + "q", "age1yubikey1q", bech32("age", make([]byte, 32))} {
		if ParseRecipient(text) == nil {
			t.Errorf("took %q", text)
		}
	}
	for _, shown := range []string{fmt.Sprint(id), fmt.Sprintf("%+v", id), fmt.Sprintf("%#v", id)} {
		if strings.Contains(strings.ToUpper(shown), "SECRET-KEY") || bytes.Contains([]byte(shown), scalar[:8]) {
			t.Errorf("it shows itself: %s", shown)
		}
	}
	if _, err := NewIdentity(nil); err == nil {
		t.Error("took no key")
	}
}

// A value opens for each reader and for nobody else, under its own fleet and name alone.
func TestSeal(t *testing.T) {
	ids := []*Identity{identityOf(t, "d1"), identityOf(t, "d2"), identityOf(t, "d3")}
	value := []byte("0123456789abcdef0123456789abcdef")
	blob, err := Seal("f", "cookie", value, []string{ids[0].Recipient(), ids[1].Recipient()})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(blob, value[:8]) {
		t.Fatal("it is in the clear")
	}
	for i, id := range ids {
		got, err := id.Open("f", "cookie", blob)
		if i < 2 && (err != nil || !bytes.Equal(got, value)) {
			t.Errorf("reader %d: %q, %v", i, got, err)
		}
		if i == 2 && (err == nil || !strings.Contains(err.Error(), "not encrypted to this director's key")) {
			t.Errorf("who is no reader: %q, %v", got, err)
		}
	}
	flipped := slices.Clone(blob)
	flipped[len(flipped)-1] ^= 1
	for _, tc := range []struct {
		name, fleet, of string
		blob            []byte
	}{
		{"another fleet", "g", "cookie", blob},
		{"another name", "f", "tsig/x", blob},
		{"a flipped bit", "f", "cookie", flipped},
		{"the end is missing", "f", "cookie", blob[:len(blob)-20]},
		{"nothing", "f", "cookie", nil},
		{"too much", "f", "cookie", make([]byte, MaxBlob+1)},
	} {
		if got, err := ids[0].Open(tc.fleet, tc.of, tc.blob); err == nil || strings.Contains(err.Error(), string(value)) {
			t.Errorf("%s: opens to %q, %v", tc.name, got, err)
		}
	}
	for _, tc := range []struct {
		value []byte
		to    []string
	}{
		{nil, []string{ids[0].Recipient()}},
		{make([]byte, MaxValue+1), []string{ids[0].Recipient()}},
		{value, nil},
		{value, slices.Repeat([]string{ids[0].Recipient()}, MaxReaders+1)},
		{value, []string{"age1x"}},
	} {
		if _, err := Seal("f", "cookie", tc.value, tc.to); err == nil || strings.Contains(err.Error(), string(value)) {
			t.Errorf("sealed %d octets to %d: %v", len(tc.value), len(tc.to), err)
		}
	}
	// As many readers as there may be, and as large a value, fit.
	if _, err := Seal("f", "cookie", make([]byte, MaxValue), slices.Repeat([]string{ids[0].Recipient()}, MaxReaders)); err != nil {
		t.Error(err)
	}
}

// What is put into a vault comes out of it, the order of names makes the octets, and what is
// not named stays behind.
func TestVault(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		blobs := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 1, 100), 0, 8).Draw(rt, "blobs")
		v, order := Vault{}, []Sum{}
		for _, b := range blobs {
			order = append(order, v.Put(b))
		}
		v.Put([]byte("not named, and longer than any of the others is, so that it is none of them: so it stays behind. so it stays behind"))
		octets, err := v.Encode(order)
		if err != nil {
			rt.Fatal(err)
		}
		got, err := DecodeVault(octets)
		if err != nil {
			rt.Fatal(err)
		}
		for i, b := range blobs {
			if !bytes.Equal(got[order[i]], b) {
				rt.Fatalf("blob %d is lost", i)
			}
		}
		if len(got) > len(blobs) {
			rt.Fatal("what is not named is there")
		}
		again, err := got.Encode(order)
		if err != nil || !bytes.Equal(again, octets) {
			rt.Fatalf("encoded again it differs: %v", err)
		}
	})
	if _, err := (Vault{}).Encode([]Sum{{}}); err == nil {
		t.Error("encoded what is not at hand")
	}
	large, order := Vault{}, []Sum{}
	for i := range MaxVault/MaxBlob + 1 {
		order = append(order, large.Put(bytes.Repeat([]byte{byte(i)}, MaxBlob)))
	}
	if _, err := large.Encode(order); err == nil {
		t.Error("encoded more than fits")
	}
}

func FuzzVault(f *testing.F) {
	v := Vault{}
	octets, err := v.Encode([]Sum{v.Put([]byte("one")), v.Put([]byte("two"))})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(octets)
	f.Add([]byte{8, 1, 18})
	f.Fuzz(func(t *testing.T, octets []byte) {
		got, err := DecodeVault(octets)
		if err != nil {
			return
		}
		for sum, blob := range got {
			if sha256.Sum256(blob) != sum || len(blob) == 0 || len(blob) > MaxBlob {
				t.Errorf("a blob of %d octets under another name", len(blob))
			}
		}
	})
}

// FuzzOpen gives a director what somebody else wrote, in the place of a ciphertext.
func FuzzOpen(f *testing.F) {
	id, err := NewIdentity(keyOf("d1"))
	if err != nil {
		f.Fatal(err)
	}
	blob, err := Seal("f", "cookie", []byte("0123456789abcdef"), []string{id.Recipient()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(blob)
	f.Add([]byte("age-encryption.org/v1\n-> X25519 x\n"))
	f.Fuzz(func(t *testing.T, octets []byte) {
		if got, err := id.Open("f", "cookie", octets); err == nil && (len(got) == 0 || len(got) > MaxValue) {
			t.Errorf("opens to %d octets", len(got))
		}
	})
}
