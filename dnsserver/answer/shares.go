package answer

import "math"

// settle looks at the shares: where no site is there for all, each is, since nobody
// may be left without an answer (S1). Nobody is told of what is behind the level of one
// that is there for all: it is taken out.
func (s *set) settle() {
	all := false
	for i := range s.sites {
		all = all || s.sites[i].addrs > 0 && s.sites[i].share == 0
	}
	last := uint8(math.MaxUint8)
	for i := range s.sites {
		site := &s.sites[i]
		if !all {
			site.share = 0
		}
		if site.addrs > 0 && site.share == 0 {
			last = min(last, site.level)
		}
	}
	for i := range s.sites {
		site := &s.sites[i]
		if site.level > last {
			s.total -= int(site.addrs)
			site.addrs, site.share = 0, 0
		}
		if site.addrs > 0 {
			s.ramps = s.ramps || site.share > 0
			s.levels = s.levels || site.level < last
		}
	}
	if !s.levels {
		for i := range s.sites {
			s.sites[i].level = 0
		}
	}
}

// level gives the least one of which some site may have a client.
func (s *set) level(keys []uint64, unit uint64) uint8 {
	if !s.levels {
		return 0
	}
	least := uint8(math.MaxUint8)
	for i := range s.sites {
		if site := &s.sites[i]; site.addrs > 0 && site.level < least && s.admits(i, keys, unit) {
			least = site.level
		}
	}
	return least
}

// admits tells whether a client is one of those whom a site may have.
func (s *set) admits(site int, keys []uint64, unit uint64) bool {
	share := s.sites[site].share
	return share == 0 || admitted(keys[s.sites[site].cluster]^unit, share)
}
