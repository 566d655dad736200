package zone

import (
	"bytes"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/dnsserver/internal/records"
)

// maxSet is how many octets the records of one name and type may have: with the
// question, aliases before them and an OPT they must fit a reply of 65,535.
const maxSet = 60_000

// take judges a record by itself, and keeps it, packed, if it can be served at all.
func (z *parser) take(rr dns.RR, line int) {
	h := rr.Header()
	kind := dns.Type(h.Rrtype)
	name, err := records.AppendName(z.name[:0], h.Name)
	if err != nil {
		z.problem(line, "%v", err)
		return
	}
	z.name, z.key = name, records.AppendKey(z.key[:0], name)
	if !bytes.HasPrefix(z.key, z.top) {
		z.problem(line, "%s is outside the zone %s", dns.CanonicalName(h.Name), z.origin)
		return
	}
	if h.Ttl > MaxTTL {
		z.problem(line, "%s %s has TTL %d; it may be 0 to %d s", dns.CanonicalName(h.Name), kind, h.Ttl, MaxTTL)
	}
	z.judgeType(rr, line)
	if h.Class != dns.ClassINET {
		z.problem(line, "%s %s is of class %s; only IN is served", dns.CanonicalName(h.Name), kind, dns.Class(h.Class))
		return
	}
	if n := dns.Len(rr); n > maxSet {
		z.problem(line, "%s %s has %d octets, too long for a reply", dns.CanonicalName(h.Name), kind, n)
	} else if err := z.out.Add(z.key, rr, line); err != nil {
		z.problem(line, "%s %s: %s", dns.CanonicalName(h.Name), kind, plain(err))
		return
	}
	z.judgeService(rr, line)
	z.hinted(rr)
}

// judgeType looks at types that do not belong in a zone, or not where they are.
func (z *parser) judgeType(rr dns.RR, line int) {
	h := rr.Header()
	kind := dns.Type(h.Rrtype)
	apex := len(z.key) == len(z.top)
	switch h.Rrtype {
	case dns.TypeA, dns.TypeAAAA: // most are
	case dns.TypeSOA:
		switch {
		case !apex:
			z.problem(line, "an SOA at %s: it belongs at %s only", dns.CanonicalName(h.Name), z.origin)
			return
		case len(z.soa) > 0:
			z.problem(line, "%s has more than one SOA", z.origin)
		}
		z.soa = append(z.soa, line)
		if soa, ok := rr.(*dns.SOA); ok && z.serial != 0 {
			soa.Serial = z.serial
		}
	case dns.TypeNS:
		if apex {
			z.ns = append(z.ns, line)
		}
	case dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3, dns.TypeNSEC3PARAM:
		z.problem(line, "%s %s: signed zones are not yet supported", dns.CanonicalName(h.Name), kind)
	case dns.TypeOPT, dns.TypeNone, dns.TypeReserved: // RFC 6895 section 3.1
		z.problem(line, "%s: type %s does not belong in a zone", dns.CanonicalName(h.Name), kind)
	case dns.TypeZONEMD:
		// RFC 8976 section 4: who checks it refuses the zone.
		z.warn(line, "%s ZONEMD: a secondary that checks it will refuse the zone: the serial follows the plan, and steered names are not in the text", dns.CanonicalName(h.Name))
	default:
		if h.Rrtype >= 128 && h.Rrtype <= 255 { // RFC 6895 section 3.1: Q and meta types
			z.problem(line, "%s: type %s does not belong in a zone", dns.CanonicalName(h.Name), kind)
		}
	}
}

// node is the records of one owner, from first up to end.
type node struct {
	first, end int
	key        []byte
	cut        bool // a delegation
	dname      bool
}

func (z *parser) node(first, end int) node {
	n := node{first: first, end: end, key: z.out.Key(first)}
	for i := first; i < end; i++ {
		switch z.out.Type(i) {
		case dns.TypeNS:
			n.cut = len(n.key) > len(z.top)
		case dns.TypeDNAME:
			n.dname = true
		}
	}
	return n
}

// find gives the records of an owner; none where there are none.
func (z *parser) find(key []byte) node {
	first, end := z.out.Find(key)
	if first == end {
		return node{}
	}
	return z.node(first, end)
}

// has gives the first record of a type, -1 = none.
func (z *parser) has(n node, rrtype uint16) int {
	for i := n.first; i < n.end; i++ {
		if z.out.Type(i) == rrtype {
			return i
		}
	}
	return -1
}

// show is the name of a key, for messages.
func show(key []byte) string { return records.Show(records.NameOfKey(nil, key)) }

// judge finds what is wrong between records: all that would make answers a
// resolver misreads. Owners come in canonical order, so what hides a name has come
// before it.
func (z *parser) judge() {
	var above []node // delegations and DNAMEs over the owner at hand, the nearest last
	for first, end := range z.out.Owners {
		n := z.node(first, end)
		for len(above) > 0 && !bytes.HasPrefix(n.key, above[len(above)-1].key) {
			above = above[:len(above)-1]
		}
		if len(above) > 0 {
			z.judgePlace(n, above)
		}
		z.judgeNode(n)
		if n.cut || n.dname {
			above = append(above, n)
		}
	}
	for i := range z.out.Len() {
		if z.out.Type(i) == dns.TypeNS {
			z.judgeNS(i)
		}
	}
}

