package director

import (
	"net/netip"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/health"
)

// distinct counts what the steered names of a zone hold once.
type distinct struct {
	steered, names, rows, places int
}

func count(z *answer.Zone) distinct {
	out := distinct{steered: len(z.Steered)}
	rows, places := map[*answer.PrefixPlaces]bool{}, map[*uint16]bool{}
	for i := range z.Steered {
		s := &z.Steered[i]
		out.names += 1 + len(s.Alike)
		rows[&s.A.ByPrefix[0]], places[&s.A.ByPlace[0]] = true, true
		for _, p := range s.A.ByPrefix {
			places[&p.ByPlace[0]] = true
		}
	}
	out.rows, out.places = len(rows), len(places)
	return out
}

// What services have in common is there once, however many they are, before a
// cluster falls, while it is down, and after; and a flip of all of them makes no
// name anew. Their cost follows from it (BenchmarkLarge).
func TestServicesShare(t *testing.T) {
	tests := []struct {
		name            string
		services, hosts int
		shared          bool
		steered         int // lists that are compiled
	}{
		{"addresses of their own", 20, 10, false, 20},
		{"the same gateways", 200, 1, true, 1},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			l := newLarge(tc.services, tc.hosts, tc.shared)
			var last []answer.Steered
			for i, st := range []health.State{health.Up, health.Down, health.Up} {
				l.flip(3, st)
				decision := l.decider.Decide(steer.Input{Spec: l.f.spec, Plan: l.f.sealed.Plan, States: l.states, Places: l.places})
				zones := l.describer.describe(l.f, decision)
				got := count(&zones[0])
				want := distinct{steered: tc.steered, names: tc.services * tc.hosts, rows: 1, places: 3}
				if got != want {
					t.Errorf("step %d: got %+v, want %+v", i, got, want)
				}
				for j := range last {
					if a, b := last[j].Alike, zones[0].Steered[j].Alike; len(a) != len(b) || len(a) > 0 && &a[0] != &b[0] {
						t.Errorf("step %d: the names of group %d are made anew", i, j)
					}
				}
				last = zones[0].Steered
			}
		})
	}
}

// A drain of one service takes it out of its group and leaves the others' names in
// one; its end puts it back. The instant of that end is on its names (SEMANTICS
// section 2, TTL).
func TestOneServiceLeavesItsGroup(t *testing.T) {
	l := newLarge(50, 1, true)
	end := time.Unix(1_800_000_000, 0)
	l.compile(t)
	drained := *l.f
	p := &plan.Plan{Fleet: "f", Epoch: 1, Revision: 2, Overrides: []*plan.Override{{
		Id: "one", Kind: plan.Override_DRAIN, Scope: "service/s000007@c0", Author: "somebody", Reason: "a test", Revision: 2, End: timestamppb.New(end),
	}}}
	drained.sealed, drained.standbys = &plan.Sealed{Plan: p}, steer.StandbysOf(l.f.spec, p)
	calm := l.f
	german := netip.MustParsePrefix("53.0.0.0/24")
	for _, tc := range []struct {
		f       *inForce
		steered int
		differs bool
	}{{&drained, 2, true}, {calm, 1, false}} {
		l.f = tc.f
		l.compile(t)
		if got := len(l.describer.groups); got != tc.steered {
			t.Errorf("got %d groups, want %d", got, tc.steered)
		}
		one, _ := l.table.Trace("h0.s7.example.org.", false, german)
		other, _ := l.table.Trace("h0.s8.example.org.", false, german)
		if differs := one.Picks[0].Cluster != other.Picks[0].Cluster; differs != tc.differs {
			t.Errorf("the drained goes to %s, another to %s", one.Picks[0].Cluster, other.Picks[0].Cluster)
		}
		if one.Name != "h0.s7.example.org." || one.Service != "s000007" {
			t.Errorf("traced as %s of %s", one.Name, one.Service)
		}
		if tc.differs && (!one.Next.Equal(end) || one.Left(end.Add(-7*time.Second)) != 7 || one.Left(end.Add(-time.Second)) != 5) ||
			!tc.differs && !one.Next.IsZero() || !other.Next.IsZero() {
			t.Errorf("next is %v, and %v of another", one.Next, other.Next)
		}
	}
}
