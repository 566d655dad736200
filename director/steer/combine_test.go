package steer

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
)

// TestCombine: which probes must pass, and what the weight of the others makes of an
// address (SEMANTICS section 1, levels of evidence).
func TestCombine(t *testing.T) {
	one, two, three := httpProbe(80, "/", time.Millisecond), httpProbe(81, "/", time.Millisecond), httpProbe(81, "/slow", 0)
	one.Weight, two.Weight, three.Weight = 50, 30, 20
	probes := []spec.Probe{one, two, three}
	all, any1, two2 := spec.Combine{}, spec.Combine{AtLeast: 1}, spec.Combine{AtLeast: 2}
	weighed := spec.Combine{AtLeast: 1, DegradedBelow: 60}
	tests := []struct {
		name    string
		combine spec.Combine
		down    []string // "/", "fast 80" …; all else is up
		want    Health
		why     string
	}{
		{"all pass", all, nil, Healthy, ""},
		{"all: one fails", all, []string{"81/slow"}, Failed, "fra failed: %s down"},
		{"any: all pass", any1, nil, Healthy, ""},
		{"any: one of three", any1, []string{"80/", "81/"}, Healthy, "fra: %s and 1 more down (1 of 3 probes pass, one must)"},
		{"any: none", any1, []string{"80/", "81/", "81/slow"}, Failed, "fra failed: %s and 2 more down (0 of 3 probes pass, one must)"},
		{"any: a signal fails the probes of its port that have one", any1, []string{"fast 81", "80/"}, Healthy, "fra: %s and 1 more down (1 of 3 probes pass, one must)"},
		{"any: one without a signal is not failed by it", any1, []string{"fast 80", "fast 81"}, Healthy, "fra: %s and 1 more down (1 of 3 probes pass, one must)"},
		{"any: all by signal or check", any1, []string{"fast 80", "fast 81", "81/slow"}, Failed, "fra failed: %s and 2 more down (0 of 3 probes pass, one must)"},
		{"at least 2: two", two2, []string{"80/"}, Healthy, "fra: %s down (2 of 3 probes pass, at least 2 must)"},
		{"at least 2: one", two2, []string{"80/", "81/"}, Failed, "fra failed: %s and 1 more down (1 of 3 probes pass, at least 2 must)"},
		{"weighed: enough", weighed, []string{"81/"}, Healthy, "fra: %s down (2 of 3 probes pass, one must)"},
		{"weighed: too little", weighed, []string{"80/"}, Degraded, "fra degraded: %s down (probes of weight 50 of 100 pass, 60 is wanted)"},
		{"weighed: nothing", weighed, []string{"80/", "81/", "81/slow"}, Failed, "fra failed: %s and 2 more down (0 of 3 probes pass, one must)"},
		{"more than there are gets what can be had (S1)", spec.Combine{AtLeast: 9, DegradedBelow: 900}, nil, Healthy, ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			svc := &spec.GlobalService{Name: "shop", Probes: probes, Combine: tc.combine}
			e := spec.Endpoint{Cluster: "fra", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
			svc.Endpoints = []spec.Endpoint{e}
			states := map[health.Subject]health.State{}
			first := ""
			for _, o := range Subjects(svc, e.Addresses[0]) {
				name := fmt.Sprintf("fast %d", o.Subject.Addr.Port())
				if !o.Fast {
					name = fmt.Sprintf("%d%s", o.Subject.Addr.Port(), o.Probe.HTTP.Path)
				}
				states[o.Subject] = health.Up
				if slices.Contains(tc.down, name) {
					states[o.Subject] = health.Down
					if first == "" {
						first = o.String() + " at 192.0.2.1"
					}
				}
			}
			r := Rollup(svc, &e, states, IPv4)
			if r.Health != tc.want {
				t.Errorf("got %v, want %v", r.Health, tc.want)
			}
			s := site{end: &e, addrs: [2][]address{{{addr: e.Addresses[0], subjects: Subjects(svc, e.Addresses[0])}}}}
			want := tc.why
			if want != "" {
				want = fmt.Sprintf(want, first)
			}
			if got := s.healthWhy(&r); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// rank orders standings from the worst to the best for steering, where unknown ranks as
// up (S1).
func rank(h Health) int {
	return map[Health]int{Failed: 0, Degraded: 1, HealthUnknown: 2, Healthy: 2}[h]
}

// TestCombineMonotone: one more failing subject never makes an endpoint healthier, nor
// does it bring an address back, whatever the rule; and `all` counts as it did before
// there were rules.
func TestCombineMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := draw(t)
		svc := f.set.Services[0]
		end := rapid.SampledFrom(svc.Endpoints).Draw(t, "endpoint")
		var all []health.Subject
		for _, a := range end.Watched() {
			for _, o := range Subjects(svc, a) {
				all = append(all, o.Subject)
			}
		}
		before := Rollup(svc, &end, f.states, IPv4)
		if svc.Combine.AtLeast == 0 {
			plain := *svc
			plain.Combine = spec.Combine{AtLeast: 100}
			if got := Rollup(&plain, &end, f.states, IPv4); got.Health != before.Health || !slices.Equal(got.Live, before.Live) || !slices.Equal(got.Down, before.Down) {
				t.Fatalf("counted: %+v, all: %+v", got, before)
			}
		}
		f.states[rapid.SampledFrom(all).Draw(t, "fails")] = health.Down
		after := Rollup(svc, &end, f.states, IPv4)
		if rank(after.Health) > rank(before.Health) {
			t.Fatalf("%v became %v by a failure", before.Health, after.Health)
		}
		for _, a := range after.Live {
			if !slices.Contains(before.Live, a) {
				t.Fatalf("%v lives by a failure", a)
			}
		}
	})
}

// TestCombineWeightsScale: all weights of probes times ten, and what is wanted of them,
// say the same.
func TestCombineWeightsScale(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := draw(t)
		svc := f.set.Services[0]
		end := rapid.SampledFrom(svc.Endpoints).Draw(t, "endpoint")
		before := Rollup(svc, &end, f.states, IPv4)
		scaled := *svc
		scaled.Probes = slices.Clone(svc.Probes)
		for i := range scaled.Probes {
			scaled.Probes[i].Weight = 10 * max(scaled.Probes[i].Weight, 1)
		}
		scaled.Combine.DegradedBelow *= 10
		if after := Rollup(&scaled, &end, f.states, IPv4); after.Health != before.Health || !slices.Equal(after.Live, before.Live) {
			t.Fatalf("scaled: %+v, as it was: %+v", after, before)
		}
	})
}

