package director

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/dnsserver/geo"
	"github.com/divertdns/divert/health"
)

// TestDescriberKeepsWhatIsTheSame: a describer that goes from decision to
// decision gives what one gives that sees only the last, and the very same views
// for a service that is answered as before.
func TestDescriberKeepsWhatIsTheSame(t *testing.T) {
	m := &mesh{t: t, ctx: t.Context()}
	for i, name := range []string{"d1", "d2", "d3"} {
		m.nodes = append(m.nodes, &node{loop: &loop{name: name}, mesh: m, key: benchKey(byte(i))})
	}
	f := m.planOf(benchSpec(3), nil, 1, m.nodes[0])
	drained := m.planOf(benchSpec(3), func(p *plan.Plan) {
		p.Overrides = []*plan.Override{{Id: "one", Kind: plan.Override_DRAIN, Scope: "service/s1@fra", Author: "somebody", Reason: "a test", Revision: 2}}
	}, 2, m.nodes[0])
	drained.spec = f.spec // as prepareAfter gives it
	places := placesOf(geo.Default())
	down := map[health.Subject]health.State{}
	for _, s := range subjects(f.spec) {
		if s.Addr.Addr().String() == benchAddr(2, 1) {
			down[s] = health.Down
		}
	}
	kept := &describer{}
	decider := &steer.Decider{}
	var last []answer.Zone
	for _, tc := range []struct {
		name   string
		f      *inForce
		states map[health.Subject]health.State
		moved  []string // services that are answered otherwise than in the row above
	}{
		{"at first", f, nil, []string{"s0", "s1", "s2"}},
		{"again", f, nil, nil},
		{"s2 falls", f, down, []string{"s2"}},
		{"s2 returns", f, nil, []string{"s2"}},
		{"s1 is drained", drained, nil, []string{"s1"}},
		{"s2 falls beside it", drained, down, []string{"s2"}},
		{"all is over", f, nil, []string{"s1", "s2"}},
	} {
		decision := decider.Decide(steer.Input{Spec: tc.f.spec, Plan: tc.f.sealed.Plan, States: tc.states, Places: places})
		got := kept.describe(tc.f, decision)
		if diff := cmp.Diff(new(describer).describe(tc.f, decision), got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}),
			cmp.Comparer(func(a, b *answer.Static) bool { return a == b })); diff != "" {
			t.Errorf("%s: it differs from a fresh one's (-fresh +kept):\n%s", tc.name, diff)
		}
		var moved []string
		for i, s := range got[0].Steered {
			if i%4 == 0 && (last == nil || &s.A.Sets[0] != &last[0].Steered[i].A.Sets[0]) { // a host and three site names each
				moved = append(moved, s.Service)
			}
		}
		if diff := cmp.Diff(tc.moved, moved); diff != "" {
			t.Errorf("%s: services described anew (-want +got):\n%s", tc.name, diff)
		}
		last = got
	}
}
