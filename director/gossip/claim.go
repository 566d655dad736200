package gossip

import (
	"bytes"
	"crypto/ed25519"
	"sync"
	"time"
)

// claims remembers under which key each name speaks that the roster does not
// pin, or pins to another key: signed and fresh, which memberlist's record of a
// name is not. That one outlives a lost disk, for as long as any peer passes it
// round. The receiver writes, anybody reads.
type claims struct {
	mu     sync.Mutex
	byName map[string]claim
}

type claim struct {
	key   ed25519.PublicKey
	boot  uint64
	heard time.Time
}

func newClaims() *claims { return &claims{byName: map[string]claim{}} }

// hear files a verified message of a key that the roster does not have for its
// name. Of two that speak at once the one that started later counts.
func (c *claims) hear(m *Message, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old, ok := c.byName[m.From]
	live := ok && now.Sub(old.heard) <= silentAfter
	if live && old.boot > m.Boot && !bytes.Equal(old.key, m.Key) {
		return
	}
	if !ok && len(c.byName) >= maxStrangers {
		for name, have := range c.byName {
			if now.Sub(have.heard) > silentAfter {
				delete(c.byName, name)
			}
		}
		if len(c.byName) >= maxStrangers {
			return
		}
	}
	c.byName[m.From] = claim{key: bytes.Clone(m.Key), boot: m.Boot, heard: now}
}

// of gives the key under which a name was heard lately, nil for none.
func (c *claims) of(name string, now time.Time) ed25519.PublicKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	if have, ok := c.byName[name]; ok && now.Sub(have.heard) <= silentAfter {
		return have.key
	}
	return nil
}

// Claimed gives the key under which a name that the roster does not pin, or pins
// to another key, signs what it says now, and what else was announced under that
// key; the zero Meta when nobody speaks for it.
func (n *Node) Claimed(name string) Meta {
	key := n.claims.of(name, time.Now())
	if len(key) == 0 {
		return Meta{}
	}
	return n.members.announced(key)
}
