package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/divertdns/divert/director/api"
)

// torn is what six directors see of a service on two sites: one alone cannot reach fra
// (F6), nyc is dead, and three say nothing.
func torn() api.Probing {
	result := func(director, outcome string, took time.Duration, why string) api.ProbeResult {
		return api.ProbeResult{Director: director, Outcome: outcome, Took: took.Seconds(), Reason: why}
	}
	return api.Probing{
		Target: "shop", Plan: "1.43", Code: 1, Took: 3.3,
		Observers: []api.Observer{
			{Name: "d1", Site: "fra-dc1", This: true, State: "answered", Plan: "1.43", Took: 1},
			{Name: "d2", Site: "nyc-dc1", State: "answered", Plan: "1.43", Took: 0.09},
			{Name: "d3", Site: "sin-dc1", State: "answered", Plan: "1.42", Took: 0.2},
			{Name: "d4", Site: "gru-dc1", State: "silent", Why: "silent for 6m"},
			{Name: "d5", Site: "syd-dc1", State: "old", Why: "is there, and does not know the question: too old, or datagrams of this size do not reach it"},
			{Name: "d6", Site: "bom-dc1", State: "refused", Why: "asked more often than once a second", Plan: "1.43"},
		},
		Targets: []api.Probed{
			{
				Subject: "signal/192.0.2.10:443", Address: "192.0.2.10", Probe: "fast :443", Endpoints: []string{"cart@fra", "shop@fra"}, Assigned: []string{"d1", "d2"},
				Results: []api.ProbeResult{result("d1", "failed", time.Second, "timeout connecting"), result("d2", "ok", 88*time.Millisecond, ""), result("d3", "ok", 160*time.Millisecond, "")},
				Verdict: "disagree", Summary: "disagree: 1 of 3 fail (d1)",
			},
			{
				Subject: "check/0123456789abcdef@192.0.2.10:443", Address: "192.0.2.10", Probe: "https :443/a/very/long/path/to/the/page/of/health", Endpoints: []string{"shop@fra"}, Assigned: []string{"d1", "d2"},
				Results: []api.ProbeResult{result("d1", "failed", time.Second, "timeout connecting"), result("d2", "ok", 188*time.Millisecond, ""), result("d3", "void", 0, "our own side: \x1b[2Jno system roots")},
				Verdict: "disagree", Summary: "disagree: 1 of 2 fail (d1); 1 could not tell",
			},
			{
				Subject: "signal/198.51.100.10:443", Address: "198.51.100.10", Probe: "fast :443", Endpoints: []string{"shop@nyc"}, Assigned: []string{"d1", "d2", "d3"},
				Results: []api.ProbeResult{result("d1", "failed", 80*time.Millisecond, "connection refused"), result("d2", "failed", 700*time.Microsecond, "connection refused"), result("d3", "failed", 220*time.Millisecond, "connection refused")},
				Verdict: "fail", Quorum: true, Summary: "3 of 3 fail, a quorum",
			},
		},
	}
}

// gateway is what five directors see of a cluster whose forty services share one address:
// each has a check of its own there, and some names are long and differ in the middle alone.
func gateway() api.Probing {
	p := api.Probing{Target: "cluster/fra", Plan: "1.43", Took: 0.4}
	for i, name := range []string{"divert-director-fra-1.example.org", "divert-director-nyc-1.example.org", "divert-director-sin-1.example.org", "d4", "d5"} {
		p.Observers = append(p.Observers, api.Observer{Name: name, Site: name, This: i == 0, State: "answered", Plan: "1.43"})
	}
	probed := func(probe string, endpoints ...string) {
		t := api.Probed{Address: "192.0.2.10", Probe: probe, Endpoints: endpoints, Verdict: "fail", Summary: "5 of 5 fail, a quorum"}
		for _, o := range p.Observers {
			t.Assigned = append(t.Assigned, o.Name)
			t.Results = append(t.Results, api.ProbeResult{Director: o.Name, Outcome: "failed", Took: 0.161, Reason: "status 503, want 200"})
		}
		p.Targets = append(p.Targets, t)
	}
	var all []string
	for i := range 40 {
		all = append(all, fmt.Sprintf("shop%d@fra", i))
	}
	probed("fast :443", all...)
	for i, e := range all {
		for _, part := range []string{"alpha", "beta"} {
			probed(fmt.Sprintf("https :443/a/long/path/to/%s/of/shop%d/which/ends/alike", part, i), e)
		}
		probed(fmt.Sprintf("tcp :%d", 5000+i), e)
		probed(fmt.Sprintf("tcp :%d", 5000+i), e) // another that is called the same
	}
	return p
}

