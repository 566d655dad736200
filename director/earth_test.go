package director

import (
	"crypto/ed25519"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"weak"

	"github.com/maxmind/mmdbwriter"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/dnsserver/geo"
	"github.com/divertdns/divert/dnsserver/geo/mmdb"
	"github.com/divertdns/divert/dnsserver/geo/mmdb/mmdbtest"
)

// nearest is meshSpec by distance: an unknown client goes to nyc, the first in the
// order, and so does one from America; one from Europe goes to fra.
var nearest = strings.Replace(meshSpec, "policy: failover, order: [fra, nyc]", "policy: geo, order: [nyc, fra]", 1)

// cities is a database that knows parts of the networks for documentation: four
// places in Europe, beside one another, and one in America.
func cities(t testing.TB, o mmdbwriter.Options, more ...mmdbtest.Network) []byte {
	t.Helper()
	return mmdbtest.Make(t, o, append([]mmdbtest.Network{
		{Prefix: "198.51.100.0/26", Record: mmdbtest.City("EU", "DE", 50.1, 8.7, "HE")},
		{Prefix: "198.51.100.64/26", Record: mmdbtest.City("EU", "FR", 48.9, 2.3, "IDF")},
		{Prefix: "198.51.100.128/25", Record: mmdbtest.City("EU", "GB", 51.5, -0.1, "ENG", "LND")},
		{Prefix: "203.0.113.0/25", Record: mmdbtest.City("NA", "US", 40.7, -74, "NY")},
		{Prefix: "2001:db8::/33", Record: mmdbtest.City("EU", "DE", 52.5, 13.4, "BE")},
		{Prefix: "2001:db8:8000::/33", Record: mmdbtest.City("EU", "FR", 45.8, 4.8, "ARA")},
	}, more...)...)
}

