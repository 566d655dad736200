package steer

import (
	"net/netip"
	"testing"
	"time"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
)

func httpProbe(port uint16, path string, fast time.Duration) spec.Probe {
	return spec.Probe{
		HTTP:     &spec.HTTPProbe{Scheme: "http", Port: port, Method: "GET", Path: path, Host: "shop.example.org", Statuses: []int{200}},
		Interval: time.Second, Timeout: time.Second, Fast: fast,
	}
}

// TestSubjects: one signal for each distinct port that has one, one check for
// each distinct probe, and services that ask the same share both.
func TestSubjects(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.1")
	tests := []struct {
		name            string
		probes          []spec.Probe
		signals, checks int
	}{
		{"none", nil, 0, 0},
		{"one", []spec.Probe{httpProbe(80, "/", time.Millisecond)}, 1, 1},
		{"fast off", []spec.Probe{httpProbe(80, "/", 0)}, 0, 1},
		{"two of one port", []spec.Probe{httpProbe(80, "/a", time.Millisecond), httpProbe(80, "/b", 2*time.Millisecond)}, 1, 2},
		{"two ports", []spec.Probe{httpProbe(80, "/", time.Millisecond), httpProbe(81, "/", time.Millisecond)}, 2, 2},
		{"the same twice, at other paces", []spec.Probe{httpProbe(80, "/", 2*time.Millisecond), httpProbe(80, "/", time.Millisecond)}, 1, 1},
		{"tcp", []spec.Probe{{TCP: &spec.TCPProbe{Port: 443}, Interval: time.Second, Fast: time.Millisecond}}, 1, 1},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			signals, checks := 0, 0
			for _, o := range Subjects(&spec.GlobalService{Probes: tc.probes}, addr) {
				if o.Subject.Addr.Addr() != addr || o.Probe == nil || o.Fast != (o.Subject.Kind == health.KindSignal) {
					t.Errorf("subject %+v", o)
				}
				if back, err := health.ParseSubject(o.Subject.String()); err != nil || back != o.Subject {
					t.Errorf("%s does not read back: %v", o.Subject, err)
				}
				if o.Fast {
					signals++
					if o.Probe.Fast != time.Millisecond {
						t.Errorf("not the fastest probe: %v", o.Probe.Fast)
					}
				} else {
					checks++
				}
			}
			if signals != tc.signals || checks != tc.checks {
				t.Errorf("%d signals, %d checks, want %d, %d", signals, checks, tc.signals, tc.checks)
			}
		})
	}
	one := Subjects(&spec.GlobalService{Name: "a", Probes: tests[1].probes}, addr)
	two := Subjects(&spec.GlobalService{Name: "b", Probes: tests[1].probes}, netip.MustParseAddr("::ffff:192.0.2.1"))
	if one[0].Subject != two[0].Subject || one[1].Subject != two[1].Subject {
		t.Errorf("services with the same address and probe do not share: %v, %v", one, two)
	}
}

// TestRollup: failed is hard, degraded is soft, and one address of several may
// fail alone, in each family by itself.
func TestRollup(t *testing.T) {
	svc := &spec.GlobalService{Name: "shop", Probes: []spec.Probe{httpProbe(80, "/", time.Millisecond)}}
	e := spec.Endpoint{Cluster: "fra", Addresses: []netip.Addr{
		netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"),
	}}
	type marks map[string]health.State // "signal 192.0.2.1" …
	tests := []struct {
		name              string
		marks             marks
		v4, v6            Health
		live, alive, down int // of IPv4
	}{
		{"nothing is known", nil, HealthUnknown, HealthUnknown, 2, 2, 0},
		{"one is up", marks{"signal 192.0.2.1": health.Up, "check 192.0.2.1": health.Up}, Healthy, HealthUnknown, 2, 2, 0},
		{"half of one is up", marks{"signal 192.0.2.1": health.Up}, HealthUnknown, HealthUnknown, 2, 2, 0},
		{"one hangs", marks{"check 192.0.2.1": health.Down}, HealthUnknown, HealthUnknown, 1, 2, 1},
		{"one is dead", marks{"signal 192.0.2.1": health.Down}, HealthUnknown, HealthUnknown, 1, 1, 1},
		{"both are", marks{"signal 192.0.2.1": health.Down, "check 192.0.2.2": health.Down}, Failed, HealthUnknown, 0, 1, 2},
		{"the other family", marks{"signal 2001:db8::1": health.Down}, HealthUnknown, Failed, 2, 2, 0},
		{"one is degraded", marks{"soft 192.0.2.1": health.Down}, HealthUnknown, HealthUnknown, 2, 2, 0},
		{"both are degraded", marks{"soft 192.0.2.1": health.Down, "soft 192.0.2.2": health.Down}, Degraded, HealthUnknown, 2, 2, 0},
		{"what is left is degraded", marks{"soft 192.0.2.1": health.Down, "check 192.0.2.2": health.Down}, Degraded, HealthUnknown, 1, 2, 1},
		{"soft and well", marks{"soft 192.0.2.1": health.Up}, HealthUnknown, HealthUnknown, 2, 2, 0},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			states := map[health.Subject]health.State{}
			for _, a := range e.Addresses {
				for _, o := range Subjects(svc, a) {
					kind := "check "
					if o.Fast {
						kind = "signal "
					}
					if st, ok := tc.marks[kind+a.String()]; ok {
						states[o.Subject] = st
					}
				}
				if st, ok := tc.marks["soft "+a.String()]; ok {
					states[health.Subject{Kind: health.KindSoft, Addr: netip.AddrPortFrom(a, 80), Def: "00000000000000aa"}] = st
				}
			}
			v4, v6 := Rollup(svc, &e, states, IPv4), Rollup(svc, &e, states, IPv6)
			if v4.Health != tc.v4 || v6.Health != tc.v6 {
				t.Errorf("got %v, %v, want %v, %v", v4.Health, v6.Health, tc.v4, tc.v6)
			}
			if len(v4.Live) != tc.live || len(v4.Alive) != tc.alive || len(v4.Down) != tc.down {
				t.Errorf("%d live, %d alive, %d down, want %d, %d, %d", len(v4.Live), len(v4.Alive), len(v4.Down), tc.live, tc.alive, tc.down)
			}
		})
	}
}

