package answer

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/dns"
)

// zone is a compiled zone. Its nodes are by owner in wire format, lower case;
// what is below a delegation has none, it is only glue.
type zone struct {
	name     string
	labels   int
	label    uint32 // group of its metric labels
	nodes    map[string]*node
	apex     *node
	soa      rrset // with the TTL of negative answers
	parent   *zone // of ours, nil = none
	children []string
	static   static
	steered  []Steered // as they were given, for transfers
}

// static is a zone's records, packed and grouped. It is not written to once made.
type static struct {
	records []dns.RR           // that it is made of
	sets    map[string][]rrset // by owner in wire format
	order   []string           // of owners, as they came
}

// node is a name that exists, if only because there is one below it.
type node struct {
	sets    []rrset
	cname   *rrset
	dname   *rrset
	cut     *cut // a delegation
	steered *steered
	wild    *node // the child "*"
}

// hasData tells a node apart from an empty non-terminal.
func (n *node) hasData() bool { return len(n.sets) > 0 || n.steered != nil }

func (n *node) find(rrtype uint16) *rrset {
	for i := range n.sets {
		if n.sets[i].rrtype == rrtype {
			return &n.sets[i]
		}
	}
	return nil
}

// rrset is all the records of a name and type.
type rrset struct {
	rrtype uint16
	ttl    uint32
	data   [][]byte // RDATA, names in it not compressed
}

// cut is a delegation.
type cut struct {
	ns   *rrset
	glue []glue
}

// glue is an address of a name server. Without those at or below the cut a
// resolver cannot go on (RFC 9471); the others spare it a query.
type glue struct {
	owner  []byte
	set    rrset
	needed bool
}

// compiler makes one zone.
type compiler struct {
	table  *Table
	source *Zone
	zone   *zone
	before *zone // the same zone of an earlier table; nil = none
	origin []byte
	errs   []error
	static
}

