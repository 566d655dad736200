package probe

import (
	"net/netip"
	"testing"
)

// TestPolicyC12 tries which addresses may be dialled (C12).
func TestPolicyC12(t *testing.T) {
	allow := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("fe80::/10")}
	tests := []struct {
		addr        string
		want, given bool // without and with the allow list
	}{
		{"192.0.2.1", true, true},
		{"10.1.2.3", true, true},
		{"172.16.0.1", true, true},
		{"100.64.0.1", true, true},
		{"2001:db8::1", true, true},
		{"fd12:3456::1", true, true},
		{"127.0.0.1", false, true},
		{"127.255.255.254", false, true},
		{"::ffff:127.0.0.1", false, true},
		{"64:ff9b::7f00:1", false, true},
		{"::1", false, false},
		{"::", false, false},
		{"0.0.0.0", false, false},
		{"0.1.2.3", false, false},
		{"169.254.169.254", false, false},
		{"169.254.1.1", false, false},
		{"::ffff:169.254.169.254", false, false},
		{"64:ff9b::a9fe:a9fe", false, false},
		{"64:ff9b::c000:201", true, true},
		{"64:ff9b:1::7f00:1", false, false},
		{"64:ff9b:1:7f00:0:100::", false, false}, // the same by RFC 6052's /48
		{"::ffff:0:127.0.0.1", false, true},      // IPv4-translated
		{"::ffff:0:169.254.169.254", false, false},
		{"2002:a9fe:a9fe::1", false, false},
		{"2001:0:c000:201:0:0:5601:5601", false, false}, // Teredo, 169.254.169.254 inverted
		{"::169.254.169.254", false, false},
		{"fd00:ec2::254", false, false},
		{"fd20:ce::254", false, false},
		{"100.100.100.200", false, false},
		{"168.63.129.16", false, false},
		{"fe80::1", false, true},
		{"fe80::1%eth0", false, true},
		{"2001:db8::1%eth0", false, false},
		{"224.0.0.1", false, false},
		{"ff02::1", false, false},
		{"240.0.0.1", false, false},
		{"255.255.255.255", false, false},
	}
	for _, tc := range tests {
		t.Run(tc.addr, func(t *testing.T) {
			addr := netip.MustParseAddr(tc.addr)
			if err := (policy{}).check(addr); (err == nil) != tc.want {
				t.Errorf("without an allow list: got %v, want permitted %t", err, tc.want)
			}
			if err := (policy{allow}).check(addr); (err == nil) != tc.given {
				t.Errorf("with %v allowed: got %v, want permitted %t", allow, err, tc.given)
			}
		})
	}
	if err := (policy{allow}).check(netip.Addr{}); err == nil {
		t.Error("no address at all: got permitted, want refused")
	}
}
