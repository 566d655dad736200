package answer

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/divertdns/divert/dnsserver/geo"
)

// maxAnswers is how many addresses a steered reply may hold: more would not fit
// a UDP reply.
const maxAnswers = 32

// steered is a compiled Steered.
type steered struct {
	source  *Steered
	zone    *zone
	ttl     uint32
	answers int
	label   uint32 // group without a cluster
	a, aaaa view
}

// view is a compiled View.
type view struct {
	source   *View
	sets     []set
	places   places
	prefixes []places // as View.ByPrefix
	v4, v6   prefixTree
	constant bool // the client does not matter at all
}

// places is which set a place gets, with whether the place matters.
type places struct {
	sets   []uint16
	varies bool
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
	sites    []site
	weighted bool
	failOpen bool
	hashed   bool // the client's unit matters
	total    int  // addresses in all
}

type site struct {
	label  uint32 // group
	domain int    // number of the fault domain within the set
	weight uint32
	key    uint64
	addrs  []address
}

type address struct {
	addr netip.Addr
	wire []byte
	key  uint64
}

// same tells whether two say the same, by the identity of what they share: what
// is equal only by value is compiled again.
func (s *Steered) same(other *Steered) bool {
	return s.Name == other.Name && s.Service == other.Service && s.TTL == other.TTL && s.Answers == other.Answers &&
		s.A.same(&other.A) && s.AAAA.same(&other.AAAA)
}

func (v *View) same(other *View) bool {
	return identical(v.Sets, other.Sets) && identical(v.ByPlace, other.ByPlace) && identical(v.ByPrefix, other.ByPrefix)
}

func identical[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func (t *Table) compileSteered(z *zone, source *Steered) (*steered, error) {
	s := &steered{
		source: source, zone: z, ttl: min(source.TTL, maxTTL),
		answers: min(max(source.Answers, 1), maxAnswers),
		label:   t.labels.group(z.name, source.Service, ""),
	}
	errA := t.compileView(s, &source.A, &s.a, true)
	errAAAA := t.compileView(s, &source.AAAA, &s.aaaa, false)
	return s, errors.Join(errA, errAAAA)
}

func (t *Table) compileView(s *steered, source *View, v *view, is4 bool) error {
	v.source = source
	v.sets = make([]set, len(source.Sets))
	hashed := false
	for i := range source.Sets {
		if err := t.compileSet(s, &source.Sets[i], &v.sets[i], is4); err != nil {
			return fmt.Errorf("set %d: %w", i, err)
		}
		hashed = hashed || v.sets[i].hashed
	}
	if len(v.sets) == 0 {
		v.constant = true
		return nil
	}
	var err error
	if v.places, err = v.compilePlaces(source.ByPlace); err != nil {
		return err
	}
	for i, p := range source.ByPrefix {
		compiled, err := v.compilePlaces(p.ByPlace)
		if err != nil {
			return fmt.Errorf("prefix %s: %w", p.Prefix, err)
		}
		v.prefixes = append(v.prefixes, compiled)
		if !p.Prefix.IsValid() {
			return fmt.Errorf("prefix %d is not one", i)
		}
		inner, _ := geo.NormalisePrefix(p.Prefix)
		tree := &v.v6
		if inner.Addr().Is4() {
			tree = &v.v4
		}
		tree.add(inner, int32(i))
	}
	v.constant = len(v.prefixes) == 0 && !v.places.varies && !hashed
	return nil
}

func (v *view) compilePlaces(sets []uint16) (places, error) {
	p := places{sets: sets}
	for _, i := range sets {
		if int(i) >= len(v.sets) {
			return p, fmt.Errorf("place with set %d of %d", i, len(v.sets))
		}
		p.varies = p.varies || i != sets[0]
	}
	return p, nil
}

func (t *Table) compileSet(s *steered, source *Set, out *set, is4 bool) error {
	out.weighted, out.failOpen = source.Weighted, source.FailOpen
	domains := make(map[string]int)
	zero := true
	for _, from := range source.Sites {
		zero = zero && from.Weight == 0
	}
	for _, from := range source.Sites {
		if len(from.Addrs) == 0 || (source.Weighted && from.Weight == 0 && !zero) {
			// Kept as an empty site: Trace counts by the caller's index.
			out.sites = append(out.sites, site{})
			continue
		}
		if _, ok := domains[from.Domain]; !ok {
			domains[from.Domain] = len(domains)
		}
		compiled := site{
			label: t.labels.group(s.zone.name, s.source.Service, from.Cluster), domain: domains[from.Domain],
			weight: max(from.Weight, 1), key: fnv([]byte(s.source.Service), []byte(from.Cluster)),
		}
		for _, addr := range from.Addrs {
			addr = addr.Unmap()
			if !addr.IsValid() || addr.Is4() != is4 || addr.Zone() != "" {
				return fmt.Errorf("%s: address %s is of the wrong family", from.Cluster, addr)
			}
			octets := addr.AsSlice()
			compiled.addrs = append(compiled.addrs, address{
				addr: addr, wire: octets, key: fnv([]byte(s.source.Service), []byte(from.Cluster), octets),
			})
		}
		out.total += len(compiled.addrs)
		out.sites = append(out.sites, compiled)
	}
	if len(out.sites) > maxSites {
		return fmt.Errorf("%d sites; there may be %d", len(out.sites), maxSites)
	}
	out.hashed = out.dependsOnUnit(s.answers)
	return nil
}

// dependsOnUnit tells whether the hash can change what is picked.
func (s *set) dependsOnUnit(answers int) bool {
	if s.total <= answers {
		return false // everything is, in the order given
	}
	used := 0
	for i := range s.sites {
		if len(s.sites[i].addrs) == 0 {
			continue
		}
		used++
		if s.weighted && used > 1 {
			return true
		}
		if len(s.sites[i].addrs) > 1 && (used == 1 || answers > 1) {
			return true
		}
	}
	return false
}
