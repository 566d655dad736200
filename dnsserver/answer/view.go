package answer

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/divertdns/divert/dnsserver/geo"
)

// maxAnswers is how many addresses a steered reply may hold: more would not fit
// a UDP reply.
const maxAnswers = 32

// steered is a compiled Steered.
type steered struct {
	source   Steered
	ttl      uint32
	next     int64 // Unix time; 0 = none
	answers  int
	a, aaaa  view
	clusters []string // that sites are of, or were in an earlier table
	own      []own    // of the services, as they follow one another in the names
}

// own is what each service has for itself of a group of names that steer alike.
type own struct {
	label  uint32   // group without a cluster
	labels []uint32 // groups, by cluster
	keys   []uint64 // hash keys, by cluster; nil where nothing is hashed
}

// view is a compiled View.
type view struct {
	sets     []*set // some are of the table before
	clients  *clients
	size     int  // of a record
	constant bool // the client does not matter at all
	hashed   bool // a client's unit matters in some set
}

// clients is which set clients get. It is shared by the views that have the same
// lists.
type clients struct {
	places
	prefixes []places // as View.ByPrefix
	v4, v6   prefixTable
	top      uint16 // the highest set
}

// places is which set a place gets, with whether the place matters.
type places struct {
	sets   []uint16
	differ bool
}

func (p *places) at(place uint16) int {
	if int(place) < len(p.sets) {
		return int(p.sets[place])
	}
	if len(p.sets) == 0 {
		return 0
	}
	return int(p.sets[0])
}

// set is a compiled Set.
type set struct {
	sites      []site
	records    []byte // of all addresses or targets, ready to be sent
	picks      []pick // the answer, where no hash decides
	answer     []byte // its records
	weighted   bool
	failOpen   bool
	unresolved bool
	ramps      bool // some site has a share
	levels     bool // there are several
	hashed     bool // the client's unit matters
	total      int  // addresses in all
	size       int  // of a record
}

type site struct {
	cluster uint16 // in steered.clusters
	domain  uint16 // number of the fault domain within the set
	addrs   uint16 // how many; 0: it is not used
	first   uint16 // of them, counted in records
	weight  uint32
	share   uint8 // percent; 0 = all
	level   uint8 // 0 where there is but one
}

