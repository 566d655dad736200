package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
)

// askingFleet is one in which something waits for a second person, and something was done
// without.
func askingFleet() api.Status {
	s := eventful()
	s.Requests = []api.Request{
		{
			ID: "3f0c", State: api.RequestWaits, What: "drain cluster/fra until 14:00 UTC", Why: []string{"it takes away more than half of the capacity of shop (100 of 300 left)"},
			Author: "unix:ada", Via: "d1", Reason: "INC-1\x1b[2J", Asked: *at(-time.Minute), Expires: *at(14 * time.Minute),
		},
		{
			ID: "77aa", State: api.RequestDone, What: "remove director d4", Why: []string{"it changes who is in the roster: d4"}, Author: "unix:ada", Via: "d1", By: "unix:bob",
			Asked: *at(-time.Hour), Expires: *at(-45 * time.Minute), Revision: 12,
		},
	}
	s.Glass = []api.Glass{{ID: "g1", What: "drain cluster/nyc", Why: []string{"it is forced past what refuses it"}, Author: "unix:eve", Via: "d2", Reason: "INC-9", At: *at(-2 * time.Hour), Revision: 9}}
	return s
}

// TestApprovals: what waits is listed, and shown with what it would do now (S16).
func TestApprovals(t *testing.T) {
	f := &fake{status: askingFleet(), outcome: func(c core.Command) api.Outcome {
		return api.Outcome{ID: c.ID, Preview: core.Preview{Effects: []core.Effect{{Service: "shop", From: []string{"fra"}, To: []string{"nyc"}, Healthy: 2}}, Void: "what it does has changed since it was asked for, so that nobody has approved this"}}
	}}
	server := serve(t, f)
	for _, tc := range []struct{ name, args string }{{"approvals", "approvals"}, {"approvals-show", "approvals show 3f0c"}} {
		term := newTerminal("")
		if code := term.run(t.Context(), append(strings.Fields(tc.args), "--server", server)); code != exitDone {
			t.Fatalf("%s: got exit %d: %s", tc.args, code, term.stderr.String())
		}
		golden(t, tc.name, term.stdout.String())
	}
	if sent := f.sent(); len(sent) != 1 || sent[0].Verb != core.Approve || !sent[0].DryRun || sent[0].Scope != "3f0c" {
		t.Errorf("show sent %+v, want one dry run", sent)
	}
	term := newTerminal("")
	var shown approvals
	if code := term.run(t.Context(), []string{"approvals", "-o", "json", "--server", server}); code != exitDone {
		t.Fatalf("got exit %d: %s", code, term.stderr.String())
	}
	if err := json.Unmarshal(term.stdout.Bytes(), &shown); err != nil || len(shown.Requests) != 2 || len(shown.Glass) != 1 {
		t.Errorf("got %+v, %v", shown, err)
	}
	term = newTerminal("")
	if code := term.run(t.Context(), []string{"approvals", "show", "none", "--server", server}); code != exitRefused {
		t.Errorf("an unknown one: got exit %d", code)
	}
}

// TestWaitsForSecond: a command that waits says for whose word, and exits with 3 when
// nobody gives it; an approval and a denial are commands like any other (S16).
func TestWaitsForSecond(t *testing.T) {
	r := askingFleet().Requests[0]
	f := &fake{status: askingFleet(), outcome: func(c core.Command) api.Outcome {
		if c.Verb != core.Drain {
			return api.Outcome{ID: c.ID, Summary: "done"}
		}
		return api.Outcome{ID: c.ID, Code: exitIncomplete, Request: &r, Error: "it waits for a second person", Remedy: "divert approve 3f0c"}
	}}
	server := serve(t, f)
	term := newTerminal("")
	if code := term.run(t.Context(), []string{"drain", "cluster/fra", "--reason", "INC-1", "--server", server}); code != exitIncomplete {
		t.Fatalf("got exit %d: %s", code, term.stderr.String())
	}
	for _, want := range []string{"waits for a second person, until", "divert approve 3f0c", "one person is not enough"} {
		if !strings.Contains(strings.Join(strings.Fields(term.stdout.String()), " "), want) {
			t.Errorf("lacks %q:\n%s", want, term.stdout.String())
		}
	}
	for _, tc := range []struct {
		args string
		code int
		verb core.Verb
	}{
		{"approve 3f0c", exitDone, core.Approve},
		{"deny 3f0c --reason x", exitDone, core.Deny},
		{"deny 3f0c", exitUsage, ""},
		{"approvals acknowledge g1", exitDone, core.Acknowledge},
		{"approve", exitUsage, ""},
	} {
		before := len(f.sent())
		term := newTerminal("")
		if code := term.run(t.Context(), append(strings.Fields(tc.args), "--server", server)); code != tc.code {
			t.Errorf("%s: got exit %d, want %d: %s", tc.args, code, tc.code, term.stderr.String())
		}
		if sent := f.sent(); tc.verb != "" && (len(sent) != before+1 || sent[before].Verb != tc.verb) {
			t.Errorf("%s: sent %+v", tc.args, sent[before:])
		}
	}
	term = newTerminal("")
	_ = term.run(t.Context(), []string{"drain", "cluster/fra", "--reason", "x", "--break-glass", "--server", server})
	if sent := f.sent(); !sent[len(sent)-1].BreakGlass {
		t.Error("--break-glass is not sent")
	}
}

// TestWhole: the first letters of an ID do, where they are one's alone.
func TestWhole(t *testing.T) {
	ids := []string{"3f0c2b", "3f0c9a", "77aa01", "77aa01"}
	for _, tc := range []struct{ typed, want string }{
		{"77aa", "77aa01"}, // twice in the list is still one
		{"3f0c", "3f0c"},   // of two: the director refuses it
		{"3f0c9", "3f0c9a"},
		{"77a", "77a"}, // too short to be meant
		{"none", "none"},
	} {
		if got := whole(tc.typed, ids); got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.typed, got, tc.want)
		}
	}
}
