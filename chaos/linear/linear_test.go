package linear

import (
	"testing"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
)

// TestLinearizable: histories that one object can have, and such as none can (S5).
func TestLinearizable(t *testing.T) {
	drain := Call{Verb: core.Drain, Scope: "cluster/fra", After: " cluster/fra=0"}
	undrain := Call{Verb: core.Undrain, Scope: "cluster/fra"}
	type op struct {
		began, ended int64
		in           Call
		out          Reply
	}
	wrote := func(revision uint64) Reply { return Reply{Revision: revision, Wrote: true} }
	saw := func(revision uint64) Reply { return Reply{Revision: revision} }
	tests := []struct {
		name string
		ops  []op
		want bool
	}{
		{"one after the other", []op{{1, 2, drain, wrote(2)}, {3, 4, undrain, wrote(3)}, {5, 6, Call{}, saw(3)}}, true},
		{"at once, in the other order", []op{{1, 9, undrain, wrote(3)}, {2, 8, drain, wrote(2)}}, true},
		{"two of one revision", []op{{1, 2, drain, wrote(2)}, {3, 4, drain, wrote(2)}}, false},
		{"a read of what was before", []op{{1, 2, drain, wrote(2)}, {3, 4, Call{}, saw(1)}}, false},
		{"done before it was given", []op{{5, 6, drain, wrote(2)}, {1, 2, undrain, wrote(3)}}, false},
		{"acknowledged and lost", []op{{1, 2, drain, wrote(2)}, {3, 4, undrain, saw(2)}}, false},
		{"no answer, and done later", []op{{1, Open, drain, wrote(3)}, {2, 3, drain, wrote(2)}, {4, 5, Call{}, saw(2)}, {6, 7, Call{}, saw(3)}}, true},
		{"an undrain of nothing that wrote", []op{{1, 2, undrain, wrote(2)}}, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			var h History
			for _, o := range tc.ops {
				h.Add(o.began, o.ended, o.in, o.out)
			}
			if got := h.Linearizable(); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

// TestDrains: a return that waits for its site has clients of nobody yet, and is no drain
// that an undrain must end all the same.
func TestDrains(t *testing.T) {
	p := &plan.Plan{Overrides: []*plan.Override{
		{Kind: plan.Override_DRAIN, Scope: "cluster/nyc", Pace: &plan.Pace{State: plan.Pace_RETURNING, Steps: []uint32{0, 1000}}},
		{Kind: plan.Override_DRAIN, Scope: "cluster/fra"},
		{Kind: plan.Override_OBSERVE, Scope: "fleet"},
	}}
	after := Drains(p)
	if want := " cluster/fra=0 cluster/nyc=returns"; after != want {
		t.Fatalf("got %q, want %q", after, want)
	}
	for scope, want := range map[string]bool{"cluster/nyc": true, "cluster/fra": false} {
		var h History
		h.Add(1, 2, Call{Verb: core.Drain, Scope: "cluster/fra", After: after}, Reply{Revision: 2, Wrote: true})
		h.Add(3, 4, Call{Verb: core.Undrain, Scope: scope}, Reply{Revision: 2})
		if got := h.Linearizable(); got != want {
			t.Errorf("undraining %s changed nothing: got %v, want %v", scope, got, want)
		}
	}
}
