package answer

import (
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/dnsserver/geo"
)

// oracle answers slowly and obviously, on the library's own types: lists and
// walks, no tree, no bytes. Reply must agree with it on every well-formed query.
type oracle struct {
	zones []Zone
	geo   *geo.Table
	plan  string
	stale bool
	now   time.Time
}

// verdict is what a reply must hold. The scope is checked apart, by what it means.
type verdict struct {
	rcode              int
	aa                 bool
	answer, ns, extra  []string
	ede                int // -1 for none
	dependsOnTheClient bool
}

const oracleNoEDE = -1

func (o *oracle) ask(name string, qtype, class uint16, resolver, subnet netip.Addr) verdict {
	v := verdict{ede: oracleNoEDE}
	if class == dns.ClassCHAOS && dns.CanonicalName(name) == "plan.divert." && o.plan != "" {
		v.aa = true
		if qtype == dns.TypeTXT || qtype == dns.TypeANY {
			v.answer = []string{show1(&dns.TXT{
				Hdr: dns.RR_Header{Name: dns.CanonicalName(name), Rrtype: dns.TypeTXT, Class: class}, Txt: []string{o.plan},
			})}
		}
		return v
	}
	if class != dns.ClassINET {
		v.rcode = dns.RcodeRefused
		return v
	}
	name = dns.CanonicalName(name)
	if o.zoneOf(name) == nil {
		v.rcode, v.ede = dns.RcodeRefused, int(dns.ExtendedErrorCodeNotAuthoritative)
		return v
	}
	if qtype == dns.TypeAXFR || qtype == dns.TypeIXFR {
		v.rcode = dns.RcodeRefused
		return v
	}
	v.aa = true
	o.follow(&v, name, qtype, resolver, subnet)
	if o.stale && v.ede == oracleNoEDE {
		v.ede = int(dns.ExtendedErrorCodeStaleAnswer)
		if v.rcode == dns.RcodeNameError {
			v.ede = int(dns.ExtendedErrorCodeStaleNXDOMAINAnswer)
		}
	}
	return v
}

func (o *oracle) follow(v *verdict, name string, qtype uint16, resolver, subnet netip.Addr) {
	var visited []string
	for hop := 0; hop <= maxChase; hop++ {
		z := o.zoneOf(name)
		if z == nil || slices.Contains(visited, name) {
			return
		}
		visited = append(visited, name)
		if qtype == dns.TypeDS && name == z.Origin {
			if parent := o.zoneOf(parentOf(name)); name != "." && parent != nil {
				z = parent
			}
		}
		// From the top down: a delegation or a DNAME above the name ends the search.
		for _, up := range lineage(z.Origin, name) {
			at := recordsOf(z, up)
			if up != z.Origin && has(at, dns.TypeNS) && (up != name || qtype != dns.TypeDS) {
				v.aa = hop > 0
				o.refer(v, z, up)
				return
			}
			if d := first(at, dns.TypeDNAME); d != nil && up != name {
				if !slices.Contains(v.answer, show1(d)) {
					v.answer = append(v.answer, show1(d))
				}
				target := strings.TrimSuffix(name, up) + d.(*dns.DNAME).Target
				if len(target)+1 > 255 {
					v.rcode = dns.RcodeYXDomain
					return
				}
				v.answer = append(v.answer, show1(&dns.CNAME{
					Hdr:    dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: d.Header().Ttl},
					Target: target,
				}))
				if qtype == dns.TypeCNAME || qtype == dns.TypeANY {
					return
				}
				name = dns.CanonicalName(target)
				goto next
			}
		}
		{
			source := name
			if !o.exists(z, name) {
				encloser := parentOf(name)
				for !o.exists(z, encloser) {
					encloser = parentOf(encloser)
				}
				source = "*." + encloser
				if !o.exists(z, source) {
					v.rcode = dns.RcodeNameError
					v.ns = o.negative(z)
					return
				}
			}
			if s := steeredAt(z, source); s != nil && (qtype == dns.TypeA || qtype == dns.TypeAAAA || s.CNAME) {
				o.steer(v, z, s, name, qtype, resolver, subnet)
				return
			}
			at := recordsOf(z, source)
			cname := first(at, dns.TypeCNAME)
			switch {
			case cname != nil && qtype != dns.TypeCNAME:
				v.answer = append(v.answer, show1(renamed(cname, name)))
				if qtype == dns.TypeANY {
					return
				}
				name = dns.CanonicalName(cname.(*dns.CNAME).Target)
			case qtype == dns.TypeANY && (len(at) > 0 || steeredAt(z, source) != nil):
				v.answer = append(v.answer, show1(&dns.HINFO{
					Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeHINFO, Class: dns.ClassINET, Ttl: hinfoTTL}, Cpu: "RFC8482",
				}))
				return
			case has(at, qtype):
				at = o.hint(v, steeredAt(z, source), at, name, qtype, resolver, subnet)
				for _, rr := range at {
					if rr.Header().Rrtype != qtype {
						continue
					}
					if text := show1(o.clamped(z, renamed(inKeyOrder(rr), name))); !slices.Contains(v.answer, text) { // a DNAME led here
						v.answer = append(v.answer, text)
					}
				}
				return
			default:
				v.ns = o.negative(z)
				return
			}
		}
	next:
	}
}

