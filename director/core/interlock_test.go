package core

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

const (
	twoClusters = `
---
kind: Interlock
metadata: {name: two}
spec: {assert: {atLeast: 2, of: [{clusters: {}}]}}
`
	fraGate = `
---
kind: Interlock
metadata: {name: fra}
spec: {gate: {switch: fra-work, of: [cluster/fra]}}
`
)

// ruled is a world whose spec has interlocks besides.
func ruled(t testing.TB, rules string) *world {
	t.Helper()
	w := newWorld(t)
	w.do(Command{Verb: Apply, Objects: raws(t, fleetYAML+rules)})
	return w
}

func (w *world) turn(verb Verb, name string) Command {
	return Command{Verb: verb, Scope: name, Reason: "INC-9"}
}

func (w *world) undrain(scope string) Command { return Command{Verb: Undrain, Scope: scope} }

func (w *world) cutOff(cluster string) {
	for _, svc := range w.s.Spec.Services {
		if svc.Endpoint(cluster) != nil {
			w.fail(svc.Name, cluster)
		}
	}
}

func forced(c Command) Command {
	c.Force = true
	return c
}

// TestAssertion: no command leaves fewer in service than an assertion wants, and the
// refusal names the rule, what it counts, and what to do.
func TestAssertion(t *testing.T) {
	w := ruled(t, twoClusters)
	c := w.do(w.drain("cluster/nyc"))
	if !slices.Contains(c.Preview.Warnings, "interlock two is then at its limit: 2 in service, and at least 2 wanted") {
		t.Errorf("warnings %q", c.Preview.Warnings)
	}
	r := w.refused(w.drain("cluster/sin"), "interlock two wants at least 2 of cluster/fra, cluster/nyc, cluster/sin in service, and 1 would be left")
	for _, want := range []string{"cluster/nyc drained by alice until 14:00 UTC (INC-1)", "cluster/sin drained by alice", "bring another of them back first", "--force"} {
		if !strings.Contains(r.Error(), want) {
			t.Errorf("the refusal %q lacks %q", r.Error(), want)
		}
	}
	if !r.Force {
		t.Error("--force is said not to pass it")
	}
	c = w.do(forced(w.drain("cluster/sin")))
	last := w.audit[len(w.audit)-1]
	o := w.s.Plan.Plan.GetOverrides()
	if !last.GetForced() || !strings.HasSuffix(last.GetWhat(), " in spite of interlock two") || !o[len(o)-1].GetForced() || o[0].GetForced() {
		t.Errorf("audit %v, overrides %v", last, o)
	}
	if !slices.ContainsFunc(c.Preview.Warnings, func(s string) bool { return strings.HasPrefix(s, "interlock two wants at least 2") }) {
		t.Errorf("forced, and the warnings are %q", c.Preview.Warnings)
	}
	w.do(w.undrain("cluster/nyc")) // what brings something back is never in the way
	w.do(w.undrain("cluster/sin"))
	w.do(w.drain("service/shop@nyc")) // nyc has pay yet
	if got := Interlocks(w.s)[0]; got.State != StandingHolds || got.InService != 3 {
		t.Errorf("got %+v", got)
	}
}

// TestAssertionByHealth: what has failed is not in service, also while automation
// observes; a change that takes nothing more away passes a rule that is broken already.
func TestAssertionByHealth(t *testing.T) {
	w := ruled(t, twoClusters)
	w.do(Command{Verb: Freeze, Reason: "x", For: time.Hour})
	w.cutOff("nyc")
	w.refused(w.drain("cluster/sin"), "nyc is failed: ")
	w.do(w.drain("cluster/nyc"))
	w.cutOff("sin")
	if got := Interlocks(w.s)[0]; got.State != StandingBroken || got.InService != 1 || got.Members[2].Why == "" || !strings.Contains(got.Why, "1 of 3 in service, at least 2 wanted") {
		t.Errorf("got %+v", got)
	}
	w.do(w.drain("cluster/sin"))
	w.refused(w.drain("cluster/fra"), "the last healthy site")
	w.refused(w.drain("service/shop@fra"), "the last healthy site")
}

