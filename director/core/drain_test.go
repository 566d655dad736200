package core

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/health"
)

func TestDrainMovesTrafficAndEnds(t *testing.T) {
	w := newWorld(t)
	if got := w.serving("shop"); got != "fra" {
		t.Fatalf("before: %s", got)
	}
	c := w.do(w.drain("cluster/fra"))
	if got, want := c.Summary, "cluster/fra drained by alice until 14:00 UTC (INC-1)"; got != want {
		t.Errorf("summary %q, want %q", got, want)
	}
	if len(c.Preview.Effects) != 2 || c.Preview.Effects[1].Service != "shop" || c.Preview.Effects[1].From[0] != "fra" ||
		c.Preview.Effects[1].To[0] != "nyc" || c.Preview.Effects[1].Healthy != 2 {
		t.Errorf("effects %+v", c.Preview.Effects)
	}
	if got := w.serving("shop") + " " + w.serving("pay"); got != "nyc nyc" {
		t.Fatalf("drained: %s", got)
	}
	if due := Due(w.s); len(due) != 0 {
		t.Fatalf("due before the end: %+v", due)
	}
	w.s.Now = w.s.Now.Add(time.Hour)
	due := Due(w.s)
	if len(due) != 1 || due[0].Verb != Expire {
		t.Fatalf("due: %+v", due)
	}
	w.do(due[0])
	w.finish()
	if got := w.serving("shop") + w.scopes(plan.Override_DRAIN); got != "fra" {
		t.Fatalf("ended: %s", got)
	}
	if due := Due(w.s); len(due) != 0 {
		t.Fatalf("still due: %+v", due)
	}
}

// TestDrainRefusals: what a drain may not be, and what is said about it.
func TestDrainRefusals(t *testing.T) {
	w := newWorld(t)
	tests := []struct {
		name string
		c    Command
		want string
	}{
		{"no end", Command{Verb: Drain, Scope: "cluster/fra", Reason: "x"}, "needs an end"},
		{"too long", Command{Verb: Drain, Scope: "cluster/fra", Reason: "x", For: 73 * time.Hour}, "73h is longer than the 3d"},
		{"no reason", Command{Verb: Drain, Scope: "cluster/fra", For: time.Hour}, "needs a reason"},
		{"author of the spec", Command{Verb: Drain, Scope: "cluster/fra", For: time.Hour, Reason: "x", Author: "spec"}, "stands for the spec"},
		{"near name", w.drain("cluster/fro"), "did you mean cluster/fra?"},
		{"unknown name", w.drain("cluster/zzzzzz"), "there are fra, nyc, sin"},
		{"unknown service", w.drain("service/shops@fra"), "did you mean service/shop?"},
		{"unknown site", w.drain("service/pay@sin"), `there is no site of pay "sin"`},
		{"unknown domain", w.drain("domain/fra"), "did you mean domain/fra-dc1?"},
		{"whole service", w.drain("service/shop"), "service/shop@fra, service/shop@nyc, service/shop@sin"},
		{"fleet", w.drain("fleet"), "too wide"},
		{"nonsense", w.drain("fra"), "cluster/fra, service/shop@fra, domain/fra-dc1 or selector/tier=edge"},
		{"unknown verb", Command{Verb: "melt"}, `unknown command "melt"`},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w.t = t
			w.refused(tc.c, tc.want)
		})
	}
	if _, err := Decide(w.s, Command{Verb: Drain, Author: "alice"}); err == nil {
		t.Error("a command without an ID passed")
	}
	if _, err := Decide(w.s, Command{Verb: Drain, ID: "x"}); err == nil {
		t.Error("a command without an author passed")
	}
	if _, err := Decide(State{}, w.drain("cluster/fra")); err == nil {
		t.Error("a command without a plan passed")
	}
}

