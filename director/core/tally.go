package core

import (
	"maps"
	"math"
	"net/netip"
	"slices"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
)

// drift is what of one service's answers a change moves, by family. Services that are
// decided alike and keep their addresses share it.
type drift struct {
	regions  [2]map[int]map[way]float64
	prefixes [2]map[netip.Prefix]*portion
	changed  float64 // per cent of all its answers
	services int     // of which it is so
}

// tally adds up what moves, for one comparison.
type tally struct {
	census  Census
	names   []string  // of regions; the first is everywhere
	within  [][]int   // regions of each place
	clients []float64 // at each place
	whole   []float64 // in each region
	spread  map[netip.Prefix][]Count
	known   map[answers]*drift // of those whose addresses stay
	none    drift              // of those of whom nothing moves
	found   []*drift
	count   [2]int // services that have the family
	regions [2]map[int]*portion
	pieces  [2]map[netip.Prefix]*portion
	percent map[string]float64 // changed, by service
}

// shifts works out what a change moves, and how much of each service.
func (v *verdict) shifts() ([]Shift, map[string]float64) {
	t := newTally(v)
	for i := range v.services {
		t.service(&v.services[i])
	}
	t.sum()
	return t.list(), t.percent
}

func newTally(v *verdict) *tally {
	t := &tally{
		spread: map[netip.Prefix][]Count{}, known: map[answers]*drift{}, percent: map[string]float64{}, count: v.others,
		regions: [2]map[int]*portion{{}, {}}, pieces: [2]map[netip.Prefix]*portion{{}, {}},
	}
	places := v.places
	if len(places) == 0 {
		places = []steer.Place{{}}
	}
	if v.census != nil {
		t.census = v.census
	} else {
		t.census = func(p netip.Prefix) []Count { // who knows no addresses counts places
			if p.Bits() != 0 {
				return nil
			}
			out := make([]Count, len(places))
			for i := range out {
				out[i] = Count{Place: uint16(i), Clients: 1}
			}
			return out
		}
	}
	ids := map[string]int{}
	region := func(name string) int {
		n, ok := ids[name]
		if !ok {
			n = len(t.names)
			ids[name], t.names = n, append(t.names, name)
		}
		return n
	}
	region(regionAll)
	named := namedCountries(v.sets[:]...)
	t.within = make([][]int, len(places))
	for i, p := range places {
		switch {
		case len(places) == 1: // nothing is known of anybody
			t.within[i] = []int{0}
		case p.Continent == "" && p.Country == "":
			t.within[i] = []int{region(regionNone)}
			continue
		case p.Continent == "":
			t.within[i] = []int{0}
		default:
			t.within[i] = []int{0, region(p.Continent)}
		}
		if named[p.Country] {
			t.within[i] = append(t.within[i], region(p.Country))
		}
	}
	t.clients, t.whole = make([]float64, len(places)), make([]float64, len(t.names))
	for _, c := range t.census(netip.PrefixFrom(netip.IPv4Unspecified(), 0)) {
		if int(c.Place) >= len(places) {
			continue
		}
		t.clients[c.Place] += c.Clients
		for _, r := range t.within[c.Place] {
			t.whole[r] += c.Clients
		}
	}
	return t
}

// namedCountries lists those that a rule of some spec tells apart.
func namedCountries(sets ...*spec.Set) map[string]bool {
	out := map[string]bool{}
	for _, set := range sets {
		if set == nil {
			continue
		}
		for _, svc := range set.Services {
			for i := range svc.Residency {
				for _, c := range svc.Residency[i].Clients.Countries {
					out[c] = true
				}
			}
			for i := range svc.Steering.Regions {
				for _, c := range svc.Steering.Regions[i].Clients.Countries {
					out[c] = true
				}
			}
		}
	}
	return out
}

// service counts one service.
func (t *tally) service(c *compared) {
	m := t.moved(c.before, c.after)
	for f := range t.count {
		if has(c.before, f) || has(c.after, f) {
			t.count[f]++
		}
	}
	if m.changed > 0 {
		t.percent[c.name] = thousandths(m.changed)
	}
	if m.services++; m.services == 1 {
		t.found = append(t.found, m)
	}
}

// sum adds up what was found of all services.
func (t *tally) sum() {
	for _, m := range t.found {
		times := float64(m.services)
		for f := range m.regions {
			for r, ways := range m.regions[f] {
				p := t.regions[f][r]
				if p == nil {
					p = &portion{}
					t.regions[f][r] = p
				}
				for w, n := range ways {
					p.add(w, times*n)
				}
			}
			for prefix, piece := range m.prefixes[f] {
				p := t.pieces[f][prefix]
				if p == nil {
					p = &portion{}
					t.pieces[f][prefix] = p
				}
				p.services += m.services
				p.clients += times * piece.clients
				for w, n := range piece.ways {
					p.add(w, times*n)
				}
			}
		}
	}
}

