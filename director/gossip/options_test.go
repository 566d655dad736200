package gossip

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	good := func() Options { return Options{Identity: identity("d1", "", 1), Listen: "127.0.0.1:0"} }
	tests := []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"no key off loopback", func(o *Options) { o.Listen = "0.0.0.0:0"; o.Advertise = "192.0.2.1:7946" }, "needs a key: make one with"},
		{"advertising off loopback without key", func(o *Options) { o.Advertise = "192.0.2.1:7946" }, "needs a key"},
		{"short key", func(o *Options) { o.Secrets = [][]byte{make([]byte, 15)} }, "16, 24 or 32"},
		{"three keys", func(o *Options) { o.Secrets = make([][]byte, 3) }, "2 at most"},
		{"listen is a name", func(o *Options) { o.Listen = "example.org:7946" }, "is not ip:port"},
		{"advertise is a name", func(o *Options) { o.Advertise = "example.org:7946" }, "is not ip:port"},
		{"join without port", func(o *Options) { o.Join = []string{"example.org"} }, "is not host:port"},
		{"join with port 0", func(o *Options) { o.Join = []string{"example.org:0"} }, "is not host:port"},
		{"another's identity", func(o *Options) { o.Name = "d2" }, "has the identity of"},
		{"no boot", func(o *Options) { o.Identity.Boot = 0 }, "no key or no boot"},
		{"name of a 101 octets", func(o *Options) { o.Identity = identity(strings.Repeat("n", MaxName+1), "", 1) }, "use 1 to 100"},
		{"meta too long", func(o *Options) { o.Site = strings.Repeat("s", 500) }, "shorten its site"},
	}
	for _, tc := range tests {
		opts := good()
		tc.change(&opts)
		if _, err := New(opts); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
		}
	}
	// A port that is taken shows in New.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	opts := good()
	opts.Listen = l.Addr().String()
	if _, err := New(opts); err == nil {
		t.Error("a taken port was not noticed")
	}
}

func TestOnlyAddress(t *testing.T) {
	t.Parallel()
	own := func(prefixes ...string) (out []net.Addr) {
		for _, p := range prefixes {
			ip, n, err := net.ParseCIDR(p)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, &net.IPNet{IP: ip, Mask: n.Mask})
		}
		return out
	}
	tests := []struct {
		name string
		own  []net.Addr
		want string // "" is an error
	}{
		{"one", own("127.0.0.1/8", "192.0.2.7/24", "fe80::1/64"), "192.0.2.7"},
		{"IPv4 before IPv6", own("2001:db8::7/64", "192.0.2.7/24"), "192.0.2.7"},
		{"IPv6 alone", own("::1/128", "2001:db8::7/64"), "2001:db8::7"},
		{"several", own("192.0.2.7/24", "198.51.100.7/24"), ""},
		{"none", own("127.0.0.1/8"), ""},
	}
	for _, tc := range tests {
		got, err := only(tc.own)
		if tc.want == "" && err == nil || tc.want != "" && (err != nil || got != netip.MustParseAddr(tc.want)) {
			t.Errorf("%s: got %v, %v, want %q", tc.name, got, err, tc.want)
		}
	}
}
