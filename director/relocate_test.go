package director

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/dnsserver/geo"
	"github.com/divertdns/divert/dnsserver/geo/mmdb/mmdbtest"
)

// cityOf is what one node answers a client of 198.51.100.0/24, whom the country table
// does not place.
func (n *node) cityOf(t *testing.T) string {
	t.Helper()
	return askFor(t, n.table.Load(), "198.51.100.7/32").Picks[0].Cluster
}

// What the survey finds is in force when a table is made by it: the answers and what
// is said of them change together. What no table can be made by changes nothing, and
// is tried once.
func TestRelocate(t *testing.T) {
	m, n := standing(t)
	f := m.planOf(nearest, nil, 2, n)
	if !n.takeForce(f, time.Now()) {
		t.Fatal("the plan makes no table")
	}
	before := n.earth.Load()
	n.step(time.Now())
	if got := n.cityOf(t); got != "nyc" || n.earth.Load() != before {
		t.Fatalf("by the country table it is %s", got)
	}
	table := readCities(t, edition(t, "one"))
	good, broken := newEarth(table), &earth{table: table, places: []steer.Place{{}}}
	for _, tc := range []struct {
		what  string
		found *earth
		in    *earth
		want  string
		errs  float64
	}{
		{"no table can be made by it", broken, before, "nyc", 1},
		{"again", broken, before, "nyc", 1},
		{"a good one", good, good, "fra", 1},
		{"again", good, good, "fra", 1},
		{"a broken one over it", broken, good, "fra", 2},
		{"the country table again", before, before, "nyc", 2},
	} {
		n.surveyed.Store(tc.found)
		n.step(time.Now())
		if got := n.cityOf(t); got != tc.want || n.earth.Load() != tc.in {
			t.Errorf("%s: answers %s, want %s; in force is %v", tc.what, got, tc.want, n.earth.Load().table.Origin())
		}
		if got := testutil.ToFloat64(n.shown.compileErrors); got != tc.errs {
			t.Errorf("%s: %v tables were refused, want %v", tc.what, got, tc.errs)
		}
	}
	// A plan that comes later is answered by what is in force.
	n.surveyed.Store(good)
	n.step(time.Now())
	n.horizon.offer(m.planOf(nearest, nil, 3, n))
	n.step(time.Now())
	if got := n.cityOf(t); got != "fra" || n.horizon.current().sealed.Identity.Revision != 3 {
		t.Errorf("after a plan: answers %s", got)
	}
}

// What falls while no table can be made by what the survey has found, or of a plan, is
// out of the answers all the same (L1).
func TestFlipBesideRefusedTable(t *testing.T) {
	m, n := standing(t)
	if !n.takeForce(m.planOf(nearest, nil, 2, n), time.Now()) {
		t.Fatal("the plan makes no table")
	}
	n.step(time.Now())
	before := n.table.Load()
	f := n.horizon.current()
	n.book.SetSubjects(nil, time.Now()) // anything may have changed
	n.book.SetSubjects(subjects(f.spec), time.Now())
	n.dirty = true
	n.surveyed.Store(&earth{table: n.earth.Load().table, places: []steer.Place{{}}})
	n.step(time.Now())
	if n.table.Load() == before {
		t.Error("the change is lost")
	}
}

// subnet asks a director by UDP as a resolver does for a client of a subnet.
func subnet(t *testing.T, server, client string) (*dns.Msg, *dns.EDNS0_SUBNET) {
	t.Helper()
	p := netip.MustParsePrefix(client)
	m := new(dns.Msg)
	m.SetQuestion("pay.example.org.", dns.TypeA)
	m.SetEdns0(1232, false)
	family := uint16(1)
	if p.Addr().Is6() {
		family = 2
	}
	m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: family, SourceNetmask: uint8(p.Bits()), Address: p.Addr().AsSlice()}}
	reply, _, err := (&dns.Client{Timeout: 10 * time.Second}).Exchange(m, server)
	if err != nil || reply.Rcode != dns.RcodeSuccess || len(reply.Answer) != 1 {
		t.Fatalf("%s: %v\n%v", client, err, reply)
	}
	for _, o := range reply.IsEdns0().Option {
		if s, ok := o.(*dns.EDNS0_SUBNET); ok {
			return reply, s
		}
	}
	t.Fatalf("%s: the reply says nothing of the subnet\n%v", client, reply)
	return nil, nil
}

// geoStage is a stage whose plan steers by distance, by a database.
func geoStage(t *testing.T, data []byte) *stage {
	t.Helper()
	s := newStage(t)
	s.settings.Geo.Database = filepath.Join(t.TempDir(), "cities.mmdb")
	if data != nil {
		mmdbtest.Put(t, s.settings.Geo.Database, data)
	}
	f := planOver(t, nearest)
	s.save(f)
	return s
}

