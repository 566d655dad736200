package answer

import (
	"errors"
	"fmt"

	"github.com/divertdns/divert/dnsserver/geo"
)

// Options is what a Table is compiled from. Nothing in it may be changed after.
type Options struct {
	Zones    []Zone
	Geo      *geo.Table // nil: every client is at the unknown place
	Plan     string     // what `plan.divert. CH TXT` answers; "" = refused
	NotReady bool       // REFUSED with EDE 14 for everything of class IN
	Stale    bool       // EDE 3 on every answer
	NSID     []byte     // RFC 5001; none = not answered
	ID       string     // what `id.server. CH TXT` and `hostname.bind.` answer; "" = refused
	Version  string     // what `version.server. CH TXT` and `version.bind.` answer; "" = refused
	// Before is a table that was compiled earlier: what is the same in both, by
	// the identity of its slices, is taken from it and not compiled again. It is
	// not needed after. nil = none.
	Before *Table
}

// Table is all that there is to answer, in bytes. It is immutable and serves any
// number of goroutines.
type Table struct {
	zones      map[string]*zone // by origin in wire format, lower case
	roots      []*zone          // the same by hash, open addressing; a power of two, never full
	depths     [128]bool        // how many labels origins have
	depth      int              // labels in the longest origin
	geo        *geo.Table
	continents []uint8 // of each place: index in the label group, 0 = unknown
	labels     *labels
	chaos      map[string][]byte // RDATA of TXT records of class CH, by owner
	notReady   bool
	stale      bool
	nsid       []byte
	hinfo      []byte // RDATA
	log        *logTable
	shared     map[lists]*clients
	scheduled  bool // some zone has a change ahead
}

// maxTTL bounds what leaves here, whatever came in (C8).
const maxTTL = 7 * 24 * 60 * 60

// Compile makes a table, or says all that is wrong.
func Compile(o Options) (*Table, error) {
	t := &Table{
		zones: make(map[string]*zone), geo: o.Geo, labels: newLabels(o.Zones),
		notReady: o.NotReady, stale: o.Stale, nsid: o.NSID, log: newLogTable(),
		hinfo: []byte("\x07RFC8482\x00"),
	}
	before := o.Before
	if before != nil && !t.labels.follow(before.labels) {
		before = nil // numbers of labels are in all that it has
	}
	if o.Geo != nil {
		t.continents = continentIndex(o.Geo)
	}
	if len(o.NSID) > 255 {
		return nil, fmt.Errorf("the NSID has %d octets; it may have 255", len(o.NSID))
	}
	t.chaos = make(map[string][]byte)
	for _, c := range []struct{ owner, text string }{
		{"\x04plan\x06divert\x00", o.Plan},
		{"\x02id\x06server\x00", o.ID},
		{"\x08hostname\x04bind\x00", o.ID},
		{"\x07version\x06server\x00", o.Version},
		{"\x07version\x04bind\x00", o.Version},
	} {
		if len(c.text) > 16<<10 {
			return nil, fmt.Errorf("the text of %s has %d octets", show(c.owner), len(c.text))
		}
		if c.text != "" {
			t.chaos[c.owner] = txt(c.text)
		}
	}
	common := &shared{made: make(map[lists]*clients)}
	if before != nil {
		common.before = before.shared
	}
	t.shared = common.made
	var problems []error
	compilers := make([]*compiler, 0, len(o.Zones))
	for i := range o.Zones {
		c, err := t.addZone(&o.Zones[i])
		if err != nil {
			problems = append(problems, fmt.Errorf("zone %s: %w", o.Zones[i].Origin, err))
			continue
		}
		c.shared = common
		if before != nil {
			c.before = before.zones[c.zone.origin]
		}
		compilers = append(compilers, c)
	}
	t.nest()
	t.plantRoots()
	for _, c := range compilers {
		for _, err := range c.compile() {
			problems = append(problems, fmt.Errorf("zone %s: %w", c.source.Origin, err))
		}
	}
	for _, z := range t.zones {
		t.scheduled = t.scheduled || z.next != 0
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return t, nil
}

// Labels lists the label sets that Tally.Label counts by. The caller must not
// change it.
func (t *Table) Labels() []Label { return t.labels.all }

func (t *Table) addZone(source *Zone) (*compiler, error) {
	origin, err := wire(source.Origin)
	if err != nil {
		return nil, err
	}
	if t.zones[string(origin)] != nil {
		return nil, errors.New("it comes twice")
	}
	var n name
	if !n.set(origin) {
		return nil, errors.New("it is not a domain name")
	}
	z := &zone{name: source.Origin, origin: string(origin), wire: origin, hash: n.hash(), labels: n.labels, steered: source.Steered}
	z.label = t.labels.group(source.Origin, "", "")
	t.zones[z.origin] = z
	t.depth = max(t.depth, z.labels)
	t.depths[z.labels] = true
	return &compiler{table: t, source: source, zone: z}, nil
}

// plantRoots makes the hash table of the origins.
func (t *Table) plantRoots() {
	size := 2
	for size < 2*len(t.zones) {
		size *= 2
	}
	t.roots = make([]*zone, size)
	for _, z := range t.zones {
		i := z.hash & uint64(size-1)
		for t.roots[i] != nil {
			i = (i + 1) & uint64(size-1)
		}
		t.roots[i] = z
	}
}

// root finds the zone of an origin.
func (t *Table) root(h uint64, origin []byte) *zone {
	mask := uint64(len(t.roots) - 1)
	for i := h & mask; i < uint64(len(t.roots)); i = (i + 1) & mask {
		z := t.roots[i]
		if z == nil || z.hash == h && equalName(z.wire, origin) {
			return z
		}
	}
	return nil
}

// zoneOf finds the most specific zone by label (C6), and how many labels of the
// name stand below its origin.
func (t *Table) zoneOf(n *name) (z *zone, at int) {
	h := uint64(hashRoot)
	for i := n.labels; ; i-- {
		if t.depths[n.labels-i] {
			if found := t.root(h, n.suffix(i)); found != nil {
				z, at = found, i
			}
		}
		if i == 0 || n.labels-i >= t.depth {
			return z, at
		}
		h = n.below(h, i-1)
	}
}

// nest notes for each zone the one of ours above it.
func (t *Table) nest() {
	for origin, z := range t.zones {
		for rest := origin; len(rest) > 1; {
			rest = rest[1+int(rest[0]):]
			if parent := t.zones[rest]; parent != nil {
				z.parent = parent
				parent.children = append(parent.children, origin)
				break
			}
		}
	}
}

// txt packs a text into character-strings of at most 255 octets.
func txt(text string) []byte {
	var out []byte
	for len(text) > 0 {
		n := min(len(text), 255)
		out = append(out, byte(n))
		out = append(out, text[:n]...)
		text = text[n:]
	}
	return out
}

func continentIndex(table *geo.Table) []uint8 {
	out := make([]uint8, len(table.Places()))
	for i, p := range table.Places() {
		for j, continent := range geo.Continents() {
			if p.Continent == continent {
				out[i] = uint8(j + 1)
			}
		}
	}
	return out
}