func TestParseScope(t *testing.T) {
	for _, text := range []string{"cluster/fra", "domain/fra-dc1", "service/shop", "service/ns/shop", "service/ns/shop@fra", "selector/tier=edge", "selector/topology.example.org/zone=a=b", "fleet"} {
		s, err := ParseScope(text)
		if err != nil || s.String() != text || s.Kind == ScopeUnknown {
			t.Errorf("%q: %+v, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "fra", "cluster/", "cluster", "pod/x", "service/@fra", "service/shop@", "selector/tier", "selector/=x", "selector/x=", "/"} {
		if s, err := ParseScope(text); err == nil {
			t.Errorf("%q read as %+v", text, s)
		}
	}
}

// TestNames: reasons and whoever looks a subject up call it as people know it, a query as
// it is asked about the site; none shows the hash of a definition.
func TestNames(t *testing.T) {
	f := newFleet()
	f.cluster(t, "fra:DE")
	f.cluster(t, "nyc:US")
	svc := f.service(t, "shop", spec.PolicyFailover, "fra=192.0.2.1", "nyc=lb.example.net")
	svc.Probes = append(svc.Probes, spec.Probe{Prometheus: &spec.PrometheusProbe{URL: "https://$cluster.example.net", Query: "errors{cluster='$cluster'}"}})
	want := map[string][]string{
		"fra": {"fast :80", "http :80/", "prometheus errors{cluster='fra'}"},
		"nyc": {"fast :80", "http :80/", "prometheus errors{cluster='nyc'}"},
	}
	prepared := Prepare(f.set, places)
	for i := range svc.Endpoints {
		e := &svc.Endpoints[i]
		for j, o := range Subjects(svc, e.Watched()[0]) {
			if got := o.String(); got != want[e.Cluster][j] || prepared.Name(o.Subject) != got {
				t.Errorf("%s: got %s and %s, want %s", o.Subject, got, prepared.Name(o.Subject), want[e.Cluster][j])
			}
		}
	}
	addr := netip.MustParseAddrPort("192.0.2.1:80")
	for s, want := range map[health.Subject]string{
		health.Gray(addr): "gray :80",
		{Kind: health.KindCheck, Addr: addr, Def: "0123456789abcdef"}:                              "check :80 that the spec does not have",
		{Kind: health.KindSoft, Addr: netip.AddrPortFrom(addr.Addr(), 0), Def: "0123456789abcdef"}: "soft probe that the spec does not have",
	} {
		if got := prepared.Name(s); got != want {
			t.Errorf("%s: got %s, want %s", s, got, want)
		}
		if got := (*Prepared)(nil).Name(s); got != want {
			t.Errorf("%s, without a spec: got %s, want %s", s, got, want)
		}
	}

	f.mark("fra", health.KindSignal, health.Up)
	f.mark("fra", health.KindCheck, health.Up)
	for _, o := range Subjects(svc, addr.Addr()) {
		if o.Subject.Kind == health.KindSoft {
			f.states[o.Subject] = health.Down
		}
	}
	f.mark("nyc", health.KindCheck, health.Down)
	sites := Decide(f.input()).Services[0].Sites()
	if got, want := sites[0].Why, "fra degraded: prometheus errors{cluster='fra'}"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := sites[1].Why, "nyc failed: http :80/ at lb.example.net down"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