// TestAssertionMembers: what counts as one.
func TestAssertionMembers(t *testing.T) {
	tests := []struct {
		of     string
		pass   []string // drained one after the other
		refuse string
	}{
		{"service/shop", []string{"cluster/fra"}, "service/shop@sin"},
		{"service/shop@fra, service/shop@nyc", nil, "domain/fra-dc1"},
		{"domain/fra-dc1, cluster/sin", []string{"cluster/nyc"}, "cluster/sin"},
		{"{clusters: {jurisdiction: eu}}, {clusters: {jurisdiction: us}}", []string{"cluster/sin", "service/pay@fra"}, "service/shop@fra"},
		{"cluster/fra, cluster/nyc, {clusters: {jurisdiction: us}}", []string{"cluster/sin"}, "cluster/nyc"}, // nyc counts once
	}
	for _, tc := range tests {
		w := ruled(t, "\n---\nkind: Interlock\nmetadata: {name: some}\nspec: {assert: {atLeast: 2, of: ["+tc.of+"]}}\n")
		for _, scope := range tc.pass {
			w.do(w.drain(scope))
		}
		w.refused(w.drain(tc.refuse), "interlock some wants at least 2")
	}
}

// TestGate: while its switch is off, as it is before anybody has turned it, nothing that
// a gate guards is taken away or brought back.
func TestGate(t *testing.T) {
	w := ruled(t, fraGate)
	r := w.refused(w.drain("cluster/fra"), "the switch fra-work of interlock fra is off, and this would take away pay@fra, shop@fra")
	if !r.Force || !strings.Contains(r.Remedy, "divert interlock on fra-work") {
		t.Errorf("refusal %+v", r)
	}
	w.refused(w.drain("service/shop@fra"), "take away shop@fra")
	w.refused(Command{Verb: Readmit, Scope: "cluster/fra"}, "bring back pay@fra, shop@fra")
	w.do(w.drain("cluster/sin"))
	w.do(w.turn(InterlockOn, "fra-work"))
	w.do(w.drain("cluster/fra"))
	w.do(w.turn(InterlockOff, "fra-work"))
	w.do(w.drain("cluster/fra")) // said again, it goes on
	w.refused(w.undrain("cluster/fra"), "bring back pay@fra, shop@fra")

	// The leader ends nothing behind a closed gate: the drain stays, and is overdue (S18).
	w.do(w.undrain("cluster/sin"))
	w.s.Now = w.s.Now.Add(2 * time.Hour)
	if due := Due(w.s); len(due) != 0 {
		t.Errorf("due: %+v", due)
	}
	late := Overdue(w.s)
	if len(late) != 1 || !slices.Contains(late[0].Waits, "the switch fra-work of interlock fra, which is off") {
		t.Errorf("overdue: %+v", late)
	}
	w.do(w.turn(InterlockOn, "fra-work"))
	if due := Due(w.s); len(due) != 1 || due[0].Verb != Expire {
		t.Errorf("due: %+v", due)
	} else {
		w.do(due[0])
	}
	w.do(w.turn(InterlockOff, "fra-work"))
	w.do(forced(w.drain("cluster/fra")))
	if last := w.audit[len(w.audit)-1]; !last.GetForced() || !strings.HasSuffix(last.GetWhat(), " in spite of interlock fra") {
		t.Errorf("audit %v", last)
	}
	w.do(forced(w.undrain("cluster/fra")))
	if last := w.audit[len(w.audit)-1]; !last.GetForced() {
		t.Errorf("audit %v", last)
	}
}

// TestStepsWaitForInterlocks: a drain in steps takes no more than it has while an
// interlock forbids what it did not when the drain began.
func TestStepsWaitForInterlocks(t *testing.T) {
	w := ruled(t, fraGate+`
---
kind: Interlock
metadata: {name: some}
spec: {assert: {atLeast: 2, of: [service/pay@fra, service/shop@nyc, service/shop@sin]}}
`)
	w.do(w.turn(InterlockOn, "fra-work"))
	w.seen()
	w.do(w.paced("service/pay@fra", 10, 50, 100))
	step := func(want string) {
		t.Helper()
		if got := w.next(30 * time.Second); got == "" || !strings.Contains(got, want) {
			t.Fatalf("got %q, want %q; it waits for %q", got, want, w.waits())
		}
	}
	waits := func(want string) {
		t.Helper()
		if got := w.next(30 * time.Second); got != "" || !strings.Contains(w.waits(), want) {
			t.Fatalf("got %q, and it waits for %q, want %q", got, w.waits(), want)
		}
	}
	step("10 % moved")
	w.fail("shop", "sin") // which takes over nothing of pay
	waits("interlock some, which wants at least 2 in service and has 1")
	w.heal("shop", "sin")
	step("50 % moved")
	w.do(w.turn(InterlockOff, "fra-work"))
	waits("the switch fra-work of interlock fra, which is off")
	w.do(w.turn(InterlockOn, "fra-work"))
	step("100 % moved")
}

