package probe

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/divertdns/divert/health"
)

// TestExpiring: a certificate that expires soon fails nothing; it is told of as long as
// its target is probed, in metrics too.
func TestExpiring(t *testing.T) {
	ca := newAuthority(t)
	soon := newFake(t, secured(ca.issue(t, "shop.example.org", -time.Hour, 30*time.Minute), silent))
	later := newFake(t, secured(ca.issue(t, "shop.example.org", -time.Hour, 50*time.Minute), silent))
	target := func(f *fake, warn time.Duration, def string) Target {
		return Target{
			Subject: health.Subject{Kind: health.KindCheck, Addr: f.addr, Def: def}, Interval: 100 * time.Millisecond,
			TLS: &TLS{Secure: Secure{SNI: "shop.example.org", Warn: warn}},
		}
	}
	wanted := []Target{target(soon, 40*time.Minute, "0000000000000001"), target(later, 40*time.Minute, "0000000000000002"), target(soon, 0, "0000000000000003")}
	reports := make(chan health.Report, 100)
	registry := prometheus.NewRegistry()
	s := New(Options{Allow: loopback(), RootCAs: ca.pool(), Registerer: registry, Report: func(r health.Report) {
		select {
		case reports <- r:
		default:
		}
	}})
	s.Set(wanted)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	for passed := map[health.Subject]bool{}; len(passed) < len(wanted); {
		switch r := <-reports; {
		case r.OK:
			passed[r.Subject] = true
		case !r.Void && !r.Late:
			t.Fatalf("got %+v, want passes", r)
		}
	}
	got := s.Expiring()
	if len(got) != 1 || got[0].Subject != wanted[0].Subject || time.Until(got[0].At) > 31*time.Minute {
		t.Errorf("got %+v, want the first alone", got)
	}
	if n, at := gauge(t, registry, "divert_probe_certificates_expiring"), gauge(t, registry, "divert_probe_certificate_expiry_timestamp_seconds"); n != 1 || at != float64(got[0].At.Unix()) {
		t.Errorf("metrics: got %v and %v, want 1 and %v", n, at, got[0].At.Unix())
	}
	s.Set(wanted[1:2])
	for len(s.Expiring()) > 0 { // what is no longer probed is forgotten, as soon as Run looks
		<-reports
	}
}

func gauge(t *testing.T, r *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}
