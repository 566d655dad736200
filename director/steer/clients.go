package steer

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/divertdns/divert/director/spec"
)

// normal masks a prefix and writes a v4-mapped one as the IPv4 prefix that it
// is, since clients are looked up by their unmapped address.
func normal(p netip.Prefix) netip.Prefix {
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked()
}

// covers tells whether every address of the inner prefix is in the outer.
func covers(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

// comparePrefixes orders by address, then length: a covering prefix comes
// before what it covers.
func comparePrefixes(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

// configured lists every prefix that a service names: its regions', its pins'
// and its residency rules', of both families (a client may ask for an A record
// over IPv6), each once, in order.
func configured(svc *spec.GlobalService) []netip.Prefix {
	var out []netip.Prefix
	add := func(ps []netip.Prefix) {
		for _, p := range ps {
			out = append(out, normal(p))
		}
	}
	for _, r := range svc.Steering.Regions {
		add(r.Clients.Prefixes)
	}
	for _, p := range svc.Pins {
		add([]netip.Prefix{p.Prefix})
	}
	for _, r := range svc.Residency {
		add(r.Clients.Prefixes)
	}
	slices.SortFunc(out, comparePrefixes)
	return slices.Compact(out)
}

// unknown tells that nothing is known of where a client is.
func (p Place) unknown() bool { return p.Country == "" && p.Continent == "" }

// The ways in which a set of clients can hold one, from the least specific.
const (
	matchNone      = -1
	matchContinent = 0
	matchCountry   = 1
	matchPrefix    = 2 // plus the prefix's length
)

// byPrefix gives how closely a set names the clients of a prefix (the zero
// prefix: of no configured one).
func byPrefix(c *spec.Clients, prefix netip.Prefix) int {
	best := matchNone
	if !prefix.IsValid() {
		return best
	}
	for _, p := range c.Prefixes {
		if p = normal(p); covers(p, prefix) {
			best = max(best, matchPrefix+p.Bits())
		}
	}
	return best
}

// byPlace gives how closely a set names the clients of a place.
func byPlace(c *spec.Clients, place Place) int {
	switch {
	case c.Everybody:
		return matchContinent
	case place.Country != "" && slices.Contains(c.Countries, place.Country):
		return matchCountry
	case place.Continent != "" && slices.Contains(c.Continents, place.Continent):
		return matchContinent
	default:
		return matchNone
	}
}

// doubtful tells whether a client of this place may be one of the set for all
// that is known: the part of the place that the set asks for is missing.
func doubtful(c *spec.Clients, place Place) bool {
	return place.unknown() ||
		place.Country == "" && len(c.Countries) > 0 ||
		place.Continent == "" && len(c.Continents) > 0
}

// selectorText shows a label selector with its keys in order.
func selectorText(selector map[string]string) string {
	parts := make([]string, 0, len(selector))
	for k, v := range selector {
		parts = append(parts, k+"="+v)
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// ruleText says what a residency rule asks for, and who does: the spec, or the policy.
func ruleText(r *spec.ResidencyRule) string {
	if r.Only == nil {
		return "residency: " + clientsText(&r.Clients) + " clients only on " + selectorText(r.Clusters)
	}
	text := "residency by policy: " + clientsText(&r.Clients) + " clients only on " + strings.Join(r.Only, ", ")
	if r.Why != "" {
		text += " (" + r.Why + ")"
	}
	return text
}

// clientsText shows a set of clients for a sentence: "EU, TR, 198.51.100.0/24".
func clientsText(c *spec.Clients) string {
	if c.Everybody {
		return "all"
	}
	parts := slices.Concat(slices.Sorted(slices.Values(c.Continents)), slices.Sorted(slices.Values(c.Countries)))
	prefixes := slices.Clone(c.Prefixes)
	for i := range prefixes {
		prefixes[i] = normal(prefixes[i])
	}
	slices.SortFunc(prefixes, comparePrefixes)
	for _, p := range prefixes {
		parts = append(parts, p.String())
	}
	return strings.Join(parts, ", ")
}
