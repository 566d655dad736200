package answer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/divertdns/divert/dnsserver/geo"
)

// Names are few and short, so that what is asked meets what is there.
var (
	origins = []string{"example.org.", "sub.example.org.", "deep.er.example.org.", "example.net."}
	labels1 = []string{"a", "b", "www", "sub", "deep", "er", "*"}
)

func drawName(t *rapid.T, label string) string {
	name := rapid.SampledFrom(append([]string{"example.com.", "badexample.org."}, origins...)).Draw(t, label+" origin")
	for range rapid.IntRange(0, 3).Draw(t, label+" depth") {
		name = rapid.SampledFrom(labels1).Draw(t, label) + "." + name
	}
	return name
}

// drawZones makes zones that Compile takes: rules are kept as records are added.
func drawZones(t *rapid.T, places int) []Zone {
	var zones []Zone
	for _, origin := range origins {
		if origin != "example.org." && !rapid.Bool().Draw(t, origin) {
			continue
		}
		zones = append(zones, Zone{Origin: origin, Records: []dns.RR{
			mustRR(fmt.Sprintf("%s 3600 IN SOA ns1.%s h.%s 1 2 3 4 %d", origin, origin, origin, rapid.IntRange(0, 100).Draw(t, "minimum"))),
			mustRR(fmt.Sprintf("%s 3600 IN NS ns1.%s", origin, origin)),
		}})
	}
	for range rapid.IntRange(0, 25).Draw(t, "records") {
		z := &zones[rapid.IntRange(0, len(zones)-1).Draw(t, "zone")]
		name := z.Origin
		for range rapid.IntRange(0, 3).Draw(t, "depth") {
			name = rapid.SampledFrom(labels1).Draw(t, "label") + "." + name
		}
		ttl := rapid.IntRange(0, 1000).Draw(t, "ttl")
		for _, rr := range recordsOf(z, name) {
			ttl = int(rr.Header().Ttl) // one for a set; simplest is one for a name
		}
		target := drawName(t, "target")
		var rr dns.RR
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0, 1:
			rr = mustRR(fmt.Sprintf("%s %d IN A 192.0.2.%d", name, ttl, rapid.IntRange(0, 255).Draw(t, "a")))
		case 2:
			rr = mustRR(fmt.Sprintf("%s %d IN AAAA 2001:db8::%x", name, ttl, rapid.IntRange(0, 255).Draw(t, "aaaa")))
		case 3:
			rr = mustRR(fmt.Sprintf("%s %d IN TXT text%d", name, ttl, rapid.IntRange(0, 9).Draw(t, "txt")))
		case 4:
			rr = mustRR(fmt.Sprintf("%s %d IN MX 10 %s", name, ttl, target))
		case 5:
			rr = mustRR(fmt.Sprintf("%s %d IN CNAME %s", name, ttl, target))
		case 6:
			rr = mustRR(fmt.Sprintf("%s %d IN DNAME %s", name, ttl, target))
		case 7:
			rr = mustRR(fmt.Sprintf("%s %d IN NS %s", name, ttl, target))
		case 8:
			drawSteered(t, z, name, places)
			if rapid.Bool().Draw(t, "service") {
				continue
			}
			rr = drawService(t, name, ttl, target)
		case 9:
			rr = drawService(t, name, ttl, target)
		}
		if fitsZone(z, rr) {
			z.Records = append(z.Records, rr)
		}
	}
	var usable []Zone
	for _, z := range zones {
		z.Steered = slices.DeleteFunc(z.Steered, func(s Steered) bool { return !steerable(&z, zones, s.Name) })
		usable = append(usable, z)
	}
	return usable
}

// drawService makes an HTTPS or SVCB record, in AliasMode or of a service that is
// here or elsewhere.
func drawService(t *rapid.T, name string, ttl int, target string) dns.RR {
	target = rapid.SampledFrom([]string{".", ".", strings.ToUpper(name), target}).Draw(t, "service target")
	text := fmt.Sprintf("%s %d IN %s %d %s", name, ttl, rapid.SampledFrom([]string{"HTTPS", "HTTPS", "SVCB"}).Draw(t, "service type"),
		rapid.IntRange(0, 3).Draw(t, "priority"), target)
	params := []string{"alpn=h2,h3", "port=8443", "mandatory=alpn", "no-default-alpn", "ech=AAAA", "key667=x", "key65000=y", "ipv4hint=203.0.113.1", "ipv6hint=2001:db8::1"}
	for _, p := range rapid.SliceOfNDistinct(rapid.SampledFrom(params), 0, 4, rapid.ID[string]).Draw(t, "parameters") {
		text += " " + p
	}
	return inKeyOrder(mustRR(text))
}

