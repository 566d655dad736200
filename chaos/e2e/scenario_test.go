package e2e

import (
	"fmt"
	"os"
	"path/filepath"
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
	ctx := t.Context()

	step := func(name string, f func(t *testing.T)) {
		if !t.Run(name, f) {
			stop()
			t.FailNow()
		}
	}

	step("clients get the site near them, with the right scope", func(t *testing.T) {
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

	step("F9 S17: an API server alone moves nothing", func(t *testing.T) {
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

	step("F6: one director that cannot reach a cluster moves nothing, two of three do", func(t *testing.T) {
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
		must(t, r.Cut(ctx, "d2", "fra"))
		r.until(5*time.Second, "two of three move it", r.all("pay.example.org", "nyc"))
		must(t, r.Heal(ctx, "d1", "fra"))
		must(t, r.Heal(ctx, "d2", "fra"))
		out := r.must(1, "readmit", "cluster/fra", "--reason", "the wire is back")
		if !strings.Contains(out, "d3 has it") {
			t.Errorf("readmit: %s", out)
		}
		r.until(20*time.Second, "fra returns", r.all("pay.example.org", "fra"))
	})

	step("a drain is everywhere at once, shown beside the health, and undone", func(t *testing.T) {
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

	step("S18: a drain ends by itself at its deadline", func(t *testing.T) {
		r.must(1, "drain", "service/pay@fra", "--reason", "short", "--for", "3s")
		if err := r.all("pay.example.org", "nyc")(); err != nil {
			t.Error(err)
		}
		if err := r.all("shop.example.org", "fra")(); err != nil {
			t.Errorf("another service: %v", err)
		}
		r.until(10*time.Second, "it ends", r.all("pay.example.org", "fra"))
	})

	step("S19: a stale spec folder changes nothing, a wrong one neither, a new one is applied", func(t *testing.T) {
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

	step("F10: with etcd gone answers and failover go on, drains are refused, and work again when it is back", func(t *testing.T) {
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
		r.until(30*time.Second, "sin returns", func() error { return r.near(3, "shop.example.org", "103.1.200.0/24", "sin") })
	})

	stop()
}

// text checks the zone's TXT record as a director answers it.
func (r *rig) text(i int, want string) error {
	m := new(dns.Msg)
	m.SetQuestion("example.org.", dns.TypeTXT)
	reply, err := dns.Exchange(m, r.DNS(i))
	if err != nil {
		return err
	}
	if len(reply.Answer) != 1 || reply.Answer[0].(*dns.TXT).Txt[0] != want {
		return fmt.Errorf("%s says %v, want %q", local.Name(i), reply.Answer, want)
	}
	return nil
}

// near checks what a client of a subnet is told; any of the sites will do.
func (r *rig) near(i int, host, subnet string, want ...string) error {
	reply, err := r.reply(i, host, subnet)
	if err != nil {
		return err
	}
	if len(reply.Answer) == 0 {
		return fmt.Errorf("%s for %s: %s and no answer", host, subnet, dns.RcodeToString[reply.Rcode])
	}
	got := r.siteOf(reply.Answer[0].(*dns.A).A.String())
	for _, w := range want {
		if got == w {
			return nil
		}
	}
	return fmt.Errorf("%s for %s: got %s, want %v", host, subnet, got, want)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestRestartWithoutStore: everything stops, the store is gone for good, and
// each director still answers from its disk, drains included (S12).
func TestRestartWithoutStore(t *testing.T) {
	r := start(t, local.Options{})
	r.settle()
	r.must(1, "drain", "cluster/fra", "--reason", "INC-6")
	must(t, r.Kill("etcd"))
	for i := 1; i <= 3; i++ {
		must(t, r.Kill(local.Name(i)))
	}
	for i := 1; i <= 3; i++ {
		must(t, r.Start(t.Context(), local.Name(i)))
	}
	r.until(10*time.Second, "the last good answers", r.all("pay.example.org", "nyc"))
	must(t, r.Kill("nyc"))
	r.until(10*time.Second, "failover from the last good state, without a store", r.all("pay.example.org", "sin"))
}

// TestStoreSwapped: an empty store, or one restored from an old copy, changes no
// answer and takes no command until it is recovered (F25, S3).
func TestStoreSwapped(t *testing.T) {
	r := start(t, local.Options{})
	r.settle()
	ctx := t.Context()
	must(t, r.Stop("etcd"))
	old := filepath.Join(t.TempDir(), "copy")
	must(t, os.CopyFS(old, os.DirFS(r.EtcdDir())))
	must(t, r.Start(ctx, "etcd"))
	r.until(20*time.Second, "a drain", func() error {
		if out, code := r.divert(2, "drain", "cluster/fra", "--reason", "INC-7"); code != 0 {
			return fmt.Errorf("exit %d: %s", code, out)
		}
		return nil
	})
	for _, tc := range []struct {
		name string
		swap func() error
	}{
		{"restored from an old copy", func() error { return os.CopyFS(r.EtcdDir(), os.DirFS(old)) }},
		{"replaced by an empty one", func() error { return nil }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			must(t, r.Stop("etcd"))
			must(t, os.RemoveAll(r.EtcdDir()))
			must(t, tc.swap())
			must(t, r.Start(ctx, "etcd"))
			r.until(20*time.Second, "it is recognised", func() error {
				out, code := r.divert(1, "drain", "cluster/nyc", "--reason", "INC-8")
				if code != 1 || !strings.Contains(out, "store recover") {
					return fmt.Errorf("exit %d: %s", code, out)
				}
				return nil
			})
			r.holds(3*time.Second, "no answer changes", r.all("pay.example.org", "nyc"))
			r.must(1, "store", "recover")
			r.must(1, "drain", "cluster/sin", "--reason", "INC-9")
			r.must(1, "undrain", "cluster/sin", "--reason", "over")
			if err := r.all("pay.example.org", "nyc")(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestLeaderKilled: the leader's death moves nothing and stops nothing; another
// leads soon (L3), and a person's command waits for neither.
func TestLeaderKilled(t *testing.T) {
	r := start(t, local.Options{})
	r.settle()
	var leader string
	r.until(15*time.Second, "somebody leads", func() error {
		s, err := r.status(1)
		if err == nil && s.Leader == "" {
			err = fmt.Errorf("nobody leads")
		}
		leader = s.Leader
		return err
	})
	must(t, r.Kill(leader))
	other := 1
	if leader == "d1" {
		other = 2
	}
	out, code := r.divert(other, "drain", "cluster/fra", "--reason", "INC-10", "--timeout", "3s")
	if code != 3 || !strings.Contains(out, leader) {
		t.Errorf("a drain with %s dead: exit %d, want 3 and its name:\n%s", leader, code, out) // S6
	}
	if err := r.answers(other, "pay.example.org", "nyc")(); err != nil {
		t.Error(err)
	}
	r.until(15*time.Second, "another leads", func() error {
		s, err := r.status(other)
		if err == nil && (s.Leader == "" || s.Leader == leader) {
			err = fmt.Errorf("leader %q", s.Leader)
		}
		return err
	})
	must(t, r.Start(t.Context(), leader))
	r.until(15*time.Second, "the dead one comes back with the drain", r.all("pay.example.org", "nyc"))
}

// TestHang: a service that accepts and never answers is out soon (F3).
func TestHang(t *testing.T) {
	r := start(t, local.Options{})
	r.settle()
	must(t, r.Pause("fra"))
	r.until(6*time.Second, "the hung site is out", r.all("pay.example.org", "nyc"))
	must(t, r.Resume("fra"))
	r.until(30*time.Second, "it returns after its hold", r.all("pay.example.org", "fra"))
}

// TestOldDisk: a director that starts from an older copy of its own disk
// acknowledges nothing until it holds the newest plan, which a peer has (S3).
func TestOldDisk(t *testing.T) {
	r := start(t, local.Options{})
	r.settle()
	must(t, r.Stop("d3"))
	old := filepath.Join(t.TempDir(), "copy")
	must(t, os.CopyFS(old, os.DirFS(r.DataDir(3))))
	must(t, r.Start(t.Context(), "d3"))
	r.settle()
	r.must(1, "drain", "cluster/fra", "--reason", "INC-11")
	must(t, r.Kill("d3"))
	must(t, r.Cut(t.Context(), "d3", "etcd"))
	must(t, os.RemoveAll(r.DataDir(3)))
	must(t, os.CopyFS(r.DataDir(3), os.DirFS(old)))
	must(t, r.Start(t.Context(), "d3"))
	r.until(15*time.Second, "the newest plan comes from a peer", r.answers(3, "pay.example.org", "nyc"))
}

// TestTwoSites: two clusters, the larger one dead: it fails over (S9 is no
// budget on real failures).
func TestTwoSites(t *testing.T) {
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
	r := start(t, local.Options{})
	r.settle()
	must(t, r.Kill("fra"))
	r.until(5*time.Second, "it fails over", r.all("pay.example.org", "nyc"))
	must(t, r.Kill("nyc"))
	r.until(5*time.Second, "it fails over again", r.all("pay.example.org", "sin"))
}

// TestPartition: one director is cut off from its peers and the store. It
// freezes and answers what it knew (F7, S8); the others act; all rejoin (F8, L2).
func TestPartition(t *testing.T) {
	long(t)
	r := start(t, local.Options{})
	r.settle()
	ctx := t.Context()
	must(t, r.Cut(ctx, "d3", local.Peers))
	must(t, r.Cut(ctx, "d3", "etcd"))
	r.until(5*time.Second, "d3 is isolated", func() error {
		s, err := r.status(3)
		if err == nil && !s.Isolated {
			err = fmt.Errorf("hears %d", s.Quorum.Hears)
		}
		return err
	})
	must(t, r.Kill("fra"))
	r.until(5*time.Second, "the majority acts", func() error {
		if err := r.answers(1, "pay.example.org", "nyc")(); err != nil {
			return err
		}
		return r.answers(2, "pay.example.org", "nyc")()
	})
	r.holds(2*time.Minute, "the minority answers what it knew", r.answers(3, "pay.example.org", "fra"))
	must(t, r.Heal(ctx, "d3", local.Peers))
	must(t, r.Heal(ctx, "d3", "etcd"))
	r.until(20*time.Second, "it rejoins and agrees", r.answers(3, "pay.example.org", "nyc"))
}
