package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/chaos/local"
)

// zoneText gives the zone's TXT record as a director answers it.
func (r *rig) zoneText(i int) (string, error) {
	m := new(dns.Msg)
	m.SetQuestion("example.org.", dns.TypeTXT)
	c := &dns.Client{Timeout: time.Second}
	reply, _, err := c.Exchange(m, r.DNS(i))
	if err != nil {
		return "", err
	}
	if len(reply.Answer) == 1 {
		if txt, ok := reply.Answer[0].(*dns.TXT); ok {
			return strings.Join(txt.Txt, ""), nil
		}
	}
	return "", fmt.Errorf("%s answers the zone's TXT with %s and %v", local.Name(i), dns.RcodeToString[reply.Rcode], reply.Answer)
}

// text checks the zone's TXT record.
func (r *rig) text(i int, want string) error {
	got, err := r.zoneText(i)
	if err == nil && got != want {
		err = fmt.Errorf("%s says %q, want %q", local.Name(i), got, want)
	}
	return err
}

// near checks what a client of a subnet is told; any of the sites will do.
func (r *rig) near(i int, host, subnet string, want ...string) error {
	reply, err := r.reply(i, host, subnet)
	if err != nil {
		return err
	}
	if len(reply.Answer) == 0 {
		return fmt.Errorf("%s for %s: %s and no answer", host, subnet, dns.RcodeToString[reply.Rcode])
	}
	got := r.siteOf(reply.Answer[0].(*dns.A).A.String())
	if slices.Contains(want, got) {
		return nil
	}
	return fmt.Errorf("%s for %s: got %s, want %v", host, subnet, got, want)
}

// reply asks the i-th director, as a client of a subnet if one is given.
func (r *rig) reply(i int, host string, subnet string) (*dns.Msg, error) {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(host), dns.TypeA)
	if subnet != "" {
		p := netip.MustParsePrefix(subnet)
		o := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
		o.SetUDPSize(1232)
		o.Option = append(o.Option, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(p.Bits()), Address: p.Addr().AsSlice()})
		m.Extra = append(m.Extra, o)
	}
	c := &dns.Client{Timeout: time.Second}
	reply, _, err := c.Exchange(m, r.DNS(i))
	return reply, err
}

// sites gives the names of the sites that the i-th director answers with.
func (r *rig) sites(i int, host string) (string, error) {
	reply, err := r.reply(i, host, "")
	if err != nil {
		return "", err
	}
	if reply.Rcode != dns.RcodeSuccess || len(reply.Answer) == 0 {
		return "", fmt.Errorf("%s of %s: %s with %d records", host, local.Name(i), dns.RcodeToString[reply.Rcode], len(reply.Answer))
	}
	var out []string
	for _, rr := range reply.Answer {
		if a, ok := rr.(*dns.A); ok {
			out = append(out, r.siteOf(a.A.String()))
		}
	}
	return strings.Join(out, " "), nil
}

func (r *rig) siteOf(addr string) string {
	for _, s := range r.Sites() {
		if r.Cluster(s.Name).String() == addr {
			return s.Name
		}
	}
	return addr
}

// all checks that every director answers with a site.
func (r *rig) all(host, want string) func() error {
	return func() error {
		for i := 1; i <= r.Directors(); i++ {
			if err := r.answers(i, host, want)(); err != nil {
				return err
			}
		}
		return nil
	}
}

// answers checks that one director answers with a site.
func (r *rig) answers(i int, host, want string) func() error {
	return func() error {
		got, err := r.sites(i, host)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%s of %s: got %s, want %s", host, local.Name(i), got, want)
		}
		return nil
	}
}
