package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
)

// drainer answers drains: cluster/fra is done, cluster/nyc has a laggard,
// cluster/sin is somebody's last site.
func drainer() *fake {
	preview := core.Preview{
		Effects: []core.Effect{
			{Service: "shop", From: []string{"fra"}, To: []string{"ams", "nyc"}, Healthy: 2},
			{Service: "pay", From: []string{"fra"}, To: []string{"nyc"}, Healthy: 1, MinWanted: 2},
		},
		Warnings: []string{"pay: 1 healthy site, fewer than the 2 wanted"},
	}
	f := &fake{steps: []api.Outcome{
		{Revision: 44, Preview: preview, Applied: []string{"d1"}},
		{Revision: 44, Preview: preview, Applied: []string{"d1", "d3"}},
	}}
	f.outcome = func(c core.Command) api.Outcome {
		o := api.Outcome{ID: c.ID, Preview: preview, Summary: c.Scope + " drained by ada until 13:00 (" + c.Reason + ")"}
		if c.Paced {
			o.Preview.Steps = []core.PaceStep{{}, {Moved: 100, After: 20}, {Moved: 1000, After: 80}}
		}
		switch {
		case c.Scope == "cluster/sin" && !c.Force:
			return api.Outcome{ID: c.ID, Code: 1, Error: "draining cluster/sin would take the last healthy site of pay", Remedy: "restore another site first, or repeat it with --force, which is recorded", CanForce: true}
		case c.Scope == "cluster/away":
			return api.Outcome{ID: c.ID, Code: 1, Error: "the store does not answer", Remedy: "answers and failover go on; repeat it when the store is back"}
		case c.DryRun:
			return o
		case c.Scope == "cluster/nyc":
			o.Code, o.Error = 3, "committed, but not complete in time: all but d4 (silent 6m, may still answer)"
			o.Remedy = "it stays in force and reaches them when they are back; `divert status` shows when"
			o.Missing = []api.Missing{{Director: "d4", Why: "silent 6m, may still answer"}}
			o.Applied = []string{"d1", "d3"}
		default:
			o.Applied = []string{"d1", "d3", "d2"}
		}
		o.Revision, o.Took = 44, 0.058
		return o
	}
	return f
}

func TestDrain(t *testing.T) {
	tests := []struct {
		name  string
		args  string
		typed string
		code  int
		sent  int // commands, dry runs included
	}{
		{"drain", "cluster/fra --reason INC-1", "", exitDone, 1},
		{"drain-for", "cluster/fra --reason INC-1 --for 90m --last-resort --now", "", exitDone, 1},
		{"drain-asked", "cluster/fra --for 2h", "INC-1\n", exitDone, 1},
		{"drain-no-reason", "cluster/fra", "", exitUsage, 0},
		{"drain-empty-reason", "cluster/fra", "\n", exitUsage, 0},
		{"drain-dry-run", "cluster/fra --dry-run", "", exitDone, 1},
		{"drain-laggard", "cluster/nyc --reason INC-1", "", exitIncomplete, 1},
		{"drain-refused", "cluster/sin --reason INC-1", "", exitRefused, 1},
		{"drain-store-away", "cluster/away --reason INC-1", "", exitRefused, 1},
		{"drain-several", "cluster/sin cluster/nyc cluster/fra --reason INC-1", "", exitIncomplete, 3},
		{"drain-force-typed", "cluster/sin --reason INC-1 --force", "cluster/sin\n", exitDone, 2},
		{"drain-force-mistyped", "cluster/sin --reason INC-1 --force", "cluster/fra\n", exitRefused, 1},
		{"drain-force-confirmed", "cluster/sin --reason INC-1 --force --confirm cluster/sin", "", exitDone, 2},
		{"drain-force-nobody", "cluster/sin --reason INC-1 --force", "", exitUsage, 0},
		{"drain-force-other", "cluster/sin --reason INC-1 --force --confirm cluster/fra", "", exitUsage, 0},
		{"drain-force-dry-run", "cluster/sin --force --dry-run", "", exitDone, 1},
		{"drain-confirm-alone", "cluster/sin --reason INC-1 --confirm cluster/sin", "", exitUsage, 0},
		{"drain-paced", "cluster/fra --reason INC-1 --paced", "", exitDone, 1},
		{"drain-paced-dry-run", "cluster/fra --paced --steps 10,100 --wait 1m --dry-run", "", exitDone, 1},
		{"drain-paced-now", "cluster/fra --reason INC-1 --paced --now", "", exitUsage, 0},
		{"drain-steps-alone", "cluster/fra --reason INC-1 --steps 1,100", "", exitUsage, 0},
		{"drain-emergency", "cluster/fra --reason INC-1 --emergency", "", exitUsage, 0},
		{"drain-bad-scope", "fra --reason INC-1", "", exitUsage, 0},
		{"drain-no-scope", "--reason INC-1", "", exitUsage, 0},
		{"drain-bad-for", "cluster/fra --reason INC-1 --for tomorrow", "", exitUsage, 0},
		{"drain-negative", "cluster/fra --reason INC-1 --for -1h", "", exitUsage, 0},
		{"drain-bad-timeout", "cluster/fra --reason INC-1 --timeout 1h", "", exitUsage, 0},
		{"drain-one-id", "cluster/fra cluster/nyc --reason INC-1 --id x", "", exitUsage, 0},
		{"drain-json", "cluster/nyc --reason INC-1 -o json", "", exitIncomplete, 1},
		{"drain-json-refused", "cluster/sin --reason INC-1 -o json", "", exitRefused, 1},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			f := drainer()
			term := newTerminal(tc.typed)
			args := append([]string{"drain", "--server", serve(t, f)}, strings.Fields(tc.args)...)
			if code := term.run(t.Context(), args); code != tc.code {
				t.Errorf("got exit %d, want %d", code, tc.code)
			}
			if got := len(f.sent()); got != tc.sent {
				t.Errorf("got %d commands, want %d", got, tc.sent)
			}
			golden(t, tc.name, term.stdout.String()+"--- stderr\n"+term.stderr.String())
		})
	}
}

