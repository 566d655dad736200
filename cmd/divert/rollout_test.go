package main

import (
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/spec"
)

// shifted is a preview that moves a part of the answers.
func shifted(large bool) core.Preview {
	both := func(region string, changed float64, moves ...core.Move) []core.Shift {
		return []core.Shift{
			{Region: region, Type: "A", Services: 2, Changed: changed, Moves: moves},
			{Region: region, Type: "AAAA", Services: 2, Changed: changed, Moves: moves},
		}
	}
	p := core.Preview{Weighing: "counted somehow", Large: large}
	p.Shifts = append(p.Shifts, both("everywhere", 12.5, core.Move{From: "fra", To: "nyc", Percent: 12.5})...)
	p.Shifts = append(p.Shifts, both("NA", 12.5, core.Move{From: "fra", To: "nyc", Percent: 12.5})...)
	p.Shifts = append(p.Shifts, core.Shift{Region: "EU", Type: "A", Services: 2, Changed: 60.001, Moves: []core.Move{
		{From: "fra", To: "nyc", Percent: 50}, {From: "nyc", To: "nyc", Percent: 10}, {To: "sin", Percent: 0.001},
	}})
	if large {
		p.Warnings = []string{"many answers become others"}
	}
	return p
}

// TestDiffShowsShifts: beside the fields, what part of the answers moves, each region once.
func TestDiffShowsShifts(t *testing.T) {
	fleet, problems := spec.Parse("fleet.yaml", []byte(clusters+"---\n"+service))
	if spec.Failed(problems) {
		t.Fatal(problems)
	}
	f := &fake{spec: fleet, outcome: func(c core.Command) api.Outcome { return api.Outcome{ID: c.ID, Preview: shifted(false)} }}
	term := newTerminal("")
	file := write(t, "shop.yaml", strings.Replace(service, "192.0.2.10", "192.0.2.11", 1))
	if code := term.run(t.Context(), []string{"diff", "--server", serve(t, f), "-f", file}); code != exitDone {
		t.Fatalf("got exit %d: %s", code, term.stderr.String())
	}
	for _, want := range []string{
		"answers that change (counted somehow):\n",
		"everywhere, A and AAAA: 12.5 % (fra -> nyc 12.5 %); so in NA\n",
		"EU, A: 60.0 % (fra -> nyc 50.0 %, other addresses of nyc 10.0 %, new at sin < 0.1 %)\n",
	} {
		if !strings.Contains(term.stdout.String(), want) {
			t.Errorf("got %s, want %q in it", term.stdout.String(), want)
		}
	}
	if got := term.stdout.String(); strings.Count(got, "everywhere") != 1 {
		t.Errorf("a region that both types share is told twice:\n%s", got)
	}
	if sent := f.sent(); len(sent) != 1 || !sent[0].DryRun || sent[0].Verb != core.Apply {
		t.Errorf("sent %+v, want one dry run", sent)
	}
}

// TestApplyAsksForMuch: a large change is asked about on a terminal, and nowhere else.
func TestApplyAsksForMuch(t *testing.T) {
	fleet, problems := spec.Parse("fleet.yaml", []byte(clusters+"---\n"+service))
	if spec.Failed(problems) {
		t.Fatal(problems)
	}
	file := write(t, "shop.yaml", strings.Replace(service, "192.0.2.10", "192.0.2.11", 1))
	tests := []struct {
		name, typed string
		large       bool
		code, sent  int // of commands that change something
	}{
		{"a small one", "x\n", false, exitDone, 1},
		{"a large one, meant", "apply\n", true, exitDone, 1},
		{"a large one, not meant", "no\n", true, exitRefused, 0},
		{"a script", "", true, exitDone, 1},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			f := &fake{spec: fleet, outcome: func(c core.Command) api.Outcome {
				return api.Outcome{ID: c.ID, Summary: "done", Revision: 7, Applied: []string{"d1"}, Preview: shifted(tc.large)}
			}}
			term := newTerminal(tc.typed)
			if code := term.run(t.Context(), []string{"apply", "--server", serve(t, f), "-f", file}); code != tc.code {
				t.Errorf("got exit %d, want %d: %s", code, tc.code, term.stderr.String())
			}
			sent := 0
			for _, c := range f.sent() {
				if !c.DryRun {
					sent++
				}
			}
			if sent != tc.sent {
				t.Errorf("%d changes were sent, want %d", sent, tc.sent)
			}
			if asked := strings.Contains(term.stderr.String(), "Type apply"); asked != (tc.large && tc.typed != "") {
				t.Errorf("asked: %v: %s", asked, term.stderr.String())
			}
		})
	}
}