func viewOf(s *steer.Service, f int) *steer.View {
	switch {
	case s == nil:
		return nil
	case f == int(steer.IPv4):
		return &s.V4
	default:
		return &s.V6
	}
}

func has(s *steer.Service, f int) bool { return s != nil && len(viewOf(s, f).Sets) > 0 }

// moved works out what moves of one service, or finds that done.
func (t *tally) moved(b, a *steer.Service) *drift {
	shared := b != nil && a != nil && (b.Ruling == a.Ruling || b.SameAddrs(a.Ruling))
	var key answers
	if shared {
		if key = answersOf(b, a); key[0] == key[2] && key[1] == key[3] {
			return &t.none
		}
		if m := t.known[key]; m != nil {
			return m
		}
	}
	m := &drift{}
	total, changed := 0.0, 0.0
	for f := range m.regions {
		if !has(b, f) && !has(a, f) {
			continue
		}
		total += t.whole[0]
		changed += t.family(m, steer.Family(f), b, a)
	}
	if total > 0 {
		m.changed = changed / total * 100
	}
	if shared {
		t.known[key] = m
	}
	return m
}

// family counts one family of a service, and gives how many clients everywhere have
// another answer.
func (t *tally) family(m *drift, f steer.Family, b, a *steer.Service) (changed float64) {
	pairs := newPaired(f, b, a)
	sums := map[int][]float64{} // clients of each pair of sets, by region
	add := func(r ranged, c Count, sign float64) {
		at, ok := pairs.at(r.x, r.y, int(c.Place))
		if !ok || len(pairs.flows(at)) == 0 {
			return
		}
		sum := sums[at]
		if sum == nil {
			sum = make([]float64, len(t.names))
			sums[at] = sum
		}
		for _, region := range t.within[c.Place] {
			sum[region] += sign * c.Clients
		}
	}
	base := pairs.base()
	for place, n := range t.clients {
		add(base, Count{Place: uint16(place), Clients: n}, 1)
	}
	pairs.prefixes(func(around, in ranged) {
		if sameRow(around.x, in.x) && sameRow(around.y, in.y) {
			return
		}
		counts := t.of(in.prefix)
		if in.prefix.Addr().Is4() {
			for _, c := range counts {
				add(around, c, -1)
				add(in, c, 1)
			}
		}
		t.piece(m, int(f), in.prefix, pairs.portion(in, counts), pairs.portion(around, counts))
	})
	for _, at := range slices.Sorted(maps.Keys(sums)) { // sums of fractions depend on the order
		for r, clients := range sums[at] {
			if clients <= 0 {
				continue
			}
			if m.regions[f] == nil {
				m.regions[f] = map[int]map[way]float64{}
			}
			if m.regions[f][r] == nil {
				m.regions[f][r] = map[way]float64{}
			}
			for _, fl := range pairs.flows(at) {
				m.regions[f][r][fl.way] += fl.part * clients
				if r == 0 {
					changed += fl.part * clients
				}
			}
		}
	}
	return changed
}

// piece counts the clients of one prefix by themselves, unless the same becomes of them as
// of those around it.
func (t *tally) piece(m *drift, f int, p netip.Prefix, piece, around portion) {
	same := len(piece.ways) == len(around.ways)
	for w, n := range piece.ways {
		same = same && math.Abs(n-around.ways[w]) <= negligible*piece.clients
	}
	if len(piece.ways) == 0 || same {
		return
	}
	if m.prefixes[f] == nil {
		m.prefixes[f] = map[netip.Prefix]*portion{}
	}
	m.prefixes[f][p] = &piece
}

// portion is what becomes of some clients.
func (p *paired) portion(r ranged, counts []Count) portion {
	var out portion
	for _, c := range counts {
		out.clients += c.Clients
		if at, ok := p.at(r.x, r.y, int(c.Place)); ok {
			for _, fl := range p.flows(at) {
				out.add(fl.way, fl.part*c.Clients)
			}
		}
	}
	return out
}

// maxSpread bounds what is kept of prefixes: services have them in common, or each its own.
const maxSpread = 10_000

// of is the census of a prefix, kept for the next service.
func (t *tally) of(p netip.Prefix) []Count {
	counts, ok := t.spread[p]
	if !ok {
		counts = slices.DeleteFunc(t.census(p), func(c Count) bool { return int(c.Place) >= len(t.within) })
		if len(t.spread) >= maxSpread {
			clear(t.spread)
		}
		t.spread[p] = counts
	}
	return counts
}
