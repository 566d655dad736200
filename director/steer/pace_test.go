package steer

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
)

// pacedFleet is fra, nyc and sin, with a drain of fra at a step.
func pacedFleet(t failer, steps []uint32, step uint32, state plan.Pace_State) (*fleet, *plan.Override) {
	f := newFleet()
	for _, c := range []string{"fra:DE", "nyc:US", "sin:SG"} {
		f.cluster(t, c, "tier=edge")
	}
	f.service(t, "shop", spec.PolicyFailover, "fra=192.0.2.1", "nyc=192.0.2.2", "sin=192.0.2.3")
	o := f.override(plan.Override_DRAIN, "cluster/fra", "alice", true)
	o.Pace = &plan.Pace{Steps: steps, Step: step, State: state}
	return f, o
}

func drawPace(t *rapid.T, o *plan.Override) {
	o.Pace = &plan.Pace{
		Steps: []uint32{1000, 990, 500, 100, 0}, Step: uint32(rapid.IntRange(0, 5).Draw(t, "step")), // 5: one that is none
		State: plan.Pace_State(rapid.IntRange(0, 6).Draw(t, "pace")),
	}
	if rapid.Bool().Draw(t, "ahead") {
		o.Pace.Next = timestamppb.New(o.GetStart().AsTime().Add(time.Minute))
	}
}

// TestPacedStep: the site stays in its tier with the share that the step leaves it; at none
// it is drained as a whole.
func TestPacedStep(t *testing.T) {
	falling := []uint32{1000, 995, 250, 0}
	tests := []struct {
		name  string
		step  uint32
		spoil func(*fleet)
		want  string // the site and its share
	}{
		{"the TTL alone", 0, nil, "fra,nyc,sin 100"},
		{"half a percent is none yet", 1, nil, "fra,nyc,sin 100"},
		{"three of four", 2, nil, "fra,nyc,sin 25"},
		{"all", 3, nil, "nyc,sin 100"},
		{"no such step: as a whole", 4, nil, "nyc,sin 100"},
		{"nobody else is there (S1)", 2, func(f *fleet) {
			f.mark("nyc", health.KindUnknown, health.Down)
			f.mark("sin", health.KindUnknown, health.Down)
		}, "fra 100"},
		{"failed itself", 2, func(f *fleet) { f.mark("fra", health.KindUnknown, health.Down) }, "nyc,sin 100"},
		{"another drain takes it as a whole", 2, func(f *fleet) { f.override(plan.Override_DRAIN, "domain/fra", "bob", false) }, "nyc,sin 100"},
		{"by label, all: the last drained keeps its own", 2, func(f *fleet) {
			f.plan.Overrides[0].Scope = "selector/tier=edge"
		}, "fra,nyc,sin 100"},
		{"a person's word before a return", 2, func(f *fleet) {
			f.back("nyc", 0, time.Second)
			f.mark("sin", health.KindUnknown, health.Down)
		}, "fra,nyc 25"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			f, _ := pacedFleet(t, falling, tc.step, plan.Pace_MOVING)
			if tc.spoil != nil {
				tc.spoil(f)
			}
			s := &Decide(f.input()).Services[0]
			set := &s.V4.Sets[0]
			share := "100"
			if len(set.Choices) > 0 && set.Choices[0].Share > 0 {
				share = percent(int64(set.Choices[0].Share))[:2]
			}
			if got := strings.Join(clustersOf(set), ",") + " " + share; got != tc.want {
				t.Errorf("got %s, want %s: %q", got, tc.want, s.Why(IPv4, set))
			}
			if !slices.ContainsFunc(set.Choices, func(c Choice) bool { return c.Share == 0 }) {
				t.Error("S1: no site is there for all")
			}
		})
	}
}

// TestPacedWhy: status and explain say how far it has come.
func TestPacedWhy(t *testing.T) {
	f, o := pacedFleet(t, []uint32{1000, 250, 0}, 1, plan.Pace_MOVING)
	s := &Decide(f.input()).Services[0]
	want := "fra keeps 25 % of its clients by the drain by alice (INC-1), step 2 of 3"
	if why := s.Why(IPv4, &s.V4.Sets[0]); !slices.Contains(why, want) {
		t.Errorf("why %q, want %q", why, want)
	}
	site := s.Site(0)
	if site.Paced != o.GetId() || site.Drained != "" || site.Share != 25 || !strings.Contains(site.Why, want) {
		t.Errorf("site %+v", site)
	}
}

