package dnsserver

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/dnsserver/answer"
)

const (
	// rateBuckets is how many prefixes are told apart at once.
	rateBuckets = 1 << 16
	// The prefixes that share a limit: what one network is given most often.
	ratePrefix4 = 24
	ratePrefix6 = 56
)

// class is a kind of reply. Each has its own limit, so that a flood of names that
// do not exist takes nothing from those that do.
type class byte

const (
	classAnswer class = iota + 1
	className         // NXDOMAIN
	classError
)

func classOf(t answer.Tally) class {
	switch {
	case t.Reject != answer.RejectNone:
		return classError
	case t.Rcode == dns.RcodeNameError:
		return className
	case t.Rcode != dns.RcodeSuccess:
		return classError
	}
	return classAnswer
}

// rateLimit bounds the replies by UDP to one network in a second: whoever forges
// its address must gain nothing by us (C10). One that is above the limit is sent
// truncated, which is no longer than its query, so an honest resolver asks again
// by TCP and is never left without an answer. All workers share one; it takes no
// lock. nil limits nothing.
type rateLimit struct {
	perSecond uint64
	exempt    []netip.Prefix
	seed      maphash.Seed
	buckets   [rateBuckets]atomic.Uint64 // see bucket
}

func newRateLimit(perSecond int, exempt []netip.Prefix) *rateLimit {
	if perSecond <= 0 {
		return nil
	}
	return &rateLimit{perSecond: uint64(min(perSecond, bucketCount)), exempt: exempt, seed: maphash.MakeSeed()}
}

// A bucket is, from the top: 24 bits of the key's hash, the second modulo 2^16, and
// how many replies there were in it.
const (
	bucketSecond = 24
	bucketTag    = 40
	bucketCount  = 1<<bucketSecond - 1
)

// allow counts a reply and tells whether it is within the limit.
func (r *rateLimit) allow(from netip.Addr, c class, now time.Time) bool {
	if r == nil || from.IsLoopback() || r.exempts(from) {
		return true
	}
	hash := r.hash(from, c)
	tag, second := hash>>bucketTag, uint64(now.Unix())&0xffff
	first, last := &r.buckets[hash%rateBuckets], &r.buckets[hash%rateBuckets^1]
	for _, b := range [2]*atomic.Uint64{first, last} {
		if b.Load()>>bucketTag == tag {
			return r.count(b, tag, second)
		}
	}
	// None is its own: one that no reply fell into this second, or the first, whose
	// owner then shares its limit.
	for _, b := range [2]*atomic.Uint64{first, last} {
		if old := b.Load(); old>>bucketSecond&0xffff != second {
			if b.CompareAndSwap(old, tag<<bucketTag|second<<bucketSecond|1) {
				return true
			}
		}
	}
	return r.count(first, first.Load()>>bucketTag, second)
}

// count adds one to a bucket.
func (r *rateLimit) count(b *atomic.Uint64, tag, second uint64) bool {
	for {
		old := b.Load()
		n := old & bucketCount
		if old>>bucketSecond&0xffff != second {
			n = 0
		}
		if n >= r.perSecond {
			return false
		}
		if b.CompareAndSwap(old, tag<<bucketTag|second<<bucketSecond|n+1) {
			return true
		}
	}
}

func (r *rateLimit) exempts(from netip.Addr) bool {
	for _, p := range r.exempt {
		if p.Contains(from.Unmap()) {
			return true
		}
	}
	return false
}

func (r *rateLimit) hash(from netip.Addr, c class) uint64 {
	var key [9]byte
	key[0] = byte(c)
	if from = from.Unmap(); from.Is4() {
		a := from.As4()
		copy(key[1:], a[:ratePrefix4/8])
		key[8] = 4
	} else {
		a := from.As16()
		copy(key[1:], a[:ratePrefix6/8])
		key[8] = 6
	}
	return maphash.Bytes(r.seed, key[:])
}
