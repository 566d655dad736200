package secret

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// The bounds of one secret.
const (
	MaxValue   = 4 << 10  // octets of a value
	MaxBlob    = 24 << 10 // of its ciphertext
	MaxReaders = 64       // directors that it is encrypted to: each takes some 100 octets
)

// errBound says that a ciphertext is not of what it was to be of.
var errBound = errors.New("it is of another fleet or name than the plan says")

// bound is what stands before each value within its ciphertext, so that no blob can be
// handed out as another one.
func bound(fleet, name string) []byte {
	return fmt.Appendf(nil, "divert secret v1\x00%s\x00%s\x00", fleet, name)
}

// Seal encrypts a value so that each of the recipients can read it.
func Seal(fleet, name string, value []byte, recipients []string) ([]byte, error) {
	switch {
	case len(value) == 0 || len(value) > MaxValue:
		return nil, fmt.Errorf("a secret has 1 to %d octets, this one %d", MaxValue, len(value))
	case len(recipients) == 0 || len(recipients) > MaxReaders:
		return nil, fmt.Errorf("a secret is encrypted to 1 to %d directors, not to %d", MaxReaders, len(recipients))
	}
	to := make([]age.Recipient, 0, len(recipients))
	for _, text := range recipients {
		r, err := age.ParseX25519Recipient(text)
		if err != nil {
			return nil, fmt.Errorf("recipient %.80q: %w", text, err)
		}
		to = append(to, r)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to...)
	if err != nil {
		return nil, fmt.Errorf("encrypting %s: %w", name, err)
	}
	if _, err := w.Write(append(bound(fleet, name), value...)); err != nil {
		return nil, fmt.Errorf("encrypting %s: %w", name, err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("encrypting %s: %w", name, err)
	}
	if out.Len() > MaxBlob {
		return nil, fmt.Errorf("%s comes to %d octets encrypted, at most %d", name, out.Len(), MaxBlob)
	}
	return out.Bytes(), nil
}

// Open decrypts a value. Its errors hold nothing of it.
func (i *Identity) Open(fleet, name string, blob []byte) ([]byte, error) {
	if len(blob) > MaxBlob {
		return nil, fmt.Errorf("it has %d octets, at most %d", len(blob), MaxBlob)
	}
	r, err := age.Decrypt(bytes.NewReader(blob), i.x25519)
	var none *age.NoIdentityMatchError
	switch {
	case errors.As(err, &none):
		return nil, errors.New("it is not encrypted to this director's key")
	case err != nil:
		return nil, errors.New("it cannot be decrypted: it is damaged, or no age file")
	}
	head := bound(fleet, name)
	plain, err := io.ReadAll(io.LimitReader(r, int64(len(head)+MaxValue+1)))
	if err != nil {
		return nil, errors.New("it cannot be decrypted: it is damaged")
	}
	value, ok := bytes.CutPrefix(plain, head)
	if !ok || len(value) == 0 || len(value) > MaxValue {
		return nil, errBound
	}
	return value, nil
}
