package gossip

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/memberlist"
)

// MaxSecrets is how many keys a director holds at once: the old and the new one.
const MaxSecrets = 2

// LoadSecrets reads the fleet's gossip keys, the one to send under first: 16, 24 or 32
// octets as they are, or a line of base64 for each.
func LoadSecrets(path string) ([][]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the gossip key: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(f, 4096))
	if _ = f.Close(); err != nil {
		return nil, fmt.Errorf("reading the gossip key: %w", err)
	}
	keys := ParseSecrets(raw)
	if keys == nil {
		return nil, fmt.Errorf("gossip key %s is not 16, 24 or 32 octets (two lines of base64 while one is turned over): make one with `(umask 077; openssl rand -base64 32 > %s)` and give every director the same file", path, path)
	}
	return keys, nil
}

// ParseSecrets reads what a key file holds; nil: no keys.
func ParseSecrets(raw []byte) [][]byte {
	if keySize(raw) {
		return [][]byte{raw}
	}
	text := strings.TrimSpace(string(raw))
	if key, err := base64.StdEncoding.DecodeString(text); err == nil && keySize(key) {
		return [][]byte{key} // in several lines, too
	}
	var keys [][]byte
	for line := range strings.Lines(text) {
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(line))
		if err != nil || !keySize(key) || len(keys) == MaxSecrets || holds(keys, key) {
			return nil
		}
		keys = append(keys, key)
	}
	return keys
}

// FormatSecrets writes keys as ParseSecrets reads them, for a file that only its director
// may read.
func FormatSecrets(keys [][]byte) []byte {
	var b bytes.Buffer
	for _, k := range keys {
		b.WriteString(base64.StdEncoding.EncodeToString(k))
		b.WriteByte('\n')
	}
	return b.Bytes()
}

func holds(keys [][]byte, key []byte) bool {
	return slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
}

func keySize(key []byte) bool { return len(key) == 16 || len(key) == 24 || len(key) == 32 }

// checkSecrets refuses to speak in the clear where others could listen or join.
func checkSecrets(secrets [][]byte, addrs ...netip.AddrPort) error {
	if len(secrets) > MaxSecrets {
		return fmt.Errorf("%d gossip keys: a director holds %d at most, the old and the new one", len(secrets), MaxSecrets)
	}
	for _, secret := range secrets {
		if !keySize(secret) {
			return fmt.Errorf("gossip key has %d octets, it must have 16, 24 or 32: make one with `(umask 077; openssl rand -base64 32 > gossip.key)`", len(secret))
		}
	}
	if len(secrets) > 0 {
		return nil
	}
	for _, a := range addrs {
		if !a.Addr().IsLoopback() {
			return fmt.Errorf("gossip on %s needs a key: make one with `(umask 077; openssl rand -base64 32 > gossip.key)`, give every director the same file, and name it as gossip.keyFile in its settings", a)
		}
	}
	return nil
}

// newRing makes memberlist's ring; nil where nothing is to be encrypted.
func newRing(secrets [][]byte) (*memberlist.Keyring, error) {
	if len(secrets) == 0 {
		return nil, nil
	}
	ring, err := memberlist.NewKeyring(slices.Clone(secrets), secrets[0])
	if err != nil {
		return nil, fmt.Errorf("making the ring of gossip keys: %w", err)
	}
	return ring, nil
}

// Rekey has the node send under the first of these keys from now on, and take what comes
// under any of them. Nothing that is under way is lost where both rings hold a key of the
// others'.
func (n *Node) Rekey(secrets [][]byte) error {
	if n.ring == nil || len(secrets) == 0 {
		return fmt.Errorf("gossip that began without a key, or is left with none, cannot be turned over: start the directors anew")
	}
	if err := checkSecrets(secrets); err != nil {
		return err
	}
	n.rekeying.Lock()
	defer n.rekeying.Unlock()
	// memberlist takes a key out of a slice that its readers hold, and moves what stands
	// behind it (v0.7.0, Keyring.RemoveKey): only the last one is ever taken out. With
	// two keys at most that is always possible.
	have := n.ring.GetKeys()
	if len(have) == MaxSecrets && (!holds(secrets, have[1]) || !holds(secrets, have[0])) {
		if holds(secrets, have[1]) {
			if err := n.ring.UseKey(have[1]); err != nil {
				return fmt.Errorf("changing the gossip key: %w", err)
			}
		}
		if err := n.ring.RemoveKey(n.ring.GetKeys()[1]); err != nil {
			return fmt.Errorf("removing a gossip key: %w", err)
		}
	}
	if err := n.ring.AddKey(bytes.Clone(secrets[0])); err != nil {
		return fmt.Errorf("adding a gossip key: %w", err)
	}
	if err := n.ring.UseKey(secrets[0]); err != nil {
		return fmt.Errorf("changing the gossip key: %w", err)
	}
	if rest := n.ring.GetKeys()[1:]; len(rest) > 0 && !holds(secrets, rest[0]) {
		if err := n.ring.RemoveKey(rest[0]); err != nil {
			return fmt.Errorf("removing a gossip key: %w", err)
		}
	}
	for _, k := range secrets[1:] {
		if err := n.ring.AddKey(bytes.Clone(k)); err != nil {
			return fmt.Errorf("adding a gossip key: %w", err)
		}
	}
	return nil
}
