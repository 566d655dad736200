package spec

import (
	"encoding/base64"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

const (
	maxHost  = 253 // octets of a name in text, RFC 1035 section 2.3.4
	maxLabel = 63
)

// parseHost reads a DNS name: lower case, without the last dot. It reports
// what is wrong, "" for nothing.
func parseHost(s string) (host, wrong string) {
	host = strings.ToLower(strings.TrimSuffix(s, "."))
	switch {
	case host == "":
		return "", "is no DNS name"
	case len(host) > maxHost:
		return "", "is longer than 253 octets"
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return "", "is an address, not a name"
	}
	for label := range strings.SplitSeq(host, ".") {
		switch {
		case label == "":
			return "", "has an empty label"
		case len(label) > maxLabel:
			return "", "has a label longer than 63 octets"
		case !isLabel(label, true):
			return "", "is no DNS name: letters, digits and hyphens only"
		}
	}
	return host, ""
}

// isLabel reports whether s is a DNS label of letters (lower case), digits and
// inner hyphens; underscores where the caller allows them.
func isLabel(s string, underscore bool) bool {
	if s == "" || len(s) > maxLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, b := range []byte(s) {
		switch {
		case 'a' <= b && b <= 'z', '0' <= b && b <= '9', b == '-', b == '_' && underscore:
		default:
			return false
		}
	}
	return true
}

// host reads a DNS name.
func (c cursor) host() string {
	if !c.is(kindString, "a DNS name") {
		return ""
	}
	host, wrong := parseHost(c.v.text)
	if wrong != "" {
		c.fail(quote(c.v.text)+" "+wrong, "write a name such as shop.example.org, in punycode where it is not ASCII")
	}
	return host
}

// serviceHost reads a DNS name that may be a wildcard.
func (c cursor) serviceHost() string {
	if !c.is(kindString, "a DNS name") {
		return ""
	}
	rest, wildcard := strings.CutPrefix(c.v.text, "*.")
	host, wrong := parseHost(rest)
	if wrong != "" {
		remedy := "write a name such as shop.example.org, in punycode where it is not ASCII"
		if strings.Contains(rest, "*") {
			remedy = "only the whole first label may be *, as in *.shop.example.org"
		}
		c.fail(quote(c.v.text)+" "+wrong, remedy)
		return ""
	}
	if wildcard {
		host = "*." + host
		if len(host) > maxHost {
			c.fail(quote(c.v.text)+" is longer than 253 octets", "shorten it")
			return ""
		}
	}
	return host
}

// endpointHostname reads the name of a load balancer: a host's (RFC 1123 section
// 2.1), which some resolver is to find.
func (c cursor) endpointHostname() string {
	if !c.is(kindString, "a hostname") {
		return ""
	}
	host, wrong := parseHost(c.v.text)
	remedy := "write a name such as lb-1.ams.example.net, in punycode where it is not ASCII"
	labels := strings.Split(host, ".")
	switch {
	case wrong == "is an address, not a name":
		remedy = "write addresses: [" + strings.TrimSuffix(c.v.text, ".") + "]"
	case wrong != "":
	case strings.Contains(host, "_"):
		wrong = "is no hostname: letters, digits and hyphens only"
	case len(labels) == 1:
		wrong, remedy = "is a single label, which means something else on each machine", "write it in full, such as lb-1.ams.example.net"
	case strings.Trim(labels[len(labels)-1], "0123456789") == "":
		wrong = "ends in a number, as addresses do"
	}
	if wrong != "" {
		c.fail(quote(c.v.text)+" "+wrong, remedy)
		return ""
	}
	return host
}

// label reads a name that is one DNS label.
func (c cursor) label() string {
	if !c.is(kindString, "a name") {
		return ""
	}
	if !isLabel(c.v.text, false) {
		c.fail(quote(c.v.text)+" is no name", "write at most 63 lower-case letters, digits and inner hyphens")
		return ""
	}
	return c.v.text
}

// dotted reads a name made of DNS labels.
func (c cursor) dotted() string {
	if !c.is(kindString, "a name") {
		return ""
	}
	if !isDotted(c.v.text) {
		c.fail(quote(c.v.text)+" is no name", "write lower-case letters, digits, inner hyphens and dots, at most 253")
		return ""
	}
	return c.v.text
}

func isDotted(s string) bool {
	if len(s) > maxHost {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(label, false) {
			return false
		}
	}
	return true
}

// word reads free text without spaces that is used in scopes such as
// domain/fra-dc1.
func (c cursor) word() string {
	if !c.is(kindString, "a name") {
		return ""
	}
	if !isWord(c.v.text) {
		c.fail(quote(c.v.text)+" is no name", "write at most 63 letters, digits, hyphens, dots and underscores")
		return ""
	}
	return c.v.text
}

func isWord(s string) bool {
	if s == "" || len(s) > 63 {
		return false
	}
	for _, b := range []byte(s) {
		switch {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9', b == '-', b == '.', b == '_':
		default:
			return false
		}
	}
	return true
}

// address reads one address that a client can be sent to.
func (c cursor) address() (netip.Addr, bool) {
	if !c.is(kindString, "an IP address") {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(c.v.text)
	broadcast := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	switch {
	case err != nil:
		remedy := "write one such as 192.0.2.10 or 2001:db8::10"
		if _, wrong := parseHost(c.v.text); wrong == "" && strings.ContainsAny(c.v.text, "ghijklmnopqrstuvwxyz") {
			remedy = "write the address, not a name"
		}
		c.fail(quote(c.v.text)+" is no IP address", remedy)
	case a.Zone() != "":
		c.fail(quote(c.v.text)+" has a zone, which means something on one machine only", "write it without %"+a.Zone())
	case a.Is4In6():
		c.fail(quote(c.v.text)+" is an IPv4 address in IPv6 clothes", "write "+a.Unmap().String())
	case a.IsUnspecified(), a.IsMulticast(), a == broadcast, a.Is4() && a.As4()[0] == 0: // RFC 1122 section 3.2.1.3
		c.fail(quote(c.v.text)+" is no address that a client can connect to", "write a unicast address")
	default:
		return a, true
	}
	return netip.Addr{}, false
}

// prefix reads a network without host bits.
func (c cursor) prefix() (netip.Prefix, bool) {
	if !c.is(kindString, "a prefix") {
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(c.v.text)
	if err != nil {
		remedy := "write one such as 198.51.100.0/24"
		if a, addrErr := netip.ParseAddr(c.v.text); addrErr == nil {
			remedy = "write " + a.WithZone("").String() + "/" + strconv.Itoa(a.BitLen())
		}
		c.fail(quote(c.v.text)+" is no prefix", remedy)
		return netip.Prefix{}, false
	}
	switch {
	case p.Addr().Is4In6():
		c.fail(quote(c.v.text)+" is IPv4 in IPv6 clothes", "write the IPv4 prefix: clients are taken as IPv4")
	case p != p.Masked():
		c.fail(quote(c.v.text)+" has bits past its length", "write "+p.Masked().String())
	default:
		return p, true
	}
	return netip.Prefix{}, false
}

const keyPrefix = "ed25519:"

// key reads a director's public key.
func (c cursor) key() []byte {
	if !c.is(kindString, "a key such as ed25519:…") {
		return nil
	}
	text, found := strings.CutPrefix(c.v.text, keyPrefix)
	if found {
		for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
			if key, err := enc.DecodeString(text); err == nil && len(key) == 32 {
				return key
			}
		}
	}
	c.fail(quote(c.v.text)+" is no Ed25519 public key", "write ed25519: and 32 octets in base64, as `divert director list` prints them")
	return nil
}

// FormatKey writes a director's public key as a Fleet's roster has it.
func FormatKey(key []byte) string {
	if len(key) == 0 {
		return ""
	}
	return keyPrefix + base64.StdEncoding.EncodeToString(key)
}

// splitHostPort reads "host:port" or, with a default port, "host".
func splitHostPort(s, port string) (host, gotPort string, ok bool) {
	host, gotPort, err := net.SplitHostPort(s)
	if err != nil {
		if port == "" {
			return "", "", false
		}
		if strings.Contains(s, ":") {
			a, addrErr := netip.ParseAddr(strings.Trim(s, "[]"))
			if addrErr != nil {
				return "", "", false
			}
			return a.String(), port, true
		}
		host, gotPort = s, port
	}
	n, err := strconv.ParseUint(gotPort, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != gotPort {
		return "", "", false
	}
	return host, gotPort, true
}
