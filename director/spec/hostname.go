package spec

import (
	"crypto/sha256"
	"net/netip"
	"strings"
)

// MaxHostnames is how many hostnames endpoints may have in all.
const MaxHostnames = 10_000

// standIns is what stand-ins are of: the prefix for discarding (RFC 6666), where no
// client can be sent and nothing answers.
var standIns = netip.MustParsePrefix("100::/64")

// StandIn gives the address that stands for a hostname wherever one is watched,
// voted on or chosen: subjects, certificates and plans know addresses alone, and
// what a hostname resolves to is another thing for each director and hour. It is
// 100::/64 with the first 64 bits of the SHA-256 of the name in lower case, without
// a last dot; a Set has no two of one (see checkStandIns). It is never probed, and
// never shown: Set.NameOf gives the name.
func StandIn(hostname string) netip.Addr {
	sum := sha256.Sum256([]byte(strings.ToLower(strings.TrimSuffix(hostname, "."))))
	out := standIns.Addr().As16()
	copy(out[8:], sum[:8])
	return netip.AddrFrom16(out)
}

// IsStandIn tells whether an address stands for a hostname.
func IsStandIn(a netip.Addr) bool { return standIns.Contains(a) }

// Watched gives the addresses that an endpoint is watched, decided and chosen by:
// its own, or the one that stands for its hostname, which counts for both families.
func (e *Endpoint) Watched() []netip.Addr {
	if e.Hostname == "" {
		return e.Addresses
	}
	return []netip.Addr{StandIn(e.Hostname)}
}

// Hostname gives the hostname that an address stands for, "" where it is an address
// itself.
func (s *Set) Hostname(a netip.Addr) string {
	if s == nil {
		return ""
	}
	return s.Hostnames[a]
}

// NameOf shows an address to people: as the hostname that it stands for, if any.
func (s *Set) NameOf(a netip.Addr) string {
	if name := s.Hostname(a); name != "" {
		return name
	}
	return a.String()
}

// Flattened tells whether hostnames of the service stand in its answers as the
// addresses that they resolve to.
func (g *GlobalService) Flattened() bool {
	if g.CNAME {
		return false
	}
	for i := range g.Endpoints {
		if g.Endpoints[i].Hostname != "" {
			return true
		}
	}
	return false
}

// HasHostnames tells whether the spec says anything of hostnames: a director that
// knows none of them must not read it.
func (s *Set) HasHostnames() bool {
	if len(s.Hostnames) > 0 {
		return true
	}
	for _, g := range s.Services {
		if g.Alias {
			return true
		}
	}
	return false
}
