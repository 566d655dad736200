package probe

import (
	"fmt"
	"net/netip"
	"slices"
)

// policy says which addresses may be dialled (C12): people write targets into
// a spec, and the director must not become their way into its own host or its
// cloud's metadata service.
type policy struct {
	allow []netip.Prefix
}

// Permit says why an address may not be probed, or sent clients to where it was found
// out and not written by a person; nil = it may. Allow is Options.Allow.
func Permit(allow []netip.Prefix) func(netip.Addr) error {
	return policy{allow: slices.Clone(allow)}.check
}

// check says why an address may not be probed, or nil.
func (p policy) check(addr netip.Addr) error {
	addr = addr.Unmap()
	plain := addr.WithZone("")
	for _, prefix := range p.allow {
		if prefix.Contains(plain) {
			return nil
		}
	}
	if why := refused(addr); why != "" {
		return fmt.Errorf("%s is not probed: %s (probe.allow in the director's settings permits it)", addr, why)
	}
	if inner, ok := embedded(addr); ok && inner != addr {
		if err := p.check(inner); err != nil {
			return fmt.Errorf("%s leads to %w", addr, err)
		}
	}
	return nil
}

// localTranslation is for NAT64 with a prefix length of its owner's choice, so
// that nobody else can tell where in an address the IPv4 one is.
var localTranslation = netip.MustParsePrefix("64:ff9b:1::/48")

func refused(addr netip.Addr) string {
	switch {
	case !addr.IsValid() || addr.IsUnspecified():
		return "unspecified address"
	case addr.IsLoopback():
		return "loopback"
	case isMetadata(addr):
		return "cloud metadata"
	case addr.IsLinkLocalUnicast() || addr.Zone() != "":
		return "link-local"
	case addr.IsMulticast():
		return "multicast"
	case addr.Is4() && addr.As4()[0] == 0:
		return "unspecified address"
	case addr.Is4() && addr.As4()[0] >= 240:
		return "reserved or broadcast"
	case localTranslation.Contains(addr):
		return "address of a local translator (RFC 8215), which hides where it leads"
	}
	return ""
}

// isMetadata knows the addresses outside link-local, too, at which the large
// clouds hand credentials to whoever asks from inside.
func isMetadata(addr netip.Addr) bool {
	switch addr.String() {
	case "169.254.169.254", "169.254.170.2", "169.254.170.23", // most clouds; ECS and EKS credentials
		"fd00:ec2::254", "fd00:ec2::23", // AWS over IPv6
		"fd20:ce::254",       // Google over IPv6
		"fd00:c1::a9fe:a9fe", // Oracle over IPv6
		"fd00:42::42",        // Scaleway over IPv6
		"100.100.100.200",    // Alibaba
		"168.63.129.16",      // Azure's host agent
		"192.0.0.192":        // Oracle, classic
		return true
	}
	return false
}

// embedded gives the IPv4 address that a translated or tunnelled IPv6 address
// leads to: else the checks above could be walked around through a gateway.
func embedded(addr netip.Addr) (netip.Addr, bool) {
	if !addr.Is6() {
		return netip.Addr{}, false
	}
	b := addr.As16()
	switch {
	case [12]byte(b[:12]) == [12]byte{0, 0x64, 0xff, 0x9b}: // RFC 6052
		return netip.AddrFrom4([4]byte(b[12:])), true
	case [12]byte(b[:12]) == [12]byte{8: 0xff, 9: 0xff}: // IPv4-translated, RFC 7915
		return netip.AddrFrom4([4]byte(b[12:])), true
	case [12]byte(b[:12]) == [12]byte{}: // IPv4-compatible, RFC 4291
		return netip.AddrFrom4([4]byte(b[12:])), true
	case b[0] == 0x20 && b[1] == 0x02: // 6to4, RFC 3056
		return netip.AddrFrom4([4]byte(b[2:6])), true
	case [4]byte(b[:4]) == [4]byte{0x20, 0x01}: // Teredo, RFC 4380: the client's, inverted
		return netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}), true
	}
	return netip.Addr{}, false
}
