package core

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// ten are the steps of the bound: nine that move clients, after the one that only lowers
// the TTL.
var ten = []int{1, 2, 5, 10, 20, 40, 60, 80, 100}

func (w *world) paced(scope string, percent ...int) Command {
	c := w.drain(scope)
	c.Paced, c.LastResort, c.Steps = true, true, percent
	return c
}

// override gives the drain of a scope; nil: there is none.
func (w *world) override(scope string) *plan.Override {
	for _, o := range w.s.Plan.Plan.GetOverrides() {
		if o.GetKind() == plan.Override_DRAIN && o.GetScope() == scope {
			return o
		}
	}
	return nil
}

// at says where the drain of a scope stands.
func (w *world) at(scope string) string {
	o := w.override(scope)
	if o == nil {
		return "none"
	}
	return fmt.Sprintf("%s %d", o.GetPace().GetState(), o.Keep())
}

// next takes the one write that is due after so long, with all directors and votes there. They
// have acknowledged at once what was written last, so that the wait counts from now.
func (w *world) next(after time.Duration) string {
	w.t.Helper()
	w.seen()
	w.noted()
	w.s.Now = w.s.Now.Add(after)
	w.seen()
	return w.now()
}

// noted takes the writes that say from when a wait counts, if they are due.
func (w *world) noted() {
	w.t.Helper()
	for _, c := range steps(w.s) {
		trial := &work{s: w.s, set: w.s.Spec, next: w.s.Plan.Plan}
		if o := w.override(c.Scope); o != nil && stepID(o) == c.ID && trial.nextMove(o).notes {
			w.do(c)
		}
	}
}

// now takes the one write that is due now, "" for none.
func (w *world) now() string {
	w.t.Helper()
	due := Due(w.s)
	if len(due) == 0 {
		return ""
	}
	if len(due) != 1 || due[0].Verb != Step {
		w.t.Fatalf("due %+v", due)
	}
	w.do(due[0])
	return w.audit[len(w.audit)-1].GetWhat()
}

func (w *world) waits() string {
	w.t.Helper()
	var out []string
	for _, p := range Pacing(w.s) {
		out = append(out, p.Waits)
	}
	return strings.Join(out, "; ")
}

