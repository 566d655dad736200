package steer

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
)

// draw makes a fleet of one service with everything that steering knows.
func draw(t *rapid.T) *fleet {
	f := newFleet()
	countries := []string{"DE", "NL", "US", "SG", "BR", "XX"}
	n := rapid.IntRange(1, 5).Draw(t, "clusters")
	var sites []string
	for i := range n {
		name := string(rune('a' + i))
		f.cluster(t, name+":"+rapid.SampledFrom(countries).Draw(t, "country"),
			"domain="+rapid.SampledFrom([]string{"x", "y", name}).Draw(t, "domain"),
			"j="+rapid.SampledFrom([]string{"eu", "us"}).Draw(t, "label"),
			"env="+rapid.SampledFrom([]string{"prod", "prod", "prod", "prod", "test"}).Draw(t, "env"),
			fmt.Sprintf("capacity=%d", rapid.IntRange(1, 200).Draw(t, "capacity")))
		site := fmt.Sprintf("%s*%d=192.0.2.%d", name, rapid.SampledFrom([]int{0, 10, 20, 100}).Draw(t, "weight"), i+1)
		if rapid.Bool().Draw(t, "second") {
			site += fmt.Sprintf(",192.0.2.%d", i+101)
		}
		if rapid.Bool().Draw(t, "v6") {
			site += fmt.Sprintf(",2001:db8::%d", i+1)
		}
		if rapid.IntRange(0, 3).Draw(t, "hostname") == 0 {
			site, _, _ = strings.Cut(site, "=")
			site += "=" + name + ".example.net"
		}
		sites = append(sites, site)
	}
	svc := f.service(t, "shop", rapid.SampledFrom([]spec.Policy{spec.PolicyGeo, spec.PolicyFailover, spec.PolicyWeighted}).Draw(t, "policy"), sites...)
	svc.Steering.Answers = rapid.IntRange(1, 3).Draw(t, "answers")
	svc.SiteNames = rapid.Bool().Draw(t, "siteNames")
	svc.MinHealthy = rapid.IntRange(0, 3).Draw(t, "minHealthy")
	svc.AllDown = rapid.SampledFrom([]spec.AllDown{spec.AllDownAlive, spec.AllDownAll, spec.AllDownFallback}).Draw(t, "allDown")
	if svc.AllDown == spec.AllDownFallback {
		svc.Fallback = []netip.Addr{netip.MustParseAddr("198.51.100.99")}
	}
	svc.ResidencyUnknown = rapid.SampledFrom([]spec.ResidencyUnknown{spec.ResidencyUnknownIntersect, spec.ResidencyUnknownAllow}).Draw(t, "unknown")
	drawProbes(t, svc)
	drawRules(t, f, svc)
	svc.Steering.Ramp = rapid.SampledFrom([]time.Duration{0, 30 * time.Second, 30 * time.Second, time.Minute}).Draw(t, "ramp")
	drawStates(t, f, svc)
	drawReturns(t, f)
	drawOverrides(t, f)
	return f
}

var somePrefixes = []string{"203.0.113.0/24", "203.0.113.128/25", "203.0.0.0/16", "2001:db8:1::/48", "::ffff:198.51.100.0/120"}

func drawClients(t *rapid.T) spec.Clients {
	pick := func(label string, from ...string) []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(from), 0, 2, rapid.ID[string]).Draw(t, label)
	}
	c := spec.Clients{Continents: pick("continents", "EU", "NA", "AS"), Countries: pick("countries", "DE", "TR", "US")}
	for _, p := range pick("prefixes", somePrefixes...) {
		c.Prefixes = append(c.Prefixes, netip.MustParsePrefix(p))
	}
	return c
}

