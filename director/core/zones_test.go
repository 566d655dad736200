package core

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

func (w *world) serial(zone string) uint32 {
	for _, z := range w.s.Plan.Plan.GetZones() {
		if z.GetName() == zone {
			return z.GetSerial()
		}
	}
	w.t.Fatalf("no zone %s", zone)
	return 0
}

// TestSerials: a zone's serial is the revision that last changed what it holds,
// and health and other zones never touch it (S13). A drain does: what a transfer
// hands out is another (SEMANTICS section 3).
func TestSerials(t *testing.T) {
	w := newWorld(t)
	all := raws(t, fleetYAML)
	if a, b := w.serial("example.org"), w.serial("example.net"); a != 1 || b != 1 {
		t.Fatalf("first serials %d, %d", a, b)
	}
	w.fail("shop", "fra")
	w.do(Command{Verb: Freeze, Reason: "x", For: time.Hour})
	if a, b := w.serial("example.org"), w.serial("example.net"); a != 1 || b != 1 {
		t.Errorf("freeze or health changed a serial: %d, %d", a, b)
	}
	w.do(w.drain("cluster/fra"))
	drained := uint32(w.s.Plan.Identity.Revision)
	if a, b := w.serial("example.org"), w.serial("example.net"); a != drained || b != 1 {
		t.Errorf("after the drain of a site of example.org alone: %d, %d; want %d, 1", a, b, drained)
	}
	w.do(w.drain("cluster/fra"))
	if a := w.serial("example.org"); a != drained {
		t.Errorf("a drain of what is drained already: %d, want %d", a, drained)
	}
	tests := []struct {
		name, id, from, to string
		org, net           bool // whose serial moves
	}{
		{"records", "Zone/example.net", "192.0.2.80", "192.0.2.81", false, true},
		{"address of a host", "GlobalService/shop", "192.0.2.12", "192.0.2.13", true, false},
		{"TTL of a host", "GlobalService/shop", `"steering"`, `"ttl":"7s","steering"`, true, false},
		{"name of a host", "GlobalService/shop", "shop.example.org", "store.example.org", true, false},
		{"a host in another zone", "GlobalService/shop", `"store.example.org"`, `"store.example.org","shop.example.net"`, false, true},
		{"a probe", "GlobalService/shop", "/healthz", "/livez", false, false},
		{"a weight", "GlobalService/shop", `"cluster":"sin"`, `"cluster":"sin","weight":50`, false, false},
		{"a cluster's environment", "Cluster/sin", `"location"`, `"environment":"staging","location"`, true, true},
		{"SOA", "Zone/example.org", `"nameservers"`, `"soa":{"refresh":"2h"},"nameservers"`, true, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w.t = t
			org, net := w.serial("example.org"), w.serial("example.net")
			all = edit(t, all, tc.id, tc.from, tc.to)
			w.do(Command{Verb: Apply, Objects: all})
			now := uint32(w.s.Plan.Identity.Revision)
			for _, z := range []struct {
				name  string
				was   uint32
				moves bool
			}{{"example.org", org, tc.org}, {"example.net", net, tc.net}} {
				want := z.was
				if z.moves {
					want = now
				}
				if got := w.serial(z.name); got != want {
					t.Errorf("%s: serial %d, want %d", z.name, got, want)
				}
			}
		})
	}
}

// TestSerialsGrow by RFC 1982, over the wrap of 32 bits and from a serial ahead
// of the revision.
func TestSerialsGrow(t *testing.T) {
	set := &spec.Set{Zones: []*spec.Zone{{Name: "example.org"}}}
	tests := []struct {
		name     string
		old      uint32
		revision uint64
		want     uint32
	}{
		{"by revision", 5, 9, 9},
		{"over the wrap", math.MaxUint32 - 1, 1<<32 + 3, 3},
		{"onto itself", 9, 9, 10},
		{"from ahead", 100, 9, 101},
		{"from ahead at the wrap", math.MaxUint32, 1<<32 - 5, 0},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w := &work{set: set, next: &plan.Plan{Revision: tc.revision, Zones: []*plan.ZoneSerial{{Name: "example.org", Serial: tc.old, Hash: []byte("old")}}}}
			got := w.serials()
			if got[0].GetSerial() != tc.want || !grows(tc.old, got[0].GetSerial()) {
				t.Errorf("%d to %d, want %d", tc.old, got[0].GetSerial(), tc.want)
			}
		})
	}
}

// The serial of a zone follows its text (S13), of a large one too, whoever has let go
// of that.
func TestSerialOfLargeText(t *testing.T) {
	long := strings.Repeat("a", 1<<20)
	seen := map[string]bool{}
	for _, records := range []string{"", "b", long, long + "a", long + "b", "b" + long} {
		set := &spec.Set{Zones: []*spec.Zone{{Name: "example.org", Records: records}}}
		hash := func() string {
			w := &work{set: set, next: &plan.Plan{Revision: 1}}
			return string(w.serials()[0].GetHash())
		}
		first := hash()
		if seen[first] {
			t.Errorf("%d octets are taken for others", len(records))
		}
		seen[first] = true
		set.Zones[0].Forget()
		if hash() != first {
			t.Errorf("%d octets are others once they are forgotten", len(records))
		}
	}
}
