package answer

// maxSites bounds the sites of one Set.
const maxSites = 256

// decision is what a view answers to an asker.
type decision struct {
	set    int
	prefix int32 // index in View.ByPrefix, -1 = none
	place  uint16
	scope  int // of the subnet, in its own family; 0 where there is none
	n      int
	picks  [maxAnswers]pick // the first n; none where the set has them ready
}

// pick is one address of one site of the set.
type pick struct {
	site, addr uint16
}

// decide is the one path from a client to addresses: for replies and for Trace.
func (t *Table) decide(s *steered, o *own, v *view, who *asker, d *decision) {
	d.scope = 0
	if !who.named {
		d.prefix, _ = v.clients.table(who.resolver.is4).find(who.resolver.key128)
		t.choose(s, o, v, &who.resolver, d)
		return
	}
	from := &who.subnet
	table := v.clients.table(from.is4)
	prefix, at := table.find(from.key128)
	inside, edge := from.private()
	if inside && prefix < 0 {
		// Whose clients these are only the resolver knows: its own address decides.
		d.prefix, _ = v.clients.table(who.resolver.is4).find(who.resolver.key128)
		t.choose(s, o, v, &who.resolver, d)
	} else {
		d.prefix = prefix
		edge = max(edge, t.choose(s, o, v, from, d))
	}
	// No scope is shorter than the edges of private blocks and of prefixes allow.
	if !v.constant {
		d.scope = max(edge, from.shift+table.depth(from.key128, at))
	}
}

// choose finds the set for an address in the prefix that was found for it, and
// picks from it; it gives the number of leading bits of the address that mattered,
// prefixes apart.
func (t *Table) choose(s *steered, o *own, v *view, from *address, d *decision) (length int) {
	which := &v.clients.places
	if d.prefix >= 0 {
		which = &v.clients.prefixes[d.prefix]
	}
	leaf := 0
	d.place = 0
	if t.geo != nil {
		d.place, leaf = t.geo.Lookup(from.inner())
	}
	if which.differ {
		length = from.shift + leaf
	}
	d.set = which.at(d.place)
	chosen := v.sets[d.set]
	if !chosen.hashed {
		d.n = len(chosen.picks)
		return length
	}
	d.n = chosen.pickAll(t.log, o.keys, min(s.answers, chosen.total), unitOf(*from), &d.picks)
	if from.is4 {
		return max(length, from.shift+unitBits4)
	}
	return max(length, unitBits6)
}

// table finds where the prefixes of an address's family are.
func (c *clients) table(is4 bool) *prefixTable {
	if is4 {
		return &c.v4
	}
	return &c.v6
}

// pickAll picks n addresses: the least used fault domain first, then the least
// used site, then the order of the sites.
func (s *set) pickAll(log *logTable, keys []uint64, n int, unit uint64, picks *[maxAnswers]pick) int {
	level := s.level(keys, unit)
	for i := range n {
		best, bestDomain, bestSite, bestCost := -1, 0, 0, uint64(0)
		for j := range s.sites {
			site := &s.sites[j]
			if site.level != level || site.share > 0 && !s.admits(j, keys, unit) {
				continue
			}
			domain, used := s.uses(j, picks[:i])
			if used >= int(site.addrs) {
				continue
			}
			cost := uint64(0)
			if s.weighted && s.hashed {
				cost = log.cost(mix(keys[site.cluster] ^ unit))
			}
			if best < 0 || domain < bestDomain || domain == bestDomain &&
				(used < bestSite || used == bestSite && s.weighted && s.hashed && wins(cost, site.weight, bestCost, s.sites[best].weight)) {
				best, bestDomain, bestSite, bestCost = j, domain, used, cost
			}
		}
		if best < 0 {
			return i
		}
		picks[i] = pick{site: uint16(best), addr: uint16(s.pickAddr(keys, best, picks[:i], unit))}
	}
	return n
}

// uses counts what is taken already of a site, and of its fault domain.
func (s *set) uses(site int, picks []pick) (domain, own int) {
	for _, p := range picks {
		if s.sites[p.site].domain == s.sites[site].domain {
			domain++
		}
		if int(p.site) == site {
			own++
		}
	}
	return domain, own
}

// pickAddr picks an address of a site that has not been taken.
func (s *set) pickAddr(keys []uint64, site int, picks []pick, unit uint64) int {
	n := int(s.sites[site].addrs)
	if n == 1 {
		return 0
	}
	best, least, key := -1, uint64(0), uint64(0)
	if s.hashed {
		key = keys[s.sites[site].cluster] * fnvPrime // a zero octet
	}
	for i := range n {
		if taken(picks, site, i) {
			continue
		}
		if !s.hashed {
			return i
		}
		octets := s.record(pick{site: uint16(site), addr: uint16(i)})[recordHead:]
		if h := mix(fnvOn(key, octets) ^ unit); best < 0 || h < least {
			best, least = i, h
		}
	}
	return max(best, 0)
}

func taken(picks []pick, site, addr int) bool {
	for _, p := range picks {
		if int(p.site) == site && int(p.addr) == addr {
			return true
		}
	}
	return false
}
