package steer

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
)

// TestHostnameIsBothFamilies: an endpoint that is a hostname is decided as one that
// has an address of each family, of the same health, whatever the name resolves to and
// whether it does: no decision of two directors can differ by that (L2).
func TestHostnameIsBothFamilies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := draw(t)
		svc := *f.set.Services[0]
		svc.Endpoints = slices.Clone(svc.Endpoints)
		g := &fleet{set: &spec.Set{Fleet: f.set.Fleet, Clusters: f.set.Clusters, Services: []*spec.GlobalService{&svc}}, plan: proto.CloneOf(f.plan), states: map[health.Subject]health.State{}, returns: map[health.Subject]Return{}, earlier: map[health.Subject][]Return{}}
		to := map[netip.Addr][2]netip.Addr{}
		for i := range svc.Endpoints {
			if e := &svc.Endpoints[i]; e.Hostname != "" {
				of := [2]netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), netip.MustParseAddr(fmt.Sprintf("2001:db8:f::%d", i))}
				to[spec.StandIn(e.Hostname)] = of
				e.Hostname, e.Addresses = "", of[:]
			}
		}
		each := func(s health.Subject, yield func(health.Subject)) {
			of, ok := to[s.Addr.Addr()]
			if !ok {
				yield(s)
				return
			}
			for _, a := range of {
				s.Addr = netip.AddrPortFrom(a, s.Addr.Port())
				yield(s)
			}
		}
		for s, st := range f.states {
			each(s, func(s health.Subject) { g.states[s] = st })
		}
		for s, r := range f.returns {
			each(s, func(s health.Subject) { g.returns[s] = r })
		}
		for s, list := range f.earlier {
			each(s, func(s health.Subject) { g.earlier[s] = list })
		}
		for _, o := range g.plan.GetOverrides() {
			var down []string
			for _, text := range o.GetDown() {
				s, err := health.ParseSubject(text)
				if err != nil {
					t.Fatal(err)
				}
				each(s, func(s health.Subject) { down = append(down, s.String()) })
			}
			o.Down = down
		}
		got, want := Decide(f.input()).Services[0], Decide(g.input()).Services[0]
		views := func(s Service) (out []View) {
			out = []View{s.V4, s.V6}
			for _, site := range s.SiteViews {
				out = append(out, site.V4, site.V6)
			}
			return out
		}
		for i, v := range views(got) {
			w := views(want)[i]
			for _, place := range v.ByPlace {
				if int(place) >= len(v.Sets) {
					t.Fatalf("no set %d", place)
				}
			}
			if a, b := choices(v), choices(w); a != b {
				t.Fatalf("view %d:\n%s\nwant\n%s", i, a, b)
			}
		}
	})
}

// choices writes what a view says apart from the reasons, for every place and prefix.
func choices(v View) (out string) {
	rows := append([]PrefixPlaces{{ByPlace: v.ByPlace}}, v.ByPrefix...)
	for _, r := range rows {
		for _, i := range r.ByPlace {
			s := v.Sets[i]
			out += fmt.Sprintf("%v %+v %v %v %v\n", r.Prefix, s.Choices, s.Weighted, s.FailOpen, s.Tier)
		}
	}
	return out
}

// TestHostnamesAlikeInBothFamilies: where all endpoints are hostnames both families
// have the same choices, so that one CNAME is right for both.
func TestHostnamesAlikeInBothFamilies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := draw(t)
		svc := f.set.Services[0]
		if svc.AllDown == spec.AllDownFallback { // the spec refuses it
			svc.AllDown, svc.Fallback = spec.AllDownAlive, nil
		}
		for i := range svc.Endpoints {
			e := &svc.Endpoints[i]
			e.Hostname, e.Addresses = e.Cluster+".example.net", nil
		}
		svc.CNAME = true
		clear(f.states)
		drawStates(t, f, svc)
		d := Decide(f.input()).Services[0]
		if a, b := choices(d.V4), choices(d.V6); a != b {
			t.Fatalf("IPv4:\n%s\nIPv6:\n%s", a, b)
		}
		for _, s := range d.SiteViews {
			if a, b := choices(s.V4), choices(s.V6); a != b {
				t.Fatalf("%s, IPv4:\n%s\nIPv6:\n%s", s.Cluster, a, b)
			}
		}
		for _, s := range d.Sites() {
			if len(s.All) != 1 || len(s.Live) > 1 {
				t.Fatalf("%s has %v, of those %v live", s.Cluster, s.All, s.Live)
			}
		}
	})
}

// TestAliasesAreNotAlike: services of the same hostnames are decided as one only if
// their hosts are answered in the same way.
func TestAliasesAreNotAlike(t *testing.T) {
	f := newFleet()
	f.cluster(t, "fra:DE")
	f.service(t, "a", spec.PolicyFailover, "fra=fra.example.net").CNAME = true
	f.service(t, "b", spec.PolicyFailover, "fra=fra.example.net")
	f.service(t, "c", spec.PolicyFailover, "fra=fra.example.net").CNAME = true
	f.service(t, "d", spec.PolicyFailover, "fra=other.example.net").CNAME = true
	for _, svc := range f.set.Services {
		svc.Probes[0].HTTP.Host = "shop.example.org"
	}
	if got := Decide(f.input()).Alike; !slices.Equal(got, []int32{0, 1, 0, 3}) {
		t.Errorf("got %v", got)
	}
}

func TestSubjectText(t *testing.T) {
	lb := spec.StandIn("lb.example.net")
	set := &spec.Set{Hostnames: map[netip.Addr]string{lb: "lb.example.net"}}
	for want, s := range map[string]health.Subject{
		"signal/lb.example.net:443":                {Kind: health.KindSignal, Addr: netip.AddrPortFrom(lb, 443)},
		"check/00000000000000aa@lb.example.net:80": {Kind: health.KindCheck, Addr: netip.AddrPortFrom(lb, 80), Def: "00000000000000aa"},
		"signal/[2001:db8::1]:443":                 {Kind: health.KindSignal, Addr: netip.MustParseAddrPort("[2001:db8::1]:443")},
	} {
		if got := SubjectText(set, s); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	gone := health.Subject{Kind: health.KindSignal, Addr: netip.AddrPortFrom(spec.StandIn("gone.example.net"), 443)}
	if got := SubjectText(set, gone); got != gone.String() {
		t.Errorf("of no hostname of the spec: got %s", got)
	}
}