func (o *oracle) zoneOf(name string) *Zone {
	var best *Zone
	for i := range o.zones {
		z := &o.zones[i]
		if dns.IsSubDomain(z.Origin, name) && (best == nil || dns.CountLabel(z.Origin) > dns.CountLabel(best.Origin)) {
			best = z
		}
	}
	return best
}

// exists tells whether anything is at or below name that no delegation hides.
func (o *oracle) exists(z *Zone, name string) bool {
	visible := func(owner string) bool {
		if !dns.IsSubDomain(name, owner) {
			return false
		}
		for _, up := range lineage(z.Origin, owner) {
			at := recordsOf(z, up)
			if up != owner && (up != z.Origin && has(at, dns.TypeNS) || has(at, dns.TypeDNAME)) {
				return false
			}
		}
		return true
	}
	for _, rr := range z.Records {
		if visible(rr.Header().Name) {
			return true
		}
	}
	for i := range z.Steered {
		if visible(z.Steered[i].Name) {
			return true
		}
	}
	for i := range o.zones {
		if child := o.zones[i].Origin; child != z.Origin && dns.IsSubDomain(z.Origin, child) && visible(child) {
			// Only the nearest: what is below that is not this zone's.
			if o.directParent(child) == z {
				return true
			}
		}
	}
	return false
}

func (o *oracle) directParent(child string) *Zone {
	return o.zoneOf(parentOf(child))
}

// ttl is that of a steered name now: no more than the time to its next change, but
// five seconds (SEMANTICS section 2).
func (o *oracle) ttl(s *Steered) uint32 {
	if s.Next.IsZero() {
		return s.TTL
	}
	return uint32(min(float64(s.TTL), max(5, s.Next.Sub(o.now).Seconds())))
}

func (o *oracle) minimum(z *Zone) uint32 {
	m := first(z.Records, dns.TypeSOA).(*dns.SOA).Minttl
	for i := range z.Steered {
		m = min(m, o.ttl(&z.Steered[i]))
	}
	return m
}

// clamped lowers an SOA's minimum to what negative answers say.
func (o *oracle) clamped(z *Zone, rr dns.RR) dns.RR {
	if soa, ok := rr.(*dns.SOA); ok {
		c := dns.Copy(soa).(*dns.SOA)
		c.Minttl = o.minimum(z)
		return c
	}
	return rr
}

func (o *oracle) negative(z *Zone) []string {
	soa := o.clamped(z, first(z.Records, dns.TypeSOA)).(*dns.SOA)
	soa.Hdr.Ttl = min(soa.Hdr.Ttl, soa.Minttl)
	return []string{show1(soa)}
}

