package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
)

// TestFollow: who follows a drain in steps sees each step once, and its end (SEMANTICS
// section 4: stall, abort, roll back; complete only when seen).
func TestFollow(t *testing.T) {
	at := noon.Add(time.Minute)
	pace := func(state string, step, moved int) *api.Pace {
		return &api.Pace{State: state, Step: step, Moved: moved, Steps: []int{0, 100, 1000}, Next: &at, Why: "shop@nyc is failed: fast :80 at 192.0.2.11 is down"}
	}
	whole := &api.Pace{}
	status := func(revision uint64, p *api.Pace) api.Status {
		s := api.Status{Now: noon, Plan: &api.Plan{Revision: revision}}
		if p != nil {
			s.Overrides = []api.Override{{Kind: "drain", Scope: "cluster/fra", Pace: p}}
		}
		if p == whole {
			s.Overrides[0].Pace = nil
		}
		return s
	}
	stalled := pace("moving", 2, 100)
	stalled.Stalled, stalled.Waits = true, "d4 to be heard and to answer by this step (plan revision 8)"
	tests := []struct {
		name string
		back bool
		seen []api.Status
		want string
		err  string // "" = it came to the end that was meant
	}{
		{"complete", false, []api.Status{
			status(6, nil), // this director does not have it yet
			status(7, pace("moving", 1, 0)), status(7, pace("moving", 1, 0)), status(8, pace("moving", 2, 100)), status(8, stalled), status(9, pace("moving", 3, 1000)), status(10, pace("done", 3, 1000)),
		}, `
  12:00:00 UTC  step 1 of 3, 0 % of its clients are away; next 10 % away, at 12:01:00 UTC
  12:00:00 UTC  step 2 of 3, 10 % of its clients are away; next 100 % away, at 12:01:00 UTC
  12:00:00 UTC  step 2 of 3, 10 % of its clients are away; stalls, waits for d4 to be heard and to
                answer by this step (plan revision 8)
  12:00:00 UTC  step 3 of 3, 100 % of its clients are away
  12:00:00 UTC  complete: every director answers without it
`, ""},
		{"rolled back", false, []api.Status{status(8, pace("held", 2, 100)), status(9, pace("rolling back", 2, 50)), status(10, pace("rolled back", 3, 0))}, `
  12:00:00 UTC  held, 10 % of its clients are away: shop@nyc is failed: fast :80 at 192.0.2.11 is
                down
  12:00:00 UTC  rolls back, step 1 of 2, 5 % of its clients are away
  12:00:00 UTC  was rolled back: shop@nyc is failed: fast :80 at 192.0.2.11 is down
`, "cluster/fra was rolled back: shop@nyc is failed"},
		{"hastened", false, []api.Status{status(8, whole)}, `
  12:00:00 UTC  drained as a whole
`, ""},
		{"undone", false, []api.Status{status(8, pace("returning", 1, 100)), status(9, nil)}, `
  12:00:00 UTC  returns: somebody has undone it, or it has met its end
`, "cluster/fra returns"},
		{"gone", false, []api.Status{status(9, nil)}, `
  12:00:00 UTC  is drained no more: somebody has undone it, or it has met its end
`, "cluster/fra is drained no more"},
		{"back", true, []api.Status{status(7, pace("returning", 1, 1000)), status(8, pace("returning", 2, 100)), status(9, nil)}, `
  12:00:00 UTC  not begun, 100 % of its clients are away; next 10 % away, at 12:01:00 UTC
  12:00:00 UTC  step 1 of 2, 10 % of its clients are away; next 100 % away, at 12:01:00 UTC
  12:00:00 UTC  all its clients are back
`, ""},
		{"drained again", true, []api.Status{status(8, pace("moving", 2, 100))}, `
  12:00:00 UTC  is drained again
`, "cluster/fra is drained again"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			st := &story{app: newTerminal("").app, of: []begun{{scope: "cluster/fra", back: tc.back, revision: 7}}, told: map[string]string{}}
			p := &page{width: 100}
			over := false
			for _, s := range tc.seen {
				if over {
					break
				}
				over = st.hear(p, s)
			}
			if got := p.b.String(); !over || got != tc.want[1:] {
				t.Errorf("over %v, got\n%s\nwant\n%s", over, got, tc.want[1:])
			}
			err := st.end()
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || codeOf(err) != exitIncomplete || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("got %v, want %q with exit 3", err, tc.err)
			}
		})
	}
	left := (&story{of: []begun{{scope: "cluster/fra"}}}).left()
	if e := (*exit)(nil); !errors.As(left, &e) || e.code != exitIncomplete || !strings.Contains(e.remedy, "divert undrain cluster/fra") {
		t.Errorf("who stops looking is told %v", left)
	}
}

// TestFollowWhatReturns: an undrain that finds its scope on its way back already shows the
// steps that follow, as one that has begun them does.
func TestFollowWhatReturns(t *testing.T) {
	returns := core.Preview{Effects: []core.Effect{{Service: "shop", To: []string{"fra"}, Healthy: 2}}}
	for want, preview := range map[string]core.Preview{"all its clients are back": returns, "": {}} {
		f := &fake{status: api.Status{Now: noon, Plan: &api.Plan{Revision: 7}}, outcome: func(c core.Command) api.Outcome {
			return api.Outcome{ID: c.ID, Summary: "cluster/fra returns already", Preview: preview}
		}}
		term := newTerminal("")
		if code := term.run(t.Context(), []string{"undrain", "cluster/fra", "--follow", "--server", serve(t, f)}); code != exitDone {
			t.Errorf("exit %d: %s", code, term.stderr.String())
		}
		if got := term.stdout.String(); !strings.Contains(got, want) || want == "" && strings.Contains(got, "are back") {
			t.Errorf("got %s, want %q", got, want)
		}
	}
}
