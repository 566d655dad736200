package director

import (
	"net/netip"
	"slices"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/dnsserver/answer"
)

// shape is a view without its addresses: which places and prefixes get which of
// the answers that differ. Reasons differ more than answers do: of ten clusters and
// one address a reply, hundreds of orders come to ten answers. Services that steer
// alike share it.
type shape struct {
	sets     []steer.Set // one of those that answer alike, with no more choices than are used
	byPlace  []uint16
	byPrefix []answer.PrefixPlaces
}

// shapeKey is the identity of a view, and how many of the first choices count.
type shapeKey struct {
	set    *steer.Set
	place  *uint16
	prefix *steer.PrefixPlaces
	one    bool
}

func (d *describer) shape(svc *steer.Service, v *steer.View, used map[shapeKey]*shape) *shape {
	if len(v.Sets) == 0 {
		return &shape{}
	}
	key := shapeKey{set: &v.Sets[0], one: svc.Answers <= 1}
	if len(v.ByPlace) > 0 {
		key.place = &v.ByPlace[0]
	}
	if len(v.ByPrefix) > 0 {
		key.prefix = &v.ByPrefix[0]
	}
	s := used[key]
	if s == nil {
		if s = d.shapes[key]; s == nil {
			s = newShape(v, key.one)
		}
		used[key] = s
	}
	return s
}

func newShape(v *steer.View, one bool) *shape {
	s := &shape{}
	index := make([]uint16, len(v.Sets))
	for i, set := range v.Sets {
		set := steer.Set{Choices: set.Choices, Weighted: set.Weighted, FailOpen: set.FailOpen}
		if one {
			set.Choices = set.First() // none after them is ever picked
		}
		at := slices.IndexFunc(s.sets, func(other steer.Set) bool { return sameSet(set, other) })
		if at < 0 {
			at = len(s.sets)
			s.sets = append(s.sets, set)
		}
		index[i] = uint16(at)
	}
	row := func(from []uint16) []uint16 {
		out := make([]uint16, len(from))
		for i, set := range from {
			out[i] = index[set]
		}
		return out
	}
	s.byPlace = row(v.ByPlace)
	rows := map[*uint16][]uint16{} // most prefixes share theirs
	for _, p := range v.ByPrefix {
		if len(p.ByPlace) == 0 {
			s.byPrefix = append(s.byPrefix, answer.PrefixPlaces{Prefix: p.Prefix})
			continue
		}
		id := &p.ByPlace[0]
		if rows[id] == nil {
			rows[id] = row(p.ByPlace)
		}
		s.byPrefix = append(s.byPrefix, answer.PrefixPlaces{Prefix: p.Prefix, ByPlace: rows[id]})
	}
	return s
}

// targets puts the hostnames of a service's sites into a shape.
func (s *shape) targets(svc *steer.Service, set *spec.Set) answer.View {
	out := s.view(steer.IPv4, svc.Addrs, nil, nil, nil) // it is written to
	for i := range out.Sets {
		for j := range out.Sets[i].Sites {
			site := &out.Sets[i].Sites[j]
			if len(site.Addrs) > 0 {
				site.Target = rooted(set.Hostname(site.Addrs[0]))
			}
			site.Addrs = nil
		}
	}
	return out
}

// rooted is a name of the spec as it is written in a zone; "" stays so.
func rooted(name string) string {
	if name == "" {
		return ""
	}
	return name + "."
}

// view puts a service's addresses into a shape. The sets that the view before has
// already are taken from it; from says which those may be, -1 for none, and is nil
// where there is no such view.
func (s *shape) view(f steer.Family, addrs func(steer.Family, *steer.Choice) []netip.Addr, old *answer.View, from []int32, kept func(*steer.Choice) bool) answer.View {
	out := answer.View{ByPlace: s.byPlace, ByPrefix: s.byPrefix, Sets: make([]answer.Set, len(s.sets))}
	var sites []answer.Site // room for all that are new
	for i := range s.sets {
		set := &s.sets[i]
		if from != nil && from[i] >= 0 {
			if was := &old.Sets[from[i]]; sameAddrs(was.Sites, set.Choices, f, addrs, kept) {
				out.Sets[i] = *was
				continue
			}
		}
		if cap(sites)-len(sites) < len(set.Choices) {
			room := len(set.Choices)
			if from == nil {
				for j := range s.sets[i+1:] {
					room += len(s.sets[i+1+j].Choices)
				}
			}
			sites = make([]answer.Site, 0, room)
		}
		first := len(sites)
		for j := range set.Choices {
			c := &set.Choices[j]
			sites = append(sites, answer.Site{Cluster: c.Cluster, Domain: c.Domain, Weight: c.Weight, Share: c.Share, Level: c.Level, Addrs: addrs(f, c)})
		}
		out.Sets[i] = answer.Set{Sites: sites[first:len(sites):len(sites)], Weighted: set.Weighted, FailOpen: set.FailOpen}
	}
	return out
}

// sameSet tells whether two sets answer alike, the rest apart.
func sameSet(a, b steer.Set) bool {
	return a.Weighted == b.Weighted && a.FailOpen == b.FailOpen && slices.Equal(a.Choices, b.Choices)
}

// sameAddrs tells whether sites have the very addresses of the choices that they were
// made of, or of equal ones.
func sameAddrs(sites []answer.Site, choices []steer.Choice, f steer.Family, addrs func(steer.Family, *steer.Choice) []netip.Addr, kept func(*steer.Choice) bool) bool {
	for i := range choices {
		if (kept == nil || !kept(&choices[i])) && !identical(sites[i].Addrs, addrs(f, &choices[i])) {
			return false
		}
	}
	return true
}

// from gives for each set of a shape the one of another that comes to the same; -1 for
// none.
func (s *shape) from(old *shape) []int32 {
	out := make([]int32, len(s.sets))
	for i := range s.sets {
		out[i] = int32(slices.IndexFunc(old.sets, func(other steer.Set) bool { return sameSet(s.sets[i], other) }))
	}
	return out
}

func identical[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