func (o *oracle) refer(v *verdict, z *Zone, at string) {
	for _, rr := range recordsOf(z, at) {
		ns, ok := rr.(*dns.NS)
		if !ok {
			continue
		}
		v.ns = append(v.ns, show1(ns))
		target := dns.CanonicalName(ns.Ns)
		for _, glue := range recordsOf(z, o.addressed(z, target)) {
			if t := glue.Header().Rrtype; t == dns.TypeA || t == dns.TypeAAAA {
				v.extra = append(v.extra, show1(renamed(glue, target)))
			}
		}
	}
}

// addressed gives whose records are a name server's: its own, those of a delegated
// zone too, or a wildcard's.
func (o *oracle) addressed(z *Zone, target string) string {
	exact := func(owner string) bool {
		return slices.ContainsFunc(z.Records, func(rr dns.RR) bool { return dns.IsSubDomain(owner, rr.Header().Name) })
	}
	if exact(target) || !dns.IsSubDomain(z.Origin, target) {
		return target
	}
	encloser := parentOf(target)
	for !exact(encloser) {
		encloser = parentOf(encloser)
	}
	for _, up := range lineage(z.Origin, encloser) {
		if at := recordsOf(z, up); up != z.Origin && has(at, dns.TypeNS) || has(at, dns.TypeDNAME) {
			return target
		}
	}
	return "*." + encloser
}

func (o *oracle) steer(v *verdict, z *Zone, s *Steered, name string, qtype uint16, resolver, subnet netip.Addr) {
	if s.CNAME {
		o.alias(v, z, s, name, resolver, subnet)
		return
	}
	view := &s.A
	if qtype == dns.TypeAAAA {
		view = &s.AAAA
	}
	if len(view.Sets) == 0 {
		v.ns = o.negative(z)
		return
	}
	v.dependsOnTheClient = true
	addrs, set := o.picks(s, view, resolver, subnet)
	if set.FailOpen && len(addrs) > 0 {
		v.ede = int(dns.ExtendedErrorCodeOther)
	}
	if len(addrs) == 0 {
		if set.Unresolved {
			v.rcode, v.ede = dns.RcodeServerFailure, int(dns.ExtendedErrorCodeNoReachableAuthority)
			return
		}
		v.ns = o.negative(z)
	}
	for _, addr := range addrs {
		h := dns.RR_Header{Name: name, Rrtype: qtype, Class: dns.ClassINET, Ttl: o.ttl(s)}
		if qtype == dns.TypeA {
			v.answer = append(v.answer, show1(&dns.A{Hdr: h, A: addr.AsSlice()}))
		} else {
			v.answer = append(v.answer, show1(&dns.AAAA{Hdr: h, AAAA: addr.AsSlice()}))
		}
	}
}

// picks gives what a view answers to a client, and of which set that is.
func (o *oracle) picks(s *Steered, view *View, resolver, subnet netip.Addr) ([]netip.Addr, *Set) {
	from := resolver
	if subnet.IsValid() {
		from = subnet
		of := addressOf(subnet)
		if inside, _ := of.private(); inside && longest(view, subnet) < 0 {
			from = resolver
		}
	}
	byPlace := view.ByPlace
	if i := longest(view, from); i >= 0 {
		byPlace = view.ByPrefix[i].ByPlace
	}
	place := uint16(0)
	if o.geo != nil {
		place, _ = o.geo.Lookup(from)
	}
	index := 0
	switch {
	case int(place) < len(byPlace):
		index = int(byPlace[place])
	case len(byPlace) > 0:
		index = int(byPlace[0])
	}
	return oraclePicks(s, &view.Sets[index], from), &view.Sets[index]
}

func longest(view *View, addr netip.Addr) int {
	inner, _ := geo.Normalise(addr)
	best, bits := -1, -1
	for i, p := range view.ByPrefix {
		normal, _ := geo.NormalisePrefix(p.Prefix)
		if normal.Contains(inner) && normal.Bits() > bits {
			best, bits = i, normal.Bits()
		}
	}
	return best
}