// S14, RFC 7871 section 7.2.1: with a database the SCOPE PREFIX-LENGTH on the wire is
// that of the merged prefix, whatever the source's.
func TestScopesOnTheWire(t *testing.T) {
	s := geoStage(t, edition(t, "one"))
	_, ready := s.serve(nil)
	within(t, ready, "the process")
	for _, tc := range []struct {
		client, addr string
		scope        uint8
	}{
		{"198.51.100.0/24", "192.0.2.1", 24},
		{"198.51.100.77/32", "192.0.2.1", 24},
		{"203.0.113.0/24", "192.0.2.2", 25}, // longer than the source
		{"203.0.113.128/25", "192.0.2.2", 25},
		{"2001:db8:1200::/40", "192.0.2.1", 32},
	} {
		reply, echo := subnet(t, s.settings.DNS.Listen[0], tc.client)
		source := uint8(netip.MustParsePrefix(tc.client).Bits())
		if got := reply.Answer[0].(*dns.A).A.String(); got != tc.addr || echo.SourceScope != tc.scope || echo.SourceNetmask != source {
			t.Errorf("%s gets %s, source /%d, scope /%d; want %s, /%d, /%d", tc.client, got, echo.SourceNetmask, echo.SourceScope, tc.addr, source, tc.scope)
		}
	}
}

