package probe

import (
	"net/netip"
	"time"
)

// Connections that have answered are kept for the next HTTP probe of that address and
// port, as long as connecting is tested beside it: there are fast signals, all of them
// answered. Each is given up within a minute, so that nothing lives on a connection that
// could not be made again.
const (
	keptFor   = time.Minute      // since it was opened
	keptIdle  = 30 * time.Second // since it was used
	keptAtOne = 8                // of one address and port
	mostKept  = 1024             // in all, and at most a quarter of the descriptors we may have
)

type kept struct {
	fd     int
	opened time.Time
	used   time.Time
}

// pool holds them. The latest used is the first to be used again.
type pool struct {
	at    map[netip.AddrPort][]kept
	count int
	most  int
	swept time.Time
}

func newPool(most int) pool { return pool{at: make(map[netip.AddrPort][]kept), most: most} }

// take gives a connection that still stands and on which nothing came unasked. False:
// there is none.
func (p *pool) take(addr netip.AddrPort, now time.Time) (kept, bool) {
	list := p.at[addr]
	for len(list) > 0 {
		k := list[len(list)-1]
		list = list[:len(list)-1]
		p.count--
		p.at[addr] = list
		if now.Sub(k.opened) < keptFor && sysQuiet(k.fd) {
			return k, true
		}
		sysClose(k.fd)
	}
	return kept{}, false
}

// give keeps a connection, or closes it.
func (p *pool) give(addr netip.AddrPort, k kept) {
	if list := p.at[addr]; p.count < p.most && len(list) < keptAtOne {
		p.at[addr] = append(list, k)
		p.count++
		return
	}
	sysClose(k.fd)
}

// drop closes all of an address and port: one of them has fallen silent.
func (p *pool) drop(addr netip.AddrPort) {
	for _, k := range p.at[addr] {
		sysClose(k.fd)
	}
	p.count -= len(p.at[addr])
	delete(p.at, addr)
}

// sweep closes those that nobody has used for long.
func (p *pool) sweep(now time.Time) {
	if p.count == 0 || now.Sub(p.swept) < keptIdle/6 {
		return
	}
	p.swept = now
	for addr, list := range p.at {
		left := list[:0]
		for _, k := range list {
			if now.Sub(k.used) < keptIdle && now.Sub(k.opened) < keptFor {
				left = append(left, k)
				continue
			}
			sysClose(k.fd)
			p.count--
		}
		if p.at[addr] = left; len(left) == 0 {
			delete(p.at, addr)
		}
	}
}

func (p *pool) close() {
	for addr := range p.at {
		p.drop(addr)
	}
}