func mustRR(text string) dns.RR {
	rr, err := dns.NewRR(text)
	if err != nil {
		panic(err)
	}
	return rr
}

func fitsZone(z *Zone, rr dns.RR) bool {
	h := rr.Header()
	there := recordsOf(z, h.Name)
	for _, other := range there {
		if other.String() == rr.String() {
			return false
		}
	}
	wild := strings.HasPrefix(h.Name, "*.")
	switch {
	case steeredAt(z, h.Name) != nil && steeredAt(z, h.Name).CNAME:
		return false
	case has(there, dns.TypeCNAME), h.Rrtype == dns.TypeCNAME && (len(there) > 0 || steeredAt(z, h.Name) != nil):
		return false
	case h.Rrtype == dns.TypeDNAME && (has(there, dns.TypeDNAME) || has(there, dns.TypeNS) || wild):
		return false
	case h.Rrtype == dns.TypeNS && (wild || has(there, dns.TypeDNAME)):
		return false
	case steeredAt(z, h.Name) != nil && (h.Rrtype == dns.TypeA || h.Rrtype == dns.TypeAAAA || h.Rrtype == dns.TypeNS):
		return false
	}
	return true
}

func steerable(z *Zone, zones []Zone, name string) bool {
	for _, up := range lineage(z.Origin, name) {
		at := recordsOf(z, up)
		if up != z.Origin && has(at, dns.TypeNS) || up != name && has(at, dns.TypeDNAME) {
			return false
		}
	}
	for _, other := range zones {
		if other.Origin != z.Origin && dns.IsSubDomain(z.Origin, other.Origin) && dns.IsSubDomain(other.Origin, name) {
			return false
		}
	}
	return true
}

func drawSteered(t *rapid.T, z *Zone, name string, places int) {
	there := recordsOf(z, name)
	if steeredAt(z, name) != nil || has(there, dns.TypeCNAME) || has(there, dns.TypeA) || has(there, dns.TypeAAAA) ||
		(has(there, dns.TypeNS) && name != z.Origin) {
		return
	}
	s := Steered{
		Name: name, Service: rapid.SampledFrom([]string{"shop", "pay"}).Draw(t, "service"), TTL: uint32(rapid.IntRange(0, 60).Draw(t, "steered ttl")),
		Answers: rapid.IntRange(1, 4).Draw(t, "answers"),
		Next:    drawNext(t),
	}
	if s.CNAME = len(there) == 0 && rapid.IntRange(0, 2).Draw(t, "alias") == 0; !s.CNAME {
		s.AAAA = drawView(t, places, "2001:db8::%d")
	}
	s.A = drawViewA(t, places, s.CNAME)
	z.Steered = append(z.Steered, s)
}

// drawViewA draws what A says, of an alias too: to names elsewhere and, since nobody
// follows them, here.
func drawViewA(t *rapid.T, places int, alias bool) View {
	v := drawView(t, places, "192.0.2.%d")
	for i := range v.Sets {
		for j := range v.Sets[i].Sites {
			if s := &v.Sets[i].Sites[j]; alias && len(s.Addrs) > 0 {
				s.Target = rapid.SampledFrom([]string{fmt.Sprintf("lb-%d.example.com.", i*7+j), "a.example.org.", "*.www.example.net."}).Draw(t, "alias of")
				s.Addrs = nil
			}
		}
	}
	return v
}

// oracleNow is when all that is drawn is asked.
var oracleNow = time.Unix(1_800_000_000, 0)

func drawNext(t *rapid.T) time.Time {
	if rapid.Bool().Draw(t, "scheduled") {
		return time.Time{}
	}
	return oracleNow.Add(time.Duration(rapid.IntRange(-30, 60).Draw(t, "next")) * time.Second)
}

