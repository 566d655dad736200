package zone

import (
	"hash/maphash"
	"strings"

	"github.com/miekg/dns"
)

// maxSet is how many octets the records of one name and type may have: with the
// question, aliases before them and an OPT they must fit a reply of 65,535.
const maxSet = 60_000

// judge finds what is wrong between records: all that would make answers a
// resolver misreads.
func (z *parser) judge() {
	all := z.tie()
	for i := range z.entries {
		z.judgeRecord(&z.entries[i], all)
	}
	z.judgeApex(all)
	for i := range z.entries {
		// Once for each owner: at its first record.
		name := z.entries[i].rr.Header().Name
		if n := all.find(name); n != nil && n.first == int32(i) {
			z.judgeNode(name, n, all)
		}
	}
	for i := range z.entries {
		if ns, ok := z.entries[i].rr.(*dns.NS); ok {
			z.judgeNS(ns, z.entries[i].line, all)
		}
	}
}

// nodes is the owners of a zone, which may be a million: a few objects in all.
type nodes struct {
	slots   []int32 // open addressing by the owner's hash: index in list, plus one; 0 = free
	seed    maphash.Seed
	list    []node
	entries []entry
}

// node is the records of one owner, each of which names the next.
type node struct {
	first, last int32
	cut         bool // a delegation
	dname       bool
}

// slot is where an owner is entered, or would be.
func (a *nodes) slot(name string) *int32 {
	mask := uint64(len(a.slots) - 1)
	for i := maphash.String(a.seed, name) & mask; ; i = (i + 1) & mask {
		at := a.slots[i]
		if at == 0 || a.entries[a.list[at-1].first].rr.Header().Name == name {
			return &a.slots[i]
		}
	}
}

func (a *nodes) find(name string) *node {
	if at := *a.slot(name); at > 0 {
		return &a.list[at-1]
	}
	return nil
}

// records gives an owner's records in the order of the text.
func (a *nodes) records(n *node) func(func(*entry) bool) {
	return func(yield func(*entry) bool) {
		for i := n.first; i >= 0; i = a.entries[i].next {
			if !yield(&a.entries[i]) {
				return
			}
		}
	}
}

func (a *nodes) has(n *node, rrtype uint16) *entry {
	for e := range a.records(n) {
		if e.rr.Header().Rrtype == rrtype {
			return e
		}
	}
	return nil
}

// tie puts the records of each owner together.
func (z *parser) tie() *nodes {
	size := 2
	for size < 2*len(z.entries) {
		size *= 2
	}
	all := &nodes{slots: make([]int32, size), seed: maphash.MakeSeed(), entries: z.entries, list: make([]node, 0, len(z.entries))}
	for i := range z.entries {
		e := &z.entries[i]
		e.next = -1
		name := e.rr.Header().Name
		if !dns.IsSubDomain(z.origin, name) {
			continue
		}
		slot := all.slot(name)
		if *slot == 0 {
			all.list = append(all.list, node{first: int32(i), last: int32(i)})
			*slot = int32(len(all.list))
		}
		n := &all.list[*slot-1]
		if n.last != int32(i) {
			z.entries[n.last].next = int32(i)
			n.last = int32(i)
		}
		n.cut = n.cut || (e.rr.Header().Rrtype == dns.TypeNS && name != z.origin)
		n.dname = n.dname || e.rr.Header().Rrtype == dns.TypeDNAME
	}
	return all
}