// S12: with a database that is missing or damaged a director answers all the same, by
// the country table, and says so.
func TestStartsWithoutDatabase(t *testing.T) {
	for name, data := range map[string][]byte{"missing": nil, "damaged": []byte("damaged")} {
		t.Run(name, func(t *testing.T) {
			s := geoStage(t, data)
			d, err := New(Options{Settings: s.settings, Etcd: []string{"false"}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- d.Run(ctx) }()
			defer func() {
				cancel()
				<-done
			}()
			for client, want := range map[string]string{"81.2.69.0/24": "192.0.2.1", "198.51.100.0/24": "192.0.2.2"} {
				reply, _ := subnet(t, s.settings.DNS.Listen[0], client)
				if got := reply.Answer[0].(*dns.A).A.String(); got != want {
					t.Errorf("%s gets %s, want %s", client, got, want)
				}
			}
			status := d.Status()
			if got := strings.Join(status.Alerts, "\n"); !strings.Contains(got, s.settings.Geo.Database) || !strings.Contains(got, "clients are placed by country table") {
				t.Errorf("status does not say it: %q", got)
			}
			if status.Geo == nil || status.Geo.Hash != geo.DefaultHash() || status.Geo.Built != nil || status.Geo.Database != s.settings.Geo.Database {
				t.Errorf("status says %+v", status.Geo)
			}
			if err := d.Ready(); err != nil {
				t.Errorf("not ready: %v", err)
			}
			if got := gauge(t, d, "divert_geo_database_unusable"); got != 1 {
				t.Errorf("divert_geo_database_unusable is %v", got)
			}
		})
	}
}

// With one that can be used, status, explain and the metrics name it.
func TestDatabaseIsNamed(t *testing.T) {
	s := geoStage(t, edition(t, "Test-City"))
	d, err := New(Options{Settings: s.settings, Etcd: []string{"false"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()
	e, err := d.Explain("pay.example.org", "198.51.100.200")
	if err != nil {
		t.Fatal(err)
	}
	if e.Place != "GB, EU, GB-ENG, GB-LND, near 51.8 -0.2" || !strings.HasPrefix(e.Geo, "Test-City of 2027-01-15, ") {
		t.Errorf("explain says %q by %q", e.Place, e.Geo)
	}
	if len(e.Answers) != 1 || e.Answers[0].Clusters[0] != "fra" || e.Answers[0].Scope != 24 {
		t.Errorf("explain answers %+v", e.Answers)
	}
	status := d.Status()
	if g := status.Geo; g == nil || g.Name != "Test-City" || !g.Built.Equal(time.Unix(mmdbtest.Built, 0)) || g.Degrees != 0.5 || g.Found != 6 {
		t.Errorf("status says %+v", g)
	}
	for _, alert := range status.Alerts {
		if strings.Contains(alert, "geo") {
			t.Errorf("alert: %s", alert)
		}
	}
	for name, want := range map[string]float64{
		"divert_geo_database_unusable": 0, "divert_geo_info": 1, "divert_geo_build_timestamp_seconds": mmdbtest.Built, "divert_geo_tables": 1,
	} {
		if got := gauge(t, d, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

// gauge reads one of a director's gauges.
func gauge(t *testing.T, d *Director, name string) float64 {
	t.Helper()
	families, err := d.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			if len(f.GetMetric()) != 1 {
				t.Fatalf("%s has %d series", name, len(f.GetMetric()))
			}
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}

// F22: whoever takes over answers by the database from its first answer on, and
// where it cannot read it by the country table: it is never a reason not to.
func TestReplaceByDatabase(t *testing.T) {
	s := geoStage(t, edition(t, "one"))
	done, ready := s.serve(nil)
	within(t, ready, "the first process")
	log := slog.New(slog.DiscardHandler)
	stood := newSurvey(s.settings.Geo.Database)
	table, _, err := standIn(s.settings, stood, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	if got := askFor(t, table, "198.51.100.7/32"); got.Picks[0].Cluster != "fra" || got.Scope != 24 {
		t.Errorf("before it directs it answers %+v, /%d", got.Picks, got.Scope)
	}
	for _, data := range [][]byte{edition(t, "two"), []byte("rubbish"), nil} {
		want := "192.0.2.1"
		switch {
		case data == nil:
			if err := os.Remove(s.settings.Geo.Database); err != nil {
				t.Fatal(err)
			}
			want = "192.0.2.2"
		case len(data) < 100:
			mmdbtest.Put(t, s.settings.Geo.Database, data)
			want = "192.0.2.2"
		default:
			mmdbtest.Put(t, s.settings.Geo.Database, data)
		}
		nextDone, nextReady := s.serve(func(o *ServeOptions) { o.Replace = true })
		select {
		case err := <-nextDone:
			t.Fatalf("the successor: %v", err)
		case <-nextReady:
		}
		if err := within(t, done, "the process before"); err != nil {
			t.Fatal(err)
		}
		done = nextDone
		reply, _ := subnet(t, s.settings.DNS.Listen[0], "198.51.100.0/24")
		if got := reply.Answer[0].(*dns.A).A.String(); got != want {
			t.Errorf("by %.7q it answers %s, want %s", data, got, want)
		}
	}
}

// Directors that place clients by different tables answer the same client
// differently: each says so, and who differs. Witnesses, strangers, and those of a
// version that does not say take no part.
func TestDisunity(t *testing.T) {
	d := onDisk(t, sound, 7)
	own := d.links
	defer func() { d.links = own }()
	mine, other := geo.DefaultHash(), "0123456789abcdef"
	say := func(name, hash string) gossip.Member {
		return gossip.Member{Name: name, Meta: gossip.Meta{Geo: hash, DNS: "192.0.2.1:53"}}
	}
	for _, tc := range []struct {
		name    string
		members []gossip.Member
		want    string // "" = nothing
		tables  int
	}{
		{"alone", nil, "", 1},
		{"alike", []gossip.Member{say("d1", mine), say("d2", mine), say("d3", mine)}, "", 1},
		{"one does not say", []gossip.Member{say("d2", ""), say("d3", mine)}, "", 1},
		{"a stranger differs", []gossip.Member{say("d2", mine), say("d9", other)}, "", 1},
		{"one differs", []gossip.Member{say("d2", mine), say("d3", other)}, "d1 and d2 by country table", 2},
		{"this one differs", []gossip.Member{say("d2", other), say("d3", other)}, "d2 and d3 by another (" + other + ")", 2},
		{"all differ", []gossip.Member{say("d2", other), say("d3", "00")}, "d3 by another (00)", 3},
	} {
		d.links = gossiping{members: tc.members}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var out api.Status
		d.describeDirectors(ctx, &out, d.horizon.current())
		var got string
		for _, a := range out.Alerts {
			if strings.Contains(a, "geo tables") {
				got = a
			}
		}
		if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
		if got := gauge(t, d, "divert_geo_tables"); got != float64(tc.tables) {
			t.Errorf("%s: %v tables, want %d", tc.name, got, tc.tables)
		}
	}
	// A director by a database knows the country table where it meets it.
	d.loop.earth.Store(newEarth(readCities(t, cities(t, mmdbwriter.Options{}))))
	d.links = gossiping{members: []gossip.Member{say("d2", mine), say("d3", d.geoHash())}}
	if got := d.disunity(); !strings.Contains(got, "d1 and d3 by Test-City of 2027-01-15, ") || !strings.Contains(got, "d2 by the country table (") {
		t.Errorf("got %q", got)
	}
	if got := d.meta().Geo; got != d.geoHash() || got == "" {
		t.Errorf("it tells the others %q", got)
	}
	if f := d.horizon.current(); len(f.sealed.Plan.Active()) != 3 || f.sealed.Plan.Active()[0].GetStanding() != plan.Director_ACTIVE {
		t.Error("this test needs three directors")
	}
}
