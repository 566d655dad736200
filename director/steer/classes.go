package steer

import (
	"cmp"
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/divertdns/divert/director/spec"
)

// site is one endpoint as a service's steering sees it, whatever its health.
type site struct {
	cluster  *spec.Cluster
	end      *spec.Endpoint
	target   bool   // of the service's environment
	rank     int    // in the order; unique
	weight   uint32 // reduced: scaling all weights changes nothing
	present  bool   // under `weighted`, weight above 0
	addrs    [2][]address
	all      [2][]netip.Addr // of addrs
	capacity int64
	ramp     time.Duration // over which it returns
}

// fence is what residency leaves to some clients.
type fence struct {
	rules   []int  // that apply
	unknown bool   // because the place is unknown, all of them
	allowed []bool // by site
}

// class is a kind of client: all clients of a class get the same answer. Each
// field is an index into the service's own tables, or -1.
type class struct {
	fence  int
	pin    int // the first to its cluster
	region int
	order  int
}

// compiled is what a service's steering depends on besides health and
// overrides: made once for a spec.
type compiled struct {
	*layout
	svc      *spec.GlobalService
	fleet    *spec.Fleet
	sites    []site // in spec order
	byRank   []int  // indices of sites, in the service's order
	fallback [2][]netip.Addr
	targets  [2][]int    // sites of the service's environment with an address of the family, by rank
	envWhy   [2][]string // of the others
	fixed    int         // the same for all whose verdicts depend on the same of the spec, layout apart
}

// layout is the classes of clients, which services share that have the same
// clusters and rules.
type layout struct {
	fences   []fence
	orders   []order
	classes  []class
	rows     [][]int32 // that differ: place -> class; the first for clients of no configured prefix
	prefixes []prefixed
	regions  []string // whom each region names, for sentences
	rules    []string // whom each residency rule names, and what it asks for
}

// order is the sites by distance from some places.
type order struct {
	sites   []int
	unknown bool   // no distance is known: the service's order
	trips   string // how they were ordered by round trips; "" = they were not
}

// prefixed is a configured prefix with the row of its clients.
type prefixed struct {
	prefix netip.Prefix
	row    int
}

// compile works out what there is to know of a service before its health.
func compile(svc *spec.GlobalService, set *spec.Set, clusters map[string]*spec.Cluster, a *atlas) *compiled {
	c := &compiled{svc: svc, fleet: &set.Fleet}
	c.addSites(clusters, a.keys)
	for _, addr := range sorted(svc.Fallback) {
		f := FamilyOf(addr)
		c.fallback[f] = append(c.fallback[f], addr)
	}
	c.fixed = a.keys.verdict(c)
	key := a.keys.layout(c)
	if c.layout = a.layouts[key]; c.layout != nil {
		return c
	}
	c.layout = &layout{}
	a.layouts[key] = c.layout
	in := &interner{c: c, fences: map[string]int{}, orders: map[string]int{}, classes: map[class]int32{}, rows: map[string]int{}}
	in.prepare(a)
	in.row(netip.Prefix{})
	for _, p := range configured(svc) {
		c.prefixes = append(c.prefixes, prefixed{prefix: p, row: in.row(p)})
	}
	for i := range svc.Steering.Regions {
		c.regions = append(c.regions, clientsText(&svc.Steering.Regions[i].Clients))
	}
	for i := range svc.Residency {
		r := &svc.Residency[i]
		c.rules = append(c.rules, ruleText(r))
	}
	return c
}

