package answer

import (
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/dnsserver/internal/records"
)

// zone is a compiled zone. Static is of its records, over of the names that are
// not: the steered ones, what is above them, the zones of ours further down and
// the apex. Both go from table to table, and only groups is made anew as sites come
// and go.
type zone struct {
	name     string
	origin   string // in wire format, lower case
	wire     []byte // the same
	hash     uint64
	labels   int
	label    uint32 // group of its metric labels
	static   *static
	over     *overlay
	groups   []*steered // as Zone.Steered
	apex     node
	soa      []byte // of negative answers, ready to be sent
	soaTTL   uint32 // of the SOA where it is asked for
	least    uint32 // TTL of a negative answer
	next     int64  // the first scheduled change of all steered names, Unix time; 0 = none
	parent   *zone  // of ours, nil = none
	children []string
	steered  []Steered // as they were given, for transfers
}

// overlay is the names of a zone that its records alone do not make, each with
// what the records give it.
type overlay struct {
	*store
	static   *static
	source   []Steered // whose names these are, and no more of them
	children []string
	names    []steeredName
}

// steeredName is where a steered name's answers are.
type steeredName struct {
	group int32 // in zone.groups
	own   int32 // in steered.own
}

// nameOf gives a steered name by its index.
func (o *overlay) nameOf(index int) Name {
	for i := range o.source {
		s := &o.source[i]
		switch {
		case index == 0:
			return Name{Name: s.Name, Service: s.Service}
		case index <= len(s.Alike):
			return s.Alike[index-1]
		}
		index -= 1 + len(s.Alike)
	}
	return Name{}
}

// find looks a name up in both stores.
func (z *zone) find(h uint64, owner []byte) node {
	if n := z.over.find(h, owner); n.store != nil {
		return n
	}
	return z.static.find(h, owner)
}

// wild looks up the wildcard below a name.
func (z *zone) wild(h uint64, above []byte) node {
	if n := z.over.wild(h, above); n.store != nil {
		return n
	}
	return z.static.wild(h, above)
}

// sameNames tells whether two lists have the same steered names in the same
// groups, by the identity of what they share.
func sameNames(a, b []Steered) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.EqualFunc(a, b, func(a, b Steered) bool {
		return a.sameNames(&b)
	}))
}

func (s *Steered) sameNames(other *Steered) bool {
	return s.Name == other.Name && s.Service == other.Service && s.CNAME == other.CNAME && identical(s.Alike, other.Alike)
}

// compiler makes one zone.
type compiler struct {
	table  *Table
	source *Zone
	zone   *zone
	before *zone // the same zone of an earlier table; nil = none
	shared *shared
	errs   []error
}

