package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
)

// interlockedFleet is one with a rule of each standing.
func interlockedFleet() api.Status {
	s := eventful()
	s.Interlocks = []core.Standing{
		{
			Name: "fra", State: core.StandingClosed, Switch: &core.SwitchState{Name: "fra-work"}, InService: 1,
			Members: []core.MemberStanding{{Scope: "cluster/fra", InService: true}},
			Why:     "switch fra-work is off, never turned: what it guards may not be taken away or brought back",
		},
		{
			Name: "nyc", State: core.StandingOpen, Switch: &core.SwitchState{Name: "nyc-work", On: true, Author: "ada", Reason: "INC-1", Since: at(-time.Hour)},
			Members: []core.MemberStanding{{Scope: "cluster/nyc", Why: "cluster/nyc drained by ada until 14:00 UTC (INC-1)"}},
			Why:     "switch nyc-work is on by ada since 2026-03-14 11:00 UTC (INC-1): what it guards may be taken away or brought back",
		},
		{
			Name: "two", State: core.StandingLimit, AtLeast: 2, InService: 2,
			Members: []core.MemberStanding{{Scope: "cluster/fra", InService: true}, {Scope: "cluster/nyc", Why: "cluster/nyc drained by ada until 14:00 UTC (INC-1\x1b[2J)"}, {Scope: "cluster/sin", InService: true}},
			Why:     "2 of 3 in service, at least 2 wanted: none of them may be taken away without --force",
		},
	}
	return s
}

// TestInterlocks: the list has every rule, one alone says what it counts, and status
// shows those that forbid something.
func TestInterlocks(t *testing.T) {
	server := serve(t, &fake{status: interlockedFleet()})
	for _, tc := range []struct{ name, args string }{
		{"interlocks", "interlock"}, {"interlock", "interlock two"}, {"interlock-gate", "interlock nyc"},
	} {
		term := newTerminal("")
		if code := term.run(t.Context(), append(strings.Fields(tc.args), "--server", server)); code != exitDone {
			t.Fatalf("%s: got exit %d: %s", tc.args, code, term.stderr.String())
		}
		golden(t, tc.name, term.stdout.String())
	}
	term := newTerminal("")
	_ = term.run(t.Context(), []string{"status", "--server", server})
	_, below, _ := strings.Cut(term.stdout.String(), "\nINTERLOCKS\n")
	for _, want := range []string{"at its limit", "closed", "and 1 more that forbid nothing now"} {
		if !strings.Contains(below, want) {
			t.Errorf("status lacks %q below INTERLOCKS:\n%s", want, below)
		}
	}
	if strings.Contains(below, "nyc-work") {
		t.Errorf("status shows an open gate:\n%s", below)
	}
	term = newTerminal("")
	if code := term.run(t.Context(), []string{"interlock", "tow", "--server", server}); code != exitRefused || !strings.Contains(term.stderr.String(), "there is no interlock") {
		t.Errorf("an unknown one: exit %d: %s", code, term.stderr.String())
	}
	none := serve(t, &fake{status: eventful()})
	for args, want := range map[string]string{"interlock": "there are none", "interlock -o json": "[]\n"} {
		term = newTerminal("")
		if code := term.run(t.Context(), append(strings.Fields(args), "--server", none)); code != exitDone || !strings.HasPrefix(term.stdout.String(), want) {
			t.Errorf("%s: exit %d: %s", args, code, term.stdout.String())
		}
	}
}

// TestInterlockTurned: a switch is turned by a command like any other, with a reason.
func TestInterlockTurned(t *testing.T) {
	f := &fake{status: interlockedFleet()}
	server := serve(t, f)
	for _, tc := range []struct {
		args string
		code int
		verb core.Verb
	}{
		{"on fra-work --reason INC-1", exitDone, core.InterlockOn},
		{"off nyc-work --reason INC-1 --dry-run", exitDone, core.InterlockOff},
		{"on fra-work", exitUsage, ""},
		{"on", exitUsage, ""},
		{"off a b --reason x", exitUsage, ""},
	} {
		before := len(f.sent())
		term := newTerminal("")
		if code := term.run(t.Context(), append([]string{"interlock"}, append(strings.Fields(tc.args), "--server", server)...)); code != tc.code {
			t.Errorf("%s: got exit %d, want %d: %s", tc.args, code, tc.code, term.stderr.String())
		}
		sent := f.sent()[before:]
		if tc.verb == "" {
			if len(sent) > 0 {
				t.Errorf("%s: sent %+v", tc.args, sent)
			}
			continue
		}
		if len(sent) != 1 || sent[0].Verb != tc.verb || sent[0].Reason != "INC-1" || sent[0].DryRun != strings.Contains(tc.args, "dry") || !strings.Contains(tc.args, sent[0].Scope) {
			got, _ := json.Marshal(sent)
			t.Errorf("%s: sent %s", tc.args, got)
		}
	}
}

// TestUndrainForced: what a gate forbids is forced as a drain is.
func TestUndrainForced(t *testing.T) {
	for _, verb := range []string{"undrain", "readmit"} {
		f := drainer()
		term := newTerminal("")
		line := verb + " cluster/sin --reason INC-1 --force --confirm cluster/sin --server " + serve(t, f)
		if code := term.run(t.Context(), strings.Fields(line)); code != exitDone {
			t.Fatalf("got exit %d: %s", code, term.stderr.String())
		}
		if sent := f.sent(); len(sent) != 2 || !sent[0].DryRun || !sent[1].Force {
			t.Errorf("%s: got %+v, want a dry run, then the command", verb, sent)
		}
	}
}