func (c *compiled) addSites(clusters map[string]*spec.Cluster, k *keyer) {
	svc := c.svc
	tmpl := template(svc)
	for i := range tmpl {
		k.define(&tmpl[i])
	}
	divisor, biggest := weights(svc)
	for i := range svc.Endpoints {
		e := &svc.Endpoints[i]
		cl := clusters[e.Cluster]
		if cl == nil { // the spec's cross-check refuses it; never a reason to stop answering
			continue
		}
		s := site{cluster: cl, end: e, target: cl.Environment == svc.Environment, capacity: e.Capacity, ramp: svc.Steering.Ramp}
		s.weight = reduce(e.Weight, divisor, biggest)
		s.present = svc.Steering.Policy != spec.PolicyWeighted || s.weight > 0
		soft := soften(svc, e.Cluster)
		for i := range soft {
			k.define(&soft[i])
		}
		for _, addr := range sorted(e.Watched()) {
			a := address{addr: addr, subjects: at(tmpl, addr), soft: at(soft, addr), combine: combination(svc)}
			for f := range s.addrs {
				if Family(f).Has(addr) {
					s.addrs[f] = append(s.addrs[f], a)
					s.all[f] = append(s.all[f], addr)
				}
			}
		}
		c.sites = append(c.sites, s)
	}
	c.byRank = make([]int, len(c.sites))
	for i := range c.byRank {
		c.byRank[i] = i
	}
	slices.SortFunc(c.byRank, func(a, b int) int {
		x, y := &c.sites[a], &c.sites[b]
		return cmp.Or(cmp.Compare(position(svc.Steering.Order, x.end.Cluster), position(svc.Steering.Order, y.end.Cluster)),
			cmp.Compare(x.end.Cluster, y.end.Cluster), cmp.Compare(a, b))
	})
	for rank, i := range c.byRank {
		c.sites[i].rank = rank
	}
	for f := range c.targets {
		c.addTargets(Family(f))
	}
}

// addTargets lists the family's possible sites: a cluster of another environment is
// never one, whatever else is down.
func (c *compiled) addTargets(f Family) {
	for _, i := range c.byRank {
		s := &c.sites[i]
		switch {
		case len(s.addrs[f]) == 0:
		case s.target:
			c.targets[f] = append(c.targets[f], i)
		default:
			c.envWhy[f] = append(c.envWhy[f], "environment: "+s.end.Cluster+" is "+s.cluster.Environment+", the service "+c.svc.Environment)
		}
	}
}

// position gives a name's position in an order; those not named come last.
func position(order []string, name string) int {
	if i := slices.Index(order, name); i >= 0 {
		return i
	}
	return math.MaxInt
}

// weights gives the greatest common divisor of a service's weights and the
// biggest of them.
func weights(svc *spec.GlobalService) (divisor, biggest int64) {
	for i := range svc.Endpoints {
		a, b := divisor, max(0, svc.Endpoints[i].Weight)
		biggest = max(biggest, b)
		for b != 0 {
			a, b = b, a%b
		}
		divisor = a
	}
	return max(1, divisor), biggest
}

// reduce brings a weight to its lowest terms, and into 32 bits; what was above
// zero stays so.
func reduce(weight, divisor, biggest int64) uint32 {
	if weight <= 0 {
		return 0
	}
	w := weight / divisor
	if top := biggest / divisor; top > math.MaxUint32 {
		w = max(1, w/(top/math.MaxUint32+1))
	}
	return uint32(w)
}

// interner numbers the fences, orders and classes of a service in the order in
// which they are met: by place, then by prefix, so that the order in which a
// spec lists its rules never shows.
type interner struct {
	c       *compiled
	atlas   *atlas
	fences  map[string]int
	orders  map[string]int
	classes map[class]int32
	rows    map[string]int // by all that a row depends on besides the places

	pins    map[netip.Prefix]int // -> the first pin to the same cluster
	pinBits []int                // lengths of pins, the longest first

	sites    []int // scratch
	applying []int
	key      []byte

	byDistance []int    // place -> order
	rules      [][]int8 // residency rule -> place -> how closely it names it
	regions    [][]int8 // region -> place -> how closely it names it
}

