package steer

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

func onlyOn(clusters ...string) *plan.Residency {
	return &plan.Residency{Sets: []*plan.ResidencySet{{Services: []string{"shop"}, Continents: []string{"EU"}, Clusters: clusters, Why: "law"}}}
}

// TestPolicyNarrows (S11): a set of the policy keeps clients from clusters as the spec's own
// rules do, though all else is down, says that it was the policy, and lets them go once it is
// gone; others it leaves alone.
func TestPolicyNarrows(t *testing.T) {
	f := newFleet()
	f.cluster(t, "fra:DE", "j=eu")
	f.cluster(t, "ams:NL", "j=eu")
	f.cluster(t, "nyc:US", "j=us")
	f.service(t, "shop", spec.PolicyFailover, "nyc=192.0.2.3", "fra=192.0.2.1", "ams=192.0.2.2")
	f.service(t, "pay", spec.PolicyFailover, "nyc=192.0.2.13", "fra=192.0.2.11")
	eu, us := slices.IndexFunc(places, func(p Place) bool { return p.Country == "DE" }), slices.IndexFunc(places, func(p Place) bool { return p.Country == "US" })
	var d Decider
	answer := func(service string, place int) (string, string) {
		t.Helper()
		got := d.Decide(f.input())
		i := slices.IndexFunc(got.Services, func(s Service) bool { return s.Name == service })
		s := &got.Services[i]
		set := s.V4.For(netip.Prefix{}, uint16(place))
		return strings.Join(clustersOf(set), " "), strings.Join(s.Why(IPv4, set), "; ")
	}
	check := func(step, service string, place int, want, why string) {
		t.Helper()
		if got, said := answer(service, place); got != want || !strings.Contains(said, why) {
			t.Errorf("%s: got %q because %q, want %q because %q", step, got, said, want, why)
		}
	}
	check("none", "shop", eu, "nyc fra ams", "")
	f.plan.Residency = onlyOn("ams", "fra")
	check("a set", "shop", eu, "fra ams", "residency by policy: EU clients only on ams, fra (law): nyc left out")
	check("a set", "shop", us, "nyc fra ams", "")
	check("a set", "shop", 0, "fra ams", "place not known well enough")
	check("a set", "pay", eu, "nyc fra", "")
	f.plan.Residency = onlyOn("ams")
	check("a narrower one", "shop", eu, "ams", "only on ams (law)")
	f.plan.Residency = nil
	check("dropped", "shop", eu, "nyc fra ams", "")
}

// TestNarrowOnce: a set that was narrowed is not narrowed again by what is equal, so that what
// is kept of it stays; one that was is what it was before once the plan has none; services
// that say the same share it, whatever their names.
func TestNarrowOnce(t *testing.T) {
	f := newFleet()
	f.cluster(t, "fra:DE")
	f.service(t, "pay", spec.PolicyGeo, "fra=192.0.2.2")
	f.service(t, "shop", spec.PolicyGeo, "fra=192.0.2.1")
	if got := Narrow(f.set, &plan.Plan{}, false); got != f.set {
		t.Error("without residency the spec is another")
	}
	p := &plan.Plan{Residency: onlyOn("fra")}
	one := Narrow(f.set, p, false)
	if one == f.set || one.Base() != f.set || len(f.set.Services[1].Residency) != 0 || len(one.Service("shop").Residency) != 1 || one.Service("pay") != f.set.Service("pay") {
		t.Errorf("got %+v of %+v", one, f.set)
	}
	if Narrow(one, proto.CloneOf(p), false) != one {
		t.Error("equal sets make another spec")
	}
	if got := Narrow(one, &plan.Plan{Residency: onlyOn("ams")}, false); got == one || got.Base() != f.set || len(got.Service("shop").Residency) != 1 {
		t.Errorf("other sets: %+v", got.Service("shop").Residency)
	}
	if Narrow(one, &plan.Plan{}, false) != f.set {
		t.Error("a policy that is gone leaves something")
	}
	tried := Narrow(f.set, p, true)
	if tried == f.set || len(tried.Service("shop").Residency) != 0 || tried.Narrowed == nil {
		t.Error("what a rollout tries is narrowed by what all have")
	}
	two := &plan.Residency{Sets: []*plan.ResidencySet{{Services: []string{"pay", "shop"}, Everybody: true, Clusters: []string{"fra"}}}}
	both := Narrow(f.set, &plan.Plan{Residency: two}, false)
	if &both.Services[0].Residency[0] != &both.Services[1].Residency[0] {
		t.Error("services do not share what they have in common")
	}
	if r := RuleOf(&plan.ResidencySet{Prefixes: []string{"no prefix"}, Clusters: []string{"fra"}}); !r.Clients.Everybody {
		t.Error("clients that cannot be read are let go anywhere")
	}
}

