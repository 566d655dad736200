package answer

import "slices"

// maxChase bounds the aliases followed in one reply.
const maxChase = 8

// hinfoTTL is the TTL of the answer to ANY (RFC 8482), seconds.
const hinfoTTL = 3600

// resolve answers the question out of the zone z, whose origin begins at the
// name's label at, and follows aliases as long as they stay in our zones.
func (r *reply) resolve(z *zone, at int) {
	r.aa = true
	position := headerLen // of the current name in the reply
	for hop := 0; hop <= maxChase; hop++ {
		if r.q.qtype == typeDS && at == 0 && z.parent != nil {
			// RFC 4035 section 3.1.4.1: DS belongs to the zone above the cut.
			z = z.parent
			at = r.q.name.labels - z.labels
		}
		if !r.look(z, at, position, hop) {
			return
		}
		r.asked[hop] = int16(position)
		position = r.target
		if !r.q.name.set(r.w.msg[r.w.base+position:]) || r.circles(hop) {
			return
		}
		if z, at = r.table.zoneOf(&r.q.name); z == nil {
			return
		}
	}
}

// circles tells whether the current name was looked for before. What was found so
// far is the answer then: going on would repeat it (RFC 2181 section 5).
func (r *reply) circles(hop int) bool {
	name := r.q.name.suffix(0)
	for _, at := range r.asked[:hop+1] {
		before := r.w.msg[r.w.base+int(at):]
		if len(before) >= len(name) && sameName(before[:len(name)], name) { // octets that are lengths are no letters
			return true
		}
	}
	return false
}

// look answers from one zone. It tells whether it wrote an alias that is to be
// followed.
func (r *reply) look(z *zone, at, position, hop int) (alias bool) {
	q := &r.q
	n, h := z.apex, z.hash
	for i := at - 1; i >= 0; i-- {
		if n.flags&flagDNAME != 0 {
			return r.dname(n, i+1, position, hop)
		}
		above := h
		h = q.name.below(h, i)
		child := z.find(h, q.name.suffix(i))
		if child.store == nil {
			// n is the closest encloser (RFC 4592 section 3.3.1).
			if n.flags&flagWild == 0 {
				r.negative(z, at, position, rcodeName)
				return false
			}
			return r.data(z.wild(above, q.name.suffix(i+1)), z, at, position, 0)
		}
		n = child
		if n.flags&flagCut != 0 && (i > 0 || q.qtype != typeDS) {
			r.referral(n, i, position, hop)
			return false
		}
	}
	return r.data(n, z, at, position, hop)
}

// data answers from the node that the name leads to, after so many aliases that may
// have been by a DNAME of that node's: 0 for a wildcard, whose owner is another here.
func (r *reply) data(n node, z *zone, at, position, hop int) (alias bool) {
	qtype, o := r.q.qtype, owner{at: position}
	switch {
	case n.flags&flagSteered != 0 && (qtype == typeA || qtype == typeAAAA || n.flags&flagAlias != 0):
		r.steered(n, z, at, position)
		return false
	case n.flags&flagCNAME != 0 && qtype != typeCNAME:
		set, _ := n.find(typeCNAME)
		r.w.ready(sectionAnswer, o, set.count, set.data)
		r.target = r.w.offset() - len(set.first())
		return qtype != typeANY && !r.w.full
	case qtype == typeANY && !n.empty():
		if !r.w.record(o, typeHINFO, classIN, hinfoTTL, r.table.hinfo) {
			r.w.full = true
		}
		return false
	}
	set, ok := n.find(qtype)
	switch {
	case !ok:
		r.negative(z, at, position, 0)
	case qtype == typeSOA && at == 0:
		r.soa(z, sectionAnswer, o, z.soaTTL)
	case qtype == typeDNAME && slices.Contains(r.dnames[:hop], &set.data[0]): // it led here, and is in the answer
	case n.flags&flagSteered != 0 && (qtype == typeSVCB || qtype == typeHTTPS) && r.hinted(n, z, set, position):
	default:
		r.w.ready(sectionAnswer, o, set.count, set.data)
	}
	return false
}

