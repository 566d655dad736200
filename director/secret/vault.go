package secret

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// MaxVault is the largest vault, in octets: it fits one blob of the store.
const MaxVault = 448 << 10

const vaultFormat = 1

var errVault = errors.New("is no vault, or a damaged one")

// Sum names a ciphertext.
type Sum = [sha256.Size]byte

// Vault is the ciphertexts of all that a fleet shares, by what names them. A blob may be in
// it once only.
type Vault map[Sum][]byte

// Put adds a ciphertext and gives its name.
func (v Vault) Put(blob []byte) Sum {
	sum := sha256.Sum256(blob)
	v[sum] = blob
	return sum
}

// Encode writes the ciphertexts of the names, in their order: equal vaults have equal
// octets.
func (v Vault) Encode(order []Sum) ([]byte, error) {
	out := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), vaultFormat)
	seen := map[Sum]bool{}
	for _, sum := range order {
		blob, held := v[sum]
		if !held {
			return nil, fmt.Errorf("the ciphertext %x is not at hand", sum[:4])
		}
		if !seen[sum] {
			seen[sum] = true
			out = protowire.AppendBytes(protowire.AppendTag(out, 2, protowire.BytesType), blob)
		}
	}
	if len(out) > MaxVault {
		return nil, fmt.Errorf("all secrets come to %d KiB encrypted, at most %d KiB: remove one first", len(out)>>10, MaxVault>>10)
	}
	return out, nil
}

// DecodeVault reads a vault, whoever wrote it. Fields of later versions are passed over.
func DecodeVault(octets []byte) (Vault, error) {
	if len(octets) > MaxVault {
		return nil, errVault
	}
	out, format := Vault{}, uint64(0)
	for len(octets) > 0 {
		num, kind, n := protowire.ConsumeTag(octets)
		if n < 0 {
			return nil, errVault
		}
		octets = octets[n:]
		size := protowire.ConsumeFieldValue(num, kind, octets)
		if size < 0 {
			return nil, errVault
		}
		switch {
		case num == 1 && kind == protowire.VarintType:
			format, _ = protowire.ConsumeVarint(octets)
		case num == 2 && kind == protowire.BytesType:
			blob, _ := protowire.ConsumeBytes(octets)
			if len(blob) == 0 || len(blob) > MaxBlob {
				return nil, errVault
			}
			out.Put(blob)
		}
		octets = octets[size:]
	}
	if format != vaultFormat {
		return nil, errVault
	}
	return out, nil
}