// TestRolloutCommands send what they say.
func TestRolloutCommands(t *testing.T) {
	fleet, problems := spec.Parse("fleet.yaml", []byte(clusters+"---\n"+service))
	if spec.Failed(problems) {
		t.Fatal(problems)
	}
	file := write(t, "shop.yaml", service)
	tests := []struct {
		args string
		want core.Verb
	}{
		{"revert --reason INC-4", core.Revert},
		{"rollout go-on", core.GoOn},
		{"rollout abort --dry-run", core.Abort},
		{"apply --canary d2 --canary d3 --soak 10m -f " + file, core.Apply},
		{"apply --canary d2,d3 --soak 10m -f " + file, core.Apply},
	}
	for _, tc := range tests {
		f := &fake{spec: fleet}
		term := newTerminal("")
		if code := term.run(t.Context(), append(strings.Fields(tc.args), "--server", serve(t, f))); code != exitDone {
			t.Errorf("%s: got exit %d: %s", tc.args, code, term.stderr.String())
		}
		sent := f.sent()
		if len(sent) != 1 || sent[0].Verb != tc.want || sent[0].DryRun != strings.Contains(tc.args, "dry-run") {
			t.Errorf("%s: sent %+v", tc.args, sent)
			continue
		}
		if tc.want == core.Apply && (strings.Join(sent[0].Canary, ",") != "d2,d3" || sent[0].Soak != 10*time.Minute) {
			t.Errorf("%s: sent %+v", tc.args, sent[0])
		}
	}
	for _, args := range []string{"apply --soak 1m -f " + file, "apply --canary d2 --soak 0s -f " + file, "apply --canary= -f " + file, "apply --canary d2,,d3 -f " + file} {
		if code := newTerminal("").run(t.Context(), strings.Fields(args)); code != exitUsage {
			t.Errorf("%s: got exit %d, want %d", args, code, exitUsage)
		}
	}
}

// TestRolloutStatus: one under way, and one that was stopped with its reason.
func TestRolloutStatus(t *testing.T) {
	r := &api.Rollout{On: []string{"d2"}, State: "soaking", Author: "ann", Reason: "INC-5", Revision: 41, Start: noon.Add(-time.Minute), Until: noon.Add(4 * time.Minute), Waits: []string{"d2 has not acknowledged it"}}
	f := &fake{status: api.Status{Director: "d1", Now: noon, Rollout: r}}
	server := serve(t, f)
	show := func(args ...string) string {
		term := newTerminal("")
		if code := term.run(t.Context(), append(args, "--server", server)); code != exitDone {
			t.Fatalf("got exit %d: %s", code, term.stderr.String())
		}
		return term.stdout.String()
	}
	want := "d2 tries the spec of revision 41 since 11:59:00 UTC, until 12:04:00 UTC; begun by ann (INC-5)\n"
	if got := show("rollout", "status"); !strings.Contains(got, want) || !strings.Contains(got, "waits: d2 has not acknowledged it\n") {
		t.Errorf("got %s", got)
	}
	if got := show("status"); !strings.Contains(got, "ROLLOUT") || !strings.Contains(got, "d2 tries the spec") {
		t.Errorf("status shows no rollout:\n%s", got)
	}
	r.State, r.Why, r.Waits = "stopped", "d2 is silent for 20s", nil
	if got := show("rollout", "status"); !strings.Contains(got, "was taken back") || !strings.Contains(got, "! d2 is silent for 20s\n") {
		t.Errorf("got %s", got)
	}
	f.status.Rollout = nil
	if got := show("rollout", "status"); got != "no rollout is under way\n" {
		t.Errorf("got %s", got)
	}
}
