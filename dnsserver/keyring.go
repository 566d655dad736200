package dnsserver

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"

	"github.com/miekg/dns"
)

// newKeyring makes the ring of the keys of the settings. Those that are shared have as many
// secrets as there are in shared, by their names; what was in the ring before stays the same
// key, with what it has seen.
func newKeyring(keys []Key, shared map[string][][]byte, before keyring) (keyring, error) {
	ring := make(keyring, len(keys))
	names := make(map[string]bool, len(keys))
	for _, k := range keys {
		name, err := packName(k.Name)
		if err != nil {
			return nil, fmt.Errorf("TSIG key %q: its name is none", k.Name)
		}
		if names[string(name)] {
			return nil, fmt.Errorf("TSIG key %s comes twice", k.Name)
		}
		names[string(name)] = true
		secrets := [][]byte{k.Secret}
		if k.Shared {
			secrets = shared[dns.CanonicalName(k.Name)]
		}
		var last *tsigKey
		for i, secret := range secrets {
			key, err := newTSIGKey(k, name, secret)
			if err != nil {
				return nil, err
			}
			for old := before[string(name)]; old != nil; old = old.older {
				if hmac.Equal(old.secret, key.secret) {
					// Not itself: who verifies by the ring before reads its link.
					key.fresh, key.hashers, key.seen = old.fresh, old.hashers, old.seen
				}
			}
			if i == 0 {
				ring[string(name)] = key
			} else {
				last.older = key
			}
			last = key
		}
		if len(secrets) == 0 {
			if _, err := newTSIGKey(k, name, make([]byte, 16)); err != nil {
				return nil, err // its algorithm is wrong
			}
		}
	}
	return ring, nil
}

// UseSecrets gives the keys that are shared their secrets, by name: the first signs what is
// sent of this server's own accord, and each is good for who asks. A key that is not among
// them is good for nobody.
func (s *Server) UseSecrets(secrets map[string][][]byte) error {
	shared := make(map[string][][]byte, len(secrets))
	for name, list := range secrets {
		if len(list) > maxSharedSecrets {
			return fmt.Errorf("TSIG key %s: %d secrets, at most %d", name, len(list), maxSharedSecrets)
		}
		shared[dns.CanonicalName(name)] = list
	}
	s.sharing.Lock()
	defer s.sharing.Unlock()
	ring, err := newKeyring(s.transferring.Keys, shared, *s.keys.Load())
	if err != nil {
		return err
	}
	s.keys.Store(&ring)
	return nil
}

// maxSharedSecrets bounds what a packet with a bad signature costs.
const maxSharedSecrets = 4

// newTSIGKey makes a key of one secret.
func newTSIGKey(k Key, name, given []byte) (*tsigKey, error) {
	made := map[string]func() hash.Hash{
		"hmac-sha256": sha256.New, "hmac-sha384": sha512.New384, "hmac-sha512": sha512.New,
	}[k.Algorithm]
	if made == nil {
		return nil, fmt.Errorf("TSIG key %s: algorithm %q is none of hmac-sha256, hmac-sha384, hmac-sha512", k.Name, k.Algorithm)
	}
	if len(given) < 16 {
		return nil, fmt.Errorf("TSIG key %s: a secret of %d octets can be guessed", k.Name, len(given))
	}
	algorithm, err := packName(k.Algorithm)
	if err != nil {
		return nil, err
	}
	secret := []byte(string(given))
	return &tsigKey{
		name: name, algorithm: algorithm, size: made().Size(), secret: secret, seen: new(replays),
		fresh: func() hash.Hash { return hmac.New(made, secret) }, hashers: make(chan *hasher, spareHashers),
	}, nil
}
