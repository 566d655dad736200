package dnsserver

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/divertdns/divert/dnsserver/answer"
)

const (
	// maxPoison is how many packets are remembered, the latest.
	maxPoison = 64
	// maxShown is how many octets of one are logged.
	maxShown = 512
	// poisonReports is how many are logged in all, so that a flood of different
	// ones cannot fill a disk; all are counted.
	poisonReports = 16
)

// poison remembers packets that made answering panic, whatever their ID: one such
// packet, sent again and again, shall cost a hash and no more. What one table
// could not answer another may, so that the memory ends with the table.
type poison struct {
	seed maphash.Seed
	held atomic.Pointer[poisoned] // nil, most likely for ever

	mu       sync.Mutex // of who adds
	reported int
}

type poisoned struct {
	table  *answer.Table
	hashes []uint64
}

func newPoison() *poison { return &poison{seed: maphash.MakeSeed()} }

func (p *poison) hash(packet []byte) uint64 {
	return maphash.Bytes(p.seed, packet[min(2, len(packet)):])
}

// holds tells whether a packet is known to be poison to a table.
func (p *poison) holds(table *answer.Table, packet []byte) bool {
	held := p.held.Load()
	return held != nil && held.table == table && slices.Contains(held.hashes, p.hash(packet))
}

// add remembers a packet; it tells whether to report it.
func (p *poison) add(table *answer.Table, packet []byte) (report bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := &poisoned{table: table}
	if old := p.held.Load(); old != nil && old.table == table {
		next.hashes = slices.Clone(old.hashes[max(0, len(old.hashes)+1-maxPoison):])
	}
	next.hashes = append(next.hashes, p.hash(packet))
	p.held.Store(next)
	p.reported++
	return p.reported <= poisonReports
}