func drawRules(t *rapid.T, f *fleet, svc *spec.GlobalService) {
	names := slices.Clone(svc.Steering.Order)
	for range rapid.IntRange(0, 2).Draw(t, "rules") {
		svc.Residency = append(svc.Residency, spec.ResidencyRule{
			Clients: drawClients(t), Clusters: map[string]string{"j": rapid.SampledFrom([]string{"eu", "us"}).Draw(t, "selector")},
		})
	}
	for range rapid.IntRange(0, 2).Draw(t, "regions") {
		svc.Steering.Regions = append(svc.Steering.Regions, spec.Region{
			Clients: drawClients(t), Order: rapid.Permutation(names).Draw(t, "regionOrder")[:rapid.IntRange(1, len(names)).Draw(t, "named")],
		})
	}
	for range rapid.IntRange(0, 2).Draw(t, "pins") {
		svc.Pins = append(svc.Pins, spec.Pin{
			Prefix: netip.MustParsePrefix(rapid.SampledFrom(somePrefixes).Draw(t, "pinned")), Cluster: rapid.SampledFrom(names).Draw(t, "to"),
		})
	}
	svc.Steering.Order = rapid.Permutation(names).Draw(t, "order")
}

func drawStates(t *rapid.T, f *fleet, svc *spec.GlobalService) {
	states := rapid.SampledFrom([]health.State{health.Unknown, health.Up, health.Up, health.Down})
	for _, e := range svc.Endpoints {
		for _, a := range e.Watched() {
			for _, o := range Subjects(svc, a) {
				if st := states.Draw(t, "state"); st != health.Unknown {
					f.states[o.Subject] = st
				}
			}
		}
		if rapid.IntRange(0, 3).Draw(t, "soft") == 0 {
			f.mark(e.Cluster, health.KindSoft, health.Down)
		}
	}
}

func drawOverrides(t *rapid.T, f *fleet) {
	var scopes []string
	for _, c := range f.set.Clusters {
		scopes = append(scopes, "cluster/"+c.Name, "domain/"+c.FaultDomain, "service/shop@"+c.Name)
	}
	for range rapid.IntRange(0, 3).Draw(t, "drains") {
		o := f.override(plan.Override_DRAIN, rapid.SampledFrom(scopes).Draw(t, "scope"), "alice", rapid.Bool().Draw(t, "lastResort"))
		if rapid.IntRange(0, 2).Draw(t, "in steps") == 0 {
			drawPace(t, o)
		}
	}
	if rapid.IntRange(0, 4).Draw(t, "frozen") == 0 {
		o := f.override(plan.Override_OBSERVE, rapid.SampledFrom([]string{"fleet", "service/shop"}).Draw(t, "observe"), "bob", false)
		for s := range f.states {
			if rapid.Bool().Draw(t, "was down") {
				o.Down = append(o.Down, s.String())
			}
		}
	}
}

// someone draws a kind of client.
func someone(t *rapid.T) (place int, client netip.Prefix) {
	place = rapid.IntRange(0, len(places)-1).Draw(t, "place")
	if rapid.Bool().Draw(t, "prefixed") {
		client = normal(netip.MustParsePrefix(rapid.SampledFrom(somePrefixes).Draw(t, "client")))
	}
	return place, client
}

// allowedTo is residency written the obvious way, for one client.
func allowedTo(svc *spec.GlobalService, cluster *spec.Cluster, p Place, client netip.Prefix) (allowed, covered bool) {
	allowed = true
	for _, r := range svc.Residency {
		hit := slices.Contains(r.Clients.Countries, p.Country) && p.Country != "" ||
			slices.Contains(r.Clients.Continents, p.Continent) && p.Continent != ""
		for _, q := range r.Clients.Prefixes {
			q = normal(q)
			hit = hit || client.IsValid() && q.Bits() <= client.Bits() && q.Contains(client.Addr())
		}
		if svc.ResidencyUnknown == spec.ResidencyUnknownIntersect {
			hit = hit || p.Country == "" && p.Continent == "" || p.Country == "" && len(r.Clients.Countries) > 0
		}
		if hit {
			covered = true
			allowed = allowed && cluster.Labels["j"] == r.Clusters["j"]
		}
	}
	return allowed, covered
}

