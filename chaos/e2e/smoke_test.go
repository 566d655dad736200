package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/chaos/local"
	"github.com/divertdns/divert/chaos/relay"
	"github.com/divertdns/divert/director/api"
)

// TestSmoke walks one fleet through what an operator meets in the first hour.
// Each step leaves the fleet as it found it, but for the history of flaps.
func TestSmoke(t *testing.T) {
	r := start(t, local.Options{})
	r.settle()
	_, stop := r.query(100, "shop.example.org", "pay.example.org", "api.example.org")
	defer stop()
	ctx := t.Context()

	step := func(name string, f func(t *testing.T, r *rig)) {
		if !t.Run(name, func(t *testing.T) { f(t, r.on(t)) }) {
			t.FailNow()
		}
	}

	step("clients get the site near them, with the right scope", func(t *testing.T, r *rig) {
		for subnet, want := range map[string]string{"81.2.69.0/24": "fra", "8.8.8.0/24": "nyc", "103.1.200.0/24": "sin"} {
			reply, err := r.reply(1, "shop.example.org", subnet)
			if err != nil {
				t.Fatal(err)
			}
			if len(reply.Answer) != 1 || r.siteOf(reply.Answer[0].(*dns.A).A.String()) != want {
				t.Errorf("%s: got %v, want %s", subnet, reply.Answer, want)
			}
			opt := reply.IsEdns0()
			if opt == nil || len(opt.Option) == 0 {
				t.Fatalf("%s: no client-subnet option in the answer", subnet)
			}
			echo := opt.Option[0].(*dns.EDNS0_SUBNET)
			if echo.SourceNetmask != 24 || echo.SourceScope == 0 || !strings.HasPrefix(subnet, echo.Address.String()) {
				t.Errorf("%s: echoed as %v with scope %d", subnet, echo, echo.SourceScope)
			}
		}
		// Private space is of no place: the order.
		reply, err := r.reply(2, "shop.example.org", "10.1.2.0/24")
		if err != nil || len(reply.Answer) != 1 || r.siteOf(reply.Answer[0].(*dns.A).A.String()) != "fra" {
			t.Errorf("unknown place: got %v, %v, want fra, the first of the order", reply, err)
		}
	})

	step("F9 S17: an API server alone moves nothing", func(t *testing.T, r *rig) {
		s, err := r.status(1)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range s.Clusters {
			if c.ControlPlane != "ok" {
				t.Errorf("control plane of %s: %q, want ok", c.Name, c.ControlPlane)
			}
		}
	})

	step("F6: one director that cannot reach a cluster moves nothing, two of three do", func(t *testing.T, r *rig) {
		must(t, r.Cut(ctx, "d1", "fra"))
		r.until(10*time.Second, "d1 itself sees fra down", func() error {
			s, err := r.status(1)
			if err != nil {
				return err
			}
			for _, a := range s.Services[0].Sites[0].Addresses[0].Subjects {
				if strings.HasPrefix(a.Votes["d1"], "down") {
					return nil
				}
			}
			return fmt.Errorf("votes: %v", s.Services[0].Sites[0].Addresses)
		})
		r.holds(3*time.Second, "nothing moves", r.all("pay.example.org", "fra"))
		// It is one row of the matrix, whoever is asked, and what is probed for it is no vote.
		for i := 1; i <= r.Directors(); i++ {
			r.matrix(i, "pay", 1, map[string]string{
				"pay@fra": "d1- d2+ d3+ disagree", "pay@nyc": "d1+ d2+ d3+ pass", "pay@sin": "d1+ d2+ d3+ pass",
			})
		}
		must(t, r.Cut(ctx, "d2", "fra"))
		r.until(5*time.Second, "two of three move it", r.all("pay.example.org", "nyc"))
		// Whom the votes reached late has it in force by the word of the others, without a proof.
		if out := r.must(3, "explain", "pay.example.org"); !strings.Contains(out, "proved by d1, d2") && !strings.Contains(out, "have it in force") {
			t.Errorf("explain does not say whose votes it was:\n%s", out)
		}
		must(t, r.Heal(ctx, "d1", "fra"))
		must(t, r.Heal(ctx, "d2", "fra"))
		r.until(10*time.Second, "it is seen to be well, and waits", func() error {
			for i := 1; i <= r.Directors(); i++ {
				s, err := r.status(i)
				if err != nil {
					return err
				}
				if site := siteIn(s, "pay", "fra"); strings.Count(site.Returns, "must be healthy") == 0 || strings.Contains(site.Returns, "in a row") {
					return fmt.Errorf("%s says: %s", local.Name(i), site.Returns)
				}
			}
			return nil
		})
		out := r.must(1, "readmit", "cluster/fra", "--reason", "the wire is back")
		if !strings.Contains(out, "d3 has it") {
			t.Errorf("readmit: %s", out)
		}
		r.until(45*time.Second, "fra returns without its wait, in its steps", r.all("pay.example.org", "fra"))
	})

	step("a drain is everywhere at once, shown beside the health, and undone", func(t *testing.T, r *rig) {
		out := decode[api.Outcome](t, r.must(2, "drain", "cluster/fra", "--reason", "INC-1", "--for", "10m", "-o", "json"))
		if out.Code != 0 || len(out.Applied) != 3 || len(out.Missing) != 0 {
			t.Errorf("outcome: %+v", out)
		}
		if err := r.all("pay.example.org", "nyc")(); err != nil {
			t.Errorf("the drain was said to be complete, and is not: %v", err) // S6
		}
		if err := r.answers(3, "fra.shop.example.org", "fra")(); err != nil {
			t.Errorf("a site's own name: %v", err)
		}
		s, err := r.status(3)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range s.Clusters {
			if c.Name == "fra" && (c.Health != "healthy" || c.Drained == "") {
				t.Errorf("fra is shown as %s, drained %q; want both", c.Health, c.Drained)
			}
		}
		r.must(1, "drain", "cluster/nyc", "--reason", "INC-2")
		text, code := r.divert(1, "drain", "cluster/sin", "--reason", "INC-3")
		if code != 1 || !strings.Contains(text, "--force") {
			t.Errorf("draining the last site: exit %d, want 1 and a word of --force:\n%s", code, text)
		}
		r.must(3, "undrain", "cluster/nyc", "--reason", "over")
		r.must(3, "undrain", "cluster/fra", "--reason", "over")
		if err := r.all("pay.example.org", "fra")(); err != nil {
			t.Error(err)
		}
	})

	step("S18: a drain ends by itself at its deadline", func(t *testing.T, r *rig) {
		r.must(1, "drain", "service/pay@fra", "--reason", "short", "--for", "3s")
		if err := r.all("pay.example.org", "nyc")(); err != nil {
			t.Error(err)
		}
		if err := r.all("shop.example.org", "fra")(); err != nil {
			t.Errorf("another service: %v", err)
		}
		r.until(10*time.Second, "it ends, and its clients come back in steps", func() error {
			_, p, err := r.pace("service/pay@fra")
			if err == nil && (p.State != "returning" || p.Moved > 990) {
				err = fmt.Errorf("%+v", p)
			}
			return err
		})
		r.must(2, "undrain", "service/pay@fra", "--now", "--reason", "no time for them")
		if err := r.all("pay.example.org", "fra")(); err != nil {
			t.Error(err)
		}
	})

	step("S19: a stale spec folder changes nothing, a wrong one neither, a new one is applied", func(t *testing.T, r *rig) {
		before, err := r.status(1)
		must(t, err)
		good := local.DemoSpec(r.Fleet)
		must(t, r.WriteSpec(1, "kind: Nonsense\n"))
		r.until(15*time.Second, "the wrong folder is told", func() error {
			s, err := r.status(1)
			if err == nil && len(s.Problems) == 0 {
				err = fmt.Errorf("no problem shown")
			}
			return err
		})
		must(t, r.WriteSpec(1, good))
		changed := strings.Replace(good, "served by divert", "served by all", 1)
		must(t, r.WriteSpec(1, changed))
		r.until(15*time.Second, "the change is applied by one director for all", func() error { return r.text(3, "served by all") })
		// The others' folders are older now; nothing comes of them, restart or not.
		must(t, r.Stop("d2"))
		must(t, r.Start(ctx, "d2"))
		r.until(15*time.Second, "d2 is back", func() error { return r.text(2, "served by all") })
		r.holds(6*time.Second, "the old folder changes nothing", func() error { return r.text(1, "served by all") })
		after, err := r.status(1)
		must(t, err)
		if after.Plan.Revision == before.Plan.Revision {
			t.Errorf("revision is still %d", after.Plan.Revision)
		}
		r.settle()
	})

	step("F10: with etcd gone answers and failover go on, drains are refused, and work again when it is back", func(t *testing.T, r *rig) {
		must(t, r.Kill("etcd"))
		text, code := r.divert(1, "drain", "cluster/fra", "--reason", "INC-4")
		if code != 1 || !strings.Contains(text, "etcd") {
			t.Errorf("drain without etcd: exit %d, want 1 and a word of etcd:\n%s", code, text)
		}
		must(t, r.Cut(ctx, relay.Any, "sin"))
		r.until(5*time.Second, "failover without etcd", func() error {
			return r.near(3, "shop.example.org", "103.1.200.0/24", "nyc", "fra")
		})
		must(t, r.Heal(ctx, relay.Any, "sin"))
		must(t, r.Start(ctx, "etcd"))
		r.until(20*time.Second, "drains work again", func() error {
			if out, code := r.divert(1, "drain", "cluster/nyc", "--reason", "INC-5", "--for", "10m"); code != 0 {
				return fmt.Errorf("exit %d: %s", code, out)
			}
			return nil
		})
		r.must(1, "undrain", "cluster/nyc", "--reason", "over")
		r.until(60*time.Second, "sin returns, in its steps", func() error { return r.near(3, "shop.example.org", "103.1.200.0/24", "sin") })
	})

	stop()
}