func (c *compiler) fail(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

func (c *compiler) compile() []error {
	z := c.zone
	switch given := c.source.Static; {
	case given != nil && given.origin != z.origin:
		c.fail("its records are those of %s", show(given.origin))
		return c.errs
	case given != nil:
		z.static = given.static
	case c.before != nil && len(c.source.Records) > 0 && identical(c.before.static.source, c.source.Records):
		z.static = c.before.static
	default:
		z.static, c.errs = newStatic([]byte(z.origin), c.source.Records)
	}
	slices.Sort(z.children)
	if b := c.before; b != nil && b.over.static == z.static && slices.Equal(b.over.children, z.children) && sameNames(b.over.source, c.source.Steered) {
		z.over = b.over
	} else {
		z.over = c.overlay()
	}
	var n name
	n.set([]byte(z.origin))
	z.apex = z.find(z.hash, n.suffix(0))
	c.steer()
	c.negative()
	return c.errs
}

// negative sets what negative answers say. Their TTL, and the SOA's minimum, is
// never above the TTL of a steered name: a resolver must not believe for longer
// that there is no such address (SEMANTICS, Existence).
func (c *compiler) negative() {
	z := c.zone
	if z.static.soa.count == 0 {
		return // refused already
	}
	z.soa = slices.Clone(z.static.soa.data)
	z.soaTTL = z.static.soa.ttl()
	z.least = min(be32(z.soa[len(z.soa)-4:]), maxTTL)
	for _, s := range z.groups {
		if s == nil {
			continue
		}
		z.least = min(z.least, s.ttl)
		if s.next != 0 && (z.next == 0 || s.next < z.next) {
			z.next = s.next
		}
	}
	put32(z.soa[len(z.soa)-4:], z.least)
	if c.source.Serial != 0 {
		put32(z.soa[len(z.soa)-20:], c.source.Serial)
	}
	put32(z.soa[recordTTL:], min(z.soaTTL, z.least))
}

// minLeftTTL is the least that the TTL of a name with a scheduled change ahead
// falls to, seconds.
const minLeftTTL = 5

// left is a TTL as it is now: of a name whose answers change at next, no more than
// the time to that, but 5 s (SEMANTICS section 2).
func left(ttl uint32, next, now int64) uint32 {
	if next == 0 {
		return ttl
	}
	return uint32(min(int64(ttl), max(next-now, minLeftTTL)))
}

// steer compiles what the steered names answer, or finds that done.
func (c *compiler) steer() {
	z := c.zone
	z.groups = make([]*steered, len(c.source.Steered))
	for i := range c.source.Steered {
		s := &c.source.Steered[i]
		before := c.again(i, s)
		if before != nil && before.source.same(s) {
			z.groups[i] = before
			c.shared.keep(before)
			continue
		}
		compiled, err := c.compileSteered(s, before)
		if err != nil {
			c.fail("%s: %w", s.Name, err)
			continue
		}
		z.groups[i] = compiled
	}
}

// again finds what the earlier table has for the names of a Steered.
func (c *compiler) again(i int, s *Steered) *steered {
	b := c.before
	if b == nil {
		return nil
	}
	if i < len(b.groups) && b.groups[i].source.sameNames(s) {
		return b.groups[i]
	}
	var n name
	owner, err := wire(s.Name)
	if err != nil || !n.set(owner) {
		return nil
	}
	found := b.over.find(n.hash(), n.suffix(0))
	if found.store == nil || found.flags&flagSteered == 0 {
		return nil
	}
	old := b.groups[b.over.names[found.index()].group]
	if !old.source.sameNames(s) {
		return nil
	}
	return old
}

// planned is a name of an overlay before it is made.
type planned struct {
	key   string // see records.AppendKey
	owner string
	name  int32 // in overlay.names, -1 = none
	alias bool
}

// overlay makes the names that the records alone do not.
func (c *compiler) overlay() *overlay {
	z := c.zone
	o := &overlay{static: z.static, source: make([]Steered, len(c.source.Steered)), children: z.children}
	plan := []planned{{owner: z.origin, name: -1}}
	for i := range c.source.Steered {
		s := &c.source.Steered[i]
		o.source[i] = Steered{Name: s.Name, Service: s.Service, Alike: s.Alike, CNAME: s.CNAME}
		own, last := int32(0), s.Service
		for name, service := range s.names {
			if service != last {
				own, last = own+1, service
			}
			owner, err := wire(name)
			switch {
			case err != nil:
				c.errs = append(c.errs, err)
				continue
			case !inside(owner, []byte(z.origin)):
				c.fail("%s is not in the zone", name)
				continue
			}
			plan = append(plan, planned{owner: string(owner), name: int32(len(o.names)), alias: s.CNAME})
			o.names = append(o.names, steeredName{group: int32(i), own: own})
		}
	}
	for _, child := range z.children {
		// The zones of ours below this one exist, and so do the names between.
		plan = append(plan, planned{owner: child, name: -1})
	}
	var buf []byte
	for i := range plan {
		buf = records.AppendKey(buf[:0], []byte(plan[i].owner))
		plan[i].key = string(buf)
	}
	slices.SortStableFunc(plan, func(a, b planned) int { return strings.Compare(a.key, b.key) })
	b := newBuilder(len(plan)*5/4, len(plan)*48)
	for i, p := range plan {
		if i > 0 && plan[i-1].owner == p.owner {
			if p.name >= 0 && plan[i-1].name >= 0 {
				c.fail("%s is steered twice", show(p.owner))
			}
			continue
		}
		if p.name < 0 && i+1 < len(plan) && plan[i+1].owner == p.owner {
			p.name, p.alias = plan[i+1].name, plan[i+1].alias
		}
		c.place(b, p)
	}
	o.store = b.store
	return o
}

// place adds one name, with what is above it.
func (c *compiler) place(b *builder, p planned) {
	z := c.zone
	var n name
	if !n.set([]byte(p.owner)) {
		return
	}
	steered := p.name >= 0
	h := z.hash
	there := z.static.find(h, n.suffix(n.labels-z.labels))
	for i := n.labels - z.labels; ; i-- {
		switch {
		case i == 0:
		case there.flags&(flagCut|flagDNAME) != 0:
			if steered {
				c.fail("%s is below a delegation or a DNAME", show(p.owner))
			}
			return // a zone of ours below it is not this one's to know
		}
		if steered && i < n.labels-z.labels && c.table.root(h, n.suffix(i)) != nil {
			c.fail("%s belongs to the zone %s", show(p.owner), show(string(n.suffix(i))))
			return
		}
		if i == 0 {
			break
		}
		h = n.below(h, i-1)
		if there = z.static.find(h, n.suffix(i-1)); there.store == nil {
			there = node{}
		}
	}
	if steered {
		switch {
		case there.flags&flagCut != 0:
			c.fail("%s is delegated", show(p.owner))
		case there.flags&flagCNAME != 0 || there.has(dns.TypeA) || there.has(dns.TypeAAAA):
			c.fail("%s has a static address or CNAME", show(p.owner))
		case p.alias && there.store != nil && !there.empty():
			c.fail("%s has a CNAME, since the endpoints of its service are hostnames, and other data", show(p.owner))
		}
	}
	c.copy(b, p, there)
}

func (n node) has(rrtype uint16) bool {
	if n.store == nil {
		return false
	}
	_, ok := n.find(rrtype)
	return ok
}

// copy adds a name with what the records give it, and those above it that are not
// there yet.
func (c *compiler) copy(b *builder, p planned, there node) {
	err := b.add(p.owner, c.zone.origin, func(up string) error {
		var n name
		if !n.set([]byte(up)) {
			return errTooLarge
		}
		c.copy(b, planned{owner: up, name: -1}, c.zone.static.find(n.hash(), n.suffix(0)))
		return nil
	})
	if err != nil {
		c.errs = append(c.errs, err)
		return
	}
	flags, index := byte(0), 0
	if there.store != nil {
		flags = there.flags
	}
	switch {
	case flags&flagCut != 0:
		index = len(b.cuts)
		b.cuts = append(b.cuts, there.store.cuts[there.index()])
	case p.name >= 0:
		flags |= flagSteered
		index = int(p.name)
		if p.alias {
			flags |= flagAlias
		}
	}
	if there.store == nil {
		b.head(flags, 0, index)
		return
	}
	count, _ := there.sets()
	b.head(flags, count, index)
	for set := range there.all {
		b.set(set)
	}
}