func TestDrainCommandAsSent(t *testing.T) {
	f := drainer()
	term := newTerminal("")
	term.env = func(name string) string { return map[string]string{"SUDO_USER": "ada"}[name] }
	line := "drain cluster/fra --reason INC-1 --for 2h --last-resort --id mine --server " + serve(t, f)
	if code := term.run(t.Context(), strings.Fields(line)); code != exitDone {
		t.Fatalf("got exit %d: %s", code, term.stderr.String())
	}
	got := f.sent()[0]
	if got.Label != "ada" {
		t.Errorf("got label %q, want that of sudo's user", got.Label)
	}
	got.Author = ""
	want := core.Command{ID: "mine", Verb: core.Drain, Scope: "cluster/fra", Reason: "INC-1", For: 2 * time.Hour, LastResort: true}
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	if string(a) != string(b) {
		t.Errorf("got  %s\nwant %s", a, b)
	}
}

// TestForcedPreviewIsAnotherCommand (S4): the dry run before the question must
// not use up the ID of the real one.
func TestForcedPreviewIsAnotherCommand(t *testing.T) {
	f := drainer()
	term := newTerminal("")
	line := "drain cluster/sin --reason INC-1 --force --confirm cluster/sin --id mine --server " + serve(t, f)
	if code := term.run(t.Context(), strings.Fields(line)); code != exitDone {
		t.Fatalf("got exit %d: %s", code, term.stderr.String())
	}
	sent := f.sent()
	if len(sent) != 2 || !sent[0].DryRun || sent[0].ID == "mine" || sent[1].DryRun || sent[1].ID != "mine" || !sent[1].Force {
		t.Errorf("got %+v, want a dry run under another ID, then the command", sent)
	}
}

func TestRandomIDsDiffer(t *testing.T) {
	if a, b := randomID(), randomID(); a == b || len(a) < 26 {
		t.Errorf("got %q and %q", a, b)
	}
}

// TestPacedAsSent: a drain in steps may serve as the last resort unless that is said
// otherwise, and one at once may not (SEMANTICS section 4).
func TestPacedAsSent(t *testing.T) {
	tests := []struct{ args, want string }{
		{"drain cluster/fra --reason x --paced", `{"id":"id1","verb":"drain","scope":"cluster/fra","reason":"x","lastResort":true,"paced":true,"forSeconds":3600}`},
		{"drain cluster/fra --reason x --paced --last-resort=false", `{"id":"id1","verb":"drain","scope":"cluster/fra","reason":"x","paced":true,"forSeconds":3600}`},
		{"drain selector/tier=edge --reason x --paced --steps 5,100 --wait 1m", `{"id":"id1","verb":"drain","scope":"selector/tier=edge","reason":"x","lastResort":true,"paced":true,"steps":[5,100],"forSeconds":3600,"waitSeconds":60}`},
		{"drain cluster/fra --reason x --now", `{"id":"id1","verb":"drain","scope":"cluster/fra","reason":"x","forSeconds":3600}`},
		{"undrain cluster/fra --now", `{"id":"id1","verb":"undrain","scope":"cluster/fra","now":true}`},
	}
	for _, tc := range tests {
		f := drainer()
		term := newTerminal("")
		if code := term.run(t.Context(), strings.Fields(tc.args+" --server "+serve(t, f))); code != exitDone {
			t.Fatalf("%s: exit %d: %s", tc.args, code, term.stderr.String())
		}
		got := f.sent()[0]
		got.Author = ""
		if b, _ := json.Marshal(got); string(b) != tc.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tc.args, b, tc.want)
		}
	}
}

// TestStatusOfPaces: the status says where a drain in steps stands, and for what it waits.
func TestStatusOfPaces(t *testing.T) {
	next, end := noon.Add(30*time.Second), noon.Add(time.Hour)
	o := api.Override{ID: "x", Kind: "drain", Scope: "cluster/fra", Author: "ada", Reason: "INC-1", Start: noon, End: &end}
	o.Pace = &api.Pace{State: "moving", Step: 2, Steps: []int{0, 10, 250, 1000}, Moved: 10, Next: &next, Waits: "d3 to be heard", Stalled: true}
	page := newTerminal("").statusPage(api.Status{
		Director: "d1", Now: noon, Store: "ok", Overrides: []api.Override{o},
		Clusters: []api.Cluster{{Name: "fra", Health: "healthy", Paced: "x", Serving: 1, Endpoints: 1}},
	}, false)
	for _, want := range []string{
		"in steps", "moving: step 2 of 4, 1 % of its clients are away", "next: 25 % away, at 12:00:30 UTC at the earliest",
		"waits for: d3 to be heard", "stalls: later than three in four of its own steps were",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not in\n%s", want, page)
		}
	}
}
