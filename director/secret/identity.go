package secret

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"
)

// Identity is what a director decrypts with.
type Identity struct{ x25519 *age.X25519Identity }

// identityInfo keeps this key apart from all else that is made of the director's.
const identityInfo = "divert secrets identity v1"

// NewIdentity derives a director's from its signing key (HKDF, RFC 5869), so that there is
// no second file to guard, lose or restore.
func NewIdentity(key ed25519.PrivateKey) (*Identity, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, errors.New("the director's key is none")
	}
	scalar, err := hkdf.Key(sha256.New, key.Seed(), nil, identityInfo, 32)
	if err != nil {
		return nil, fmt.Errorf("deriving the identity of secrets: %w", err)
	}
	id, err := age.ParseX25519Identity(strings.ToUpper(bech32("age-secret-key-", scalar)))
	if err != nil {
		return nil, errors.New("deriving the identity of secrets: age does not take it") // its error may hold what it was given
	}
	return &Identity{x25519: id}, nil
}

// Recipient is the public half, "age1...".
func (i *Identity) Recipient() string { return i.x25519.Recipient().String() }

// String says whose it is and not what.
func (i *Identity) String() string { return "identity of " + i.Recipient() }

// GoString is String: %#v would else show the key.
func (i *Identity) GoString() string { return i.String() }

// ParseRecipient tells what is wrong with the text of a recipient: one that is good, age
// can encrypt to.
func ParseRecipient(text string) error {
	if r, err := age.ParseX25519Recipient(text); err != nil {
		return fmt.Errorf("recipient %.80q: %w", text, err)
	} else if r.String() != text {
		return fmt.Errorf("recipient %.80q is not written as age writes it", text)
	} else if _, err := r.Wrap(make([]byte, 16)); err != nil { // a point of low order
		return fmt.Errorf("recipient %.80q: %w", text, err)
	}
	return nil
}

const bech32Letters = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

// bech32 writes octets as age writes a key (BIP 173), in lower case. age itself makes
// identities of its own drawing alone.
func bech32(prefix string, octets []byte) string {
	sum := uint32(1)
	mix := func(v byte) {
		top := sum >> 25
		sum = (sum&0x1ffffff)<<5 ^ uint32(v)
		for i, g := range [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if top>>i&1 == 1 {
				sum ^= g
			}
		}
	}
	for _, c := range []byte(prefix) {
		mix(c >> 5)
	}
	mix(0)
	for _, c := range []byte(prefix) {
		mix(c & 31)
	}
	out := append([]byte(prefix), '1')
	put := func(v byte) {
		mix(v)
		out = append(out, bech32Letters[v])
	}
	bits, held := uint32(0), 0
	for _, o := range octets {
		bits, held = bits<<8|uint32(o), held+8
		for held >= 5 {
			held -= 5
			put(byte(bits >> held & 31))
		}
	}
	if held > 0 {
		put(byte(bits << (5 - held) & 31))
	}
	for range 6 {
		mix(0)
	}
	sum ^= 1
	for i := range 6 {
		out = append(out, bech32Letters[sum>>(5*(5-i))&31])
	}
	return string(out)
}
