package director

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/divertdns/divert/director/plan"
)

// TestPrepareAfter: a plan over the same document shares what was made of it,
// its zones only while no serial moves (S13); over another it shares nothing.
func TestPrepareAfter(t *testing.T) {
	m := &mesh{t: t, ctx: t.Context()}
	for i, name := range []string{"d1", "d2", "d3"} {
		m.nodes = append(m.nodes, &node{loop: &loop{name: name}, mesh: m, key: benchKey(byte(i))})
	}
	old := m.plan(nil, 1, m.nodes[0])
	tests := []struct {
		name        string
		next        *inForce
		old         *inForce
		spec, zones bool // shared with old
	}{
		{name: "nothing to share with", next: m.plan(nil, 2, m.nodes[0])},
		{name: "a drain", old: old, spec: true, zones: true, next: m.plan(func(p *plan.Plan) {
			p.Overrides = []*plan.Override{{Id: "one", Kind: plan.Override_DRAIN, Scope: "cluster/fra"}}
		}, 2, m.nodes[0])},
		{name: "another serial", old: old, spec: true, next: m.plan(func(p *plan.Plan) {
			p.Zones[0].Serial = 7
		}, 2, m.nodes[0])},
		{name: "another document", old: old, next: m.planOf(meshSpec+"---\n"+`
apiVersion: divert.dev/v1alpha1
kind: Cluster
metadata: {name: sin}
spec: {location: {country: SG}}
`, nil, 2, m.nodes[0])},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			f, err := (*zoneTexts)(nil).prepareAfter(tc.old, tc.next.sealed, tc.next.bytes)
			if err != nil {
				t.Fatal(err)
			}
			if f.sealed != tc.next.sealed || string(f.bytes) != string(tc.next.bytes) || f.sealed == old.sealed {
				t.Error("it is not the plan that was given")
			}
			if got := f.spec == old.spec; got != tc.spec {
				t.Errorf("spec shared: got %v, want %v", got, tc.spec)
			}
			if got := &f.zones[0] == &old.zones[0]; got != tc.zones {
				t.Errorf("zones shared: got %v, want %v", got, tc.zones)
			}
			if got, want := f.zones[0].Serial, tc.next.zones[0].Serial; got != want {
				t.Errorf("serial %d, want %d", got, want)
			}
			// A serial alone has no zone read anew, nor packed.
			if got := f.zones[0].Static == old.zones[0].Static; got != tc.spec {
				t.Errorf("records shared: got %v, want %v", got, tc.spec)
			}
			if diff := cmp.Diff(tc.next.standbys.Of(f.spec.Services[0]), f.standbys.Of(f.spec.Services[0]), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("what transfers say (-fresh +got):\n%s", diff)
			}
		})
	}
	if _, err := (*zoneTexts)(nil).prepareAfter(old, old.sealed, nil); err != nil {
		t.Errorf("the document at hand is needed again: %v", err)
	}
	other := m.plan(nil, 2, m.nodes[0])
	other.sealed.Plan.Spec.Hash[0]++
	if _, err := (*zoneTexts)(nil).prepareAfter(old, other.sealed, other.bytes); err == nil {
		t.Error("a document that the plan does not name was taken")
	}
}