// TestNeverEmptyNeverOutside proves S1 (a client whom residency allows a
// configured address always gets one) and S11 (nobody gets one outside what the spec
// allows, nor outside what the policy does), with site names, fail-open and drains
// included.
func TestNeverEmptyNeverOutside(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := draw(t)
		f.drawSpill(t)
		f.drawSets(t)
		d := Decide(f.input())
		svc := f.set.Services[0]
		place, client := someone(t)
		for fam, v := range []*View{&d.Services[0].V4, &d.Services[0].V6} {
			allowed := map[string]bool{}
			configured, fenced := false, false
			for _, e := range svc.Endpoints {
				c := f.set.Clusters[slices.IndexFunc(f.set.Clusters, func(c *spec.Cluster) bool { return c.Name == e.Cluster })]
				ok, covered := allowedTo(svc, c, places[place], client)
				letBy, named := setsLet(f.plan.GetResidency(), svc, c.Name, places[place], client)
				ok, fenced = ok && letBy, fenced || covered || named
				for _, a := range e.Watched() {
					if e.Hostname != "" || FamilyOf(a) == Family(fam) {
						configured = true
						allowed[e.Cluster] = allowed[e.Cluster] || ok && c.Environment == svc.Environment
					}
				}
			}
			set := look(v, place, client)
			if !configured {
				if set != nil {
					t.Fatalf("%v: a set without a configured address", Family(fam))
				}
				continue
			}
			checkSet(t, &d.Services[0], Family(fam), set, allowed, fenced)
			for _, sv := range d.Services[0].SiteViews {
				one := look([]*View{&sv.V4, &sv.V6}[fam], place, client)
				if one == nil {
					continue
				}
				if got, want := len(one.Choices) == 1, allowed[sv.Cluster]; got != want {
					t.Fatalf("site name of %s answers: %v, want %v", sv.Cluster, got, want)
				}
			}
		}
	})
}

func checkSet(t *rapid.T, svc *Service, f Family, set *Set, allowed map[string]bool, fenced bool) {
	some := false
	for _, ok := range allowed {
		some = some || ok
	}
	if some != (len(set.Choices) > 0) {
		t.Fatalf("allowed %v, got %v because %q", allowed, clustersOf(set), svc.Why(f, set))
	}
	for _, c := range set.Choices {
		if len(svc.Addrs(f, &c)) == 0 {
			t.Fatalf("S1: %s without an address", c.Cluster)
		}
		if c.Cluster == FallbackSite {
			if fenced {
				t.Fatal("S11: a fallback address for a client of a residency rule")
			}
			continue
		}
		if !allowed[c.Cluster] {
			t.Fatalf("S11: %s answers a client whom it may not serve", c.Cluster)
		}
	}
	if len(svc.Why(f, set)) == 0 && len(set.Choices) > 1 {
		t.Fatal("an order without a reason")
	}
}

// TestOrderOfTiers holds the tier of an answer against S1's order, written the
// obvious way for one client without pins.
func TestOrderOfTiers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := draw(t)
		svc := f.set.Services[0]
		svc.Pins, svc.Residency = nil, nil
		for _, c := range f.set.Clusters {
			c.Environment = svc.Environment
		}
		for i := range svc.Endpoints {
			svc.Endpoints[i].Weight = 1
		}
		f.plan.Overrides = slices.DeleteFunc(f.plan.Overrides, func(o *plan.Override) bool { return o.GetKind() == plan.Override_OBSERVE })
		d := Decide(f.input())
		set := look(&d.Services[0].V4, 0, netip.Prefix{})
		want := map[string]bool{}
		tier := TierDrainedLast
		for _, e := range svc.Endpoints {
			r := Rollup(svc, &e, f.states, IPv4)
			if len(r.All) == 0 {
				continue
			}
			drained, last := drainedIn(f, e.Cluster)
			at := TierAllDown
			switch {
			case drained && last && r.Health != Failed:
				at = TierLastResort
			case drained:
				at = TierDrainedLast
			case r.Health == Degraded && !over(f, svc):
				at = TierDegraded
			case r.Health != Failed:
				at = TierHealthy
			}
			if at < tier {
				tier = at
				clear(want)
			}
			if at == tier {
				want[e.Cluster] = true
			}
		}
		if set.Tier != tier {
			t.Fatalf("tier %v, want %v: %q", set.Tier, tier, d.Services[0].Why(IPv4, set))
		}
		of := func(c Choice) bool { return c.Cluster == FallbackSite || want[c.Cluster] }
		helping := 0
		for _, c := range set.Choices {
			if of(c) {
				continue
			}
			helping++
			if s := svc.Endpoint(c.Cluster); tier != TierHealthy || c.Level == 0 || Rollup(svc, s, f.states, IPv4).Health != Degraded {
				t.Fatalf("%s is not of tier %v", c.Cluster, tier)
			}
			if slices.ContainsFunc(set.Choices, func(c Choice) bool { return of(c) && c.Share == 0 }) {
				t.Fatalf("degraded %s has clients of a healthy site that may have all: %v", c.Cluster, set.Choices)
			}
		}
		if (tier == TierHealthy || tier == TierDegraded) && len(set.Choices)-helping != len(want) {
			t.Fatalf("got %v, want all of %v", clustersOf(set), want)
		}
	})
}