// oraclePicks sorts everything, then deals out of the sorted lists.
func oraclePicks(s *Steered, set *Set, from netip.Addr) []netip.Addr {
	inner, _ := geo.Normalise(from)
	unit := unitOf(addressOf(inner))
	log := newLogTable()
	type hand struct {
		site  *Site
		addrs []netip.Addr
		score *big.Rat
	}
	var hands []*hand
	sites, ramps := oracleAdmits(s, set, unit)
	zero := !slices.ContainsFunc(set.Sites, func(s Site) bool { return s.Weight > 0 })
	total := 0
	for i := range set.Sites {
		site := &set.Sites[i]
		if len(site.Addrs) == 0 || set.Weighted && site.Weight == 0 && !zero {
			continue
		}
		if !sites[i] {
			continue
		}
		cost := log.cost(mix(fnv([]byte(s.Service), []byte(site.Cluster)) ^ unit))
		hands = append(hands, &hand{
			site: site, addrs: slices.Clone(site.Addrs),
			score: new(big.Rat).SetFrac64(int64(cost), int64(max(site.Weight, 1))),
		})
		total += len(site.Addrs)
	}
	answers := max(s.Answers, 1)
	if total > answers || ramps {
		for _, h := range hands {
			key := func(a netip.Addr) uint64 {
				return mix(fnv([]byte(s.Service), []byte(h.site.Cluster), a.AsSlice()) ^ unit)
			}
			slices.SortStableFunc(h.addrs, func(a, b netip.Addr) int {
				if key(a) < key(b) {
					return -1
				}
				return 1
			})
		}
		if set.Weighted {
			slices.SortStableFunc(hands, func(a, b *hand) int { return a.score.Cmp(b.score) })
		}
	}
	var out []netip.Addr
	domains := map[string]int{}
	for len(out) < min(answers, total) {
		least, used := (*hand)(nil), 0
		for _, h := range hands {
			if len(h.addrs) == 0 {
				continue
			}
			dealt := len(h.site.Addrs) - len(h.addrs)
			if least == nil || domains[h.site.Domain] < domains[least.site.Domain] ||
				domains[h.site.Domain] == domains[least.site.Domain] && dealt < used {
				least, used = h, dealt
			}
		}
		out = append(out, least.addrs[0])
		least.addrs = least.addrs[1:]
		domains[least.site.Domain]++
	}
	return out
}

// lineage lists the names from origin down to name, both included.
func lineage(origin, name string) []string {
	var out []string
	for n := name; ; n = parentOf(n) {
		out = append(out, n)
		if n == origin || n == "." {
			break
		}
	}
	slices.Reverse(out)
	return out
}

func parentOf(name string) string {
	i, end := dns.NextLabel(name, 0)
	if end {
		return "."
	}
	return name[i:]
}

func recordsOf(z *Zone, name string) []dns.RR {
	var out []dns.RR
	for _, rr := range z.Records {
		if rr.Header().Name == name {
			out = append(out, rr)
		}
	}
	return out
}

func steeredAt(z *Zone, name string) *Steered {
	for i := range z.Steered {
		if z.Steered[i].Name == name {
			return &z.Steered[i]
		}
	}
	return nil
}

func first(rrs []dns.RR, rrtype uint16) dns.RR {
	for _, rr := range rrs {
		if rr.Header().Rrtype == rrtype {
			return rr
		}
	}
	return nil
}

func has(rrs []dns.RR, rrtype uint16) bool { return first(rrs, rrtype) != nil }

func renamed(rr dns.RR, name string) dns.RR {
	c := dns.Copy(rr)
	c.Header().Name = name
	return c
}

// show1 is a record as text, for comparing, names in lower case.
func show1(rr dns.RR) string {
	return strings.ToLower(rr.String())
}
