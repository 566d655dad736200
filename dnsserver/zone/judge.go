package zone

import (
	"strings"

	"github.com/miekg/dns"
)

// maxSet is how many octets the records of one name and type may have: with the
// question, aliases before them and an OPT they must fit a reply of 65,535.
const maxSet = 60_000

// judge finds what is wrong between records: all that would make answers a
// resolver misreads.
func (z *parser) judge() {
	all := z.nodes()
	for _, e := range z.entries {
		z.judgeRecord(e, all)
	}
	z.judgeApex(all)
	for i, e := range z.entries {
		// Once for each owner: at its first record.
		if n := all[e.rr.Header().Name]; n != nil && n.first == i {
			z.judgeNode(e.rr.Header().Name, n)
		}
	}
	for _, e := range z.entries {
		if ns, ok := e.rr.(*dns.NS); ok {
			z.judgeNS(ns, e.line, all)
		}
	}
}

// node is the records of one owner.
type node struct {
	first   int // index of the first
	entries []entry
	cut     bool // a delegation
	dname   bool
}

func (n *node) has(rrtype uint16) *entry {
	for i := range n.entries {
		if n.entries[i].rr.Header().Rrtype == rrtype {
			return &n.entries[i]
		}
	}
	return nil
}

func (z *parser) nodes() map[string]*node {
	all := make(map[string]*node)
	for i, e := range z.entries {
		name := e.rr.Header().Name
		if !dns.IsSubDomain(z.origin, name) {
			continue
		}
		n := all[name]
		if n == nil {
			n = &node{first: i}
			all[name] = n
		}
		n.entries = append(n.entries, e)
		n.cut = n.cut || (e.rr.Header().Rrtype == dns.TypeNS && name != z.origin)
		n.dname = n.dname || e.rr.Header().Rrtype == dns.TypeDNAME
	}
	return all
}

func (z *parser) judgeRecord(e entry, all map[string]*node) {
	h := e.rr.Header()
	kind := dns.Type(h.Rrtype).String()
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
	default:
		if h.Rrtype >= 128 && h.Rrtype <= 255 { // RFC 6895 section 3.1: Q and meta types
			z.problem(e.line, "%s: type %s does not belong in a zone", h.Name, kind)
		}
	}
	if n := dns.Len(e.rr); n > maxSet {
		z.problem(e.line, "%s %s has %d octets, too long for a reply", h.Name, kind, n)
	} else if _, err := dns.PackRR(e.rr, make([]byte, n+512), 0, nil, false); err != nil {
		z.problem(e.line, "%s %s: %s", h.Name, kind, plain(err))
	}
	z.judgePlace(e, all)
	z.judgeService(e)
}

// judgePlace looks at what stands above a record.
func (z *parser) judgePlace(e entry, all map[string]*node) {
	h := e.rr.Header()
	glue := h.Rrtype == dns.TypeA || h.Rrtype == dns.TypeAAAA
	for name := range z.above(h.Name) {
		n := all[name]
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

func (z *parser) judgeApex(all map[string]*node) {
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
	if apex := all[z.origin]; apex != nil {
		if e := apex.has(dns.TypeCNAME); e != nil {
			z.problem(e.line, "a CNAME at %s: the top of a zone has SOA and NS records, and a CNAME stands alone", z.origin)
		}
	}
}

// judgeNode looks at the records of one owner together. No message names another
// line: those of Problem are turned into lines of the file that the text stands in.
func (z *parser) judgeNode(name string, n *node) {
	seen := make(map[string]bool)
	ttls := make(map[uint16]uint32)
	sizes := make(map[uint16]int)
	hasCNAME := n.has(dns.TypeCNAME) != nil
	cnames, dnames := 0, 0
	for _, e := range n.entries {
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
		z.problem(n.has(dns.TypeDNAME).line, "%s has a DNAME and is delegated", name)
	}
	if n.dname && strings.HasPrefix(name, "*.") {
		z.problem(n.has(dns.TypeDNAME).line, "%s: a wildcard DNAME (RFC 6672 section 3.3)", name)
	}
	if n.cut && strings.HasPrefix(name, "*.") {
		z.problem(n.has(dns.TypeNS).line, "%s: a wildcard cannot be delegated (RFC 4592 section 4.2)", name)
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
func (z *parser) judgeNS(ns *dns.NS, line int, all map[string]*node) {
	target := dns.CanonicalName(ns.Ns)
	if !dns.IsSubDomain(z.origin, target) || !dns.IsSubDomain(z.origin, ns.Hdr.Name) {
		return
	}
	n := all[target]
	if n != nil && n.has(dns.TypeCNAME) != nil {
		z.problem(line, "the name server %s is a CNAME (RFC 2181 section 10.3)", target)
		return
	}
	if n != nil && (n.has(dns.TypeA) != nil || n.has(dns.TypeAAAA) != nil) {
		return
	}
	if n != nil && n.cut {
		z.problem(line, "the name server %s has no address: glue is missing", target)
		return
	}
	for name := range z.above(target) {
		if up := all[name]; up != nil && up.cut {
			z.problem(line, "the name server %s has no address: glue is missing", target)
			return
		}
	}
	// A steered host or a wildcard may give it one; nobody here knows.
	z.warn(line, "the name server %s has no address in the zone", target)
}