// TestRolloutAndInterlocks: what some directors try first is held against the interlocks as
// it is tried, and again before all take it; a person who forced the one has forced the
// other, and both records name the rule.
func TestRolloutAndInterlocks(t *testing.T) {
	all := raws(t, fleetYAML+twoClusters)
	shrunk := edit(t, all, "GlobalService/shop", `,{"addresses":["192.0.2.12"],"cluster":"sin"}`, ``)
	shrunk = edit(t, shrunk, "GlobalService/shop", `,"sin"]`, `]`)
	k := newKeeper(t)
	k.joined()
	k.do(Command{Verb: Apply, Objects: all})
	k.begin(shrunk)
	k.cutOff("nyc")
	k.s.Now = k.s.Now.Add(5 * time.Minute)
	if v := k.leader(); v != "" {
		t.Fatalf("the leader did %s", v)
	}
	if alarm, waits := Rolling(k.s); alarm != "" || !strings.Contains(strings.Join(waits, "; "), "interlock two wants at least 2") {
		t.Fatalf("alarm %q, waits %q", alarm, waits)
	}
	k.heal("shop", "nyc")
	k.heal("pay", "nyc")
	if v := k.leader(); v != GoOn {
		t.Fatalf("the leader did %q, want %s", v, GoOn)
	}

	k = newKeeper(t)
	k.joined()
	k.do(Command{Verb: Apply, Objects: all})
	k.do(k.drain("cluster/nyc"))
	try := Command{Verb: Apply, Objects: shrunk, Canary: []string{"d2"}, Soak: 5 * time.Minute}
	k.refused(try, "interlock two wants at least 2")
	k.do(forced(try))
	k.acknowledged()
	k.s.Now = k.s.Now.Add(5 * time.Minute)
	if v := k.leader(); v != GoOn {
		t.Fatalf("the leader did %q, want %s", v, GoOn)
	}
	for _, a := range k.audit[len(k.audit)-2:] {
		if !a.GetForced() || !strings.HasSuffix(a.GetWhat(), " in spite of interlock two") {
			t.Errorf("audit %v", a)
		}
	}
}

// TestSwitch: a switch is turned by an audited command, and is off again once no gate
// names it.
func TestSwitch(t *testing.T) {
	w := newWorld(t)
	w.refused(w.turn(InterlockOn, "fra-work"), "no interlock of the spec has a gate")
	w = ruled(t, fraGate)
	w.refused(w.turn(InterlockOn, "fra-worn"), "did you mean fra-work?")
	w.refused(Command{Verb: InterlockOn, Scope: "fra-work"}, "needs a reason")
	if c := w.do(w.turn(InterlockOff, "fra-work")); !c.Noop || c.Summary != "switch fra-work is off already" {
		t.Errorf("got %+v", c)
	}
	if got := Interlocks(w.s)[0]; got.State != StandingClosed || !strings.Contains(got.Why, "never turned") {
		t.Errorf("got %+v", got)
	}
	c := w.do(w.turn(InterlockOn, "fra-work"))
	if want := "switch fra-work turned on by alice (INC-9): what interlock fra guards may be taken away or brought back"; c.Summary != want {
		t.Errorf("got %q, want %q", c.Summary, want)
	}
	last := w.audit[len(w.audit)-1]
	if last.GetWhat() != "turn switch fra-work on" || last.GetWho() != "alice" || last.GetWhy() != "INC-9" {
		t.Errorf("audit %v", last)
	}
	if got := Interlocks(w.s)[0]; got.State != StandingOpen || got.Switch.Author != "alice" || got.Switch.Since == nil {
		t.Errorf("got %+v", got)
	}
	if c := w.do(w.turn(InterlockOn, "fra-work")); !c.Noop || !strings.Contains(c.Summary, "on already, by alice since revision 3 (INC-9)") {
		t.Errorf("got %+v", c)
	}
	prune := Command{Verb: Apply, Objects: raws(t, fleetYAML), Prune: true}
	w.refused(prune, "this removes interlock fra, a safety rule")
	w.do(forced(prune))
	if n := len(w.s.Plan.Plan.GetSwitches()); n != 0 {
		t.Errorf("%d switches of no gate", n)
	}
	w.do(Command{Verb: Apply, Objects: raws(t, fleetYAML+fraGate)})
	w.refused(w.drain("cluster/fra"), "is off")
}