// drawAlike lets some steered names answer as others do, each by itself in zones,
// and gives zones in which each of those groups is one Steered.
func drawAlike(t *rapid.T, zones []Zone) []Zone {
	out := slices.Clone(zones)
	for i := range out {
		z := &zones[i]
		z.Steered = slices.Clone(z.Steered)
		out[i].Steered = nil
		for j := range z.Steered {
			s := &z.Steered[j]
			if j > 0 && rapid.Bool().Draw(t, "alike") {
				to := rapid.IntRange(0, len(out[i].Steered)-1).Draw(t, "to")
				group := &out[i].Steered[to]
				if group.CNAME && len(recordsOf(z, s.Name)) > 0 {
					out[i].Steered = append(out[i].Steered, *s)
					continue
				}
				name := Name{Name: s.Name, Service: s.Service}
				*s = *group
				s.Alike, s.Name, s.Service = nil, name.Name, name.Service
				group.Alike = append(slices.Clip(group.Alike), name)
				continue
			}
			out[i].Steered = append(out[i].Steered, *s)
		}
	}
	return out
}

var somePrefixes = []string{
	"81.2.0.0/16", "81.2.69.0/24", "81.2.69.128/25", "10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "2a04:4e42::/32", "2a04:4e42:600::/56",
	"fd00::/8", "2002:5102:4500::/40", "::/0", "192.168.7.0/24", "::ffff:203.0.113.0/120",
}

func drawView(t *rapid.T, places int, pattern string) View {
	var v View
	n := rapid.IntRange(0, 4).Draw(t, "sets")
	if n == 0 {
		return v
	}
	next := 1
	for range n {
		s := Set{Weighted: rapid.Bool().Draw(t, "weighted"), FailOpen: rapid.Bool().Draw(t, "fail open"), Unresolved: rapid.Bool().Draw(t, "unresolved")}
		for i := range rapid.IntRange(0, 4).Draw(t, "sites") {
			site := Site{
				Cluster: fmt.Sprintf("c%d", i), Domain: fmt.Sprintf("d%d", rapid.IntRange(0, 2).Draw(t, "domain")),
				Weight: uint32(rapid.IntRange(0, 5).Draw(t, "weight")),
				Share:  rapid.SampledFrom([]uint8{0, 0, 0, 10, 50, 100}).Draw(t, "share"),
				Level:  rapid.SampledFrom([]uint8{0, 0, 0, 1, 2, 255}).Draw(t, "level"),
			}
			for range rapid.IntRange(0, 3).Draw(t, "addresses") {
				site.Addrs = append(site.Addrs, netip.MustParseAddr(fmt.Sprintf(pattern, next%255)))
				next++
			}
			s.Sites = append(s.Sites, site)
		}
		v.Sets = append(v.Sets, s)
	}
	drawPlaces := func() []uint16 {
		out := make([]uint16, rapid.SampledFrom([]int{0, 1, places, places}).Draw(t, "places"))
		if len(out) == 0 {
			return nil
		}
		step, uniform := rapid.IntRange(1, 7).Draw(t, "step"), rapid.Bool().Draw(t, "uniform")
		start := rapid.IntRange(0, n-1).Draw(t, "start")
		for i := range out {
			out[i] = uint16(start)
			if !uniform {
				out[i] = uint16((start + i/step) % n)
			}
		}
		return out
	}
	v.ByPlace = drawPlaces()
	for _, text := range rapid.SliceOfNDistinct(rapid.SampledFrom(somePrefixes), 0, 4, rapid.ID[string]).Draw(t, "prefixes") {
		v.ByPrefix = append(v.ByPrefix, PrefixPlaces{Prefix: netip.MustParsePrefix(text), ByPlace: drawPlaces()})
	}
	return v
}

var someClients = []string{
	"81.2.69.142", "81.2.69.1", "81.2.70.1", "10.1.2.3", "10.9.9.9", "192.168.7.7", "203.0.113.9", "1.1.1.1", "122.96.43.186",
	"2a04:4e42:600::223", "2a04:4e42:601::1", "fd00::7", "fe80::1", "::1", "2002:5102:458e::1", "::ffff:81.2.69.142", "64:ff9b::5102:458e",
	"2001:0:4136:e378:8000:63bf:aefd:ba71", "2400:3200::1", "0.0.0.0", "::",
}

func drawClient(t *rapid.T, label string) netip.Addr {
	addr := netip.MustParseAddr(rapid.SampledFrom(someClients).Draw(t, label))
	if bit := rapid.IntRange(-1, addr.BitLen()-1).Draw(t, label+" flip"); bit >= 0 {
		addr = flipBit(addr, bit)
	}
	return addr
}

func flipBit(addr netip.Addr, bit int) netip.Addr {
	b := addr.AsSlice()
	b[bit/8] ^= 0x80 >> (bit % 8)
	out, _ := netip.AddrFromSlice(b)
	return out
}

// placesOf bounds how many places a test needs to draw for.
func placesOf(table *geo.Table) int { return len(table.Places()) }
