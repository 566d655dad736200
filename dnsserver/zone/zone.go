// Package zone owns the reading of zone-file text into records and the judging of
// what they amount to. It never serves them, and never opens a file.
package zone

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Bounds on one zone's text. A zone that needs more wants a file-backed server.
const (
	MaxText    = 40 << 20         // octets
	MaxRecords = 1 << 20          // $GENERATE included
	MaxTTL     = 7 * 24 * 60 * 60 // seconds; resolvers cap there (RFC 8767)
	DefaultTTL = 60 * 60          // seconds, where the text says none
)

// Source is one zone as a person wrote it.
type Source struct {
	Origin string // the zone's name; the last dot may be left out
	Text   string // zone-file text, "" for none

	// What makes the SOA and the apex NS records. Each is left out where Text
	// brings its own; the timers, which have defaults, say nothing there.
	Nameservers []string
	Hostmaster  string // a mail address, or its domain form
	SOA         Timers

	// Serial replaces the serial of the SOA, whoever wrote that: it follows the
	// plan (S13). 0 keeps the text's.
	Serial uint32
}

// Timers are those of RFC 1035 section 3.3.13. One that is zero takes its default:
// 1h, 10m, 1d and 5s.
type Timers struct {
	Refresh, Retry, Expire, Minimum time.Duration
}

// Problem is one thing wrong with a zone.
type Problem struct {
	Line    int // of Source.Text, from 1; 0 where no line is to blame
	Message string
	Warning bool // the zone can be served all the same
}

// String gives the line, where there is one, and the message.
func (p Problem) String() string {
	if p.Line == 0 {
		return p.Message
	}
	return fmt.Sprintf("line %d: %s", p.Line, p.Message)
}

// Failed tells whether any problem is more than a warning.
func Failed(problems []Problem) bool {
	return slices.ContainsFunc(problems, func(p Problem) bool { return !p.Warning })
}

