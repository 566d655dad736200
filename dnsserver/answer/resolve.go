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
		position = r.target
		if !r.q.name.set(r.w.msg[r.w.base+position:]) {
			return
		}
		if z, at = r.table.zoneOf(&r.q.name); z == nil {
			return
		}
	}
}

// look answers from one zone. It tells whether it wrote an alias that is to be
// followed.
func (r *reply) look(z *zone, at, position, hop int) (alias bool) {
	q := &r.q
	n := z.apex
	for i := at - 1; i >= 0; i-- {
		if n.dname != nil {
			return r.dname(n.dname, i+1, position)
		}
		child := z.nodes[string(q.name.suffix(i))]
		if child == nil {
			// n is the closest encloser (RFC 4592 section 3.3.1).
			if n.wild == nil {
				r.negative(z, at, position, rcodeName)
				return false
			}
			n = n.wild
			break
		}
		n = child
		if n.cut != nil && (i > 0 || q.qtype != typeDS) {
			r.referral(n.cut, i, position, hop)
			return false
		}
	}
	return r.data(n, z, at, position)
}

// data answers from the node that the name leads to.
func (r *reply) data(n *node, z *zone, at, position int) (alias bool) {
	qtype, o := r.q.qtype, owner{at: position}
	switch {
	case n.steered != nil && qtype == typeA:
		r.steered(n.steered, &n.steered.a, at, position)
		return false
	case n.steered != nil && qtype == typeAAAA:
		r.steered(n.steered, &n.steered.aaaa, at, position)
		return false
	case n.cname != nil && qtype != typeCNAME:
		// Back at a CNAME: a loop, and what was found so far is the answer.
		if slices.Contains(r.seen[:r.aliases], n) {
			return false
		}
		r.seen[r.aliases] = n
		r.aliases++
		r.w.set(sectionAnswer, o, n.cname)
		r.target = r.w.offset() - len(n.cname.data[0])
		return qtype != typeANY && !r.w.full
	case qtype == typeANY && n.hasData():
		if !r.w.record(sectionAnswer, o, typeHINFO, classIN, hinfoTTL, r.table.hinfo) {
			r.w.full = true
		}
		return false
	}
	if set := n.find(qtype); set != nil {
		r.w.set(sectionAnswer, o, set)
	} else {
		r.negative(z, at, position, 0)
	}
	return false
}

// steered answers with addresses that depend on the client.
func (r *reply) steered(s *steered, v *view, at, position int) {
	r.from, r.label = s, s.label
	if len(v.sets) == 0 {
		r.negative(s.zone, at, position, 0)
		return
	}
	d := &r.d
	r.table.decide(s, v, &r.who, d)
	// Whoever asks without a client subnet, or with an empty one, hears scope 0.
	if r.who.subnet.IsValid() {
		r.scope = d.scope
	}
	chosen := &v.sets[d.set]
	if d.n == 0 {
		// Residency leaves nothing. This NODATA does depend on the client, so it
		// carries its scope, unlike all others: else it would be cached for the world.
		r.label += r.table.continent(d.place)
		r.negative(s.zone, at, position, 0)
		return
	}
	r.label = chosen.sites[d.picks[0].site].label + r.table.continent(d.place)
	if chosen.failOpen {
		r.ede, r.text = edeOther, failOpenText
	}
	rrtype := uint16(typeA)
	if v == &s.aaaa {
		rrtype = typeAAAA
	}
	for _, p := range d.picks[:d.n] {
		if !r.w.record(sectionAnswer, owner{at: position}, rrtype, classIN, s.ttl, chosen.sites[p.site].addrs[p.addr].wire) {
			r.w.full = true
			return
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
	r.w.set(sectionAuthority, r.ancestor(position, at), &z.soa)
}

// ancestor is the current name from a label on, as an owner.
func (r *reply) ancestor(position, label int) owner {
	if label >= r.q.name.labels {
		return owner{name: r.q.name.suffix(label)}
	}
	return owner{at: position + int(r.q.name.starts[label])}
}

// referral points at the servers of a delegated zone. Behind an alias there is
// nothing to add: the resolver asks for the target itself.
func (r *reply) referral(c *cut, label, position, hop int) {
	if hop > 0 {
		return
	}
	r.aa = false
	w := &r.w
	w.set(sectionAuthority, r.ancestor(position, label), c.ns)
	for i := range c.glue {
		g := &c.glue[i]
		for _, data := range g.set.data {
			if !w.record(sectionExtra, owner{name: g.owner}, g.set.rrtype, classIN, g.set.ttl, data) {
				w.full = w.full || g.needed
				return
			}
		}
	}
}

// dname writes a DNAME and the CNAME that follows from it (RFC 6672 section 2.2).
func (r *reply) dname(s *rrset, label, position int) (alias bool) {
	w := &r.w
	w.set(sectionAnswer, r.ancestor(position, label), s)
	if w.full {
		return false
	}
	prefix := w.base + position
	front := r.q.name.length - 1
	if label < r.q.name.labels {
		front = int(r.q.name.starts[label])
	}
	target := s.data[0]
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
	w.uint32(s.ttl)
	w.uint16(uint16(size))
	r.target = w.offset()
	w.msg = append(w.msg, w.msg[prefix:prefix+front]...)
	w.msg = append(w.msg, target...)
	w.counts[sectionAnswer]++
	return r.q.qtype != typeCNAME && r.q.qtype != typeANY
}
