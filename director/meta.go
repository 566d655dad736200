package director

import (
	"net/netip"

	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
)

// meta is what this director says of itself.
func (d *Director) meta() gossip.Meta {
	m := gossip.Meta{Fleet: d.fleet(), Site: d.settings.Site, HasPlan: d.horizon.current() != nil, Reads: plan.Reader}
	if d.dns != nil && d.links != nil {
		m.DNS, m.Geo = reachable(d.dns.Addrs(), d.links), d.geoHash()
	}
	return m
}

// readers says what the directors that gossip now can read of plans.
func (d *Director) readers() map[string]uint32 {
	out := map[string]uint32{d.settings.Name: plan.Reader}
	for _, m := range d.links.Members() {
		if m.Name != d.settings.Name {
			out[m.Name] = m.Meta.Reads
		}
	}
	return out
}

// reachable picks the address at which peers ask this director's DNS: the one
// that it gossips from where it listens there, by itself or by a wildcard, else
// one of that family, else any. Loopback is each peer's own, who would take its
// own answers for this director's: it serves in a fleet on loopback only.
func reachable(addrs []netip.AddrPort, l links) string {
	gossip := l.Advertised().Addr()
	best, rank := "", 0
	for _, a := range addrs {
		ip, r := a.Addr(), 1
		family := ip.Is4() == gossip.Is4()
		switch {
		case ip.IsUnspecified() && family, ip == gossip:
			ip, r = gossip, 3
		case ip.IsUnspecified(), ip.IsLoopback() && !gossip.IsLoopback(), ip.IsLinkLocalUnicast():
			continue
		case family:
			r = 2
		}
		if r > rank {
			best, rank = netip.AddrPortFrom(ip, a.Port()).String(), r
		}
	}
	return best
}