// Parse reads a zone and judges it: all that is wrong at once, by line. The
// records come in the order of the text, SOA first, owners in lower case. With
// any problem that is not a warning they are not fit to be served. $INCLUDE is
// refused, $GENERATE is bounded. Source: RFC 1035 section 5, RFC 2308 section 4.
func Parse(s Source) ([]dns.RR, []Problem) {
	z := &parser{origin: dns.CanonicalName(s.Origin)}
	if _, ok := dns.IsDomainName(s.Origin); !ok || s.Origin == "" {
		return nil, []Problem{{Message: fmt.Sprintf("%q is not the name of a zone", s.Origin)}}
	}
	if len(s.Text) > MaxText {
		return nil, []Problem{{Message: fmt.Sprintf("the text has %d octets; a zone may have %d", len(s.Text), MaxText)}}
	}
	z.read(s.Text)
	z.apex(s)
	z.judge()
	slices.SortStableFunc(z.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	z.problems = slices.Compact(z.problems)
	records := make([]dns.RR, 0, len(z.entries))
	for _, e := range z.entries {
		records = append(records, e.rr)
	}
	slices.SortStableFunc(records, func(a, b dns.RR) int { return rank(a) - rank(b) })
	return records, z.problems
}

func rank(rr dns.RR) int {
	if rr.Header().Rrtype == dns.TypeSOA {
		return 0
	}
	return 1
}

// entry is one record and where it stands.
type entry struct {
	rr   dns.RR
	line int
	next int32 // of the same owner, -1 = none; see nodes
}

type parser struct {
	origin   string // canonical
	entries  []entry
	problems []Problem
	scratch  []byte
}

func (z *parser) problem(line int, format string, args ...any) {
	z.problems = append(z.problems, Problem{Line: line, Message: fmt.Sprintf(format, args...)})
}

func (z *parser) warn(line int, format string, args ...any) {
	z.problems = append(z.problems, Problem{Line: line, Message: fmt.Sprintf(format, args...), Warning: true})
}

// apex makes the SOA and the apex NS records that the text does not bring.
func (z *parser) apex(s Source) {
	var soa *dns.SOA
	hasNS := false
	soaLine, nsLine := 0, 0
	for _, e := range z.entries {
		if e.rr.Header().Name != z.origin {
			continue
		}
		switch rr := e.rr.(type) {
		case *dns.SOA:
			if soa == nil {
				soa, soaLine = rr, e.line
			}
		case *dns.NS:
			if !hasNS {
				hasNS, nsLine = true, e.line
			}
		}
	}
	names := z.nameservers(s.Nameservers)
	switch {
	case hasNS && len(names) > 0:
		z.problem(nsLine, "the text brings its own NS records for %s, so nameservers must be left out", z.origin)
	case !hasNS && len(names) == 0:
		z.problem(0, "%s has no NS record and no nameservers", z.origin)
	case !hasNS:
		for _, name := range names {
			z.entries = append(z.entries, entry{rr: &dns.NS{Hdr: z.header(dns.TypeNS), Ns: name}})
		}
	}
	mbox, err := mailbox(s.Hostmaster)
	switch {
	case err != nil:
		z.problem(0, "hostmaster: %v", err)
	case soa != nil && s.Hostmaster != "":
		z.problem(soaLine, "the text brings its own SOA, so hostmaster and soa must be left out")
	case soa == nil && s.Hostmaster == "":
		z.problem(0, "%s has no SOA record and no hostmaster to make one", z.origin)
	case soa == nil && len(names) == 0:
		z.problem(0, "%s has no SOA record and no nameservers to make one", z.origin)
	case soa == nil:
		soa = &dns.SOA{
			Hdr: z.header(dns.TypeSOA), Ns: names[0], Mbox: mbox, Serial: 1,
			Refresh: z.timer("refresh", s.SOA.Refresh, time.Hour),
			Retry:   z.timer("retry", s.SOA.Retry, 10*time.Minute),
			Expire:  z.timer("expire", s.SOA.Expire, 24*time.Hour),
			Minttl:  z.timer("minimum", s.SOA.Minimum, 5*time.Second),
		}
		z.entries = append(z.entries, entry{rr: soa})
	}
	if soa != nil && s.Serial != 0 {
		soa.Serial = s.Serial
	}
}

func (z *parser) header(rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: z.origin, Rrtype: rrtype, Class: dns.ClassINET, Ttl: DefaultTTL}
}

func (z *parser) nameservers(names []string) []string {
	var out []string
	for _, name := range names {
		if _, ok := dns.IsDomainName(name); !ok || name == "" || name == "." {
			z.problem(0, "nameserver %q is not a host name", name)
			continue
		}
		full := dns.CanonicalName(name)
		if slices.Contains(out, full) {
			z.problem(0, "nameserver %s is listed twice", name)
			continue
		}
		out = append(out, full)
	}
	return out
}

func (z *parser) timer(name string, d, standard time.Duration) uint32 {
	d = cmp.Or(d, standard)
	if d < 0 || d > 1<<31*time.Second || d%time.Second != 0 {
		z.problem(0, "soa.%s is %s; it must be whole seconds, and not negative", name, d)
		return 0
	}
	return uint32(d / time.Second)
}

// mailbox turns a mail address into the domain name that an SOA holds; dots left
// of the @ are escaped (RFC 1035 section 8).
func mailbox(address string) (string, error) {
	if address == "" {
		return "", nil
	}
	name := address
	if local, domain, ok := strings.Cut(address, "@"); ok {
		if local == "" || domain == "" {
			return "", fmt.Errorf("%q is not a mail address", address)
		}
		name = strings.ReplaceAll(local, ".", `\.`) + "." + domain
	}
	if _, ok := dns.IsDomainName(name); !ok || strings.ContainsAny(name, " \t@") {
		return "", fmt.Errorf("%q is not a mail address", address)
	}
	return dns.Fqdn(name), nil
}
