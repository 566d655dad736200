package answer

import (
	"net"
	"net/netip"
	"slices"

	"github.com/miekg/dns"
)

// hint gives the HTTPS or SVCB records of a steered name the addresses of its A and
// AAAA answers, and their TTL.
func (o *oracle) hint(v *verdict, s *Steered, at []dns.RR, name string, qtype uint16, resolver, subnet netip.Addr) []dns.RR {
	if s == nil || qtype != dns.TypeHTTPS && qtype != dns.TypeSVCB || len(s.A.Sets) == 0 && len(s.AAAA.Sets) == 0 {
		return at
	}
	takes := func(rr dns.RR) bool {
		of := svcbOf(rr)
		return of != nil && rr.Header().Rrtype == qtype && of.Priority > 0 && (of.Target == "." || dns.CanonicalName(of.Target) == name) &&
			!slices.ContainsFunc(of.Value, func(p dns.SVCBKeyValue) bool {
				return p.Key() == dns.SVCB_IPV4HINT || p.Key() == dns.SVCB_IPV6HINT
			})
	}
	if !slices.ContainsFunc(at, takes) {
		return at
	}
	v.dependsOnTheClient = true
	var v4, v6 []net.IP
	for _, f := range []struct {
		view *View
		to   *[]net.IP
	}{{&s.A, &v4}, {&s.AAAA, &v6}} {
		if len(f.view.Sets) == 0 {
			continue
		}
		addrs, set := o.picks(s, f.view, resolver, subnet)
		for _, a := range addrs {
			*f.to = append(*f.to, net.IP(a.AsSlice()))
		}
		if set.FailOpen && len(addrs) > 0 {
			v.ede = int(dns.ExtendedErrorCodeOther)
		}
	}
	var out []dns.RR
	for _, rr := range at {
		if rr.Header().Rrtype != qtype {
			continue
		}
		hinted := dns.Copy(rr)
		hinted.Header().Ttl = o.ttl(s)
		if of := svcbOf(hinted); takes(rr) {
			if len(v4) > 0 {
				of.Value = append(of.Value, &dns.SVCBIPv4Hint{Hint: v4})
			}
			if len(v6) > 0 {
				of.Value = append(of.Value, &dns.SVCBIPv6Hint{Hint: v6})
			}
		}
		out = append(out, hinted)
	}
	return out
}

// svcbOf is what SVCB and HTTPS records have in common; nil for others.
func svcbOf(rr dns.RR) *dns.SVCB {
	switch rr := rr.(type) {
	case *dns.SVCB:
		return rr
	case *dns.HTTPS:
		return &rr.SVCB
	}
	return nil
}

// inKeyOrder sorts the parameters, as they are on the wire (RFC 9460 section 2.2).
func inKeyOrder(rr dns.RR) dns.RR {
	if svcbOf(rr) == nil {
		return rr
	}
	rr = dns.Copy(rr)
	slices.SortFunc(svcbOf(rr).Value, func(a, b dns.SVCBKeyValue) int { return int(a.Key()) - int(b.Key()) })
	return rr
}