// TestSoftSubjects: soft probes are of the address as a whole and of its cluster, and
// are never what must pass.
func TestSoftSubjects(t *testing.T) {
	svc := &spec.GlobalService{Name: "shop", Probes: []spec.Probe{
		httpProbe(80, "/", 0), {Kube: &spec.KubeProbe{MinNodesReady: 50}}, {Kube: &spec.KubeProbe{MinNodesReady: 50}},
	}}
	for i, cluster := range []string{"fra", "ams"} {
		svc.Endpoints = append(svc.Endpoints, spec.Endpoint{Cluster: cluster, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})}})
	}
	defs := map[string]string{}
	for _, e := range svc.Endpoints {
		soft := slices.DeleteFunc(Subjects(svc, e.Addresses[0]), func(o SubjectOf) bool { return o.Subject.Kind != health.KindSoft })
		if len(soft) != 1 || soft[0].Cluster != e.Cluster || soft[0].Subject.Addr != netip.AddrPortFrom(e.Addresses[0], 0) || !soft[0].Subject.Valid() {
			t.Fatalf("%s: %+v", e.Cluster, soft)
		}
		if other, found := defs[soft[0].Subject.Def]; found {
			t.Errorf("%s and %s are one", other, e.Cluster)
		}
		defs[soft[0].Subject.Def] = e.Cluster
		down := map[health.Subject]health.State{soft[0].Subject: health.Down}
		if r := Rollup(svc, &e, down, IPv4); r.Health != Degraded || len(r.Live) != 1 {
			t.Errorf("%s: %v with %d live, want degraded with 1", e.Cluster, r.Health, len(r.Live))
		}
	}
}
