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

	"github.com/divertdns/divert/dnsserver/internal/records"
)

// Bounds on one zone's text. A zone that needs more wants a file-backed server.
const (
	MaxText    = 52 << 20       // octets
	MaxRecords = 1 << 20        // $GENERATE included
	MaxTTL     = records.MaxTTL // seconds; resolvers cap there (RFC 8767)
	DefaultTTL = 60 * 60        // seconds, where the text says none
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

	// Aliases are names that have a CNAME which Text does not bring, canonical: no name
	// server in Text may be one.
	Aliases []string
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

// Records is what a zone's text comes to.
type Records struct {
	*records.List // packed, sorted, all in the zone and of class IN

	// Hinted is the names for which SVCB and HTTPS records bring addresses as hints (RFC
	// 9460 section 7.3), in lower case.
	Hinted []string
}

// Parse reads a zone and judges it: all that is wrong at once, by line. With any
// problem that is not a warning the records are not fit to be served; those that
// cannot be at all are left out. $INCLUDE is refused, $GENERATE is bounded. Source:
// RFC 1035 section 5, RFC 2308 section 4.
func Parse(s Source) (*Records, []Problem) {
	z := &parser{out: &Records{List: records.New(0)}, origin: dns.CanonicalName(s.Origin), serial: s.Serial, aliases: map[string]bool{}}
	for _, name := range s.Aliases {
		z.aliases[name] = true
	}
	origin, err := records.Name(s.Origin)
	if err != nil {
		return z.out, []Problem{{Message: fmt.Sprintf("%q is not the name of a zone", s.Origin)}}
	}
	z.top = records.AppendKey(nil, origin)
	if len(s.Text) > MaxText {
		return z.out, []Problem{{Message: fmt.Sprintf("the text has %d octets; a zone may have %d", len(s.Text), MaxText)}}
	}
	z.read(s.Text)
	z.apex(s)
	z.out.Sort()
	z.judge()
	slices.SortStableFunc(z.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	z.problems = slices.Compact(z.problems)
	return z.out, z.problems
}

type parser struct {
	out      *Records
	origin   string // canonical
	top      []byte // its key
	serial   uint32
	aliases  map[string]bool
	soa, ns  []int // lines of those at the apex
	problems []Problem
	name     []byte // scratch
	key      []byte // scratch
}

func (z *parser) problem(line int, format string, args ...any) {
	z.problems = append(z.problems, Problem{Line: line, Message: fmt.Sprintf(format, args...)})
}

func (z *parser) warn(line int, format string, args ...any) {
	z.problems = append(z.problems, Problem{Line: line, Message: fmt.Sprintf(format, args...), Warning: true})
}

// apex makes the SOA and the apex NS records that the text does not bring.
func (z *parser) apex(s Source) {
	names := z.nameservers(s.Nameservers)
	switch {
	case len(z.ns) > 0 && len(names) > 0:
		z.problem(z.ns[0], "the text brings its own NS records for %s, so nameservers must be left out", z.origin)
	case len(z.ns) == 0 && len(names) == 0:
		z.problem(0, "%s has no NS record and no nameservers", z.origin)
	case len(z.ns) == 0:
		for _, name := range names {
			z.take(&dns.NS{Hdr: z.header(dns.TypeNS), Ns: name}, 0)
		}
	}
	mbox, err := mailbox(s.Hostmaster)
	switch {
	case err != nil:
		z.problem(0, "hostmaster: %v", err)
	case len(z.soa) > 0 && s.Hostmaster != "":
		z.problem(z.soa[0], "the text brings its own SOA, so hostmaster and soa must be left out")
	case len(z.soa) == 0 && s.Hostmaster == "":
		z.problem(0, "%s has no SOA record and no hostmaster to make one", z.origin)
	case len(z.soa) == 0 && len(names) == 0:
		z.problem(0, "%s has no SOA record and no nameservers to make one", z.origin)
	case len(z.soa) == 0:
		z.take(&dns.SOA{
			Hdr: z.header(dns.TypeSOA), Ns: names[0], Mbox: mbox, Serial: 1,
			Refresh: z.timer("refresh", s.SOA.Refresh, time.Hour),
			Retry:   z.timer("retry", s.SOA.Retry, 10*time.Minute),
			Expire:  z.timer("expire", s.SOA.Expire, 24*time.Hour),
			Minttl:  z.timer("minimum", s.SOA.Minimum, 5*time.Second),
		}, 0)
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