// TestLastSite: the last healthy site of any service is drained by force only,
// and the record says so; it then stays in the answers (S1).
func TestLastSite(t *testing.T) {
	w := newWorld(t)
	w.do(w.drain("cluster/fra"))
	r := w.refused(w.drain("cluster/nyc"), "the last healthy site of pay")
	if !r.Force || strings.Contains(r.Reason, "shop") {
		t.Errorf("refusal %+v", r)
	}
	forced := w.drain("cluster/nyc")
	forced.Force = true
	w.do(forced)
	if !w.audit[len(w.audit)-1].GetForced() || !w.s.Plan.Plan.GetOverrides()[1].GetForced() {
		t.Error("force is not on record")
	}
	if got := w.serving("pay") + " " + w.serving("shop"); got != "nyc sin" {
		t.Errorf("serving %s", got)
	}
	// Needless force is not on record.
	w = newWorld(t)
	needless := w.drain("cluster/sin")
	needless.Force = true
	w.do(needless)
	if w.audit[len(w.audit)-1].GetForced() {
		t.Error("needless force is on record")
	}
}

// TestLastSiteByHealth: a site is the last one because the others are down,
// even while automation observes and the answers do not know it.
func TestLastSiteByHealth(t *testing.T) {
	w := newWorld(t)
	w.do(Command{Verb: Freeze, Reason: "x", For: time.Hour})
	w.fail("pay", "nyc")
	w.refused(w.drain("cluster/fra"), "the last healthy site of pay")
	w.heal("pay", "nyc")
	w.fail("pay", "fra")
	w.do(w.drain("cluster/fra")) // the failed one may go
}

func TestDrainAgainExtends(t *testing.T) {
	w := newWorld(t)
	w.do(w.drain("cluster/fra"))
	first := w.s.Plan.Plan.GetOverrides()[0]
	w.s.Now = w.s.Now.Add(30 * time.Minute)
	longer := w.drain("cluster/fra")
	longer.For, longer.Author = 3*time.Hour, "bob"
	w.do(longer)
	list := w.s.Plan.Plan.GetOverrides()
	if len(list) != 1 {
		t.Fatalf("overrides %v", list)
	}
	got := list[0]
	if got.GetRevision() != first.GetRevision() || !got.GetStart().AsTime().Equal(first.GetStart().AsTime()) || got.GetId() == first.GetId() {
		t.Errorf("an extension begins anew: %v, was %v", got, first)
	}
	if !got.GetEnd().AsTime().Equal(w.s.Now.Add(3*time.Hour)) || got.GetAuthor() != "bob" {
		t.Errorf("extension %v", got)
	}
}