func drainedIn(f *fleet, cluster string) (drained, last bool) {
	last = true
	for _, c := range f.set.Clusters {
		for _, o := range f.plan.Overrides {
			s, err := ParseScope(o.GetScope())
			if err == nil && c.Name == cluster && o.GetKind() == plan.Override_DRAIN && o.Keep() == 0 && s.Covers("shop", c) {
				drained, last = true, last && o.GetLastResort()
			}
		}
	}
	return drained, last
}

// over says whether S9's budget is exceeded, in whole numbers.
func over(f *fleet, svc *spec.GlobalService) bool {
	var all, degraded int64
	domains := map[string]bool{}
	for _, e := range svc.Endpoints {
		c := f.set.Clusters[slices.IndexFunc(f.set.Clusters, func(c *spec.Cluster) bool { return c.Name == e.Cluster })]
		all += e.Capacity
		if drained, _ := drainedIn(f, e.Cluster); !drained && Rollup(svc, &e, f.states, IPv4).Health == Degraded {
			degraded += e.Capacity
			domains[c.FaultDomain] = true
		}
	}
	return len(domains) > 1 && degraded*100 > all*int64(f.set.Fleet.DegradedEjected)
}

// degraded tells whether any site is.
func (f *fleet) degraded() bool {
	for _, svc := range f.set.Services {
		for i := range svc.Endpoints {
			for _, fam := range []Family{IPv4, IPv6} {
				if Rollup(svc, &svc.Endpoints[i], f.states, fam).Health == Degraded {
					return true
				}
			}
		}
	}
	return false
}

// TestLossMovesOnlyItsClients: when a site fails, whoever was not sent to it
// stays where he was.
func TestLossMovesOnlyItsClients(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := draw(t)
		f.plan.Overrides = slices.DeleteFunc(f.plan.Overrides, func(o *plan.Override) bool {
			return o.GetKind() == plan.Override_OBSERVE || o.GetPace() != nil // of those that are drained in steps the last keeps its own
		})
		for s := range f.states { // doubt about degraded sites moves others by design (S9)
			if s.Kind == health.KindSoft {
				delete(f.states, s)
			}
		}
		f.returns = nil // of sites that return together, those who came first leave the shares to others
		before := Decide(f.input())
		lost := rapid.SampledFrom(f.set.Clusters).Draw(t, "lost").Name
		f.mark(lost, health.KindUnknown, health.Down)
		if f.degraded() { // by the weight of probes that fail: likewise
			return
		}
		after := Decide(f.input())
		place, client := someone(t)
		for fam := range 2 {
			x := look([]*View{&before.Services[0].V4, &before.Services[0].V6}[fam], place, client)
			y := look([]*View{&after.Services[0].V4, &after.Services[0].V6}[fam], place, client)
			if x == nil || x.Tier != TierHealthy {
				continue
			}
			kept := slices.DeleteFunc(slices.Clone(x.Choices), func(c Choice) bool { return c.Cluster == lost })
			if len(kept) == 0 {
				continue // all of these clients were there
			}
			if x.Weighted && len(kept) == 1 { // one site left needs no weight
				kept[0].Weight = 0
			}
			if got, want := fmt.Sprint(y.Choices), fmt.Sprint(kept); got != want {
				t.Fatalf("without %s: got %v, want %v", lost, got, want)
			}
		}
	})
}

