package core

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// joined gives d2 and d3 their keys.
func (k *keeper) joined() {
	k.t.Helper()
	for _, name := range []string{"d2", "d3"} {
		k.do(Command{Verb: DirectorJoin, Director: &Director{Name: name, Key: public(name)}})
	}
}

// begin starts a rollout of a spec on d2, and has it acknowledged.
func (k *keeper) begin(objects []spec.Raw) Change {
	k.t.Helper()
	c := k.do(Command{Verb: Apply, Objects: objects, Canary: []string{"d2"}, Soak: 5 * time.Minute, Reason: "try"})
	k.acknowledged()
	return c
}

// acknowledged has all directors know the plan in force.
func (k *keeper) acknowledged() {
	k.s.Seen = map[string]Seen{}
	for _, d := range Voters(k.s.Plan.Plan) {
		k.s.Seen[d.Name] = Seen{Acked: k.s.Plan.Identity}
	}
}

func slower(t testing.TB) []spec.Raw {
	return edit(t, raws(t, fleetYAML), "GlobalService/shop", `"steering"`, `"ttl":"17s","steering"`)
}

// leader does what is due, and says what that was.
func (k *keeper) leader() Verb {
	k.t.Helper()
	for _, c := range Due(k.s) {
		k.do(c)
		return c.Verb
	}
	return ""
}

// TestRollout: the plan names both specs; commands go by the one of all; after the soak
// the other is that of all, and what was before can be gone back to.
func TestRollout(t *testing.T) {
	k := newKeeper(t)
	k.joined()
	c := k.begin(slower(t))
	p := k.s.Plan.Plan
	if !p.Canary("d2") || p.Canary("d1") || p.GetMinReader() < plan.ReaderRollout || k.shopTTL() != "11s" {
		t.Fatalf("rollout %v, reader %d, ttl %s", p.GetRollout(), p.GetMinReader(), k.shopTTL())
	}
	if !strings.Contains(c.Audit.GetWhat(), "d2 tries it first") {
		t.Errorf("audit %q", c.Audit.GetWhat())
	}
	k.refused(Command{Verb: Apply, Objects: raws(t, fleetYAML)}, "a rollout is under way")
	// A drain commits during a soak, and keeps it.
	k.do(k.drain("cluster/fra"))
	if k.s.Plan.Plan.Soaking() == nil || k.s.Plan.Plan.GetMinReader() < plan.ReaderRollout {
		t.Fatal("the drain ended the rollout")
	}
	if v := k.leader(); v != "" {
		t.Fatalf("before the end of the soak: %s", v)
	}
	k.s.Now = k.s.Now.Add(5 * time.Minute)
	serials := map[string]uint32{}
	for _, z := range k.s.Plan.Plan.GetZones() {
		serials[z.GetName()] = z.GetSerial()
	}
	last := k.s.Plan.Identity.Revision
	if v := k.leader(); v != GoOn || k.shopTTL() != "17s" || k.s.Plan.Plan.GetRollout() != nil {
		t.Fatalf("after the soak: %q, ttl %s, %v", v, k.shopTTL(), k.s.Plan.Plan.GetRollout())
	}
	for _, z := range k.s.Plan.Plan.GetZones() {
		// Those who tried it had the serial of each revision (S13).
		if !grows(uint32(last), z.GetSerial()) {
			t.Errorf("zone %s: serial %d after %d", z.GetName(), z.GetSerial(), last)
		}
	}
	k.do(Command{Verb: Revert})
	if k.shopTTL() != "11s" {
		t.Errorf("reverted: ttl %s", k.shopTTL())
	}
}

