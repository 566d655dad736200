package steer

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/spec"
)

// TestPinOf: the pin of a prefix is the longest that holds it, of two of one the cluster
// whose name comes first: what going through all of them gives. Among the pins are ones
// that hold each other, of both families, with bits past the mask, and mapped ones.
func TestPinOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix := func(label string) netip.Prefix {
			b := rapid.SampledFrom([]byte{0, 1, 128, 192, 255}).Draw(t, label)
			switch bits := rapid.IntRange(0, 32).Draw(t, "bits"); rapid.IntRange(0, 2).Draw(t, "family") {
			case 0:
				return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, b, b, b}), bits)
			case 1:
				return netip.PrefixFrom(netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff, 12: 10, 13: b, 14: b, 15: b}), 96+bits)
			default:
				return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, b, b, b}), bits)
			}
		}
		svc := &spec.GlobalService{}
		for range rapid.IntRange(0, 12).Draw(t, "pins") {
			svc.Pins = append(svc.Pins, spec.Pin{Prefix: prefix("pin"), Cluster: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "cluster")})
		}
		in := &interner{c: &compiled{svc: svc}}
		in.preparePins()
		of := normal(prefix("of"))
		want, bits := "", -1
		for _, p := range svc.Pins {
			if q := normal(p.Prefix); covers(q, of) && (q.Bits() > bits || q.Bits() == bits && p.Cluster < want) {
				want, bits = p.Cluster, q.Bits()
			}
		}
		got := ""
		if n := in.pinOf(of); n >= 0 {
			got = svc.Pins[n].Cluster
		}
		if got != want {
			t.Fatalf("the clients of %s are pinned to %q, want %q: %v", of, got, want, svc.Pins)
		}
	})
}
