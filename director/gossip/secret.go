package gossip

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
)

// LoadSecret reads the fleet's gossip key: 16, 24 or 32 octets as they are, or
// the same in base64 with any space around it.
func LoadSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the gossip key: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(f, 4096))
	if _ = f.Close(); err != nil {
		return nil, fmt.Errorf("reading the gossip key: %w", err)
	}
	if keySize(raw) {
		return raw, nil
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil || !keySize(key) {
		return nil, fmt.Errorf("gossip key %s is not 16, 24 or 32 octets: make one with `openssl rand -base64 32 > %s` and give every director the same file", path, path)
	}
	return key, nil
}

func keySize(key []byte) bool { return len(key) == 16 || len(key) == 24 || len(key) == 32 }

// checkSecret refuses to speak in the clear where others could listen or join.
func checkSecret(secret []byte, addrs ...netip.AddrPort) error {
	if len(secret) > 0 {
		if !keySize(secret) {
			return fmt.Errorf("gossip key has %d octets, it must have 16, 24 or 32: make one with `openssl rand -base64 32 > gossip.key`", len(secret))
		}
		return nil
	}
	for _, a := range addrs {
		if !a.Addr().IsLoopback() {
			return fmt.Errorf("gossip on %s needs a key: make one with `openssl rand -base64 32 > gossip.key`, give every director the same file, and name it as gossip.keyFile in its settings", a)
		}
	}
	return nil
}