func readCities(t testing.TB, data []byte) *geo.Table {
	t.Helper()
	table, err := mmdb.Read(data)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// planOver is a plan of a spec that nobody runs.
func planOver(t *testing.T, text string) *inForce {
	t.Helper()
	m := &mesh{t: t, ctx: t.Context(), geo: geo.Default()}
	for i, name := range []string{"d1", "d2", "d3"} {
		m.nodes = append(m.nodes, m.node(name, ed25519.NewKeyFromSeed(append(make([]byte, 31), byte(i)))))
	}
	return m.planOf(text, nil, 1, m.nodes[0])
}

// tableBy compiles a plan's table by the places of an earth, merged or not.
func tableBy(t *testing.T, f *inForce, table *geo.Table, places []steer.Place) *answer.Table {
	t.Helper()
	decision := steer.Decide(steer.Input{Spec: f.spec, Plan: f.sealed.Plan, Places: places})
	out, err := answer.Compile(answer.Options{Zones: new(describer).describe(f, decision), Geo: table})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func askFor(t *testing.T, table *answer.Table, client string) answer.Trace {
	t.Helper()
	trace, ok := table.Trace("pay.example.org.", false, netip.MustParsePrefix(client))
	if !ok || len(trace.Picks) != 1 {
		t.Fatalf("%s gets %+v", client, trace)
	}
	return trace
}

// S14, RFC 7871 section 7.2.1: with a database, a scope is the prefix for which
// the answer is right, and no longer: what the spec does not tell apart is one.
func TestScopesOfDatabase(t *testing.T) {
	f := planOver(t, nearest)
	e := newEarth(readCities(t, cities(t, mmdbwriter.Options{})))
	fit := e.fit(f.spec)
	merged, err := fit.table()
	if err != nil {
		t.Fatal(err)
	}
	if len(fit.places) >= 30 || len(fit.places) != len(merged.Places()) || len(e.places) < 250 {
		t.Errorf("%d places are left of %d, in a table of %d", len(fit.places), len(e.places), len(merged.Places()))
	}
	byMerged, byAll := tableBy(t, f, merged, fit.places), tableBy(t, f, e.table, e.places)
	for _, tc := range []struct {
		client, cluster string
		scope           int
	}{
		{"198.51.100.7/32", "fra", 24}, // three places of four networks
		{"198.51.100.200/32", "fra", 24},
		{"198.51.100.0/24", "fra", 24},
		{"203.0.113.9/32", "nyc", 25},
		{"203.0.113.200/32", "nyc", 25}, // of unknown place, beside it
		{"2001:db8:1::/48", "fra", 32},
		{"2001:db8:ffff::/48", "fra", 32},
		{"::ffff:198.51.100.7/128", "fra", 96 + 24},
	} {
		if got := askFor(t, byMerged, tc.client); got.Picks[0].Cluster != tc.cluster || got.Scope != tc.scope {
			t.Errorf("%s gets %s, right for /%d; want %s, /%d", tc.client, got.Picks[0].Cluster, got.Scope, tc.cluster, tc.scope)
		}
	}
	if got := askFor(t, byAll, "198.51.100.7/32"); got.Scope != 26 {
		t.Errorf("by all places the scope is /%d: does this test prove anything?", got.Scope)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		block := []netip.Addr{netip.MustParseAddr("198.51.100.0"), netip.MustParseAddr("198.51.101.0"), netip.MustParseAddr("203.0.113.0")}[r.IntN(3)].As4()
		block[3] = byte(r.IntN(256))
		addr := netip.AddrFrom4(block)
		client := netip.PrefixFrom(addr, 32).String()
		got, want := askFor(t, byMerged, client), askFor(t, byAll, client)
		if got.Picks[0] != want.Picks[0] || got.Scope > want.Scope {
			t.Fatalf("%s gets %+v, /%d; by all places %+v, /%d", addr, got.Picks, got.Scope, want.Picks, want.Scope)
		}
		// Somebody else in the scope: the same answer, and the same scope.
		other := addr.As4()
		for bit := got.Scope; bit < 32; bit++ {
			if r.IntN(2) == 0 {
				other[bit/8] ^= 0x80 >> (bit % 8)
			}
		}
		if near := askFor(t, byMerged, netip.PrefixFrom(netip.AddrFrom4(other), 32).String()); near.Picks[0] != got.Picks[0] || near.Scope != got.Scope {
			t.Fatalf("%s gets %+v, /%d, and %v of that scope %+v, /%d", addr, got.Picks, got.Scope, netip.AddrFrom4(other), near.Picks, near.Scope)
		}
	}
}

// A fit is made once for whoever needs it, and keeps no spec.
func TestFitIsMadeOnce(t *testing.T) {
	e := newEarth(geo.Default())
	a, b := planOver(t, nearest).spec, planOver(t, meshSpec).spec
	both := e.fit(a, b)
	if e.fit(a) != e.fit(a, a) || e.fit(a) != e.fit(nil, a) || both != e.fit(a, b) || e.fit(a) == e.fit(b) {
		t.Error("what is known is made anew, or one taken for another")
	}
	var all sync.WaitGroup
	fresh := newEarth(e.table)
	made := make([]*fit, 8)
	for i := range made {
		all.Go(func() {
			made[i] = fresh.fit(a)
			if _, err := made[i].table(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, f := range made[1:] {
		if f != made[0] {
			t.Error("each makes his own")
		}
	}
	for range 2 * maxFits {
		fresh.fit(&spec.Set{})
	}
	if len(fresh.fits) != maxFits {
		t.Errorf("%d fits are kept, want %d", len(fresh.fits), maxFits)
	}
	old := planOver(t, nearest).spec
	e.fit(old)
	gone := weak.Make(old)
	runtime.KeepAlive(old) // to here, and no longer
	runtime.GC()
	runtime.GC()
	if gone.Value() != nil {
		t.Error("a spec that nobody has is kept")
	}
}

func TestPlaceName(t *testing.T) {
	table := readCities(t, cities(t, mmdbwriter.Options{}, mmdbtest.Network{Prefix: "192.0.2.0/24", Record: mmdbtest.City("EU", "", 0, 0)}))
	for addr, want := range map[string]string{
		"198.51.100.200": "GB, EU, GB-ENG, GB-LND, near 51.8 -0.2",
		"203.0.113.1":    "US, NA, US-NY, near 40.8 -73.8",
		"192.0.2.1":      "EU",
		"203.0.113.200":  "unknown place",
	} {
		place, _ := table.Lookup(netip.MustParseAddr(addr))
		if got := placeName(table.Places()[place]); got != want {
			t.Errorf("%s is at %q, want %q", addr, got, want)
		}
	}
	if got := placeName(geo.Place{Country: "DE", Continent: "EU", Lat: 51, Lon: 10}); !strings.HasPrefix(got, "DE, EU") {
		t.Errorf("got %q", got)
	}
}
