package gossip

import (
	"bytes"
	"sync"
	"time"
)

// The inbox's bounds: beyond them input is dropped and counted.
const (
	inboxItems  = 1024
	inboxOctets = 16 << 20
)

// inbox carries raw messages from memberlist's goroutines, which must never
// wait, to the receiver, which verifies signatures.
type inbox struct {
	wake chan struct{} // capacity 1

	mu     sync.Mutex
	items  []letter
	octets int
}

type letter struct {
	raw      []byte
	received time.Time
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

// put copies a message in, unless the inbox is full.
func (q *inbox) put(raw []byte, now time.Time) bool {
	raw = bytes.Clone(raw)
	q.mu.Lock()
	full := len(q.items) >= inboxItems || q.octets+len(raw) > inboxOctets
	if !full {
		q.items = append(q.items, letter{raw: raw, received: now})
		q.octets += len(raw)
	}
	q.mu.Unlock()
	if full {
		return false
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// take empties the inbox.
func (q *inbox) take() []letter {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := q.items
	q.items, q.octets = nil, 0
	return out
}
