package director

import (
	"net/netip"

	"github.com/divertdns/divert/director/gossip"
)

// meta is what this director says of itself.
func (d *Director) meta() gossip.Meta {
	m := gossip.Meta{Fleet: d.fleet(), Site: d.settings.Site, HasPlan: d.horizon.current() != nil}
	if d.dns != nil && d.links != nil {
		m.DNS, m.Geo = reachable(d.dns.Addrs(), d.links), d.geoHash()
	}
	return m
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
