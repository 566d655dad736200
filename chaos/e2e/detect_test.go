package e2e

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

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
	r.until(60*time.Second, "it returns after its hold, and has all of its clients 30 s later", r.all("pay.example.org", "fra"))
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
	must(t, r.Cut(t.Context(), "d1", "sin"))
	must(t, r.Kill("fra"))
	r.until(5*time.Second, "it fails over", r.all("pay.example.org", "nyc"))
	// A dead site is dead for all, one that a director cannot reach for it alone (F6).
	r.matrix(2, "pay", 1, map[string]string{
		"pay@fra": "d1- d2- d3- fail", "pay@nyc": "d1+ d2+ d3+ pass", "pay@sin": "d1- d2+ d3+ disagree",
	})
	must(t, r.Pause("d3"))
	r.until(5*time.Second, "whoever is silent is named, and the rest have their word", func() error {
		out, code := r.divert(1, "probe", "pay@nyc")
		if code != 3 || !strings.Contains(out, "! d3 silent for") || !strings.Contains(out, "2 probes: 2 pass") {
			return fmt.Errorf("exit %d, want 3\n%s", code, out)
		}
		return nil
	})
	must(t, r.Resume("d3"))
	must(t, r.Heal(t.Context(), "d1", "sin"))
	must(t, r.Kill("nyc"))
	r.until(5*time.Second, "it fails over again", r.all("pay.example.org", "sin"))
}

// TestReturn: a site that is well again returns after its hold, to 10, 50 and then all
// of its clients over 30 s, on every director the same ones; and one that falls a second time within ten minutes is held, over restarts of all directors
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
	r.until(30*time.Second, "it returns", func() error {
		if to, err := r.toFra(1, host); err != nil || !slices.Contains(to, true) {
			return cmp.Or(err, errors.New("nobody is sent to fra"))
		}
		return nil
	})
	came := time.Now()
	if took := came.Sub(well); took < 10*time.Second {
		t.Errorf("it returned %s after it was well, want at least the hold of 10s", took)
	} else {
		t.Logf("the first return took %s", took.Round(10*time.Millisecond))
	}
	for _, step := range []struct {
		after   time.Duration
		percent float64
	}{{0, 10}, {10 * time.Second, 50}, {30 * time.Second, 100}} {
		what := fmt.Sprintf("it has %g %% of its clients, the same ones on every director", step.percent)
		r.until(25*time.Second, what, r.shares(host, step.percent))
		if took := time.Since(came); took < step.after-time.Second {
			t.Errorf("it has %g %% of its clients %s after its return, want %s", step.percent, took, step.after)
		} else {
			t.Logf("%s after its return %s", took.Round(10*time.Millisecond), what)
		}
	}
	r.until(10*time.Second, "it has all of its clients", r.all(host, "fra"))

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
	r.until(45*time.Second, "a person ends the wait", r.all(host, "fra"))
}

// rampClients is how many networks are asked for.
const rampClients = 1000

// toFra tells of clients, each of a network of its own, which a director sends to fra.
func (r *rig) toFra(i int, host string) ([]bool, error) {
	out := make([]bool, rampClients)
	for c := range out {
		reply, err := r.reply(i, host, fmt.Sprintf("20.%d.%d.0/24", c>>8, c&255))
		if err != nil {
			return nil, err
		}
		if len(reply.Answer) != 1 {
			return nil, fmt.Errorf("%s has no answer for client %d", local.Name(i), c)
		}
		out[c] = r.siteOf(reply.Answer[0].(*dns.A).A.String()) == "fra"
	}
	return out, nil
}

// shares checks that all directors send the same clients to fra, that those are as many
// percent as is wanted, give or take five standard deviations, and that status says so.
func (r *rig) shares(host string, percent float64) func() error {
	return func() error {
		var first []bool
		for i := 1; i <= r.Directors(); i++ {
			to, err := r.toFra(i, host)
			if err != nil {
				return err
			}
			if first == nil {
				first = to
			} else if !slices.Equal(first, to) {
				return fmt.Errorf("%s sends other clients to fra than %s", local.Name(i), local.Name(1))
			}
		}
		n, p, got := float64(rampClients), percent/100, 0.0
		for _, yes := range first {
			if yes {
				got += 1 / n
			}
		}
		if bound := 5*math.Sqrt(p*(1-p)/n) + 1e-9; math.Abs(got-p) > bound {
			return fmt.Errorf("fra has %.3f of the clients, want %.2f +- %.3f", got, p, bound)
		}
		s, err := r.status(2)
		if err != nil {
			return err
		}
		if site := siteIn(s, "pay", "fra"); cmp.Or(float64(site.Share), 100) != percent {
			return fmt.Errorf("status says %d %%: %s", site.Share, site.Why)
		}
		return nil
	}
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