// TestRolloutStops where something alarms, waits for what is not known, and gives up on
// that in the end.
func TestRolloutStops(t *testing.T) {
	probed := func(t testing.TB) []spec.Raw {
		return edit(t, raws(t, fleetYAML), "GlobalService/shop", `"/healthz"`, `"/ready"`)
	}
	over := 5 * time.Minute
	// tried marks what those probes see that only the spec that is tried has.
	tried := func(k *keeper, cluster string, st health.State, m map[health.Subject]health.State) {
		known, seen := map[health.Subject]health.State{}, map[health.Subject]health.State{}
		k.mark(known, "shop", cluster, st)
		old := k.s.Spec
		k.s.Spec = k.s.Trial.Spec
		k.mark(seen, "shop", cluster, st)
		k.s.Spec = old
		for s := range seen {
			if _, shared := known[s]; !shared {
				m[s] = st
			}
		}
	}
	tests := []struct {
		name  string
		spec  func(testing.TB) []spec.Raw
		state func(*keeper)
		after time.Duration
		want  Verb
		why   string
	}{
		{name: "nothing alarms, and the soak is not over", spec: slower, after: over - time.Second},
		{name: "nothing alarms", spec: slower, after: over, want: GoOn},
		{name: "silent", spec: slower, after: time.Second, want: Abort, why: "d2 is silent", state: func(k *keeper) {
			k.s.Seen["d2"] = Seen{Acked: k.s.Plan.Identity, Alarm: "is silent for 20s"}
		}},
		{name: "not acknowledged is waited for", spec: slower, after: over, state: func(k *keeper) { k.s.Seen = nil }},
		{name: "for ever it is not", spec: slower, after: 2 * over, want: Abort, why: "has not acknowledged", state: func(k *keeper) { k.s.Seen = nil }},
		{name: "nor by one that does not try it (SEMANTICS section 4)", spec: slower, after: over, state: func(k *keeper) { delete(k.s.Seen, "d3") }},
		{name: "one that is back has a little longer", spec: slower, after: over + absence - time.Second, state: func(k *keeper) { k.s.Seen["d3"] = Seen{} }},
		{name: "a dead one holds it up no longer", spec: slower, after: over + absence, want: GoOn, state: func(k *keeper) { delete(k.s.Seen, "d3") }},
		{name: "too many are away", spec: slower, after: over + absence, state: func(k *keeper) { delete(k.s.Seen, "d3"); delete(k.s.Seen, "d1") }},
		{name: "for ever it waits for none", spec: slower, after: 2 * over, want: Abort, why: "d1 has not acknowledged it; d3 has not", state: func(k *keeper) {
			delete(k.s.Seen, "d3")
			delete(k.s.Seen, "d1")
		}},
		{name: "who tries it is waited for longer", spec: slower, after: over + absence, state: func(k *keeper) { delete(k.s.Seen, "d2") }},
		{name: "an acknowledgement of another fleet", spec: slower, after: over, state: func(k *keeper) {
			id := k.s.Plan.Identity
			id.Fleet = "fleet-2"
			k.s.Seen["d3"] = Seen{Acked: id}
		}},
		{name: "an older plan's acknowledgement", spec: slower, after: over, state: func(k *keeper) {
			id := k.s.Plan.Identity
			id.Revision--
			k.s.Seen["d3"] = Seen{Acked: id}
		}},
		{name: "its director leaves", spec: slower, after: time.Second, want: Abort, why: "left the roster", state: func(k *keeper) {
			k.do(Command{Verb: DirectorRemove, Director: &Director{Name: "d2"}, Force: true})
		}},
		{name: "a freeze keeps it from going on", spec: slower, after: over, state: func(k *keeper) {
			k.do(Command{Verb: Freeze, Reason: "x", For: time.Hour})
		}},
		{name: "missing is not green", spec: probed, after: over},
		{name: "the new probe passes", spec: probed, after: over, want: GoOn, state: func(k *keeper) {
			for _, c := range []string{"fra", "nyc", "sin"} {
				tried(k, c, health.Up, k.s.Observed)
			}
		}},
		{name: "the new probe fails", spec: probed, after: time.Second, want: Abort, why: "shop@nyc is failed", state: func(k *keeper) {
			tried(k, "nyc", health.Down, k.s.States)
		}},
		{name: "what is down by both is no worse", spec: probed, after: over, want: GoOn, state: func(k *keeper) {
			for _, c := range []string{"fra", "sin"} {
				tried(k, c, health.Up, k.s.Observed)
			}
			tried(k, "nyc", health.Down, k.s.States)
			k.fail("shop", "nyc")
		}},
		{name: "seen by neither is waited for", spec: probed, after: over, state: func(k *keeper) {
			k.s.Observed = nil // as where too few directors hear each other
		}},
		{name: "down by the one, and not seen by the other", spec: probed, after: over, state: func(k *keeper) {
			tried(k, "nyc", health.Down, k.s.States)
			k.s.Observed = nil
		}},
		{
			name: "an alert of its own", after: time.Second, want: Abort, why: "by the spec that is tried",
			spec: func(t testing.TB) []spec.Raw {
				return edit(t, raws(t, fleetYAML), "GlobalService/shop", `"steering"`, `"minHealthy":3,"steering"`)
			},
			state: func(k *keeper) { k.fail("shop", "nyc") },
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			k := newKeeper(t)
			k.joined()
			k.begin(tc.spec(t))
			id := k.s.Plan.Plan.GetRollout().GetRevision()
			if tc.state != nil {
				tc.state(k)
			}
			k.s.Now = k.s.Now.Add(tc.after)
			due := Due(k.s)
			if got := k.leader(); got != tc.want {
				t.Fatalf("got %q, want %q", got, tc.want)
			}
			if tc.want == "" {
				return
			}
			// Whoever leads does it under the same ID (S4).
			if again := Due(k.s); len(due) != 1 || !strings.HasSuffix(due[0].ID, "."+utoa(id)) || len(again) != 0 {
				t.Errorf("due %+v, then %+v", due, again)
			}
			r := k.s.Plan.Plan.GetRollout()
			if tc.want == Abort && (r.GetState() != plan.Rollout_STOPPED || !strings.Contains(r.GetWhy(), tc.why) || k.s.Plan.Plan.Canary("d2") || k.shopTTL() != "11s") {
				t.Errorf("stopped: %v, ttl %s, want because of %q", r, k.shopTTL(), tc.why)
			}
			if tc.want == Abort {
				k.do(Command{Verb: Abort}) // a person puts it away
				if k.s.Plan.Plan.GetRollout() != nil {
					t.Error("it is not put away")
				}
			}
		})
	}
}

