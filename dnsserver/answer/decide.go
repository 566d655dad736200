package answer

import (
	"net/netip"

	"github.com/divertdns/divert/dnsserver/geo"
)

// maxSites bounds the sites of one Set.
const maxSites = 256

// asker is who an answer is for.
type asker struct {
	resolver netip.Addr // who sent the packet
	subnet   netip.Addr // from the client-subnet option; not valid where there is none
	private  bool       // subnet is of private use
	edge     int        // no scope of subnet is shorter, see private
}

func (a *asker) use(subnet netip.Addr) {
	a.subnet = subnet
	a.private, a.edge = private(subnet)
}

// decision is what a view answers to an asker.
type decision struct {
	set    int
	prefix int // index in View.ByPrefix, -1 = none
	place  uint16
	scope  int // in the subnet's own family
	n      int
	picks  [maxAnswers]pick
}

// pick is one address of one site of the set.
type pick struct {
	site, addr uint16
}

// decide is the one path from a client to addresses: for replies and for Trace.
func (t *Table) decide(s *steered, v *view, who *asker, d *decision) {
	from := who.resolver
	if who.subnet.IsValid() {
		from = who.subnet
	}
	tree, inner, shift := v.tree(from)
	prefix, depth := tree.find(inner)
	length := max(shift+depth, who.edge)
	if who.private && prefix < 0 {
		// Whose clients these are only the resolver knows: its own address decides.
		t.choose(s, v, who.resolver, d)
	} else {
		length = max(length, t.choose(s, v, from, d))
	}
	d.scope = length
	if v.constant {
		d.scope = 0
	}
}

// choose finds the set for an address and picks from it; it gives the number of
// leading bits of the address that mattered, prefixes apart.
func (t *Table) choose(s *steered, v *view, from netip.Addr, d *decision) (length int) {
	tree, inner, shift := v.tree(from)
	d.prefix, _ = tree.find(inner)
	which := &v.places
	if d.prefix >= 0 {
		which = &v.prefixes[d.prefix]
	}
	leaf := 0
	d.place = 0
	if t.geo != nil {
		d.place, leaf = t.geo.Lookup(from)
	}
	if which.varies {
		length = leaf
	}
	d.set = which.at(d.place)
	chosen := &v.sets[d.set]
	unit, unitBits := unitOf(inner)
	if chosen.hashed {
		length = max(length, shift+unitBits)
	}
	d.n = t.pickAll(chosen, min(s.answers, chosen.total), unit, &d.picks)
	return length
}

// tree finds where the prefixes of an address's family are.
func (v *view) tree(addr netip.Addr) (tree *prefixTree, inner netip.Addr, shift int) {
	inner, shift = geo.Normalise(addr)
	if inner.Is4() {
		return &v.v4, inner, shift
	}
	return &v.v6, inner, shift
}

// pickAll picks n addresses: the least used fault domain first, then the least
// used site, then the order of the sites.
func (t *Table) pickAll(s *set, n int, unit uint64, picks *[maxAnswers]pick) int {
	for i := range n {
		best, bestDomain, bestSite := -1, 0, 0
		for j := range s.sites {
			domain, used := s.uses(j, picks[:i])
			if used >= len(s.sites[j].addrs) {
				continue
			}
			if best < 0 || domain < bestDomain || domain == bestDomain &&
				(used < bestSite || used == bestSite && t.before(s, j, best, unit)) {
				best, bestDomain, bestSite = j, domain, used
			}
		}
		if best < 0 {
			return i
		}
		picks[i] = pick{site: uint16(best), addr: uint16(s.pickAddr(best, picks[:i], unit))}
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

// before tells whether site a comes before site b, a having the higher index.
func (t *Table) before(s *set, a, b int, unit uint64) bool {
	if !s.weighted || !s.hashed {
		return false
	}
	x, y := &s.sites[a], &s.sites[b]
	return wins(t.log.cost(mix(x.key^unit)), x.weight, t.log.cost(mix(y.key^unit)), y.weight)
}

// pickAddr picks an address of a site that has not been taken.
func (s *set) pickAddr(site int, picks []pick, unit uint64) int {
	best, least := -1, uint64(0)
	for i := range s.sites[site].addrs {
		if taken(picks, site, i) {
			continue
		}
		if !s.hashed {
			return i
		}
		if h := mix(s.sites[site].addrs[i].key ^ unit); best < 0 || h < least {
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