// TestNarrowedAlike: whoever has narrowed the spec beforehand and whoever has not decide the
// same (S11: there is one fence, and nobody gets around it by forgetting).
func TestNarrowedAlike(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := draw(t)
		f.drawSets(t)
		in := f.input()
		var forgot Decider
		for range 2 {
			got := forgot.Decide(in)
			in2 := in
			in2.Spec = Narrow(in.Spec, in.Plan, false)
			want := Decide(in2)
			for fam, v := range []*View{&got.Services[0].V4, &got.Services[0].V6} {
				w := []*View{&want.Services[0].V4, &want.Services[0].V6}[fam]
				for place := range places {
					a, b := look(v, place, netip.Prefix{}), look(w, place, netip.Prefix{})
					if (a == nil) != (b == nil) || a != nil && !slices.Equal(clustersOf(a), clustersOf(b)) {
						t.Fatalf("place %d: %v, narrowed before %v", place, a, b)
					}
				}
			}
			f.drawSets(t)
			in = f.input()
		}
	})
}

// drawSets draws what a policy made of residency.
func (f *fleet) drawSets(t *rapid.T) {
	for range rapid.IntRange(0, 3).Draw(t, "sets") {
		c := drawClients(t)
		s := &plan.ResidencySet{Services: []string{"shop"}, Continents: c.Continents, Countries: c.Countries}
		for _, p := range c.Prefixes {
			s.Prefixes = append(s.Prefixes, p.String())
		}
		s.Everybody = len(c.Continents)+len(c.Countries)+len(c.Prefixes) == 0
		for _, cl := range f.set.Clusters {
			if rapid.Bool().Draw(t, "in the set") {
				s.Clusters = append(s.Clusters, cl.Name)
			}
		}
		r := proto.CloneOf(f.plan.Residency) // a plan is never written to
		if f.plan.Residency = r; r == nil {
			f.plan.Residency = &plan.Residency{}
		}
		f.plan.Residency.Sets = append(f.plan.Residency.Sets, s)
	}
}

// setsLet is residency by policy written the obvious way, for one client.
func setsLet(r *plan.Residency, svc *spec.GlobalService, cluster string, p Place, client netip.Prefix) (allowed, covered bool) {
	allowed = true
	for _, s := range r.GetSets() {
		hit := s.GetEverybody() || slices.Contains(s.GetCountries(), p.Country) && p.Country != "" || slices.Contains(s.GetContinents(), p.Continent) && p.Continent != ""
		for _, text := range s.GetPrefixes() {
			q := normal(netip.MustParsePrefix(text))
			hit = hit || client.IsValid() && q.Bits() <= client.Bits() && q.Contains(client.Addr())
		}
		if svc.ResidencyUnknown == spec.ResidencyUnknownIntersect {
			hit = hit || p.Country == "" && p.Continent == "" || p.Country == "" && len(s.GetCountries()) > 0
		}
		if hit {
			covered = true
			allowed = allowed && slices.Contains(s.GetClusters(), cluster)
		}
	}
	return allowed, covered
}
