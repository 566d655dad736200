package answer

import (
	"net/netip"
	"slices"

	"github.com/miekg/dns"
)

// alias answers with the CNAME of the site that A picks, whatever is asked: as if
// each target were one address.
func (o *oracle) alias(v *verdict, z *Zone, s *Steered, name string, resolver, subnet netip.Addr) {
	if len(s.A.Sets) == 0 {
		v.ns = o.negative(z)
		return
	}
	v.dependsOnTheClient = true
	as := *s
	as.Answers, as.A.Sets = 1, slices.Clone(s.A.Sets)
	var targets []string
	for i := range as.A.Sets {
		sites := slices.Clone(as.A.Sets[i].Sites)
		for j := range sites {
			if sites[j].Target != "" {
				sites[j].Addrs = []netip.Addr{netip.AddrFrom4([4]byte{byte(len(targets) >> 8), byte(len(targets))})}
				targets = append(targets, sites[j].Target)
			}
		}
		as.A.Sets[i].Sites = sites
	}
	picks, set := o.picks(&as, &as.A, resolver, subnet)
	if set.FailOpen && len(picks) > 0 {
		v.ede = int(dns.ExtendedErrorCodeOther)
	}
	if len(picks) == 0 {
		if set.Unresolved {
			v.rcode, v.ede = dns.RcodeServerFailure, int(dns.ExtendedErrorCodeNoReachableAuthority)
			return
		}
		v.ns = o.negative(z)
		return
	}
	n := picks[0].As4()
	v.answer = append(v.answer, show1(&dns.CNAME{
		Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: o.ttl(s)}, Target: targets[int(n[0])<<8|int(n[1])],
	}))
}
