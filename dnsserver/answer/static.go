package answer

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

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

// Static is a zone's records as a Table holds them: about 70 octets each, where the
// library's take 130.
type Static struct {
	static *static
	origin string
}

// Pack makes the records of a zone ready for any number of tables, or says all that
// is wrong with them. They are not needed after.
func Pack(origin string, records []dns.RR) (*Static, error) {
	packed, err := wire(origin)
	if err != nil {
		return nil, err
	}
	s, errs := newStatic(packed, records)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	s.source = nil
	return &Static{static: s, origin: string(packed)}, nil
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

// gathered is the records while a static is made: of a million, a few objects.
type gathered struct {
	origin  []byte
	octets  []byte  // of records, ready to be sent
	keys    []byte  // of owners, see sortKey
	owner   []byte  // the last, in wire format
	records []piece // in the order of the text, then by owner
	groups  []int32 // where each owner begins in records
	scratch []byte
	sets    []rrset
	errs    []error
}

// piece is one record.
type piece struct {
	at, key uint32 // in octets and keys
	size    uint32
	keyLen  uint16
	rrtype  uint16
}

func (g *gathered) fail(format string, args ...any) {
	g.errs = append(g.errs, fmt.Errorf(format, args...))
}

// newStatic packs a zone's records and makes the names of them. Those that a
// delegation or a DNAME hides are there, too, where no walk down from the top comes.
func newStatic(origin []byte, records []dns.RR) (*static, []error) {
	g := &gathered{
		origin: origin, records: make([]piece, 0, len(records)),
		octets: make([]byte, 0, 20*len(records)), keys: make([]byte, 0, 24*len(records)), // what most records take
	}
	for _, rr := range records {
		g.add(rr)
	}
	g.sort()
	s := &static{source: records}
	s.store = g.build()
	s.soa = g.apex(s.store)
	return s, g.errs
}

// add packs one record.
func (g *gathered) add(rr dns.RR) {
	h := rr.Header()
	owner, err := appendName(g.owner[:0], h.Name)
	if err != nil {
		g.fail("%s %s: %w", h.Name, dns.Type(h.Rrtype), err)
		return
	}
	g.owner = owner
	if h.Class != dns.ClassINET || !inside(owner, g.origin) {
		g.fail("%s %s is not in the zone", h.Name, dns.Type(h.Rrtype))
		return
	}
	p := piece{at: uint32(len(g.octets)), key: uint32(len(g.keys)), rrtype: h.Rrtype}
	g.keys = sortKey(g.keys, owner)
	if n := len(g.records); n > 0 && bytes.Equal(g.keys[p.key:], g.key(&g.records[n-1])) {
		g.keys = g.keys[:p.key] // most sets stand together
		p.key, p.keyLen = g.records[n-1].key, g.records[n-1].keyLen
	} else {
		p.keyLen = uint16(len(g.keys) - int(p.key))
	}
	g.octets, err = g.pack(g.octets, rr)
	switch {
	case err != nil:
		g.fail("%s %s: %w", h.Name, dns.Type(h.Rrtype), err)
		return
	case len(g.octets)+len(g.keys) > maxStore:
		g.fail("%w", errTooLarge)
		return
	}
	p.size = uint32(len(g.octets)) - p.at
	g.records = append(g.records, p)
}

func (g *gathered) key(p *piece) []byte { return g.keys[p.key : p.key+uint32(p.keyLen)] }

// sort puts the owners into canonical order and each one's records together.
func (g *gathered) sort() {
	compare := func(a, b piece) int { return bytes.Compare(g.key(&a), g.key(&b)) }
	if !slices.IsSortedFunc(g.records, compare) {
		slices.SortStableFunc(g.records, compare)
	}
	for i := range g.records {
		if i == 0 || compare(g.records[i-1], g.records[i]) != 0 {
			g.groups = append(g.groups, int32(i))
		}
	}
}

// group gives the records of the i-th owner.
func (g *gathered) group(i int) []piece {
	end := len(g.records)
	if i+1 < len(g.groups) {
		end = int(g.groups[i+1])
	}
	return g.records[g.groups[i]:end]
}

// find gives the records of an owner, none where there are none.
func (g *gathered) find(owner []byte) []piece {
	key := sortKey(nil, owner)
	i, ok := slices.BinarySearchFunc(g.groups, key, func(first int32, key []byte) int { return bytes.Compare(g.key(&g.records[first]), key) })
	if !ok {
		return nil
	}
	return g.group(i)
}

// setsOf gives an owner's records by type, types in the order of the text. RFC 2181
// section 5: one TTL for the whole set, the lowest, and no record twice. What it
// gives is good until the next call.
func (g *gathered) setsOf(pieces []piece) []rrset {
	out := g.sets[:0]
	for i := range pieces {
		p := &pieces[i]
		record := g.octets[p.at : p.at+p.size]
		at := slices.IndexFunc(out, func(s rrset) bool { return s.rrtype == p.rrtype })
		if at < 0 {
			out = append(out, rrset{rrtype: p.rrtype, count: 1, data: record})
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
	g.sets = out
	return out
}

// setTTL gives all records of a set one TTL.
func (s rrset) setTTL(ttl uint32) {
	for rest := s.data; len(rest) > 0; rest = rest[recordHead+int(be16(rest[recordSize:])):] {
		put32(rest[recordTTL:], ttl)
	}
}

// build makes the store.
func (g *gathered) build() *store {
	b := newBuilder(len(g.groups)+1, len(g.octets)+len(g.keys)+12*len(g.records)+1024)
	lack := func(up string) error { return g.lack(b, up) }
	if len(g.groups) == 0 || nameOfKey(g.key(&g.records[0])) != string(g.origin) {
		if err := g.lack(b, string(g.origin)); err != nil {
			g.fail("%w", err)
		}
	}
	hidden := "" // the last delegation or DNAME
	for i := range g.groups {
		pieces := g.group(i)
		name := nameOfKey(g.key(&pieces[0]))
		if err := b.add(name, string(g.origin), lack); err != nil {
			g.fail("%w", err)
			return b.store
		}
		sets := g.setsOf(pieces)
		if hidden != "" && name != hidden && inside([]byte(name), []byte(hidden)) {
			b.head(0, len(sets), 0) // no walk comes here; a transfer does
			b.sets(sets)
			continue
		}
		flags := g.flags(name, sets)
		b.head(flags, len(sets), len(b.cuts))
		b.sets(sets)
		if flags&flagCut != 0 {
			b.cuts = append(b.cuts, cut{glue: g.glueOf(name, slices.Clone(sets))})
		}
		if flags&(flagCut|flagDNAME) != 0 {
			hidden = name
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
			needed := inside(lower(target), []byte(name))
			for _, addrs := range g.setsOf(g.find(lower(target))) {
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
