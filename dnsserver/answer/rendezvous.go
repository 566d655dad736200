package answer

import (
	"math/bits"
)

// The hash that spreads clients, the same on every director and in every later
// release: it decides who is served where.
//
//   - The unit of hashing is the client's /24 (IPv4) or /48 (IPv6). Its number
//     is 1<<60 | address>>8, or 2<<60 | (first 64 bits)>>16.
//   - A site's key is the 64-bit FNV-1a of service, a zero octet and cluster; an
//     address's key that of service, zero, cluster, zero and the address's octets.
//   - The hash of key and unit is mix(key ^ mix(unit)), mix being the finaliser of
//     SplitMix64.
//
// Weighted rendezvous hashing: with u = hash/2^64, the site of least -log2(u)/weight
// wins, so each wins in proportion to its weight, a site that goes moves only its
// own clients, and a factor common to all weights cancels out. Whole numbers
// throughout: no two processors differ. Floats were refused for that reason.
//
// A share of a site's clients (Site.Share) goes by one more hash of the same key and
// unit, mix(hash + 0x9e3779b97f4a7c15).

const fnvPrime = 0x100000001b3

func fnv(parts ...[]byte) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i, part := range parts {
		if i > 0 {
			h *= fnvPrime // a zero octet: x ^ 0 = x
		}
		for _, c := range part {
			h = (h ^ uint64(c)) * fnvPrime
		}
	}
	return h
}

// fnvOn goes on from a hash.
func fnvOn(h uint64, part []byte) uint64 {
	for _, c := range part {
		h = (h ^ uint64(c)) * fnvPrime
	}
	return h
}

func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// whole is a share of all clients, in percent.
const whole = 100

// admitted tells whether a client, by its key and unit, is among so many percent of a
// site's clients. Whom a share admits a greater one does too, and who is admitted says
// nothing of who wins the site: of any part of its clients it is as many percent.
func admitted(keyAndUnit uint64, share uint8) bool {
	h := mix(mix(keyAndUnit) + 0x9e3779b97f4a7c15)
	return h>>32*whole>>32 < uint64(share)
}

// The bits of a client's address that are hashed.
const (
	unitBits4 = 24
	unitBits6 = 48
)

// unitOf gives the mixed number of a client's unit.
func unitOf(a address) uint64 {
	if a.is4 {
		return mix(1<<60 | a.high>>40)
	}
	return mix(2<<60 | a.high>>16)
}

// logTable holds log2(1 + i/256) in units of 2^-32.
type logTable [257]uint64

func newLogTable() *logTable {
	var t logTable
	for i := range 256 {
		y := uint64(256+i) << 55 // 1 <= y < 2, in units of 2^-63
		for range 32 {
			t[i] <<= 1
			high, low := bits.Mul64(y, y)
			if high>>63 == 1 { // y*y >= 2
				t[i] |= 1
				y = high
			} else {
				y = high<<1 | low>>63
			}
		}
	}
	t[256] = 1 << 32
	return &t
}

// cost is -log2(h/2^64) in units of 2^-32, good to 3e-6: never 0, below 2^39.
func (t *logTable) cost(h uint64) uint64 {
	h |= 1
	zeros := bits.LeadingZeros64(h)
	m := h << zeros
	i, rest := m>>55&0xff, m>>23&0xffffffff
	log := t[i] + (t[i+1]-t[i])*rest>>32
	return max(uint64(zeros+1)<<32-log, 1)
}

// wins compares cost/weight without dividing.
func wins(costA uint64, weightA uint32, costB uint64, weightB uint32) bool {
	highA, lowA := bits.Mul64(costA, uint64(weightB))
	highB, lowB := bits.Mul64(costB, uint64(weightA))
	return highA < highB || highA == highB && lowA < lowB
}
