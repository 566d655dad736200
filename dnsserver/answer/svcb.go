package answer

// The parameters of RFC 9460 section 7.3.
const (
	paramIPv4Hint = 4
	paramIPv6Hint = 6
)

const (
	maxHints = 4 + maxAnswers*4 + 4 + maxAnswers*16 // octets that a record grows by
	// maxHinted is what records with hints may have in all, so that they fit a reply by
	// TCP behind aliases and before an OPT. A name of more is answered without hints.
	maxHinted = 60_000
)

// svcb is the RDATA of an SVCB or HTTPS record that takes hints, cut where they go:
// parameters stand in ascending order of their keys (RFC 9460 section 2.2).
type svcb struct {
	front, middle, rear []byte // before ipv4hint, between the two, behind ipv6hint
}

// cutSVCB tells whether a record of a steered name takes hints: it is in
// ServiceMode, the service is at the name itself, and it brings no hints of its own.
func cutSVCB(data, name []byte) (s svcb, ok bool) {
	if len(data) < 3 || be16(data) == 0 { // AliasMode (section 2.4.2)
		return s, false
	}
	at := skipName(data, 2)
	if at < 0 || data[2] != 0 && !sameName(data[2:at], name) { // "." is the owner (section 2.5.2)
		return s, false
	}
	v4, v6 := len(data), len(data)
	for at < len(data) {
		if at+4 > len(data) {
			return s, false
		}
		key := be16(data[at:])
		switch {
		case key == paramIPv4Hint || key == paramIPv6Hint:
			return s, false
		case key > paramIPv6Hint:
			v4, v6 = min(v4, at), min(v6, at)
		case key > paramIPv4Hint:
			v4 = min(v4, at)
		}
		at += 4 + int(be16(data[at+2:]))
	}
	return svcb{data[:v4], data[v4:v6], data[v6:]}, at == len(data)
}

// sameName compares names whatever their letter case.
func sameName(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i, c := range a {
		if lowerOctet(c) != lowerOctet(b[i]) {
			return false
		}
	}
	return true
}

// hinted answers with the SVCB or HTTPS records of a steered name, which say as
// hints what the client's A and AAAA answers say, for as long as they do: whoever
// follows a hint from elsewhere goes where steering does not send it. It is false
// where no record takes hints, or too many, and all are answered as they stand.
func (r *reply) hinted(n node, z *zone, records rrset, position int) bool {
	name := r.q.name.suffix(0)
	size, takes := len(records.data), false
	for data := range records.records {
		if _, ok := cutSVCB(data, name); ok {
			takes = true
			size += maxHints
		}
	}
	if !takes || size > maxHinted {
		return false
	}
	where := &z.over.names[n.index()]
	s := z.groups[where.group]
	if len(s.a.sets) == 0 && len(s.aaaa.sets) == 0 {
		return false
	}
	r.own = &s.own[where.own]
	var octets [maxAnswers * (4 + 16)]byte
	v4 := r.hints(octets[:0:maxAnswers*4], s, &s.a)
	v6 := r.hints(octets[maxAnswers*4:maxAnswers*4], s, &s.aaaa)
	// Counted without a cluster: that the A and AAAA answers are.
	r.label = r.own.label + r.table.continent(r.d.place)
	ttl := left(s.ttl, s.next, r.now)
	for data := range records.records {
		cut, ok := cutSVCB(data, name)
		fitted := false
		if ok {
			fitted = r.writeSVCB(position, records.rrtype, ttl, cut, v4, v6)
		} else {
			// One TTL for the whole set (RFC 2181 section 5.2).
			fitted = r.w.record(owner{at: position}, records.rrtype, classIN, ttl, data)
		}
		if !fitted {
			r.w.full = true
			break
		}
	}
	return true
}

// hints appends the addresses that the view picks for the client, in the order of
// its answer. The scope is that of both families: the longer.
func (r *reply) hints(octets []byte, s *steered, v *view) []byte {
	if len(v.sets) == 0 {
		return octets
	}
	d := &r.d
	r.table.decide(s, r.own, v, &r.who, d)
	r.scope = max(r.scope, d.scope)
	chosen := v.sets[d.set]
	picks := chosen.picks
	if chosen.hashed {
		picks = d.picks[:d.n]
	}
	for _, p := range picks {
		octets = append(octets, chosen.record(p)[recordHead:]...)
	}
	if chosen.failOpen && len(picks) > 0 {
		r.ede, r.text = edeOther, failOpenText
	}
	return octets
}

// writeSVCB writes one record; it tells whether it fitted.
func (r *reply) writeSVCB(position int, rrtype uint16, ttl uint32, cut svcb, v4, v6 []byte) (fitted bool) {
	w := &r.w
	size := len(cut.front) + paramSize(v4) + len(cut.middle) + paramSize(v6) + len(cut.rear)
	if !w.fits(recordHead + size) {
		return false
	}
	w.uint16(0xc000 | uint16(position))
	w.uint16(rrtype)
	w.uint16(classIN)
	w.uint32(ttl)
	w.uint16(uint16(size))
	w.msg = append(w.msg, cut.front...)
	w.param(paramIPv4Hint, v4)
	w.msg = append(w.msg, cut.middle...)
	w.param(paramIPv6Hint, v6)
	w.msg = append(w.msg, cut.rear...)
	w.counts[sectionAnswer]++
	return true
}

func paramSize(value []byte) int {
	if len(value) == 0 {
		return 0
	}
	return 4 + len(value)
}

// param writes a parameter that has a value: an empty list of addresses would be
// malformed (RFC 9460 section 7.3).
func (w *writer) param(key uint16, value []byte) {
	if len(value) > 0 {
		w.uint16(key)
		w.uint16(uint16(len(value)))
		w.msg = append(w.msg, value...)
	}
}
