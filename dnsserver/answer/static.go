package answer

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// maxStore bounds the octets of a store, whose places have 32 bits.
const maxStore = 1<<32 - 1<<18

var errTooLarge = errors.New("it has more records than a table can hold")

// static is what a zone's records come to. It depends on nothing else, so that it
// is made once and goes from table to table.
type static struct {
	source []dns.RR // that it is made of
	*store
	soa rrset // as in the records
}

// cut is a delegation.
type cut struct {
	glue []glue
}

// glue is an address of a name server, ready to be sent with its owner in full.
// Without those at or below the cut a resolver cannot go on (RFC 9471); the others
// spare it a query.
type glue struct {
	record []byte
	needed bool
}

// gathered is the records by owner while a static is made.
type gathered struct {
	origin  []byte
	octets  []byte  // all records, ready to be sent
	records []piece // in the order of the text
	owners  []owned
	index   map[string]int32 // in owners
	errs    []error
}

// piece is one record.
type piece struct {
	at, size uint32 // in octets
	next     int32  // of the same owner, -1 = none
	rrtype   uint16
}

// owned is an owner and its records.
type owned struct {
	name        string
	first, last int32
}

func (g *gathered) fail(format string, args ...any) {
	g.errs = append(g.errs, fmt.Errorf(format, args...))
}

// newStatic packs a zone's records and makes the names of them. Those that a
// delegation or a DNAME hides are there, too, where no walk down from the top comes.
func newStatic(origin []byte, records []dns.RR) (*static, []error) {
	g := &gathered{origin: origin, index: make(map[string]int32, len(records)), records: make([]piece, 0, len(records))}
	for _, rr := range records {
		g.add(rr)
	}
	s := &static{source: records}
	s.store = g.build()
	s.soa = g.apex(s.store)
	return s, g.errs
}

// add packs one record.
func (g *gathered) add(rr dns.RR) {
	h := rr.Header()
	owner, record, err := pack(rr)
	if err != nil {
		g.fail("%s %s: %w", h.Name, dns.Type(h.Rrtype), err)
		return
	}
	if h.Class != dns.ClassINET || !inside(owner, g.origin) {
		g.fail("%s %s is not in the zone", h.Name, dns.Type(h.Rrtype))
		return
	}
	if len(g.octets)+len(record) > maxStore {
		g.fail("%w", errTooLarge)
		return
	}
	n := int32(len(g.records))
	p := piece{at: uint32(len(g.octets)), size: uint32(len(record)), next: -1, rrtype: h.Rrtype}
	g.octets = append(g.octets, record...)
	g.records = append(g.records, p)
	if i, ok := g.index[string(owner)]; ok {
		g.records[g.owners[i].last].next = n
		g.owners[i].last = n
		return
	}
	g.index[string(owner)] = int32(len(g.owners))
	g.owners = append(g.owners, owned{name: string(owner), first: n, last: n})
}

func (g *gathered) record(i int32) []byte {
	p := &g.records[i]
	return g.octets[p.at : p.at+p.size]
}

// sets gives an owner's records by type, types in the order of the text. RFC 2181
// section 5: one TTL for the whole set, the lowest, and no record twice.
func (g *gathered) sets(o *owned) []rrset {
	var out []rrset
	for i := o.first; i >= 0; i = g.records[i].next {
		record := g.record(i)
		rrtype := g.records[i].rrtype
		at := slices.IndexFunc(out, func(s rrset) bool { return s.rrtype == rrtype })
		if at < 0 {
			out = append(out, rrset{rrtype: rrtype, count: 1, data: record})
			continue
		}
		set := &out[at]
		ttl := min(set.ttl(), be32(record[recordTTL:]))
		twice := false
		for data := range set.records {
			twice = twice || bytes.Equal(data, record[recordHead:])
		}
		if !twice {
			if set.count == 1 {
				set.data = slices.Clip(set.data) // what lies behind is another's
			}
			set.data, set.count = append(set.data, record...), set.count+1
		}
		set.setTTL(ttl)
	}
	return out
}

// setTTL gives all records of a set one TTL.
func (s rrset) setTTL(ttl uint32) {
	for rest := s.data; len(rest) > 0; rest = rest[recordHead+int(be16(rest[recordSize:])):] {
		put32(rest[recordTTL:], ttl)
	}
}

