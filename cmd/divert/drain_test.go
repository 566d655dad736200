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
		o.Revision, o.Took = 44, 58*time.Millisecond
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
		{"drain-paced", "cluster/fra --reason INC-1 --paced", "", exitUsage, 0},
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
	if !strings.HasSuffix(got.Author, " (ada)") && got.Author != "ada" {
		t.Errorf("got author %q, want the label of sudo's user", got.Author)
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
