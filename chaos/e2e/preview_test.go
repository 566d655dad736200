package e2e

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/chaos/local"
	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
)

// TestPreviewIsTrue: what a preview says of the answers that change, in per cent by region
// and from where to where, is what clients are told before and after, as counted over 20,000
// networks of all IPv4 addresses, to within 1 % of the answers (SEMANTICS section 4, Preview).
func TestPreviewIsTrue(t *testing.T) {
	long(t)
	const n = 20000
	// Where a client is, is asked of the fleet, too: of a service whose sites are the places.
	places := map[string]string{"nyc": "EU", "sin": "elsewhere"} // fra: its place is unknown
	r := start(t, local.Options{Spec: func(f *local.Fleet) string {
		where := strings.Replace(local.ServiceSpec(f, "where", "geo"), "order: [fra, nyc, sin]}", `order: [fra, nyc, sin], regions: [
    {clients: {continents: [EU]}, order: [nyc]}, {clients: {continents: [AF, AN, AS, NA, OC, SA]}, order: [sin]}]}`, 1)
		return local.DemoSpec(f) + where
	}})
	r.settle()
	hosts := []string{"shop.example.org", "pay.example.org", "api.example.org", "where.example.org"}
	networks := sampled(n)
	before := r.told(1, hosts, networks)
	region := make([]string, n)
	known := map[string]int{}
	for i, site := range before["where.example.org"] {
		region[i] = places[site]
		known[region[i]]++
	}
	if known["EU"] < n/20 || known["elsewhere"] < n/3 {
		t.Fatalf("of %d networks there are in each region: %v", n, known)
	}

	scope := r.foretold("drain", "cluster/fra", "--dry-run", "-o", "json")
	r.must(1, "drain", "cluster/fra", "--now", "--reason", "INC-41")
	r.compare("a drain", scope, hosts, before, r.told(1, hosts, networks), region)
	r.must(1, "undrain", "cluster/fra", "--reason", "over")

	text := local.ServiceSpec(r.Fleet, "api", "weighted", 20, 50, 40) + local.ServiceSpec(r.Fleet, "shop", "geo") + local.ServiceSpec(r.Fleet, "pay", "failover")
	text = strings.ReplaceAll(text, "policy: geo, order: [fra, nyc, sin]", "policy: geo, order: [fra, nyc, sin], regions: [{clients: {continents: [EU]}, order: [sin]}]")
	file := filepath.Join(t.TempDir(), "new.yaml")
	must(t, os.WriteFile(file, []byte(text), 0o600))
	spec := r.foretold("apply", "-f", file, "--dry-run", "-o", "json")
	r.must(1, "apply", "-f", file, "--reason", "INC-42")
	r.compare("a new spec", spec, hosts, before, r.told(1, hosts, networks), region)
}

// foretold runs a command that changes nothing, and gives what it says would change.
func (r *rig) foretold(args ...string) core.Preview {
	r.t.Helper()
	return decode[api.Outcome](r.t, r.must(1, args...)).Preview
}

// compare holds a preview against what was counted.
func (r *rig) compare(what string, p core.Preview, hosts []string, before, after map[string][]string, region []string) {
	r.t.Helper()
	counted, of := map[string]map[string]float64{}, map[string]float64{}
	for _, host := range hosts {
		for i, from := range before[host] {
			regions := []string{"everywhere", region[i]}
			if region[i] == "" {
				regions = []string{"unknown place"}
			}
			for _, where := range regions {
				of[where]++
				if to := after[host][i]; from != to {
					if counted[where] == nil {
						counted[where] = map[string]float64{}
					}
					counted[where][from+" -> "+to]++
				}
			}
		}
	}
	for _, where := range []string{"everywhere", "EU", "unknown place"} {
		if of[where] < 2000 {
			r.t.Logf("%s: only %.0f answers in all", where, of[where])
			continue // too few to tell
		}
		said, total := map[string]float64{}, 0.0
		for _, s := range p.Shifts {
			if s.Region == where && s.Type == "A" {
				total = s.Changed
				for _, m := range s.Moves {
					said[m.From+" -> "+m.To] = m.Percent
				}
			}
		}
		sum := 0.0
		for way, n := range counted[where] {
			n = 100 * n / of[where]
			sum += n
			if math.Abs(n-said[way]) > 1 {
				r.t.Errorf("%s, %s, %s: counted %.2f %%, foretold %.2f %%", what, where, way, n, said[way])
			}
			r.t.Logf("%s, %s, %s: counted %.2f %%, foretold %.2f %%", what, where, way, n, said[way])
			delete(said, way)
		}
		for way, n := range said {
			if n > 1 {
				r.t.Errorf("%s, %s, %s: counted nothing, foretold %.2f %%", what, where, way, n)
			}
		}
		if math.Abs(sum-total) > 1 {
			r.t.Errorf("%s, %s: counted %.2f %%, foretold %.2f %%", what, where, sum, total)
		}
	}
}