func (in *interner) prepare(a *atlas) {
	in.atlas = a
	svc := in.c.svc
	in.preparePins()
	match := func(cl *spec.Clients) []int8 {
		out := make([]int8, len(a.places))
		for i, p := range a.places {
			out[i] = int8(byPlace(cl, p))
		}
		return out
	}
	for i := range svc.Residency {
		in.rules = append(in.rules, match(&svc.Residency[i].Clients))
	}
	if svc.Steering.Policy != spec.PolicyGeo && svc.Steering.Policy != spec.PolicyLatency {
		return
	}
	for i := range svc.Steering.Regions {
		in.regions = append(in.regions, match(&svc.Steering.Regions[i].Clients))
	}
	in.byDistance = make([]int, len(a.places))
	for i := range a.places {
		in.byDistance[i] = in.order(i)
	}
}

// order numbers the order of the sites by distance from a place, ties by the
// service's order. Distances that are unknown tie.
func (in *interner) order(place int) int {
	c := in.c
	idx := append(in.sites[:0], c.byRank...)
	slices.SortStableFunc(idx, func(a, b int) int {
		return cmp.Compare(in.distance(c.sites[a].end.Cluster, place), in.distance(c.sites[b].end.Cluster, place))
	})
	unknown := !slices.ContainsFunc(idx, func(i int) bool { return in.distance(c.sites[i].end.Cluster, place) != far })
	trips, from := "", -1
	if c.svc.Steering.Policy == spec.PolicyLatency {
		if from = in.post(place); from >= 0 {
			in.atlas.posts[from].byTrip(c.sites, idx)
			trips = in.atlas.posts[from].tripWhy(c.sites, idx)
		}
	}
	key := binary.AppendVarint(in.key[:0], int64(from))
	for _, i := range idx {
		key = append(key, byte(i>>8), byte(i))
	}
	if unknown {
		key = append(key, 1)
	}
	in.sites, in.key = idx, key
	n, ok := in.orders[string(key)]
	if !ok {
		n = len(c.orders)
		in.orders[string(key)] = n
		c.orders = append(c.orders, order{sites: slices.Clone(idx), unknown: unknown, trips: trips})
	}
	return n
}

func (in *interner) distance(cluster string, place int) int32 {
	if row := in.atlas.distances[cluster]; place < len(row) {
		return row[place]
	}
	return far
}

// row numbers the row of the clients of a prefix (the zero prefix: of none that is
// configured): their class at each place. Most prefixes have one with others.
func (in *interner) row(prefix netip.Prefix) int {
	c := in.c
	pin := in.pinOf(prefix)
	b := binary.AppendVarint(nil, int64(pin))
	rules := make([]bool, len(c.svc.Residency))
	for i := range rules {
		rules[i] = byPrefix(&c.svc.Residency[i].Clients, prefix) != matchNone
		b = append(b, bit(rules[i]))
	}
	regions := make([]int, len(in.regions))
	for i := range regions {
		regions[i] = byPrefix(&c.svc.Steering.Regions[i].Clients, prefix)
		b = binary.AppendVarint(b, int64(regions[i]))
	}
	key := string(b)
	n, ok := in.rows[key]
	if !ok {
		// Of prefixes of other lengths the same may come out.
		made := in.classesOf(pin, rules, regions)
		if n = slices.IndexFunc(c.rows, func(r []int32) bool { return slices.Equal(r, made) }); n < 0 {
			n = len(c.rows)
			c.rows = append(c.rows, made)
		}
		in.rows[key] = n
	}
	return n
}

// classesOf works out the class at each place.
func (in *interner) classesOf(pin int, rules []bool, regions []int) []int32 {
	c := in.c
	out := make([]int32, len(in.atlas.places))
	for i, p := range in.atlas.places {
		k := class{fence: in.fence(i, p, rules), pin: pin, region: -1, order: -1}
		if in.byDistance != nil {
			k.region, k.order = in.region(i, regions), in.byDistance[i]
		}
		n, ok := in.classes[k]
		if !ok {
			n = int32(len(c.classes))
			in.classes[k] = n
			c.classes = append(c.classes, k)
		}
		out[i] = n
	}
	return out
}