// TestPacedDrain: the TTL falls first, for one old TTL; then each step when its wait is
// over; complete only when seen; and the return in as many steps (SEMANTICS section 4).
func TestPacedDrain(t *testing.T) {
	w := newWorld(t)
	w.seen()
	c := w.do(w.paced("cluster/fra", 1, 50, 100))
	if got, want := fmt.Sprint(c.Preview.Steps), "[{0 0} {10 20} {500 50} {1000 80}]"; got != want {
		t.Errorf("steps %s, want %s", got, want)
	}
	if len(c.Preview.Effects) != 2 || !strings.Contains(c.Summary, "in 4 steps: the last in 1m20s") {
		t.Errorf("%s: %+v", c.Summary, c.Preview)
	}
	if got := w.serving("shop"); got != "fra" {
		t.Fatalf("the first step moves clients: %s", got)
	}
	if got := w.next(19 * time.Second); got != "" {
		t.Fatalf("before the old TTL has passed: %s", got)
	}
	steps := []struct {
		after       time.Duration
		what, state string
		serving     string
	}{
		{time.Second, "drain cluster/fra: step 2 of 4, 1 % moved", "MOVING 990", "fra,nyc"},
		{30 * time.Second, "drain cluster/fra: step 3 of 4, 50 % moved", "MOVING 500", "fra,nyc"},
		{30 * time.Second, "drain cluster/fra: step 4 of 4, 100 % moved", "MOVING 0", "nyc"},
		{time.Second, "the drain of cluster/fra is complete: all 3 directors answer without it", "DONE 0", "nyc"},
	}
	for _, s := range steps {
		if got := w.next(s.after); got != s.what || w.at("cluster/fra") != s.state || w.serving("shop") != s.serving {
			t.Fatalf("got %q, %s, %s; want %q, %s, %s", got, w.at("cluster/fra"), w.serving("shop"), s.what, s.state, s.serving)
		}
	}
	if got := w.next(time.Minute); got != "" {
		t.Fatalf("after its end: %s", got)
	}
	c = w.do(Command{Verb: Undrain, Scope: "cluster/fra"})
	if got, want := fmt.Sprint(c.Preview.Steps), "[{990 30} {500 60} {0 90}]"; len(c.Preview.Steps) != 3 || w.at("cluster/fra") != "RETURNING 10" {
		t.Errorf("return %s, want %s; %s", got, want, w.at("cluster/fra"))
	}
	if got := w.do(Command{Verb: Undrain, Scope: "cluster/fra"}); !got.Noop || !strings.Contains(got.Summary, "returns already: 1 %") {
		t.Errorf("again: %+v", got)
	}
	for _, want := range []string{"return of cluster/fra: step 2 of 3, 50 % of its clients are back", "end of the drain of cluster/fra: all its clients are back"} {
		if got := w.next(30 * time.Second); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	if w.at("cluster/fra") != "none" || w.serving("shop") != "fra" {
		t.Errorf("%s, %s", w.at("cluster/fra"), w.serving("shop"))
	}
	ids := map[string]bool{}
	for _, a := range w.audit { // S15, and no step twice
		if ids[a.GetCommand()] {
			t.Errorf("twice: %s", a.GetCommand())
		}
		ids[a.GetCommand()] = true
	}
}

// TestStepWaits: what a step waits for, each alone (S6, S17). Missing is not green.
func TestStepWaits(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*world)
		waits string
	}{
		{"its wait", func(w *world) { w.s.Now = w.s.Now.Add(-time.Second) }, "the wait of this step"},
		{"an acknowledgement", func(w *world) { delete(w.s.Acks, "d3") }, "d3 to be heard and to answer by this step"},
		{"an older one", func(w *world) {
			w.s.Acks["d2"] = plan.Identity{Fleet: "fleet-1", Epoch: 1, Revision: 1}
		}, "d2 to be heard"},
		{"an older epoch's", func(w *world) {
			recovered := *w.s.Plan
			recovered.Plan, recovered.Identity.Epoch = proto.CloneOf(recovered.Plan), 2
			w.s.Plan = &recovered
			w.seen()
			w.s.Acks["d2"] = plan.Identity{Fleet: "fleet-1", Epoch: 1, Revision: 9}
		}, "d2 to be heard"},
		{"another fleet's", func(w *world) {
			w.s.Acks["d2"] = plan.Identity{Fleet: "fleet-2", Epoch: 1, Revision: 9}
		}, "d2 to be heard"},
		{"no votes at all", func(w *world) { w.s.Fresh = nil }, "is not seen healthy by fresh votes"},
		{"no votes, whatever certificates say", func(w *world) {
			w.heal("shop", "nyc")
			w.heal("pay", "nyc")
			w.mark2("shop", "nyc", false)
		}, "shop@nyc is not seen healthy by fresh votes"},
		{"nothing was ever seen", func(w *world) { clear(w.s.Observed) }, "has not been seen healthy"},
		{"a freeze (person before all else)", func(w *world) { w.do(Command{Verb: Freeze, Reason: "x", For: time.Hour}); w.seen() }, "fleet is frozen by alice"},
		{"a freeze of a service of it", func(w *world) {
			w.do(Command{Verb: Freeze, Scope: "service/pay", Reason: "x", For: time.Hour})
			w.seen()
		}, "service/pay is frozen by alice"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.seen()
			w.do(w.paced("cluster/fra", 10, 100))
			w.seen()
			w.noted()
			w.s.Now = w.s.Now.Add(20 * time.Second)
			w.seen()
			tc.spoil(w)
			if due := Due(w.s); len(due) != 0 {
				t.Fatalf("due %+v", due)
			}
			if got := w.waits(); !strings.Contains(got, tc.waits) {
				t.Errorf("waits for %q, want %q", got, tc.waits)
			}
			o := w.override("cluster/fra")
			if got := w.do(Command{ID: stepID(o), Verb: Step, Author: "d1"}); !got.Noop {
				t.Errorf("the command takes it all the same: %+v", got)
			}
		})
	}
}

// mark2 says whether votes see a site up.
func (w *world) mark2(service, cluster string, up bool) {
	m := map[health.Subject]health.State{}
	w.mark(m, service, cluster, health.Up)
	for s := range m {
		w.s.Fresh[s] = up
	}
}