// TestOrderNeverShows: permuting whatever a spec or a plan lists, two directors
// that met the same facts in another order decide alike, byte for byte (L2, and
// the metamorphic rules).
func TestOrderNeverShows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := draw(t)
		f.drawSpill(t)
		one := Decide(f.input())

		g := &fleet{set: &spec.Set{Fleet: f.set.Fleet}, plan: proto.CloneOf(f.plan), states: map[health.Subject]health.State{}, returns: f.returns, earlier: f.earlier}
		maps.Copy(g.states, f.states)
		g.set.Clusters = rapid.Permutation(f.set.Clusters).Draw(t, "clusters'")
		svc := *f.set.Services[0]
		svc.Endpoints = rapid.Permutation(svc.Endpoints).Draw(t, "endpoints'")
		for i := range svc.Endpoints {
			svc.Endpoints[i].Addresses = rapid.Permutation(svc.Endpoints[i].Addresses).Draw(t, "addresses'")
		}
		svc.Pins = rapid.Permutation(svc.Pins).Draw(t, "pins'")
		svc.Probes = rapid.Permutation(svc.Probes).Draw(t, "probes'")
		svc.Residency = rapid.Permutation(svc.Residency).Draw(t, "residency'")
		svc.Steering.Regions = rapid.Permutation(svc.Steering.Regions).Draw(t, "regions'")
		g.set.Services = []*spec.GlobalService{&svc}
		g.plan.Overrides = rapid.Permutation(g.plan.Overrides).Draw(t, "overrides'")
		if g.plan.Spill != nil {
			g.plan.Spill.Pools = rapid.Permutation(g.plan.Spill.Pools).Draw(t, "pools'")
		}
		two := Decide(g.input())

		x, y := one.Services[0], two.Services[0]
		if got, want := fmt.Sprintf("%+v %+v %q", y.V4, y.V6, y.Alerts), fmt.Sprintf("%+v %+v %q", x.V4, x.V6, x.Alerts); got != want {
			t.Fatalf("permuted:\n%s\nas it was:\n%s", got, want)
		}
	})
}

// TestScalingWeights: all weights times ten are the same weights.
func TestScalingWeights(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := draw(t)
		one := dump(Decide(f.input()))
		for i := range f.set.Services[0].Endpoints {
			f.set.Services[0].Endpoints[i].Weight *= 10
		}
		if two := dump(Decide(f.input())); one != two {
			t.Fatalf("scaled:\n%s\nas it was:\n%s", two, one)
		}
	})
}

// TestUnknownRanksAsUp: a subject that no certificate speaks of is steered to
// as one that is up (S1, S17).
func TestUnknownRanksAsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := draw(t)
		one := Decide(f.input())
		for _, e := range f.set.Services[0].Endpoints {
			for _, a := range e.Watched() {
				for _, o := range Subjects(f.set.Services[0], a) {
					if f.states[o.Subject] == health.Unknown {
						f.states[o.Subject] = health.Up
					}
				}
			}
		}
		two := Decide(f.input())
		if got, want := fmt.Sprintf("%+v %+v", two.Services[0].V4, two.Services[0].V6), fmt.Sprintf("%+v %+v", one.Services[0].V4, one.Services[0].V6); got != want {
			t.Fatalf("up instead of unknown:\n%s\nas it was:\n%s", got, want)
		}
	})
}

// TestTwinRegions: of two regions that name the same clients and say the same
// order, the same one gives the reason however they are listed (L2).
func TestTwinRegions(t *testing.T) {
	f := newFleet()
	f.cluster(t, "a:DE")
	f.cluster(t, "b:US")
	svc := f.service(t, "shop", spec.PolicyGeo, "a=192.0.2.1", "b=192.0.2.2")
	both := []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	svc.Steering.Regions = []spec.Region{
		{Clients: spec.Clients{Countries: []string{"TR"}, Prefixes: both}, Order: []string{"b", "a"}},
		{Clients: spec.Clients{Prefixes: both}, Order: []string{"b", "a"}},
	}
	one := fmt.Sprintf("%+v", Decide(f.input()).Services[0].V4)
	if !strings.Contains(one, "region 198.51.100.0/24: in order: b, a") {
		t.Fatalf("no region decided: %s", one)
	}
	slices.Reverse(svc.Steering.Regions)
	if two := fmt.Sprintf("%+v", Decide(f.input()).Services[0].V4); two != one {
		t.Fatalf("reversed:\n%s\nas it was:\n%s", two, one)
	}
}
