package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
)

// What every server is given: 1,000 names of ten services, each on four sites,
// steered by 200 client prefixes. The prefixes lie far apart and are of many
// lengths, so that none of them can be merged with another.
const (
	zoneName   = "example.org"
	hosts      = 1000
	perService = 100
	services   = hosts / perService
	prefixes   = 200
	subnets    = 4096 // that queries carry
	ttl        = 20
)

var siteNames = [...]string{"fra", "nyc", "sin", "syd"}

// homeSite is where clients on loopback are sent, which is not the default.
const homeSite = 2

// world is the names and the prefixes.
type world struct {
	nets    []region
	subnets []subnet
}

// region sends its clients to a site.
type region struct {
	prefix netip.Prefix
	site   int
}

// subnet is a client subnet of a query, a /24; site is -1 where no region holds it.
type subnet struct {
	octets [3]byte
	site   int
}

// newWorld makes the same world each time.
func newWorld() *world {
	w := &world{}
	random := rand.New(rand.NewPCG(1, 2))
	for step := uint32(0); len(w.nets) < prefixes-1; step++ {
		at := 0x02000000 + step*0x01080000
		addr := netip.AddrFrom4([4]byte{byte(at >> 24), byte(at >> 16), byte(random.UintN(256)), 0})
		if at>>24 > 222 {
			panic("bench: too many prefixes") // a constant above is wrong
		}
		if special(addr) {
			continue
		}
		prefix := netip.PrefixFrom(addr, 13+len(w.nets)%12).Masked()
		w.nets = append(w.nets, region{prefix, len(w.nets) % len(siteNames)})
	}
	w.nets = append(w.nets, region{netip.MustParsePrefix("127.0.0.0/8"), homeSite})
	for len(w.subnets) < subnets {
		// Half of them anywhere, half in the nets.
		addr := netip.AddrFrom4([4]byte{byte(1 + random.UintN(222)), byte(random.UintN(256)), byte(random.UintN(256)), 0})
		if len(w.subnets)%2 == 0 {
			n := w.nets[random.IntN(prefixes-1)].prefix
			base := n.Addr().As4()
			free := 24 - n.Bits()
			more := uint32(random.UintN(1<<free)) << 8
			addr = netip.AddrFrom4([4]byte{base[0] | byte(more>>24), base[1] | byte(more>>16), base[2] | byte(more>>8), 0})
		}
		if special(addr) {
			continue
		}
		b := addr.As4()
		w.subnets = append(w.subnets, subnet{[3]byte(b[:3]), w.site(addr)})
	}
	return w
}

// special tells of addresses that mean something else to one server or another.
func special(a netip.Addr) bool {
	b := a.As4()
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || b[0] == 100 && b[1]&0xc0 == 64 || b[0] == 192 && b[1] == 0
}

// site finds the region that holds an address, -1 for none. They do not overlap.
func (w *world) site(a netip.Addr) int {
	for _, n := range w.nets {
		if n.prefix.Contains(a) {
			return n.site
		}
	}
	return -1
}

func host(i int) string { return fmt.Sprintf("n%04d", i) }

func fullHost(i int) string { return host(i) + "." + zoneName }

func serviceOf(host int) int { return host / perService }

// address is that of a service at a site, out of RFC 5737.
func address(service, site int) netip.Addr {
	base := [len(siteNames)][4]byte{{192, 0, 2, 1}, {198, 51, 100, 1}, {203, 0, 113, 1}, {192, 0, 2, 1 + services}}[site]
	base[3] += byte(service)
	return netip.AddrFrom4(base)
}