// TestPacedNext: a step ahead lowers the TTL of the names that it changes, also while it
// waits; where nothing is ahead the end of the drain counts (SEMANTICS section 2, TTL).
func TestPacedNext(t *testing.T) {
	step := noon.Add(time.Minute)
	tests := []struct {
		name  string
		edit  func(*fleet, *plan.Override)
		wants func(*plan.Override) time.Time
	}{
		{"a step", func(*fleet, *plan.Override) {}, func(*plan.Override) time.Time { return step }},
		{"the first", func(_ *fleet, o *plan.Override) { o.Pace.Step = 0 }, func(*plan.Override) time.Time { return step }},
		{"the last is taken", func(_ *fleet, o *plan.Override) { o.Pace.Step = 2 }, func(o *plan.Override) time.Time { return o.GetEnd().AsTime() }},
		{"held", func(_ *fleet, o *plan.Override) { o.Pace.State = plan.Pace_HELD }, func(*plan.Override) time.Time { return step }},
		{"returning, past its end", func(_ *fleet, o *plan.Override) {
			o.Pace.State, o.End = plan.Pace_RETURNING, timestamppb.New(noon.Add(-time.Hour))
		}, func(*plan.Override) time.Time { return step }},
		{"of what serves nobody", func(f *fleet, o *plan.Override) {
			o.Scope = "cluster/sin"
		}, func(*plan.Override) time.Time { return time.Time{} }},
		{"rolled back", func(_ *fleet, o *plan.Override) {
			o.Pace = &plan.Pace{Steps: []uint32{1000}, State: plan.Pace_ROLLED_BACK}
		}, func(*plan.Override) time.Time { return time.Time{} }},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			f, o := pacedFleet(t, []uint32{1000, 250, 0}, 1, plan.Pace_MOVING)
			o.Pace.Next = timestamppb.New(step)
			tc.edit(f, o)
			if got, want := Decide(f.input()).Services[0].Next, tc.wants(o); !got.Equal(want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// TestPacedStepsMoveOnlyAway: whatever the policy, health and other drains: as a drain's
// share falls, only clients of its sites move, and who has left stays away at later steps;
// nobody is left without an answer (S1).
func TestPacedStepsMoveOnlyAway(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := draw(t)
		f.plan.Overrides = slices.DeleteFunc(f.plan.Overrides, func(o *plan.Override) bool { return o.GetPace() != nil })
		f.returns = nil // a site that leaves makes who has just returned the first of its tier
		for s := range f.states {
			if s.Kind == health.KindSoft {
				delete(f.states, s) // doubt about degraded sites moves others by design (S9)
			}
		}
		if f.degraded() {
			return
		}
		c := rapid.SampledFrom(f.set.Clusters).Draw(t, "drained").Name
		f.override(plan.Override_DRAIN, "cluster/"+c, "carol", true)
		place, client := someone(t)
		chance := map[string][2]float64{}
		for _, c := range f.set.Clusters {
			chance[c.Name] = [2]float64{rapid.Float64Range(0, 0.999).Draw(t, "admits"), rapid.Float64Range(0.001, 0.999).Draw(t, "wins")}
		}
		answers := f.set.Services[0].Steering.Answers
		var decider Decider
		var before [2][]string
		for step := range uint32(6) {
			f.plan.Overrides = slices.Clone(f.plan.Overrides)
			last := len(f.plan.Overrides) - 1
			o := &plan.Override{
				Id: "paced", Kind: plan.Override_DRAIN, Scope: "cluster/" + c, LastResort: true, Revision: 99,
				Pace: &plan.Pace{Steps: []uint32{1000, 990, 700, 300, 10, 0}, Step: step, State: plan.Pace_MOVING},
			}
			f.plan.Overrides[last] = o
			d := decider.Decide(f.input())
			if got, want := dump(d), dump(Decide(f.input())); got != want {
				t.Fatalf("remembered:\n%s\nanew:\n%s", got, want)
			}
			for fam, v := range []*View{&d.Services[0].V4, &d.Services[0].V6} {
				set := look(v, place, client)
				if set == nil || len(set.Choices) == 0 {
					continue
				}
				if !slices.ContainsFunc(set.Choices, func(c Choice) bool { return c.Share == 0 }) {
					t.Fatalf("no site is there for all (S1): %s", dump(d))
				}
				now := told(set, answers, chance)
				if len(now) == 0 {
					t.Fatalf("nobody answers (S1): %s", dump(d))
				}
				was := before[fam]
				if before[fam] = now; was == nil || set.FailOpen || set.Tier == TierDrainedLast {
					continue
				}
				if !slices.Contains(was, c) && slices.Contains(now, c) && set.Tier != TierLastResort {
					t.Fatalf("a client came back to %s at step %d: from %v to %v\n%s", c, step, was, now, dump(d))
				}
				if !slices.Contains(was, c) && !slices.Equal(was, now) && answers == 1 {
					t.Fatalf("a client of %v moved to %v at step %d:\n%s", was, now, step, dump(d))
				}
			}
		}
	})
}
