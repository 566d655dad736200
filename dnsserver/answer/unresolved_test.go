package answer

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// TestUnresolved: of a name whose addresses could not be found out yet, the answer is
// NODATA with EDE 22 (RFC 8914 section 4.23): never SERVFAIL or NXDOMAIN (S14), and not
// where there is something to answer.
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
		answers int
		ede     bool
	}{{dns.TypeA, 0, true}, {dns.TypeAAAA, 1, false}, {dns.TypeTXT, 0, false}} {
		got := ask1(t, table, "lb.example.org.", tc.qtype, nil)
		found := false
		for _, o := range got.IsEdns0().Option {
			e, ok := o.(*dns.EDNS0_EDE)
			found = found || ok && e.InfoCode == dns.ExtendedErrorCodeNoReachableAuthority
		}
		if got.Rcode != dns.RcodeSuccess || len(got.Answer) != tc.answers || found != tc.ede || (len(got.Ns) == 1) != (tc.answers == 0) {
			t.Errorf("%s: got %v", dns.TypeToString[tc.qtype], got)
		}
	}
}