// build makes the store of what is not hidden.
func (g *gathered) build() *store {
	order := g.order()
	b := newBuilder(len(order)+1, len(g.octets)+len(order)*40)
	lack := func(up string) error { return g.lack(b, up) }
	if len(order) == 0 || order[0].name != string(g.origin) {
		if err := g.lack(b, string(g.origin)); err != nil {
			g.fail("%w", err)
		}
	}
	hidden := "" // the last delegation or DNAME
	for _, o := range order {
		if err := b.add(o.name, string(g.origin), lack); err != nil {
			g.fail("%w", err)
			return b.store
		}
		sets := g.sets(o)
		if hidden != "" && o.name != hidden && inside([]byte(o.name), []byte(hidden)) {
			b.head(0, len(sets), 0) // no walk comes here; a transfer does
			b.sets(sets)
			continue
		}
		flags, index := g.flags(o.name, sets), 0
		if flags&flagCut != 0 {
			index = len(b.cuts)
			b.cuts = append(b.cuts, cut{glue: g.glueOf(o.name, sets)})
		}
		b.head(flags, len(sets), index)
		b.sets(sets)
		if flags&(flagCut|flagDNAME) != 0 {
			hidden = o.name
		}
	}
	return b.store
}

// lack makes an empty non-terminal.
func (g *gathered) lack(b *builder, name string) error {
	err := b.add(name, string(g.origin), func(up string) error { return g.lack(b, up) })
	b.head(0, 0, 0)
	return err
}

// set writes a set of the name that was begun last.
func (b *builder) set(s rrset) {
	size := len(s.data)
	b.octets = append(b.octets, byte(s.rrtype>>8), byte(s.rrtype), byte(s.count>>8), byte(s.count),
		byte(size>>24), byte(size>>16), byte(size>>8), byte(size))
	b.octets = append(b.octets, s.data...)
}

func (b *builder) sets(sets []rrset) {
	for _, s := range sets {
		b.set(s)
	}
}

// order gives the owners in canonical order.
func (g *gathered) order() []*owned {
	type keyed struct {
		key string
		o   *owned
	}
	keys := make([]keyed, len(g.owners))
	var buf []byte
	for i := range g.owners {
		buf = sortKey(buf[:0], []byte(g.owners[i].name))
		keys[i] = keyed{key: string(buf), o: &g.owners[i]}
	}
	less := func(a, b keyed) int { return strings.Compare(a.key, b.key) }
	if !slices.IsSortedFunc(keys, less) {
		slices.SortFunc(keys, less)
	}
	out := make([]*owned, len(keys))
	for i := range keys {
		out[i] = keys[i].o
	}
	return out
}

// flags says what stands at a name, and what must not.
func (g *gathered) flags(name string, sets []rrset) (flags byte) {
	for _, set := range sets {
		switch set.rrtype {
		case dns.TypeCNAME:
			flags |= flagCNAME
			if len(sets) > 1 || set.count > 1 {
				g.fail("%s has a CNAME and other data", show(name))
			}
		case dns.TypeDNAME:
			flags |= flagDNAME
			if set.count > 1 {
				g.fail("%s has more than one DNAME", show(name))
			}
		case dns.TypeNS:
			if name == string(g.origin) {
				break
			}
			flags |= flagCut
			if name[0] == 1 && name[1] == '*' {
				g.fail("%s: a wildcard cannot be delegated", show(name))
			}
		}
	}
	return flags
}

func (g *gathered) glueOf(name string, sets []rrset) []glue {
	var out []glue
	for _, set := range sets {
		if set.rrtype != dns.TypeNS {
			continue
		}
		for target := range set.records {
			i, ok := g.index[string(lower(target))]
			if !ok {
				continue
			}
			needed := inside(lower(target), []byte(name))
			for _, addrs := range g.sets(&g.owners[i]) {
				if addrs.rrtype != dns.TypeA && addrs.rrtype != dns.TypeAAAA {
					continue
				}
				for data := range addrs.records {
					record := slices.Concat(target, addrs.data[2:recordHead], data)
					out = append(out, glue{record: record, needed: needed})
				}
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

// apex wants what stands at the top of every zone, and gives the SOA.
func (g *gathered) apex(s *store) rrset {
	var n name
	n.set(g.origin)
	top := s.find(n.hash(), g.origin)
	soa, ok := rrset{}, false
	if top.ok() {
		soa, ok = top.find(dns.TypeSOA)
	}
	if !ok || soa.count != 1 {
		g.fail("it has not exactly one SOA")
		return rrset{}
	}
	if _, ok := top.find(dns.TypeNS); !ok {
		g.fail("it has no NS")
	}
	if top.flags&flagCNAME != 0 {
		g.fail("it has a CNAME at its top")
	}
	return soa
}