// identical tells whether two slices are one.
func identical[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// same tells whether two say the same, by the identity of what they share: what
// is equal only by value is compiled again.
func (s *Steered) same(other *Steered) bool {
	return s.sameNames(other) && s.TTL == other.TTL && s.Answers == other.Answers && s.Next.Equal(other.Next) &&
		s.A.same(&other.A) && s.AAAA.same(&other.AAAA)
}

func (v *View) same(other *View) bool {
	return identical(v.Sets, other.Sets) && identical(v.ByPlace, other.ByPlace) && identical(v.ByPrefix, other.ByPrefix)
}

// compileSteered makes what a group of names answers; before is what it was, nil
// where nothing is known of that.
func (c *compiler) compileSteered(source *Steered, before *steered) (*steered, error) {
	s := &steered{source: *source, ttl: min(source.TTL, maxTTL), answers: min(max(source.Answers, 1), maxAnswers)}
	if source.CNAME {
		s.answers = 1 // RFC 2181 section 10.1
	}
	s.schedule(source.Next)
	var oldA, oldAAAA oldView
	if before != nil {
		s.clusters = slices.Clip(before.clusters)
		if before.ttl == s.ttl && before.answers == s.answers && before.source.CNAME == source.CNAME {
			oldA, oldAAAA = oldView{&before.source.A, &before.a}, oldView{&before.source.AAAA, &before.aaaa}
		}
	}
	var err error
	switch {
	case source.CNAME && len(source.AAAA.Sets) > 0:
		err = errors.New("an alias has one view for both families")
	case source.CNAME:
		err = c.compileView(s, &source.A, &s.a, nil, recordHead+maxWire, oldA) // as much for each as the longest may need
	default:
		errA := c.compileView(s, &source.A, &s.a, netip.Addr.Is4, recordHead+4, oldA)
		errAAAA := c.compileView(s, &source.AAAA, &s.aaaa, netip.Addr.Is6, recordHead+16, oldAAAA)
		err = errors.Join(errA, errAAAA)
	}
	if err != nil {
		return nil, err
	}
	hashed := s.a.hashed || s.aaaa.hashed
	if before != nil && identical(before.clusters, s.clusters) && (!hashed || before.own[0].keys != nil) {
		s.own = before.own
	} else {
		c.ownOf(s, hashed)
	}
	return s, nil
}

// schedule notes when the answers change; zero = nothing is known to be ahead.
func (s *steered) schedule(next time.Time) {
	if !next.IsZero() {
		s.next = max(next.Unix(), 1)
	}
}

// ownOf works out what each service has for itself.
func (c *compiler) ownOf(s *steered, hashed bool) {
	last := ""
	for _, service := range s.source.names {
		if len(s.own) > 0 && service == last {
			continue
		}
		last = service
		o := own{label: c.table.labels.group(c.zone.name, service, "")}
		if n := len(s.own); n > 0 && s.own[n-1].label == o.label {
			o.labels = s.own[n-1].labels // counted together, see maxNamed
		} else {
			for _, cluster := range s.clusters {
				o.labels = append(o.labels, c.table.labels.group(c.zone.name, service, cluster))
			}
		}
		if hashed {
			start := fnv([]byte(service), nil)
			o.keys = make([]uint64, len(s.clusters))
			for i, cluster := range s.clusters {
				o.keys[i] = fnvOn(start, []byte(cluster))
			}
		}
		s.own = append(s.own, o)
	}
}

// oldView is a view of the table before, with what it was made of; the zero oldView
// is none.
type oldView struct {
	source *View
	view   *view
}

// find gives the compiled set of the same sites, by the identity of their slice, and
// where it is; nil for none. It looks first where it is expected.
func (o oldView) find(source *Set, next int) (*set, int) {
	if o.source == nil || len(source.Sites) == 0 {
		return nil, next
	}
	for n := range o.source.Sets {
		at := next + n
		if at >= len(o.source.Sets) {
			at -= len(o.source.Sets)
		}
		if old := &o.source.Sets[at]; identical(old.Sites, source.Sites) &&
			old.Weighted == source.Weighted && old.FailOpen == source.FailOpen && old.Unresolved == source.Unresolved {
			return o.view.sets[at], at
		}
	}
	return nil, next
}

func (c *compiler) compileView(s *steered, source *View, v *view, family func(netip.Addr) bool, size int, old oldView) error {
	v.size = size
	v.sets = make([]*set, len(source.Sets))
	var fresh []set // room for those that are new
	next := 0
	for i := range source.Sets {
		if known, at := old.find(&source.Sets[i], next); known != nil {
			v.sets[i], next = known, at+1
			v.hashed = v.hashed || known.hashed
			continue
		}
		if len(fresh) == 0 {
			fresh = make([]set, 1)
			if old.source == nil {
				fresh = make([]set, len(source.Sets)-i)
			}
		}
		v.sets[i], fresh = &fresh[0], fresh[1:]
		if err := c.compileSet(s, v, &source.Sets[i], v.sets[i], family); err != nil {
			return fmt.Errorf("set %d: %w", i, err)
		}
		v.hashed = v.hashed || v.sets[i].hashed
	}
	if len(v.sets) == 0 {
		v.constant = true
		return nil
	}
	var err error
	if v.clients, err = c.shared.clients(source); err != nil {
		return err
	}
	if int(v.clients.top) >= len(v.sets) {
		return fmt.Errorf("a place has set %d of %d", v.clients.top, len(v.sets))
	}
	v.constant = len(v.clients.prefixes) == 0 && !v.clients.differ && !v.hashed
	return nil
}

func (c *compiler) compileSet(s *steered, v *view, source *Set, out *set, family func(netip.Addr) bool) error {
	if len(source.Sites) > maxSites {
		return fmt.Errorf("%d sites; there may be %d", len(source.Sites), maxSites)
	}
	out.weighted, out.failOpen, out.unresolved, out.size = source.Weighted, source.FailOpen, source.Unresolved, v.size
	zero := true
	for i := range source.Sites {
		zero = zero && source.Sites[i].Weight == 0
		out.total += len(source.Sites[i].Addrs)
	}
	if out.total > math.MaxUint16 {
		return fmt.Errorf("%d addresses; there may be %d", out.total, math.MaxUint16)
	}
	out.records = make([]byte, 0, out.total*v.size)
	out.sites = make([]site, len(source.Sites)) // Trace counts by the caller's index
	out.total = 0
	domains := uint16(0)
	for i := range source.Sites {
		from, to := &source.Sites[i], &out.sites[i]
		if len(from.Addrs) == 0 && from.Target == "" || (source.Weighted && from.Weight == 0 && !zero) {
			continue
		}
		to.domain = domains
		for j := range i {
			if out.sites[j].addrs > 0 && source.Sites[j].Domain == from.Domain {
				to.domain = out.sites[j].domain
				break
			}
		}
		if to.domain == domains {
			domains++
		}
		to.cluster, to.weight, to.level = s.cluster(from.Cluster), max(from.Weight, 1), from.Level
		if from.Share < whole {
			to.share = from.Share
		}
		if s.source.CNAME != (from.Target != "") || from.Target != "" && len(from.Addrs) > 0 {
			return fmt.Errorf("%s: a site of an alias has a target, one of another name has addresses", from.Cluster)
		}
		if from.Target != "" {
			target, err := wire(from.Target)
			if err != nil {
				return fmt.Errorf("%s: %w", from.Cluster, err)
			}
			to.first, to.addrs = uint16(out.total), 1
			out.records = append(appendAlias(out.records, target, s.ttl), make([]byte, maxWire-len(target))...)
			out.total++
			continue
		}
		to.first, to.addrs = uint16(out.total), uint16(len(from.Addrs))
		for _, addr := range from.Addrs {
			addr = addr.Unmap()
			if !family(addr) || addr.Zone() != "" {
				return fmt.Errorf("%s: address %s is of the wrong family", from.Cluster, addr)
			}
			out.records = appendAddress(out.records, addr, s.ttl)
		}
		out.total += len(from.Addrs)
	}
	out.settle()
	out.hashed = out.dependsOnUnit(s.answers)
	if !out.hashed {
		var picks [maxAnswers]pick
		n := out.pickAll(nil, nil, min(s.answers, out.total), 0, &picks)
		out.picks = slices.Clone(picks[:n])
		out.answer = out.records
		inOrder := !s.source.CNAME && (n == out.total || n == 1)
		for i, p := range out.picks {
			inOrder = inOrder && out.index(p) == i
		}
		if inOrder {
			out.answer = out.records[:n*v.size]
		} else {
			out.answer = nil
			for _, p := range out.picks {
				out.answer = append(out.answer, out.record(p)...)
			}
		}
	}
	return nil
}

// cluster numbers a cluster.
func (s *steered) cluster(name string) uint16 {
	i := slices.Index(s.clusters, name)
	if i < 0 {
		i = len(s.clusters)
		s.clusters = append(s.clusters, name)
	}
	return uint16(i)
}

// appendAddress appends an A or AAAA record, ready to be sent.
func appendAddress(b []byte, addr netip.Addr, ttl uint32) []byte {
	rrtype, size := byte(typeA), byte(4)
	if !addr.Is4() {
		rrtype, size = typeAAAA, 16
	}
	b = append(b, 0xc0, headerLen, 0, rrtype, 0, classIN, byte(ttl>>24), byte(ttl>>16), byte(ttl>>8), byte(ttl), 0, size)
	return append(b, addr.AsSlice()...)
}

// maxWire is the longest name in wire format (RFC 1035 section 3.1).
const maxWire = 255

// appendAlias appends a CNAME record, ready to be sent.
func appendAlias(b, target []byte, ttl uint32) []byte {
	b = append(b, 0xc0, headerLen, 0, typeCNAME, 0, classIN, byte(ttl>>24), byte(ttl>>16), byte(ttl>>8), byte(ttl), 0, byte(len(target)))
	return append(b, target...)
}

// index counts a pick's address in records.
func (s *set) index(p pick) int { return int(s.sites[p.site].first) + int(p.addr) }

func (s *set) record(p pick) []byte {
	rest := s.records[s.index(p)*s.size:]
	return rest[:recordHead+int(be16(rest[recordSize:]))]
}

// dependsOnUnit tells whether the hash can change what is picked.
func (s *set) dependsOnUnit(answers int) bool {
	if s.ramps {
		return true
	}
	if s.total <= answers {
		return false // everything is, in the order given
	}
	used := 0
	for i := range s.sites {
		if s.sites[i].addrs == 0 {
			continue
		}
		used++
		if s.weighted && used > 1 {
			return true
		}
		if s.sites[i].addrs > 1 && (used == 1 || answers > 1) {
			return true
		}
	}
	return false
}

// shared is what views of one table have in common, and with those of the table
// before, by the identity of the lists that it is made of.
type shared struct {
	before, made map[lists]*clients
}

// lists is the identity of a View's lists.
type lists struct {
	place   *uint16
	places  int
	prefix  *PrefixPlaces
	prefixs int
}

func listsOf(v *View) lists {
	key := lists{places: len(v.ByPlace), prefixs: len(v.ByPrefix)}
	if key.places > 0 {
		key.place = &v.ByPlace[0]
	}
	if key.prefixs > 0 {
		key.prefix = &v.ByPrefix[0]
	}
	return key
}

// keep notes what a group has that is taken over as it is.
func (s *shared) keep(g *steered) {
	if g.a.clients != nil {
		s.made[listsOf(&g.source.A)] = g.a.clients
	}
	if g.aaaa.clients != nil {
		s.made[listsOf(&g.source.AAAA)] = g.aaaa.clients
	}
}

func (s *shared) clients(v *View) (*clients, error) {
	key := listsOf(v)
	if c := s.made[key]; c != nil {
		return c, nil
	}
	c := s.before[key]
	if c == nil {
		var err error
		if c, err = newClients(v); err != nil {
			return nil, err
		}
	}
	s.made[key] = c
	return c, nil
}

func newClients(v *View) (*clients, error) {
	c := &clients{places: newPlaces(v.ByPlace), prefixes: make([]places, len(v.ByPrefix))}
	v4, v6 := make([]prefixed, 0, len(v.ByPrefix)), make([]prefixed, 0, len(v.ByPrefix))
	note := func(sets []uint16) {
		if len(sets) > 0 {
			c.top = max(c.top, slices.Max(sets))
		}
	}
	note(v.ByPlace)
	for i, p := range v.ByPrefix {
		if !p.Prefix.IsValid() {
			return nil, fmt.Errorf("prefix %d is not one", i)
		}
		c.prefixes[i] = newPlaces(p.ByPlace)
		note(p.ByPlace)
		inner, _ := geo.NormalisePrefix(p.Prefix)
		if inner.Addr().Is4() {
			v4 = append(v4, prefixed{prefix: inner, value: int32(i)})
		} else {
			v6 = append(v6, prefixed{prefix: inner, value: int32(i)})
		}
	}
	c.v4, c.v6 = newPrefixTable(v4, 32), newPrefixTable(v6, 128)
	return c, nil
}

func newPlaces(sets []uint16) places {
	p := places{sets: sets}
	for _, i := range sets {
		p.differ = p.differ || i != sets[0]
	}
	return p
}