func (c *compiler) fail(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

func (c *compiler) compile() []error {
	c.gather()
	c.plant()
	c.apex()
	c.steer()
	c.join()
	return c.errs
}

// gather packs the records and groups them, or finds that done.
func (c *compiler) gather() {
	if c.before != nil && identical(c.before.static.records, c.source.Records) {
		c.static = c.before.static
		c.zone.static = c.static
		return
	}
	c.static = static{records: c.source.Records, sets: make(map[string][]rrset)}
	defer func() { c.zone.static = c.static }()
	for _, rr := range c.source.Records {
		h := rr.Header()
		owner, data, err := pack(rr)
		if err != nil {
			c.fail("%s %s: %w", h.Name, dns.Type(h.Rrtype), err)
			continue
		}
		if h.Class != dns.ClassINET || !inside(owner, c.origin) {
			c.fail("%s %s is not in the zone", h.Name, dns.Type(h.Rrtype))
			continue
		}
		sets := c.sets[string(owner)]
		if sets == nil {
			c.order = append(c.order, string(owner))
		}
		i := slices.IndexFunc(sets, func(s rrset) bool { return s.rrtype == h.Rrtype })
		if i < 0 {
			i = len(sets)
			sets = append(sets, rrset{rrtype: h.Rrtype, ttl: min(h.Ttl, maxTTL)})
		}
		// RFC 2181 section 5.2: one TTL for the whole set, the lowest.
		sets[i].ttl = min(sets[i].ttl, h.Ttl)
		if !slices.ContainsFunc(sets[i].data, func(d []byte) bool { return string(d) == string(data) }) {
			sets[i].data = append(sets[i].data, data)
		}
		c.sets[string(owner)] = sets
	}
}

// plant makes the nodes, from the top down: what a cut hides has none.
func (c *compiler) plant() {
	c.zone.apex = c.node(string(c.origin))
	owners := slices.Clone(c.order)
	slices.SortStableFunc(owners, func(a, b string) int {
		return cmp.Compare(countLabels([]byte(a)), countLabels([]byte(b)))
	})
	for _, owner := range owners {
		if c.hidden(owner) {
			continue
		}
		n := c.node(owner)
		n.sets = c.sets[owner]
		n.cname, n.dname = n.find(dns.TypeCNAME), n.find(dns.TypeDNAME)
		if ns := n.find(dns.TypeNS); ns != nil && owner != string(c.origin) {
			if owner[0] == 1 && owner[1] == '*' {
				c.fail("%s: a wildcard cannot be delegated", show(owner))
			}
			n.cut = &cut{ns: ns, glue: c.glueOf(owner, ns)}
		}
		if n.cname != nil && (len(n.sets) > 1 || len(n.cname.data) > 1) {
			c.fail("%s has a CNAME and other data", show(owner))
		}
		if n.dname != nil && len(n.dname.data) > 1 {
			c.fail("%s has more than one DNAME", show(owner))
		}
	}
	// The zones of ours below this one exist, and so do the names between.
	for _, child := range c.zone.children {
		if !c.hidden(child) {
			c.node(child)
		}
	}
}

// hidden tells whether a delegation or a DNAME stands above owner.
func (c *compiler) hidden(owner string) bool {
	for name := owner; len(name) > len(c.origin); {
		name = name[1+int(name[0]):]
		n := c.zone.nodes[name]
		if n != nil && (n.cut != nil || n.dname != nil) {
			return true
		}
	}
	return false
}

// node finds or makes the node of owner and all above it.
func (c *compiler) node(owner string) *node {
	if n := c.zone.nodes[owner]; n != nil {
		return n
	}
	n := &node{}
	c.zone.nodes[owner] = n
	if len(owner) > len(c.origin) {
		up := c.node(owner[1+int(owner[0]):])
		if owner[0] == 1 && owner[1] == '*' {
			up.wild = n
		}
	}
	return n
}

func (c *compiler) glueOf(owner string, ns *rrset) []glue {
	var out []glue
	for _, target := range ns.data {
		name := lower(target)
		needed := inside(name, []byte(owner))
		for _, set := range c.sets[string(name)] {
			if set.rrtype == dns.TypeA || set.rrtype == dns.TypeAAAA {
				out = append(out, glue{owner: target, set: set, needed: needed})
			}
		}
	}
	// What is needed goes first: it must fit.
	slices.SortStableFunc(out, func(a, b glue) int {
		switch {
		case a.needed == b.needed:
			return 0
		case a.needed:
			return -1
		}
		return 1
	})
	return out
}

// apex wants the SOA and sets what negative answers say. Their TTL, and the SOA's
// minimum, is never above the TTL of a steered name: a resolver must not believe
// for longer that there is no such address (SEMANTICS, Existence).
func (c *compiler) apex() {
	soa := c.zone.apex.find(dns.TypeSOA)
	if soa == nil || len(soa.data) != 1 {
		c.errs = append(c.errs, errors.New("it has not exactly one SOA"))
		return
	}
	if c.zone.apex.find(dns.TypeNS) == nil {
		c.errs = append(c.errs, errors.New("it has no NS"))
	}
	if c.zone.apex.cname != nil {
		c.errs = append(c.errs, errors.New("it has a CNAME at its top"))
	}
	data := slices.Clone(soa.data[0]) // what was packed stays as it was
	at := len(data) - 4
	minimum := min(be32(data[at:]), maxTTL)
	for i := range c.source.Steered {
		minimum = min(minimum, c.source.Steered[i].TTL)
	}
	put32(data[at:], minimum)
	if c.source.Serial != 0 {
		put32(data[at-16:], c.source.Serial)
	}
	c.zone.apex.sets = slices.Clone(c.zone.apex.sets)
	c.zone.apex.find(dns.TypeSOA).data = [][]byte{data}
	c.zone.soa = rrset{rrtype: dns.TypeSOA, ttl: min(soa.ttl, minimum), data: [][]byte{data}}
}

// steer adds the names whose addresses depend on the client.
func (c *compiler) steer() {
	for i := range c.source.Steered {
		s := &c.source.Steered[i]
		owner, err := wire(s.Name)
		if err != nil {
			c.errs = append(c.errs, err)
			continue
		}
		if !inside(owner, c.origin) {
			c.fail("%s is not in the zone", s.Name)
			continue
		}
		if c.hidden(string(owner)) {
			c.fail("%s is below a delegation or a DNAME", s.Name)
			continue
		}
		n := c.node(string(owner))
		switch {
		case n.steered != nil:
			c.fail("%s is steered twice", s.Name)
		case n.cut != nil:
			c.fail("%s is delegated", s.Name)
		case n.cname != nil || n.find(dns.TypeA) != nil || n.find(dns.TypeAAAA) != nil:
			c.fail("%s has a static address or CNAME", s.Name)
		}
		if n.steered = c.again(string(owner), s); n.steered != nil {
			continue
		}
		compiled, err := c.table.compileSteered(c.zone, s)
		if err != nil {
			c.fail("%s: %w", s.Name, err)
			continue
		}
		n.steered = compiled
	}
}

// again takes over what the earlier table has for a name, if it is the same.
func (c *compiler) again(owner string, source *Steered) *steered {
	if c.before == nil {
		return nil
	}
	n := c.before.nodes[owner]
	if n == nil || n.steered == nil || !n.steered.source.same(source) {
		return nil
	}
	s := *n.steered
	s.zone, s.source, s.a.source, s.aaaa.source = c.zone, source, &source.A, &source.AAAA
	return &s
}

// join refuses steered names that a zone of ours further down would hide.
func (c *compiler) join() {
	if len(c.zone.children) == 0 {
		return
	}
	for i := range c.source.Steered {
		owner, err := wire(c.source.Steered[i].Name)
		if err != nil {
			continue
		}
		for _, child := range c.zone.children {
			if inside(owner, []byte(child)) {
				c.fail("%s belongs to the zone %s", c.source.Steered[i].Name, show(child))
			}
		}
	}
}