// TestSameIDIsNoop: a command that is in force already does nothing (S4).
func TestSameIDIsNoop(t *testing.T) {
	w := newWorld(t)
	c := w.drain("cluster/fra")
	c.ID = "once"
	w.do(c)
	if got := w.do(c); !got.Noop || !strings.Contains(got.Summary, "already so") {
		t.Errorf("repeated: %+v", got)
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	w := newWorld(t)
	c := w.drain("cluster/fra")
	c.DryRun = true
	before := proto.CloneOf(w.s.Plan.Plan)
	got, err := w.try(c)
	if err != nil || !got.Noop || got.Plan != nil || len(got.Preview.Effects) == 0 {
		t.Errorf("dry run: %+v, %v", got, err)
	}
	if !proto.Equal(before, w.s.Plan.Plan) {
		t.Error("a decision wrote to the plan in force")
	}
}

func TestUndrain(t *testing.T) {
	w := newWorld(t)
	if got := w.do(Command{Verb: Undrain, Scope: "cluster/fra"}); !got.Noop || !strings.Contains(got.Summary, "not drained") {
		t.Errorf("undrained what is not drained: %+v", got)
	}
	w.do(w.drain("domain/fra-dc1"))
	w.refused(Command{Verb: Undrain, Scope: "cluster/fra"}, "undrain domain/fra-dc1")
	w.refused(Command{Verb: Undrain, Scope: "cluster/frx"}, "did you mean")
	w.fail("shop", "fra")
	c := w.do(Command{Verb: Undrain, Scope: "domain/fra-dc1"})
	if w.scopes(plan.Override_DRAIN) != "" || len(c.Preview.Warnings) == 0 || !strings.Contains(c.Preview.Warnings[0], "shop@fra is failed") {
		t.Errorf("undrained onto a failed site: %+v", c)
	}
}

// TestExpiryWaitsForHealth: a drain ends onto a site that is known to be well,
// and onto nothing else (S18): what only an old certificate says is up nobody sees (S17).
func TestExpiryWaitsForHealth(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(w *world)
		waits string
	}{
		{"well", func(*world) {}, ""},
		{"well by certificate, and by fresh votes", func(w *world) { w.heal("shop", "fra"); w.heal("pay", "fra") }, ""},
		{"well by certificate alone", func(w *world) { clear(w.s.Observed); w.heal("shop", "fra"); w.heal("pay", "fra") }, "has not been seen healthy"},
		{"one service failed", func(w *world) { w.fail("pay", "fra") }, "pay@fra is failed"},
		{"failed, whatever votes say", func(w *world) { w.fail("shop", "fra"); w.fail("pay", "fra") }, "is failed"},
		{"never seen healthy", func(w *world) { clear(w.s.Observed) }, "has not been seen healthy"},
		{"degraded", func(w *world) { w.soften("pay", "fra") }, ""},
		{"degraded, and never seen up", func(w *world) { clear(w.s.Observed); w.soften("shop", "fra"); w.soften("pay", "fra") }, "has not been seen healthy"},
		{"votes say down", func(w *world) { w.mark(w.s.Observed, "pay", "fra", health.Down) }, "pay@fra is failed"},
		{"another site failed", func(w *world) { w.fail("pay", "nyc") }, ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.do(w.drain("cluster/fra"))
			w.s.Now = w.s.Now.Add(59 * time.Minute)
			tc.spoil(w)
			if due := Due(w.s); len(due) != 0 {
				t.Fatalf("due before its end: %+v", due)
			}
			if late := Overdue(w.s); len(late) != 0 {
				t.Fatalf("overdue before its end: %+v", late)
			}
			w.s.Now = w.s.Now.Add(time.Minute)
			late := Overdue(w.s)
			if len(late) != 1 {
				t.Fatalf("overdue: %+v", late)
			}
			if tc.waits == "" {
				w.do(Due(w.s)[0])
				if o := w.s.Plan.Plan.GetOverrides()[0]; !o.Ends() || o.Keep() != 10 {
					t.Errorf("S18: its end is not paced: %v", o)
				}
				if w.finish(); w.scopes(plan.Override_DRAIN) != "" {
					t.Errorf("still drained: %s", w.scopes(plan.Override_DRAIN))
				}
				return
			}
			if len(Due(w.s)) != 0 {
				t.Fatalf("ends onto a site that is not well: %+v", Due(w.s))
			}
			if !strings.Contains(strings.Join(late[0].Waits, "; "), tc.waits) {
				t.Errorf("waits for %q, want %q", late[0].Waits, tc.waits)
			}
			if got := w.do(Command{Verb: Expire, Author: "d1"}); !got.Noop {
				t.Error("an Expire command ended it all the same")
			}
		})
	}
}

// TestExpireEndsOthersMeanwhile: one overdue drain does not hold up the rest.
func TestExpireEndsOthersMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.do(w.drain("cluster/fra"))
	w.do(w.drain("cluster/sin"))
	w.do(Command{Verb: Freeze, Reason: "x", For: time.Hour})
	w.fail("pay", "fra")
	w.s.Now = w.s.Now.Add(2 * time.Hour)
	w.do(Due(w.s)[0])
	if got := w.scopes(plan.Override_DRAIN) + w.scopes(plan.Override_OBSERVE); got != "cluster/fra" {
		t.Errorf("left: %s", got)
	}
	if got := w.audit[len(w.audit)-1].GetWhat(); !strings.Contains(got, "drain of cluster/sin by alice") || !strings.Contains(got, "observe of fleet") {
		t.Errorf("audit %q", got)
	}
}

// TestLastResortIsLast: the site that serves as a last resort is the last healthy
// one; a drain that says lastResort no longer needs force as any other.
func TestLastResortIsLast(t *testing.T) {
	w := newWorld(t)
	soft := w.drain("service/pay@fra")
	soft.LastResort = true
	w.do(soft)
	w.fail("pay", "nyc")
	if got := w.serving("pay"); got != "fra" {
		t.Fatalf("serving %s", got)
	}
	for _, scope := range []string{"service/pay@fra", "cluster/fra", "domain/fra-dc1"} {
		r := w.refused(w.drain(scope), "the last healthy site of pay")
		if !r.Force {
			t.Error("force would pass it")
		}
	}
	longer := w.drain("service/pay@fra")
	longer.LastResort, longer.For = true, 2*time.Hour
	w.do(longer)
}