// preparePins notes the pins by prefix, of two of one the cluster whose name comes first.
// All that go to one cluster are one: what clients get depends on no more of a pin.
func (in *interner) preparePins() {
	pins := in.c.svc.Pins
	if len(pins) == 0 {
		return
	}
	to := map[string]int{} // cluster -> the first pin to it
	in.pins = make(map[netip.Prefix]int, len(pins))
	for i, p := range pins {
		if _, ok := to[p.Cluster]; !ok {
			to[p.Cluster] = i
		}
		prefix := normal(p.Prefix)
		if other, ok := in.pins[prefix]; ok && pins[other].Cluster <= p.Cluster {
			continue
		}
		in.pins[prefix] = to[p.Cluster]
		if !slices.Contains(in.pinBits, prefix.Bits()) {
			in.pinBits = append(in.pinBits, prefix.Bits())
		}
	}
	slices.SortFunc(in.pinBits, func(a, b int) int { return b - a })
}

// pinOf finds the pin of the longest prefix that covers this one; -1 if none.
func (in *interner) pinOf(prefix netip.Prefix) int {
	if !prefix.IsValid() {
		return -1
	}
	for _, bits := range in.pinBits {
		if bits > prefix.Bits() {
			continue
		}
		if outer, err := prefix.Addr().Prefix(bits); err == nil {
			if pin, ok := in.pins[outer]; ok {
				return pin
			}
		}
	}
	return -1
}

// region finds the region that names these clients most closely: the longest
// prefix, else the country, else the continent; -1 if none does. Of two that
// are as close (a spec refuses that), the one whose order sorts first counts,
// then the one whose clients do, so that listing them differently changes
// neither an answer nor its reason.
func (in *interner) region(place int, bits []int) int {
	best, how := -1, matchNone
	regions := in.c.svc.Steering.Regions
	for i := range regions {
		m := max(int(in.regions[i][place]), bits[i])
		if m == matchNone {
			continue
		}
		if m > how || m == how && compareRegions(&regions[i], &regions[best]) < 0 {
			best, how = i, m
		}
	}
	return best
}

// compareRegions orders by order of sites, then by clients.
func compareRegions(a, b *spec.Region) int {
	return cmp.Or(slices.Compare(a.Order, b.Order), strings.Compare(clientsText(&a.Clients), clientsText(&b.Clients)))
}

// fence numbers what residency leaves to clients of a place and prefix (S11).
// Rules that apply intersect. Where the place is not known well enough to say
// whether a rule applies, it does, unless the service says `allow`.
func (in *interner) fence(place int, p Place, named []bool) int {
	svc := in.c.svc
	f := fence{rules: in.applying[:0]}
	key := in.key[:0]
	for i := range svc.Residency {
		applies := in.rules[i][place] != matchNone || named[i]
		if !applies && svc.ResidencyUnknown != spec.ResidencyUnknownAllow && doubtful(&svc.Residency[i].Clients, p) {
			applies, f.unknown = true, true
		}
		if applies {
			f.rules = append(f.rules, i)
			key = append(key, byte(i>>8), byte(i))
		}
	}
	if f.unknown {
		key = append(key, 1)
	}
	in.key, in.applying = key, f.rules
	n, ok := in.fences[string(key)]
	if ok {
		return n
	}
	f.rules = slices.Clone(f.rules)
	n = len(in.c.fences)
	in.fences[string(key)] = n
	f.allowed = make([]bool, len(in.c.sites))
	for i := range in.c.sites {
		f.allowed[i] = true
		for _, r := range f.rules {
			if !svc.Residency[r].Allows(in.c.sites[i].cluster) {
				f.allowed[i] = false
			}
		}
	}
	in.c.fences = append(in.c.fences, f)
	return n
}
