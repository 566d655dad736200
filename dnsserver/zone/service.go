package zone

import (
	"slices"

	"github.com/miekg/dns"
)

// judgeService warns of SVCB and HTTPS records that clients take no notice of, and
// of the records beside them neither (RFC 9460).
func (z *parser) judgeService(rr dns.RR, line int) {
	s := serviceOf(rr)
	if s == nil {
		return
	}
	name, kind := dns.CanonicalName(s.Hdr.Name), dns.Type(s.Hdr.Rrtype)
	if s.Priority == 0 {
		if len(s.Value) > 0 { // section 2.4.2
			z.warn(line, "%s %s is an alias (priority 0): its parameters are ignored", name, kind)
		}
		return
	}
	if hasParam(s, dns.SVCB_NO_DEFAULT_ALPN) && !hasParam(s, dns.SVCB_ALPN) { // section 7.1.1
		z.warn(line, "%s %s has no-default-alpn without alpn: clients cannot use it", name, kind)
	}
	for _, p := range s.Value {
		mandatory, ok := p.(*dns.SVCBMandatory)
		if !ok {
			continue
		}
		for i, key := range mandatory.Code { // section 8
			switch {
			case key == dns.SVCB_MANDATORY:
				z.warn(line, "%s %s: mandatory names itself: clients ignore all %s records of the name", name, kind, kind)
			case slices.Contains(mandatory.Code[:i], key):
				z.warn(line, "%s %s: mandatory names %s twice: clients ignore all %s records of the name", name, kind, key, kind)
			case key == dns.SVCB_IPV4HINT || key == dns.SVCB_IPV6HINT: // a steered name gets them
			case !hasParam(s, key):
				z.warn(line, "%s %s: mandatory names %s, which the record has not: clients ignore all %s records of the name", name, kind, key, kind)
			}
		}
	}
}

// hinted notes for which name a record brings addresses as hints (section 7.3).
func (z *parser) hinted(rr dns.RR) {
	s := serviceOf(rr)
	switch {
	case s == nil || s.Priority == 0 || !hasParam(s, dns.SVCB_IPV4HINT) && !hasParam(s, dns.SVCB_IPV6HINT):
	case s.Target == ".": // the owner (section 2.5.2)
		z.out.Hinted = append(z.out.Hinted, dns.CanonicalName(s.Hdr.Name))
	default:
		z.out.Hinted = append(z.out.Hinted, dns.CanonicalName(s.Target))
	}
}

// serviceOf is what SVCB and HTTPS records have in common; nil for others.
func serviceOf(rr dns.RR) *dns.SVCB {
	switch rr := rr.(type) {
	case *dns.SVCB:
		return rr
	case *dns.HTTPS:
		return &rr.SVCB
	}
	return nil
}

func hasParam(s *dns.SVCB, key dns.SVCBKey) bool {
	return slices.ContainsFunc(s.Value, func(p dns.SVCBKeyValue) bool { return p.Key() == key })
}