// TestEndIsNotHeldByAnother: a drain ends although a site of it is unwell, when
// another drain keeps that site away anyway.
func TestEndIsNotHeldByAnother(t *testing.T) {
	w := newWorld(t)
	long := w.drain("service/pay@fra")
	long.For = 3 * time.Hour
	w.do(long)
	w.do(w.drain("cluster/fra"))
	w.fail("pay", "fra")
	w.s.Now = w.s.Now.Add(time.Hour)
	due := Due(w.s)
	if len(due) != 1 {
		t.Fatalf("due %v, overdue %v", due, Overdue(w.s))
	}
	w.do(due[0])
	w.finish() // the minutes that it takes leave the other drain its hours
	if got := w.scopes(plan.Override_DRAIN) + " " + w.serving("shop"); got != "service/pay@fra fra" {
		t.Errorf("drained %s", got)
	}
	w.s.Now = w.s.Now.Add(2 * time.Hour)
	if due, late := Due(w.s), Overdue(w.s); len(due) != 0 || len(late) != 1 || !strings.Contains(late[0].Waits[0], "pay@fra is failed") {
		t.Errorf("due %v, overdue %v", due, late)
	}
}

// TestEndsTogether: two drains past their end wait for the site that both cover.
func TestEndsTogether(t *testing.T) {
	w := newWorld(t)
	w.do(w.drain("service/pay@fra"))
	w.do(w.drain("cluster/fra"))
	w.fail("pay", "fra")
	w.s.Now = w.s.Now.Add(time.Hour)
	if due, late := Due(w.s), Overdue(w.s); len(due) != 0 || len(late) != 2 {
		t.Errorf("due %v, overdue %v", due, late)
	}
	w.heal("pay", "fra")
	due := Due(w.s)
	if len(due) != 1 {
		t.Fatalf("due %v", due)
	}
	w.do(due[0])
	if w.finish(); w.scopes(plan.Override_DRAIN) != "" {
		t.Errorf("still drained: %s", w.scopes(plan.Override_DRAIN))
	}
}

// TestLastSoundSite: degraded sites that rank as healthy, since too many of them
// are degraded, do not make the last sound one free to go.
func TestLastSoundSite(t *testing.T) {
	w := newWorld(t)
	for _, c := range []string{"nyc", "sin"} {
		w.soften("shop", c)
	}
	w.refused(w.drain("service/shop@fra"), "the last healthy site of shop")
	w.do(w.drain("service/shop@nyc")) // a degraded one may go
}

// TestOverdueWithoutSpec: a director that lacks the spec has nothing to say.
func TestOverdueWithoutSpec(t *testing.T) {
	w := newWorld(t)
	w.do(w.drain("cluster/fra"))
	w.s.Now, w.s.Spec = w.s.Now.Add(2*time.Hour), nil
	if late := Overdue(w.s); len(late) != 0 {
		t.Errorf("got %v", late)
	}
}

// TestLastSiteNamesTheFamily: where only one family loses its last site, or only
// some clients do, the refusal says so.
func TestLastSiteNamesTheFamily(t *testing.T) {
	w := newWorld(t)
	all := edit(t, raws(t, fleetYAML), "GlobalService/shop", `"192.0.2.10"`, `"192.0.2.10","2001:db8::10"`)
	w.do(Command{Verb: Apply, Objects: all})
	w.refused(w.drain("cluster/fra"), "the last healthy site of shop (IPv6)")
	us := edit(t, raws(t, fleetYAML), "GlobalService/pay", `"steering"`, `"residency":[{"clients":{"continents":["NA"]},"clusters":{"jurisdiction":"us"}}],"residencyUnknown":"allow","steering"`)
	w.do(Command{Verb: Apply, Objects: us, Force: true})
	w.refused(w.drain("cluster/nyc"), "the last healthy site of pay (for some clients)")
	w.do(w.drain("service/pay@fra"))
	w.refused(w.drain("cluster/nyc"), "the last healthy site of pay:")
}