// TestHeldAndRolledBack: who takes over fails: it stands still at once; when that lasts,
// the clients go back by the steps, without waits, onto a healthy site only.
func TestHeldAndRolledBack(t *testing.T) {
	w := newWorld(t)
	w.seen()
	w.do(w.paced("cluster/fra", 10, 50, 100))
	w.next(20 * time.Second)
	w.next(30 * time.Second)
	w.fail("shop", "nyc")
	w.s.Acks = nil // a hold waits for nobody
	if got := w.now(); !strings.HasPrefix(got, "hold the drain of cluster/fra, 50 % moved: shop@nyc is failed") || w.at("cluster/fra") != "HELD 500" {
		t.Fatalf("got %q, %s", got, w.at("cluster/fra"))
	}
	if got := w.next(29 * time.Second); got != "" {
		t.Fatalf("got %q", got)
	}
	if got := w.waits(); !strings.Contains(got, "who takes over to be well, else it is rolled back at") {
		t.Errorf("waits %q", got)
	}
	w.fail("pay", "fra")
	if got := w.next(time.Second); got != "" || !strings.Contains(w.waits(), "a rollback onto healthy sites only: pay@fra is failed") {
		t.Fatalf("got %q, waits for %q", got, w.waits())
	}
	w.heal("pay", "fra")
	for _, want := range []string{
		"roll back the drain of cluster/fra, 50 % moved: shop@nyc is failed",
		"the drain of cluster/fra is rolled back, all its clients are back: shop@nyc is failed",
	} {
		if got := w.next(time.Second); !strings.HasPrefix(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	if w.at("cluster/fra") != "ROLLED_BACK 1000" || w.serving("shop") != "fra" {
		t.Fatalf("%s, %s", w.at("cluster/fra"), w.serving("shop"))
	}
	w.s.Now = w.s.Now.Add(time.Hour)
	w.do(Due(w.s)[0])
	if w.at("cluster/fra") != "none" {
		t.Errorf("after its end: %s", w.at("cluster/fra"))
	}
}

// TestHeldGoesOn: what was held goes on when who takes over is well again, with a new wait.
func TestHeldGoesOn(t *testing.T) {
	w := newWorld(t)
	w.seen()
	w.do(w.paced("cluster/fra", 10, 100))
	w.next(20 * time.Second)
	w.fail("pay", "nyc")
	w.next(time.Second)
	w.heal("pay", "nyc")
	if got := w.next(time.Second); !strings.HasPrefix(got, "go on with the drain of cluster/fra, 10 % moved") {
		t.Fatalf("got %q", got)
	}
	if got := w.next(29 * time.Second); got != "" {
		t.Fatalf("before the wait: %q", got)
	}
	if got := w.next(time.Second); got != "drain cluster/fra: step 3 of 3, 100 % moved" {
		t.Fatalf("got %q", got)
	}
}

// TestPassedOver: what was not well when it began holds nothing up; what falls later does.
// Each service needs one that is well.
func TestPassedOver(t *testing.T) {
	w := newWorld(t)
	w.fail("shop", "sin")
	w.seen()
	c := w.do(w.paced("cluster/fra", 10, 100))
	if !slices.Contains(c.Preview.Warnings, "not known to be well now, so passed over by its steps: shop@sin") {
		t.Errorf("warnings %q", c.Preview.Warnings)
	}
	if got := w.next(20 * time.Second); got != "drain cluster/fra: step 2 of 3, 10 % moved" {
		t.Fatalf("got %q", got)
	}
	w = newWorld(t)
	r := w.refused(w.paced("cluster/fra"), "nothing that would take over is known to be well now, by fresh votes, for pay, shop")
	if !r.Force {
		t.Error("force would pass it")
	}
	forced := w.paced("cluster/fra")
	forced.Force = true
	w.do(forced)
	if !w.override("cluster/fra").GetForced() || !w.audit[len(w.audit)-1].GetForced() {
		t.Error("force is not on record")
	}
}

// TestPaceRefusals: what steps may not be.
func TestPaceRefusals(t *testing.T) {
	tests := []struct {
		name string
		edit func(*Command)
		want string
	}{
		{"not rising", func(c *Command) { c.Steps = []int{10, 10, 100} }, "do not rise from 1 to 100"},
		{"too small", func(c *Command) { c.Steps = []int{0, 100} }, "do not rise"},
		{"too large", func(c *Command) { c.Steps = []int{10, 101} }, "do not rise"},
		{"not whole", func(c *Command) { c.Steps = []int{10, 90} }, "is not 100"},
		{"too many", func(c *Command) { c.Steps = make([]int, 21) }, "more than 20"},
		{"a wait too short", func(c *Command) { c.Wait = time.Millisecond }, "not between 1s and 24h"},
		{"a wait too long", func(c *Command) { c.Wait = 25 * time.Hour }, "not between"},
		{"longer than itself", func(c *Command) { c.Wait = 20 * time.Minute }, "its steps take 1h20m20s at least, and it ends after 1h"},
		{"steps at once", func(c *Command) { c.Paced, c.Steps = false, []int{100} }, "are of a drain in steps"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.seen()
			c := w.paced("cluster/fra")
			tc.edit(&c)
			w.refused(c, tc.want)
		})
	}
}

// TestHastenedAndSaidAgain: a person's word comes before the leader's steps.
func TestHastenedAndSaidAgain(t *testing.T) {
	w := newWorld(t)
	w.seen()
	w.do(w.paced("cluster/fra", 10, 50, 100))
	w.next(20 * time.Second)
	due := func() Command { w.s.Now = w.s.Now.Add(time.Minute); w.seen(); return Due(w.s)[0] }
	old := due()
	w.do(w.paced("cluster/fra")) // longer
	if w.at("cluster/fra") != "MOVING 900" {
		t.Fatalf("said again: %s", w.at("cluster/fra"))
	}
	if got := w.do(old); !got.Noop {
		t.Errorf("a step of a drain that is no more: %+v", got)
	}
	w.do(w.paced("cluster/fra", 5, 30, 100)) // other steps: from where it has come to
	if got := fmt.Sprint(w.override("cluster/fra").GetPace().GetSteps()); got != "[900 700 0]" {
		t.Errorf("steps %s", got)
	}
	w.do(w.drain("cluster/fra"))
	if w.override("cluster/fra").GetPace() != nil || w.serving("shop") != "nyc" {
		t.Errorf("hastened: %v, %s", w.override("cluster/fra"), w.serving("shop"))
	}
	if c := w.do(w.paced("cluster/fra")); w.override("cluster/fra").GetPace() != nil || !strings.Contains(c.Preview.Warnings[0], "drained already") {
		t.Errorf("clients came back by draining: %v, %q", w.override("cluster/fra"), c.Preview.Warnings)
	}
	w.do(Command{Verb: Undrain, Scope: "cluster/fra"})
	if w.at("cluster/fra") != "none" {
		t.Errorf("what went at once comes back at once: %s", w.at("cluster/fra"))
	}
	w.seen()
	w.do(w.paced("cluster/fra"))
	w.next(20 * time.Second)
	w.do(Command{Verb: Undrain, Scope: "cluster/fra", Now: true})
	if w.at("cluster/fra") != "none" {
		t.Errorf("--now: %s", w.at("cluster/fra"))
	}
}

// TestReturnOntoHealthyOnly: a return takes no step onto a site that is not well (S18).
func TestReturnOntoHealthyOnly(t *testing.T) {
	w := newWorld(t)
	w.seen()
	w.do(w.paced("cluster/fra", 100))
	w.next(20 * time.Second)
	w.fail("shop", "fra")
	c := w.do(Command{Verb: Undrain, Scope: "cluster/fra"})
	if w.at("cluster/fra") != "none" && w.at("cluster/fra") != "RETURNING 0" || len(c.Preview.Warnings) == 0 {
		t.Fatalf("%s, %q", w.at("cluster/fra"), c.Preview.Warnings)
	}
	w.s.Now = w.s.Now.Add(time.Hour)
	w.seen()
	if due := Due(w.s); len(due) != 0 || !strings.Contains(w.waits(), "shop@fra is failed") {
		t.Fatalf("due %v, waits for %q", due, w.waits())
	}
	w.heal("shop", "fra")
	w.heal("pay", "fra")
	if w.finish(); w.at("cluster/fra") != "none" {
		t.Errorf("%s", w.at("cluster/fra"))
	}
}

// TestTwoPacedDrains: two drains in steps that would together take a last site are refused
// when the second begins, however little of the first has happened.
func TestTwoPacedDrains(t *testing.T) {
	w := newWorld(t)
	w.seen()
	w.do(w.paced("cluster/fra"))
	w.seen()
	w.refused(w.paced("cluster/nyc"), "the last healthy site of pay")
	w.refused(w.drain("cluster/nyc"), "the last healthy site of pay")
}

// TestLastSiteAppears: a spec that changes meanwhile must not make a step take a last site.
func TestLastSiteAppears(t *testing.T) {
	w := newWorld(t)
	w.seen()
	w.do(w.paced("cluster/fra", 10, 100))
	gone := edit(t, raws(t, fleetYAML), "GlobalService/pay", `{"addresses":["192.0.2.21"],"cluster":"nyc"}`, `{"addresses":["192.0.2.21"],"cluster":"nyc","weight":0}`)
	gone = edit(t, gone, "GlobalService/pay", `"policy":"failover"`, `"policy":"weighted"`)
	w.do(Command{Verb: Apply, Objects: gone, Force: true})
	if got := w.next(20 * time.Second); !strings.HasPrefix(got, "hold the drain of cluster/fra") {
		t.Errorf("got %q", got)
	}
}

// TestSelector: a drain by a label covers the clusters that have it, those to come too.
func TestSelector(t *testing.T) {
	w := newWorld(t)
	w.do(w.drain("selector/jurisdiction=eu"))
	if got := w.serving("shop"); got != "nyc" {
		t.Errorf("serving %s", got)
	}
	if got := w.s.Plan.Plan.GetMinReader(); got != plan.ReaderPaced {
		t.Errorf("an older director would leave it out: reader %d", got)
	}
	w.refused(w.drain("selector/jurisdiction=em"), "did you mean selector/jurisdiction=eu")
	w.refused(w.drain("selector/jurisdiction"), "lacks the key or the value")
	w.refused(w.drain("selector/jurisdiction=us"), "the last healthy site of pay")
	w.do(Command{Verb: Undrain, Scope: "selector/jurisdiction=eu"})
	if got := w.serving("shop"); got != "fra" {
		t.Errorf("serving %s", got)
	}
}

// TestPaceReaders: only what an older director would read as something else takes a newer
// one; a return it may take for a drain that is not over yet.
func TestPaceReaders(t *testing.T) {
	w := newWorld(t)
	w.do(w.drain("cluster/fra"))
	w.s.Now = w.s.Now.Add(time.Hour)
	w.do(Due(w.s)[0])
	if got := w.s.Plan.Plan.GetMinReader(); w.at("cluster/fra") != "RETURNING 10" || got >= plan.ReaderPaced {
		t.Errorf("%s, reader %d", w.at("cluster/fra"), got)
	}
	w.finish()
	w.seen()
	w.do(w.paced("cluster/fra"))
	if got := w.s.Plan.Plan.GetMinReader(); got != plan.ReaderPaced {
		t.Errorf("reader %d", got)
	}
}

// TestEndThatMovesNobody: a drain whose end moves no client ends at once.
func TestEndThatMovesNobody(t *testing.T) {
	w := newWorld(t)
	w.do(w.drain("cluster/sin"))
	w.s.Now = w.s.Now.Add(time.Hour)
	w.do(Due(w.s)[0])
	if got := w.at("cluster/sin"); got != "none" {
		t.Errorf("%s", got)
	}
}

// TestPacedSerial: a zone's transfers change with the last step, not before (S13).
func TestPacedSerial(t *testing.T) {
	w := newWorld(t)
	w.seen()
	before := serialIn(w.s.Plan.Plan, "example.org")
	w.do(w.paced("cluster/fra", 10, 100))
	w.next(20 * time.Second)
	if got := serialIn(w.s.Plan.Plan, "example.org"); got != before {
		t.Errorf("serial %d at 10 %%, was %d", got, before)
	}
	w.next(30 * time.Second)
	if got := serialIn(w.s.Plan.Plan, "example.org"); got == before {
		t.Error("the same serial when all have left")
	}
}

// TestPacedShares: shares are the drain's, on every director.
func TestPacedShares(t *testing.T) {
	w := newWorld(t)
	w.seen()
	w.do(w.paced("cluster/fra", 25, 100))
	w.next(20 * time.Second)
	d := steer.Decide(steer.Input{Spec: w.s.Spec, Plan: w.s.Plan.Plan, States: w.s.States, Places: everywhere()})
	for _, svc := range d.Services {
		for _, s := range svc.Sites() {
			if want := map[bool]int{true: 75, false: 100}[s.Cluster == "fra"]; s.Share != want {
				t.Errorf("%s@%s: %d %%, want %d", svc.Name, s.Cluster, s.Share, want)
			}
		}
	}
}