// sampled draws networks evenly from all of IPv4 below 224.0.0.0, the same ones each time.
// Who comes from a private one is answered by the resolver's address, and so is no sample.
func sampled(n int) []netip.Prefix {
	draw := rand.New(rand.NewPCG(5, 4))
	const first, all = 1 << 16, 223 << 16 // in /24s
	var out []netip.Prefix
	for i := 0; len(out) < n; i++ {
		k := uint32(first + i%n*(all/n) + draw.IntN(all/n))
		a := netip.AddrFrom4([4]byte{byte(k >> 16), byte(k >> 8), byte(k)})
		if !a.IsPrivate() && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !netip.MustParsePrefix("100.64.0.0/10").Contains(a) {
			out = append(out, netip.PrefixFrom(a, 24))
		}
	}
	return out
}

// told gives the site that each network is sent to, for each host, by one director: many
// questions under way at once, and again what got no answer.
func (r *rig) told(director int, hosts []string, networks []netip.Prefix) map[string][]string {
	r.t.Helper()
	conn, err := net.Dial("udp", r.DNS(director))
	must(r.t, err)
	defer conn.Close()
	out := map[string][]string{}
	buf := make([]byte, 4096)
	for _, host := range hosts {
		sites := make([]string, len(networks))
		for begin := 0; begin < len(networks); begin += 64 {
			part := networks[begin:min(begin+64, len(networks))]
			got := sites[begin:][:len(part)]
			for left, tries := len(part), 0; left > 0; tries++ {
				if tries == 20 {
					r.t.Fatalf("%d questions for %s get no answer", left, host)
				}
				for i, network := range part {
					if got[i] == "" {
						_, err := conn.Write(question(r.t, host, network, uint16(begin+i)))
						must(r.t, err)
					}
				}
				for left > 0 {
					must(r.t, conn.SetReadDeadline(time.Now().Add(time.Second)))
					size, err := conn.Read(buf)
					if errors.Is(err, os.ErrDeadlineExceeded) {
						break
					}
					must(r.t, err)
					m := new(dns.Msg)
					must(r.t, m.Unpack(buf[:size]))
					i := int(m.Id) - begin
					if i < 0 || i >= len(part) || !strings.EqualFold(m.Question[0].Name, dns.Fqdn(host)) || got[i] != "" {
						continue // a late one
					}
					if len(m.Answer) != 1 {
						r.t.Fatalf("%s for %s: %s", host, part[i], fmt.Sprint(m.Answer))
					}
					got[i] = r.siteOf(m.Answer[0].(*dns.A).A.String())
					left--
				}
			}
		}
		out[host] = sites
	}
	return out
}

// question packs one for a client's network (RFC 7871 section 6).
func question(t *testing.T, host string, network netip.Prefix, id uint16) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(host), dns.TypeA)
	m.Id = id
	o := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	o.SetUDPSize(1232)
	o.Option = append(o.Option, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(network.Bits()), Address: network.Addr().AsSlice()})
	m.Extra = append(m.Extra, o)
	b, err := m.Pack()
	must(t, err)
	return b
}
