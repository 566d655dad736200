package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/local"
	"github.com/divertdns/divert/chaos/relay"
)

// TestHang: a service that accepts and never answers is out soon (F3).
func TestHang(t *testing.T) {
	long(t)
	r := start(t, local.Options{})
	r.settle()
	must(t, r.Pause("fra"))
	r.until(6*time.Second, "the hung site is out", r.all("pay.example.org", "nyc"))
	must(t, r.Resume("fra"))
	r.until(30*time.Second, "it returns after its hold", r.all("pay.example.org", "fra"))
}

// TestTwoSites: two clusters, the larger one dead: it fails over (S9 is no
// budget on real failures).
func TestTwoSites(t *testing.T) {
	long(t)
	r := start(t, local.Options{Clusters: []local.Site{
		{Name: "big", Country: "DE", Region: "eu", Capacity: 100}, {Name: "small", Country: "US", Region: "us", Capacity: 50},
	}})
	r.settle()
	must(t, r.Kill("big"))
	r.until(5*time.Second, "it fails over", r.all("pay.example.org", "small"))
	// And the last one too: the answers stay, one way or the other (S1, F18).
	must(t, r.Kill("small"))
	r.holds(5*time.Second, "never empty", func() error {
		_, err := r.sites(1, "pay.example.org")
		return err
	})
}

// TestTwoOfThree: three clusters, two dead one after the other.
func TestTwoOfThree(t *testing.T) {
	long(t)
	r := start(t, local.Options{})
	r.settle()
	must(t, r.Kill("fra"))
	r.until(5*time.Second, "it fails over", r.all("pay.example.org", "nyc"))
	must(t, r.Kill("nyc"))
	r.until(5*time.Second, "it fails over again", r.all("pay.example.org", "sin"))
}

// TestReturn: a site that is well again returns after its hold, and one that
// falls a second time within ten minutes is held, over restarts of all directors
// too, until a person ends the wait (S10).
func TestReturn(t *testing.T) {
	long(t)
	const host = "pay.example.org"
	r := start(t, local.Options{})
	r.settle()
	ctx := t.Context()
	fall := func() {
		t.Helper()
		must(t, r.Kill("fra"))
		r.until(5*time.Second, "a fall is never delayed", r.all(host, "nyc"))
		must(t, r.Start(ctx, "fra"))
	}

	fall()
	well := time.Now()
	r.until(30*time.Second, "it returns", r.all(host, "fra"))
	if took := time.Since(well); took < 10*time.Second {
		t.Errorf("it returned %s after it was well, want at least the hold of 10s", took)
	} else {
		t.Logf("the first return took %s", took.Round(10*time.Millisecond))
	}

	fall() // the third transition in ten minutes
	damped := func() error {
		s, err := r.status(1)
		if err != nil {
			return err
		}
		site := siteIn(s, "pay", "fra")
		if site.Health != "failed" || !strings.Contains(site.Returns, "more than 2 transitions in 10m") {
			return fmt.Errorf("fra is %s, returns: %s", site.Health, site.Returns)
		}
		return nil
	}
	r.until(15*time.Second, "status says why it waits", damped)
	// Without S10 the doubled hold would let it back after 20 s.
	r.holds(25*time.Second, "it is held", r.all(host, "nyc"))
	for i := 1; i <= r.Directors(); i++ {
		must(t, r.Kill(local.Name(i)))
		must(t, r.Start(ctx, local.Name(i)))
	}
	r.until(20*time.Second, "the wait is known after a restart", damped)
	r.holds(25*time.Second, "it is held over a restart", func() error {
		_, err := r.sites(1, host)
		if err == nil {
			err = r.all(host, "nyc")()
		}
		return err
	})
	r.settleBut("fra")
	r.must(2, "readmit", "cluster/fra", "--reason", "the power supply is replaced")
	r.until(10*time.Second, "a person ends the wait", r.all(host, "fra"))
}

// TestControlPlane: an API server alone is down: its cluster is impaired, which
// is shown and moves nothing (F9, S17). Its service alone is down: that moves.
func TestControlPlane(t *testing.T) {
	long(t)
	r := start(t, local.Options{})
	r.settle()
	ctx := t.Context()
	control := func(want func(word string) bool) func() error {
		return func() error {
			for i := 1; i <= r.Directors(); i++ {
				s, err := r.status(i)
				if err != nil {
					return err
				}
				if c := clusterIn(s, "fra"); !want(c.ControlPlane) || c.Health != "healthy" {
					return fmt.Errorf("%s sees fra %s, control plane %q", local.Name(i), c.Health, c.ControlPlane)
				}
			}
			return nil
		}
	}
	impaired := func(word string) bool { return strings.HasPrefix(word, "impaired") }
	fine := func(word string) bool { return word == "ok" }

	r.until(15*time.Second, "all is well", control(fine))
	must(t, r.Cut(ctx, relay.Any, "fra/"+local.PartServer))
	r.until(40*time.Second, "it is impaired", func() error {
		if err := r.all("pay.example.org", "fra")(); err != nil {
			t.Fatalf("traffic moved: %v", err)
		}
		return control(impaired)()
	})
	r.holds(5*time.Second, "no traffic moves", r.all("pay.example.org", "fra"))
	if out := r.must(1, "status"); !strings.Contains(out, "impaired") {
		t.Errorf("status says nothing of it:\n%s", out)
	}
	must(t, r.Heal(ctx, relay.Any, "fra/"+local.PartServer))
	r.until(40*time.Second, "it is well again", control(fine))

	must(t, r.Cut(ctx, relay.Any, "fra/"+local.PartService))
	r.until(6*time.Second, "the service's traffic moves", r.all("pay.example.org", "nyc"))
	s, err := r.status(1)
	must(t, err)
	if c := clusterIn(s, "fra"); c.Health != "failed" || c.ControlPlane != "ok" {
		t.Errorf("fra is shown as %s with control plane %q, want failed and ok", c.Health, c.ControlPlane)
	}
}
