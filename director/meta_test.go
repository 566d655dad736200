package director

import (
	"net/netip"
	"testing"
)

// at is links that are told of at one address.
type at struct {
	mute
	addr string
}

func (a at) Advertised() netip.AddrPort { return netip.MustParseAddrPort(a.addr) }

// TestReachable: peers are told to ask this director's DNS where they reach it.
// A loopback address is their own, and they would take their own answers for
// this director's (S6).
func TestReachable(t *testing.T) {
	tests := []struct {
		name   string
		gossip string
		listen []string
		want   string
	}{
		{"witness", "192.0.2.1:7946", nil, ""},
		{"one address", "192.0.2.1:7946", []string{"192.0.2.1:53"}, "192.0.2.1:53"},
		{"loopback first", "192.0.2.1:7946", []string{"127.0.0.1:53", "192.0.2.1:53"}, "192.0.2.1:53"},
		{"loopback and a wildcard", "192.0.2.1:7946", []string{"127.0.0.1:5300", "0.0.0.0:53"}, "192.0.2.1:53"},
		{"loopback alone", "192.0.2.1:7946", []string{"127.0.0.1:5300", "[::1]:5300"}, ""},
		{"loopback in a fleet on loopback", "127.0.0.2:7946", []string{"127.0.0.2:5300"}, "127.0.0.2:5300"},
		{"wildcards", "192.0.2.1:7946", []string{"[::]:53", "0.0.0.0:53"}, "192.0.2.1:53"},
		{"the other family's wildcard", "192.0.2.1:7946", []string{"[::]:53"}, ""},
		{"the family that they gossip in", "192.0.2.1:7946", []string{"[2001:db8::1]:53", "192.0.2.9:53"}, "192.0.2.9:53"},
		{"the other family alone", "192.0.2.1:7946", []string{"[2001:db8::1]:53"}, "[2001:db8::1]:53"},
		{"where it gossips before elsewhere", "192.0.2.1:7946", []string{"198.51.100.1:53", "192.0.2.1:53"}, "192.0.2.1:53"},
		{"link-local", "192.0.2.1:7946", []string{"[fe80::1]:53"}, ""},
	}
	for _, tc := range tests {
		var listen []netip.AddrPort
		for _, l := range tc.listen {
			listen = append(listen, netip.MustParseAddrPort(l))
		}
		if got := reachable(listen, at{addr: tc.gossip}); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}