// TestProbeGateway: a matrix can be read in 100 columns, and in a file, however many
// services an address has: a table for each, in which no two names are the same.
func TestProbeGateway(t *testing.T) {
	for _, columns := range []int{60, 100, 120, 0} {
		term := newTerminal("")
		term.width = func() int { return columns }
		page := term.probePage(gateway(), true)
		for line := range strings.Lines(page) {
			unwrapped := columns == 0 && (strings.HasPrefix(line, "      ") || strings.HasPrefix(line, "  seen from "))
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > cmp.Or(columns, probeWidth) && !unwrapped {
				t.Errorf("of %d: a line has %d columns: %s", columns, n, line)
			}
		}
		tables := strings.Count(page, "\n    PROBE ")
		if columns == 60 {
			if tables < 2*41 {
				t.Errorf("of %d: got %d tables, want two at least for each group", columns, tables)
			}
			continue
		}
		if tables != 41 {
			t.Errorf("of %d: got %d tables, want one for each service and one for what they share", columns, tables)
		}
		parts := strings.Split(page, "\n\n")
		for _, part := range parts {
			names := map[string]bool{}
			for line := range strings.Lines(part) {
				if name, ok := strings.CutPrefix(line, "    "); ok && name[0] != ' ' {
					name, _, _ = strings.Cut(name, "  ")
					if names[name] {
						t.Errorf("of %d: %s stands twice in\n%s", columns, name, part)
					}
					names[name] = true
				}
			}
		}
		if columns == 100 {
			golden(t, "probe-gateway", strings.Join(parts[:3], "\n\n")+"\n")
		}
	}
}

// TestCut: names are cut so that those that differ still do.
func TestCut(t *testing.T) {
	for _, tc := range []struct{ names, want string }{
		{"short abcdefghijkl", "short abcd…jkl"},
		{"abcdefghXi abcdefghYi", "abcd…hXi abcd…hYi"},
		{"abcdXefgh abcdYefgh", "…cdXefgh …cdYefgh"},
		{"aaaabXcccccccc aaaabYcccccccc short", "…bXcccc… …bYcccc… short"},
		{"a1bbbbbbb1cccc a1bbbbbbb2cccc a2bbbbbbb1cccc", "a1bbb…1cccc a1bbb…2cccc a2bbb…1cccc"},
		{"äöüäöüäöüäöü äöüäöüäöüäöü", "äöüä…äöü äöüä…äöü"},
	} {
		if got := strings.Join(cut(strings.Fields(tc.names), 8), " "); got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.names, got, tc.want)
		}
	}
}

func TestProbePage(t *testing.T) {
	server := serve(t, &fake{probing: torn()})
	tests := []struct {
		name    string
		args    string
		columns int
		code    int
		errs    string
	}{
		{"probe", "shop", 100, exitRefused, ""},
		{"probe-60", "shop", 60, exitRefused, ""},
		{"probe-json", "shop -o json", 100, exitRefused, ""},
		{"", "shoo", 100, exitRefused, "there are shop"},
		{"", "shop --timeout 3m", 100, exitUsage, "not between 0 and 2m"},
		{"", "shop --timeout 0s", 100, exitUsage, "not between 0 and 2m"},
		{"", "", 100, exitUsage, "accepts 1 arg"},
	}
	for _, tc := range tests {
		term := newTerminal("")
		term.width = func() int { return tc.columns }
		code := term.run(t.Context(), append(strings.Fields("probe "+tc.args), "--server", server))
		if code != tc.code || !strings.Contains(term.stderr.String(), tc.errs) || tc.errs == "" && term.stderr.Len() > 0 {
			t.Errorf("%q: got exit %d, %s", tc.args, code, term.stderr.String())
		}
		if tc.name == "" {
			continue
		}
		golden(t, tc.name, term.stdout.String())
		if strings.Contains(term.stdout.String(), "\x1b") {
			t.Errorf("%s: an escape that a reason brought is in it", tc.name)
		}
		for line := range strings.Lines(term.stdout.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > tc.columns && !strings.Contains(tc.args, "json") {
				t.Errorf("%s: a line has %d columns: %s", tc.name, n, line)
			}
		}
	}
}