// TestInterlocksAndApply: an apply is held against the rules in force before it, one that
// it changes or removes itself included.
func TestInterlocksAndApply(t *testing.T) {
	all := raws(t, fleetYAML+twoClusters)
	// sin leaves the only service that it has.
	shrunk := edit(t, all, "GlobalService/shop", `,{"addresses":["192.0.2.12"],"cluster":"sin"}`, ``)
	shrunk = edit(t, shrunk, "GlobalService/shop", `,"sin"]`, `]`)
	w := ruled(t, twoClusters)
	w.do(w.drain("cluster/nyc"))
	w.refused(Command{Verb: Apply, Objects: shrunk}, "interlock two wants at least 2")
	w.refused(Command{Verb: Apply, Objects: edit(t, shrunk, "Interlock/two", `"atLeast":2`, `"atLeast":1`)}, "apply the change of the rule first, by itself")
	w.do(Command{Verb: Apply, Objects: edit(t, all, "Interlock/two", `"atLeast":2`, `"atLeast":1`)})
	w.do(Command{Verb: Apply, Objects: edit(t, shrunk, "Interlock/two", `"atLeast":2`, `"atLeast":1`)})

	// A folder forces nothing.
	w = ruled(t, twoClusters)
	w.do(Command{Verb: Apply, Objects: all, Folder: "d1"})
	w.do(w.drain("cluster/nyc"))
	r := w.refused(Command{Verb: Apply, Objects: edit(t, all, "Cluster/sin", `"spec":{`, `"spec":{"environment":"test",`), Folder: "d1"}, "interlock two wants")
	if r.Force || !strings.Contains(r.Remedy, "a person may apply it") {
		t.Errorf("refusal %+v", r)
	}

	// What is new is in nobody's way; a rule that does not hold as it comes says so.
	w = ruled(t, fraGate)
	w.do(Command{Verb: Apply, Objects: raws(t, fleetYAML+fraGate+`
---
kind: GlobalService
metadata: {name: new}
spec:
  hosts: [new.example.org]
  endpoints: [{cluster: fra, addresses: [192.0.2.30]}]
  probes: [{tcp: {port: 443}}]
`)})
	w.do(w.drain("cluster/sin"))
	w.cutOff("nyc")
	c := w.do(Command{Verb: Apply, Objects: only(all, "Interlock/two")})
	if !slices.ContainsFunc(c.Preview.Warnings, func(s string) bool {
		return strings.HasPrefix(s, "interlock two does not hold as it comes into force: 1 in service, and at least 2 wanted (")
	}) {
		t.Errorf("warnings %q", c.Preview.Warnings)
	}
	if got := w.s.Plan.Plan.GetMinReader(); got != plan.ReaderInterlocks {
		t.Errorf("minReader %d, want %d: an older director would commit what they forbid", got, plan.ReaderInterlocks)
	}
}

// TestInterlockKeys: what the store keeps changes with every change of a rule and every
// turn of a switch, there and back too.
func TestInterlockKeys(t *testing.T) {
	w := ruled(t, fraGate+twoClusters)
	keys := func() string { return fmt.Sprintf("%q", InterlockKeys(w.s.Plan.Plan, w.s.Doc)) }
	seen := map[string]bool{keys(): true}
	if n := len(InterlockKeys(w.s.Plan.Plan, w.s.Doc)); n != 2 {
		t.Errorf("%d keys before a switch was turned, want 2", n)
	}
	loose := edit(t, raws(t, fleetYAML+fraGate+twoClusters), "Interlock/two", `"atLeast":2`, `"atLeast":1`)
	for i, c := range []Command{
		w.turn(InterlockOn, "fra-work"), w.turn(InterlockOff, "fra-work"), w.turn(InterlockOn, "fra-work"),
		{Verb: Apply, Objects: loose},
		forced(Command{Verb: Apply, Objects: only(loose, "Cluster/fra", "Cluster/nyc", "Cluster/sin", "GlobalService/shop", "GlobalService/pay", "Zone/example.org", "Zone/example.net", "Fleet/default"), Prune: true}),
	} {
		w.do(c)
		if seen[keys()] {
			t.Errorf("command %d leaves the keys as they once were: %s", i, keys())
		}
		seen[keys()] = true
	}
	if n := len(InterlockKeys(w.s.Plan.Plan, w.s.Doc)); n != 0 {
		t.Errorf("%d keys of nothing", n)
	}
}