// TestGoOnNamesWhoIsMissing: whoever has all go on is told who has not acknowledged what was
// tried; a leader that found all of it there goes on only if it still is.
func TestGoOnNamesWhoIsMissing(t *testing.T) {
	k := newKeeper(t)
	k.joined()
	k.begin(slower(t))
	delete(k.s.Seen, "d3")
	k.s.Now = k.s.Now.Add(5*time.Minute + absence)
	due := Due(k.s)
	if len(due) != 1 || due[0].Verb != GoOn {
		t.Fatalf("due %+v", due)
	}
	k.do(Command{Verb: Freeze, Reason: "x", For: time.Hour}) // between the leader's look and its write
	if c := k.do(due[0]); !c.Noop || !strings.Contains(c.Summary, "frozen by alice") {
		t.Errorf("the leader went on under a freeze: %+v", c)
	}
	c := k.do(Command{Verb: GoOn, Reason: "looked at it"}) // a person may
	if !strings.Contains(c.Summary, "without d3, which may still answer otherwise") || !strings.Contains(c.Audit.GetWhat(), "without d3") {
		t.Errorf("%q, on record %q", c.Summary, c.Audit.GetWhat())
	}
}

// TestRolloutRefuses what is none.
func TestRolloutRefuses(t *testing.T) {
	k := newKeeper(t)
	next := slower(t)
	try := func(on ...string) Command { return Command{Verb: Apply, Objects: next, Canary: on, Soak: time.Minute} }
	k.refused(try("d2"), "has not joined yet")
	k.refused(try("d1"), "all directors there are")
	k.joined()
	k.refused(try("d9"), `no director "d9"`)
	k.refused(try("d2", "d2"), "named twice")
	k.refused(try("d1", "d2", "d3"), "all directors there are")
	k.refused(Command{Verb: Apply, Objects: next, Soak: time.Minute}, "a soak without a canary")
	k.refused(Command{Verb: Apply, Objects: next, Canary: []string{"d2"}, Soak: 48 * time.Hour}, "at most 1d")
	if c := k.do(Command{Verb: GoOn}); !c.Noop {
		t.Error("went on with nothing")
	}
	if c := k.do(Command{Verb: Abort}); !c.Noop {
		t.Error("took nothing back")
	}
	if c := k.do(Command{Verb: Apply, Objects: Raws(k.s.Doc), Canary: []string{"d2"}}); !c.Noop {
		t.Error("tries what is in force")
	}
	// While it is under way, a revert takes it back, and leaves the spec of all.
	k.begin(next)
	k.do(Command{Verb: Revert})
	if k.s.Plan.Plan.GetRollout() != nil || k.shopTTL() != "11s" {
		t.Errorf("reverted: %v, ttl %s", k.s.Plan.Plan.GetRollout(), k.shopTTL())
	}
	k.begin(next)
	k.do(Command{Verb: GoOn, Reason: "looked at it"})
	if k.shopTTL() != "17s" {
		t.Errorf("a person went on: ttl %s", k.shopTTL())
	}
}

// TestRosterInTheSoak: a rollout is never left to those who try it alone, and one of them who
// is removed ends it.
func TestRosterInTheSoak(t *testing.T) {
	k := newKeeper(t)
	k.joined()
	k.begin(slower(t))
	gone := func(name string) Command { return Command{Verb: DirectorRemove, Director: &Director{Name: name}} }
	k.do(gone("d3"))
	k.refused(gone("d1"), "d1 is the last director that does not try the spec")
	k.do(gone("d2"))
	if v := k.leader(); v != Abort || k.shopTTL() != "11s" || !strings.Contains(k.s.Plan.Plan.GetRollout().GetWhy(), "d2 has left the roster") {
		t.Errorf("the leader did %q: %v", v, k.s.Plan.Plan.GetRollout())
	}
}

