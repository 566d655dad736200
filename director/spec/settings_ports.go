package spec

import (
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// listener is an address that the settings have a part of a director listen at.
type listener struct {
	path string // in the settings
	what string // whose it is
	addr netip.AddrPort
}

// listeners lists where a director and the etcd beside it listen, by address and port.
func (s *Settings) listeners() (out []listener) {
	add := func(path, what, hostPort string) {
		if a, err := netip.ParseAddrPort(hostPort); err == nil && a.Port() != 0 {
			out = append(out, listener{path, what, netip.AddrPortFrom(a.Addr().Unmap(), a.Port())})
		}
	}
	for i, l := range s.DNS.Listen {
		add(item("dns.listen", i), "DNS", l)
	}
	for i, l := range s.DNS.TLS.Listen {
		add(item("dns.tls.listen", i), "DNS over TLS", l)
	}
	add("gossip.listen", "gossip", s.Gossip.Listen)
	add("api.listen", "the API", s.API.Listen)
	m := s.Etcd.Member
	host := func(u string) string {
		if parsed, err := url.Parse(u); err == nil {
			return parsed.Host
		}
		return ""
	}
	add("etcd.member.listen", "etcd, for directors,", host(m.Listen))
	if m.PeerListen != "" {
		add("etcd.member.peerListen", "etcd, for its members,", host(m.PeerListen))
		return out
	}
	for i, text := range m.Cluster {
		if peer, ok := strings.CutPrefix(text, m.Name+"="); ok && m.Name != "" {
			at := host(peer)
			if h, port, err := net.SplitHostPort(at); err == nil && net.ParseIP(h) == nil {
				at = "0.0.0.0:" + port // a name: `divert etcd` binds every address
			}
			add(item("etcd.member.cluster", i), "etcd, for its members,", at)
		}
	}
	return out
}

// checkPorts refuses one port for two parts of a director: each of them takes TCP there, and
// whichever came second could not start.
func (r *settingsReader) checkPorts(fail func(path, message, remedy string)) {
	all := r.s.listeners()
	for i, b := range all {
		for _, a := range all[:i] {
			if a.what != b.what && a.addr.Port() == b.addr.Port() && overlap(a.addr.Addr(), b.addr.Addr()) && a.what+b.what != "DNSDNS over TLS" { // checkStreams says that
				fail(b.path, b.addr.String()+" is where "+strings.TrimSuffix(a.what, ",")+" listens, too ("+a.path+" "+a.addr.String()+")", "give one of the two another port")
				break
			}
		}
	}
}

// overlap tells whether a port cannot be bound at both: they are one address, or one of them
// is every address of its family.
func overlap(a, b netip.Addr) bool {
	return a == b || a.Is4() == b.Is4() && (a.IsUnspecified() || b.IsUnspecified())
}