// TestInterlocksHold plays random commands, none forced, and failures. Judged by what
// steering shows of each site, no command takes an assertion below what it wants and
// what there was, and none moves what a closed gate guards.
func TestInterlocksHold(t *testing.T) {
	rules := twoClusters + fraGate + `
---
kind: Interlock
metadata: {name: shop}
spec: {assert: {atLeast: 1, of: [service/shop@nyc, service/shop@sin]}}
`
	start := ruled(t, rules)
	variants := [][]spec.Raw{raws(t, fleetYAML+rules), edit(t, raws(t, fleetYAML+rules), "Cluster/nyc", `"spec":{`, `"spec":{"environment":"test",`)}
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: start.t, s: start.s, key: "d1"}
		w.s.States = map[health.Subject]health.State{}
		for i := range rapid.IntRange(1, 12).Draw(t, "steps") {
			w.s.Now = w.s.Now.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "minutes")) * time.Minute)
			svc := rapid.SampledFrom(w.s.Spec.Services).Draw(t, "service")
			e := rapid.SampledFrom(svc.Endpoints).Draw(t, "site")
			w.mark(w.s.States, svc.Name, e.Cluster, rapid.SampledFrom([]health.State{health.Up, health.Up, health.Down}).Draw(t, "state"))
			c := drawCommand(t, w, variants)
			if rapid.IntRange(0, 3).Draw(t, "switch") == 0 {
				c = w.turn(rapid.SampledFrom([]Verb{InterlockOn, InterlockOff}).Draw(t, "turned"), "fra-work")
				c.Author = "alice"
			}
			c.Force, c.Prune = false, false
			if c.ID == "" {
				c.ID = fmt.Sprintf("i%d", i)
			}
			had := w.sites()
			open := w.s.Plan.Plan.Switch("fra-work").GetOn()
			got, err := Decide(w.s, c)
			if err != nil || got.Noop {
				continue
			}
			w.take(got)
			has := w.sites()
			if w.s.Plan.Plan.Holder(public(w.key)) == nil {
				return // nobody of this test can sign any more
			}
			clusters := func(sites map[string]string) int {
				up := map[string]bool{}
				for s, st := range sites {
					if st == "in" {
						_, cluster, _ := strings.Cut(s, "@")
						up[cluster] = true
					}
				}
				return len(up)
			}
			if n := clusters(has); n < min(2, clusters(had)) {
				t.Fatalf("%s %s leaves %d clusters in service of %d: %v", c.Verb, c.Scope, n, clusters(had), has)
			}
			shops := func(sites map[string]string) (n int) {
				for _, s := range []string{"shop@nyc", "shop@sin"} {
					if sites[s] == "in" {
						n++
					}
				}
				return n
			}
			if n := shops(has); n < min(1, shops(had)) {
				t.Fatalf("%s %s leaves no shop in nyc or sin: %v", c.Verb, c.Scope, has)
			}
			for _, s := range []string{"shop@fra", "pay@fra"} {
				if (had[s] == "drained") != (has[s] == "drained") && !open {
					t.Fatalf("%s %s moves %s behind a closed gate", c.Verb, c.Scope, s)
				}
			}
		}
	})
}

// sites says of each site, as steering shows it, whether it is in service.
func (w *world) sites() map[string]string {
	out := map[string]string{}
	d := steer.Decide(steer.Input{Spec: w.s.Spec, Plan: w.s.Plan.Plan, States: w.s.States, Places: everywhere(), Acting: true})
	for _, s := range d.Services {
		svc := w.s.Spec.Service(s.Name)
		for _, site := range s.Sites() {
			word := "in"
			switch {
			case w.s.Spec.Cluster(site.Cluster).Environment != svc.Environment:
				word = "elsewhere"
			case site.Drained != "":
				word = "drained"
			case site.Health == steer.Failed:
				word = "failed"
			}
			out[s.Name+"@"+site.Cluster] = word
		}
	}
	return out
}