// TestCheck: what each director refuses of a plan that is signed well (S3, S7, S13, S18).
func TestCheck(t *testing.T) {
	tests := []struct {
		name   string
		change func(*plan.Plan)
		want   string // "" = it is taken
	}{
		{"nothing wrong", func(*plan.Plan) {}, ""},
		{"another parent", func(p *plan.Plan) { p.Parent[0]++ }, "follows another plan"},
		{"two directors at once", func(p *plan.Plan) {
			p.Roster[1].Standing, p.Roster[2].Standing = plan.Director_REMOVED, plan.Director_REMOVED
		}, "2 directors of the roster change"},
		{"a director forgotten", func(p *plan.Plan) { p.Roster = p.Roster[:2] }, "vanished"},
		{"nobody could sign the next", func(p *plan.Plan) {
			for _, d := range p.Roster {
				d.Key = nil
			}
		}, "could sign"},
		{"a drain without an end", func(p *plan.Plan) { p.Overrides[0].End = nil }, "no end"},
		{"a drain for a week", func(p *plan.Plan) {
			p.Overrides[0].End = timestamppb.New(p.GetWritten().AsTime().Add(7 * 24 * time.Hour))
		}, "ends later than"},
		{"two overrides of one ID", func(p *plan.Plan) { p.Overrides = append(p.Overrides, p.Overrides[0]) }, "two overrides"},
		{"a serial that goes back", func(p *plan.Plan) { p.Zones[0].Serial-- }, "goes back"},
		{"a rollout on all", func(p *plan.Plan) {
			p.Rollout = &plan.Rollout{State: plan.Rollout_SOAKING, Canary: p.GetSpec(), On: []string{"d1", "d2", "d3"}, Start: p.GetWritten(), End: p.GetWritten()}
		}, "tried by all"},
		{"a spec whose hash is none", func(p *plan.Plan) { p.Spec = &plan.SpecRef{Hash: []byte{1}} }, "hash of 1 octets"},
		{"a chunk whose hash is none", func(p *plan.Plan) {
			p.Spec = &plan.SpecRef{Hash: make([]byte, 32), Chunks: [][]byte{make([]byte, 32), {1}}}
		}, "hash of 1 octets"},
		{"too large", func(p *plan.Plan) { p.Fleet += strings.Repeat("x", MaxManifest) }, "the most is"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			k := newKeeper(t)
			k.joined()
			c, err := k.try(k.drain("cluster/fra"))
			if err != nil {
				t.Fatal(err)
			}
			tc.change(c.Plan)
			next, err := plan.Sign(c.Plan, "d1", keyOf("d1"))
			if err != nil {
				t.Fatal(err)
			}
			err = Check(k.s.Plan, next)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// TestCheckAnswers finds a decision that leaves clients without an answer, or with one that
// residency forbids: it is asked of a view that was tampered with (S1, S11).
func TestCheckAnswers(t *testing.T) {
	w := newWorld(t)
	fenced := edit(t, raws(t, fleetYAML), "GlobalService/shop", `"probes"`, `"residency":[{"clients":{"continents":["EU"]},"clusters":{"jurisdiction":"eu"}}],"probes"`)
	w.do(Command{Verb: Apply, Objects: fenced})
	if err := CheckAnswers(w.s.Spec, w.s.Plan.Plan, everywhere()); err != nil {
		t.Fatal(err)
	}
	svc, clusters := w.s.Spec.Service("shop"), clustersOf(w.s.Spec)
	d := decideAll(w, everywhere())
	view := d["shop"].V4
	eu := view.Sets[view.ByPlace[1]]
	tests := []struct {
		name string
		set  func()
		want string
	}{
		{"no answer", func() { eu.Choices = nil }, "(S1)"},
		{"outside the fence", func() { eu.Choices = append(eu.Choices[:0:0], eu.Choices[0]); eu.Choices[0].Cluster = "nyc" }, "(S11)"},
		{"a cluster that is none", func() { eu.Choices = append(eu.Choices[:0:0], eu.Choices[0]); eu.Choices[0].Cluster = "ams" }, "(S11)"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			kept := eu
			defer func() { eu = kept }()
			tc.set()
			v := view
			v.Sets = append(v.Sets[:0:0], view.Sets...)
			v.Sets[view.ByPlace[1]] = eu
			if err := checkView(svc, clusters, &v, 0, everywhere()); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func decideAll(w *world, places []steer.Place) map[string]steer.Service {
	out := map[string]steer.Service{}
	for _, s := range steer.Decide(steer.Input{Spec: w.s.Spec, Plan: w.s.Plan.Plan, Places: places}).Services {
		out[s.Name] = s
	}
	return out
}

func utoa(n uint64) string { return strconv.FormatUint(n, 10) }