// TestProbeCodes: the director's word is the exit code, in text as in JSON.
func TestProbeCodes(t *testing.T) {
	for _, code := range []int{exitDone, exitRefused, exitIncomplete} {
		p := torn()
		p.Code = code
		server := serve(t, &fake{probing: p})
		for _, output := range []string{"text", "json"} {
			term := newTerminal("")
			if got := term.run(t.Context(), []string{"probe", "shop", "-o", output, "--server", server}); got != code {
				t.Errorf("%s: got exit %d, want %d", output, got, code)
			}
			var read api.Probing
			if output == "json" && (json.Unmarshal(term.stdout.Bytes(), &read) != nil || read.Code != code || len(read.Targets) != 3) {
				t.Errorf("got %s", term.stdout.String())
			}
		}
	}
}

// TestProbeMany: of a large target what passes everywhere is counted, unless a person
// wants it all.
func TestProbeMany(t *testing.T) {
	p := torn()
	for i := range 50 {
		more := p.Targets[0]
		more.Address, more.Verdict, more.Summary = fmt.Sprintf("203.0.113.%d", i), "pass", "3 of 3 pass"
		p.Targets = append(p.Targets, more)
	}
	few, all := newTerminal("").probePage(p, false), newTerminal("").probePage(p, true)
	if !strings.Contains(few, "50 targets more, all of whose probes pass") || strings.Contains(few, "203.0.113.7\n") || !strings.Contains(few, "192.0.2.10\n") {
		t.Errorf("got\n%s", few)
	}
	if strings.Contains(all, "more, all") || !strings.Contains(all, "203.0.113.7\n") {
		t.Errorf("with --verbose: got\n%s", all)
	}
	for _, page := range []string{few, all} {
		if !strings.Contains(page, "53 probes: 50 pass, 1 fail everywhere, 2 disagreed on") {
			t.Errorf("got\n%s", page[len(page)-200:])
		}
	}
}

// TestProbeProgress: a person at a terminal is told for whom it waits, a script and a
// short wait are not.
func TestProbeProgress(t *testing.T) {
	p := torn()
	p.Observers[1].State, p.Observers[2].State = "asked", "probing"
	for _, tc := range []struct {
		live bool
		wait time.Duration
		want string
	}{
		{true, time.Second, "4 of 6 directors answered, waiting for d2, d3\n"},
		{true, 100 * time.Millisecond, ""},
		{false, time.Second, ""},
	} {
		term := newTerminal("")
		term.live = tc.live
		now := noon
		term.now = func() time.Time { return now }
		tell := term.probeProgress()
		now = now.Add(tc.wait)
		tell(p)
		tell(p) // nothing new
		if got := term.stderr.String(); got != tc.want {
			t.Errorf("%+v: got %q", tc, got)
		}
	}
}

// TestProbeCompletion: the shell offers what can be probed.
func TestProbeCompletion(t *testing.T) {
	server := serve(t, &fake{status: eventful()})
	for _, tc := range []struct{ typed, want string }{
		{"sho", "shop@fra"}, {"sho", "shop.example.org"}, {"clu", "cluster/fra"}, {"service/", "service/shop@fra"}, {"dom", "domain/fra-dc1"},
	} {
		term := newTerminal("")
		if code := term.run(t.Context(), []string{"__complete", "probe", "--server", server, tc.typed}); code != exitDone || !strings.Contains("\n"+term.stdout.String(), "\n"+tc.want+"\n") {
			t.Errorf("%q: got exit %d, %s, want %s in it", tc.typed, code, term.stdout.String(), tc.want)
		}
	}
}
