package answer

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/dnsserver/internal/records"
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

// Pack makes the records of a zone (zone.Parse gives them) ready for any number of
// tables, or says all that is wrong with them. They are not needed after.
func Pack(origin string, list *records.List) (*Static, error) {
	packed, err := wire(origin)
	if err != nil {
		return nil, err
	}
	list.Sort()
	s, errs := packStatic(packed, list)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Static{static: s, origin: string(packed)}, nil
}

// Memory gives the blocks that look-ups read, for who may ask the system to lay them
// out well. They must not be written to.
func (s *Static) Memory() [2][]byte {
	slots := s.static.slots
	return [2][]byte{s.static.octets, unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(slots))), len(slots)*int(unsafe.Sizeof(slot{})))}
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

// gathered is the records while a static is made.
type gathered struct {
	*records.List
	origin []byte
	sets   []rrset
	named  []string // the owner of each cut
	errs   []error
}

func (g *gathered) fail(format string, args ...any) {
	g.errs = append(g.errs, fmt.Errorf(format, args...))
}

// newStatic packs a zone's records and makes the names of them.
func newStatic(origin []byte, rrs []dns.RR) (*static, []error) {
	list := records.New(len(rrs))
	var errs []error
	var key []byte
	for _, rr := range rrs {
		h := rr.Header()
		owner, err := records.AppendName(nil, h.Name)
		switch {
		case err != nil:
		case h.Class != dns.ClassINET || !inside(owner, origin):
			err = errors.New("it is not in the zone")
		default:
			key = records.AppendKey(key[:0], owner)
			err = list.Add(key, rr, 0)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", h.Name, dns.Type(h.Rrtype), err))
		}
	}
	list.Sort()
	s, more := packStatic(origin, list)
	s.source = rrs
	return s, append(errs, more...)
}

// packStatic makes the names of sorted records. Those that a delegation or a DNAME
// hides are there, too, where no walk down from the top comes.
func packStatic(origin []byte, list *records.List) (*static, []error) {
	g := &gathered{List: list, origin: origin}
	s := &static{store: g.build()}
	s.soa = g.apex(s.store)
	return s, g.errs
}

// setsOf gives an owner's records by type, types in the order of the text. RFC 2181
// section 5: one TTL for the whole set, the lowest, and no record twice. What it
// gives is good until the next call.
func (g *gathered) setsOf(first, end int) []rrset {
	out := g.sets[:0]
	for i := first; i < end; i++ {
		record, rrtype := g.Data(i), g.Type(i)
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
		if set.count == 1 {
			set.data = slices.Clone(set.data) // that is the list's
		}
		if !twice {
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
	names, octets := g.room()
	b := newBuilder(names, octets)
	lack := func(up string) error { return g.lack(b, up) }
	if g.Len() == 0 || string(records.NameOfKey(nil, g.Key(0))) != string(g.origin) {
		if err := g.lack(b, string(g.origin)); err != nil {
			g.fail("%w", err)
		}
	}
	hidden := "" // the last delegation or DNAME
	for first, end := range g.Owners {
		name := string(records.NameOfKey(nil, g.Key(first)))
		if err := b.add(name, string(g.origin), lack); err != nil {
			g.fail("%w", err)
			return b.store
		}
		sets := g.setsOf(first, end)
		if hidden != "" && name != hidden && inside([]byte(name), []byte(hidden)) {
			b.head(0, len(sets), 0) // no walk comes here; a transfer does
			b.sets(sets)
			continue
		}
		flags := g.flags(name, sets)
		b.head(flags, len(sets), len(b.cuts))
		b.sets(sets)
		if flags&flagCut != 0 {
			b.cuts, g.named = append(b.cuts, cut{}), append(g.named, name)
		}
		if flags&(flagCut|flagDNAME) != 0 {
			hidden = name
		}
	}
	for i := range b.cuts {
		b.cuts[i].glue = glueOf(b.store, g.origin, g.named[i])
	}
	return b.store
}

// room is how many names there will be, and about how many octets: of a million
// records nothing is to be made twice because it grew.
func (g *gathered) room() (names, octets int) {
	for first, end := range g.Owners {
		names++
		octets += len(g.Key(first)) + 1 + 3
		last := uint16(0)
		for i := first; i < end; i++ {
			octets += len(g.Data(i))
			if rrtype := g.Type(i); i == first || rrtype != last {
				octets, last = octets+8, rrtype
			}
			if g.Type(i) == dns.TypeNS {
				octets += 4
			}
		}
	}
	return names + names/64 + 1, octets + octets/64 + 256 // and what stands between names
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

// glueOf gives the addresses of a delegation's name servers that are in the store.
func glueOf(s *store, origin []byte, owner string) []glue {
	var out []glue
	servers, _ := s.exact([]byte(owner)).find(dns.TypeNS)
	for target := range servers.records {
		needed := inside(lower(target), []byte(owner))
		at := s.exact(lower(target))
		if !at.ok() {
			at = s.synthesised(origin, lower(target))
		}
		if !at.ok() {
			continue
		}
		for addrs := range at.all {
			if addrs.rrtype != dns.TypeA && addrs.rrtype != dns.TypeAAAA {
				continue
			}
			for data := range addrs.records {
				record := slices.Concat(target, addrs.data[2:recordHead], data)
				out = append(out, glue{record: record, needed: needed})
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

// exact gives the node of a name, one that a delegation hides too.
func (s *store) exact(owner []byte) node {
	var n name
	if !n.set(owner) {
		return node{}
	}
	return s.find(n.hash(), owner)
}

// synthesised gives the wildcard that a name which is not there has its records of,
// none where there is none or a delegation or DNAME comes first. Addresses that a
// wildcard makes are available (RFC 1034 section 4.3.2 step 3b), like any.
func (s *store) synthesised(origin, owner []byte) node {
	var n name
	if !inside(owner, origin) || !n.set(owner) {
		return node{}
	}
	var top name
	top.set(origin)
	h, at := top.hash(), s.exact(origin)
	for i := n.labels - top.labels - 1; i >= 0 && at.flags&(flagCut|flagDNAME) == 0; i-- {
		above := h
		h = n.below(h, i)
		child := s.find(h, n.suffix(i))
		switch {
		case child.ok():
			at = child
		case at.flags&flagWild != 0:
			return s.wild(above, n.suffix(i+1))
		default:
			return node{}
		}
	}
	return node{}
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
