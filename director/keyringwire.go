package director

import (
	"crypto/ecdh"
	"crypto/hpke"
	"encoding/hex"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
)

// What directors say of their gossip keys is protobuf on the wire: fingerprints, and the
// public half of a key of this process, to which a director that has the next gossip key
// seals it (RFC 9180). The signature of the message says whose key it is.
const (
	ringFormat  = 1
	ringPrint   = 16  // octets of a fingerprint
	maxTrouble  = 160 // octets
	maxSealed   = 128 // of a sealed gossip key
	ringPublic  = 32
	sealedLabel = "divert gossip key v1"
)

var errRing = errors.New("malformed word of gossip keys")

// ringWord is what a director says of its gossip keys.
type ringWord struct {
	ring   core.KeyRing
	public []byte // X25519
}

func (w ringWord) encode() []byte {
	b := putVarint(nil, 1, ringFormat)
	b = putVarint(b, 2, w.ring.Turn)
	for _, k := range w.ring.Keys {
		raw, err := hex.DecodeString(k)
		if err != nil {
			continue
		}
		b = protowire.AppendBytes(protowire.AppendTag(b, 3, protowire.BytesType), raw)
	}
	b = protowire.AppendBytes(protowire.AppendTag(b, 4, protowire.BytesType), w.public)
	return putText(b, 5, w.ring.Trouble[:min(len(w.ring.Trouble), maxTrouble)])
}

func decodeRingWord(payload []byte) (w ringWord, err error) {
	format := uint64(0)
	err = eachPanelField(payload, func(num protowire.Number, n uint64, data []byte) error {
		switch num {
		case 1:
			format = n
		case 2:
			w.ring.Turn = n
		case 3:
			if len(data) != ringPrint || len(w.ring.Keys) == gossip.MaxSecrets {
				return errRing
			}
			w.ring.Keys = append(w.ring.Keys, hex.EncodeToString(data))
		case 4:
			if len(data) != ringPublic {
				return errRing
			}
			w.public = data
		case 5:
			if len(data) > maxTrouble {
				return errRing
			}
			w.ring.Trouble = legible(string(data))
		}
		return nil
	})
	if err == nil && (format != ringFormat || len(w.ring.Keys) == 0 || len(w.public) == 0) {
		err = errRing
	}
	return w, err
}

func encodeSealed(fingerprint string, sealed []byte) []byte {
	raw, _ := hex.DecodeString(fingerprint) // the plan's, which Check has seen
	b := putVarint(nil, 1, ringFormat)
	b = protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), raw)
	return protowire.AppendBytes(protowire.AppendTag(b, 3, protowire.BytesType), sealed)
}

func decodeSealed(payload []byte) (fingerprint string, sealed []byte, err error) {
	format := uint64(0)
	err = eachPanelField(payload, func(num protowire.Number, n uint64, data []byte) error {
		switch num {
		case 1:
			format = n
		case 2:
			fingerprint = hex.EncodeToString(data)
		case 3:
			sealed = data
		}
		return nil
	})
	if err == nil && (format != ringFormat || !core.ParseFingerprint(fingerprint) || len(sealed) == 0 || len(sealed) > maxSealed) {
		err = errRing
	}
	return fingerprint, sealed, err
}

// sealedInfo binds a sealed key to the fleet, the director and the key that it is of.
func sealedInfo(fleet, to, fingerprint string) []byte {
	return fmt.Appendf(nil, "%s\x00%s\x00%s\x00%s", sealedLabel, fleet, to, fingerprint)
}

// sealSecret encrypts a gossip key so that one process of one director can read it.
func sealSecret(public, secret []byte, fleet, to string) ([]byte, error) {
	key, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("reading the key of %s: %w", to, err)
	}
	recipient, err := hpke.NewDHKEMPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("reading the key of %s: %w", to, err)
	}
	sealed, err := hpke.Seal(recipient, hpke.HKDFSHA256(), hpke.AES256GCM(), sealedInfo(fleet, to, core.Fingerprint(secret)), secret)
	if err != nil {
		return nil, fmt.Errorf("sealing the gossip key: %w", err)
	}
	return sealed, nil
}

// openSecret decrypts a gossip key that was sealed to this process, and holds it against
// the fingerprint that the plan names.
func openSecret(private hpke.PrivateKey, sealed []byte, fleet, me, fingerprint string) ([]byte, error) {
	secret, err := hpke.Open(private, hpke.HKDFSHA256(), hpke.AES256GCM(), sealedInfo(fleet, me, fingerprint), sealed)
	if err != nil {
		return nil, fmt.Errorf("opening the gossip key: %w", err)
	}
	if core.Fingerprint(secret) != fingerprint || len(gossip.ParseSecrets(gossip.FormatSecrets([][]byte{secret}))) != 1 {
		return nil, errors.New("opening the gossip key: it is another one")
	}
	return secret, nil
}
