package director

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/divertdns/divert/director/core"
)

// What a director says of secrets is protobuf on the wire: its public key and the signature
// that says it is its own, and the hash of what it goes by.
const (
	secretFormat = 1
	maxRecipient = 128
	maxSecretWhy = 320
	// Of names of secrets, and of each in octets.
	maxSecretLacks = 16
	maxSecretLack  = 128
)

var errSecretWord = errors.New("malformed word of secrets")

func encodeSecretWord(w core.SecretWord) []byte {
	b := putVarint(nil, 1, secretFormat)
	b = putText(b, 2, w.Recipient)
	b = protowire.AppendBytes(protowire.AppendTag(b, 3, protowire.BytesType), w.Signature)
	if len(w.Vault) > 0 {
		b = protowire.AppendBytes(protowire.AppendTag(b, 4, protowire.BytesType), w.Vault)
	}
	b = putText(b, 5, w.Trouble[:min(len(w.Trouble), maxSecretWhy)])
	for _, name := range w.Lacks[:min(len(w.Lacks), maxSecretLacks)] {
		b = putText(b, 6, name)
	}
	return b
}

func decodeSecretWord(payload []byte) (w core.SecretWord, err error) {
	format := uint64(0)
	err = eachPanelField(payload, func(num protowire.Number, n uint64, data []byte) error {
		switch num {
		case 1:
			format = n
		case 2:
			if len(data) > maxRecipient {
				return errSecretWord
			}
			w.Recipient = legible(string(data))
		case 3:
			if len(data) != ed25519.SignatureSize {
				return errSecretWord
			}
			w.Signature = data
		case 4:
			if len(data) != sha256.Size {
				return errSecretWord
			}
			w.Vault = data
		case 5:
			if len(data) > maxSecretWhy {
				return errSecretWord
			}
			w.Trouble = legible(string(data))
		case 6:
			name := string(data)
			if len(w.Lacks) >= maxSecretLacks || len(name) > maxSecretLack || core.CheckSecretName(name) != nil {
				return errSecretWord
			}
			w.Lacks = append(w.Lacks, name)
		}
		return nil
	})
	if err == nil && (format != secretFormat || w.Recipient == "" || len(w.Signature) == 0) {
		err = errSecretWord
	}
	return w, err
}