// steered answers with addresses that depend on the client, or with a CNAME that does.
// Its target is another's, which the resolver asks itself (S14): it is not followed.
func (r *reply) steered(n node, z *zone, at, position int) {
	r.place = n.index()
	where := &z.over.names[r.place]
	s := z.groups[where.group]
	r.from, r.zone, r.own = s, z, &s.own[where.own]
	r.label = r.own.label
	v := &s.a
	if r.q.qtype == typeAAAA && n.flags&flagAlias == 0 {
		v, r.family = &s.aaaa, IPv6
	}
	if len(v.sets) == 0 {
		r.negative(z, at, position, 0)
		return
	}
	d := &r.d
	r.table.decide(s, r.own, v, &r.who, d)
	r.scope = d.scope
	chosen := v.sets[d.set]
	continent := r.table.continent(d.place)
	if d.n == 0 && chosen.unresolved {
		r.rcode, r.ede = rcodeServerFailure, edeUnreachable
		r.label += continent
		return
	}
	if d.n == 0 {
		// Residency leaves nothing. This NODATA does depend on the client, so it
		// carries its scope, unlike all others: else it would be cached for the world.
		r.label += continent
		r.negative(z, at, position, 0)
		return
	}
	if chosen.failOpen {
		r.ede, r.text = edeOther, failOpenText
	}
	picks := chosen.picks
	if chosen.hashed {
		picks = d.picks[:d.n]
	}
	r.label = r.own.labels[chosen.sites[picks[0].site].cluster] + continent
	from := len(r.w.msg)
	if chosen.hashed {
		for _, p := range picks {
			if _, ok := r.w.ready(sectionAnswer, owner{at: position}, 1, chosen.record(p)); !ok {
				return
			}
		}
	} else if _, ok := r.w.ready(sectionAnswer, owner{at: position}, d.n, chosen.answer); !ok {
		return
	}
	if s.next != 0 {
		ttl := left(s.ttl, s.next, r.now)
		for rest := r.w.msg[from:]; len(rest) > 0; rest = rest[recordHead+int(be16(rest[recordSize:])):] {
			put32(rest[recordTTL:], ttl)
		}
	}
}

func (t *Table) continent(place uint16) uint32 {
	if int(place) < len(t.continents) {
		return uint32(t.continents[place])
	}
	return 0
}

// negative says that there is no such type, or no such name (RFC 2308).
func (r *reply) negative(z *zone, at, position int, rcode uint16) {
	r.rcode = rcode
	r.soa(z, sectionAuthority, r.ancestor(position, at), min(z.soaTTL, z.least))
}

// soa writes the SOA of a zone. Its minimum is the least TTL of the zone's steered
// names as that is now.
func (r *reply) soa(z *zone, section int, o owner, ttl uint32) {
	at, ok := r.w.ready(section, o, 1, z.soa)
	if !ok {
		return
	}
	if o.name != nil {
		at += len(o.name) - 2
	}
	if z.next != 0 {
		least := left(z.least, z.next, r.now)
		put32(r.w.msg[len(r.w.msg)-4:], least)
		if section == sectionAuthority {
			ttl = min(ttl, least)
		}
	}
	put32(r.w.msg[at+recordTTL:], ttl)
}

// ancestor is the current name from a label on, as an owner.
func (r *reply) ancestor(position, label int) owner {
	if label >= r.q.name.labels {
		return owner{name: r.q.name.suffix(label)}
	}
	return owner{at: position + int(r.q.name.starts[label])}
}

// referral points at the servers of a delegated zone. Behind an alias it is added as
// it fits (RFC 1034 section 4.3.2 step 3b): AA speaks of the alias (section 4.1.1 of
// RFC 1035), and who lacks the rest asks for the target itself.
func (r *reply) referral(n node, label, position, hop int) {
	w := &r.w
	servers, _ := n.find(typeNS)
	if w.ready(sectionAuthority, r.ancestor(position, label), servers.count, servers.data); w.full && hop > 0 {
		w.full = false
		return
	}
	r.aa = hop > 0
	for _, g := range n.store.cuts[n.index()].glue {
		if !w.fits(len(g.record)) {
			w.full = w.full || g.needed && hop == 0
			return
		}
		w.msg = append(w.msg, g.record...)
		w.counts[sectionExtra]++
	}
}

// dname writes a DNAME, unless it stands in the reply already (RFC 2181 section 5),
// and the CNAME that follows from it (RFC 6672 section 2.2).
func (r *reply) dname(n node, label, position, hop int) (alias bool) {
	w := &r.w
	s, _ := n.find(typeDNAME)
	if !slices.Contains(r.dnames[:hop], &s.data[0]) {
		if _, ok := w.ready(sectionAnswer, r.ancestor(position, label), s.count, s.data); !ok {
			return false
		}
	}
	r.dnames[hop] = &s.data[0]
	prefix := w.base + position
	front := r.q.name.length - 1
	if label < r.q.name.labels {
		front = int(r.q.name.starts[label])
	}
	target := s.first()
	size := front + len(target)
	if size > 255 {
		r.rcode = rcodeNameLong
		return false
	}
	if !w.fits(12 + size) {
		w.full = true
		return false
	}
	w.uint16(0xc000 | uint16(position))
	w.uint16(typeCNAME)
	w.uint16(classIN)
	w.uint32(s.ttl())
	w.uint16(uint16(size))
	r.target = w.offset()
	w.msg = append(w.msg, w.msg[prefix:prefix+front]...)
	w.msg = append(w.msg, target...)
	w.counts[sectionAnswer]++
	return r.q.qtype != typeCNAME && r.q.qtype != typeANY
}
