package answer

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// TestUnresolved: of a name whose addresses could not be found out yet, the answer is
// SERVFAIL with EDE 22 (RFC 8914 section 4.23): a resolver asks another director, and
// remembers no denial, as it would of NODATA (RFC 2308 section 5; S14). Not where there is
// something to answer, and not for another type.
func TestUnresolved(t *testing.T) {
	site := Site{Cluster: "fra", Domain: "fra", Weight: 1, Addrs: []netip.Addr{netip.MustParseAddr("2001:db8::1")}}
	table := compiled(t, func(o *Options) {
		o.Zones[0].Steered = append(o.Zones[0].Steered, Steered{
			Name: "lb.example.org.", Service: "lb", TTL: 20, Answers: 1,
			A: View{Sets: []Set{{Unresolved: true}}}, AAAA: View{Sets: []Set{{Unresolved: true, Sites: []Site{site}}}},
		})
	})
	for _, tc := range []struct {
		qtype   uint16
		rcode   int
		answers int
		soa     int
		ede     bool
	}{
		{dns.TypeA, dns.RcodeServerFailure, 0, 0, true},
		{dns.TypeAAAA, dns.RcodeSuccess, 1, 0, false},
		{dns.TypeTXT, dns.RcodeSuccess, 0, 1, false},
	} {
		got := ask1(t, table, "lb.example.org.", tc.qtype, nil)
		found := false
		for _, o := range got.IsEdns0().Option {
			e, ok := o.(*dns.EDNS0_EDE)
			found = found || ok && e.InfoCode == dns.ExtendedErrorCodeNoReachableAuthority
		}
		if got.Rcode != tc.rcode || len(got.Answer) != tc.answers || found != tc.ede || len(got.Ns) != tc.soa {
			t.Errorf("%s: got %v", dns.TypeToString[tc.qtype], got)
		}
	}
}