// judgePlace looks at what stands above an owner's records.
func (z *parser) judgePlace(n node, above []node) {
	name := show(n.key)
	for i := n.first; i < n.end; i++ {
		rrtype, line := z.out.Type(i), z.out.Line(i)
		glue := rrtype == dns.TypeA || rrtype == dns.TypeAAAA
		for _, up := range slices.Backward(above) {
			switch {
			case up.cut && !glue:
				// RFC 5936 section 3.5: it may be there, and goes to who transfers the zone.
				z.warn(line, "%s %s is below the delegation of %s, which hides all but addresses (glue)", name, dns.Type(rrtype), show(up.key))
			case up.dname:
				z.problem(line, "%s is below the DNAME at %s, which hides it", name, show(up.key))
			}
		}
	}
}

// judgeNode looks at the records of one owner together. No message names another
// line: those of Problem are turned into lines of the file that the text stands in.
func (z *parser) judgeNode(n node) {
	apex := len(n.key) == len(z.top)
	if n.first+1 == n.end && !n.cut && !n.dname && !apex {
		return // nothing to be at odds with
	}
	name := show(n.key)
	if at := z.has(n, dns.TypeCNAME); apex && at >= 0 {
		z.problem(z.out.Line(at), "a CNAME at %s: the top of a zone has SOA and NS records, and a CNAME stands alone", name)
	}
	seen := make(map[string]bool)
	ttls := make(map[uint16]uint32)
	sizes := make(map[uint16]int)
	hasCNAME := z.has(n, dns.TypeCNAME) >= 0
	cnames, dnames := 0, 0
	for i := n.first; i < n.end; i++ {
		rrtype, line := z.out.Type(i), z.out.Line(i)
		kind := dns.Type(rrtype)
		key := duplicateKey(rrtype, z.out.RDATA(i))
		if seen[key] {
			z.problem(line, "%s %s is a duplicate of a record before it", name, kind)
		}
		seen[key] = true
		ttl := z.out.TTL(i)
		if other, ok := ttls[rrtype]; ok && other != ttl {
			z.warn(line, "%s %s has TTL %d and %d; the lower is served (RFC 2181 section 5.2)", name, kind, other, ttl)
		}
		ttls[rrtype] = ttl
		size := sizes[rrtype]
		sizes[rrtype] += len(z.out.Data(i))
		if size <= maxSet && sizes[rrtype] > maxSet && size > 0 {
			z.problem(line, "the %s records of %s together have more than %d octets, too long for a reply", kind, name, maxSet)
		}
		switch {
		case rrtype == dns.TypeCNAME:
			if cnames++; cnames == 2 {
				z.problem(line, "%s has more than one CNAME", name)
			}
		case rrtype == dns.TypeDNAME:
			if dnames++; dnames == 2 {
				z.problem(line, "%s has more than one DNAME", name)
			}
		case n.cut && !cutType(rrtype):
			z.warn(line, "%s %s stands at a delegation, which hides all but NS, DS and addresses (glue)", name, kind)
		}
		if !apex && hasCNAME && rrtype != dns.TypeCNAME {
			z.problem(line, "%s has a CNAME and other data: %s", name, kind)
		}
	}
	if n.cut && n.dname {
		z.problem(z.out.Line(z.has(n, dns.TypeDNAME)), "%s has a DNAME and is delegated", name)
	}
	if n.dname && strings.HasPrefix(name, "*.") {
		z.warn(z.out.Line(z.has(n, dns.TypeDNAME)), "%s: a wildcard DNAME moves what is below the * itself, and nothing else (RFC 6672 section 3.3)", name)
	}
	if n.cut && strings.HasPrefix(name, "*.") {
		z.problem(z.out.Line(z.has(n, dns.TypeNS)), "%s: a wildcard cannot be delegated (RFC 4592 section 4.2)", name)
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
func duplicateKey(rrtype uint16, data []byte) string {
	from, to := 0, len(data) // where names are
	switch rrtype {
	case dns.TypeNS, dns.TypeCNAME, dns.TypeDNAME, dns.TypePTR:
	case dns.TypeMX:
		from = 2
	case dns.TypeSRV:
		from = 6
	case dns.TypeSOA:
		to -= 20
	default:
		to = 0
	}
	key := append([]byte{byte(rrtype >> 8), byte(rrtype)}, data...)
	for i := from; i < to; i++ {
		if c := &key[2+i]; *c >= 'A' && *c <= 'Z' { // lengths of labels are below
			*c += 'a' - 'A'
		}
	}
	return string(key)
}

// judgeNS wants addresses for name servers that can be found nowhere else.
func (z *parser) judgeNS(i int) {
	line := z.out.Line(i)
	target := records.Show(z.out.RDATA(i))
	wire, err := records.AppendName(nil, target)
	if err != nil {
		return
	}
	key := records.AppendKey(nil, wire)
	if !bytes.HasPrefix(key, z.top) {
		return
	}
	target = records.Show(wire) // in lower case
	n := z.find(key)
	switch {
	case line > 0 && z.aliases[target]: // Divert's own doing, so it can be mended here
		z.problem(line, "the name server %s is a CNAME (RFC 2181 section 10.3)", target)
		return
	case z.has(n, dns.TypeCNAME) >= 0:
		z.warn(line, "the name server %s is a CNAME: resolvers will not follow it (RFC 2181 section 10.3)", target)
		return
	}
	if z.has(n, dns.TypeA) >= 0 || z.has(n, dns.TypeAAAA) >= 0 {
		return
	}
	for ; len(wire) > 1; wire = wire[1+int(wire[0]):] { // the target, and what is above it
		key = records.AppendKey(key[:0], wire)
		if len(key) <= len(z.top) {
			break
		}
		if z.find(key).cut {
			z.warn(line, "the name server %s has no address: glue is missing, and nobody finds it", target)
			return
		}
	}
	// A steered host or a wildcard may give it one; nobody here knows.
	z.warn(line, "the name server %s has no address in the zone", target)
}