func (z *parser) judgeRecord(e *entry, all *nodes) {
	h := e.rr.Header()
	kind := dns.Type(h.Rrtype)
	if !dns.IsSubDomain(z.origin, h.Name) {
		z.problem(e.line, "%s is outside the zone %s", h.Name, z.origin)
		return
	}
	if h.Class != dns.ClassINET {
		z.problem(e.line, "%s %s is of class %s; only IN is served", h.Name, kind, dns.Class(h.Class))
	}
	if h.Ttl > MaxTTL {
		z.problem(e.line, "%s %s has TTL %d; it may be 0 to %d s", h.Name, kind, h.Ttl, MaxTTL)
	}
	switch h.Rrtype {
	case dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3, dns.TypeNSEC3PARAM:
		z.problem(e.line, "%s %s: signed zones are not yet supported", h.Name, kind)
	case dns.TypeOPT, dns.TypeNone, dns.TypeReserved: // RFC 6895 section 3.1
		z.problem(e.line, "%s: type %s does not belong in a zone", h.Name, kind)
	case dns.TypeZONEMD:
		// RFC 8976 section 4: who checks it refuses the zone.
		z.warn(e.line, "%s ZONEMD: a secondary that checks it will refuse the zone: the serial follows the plan, and steered names are not in the text", h.Name)
	default:
		if h.Rrtype >= 128 && h.Rrtype <= 255 { // RFC 6895 section 3.1: Q and meta types
			z.problem(e.line, "%s: type %s does not belong in a zone", h.Name, kind)
		}
	}
	if n := dns.Len(e.rr); n > maxSet {
		z.problem(e.line, "%s %s has %d octets, too long for a reply", h.Name, kind, n)
	} else if _, err := dns.PackRR(e.rr, z.room(n+512), 0, nil, false); err != nil {
		z.problem(e.line, "%s %s: %s", h.Name, kind, plain(err))
	}
	z.judgePlace(e, all)
	z.judgeService(e)
}

// room gives scratch space.
func (z *parser) room(n int) []byte {
	if len(z.scratch) < n {
		z.scratch = make([]byte, 2*n)
	}
	return z.scratch
}

// judgePlace looks at what stands above a record.
func (z *parser) judgePlace(e *entry, all *nodes) {
	h := e.rr.Header()
	glue := h.Rrtype == dns.TypeA || h.Rrtype == dns.TypeAAAA
	for name := range z.above(h.Name) {
		n := all.find(name)
		switch {
		case n == nil:
		case n.cut && !glue:
			z.problem(e.line, "%s %s is below the delegation of %s, where only addresses (glue) may stand",
				h.Name, dns.Type(h.Rrtype), name)
		case n.dname:
			z.problem(e.line, "%s is below the DNAME at %s, which hides it", h.Name, name)
		}
	}
}

// above gives the names over name, up to the origin.
func (z *parser) above(name string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for name != z.origin {
			i, end := dns.NextLabel(name, 0)
			if end {
				return
			}
			name = name[i:]
			if !dns.IsSubDomain(z.origin, name) || !yield(name) {
				return
			}
		}
	}
}

func (z *parser) judgeApex(all *nodes) {
	soas := 0
	for _, e := range z.entries {
		soa, ok := e.rr.(*dns.SOA)
		if !ok {
			continue
		}
		soas++
		if soa.Hdr.Name != z.origin {
			z.problem(e.line, "an SOA at %s: it belongs at %s only", soa.Hdr.Name, z.origin)
		} else if soas > 1 {
			z.problem(e.line, "%s has more than one SOA", z.origin)
		}
	}
	if apex := all.find(z.origin); apex != nil {
		if e := all.has(apex, dns.TypeCNAME); e != nil {
			z.problem(e.line, "a CNAME at %s: the top of a zone has SOA and NS records, and a CNAME stands alone", z.origin)
		}
	}
}

// judgeNode looks at the records of one owner together. No message names another
// line: those of Problem are turned into lines of the file that the text stands in.
func (z *parser) judgeNode(name string, n *node, all *nodes) {
	if n.first == n.last && !n.cut && !n.dname {
		return // nothing to be at odds with
	}
	seen := make(map[string]bool)
	ttls := make(map[uint16]uint32)
	sizes := make(map[uint16]int)
	hasCNAME := all.has(n, dns.TypeCNAME) != nil
	cnames, dnames := 0, 0
	for e := range all.records(n) {
		h := e.rr.Header()
		key := duplicateKey(e.rr)
		if seen[key] {
			z.problem(e.line, "%s %s is a duplicate of a record before it", name, dns.Type(h.Rrtype))
		}
		seen[key] = true
		if ttl, ok := ttls[h.Rrtype]; ok && ttl != h.Ttl {
			z.warn(e.line, "%s %s has TTL %d and %d; the lower is served (RFC 2181 section 5.2)", name, dns.Type(h.Rrtype), ttl, h.Ttl)
		}
		ttls[h.Rrtype] = h.Ttl
		size := sizes[h.Rrtype]
		sizes[h.Rrtype] += dns.Len(e.rr) - len(name) // of the owner a pointer goes out
		if size <= maxSet && sizes[h.Rrtype] > maxSet && size > 0 {
			z.problem(e.line, "the %s records of %s together have more than %d octets, too long for a reply", dns.Type(h.Rrtype), name, maxSet)
		}
		switch {
		case h.Rrtype == dns.TypeCNAME:
			if cnames++; cnames == 2 {
				z.problem(e.line, "%s has more than one CNAME", name)
			}
		case h.Rrtype == dns.TypeDNAME:
			if dnames++; dnames == 2 {
				z.problem(e.line, "%s has more than one DNAME", name)
			}
		case n.cut && !cutType(h.Rrtype):
			z.problem(e.line, "%s %s stands at a delegation, where only NS, DS and glue may", name, dns.Type(h.Rrtype))
		}
		if name != z.origin && hasCNAME && h.Rrtype != dns.TypeCNAME {
			z.problem(e.line, "%s has a CNAME and other data: %s", name, dns.Type(h.Rrtype))
		}
	}
	if n.cut && n.dname {
		z.problem(all.has(n, dns.TypeDNAME).line, "%s has a DNAME and is delegated", name)
	}
	if n.dname && strings.HasPrefix(name, "*.") {
		z.problem(all.has(n, dns.TypeDNAME).line, "%s: a wildcard DNAME (RFC 6672 section 3.3)", name)
	}
	if n.cut && strings.HasPrefix(name, "*.") {
		z.problem(all.has(n, dns.TypeNS).line, "%s: a wildcard cannot be delegated (RFC 4592 section 4.2)", name)
	}
}

// cutType tells whether a type may stand at a delegation. A DNAME gets a message
// of its own.
func cutType(rrtype uint16) bool {
	switch rrtype {
	case dns.TypeNS, dns.TypeDS, dns.TypeA, dns.TypeAAAA, dns.TypeDNAME, dns.TypeCNAME:
		return true
	}
	return false
}

// duplicateKey is the same for records that differ in TTL or in letter case of
// the names inside only (RFC 2181 section 5).
func duplicateKey(rr dns.RR) string {
	c := dns.Copy(rr)
	c.Header().Ttl = 0
	switch rr.(type) {
	case *dns.NS, *dns.CNAME, *dns.DNAME, *dns.PTR, *dns.MX, *dns.SRV, *dns.SOA:
		return strings.ToLower(c.String())
	}
	return c.String()
}

// judgeNS wants addresses for name servers that can be found nowhere else.
func (z *parser) judgeNS(ns *dns.NS, line int, all *nodes) {
	target := dns.CanonicalName(ns.Ns)
	if !dns.IsSubDomain(z.origin, target) || !dns.IsSubDomain(z.origin, ns.Hdr.Name) {
		return
	}
	n := all.find(target)
	if n != nil && all.has(n, dns.TypeCNAME) != nil {
		z.problem(line, "the name server %s is a CNAME (RFC 2181 section 10.3)", target)
		return
	}
	if n != nil && (all.has(n, dns.TypeA) != nil || all.has(n, dns.TypeAAAA) != nil) {
		return
	}
	if n != nil && n.cut {
		z.problem(line, "the name server %s has no address: glue is missing", target)
		return
	}
	for name := range z.above(target) {
		if up := all.find(name); up != nil && up.cut {
			z.problem(line, "the name server %s has no address: glue is missing", target)
			return
		}
	}
	// A steered host or a wildcard may give it one; nobody here knows.
	z.warn(line, "the name server %s has no address in the zone", target)
}
