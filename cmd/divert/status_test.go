package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/spec"
)

func at(d time.Duration) *time.Time {
	t := noon.Add(d)
	return &t
}

// eventful is a fleet on a bad day: one cluster failed, one drained.
func eventful() api.Status {
	down := map[string]string{"d1": "down", "d2": "down", "d3": "stale"}
	return api.Status{
		Director: "d1", Version: "v1", Now: noon, Leader: "d2", Store: "ok",
		Plan:   &api.Plan{Fleet: "f", Epoch: 1, Revision: 43, Hash: "3f9a", Writer: "d2", Written: noon.Add(-3 * time.Minute)},
		Quorum: api.Quorum{Directors: 3, Observers: 3, Needed: 2, Domains: 2, Hears: 2},
		Geo:    &api.Geo{Name: "GeoLite2-City", Built: at(-41 * 24 * time.Hour), Hash: "0123456789abcdef", Degrees: 0.5, Found: 98_000, Database: "/etc/divert/cities.mmdb"},
		Alerts: []string{"shop: 1 healthy site, fewer than the 2 wanted"},
		Clusters: []api.Cluster{
			{Name: "fra", FaultDomain: "fra-dc1", Location: "DE", Health: "failed", Endpoints: 2, ControlPlane: "impaired: 1 of 2 API servers does not answer", Why: "failed: both sites"},
			{Name: "nyc", FaultDomain: "nyc-dc1", Location: "US", Health: "healthy", Endpoints: 2, ControlPlane: "ok", Drained: "id1", Why: "nyc drained by ada until 14:00 UTC (INC-1)"},
			{Name: "sin", FaultDomain: "sin-dc1", Location: "SG", Health: "healthy", Serving: 2, Endpoints: 2},
		},
		Services: []api.Service{
			{
				Name: "shop", Hosts: []string{"shop.example.org", "www.example.org"}, Policy: "geo", Alerts: []string{"1 healthy site, fewer than the 2 wanted"},
				Sites: []api.Site{
					{
						Cluster: "fra", Health: "failed", Why: "failed: 2 of 3 observers",
						Addresses: []api.Address{{Address: "192.0.2.10", Subjects: []api.Subject{
							{Subject: "check/0123456789abcdef@192.0.2.10:443", Probe: "http :443/healthz", State: "down", Since: at(-4 * time.Second), Reason: "connection refused", Votes: down},
							{Subject: "signal/192.0.2.10:443", Probe: "fast :443", State: "up", Since: at(-time.Hour)},
						}}},
					},
					{
						Cluster: "nyc", Health: "healthy", Drained: "id1",
						Addresses: []api.Address{{Address: "198.51.100.10", Live: true, Subjects: []api.Subject{
							{Subject: "signal/198.51.100.10:443", Probe: "fast :443", State: "unknown", Votes: map[string]string{"d1": "up", "d2": "up", "d3": "up"}},
						}}, {Address: "2001:db8::10", Live: true}},
					},
					{Cluster: "sin", Health: "healthy", Serving: true, Addresses: []api.Address{{Address: "203.0.113.10", Live: true}}},
				},
			},
			{
				Name: "pay", Hosts: []string{"pay.example.org"}, Policy: "failover", Observing: true,
				Sites: []api.Site{{
					Cluster: "fra", Health: "failed", Addresses: []api.Address{{Address: "192.0.2.20", Live: false}},
					Returns: "at the earliest in 7s: it failed 3 times within 10 min, so that each return waits twice as long as the one before",
				}, {
					Cluster: "nyc", Health: "healthy", Addresses: []api.Address{{Address: "lb.nyc.example.net", Live: true, Resolved: &api.Hostname{
						Hostname: "lb.nyc.example.net", Addresses: []string{"198.51.100.20", "2001:db8::20"}, At: at(-20 * time.Second), TTL: 60,
					}}},
				}, {
					Cluster: "sin", Health: "unknown", Addresses: []api.Address{{Address: "lb.sin.example.net", Live: true, Resolved: &api.Hostname{
						Hostname: "lb.sin.example.net", Problem: "the name does not exist (NXDOMAIN)",
					}}},
				}},
			},
		},
		Directors: []api.DirectorState{
			{Name: "d1", Site: "fra-dc1", Standing: "active", Heard: true, Plan: "1.43", DNS: "ok", Key: "ed25519:AAAA", Address: "192.0.2.53:7946"},
			{Name: "d2", Site: "nyc-dc1", Standing: "active", Heard: true, Plan: "1.43", DNS: "ok"},
			{Name: "d3", Site: "sin-dc1", Standing: "active", Silent: 360, Plan: "1.42", DNS: "mute", Alarm: "two live boots of one key"},
			{Name: "d4", Site: "ams-dc1", Standing: "pending", Heard: true, Key: "ed25519:LXVaO4Vd4hLLZR3uBpsBJbGFAJCjVMpxSS9lLFJ0nXI=", Address: "192.0.2.54:7946"},
		},
		Overrides: []api.Override{
			{ID: "id1", Kind: "drain", Scope: "cluster/nyc", Author: "ada", Reason: "INC-1\x1b[2J", Start: noon.Add(-time.Minute), End: at(2 * time.Hour), Forced: true, Revision: 43},
		},
		Pending: []spec.Change{
			{Kind: "GlobalService", Name: "shop", Path: "spec.ttl", Old: `"20s"`, New: `"30s"`},
			{Kind: "Cluster", Name: "ams", New: "{}"},
		},
	}
}

// stranded is a director cut off from everything.
func stranded() api.Status {
	return api.Status{
		Director: "d3", Now: noon, Store: "etcd does not answer", Isolated: true, Behind: true, Waiting: "d1 and d2 to answer that they hold no plan",
		Abstaining: "two of three control points are lost",
		Quorum:     api.Quorum{Directors: 2, Observers: 2, Needed: 2, Domains: 2, Hears: 1, Note: "two directors: the loss of either stops automatic failover; add a witness"},
		Frozen:     &api.Override{Author: "ada", Reason: "network work", End: at(30 * time.Minute)},
	}
}

func TestStatusPage(t *testing.T) {
	tests := []struct {
		name    string
		status  api.Status
		args    []string
		columns int
	}{
		{"status", eventful(), nil, 100},
		{"status-80", eventful(), nil, 80},
		{"status-verbose", eventful(), []string{"--verbose"}, 120},
		{"status-stranded", stranded(), nil, 100},
		{"directors", eventful(), nil, 120},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			term := newTerminal("")
			term.width = func() int { return tc.columns }
			args := append([]string{"status", "--server", serve(t, &fake{status: tc.status})}, tc.args...)
			if tc.name == "directors" {
				args = append([]string{"director", "list"}, args[1:]...)
			}
			if code := term.run(t.Context(), args); code != exitDone {
				t.Fatalf("got exit %d: %s", code, term.stderr.String())
			}
			got := term.stdout.String()
			golden(t, tc.name, got)
			for line := range strings.Lines(got) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > tc.columns {
					t.Errorf("a line has %d columns, more than %d: %s", n, tc.columns, line)
				}
			}
			if strings.Contains(got, "\x1b") {
				t.Error("there are escapes in it, without a terminal")
			}
		})
	}
}

func TestColourOnlyWhenAsked(t *testing.T) {
	term := newTerminal("")
	term.colour = true
	if got := term.statusPage(eventful(), false); !strings.Contains(got, "\x1b[31mfailed\x1b[0m") || strings.Contains(got, "\x1b[2J") {
		t.Errorf("got %q, want colour, and no escape that a reason brought", got)
	}
}

func TestStatusJSON(t *testing.T) {
	term := newTerminal("")
	if code := term.run(t.Context(), []string{"status", "-o", "json", "--server", serve(t, &fake{status: eventful()})}); code != exitDone {
		t.Fatalf("got exit %d: %s", code, term.stderr.String())
	}
	var got api.Status
	if err := json.Unmarshal(term.stdout.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Plan.Revision != 43 || len(got.Services) != 2 {
		t.Errorf("got %+v", got)
	}
}

// limited fails its nth write, as a closed pipe does.
type limited struct {
	writes int
	last   string
}

func (l *limited) Write(p []byte) (int, error) {
	if l.writes--; l.writes < 0 {
		return 0, errOutput
	}
	l.last = string(p)
	return len(p), nil
}

func TestWatchEndsWithItsReader(t *testing.T) {
	for _, output := range []string{"text", "json"} {
		term := newTerminal("")
		out := &limited{writes: 0}
		term.out = out
		if code := term.run(t.Context(), []string{"status", "--watch", "-o", output, "--server", serve(t, &fake{status: eventful()})}); code != exitRefused {
			t.Errorf("%s: got exit %d, want %d", output, code, exitRefused)
		}
	}
}

func TestExplainPage(t *testing.T) {
	f := &fake{explain: api.Explanation{
		Host: "shop.example.org", Service: "shop", Place: "GB, EU, GB-ENG, near 51.8 -0.2", Geo: "GeoLite2-City of 2026-02-01, 0123456789abcdef", Plan: "1.43",
		Answers: []api.Family{
			{
				Type: "A", Addresses: []string{"198.51.100.10"}, Clusters: []string{"nyc"}, TTL: 20, Scope: 16,
				Steps: []string{
					"residency: clients in EU may have jurisdiction=eu: fra, ams",
					"failed: fra (2 of 3 observers, since 11:59:56: connection refused); it is in no tier, and its clients go where the order says that they should go next",
					"geo: nyc is 5,570 km away",
				},
			},
			{Type: "AAAA", TTL: 5, Steps: []string{"no site has an IPv6 address"}},
		},
		Hostnames: []api.Hostname{{Hostname: "lb.nyc.example.net", Addresses: []string{"198.51.100.10"}, At: at(-20 * time.Second), Problem: "no server that resolves names answers"}},
	}}
	f.explain.Evidence = judged()
	server := serve(t, f)
	tests := []struct {
		name string
		args []string
		code int
		errs string
	}{
		{"explain-verbose", []string{"explain", "shop.example.org", "--verbose"}, exitDone, ""},
		{"explain", []string{"explain", "shop.example.org", "--client", "81.2.69.142"}, exitDone, ""},
		{"explain-unknown-place", []string{"explain", "shop.example.org"}, exitDone, ""},
		{"explain-at", []string{"explain", "shop.example.org", "--client", "81.2.69.142", "--at", "-2h"}, exitDone, ""},
		{"", []string{"explain", "shop.example.org", "--at", "yesterday"}, exitUsage, "is no time"},
		{"", []string{"explain", "shop.example.org", "--at", ""}, exitUsage, "is no time"},
		{"explain-json", []string{"explain", "shop.example.org", "-o", "json"}, exitDone, ""},
		{"", []string{"explain", "www.example.net"}, exitRefused, "no service of this fleet has the host"},
		{"", []string{"explain", "shop.example.org", "--client", "home"}, exitUsage, "neither an IP address"},
	}
	for _, tc := range tests {
		term := newTerminal("")
		if code := term.run(t.Context(), append(tc.args, "--server", server)); code != tc.code || !strings.Contains(term.stderr.String(), tc.errs) {
			t.Errorf("%v: got exit %d, %s", tc.args, code, term.stderr.String())
		}
		if tc.name == "" {
			continue
		}
		golden(t, tc.name, term.stdout.String())
		for line := range strings.Lines(term.stdout.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 100 && tc.name != "explain-json" {
				t.Errorf("%s: a line has %d columns: %s", tc.name, n, line)
			}
		}
	}
}

// judged is what two sites are judged by: fra has fallen, nyc is suspected by one.
func judged() []api.Evidence {
	up := func(names ...string) (out []api.Word) {
		for _, name := range names {
			out = append(out, api.Word{Director: name, Assigned: true, Word: "up", Counted: true})
		}
		return out
	}
	return []api.Evidence{
		{Cluster: "fra", Health: "failed", Why: "fra failed: fast :443 at 192.0.2.10 and 1 more down", Subjects: []api.SubjectEvidence{
			{
				Subject: "signal/192.0.2.10:443", Address: "192.0.2.10", Probe: "fast :443", State: "down", Transition: 3, Since: at(-4 * time.Second), Next: "up", Votes: 3,
				Reason: "down for 3 of 5 observers (d1, d2, d3): timeout connecting, 6 times in a row", Voters: []string{"d1", "d2", "d3"},
				Words: []api.Word{
					{Director: "d1", Assigned: true, Word: "down", Counted: true, Why: "passes again, must be healthy for 20s"},
					{Director: "d2", Assigned: true, Word: "down", Counted: true},
					{Director: "d3", Assigned: true, Word: "down", Counted: true},
					{Director: "d4", Assigned: true, Word: "unknown", LeftOut: "abstains"},
					{Director: "d5", Assigned: true, Word: "down", LeftOut: "silent for 6m"},
					{Director: "d6", Word: "unknown", LeftOut: "not assigned"},
				},
			},
			{
				Subject: "check/0123456789abcdef@192.0.2.10:443", Address: "192.0.2.10", Probe: "https :443/healthz", State: "unknown", Next: "down", Weight: 8.2, Needed: 20, Cap: 6.67,
				Words: append([]api.Word{
					{Director: "d1", Assigned: true, Word: "suspects", Weight: 4.1, Counted: true, Why: "timeout waiting for the answer, 3 times in a row"},
					{Director: "d2", Assigned: true, Word: "suspects", Weight: 4.1, Counted: true},
					{Director: "d6", Word: "down", Weight: 0, Counted: true},
				}, up("d3", "d4", "d5")...),
			},
			{Subject: "soft/0123456789abcdef@192.0.2.10:443", Address: "192.0.2.10", Probe: "gray :443", State: "unknown", Next: "down", Votes: 3, Words: up("d1", "d2", "d3", "d4", "d5")},
		}},
		{Cluster: "nyc", Health: "healthy", Subjects: []api.SubjectEvidence{
			{Subject: "signal/198.51.100.10:443", Address: "198.51.100.10", Probe: "fast :443", State: "up", Transition: 2, Since: at(-time.Hour), Next: "down", Needed: 20, Cap: 6.67, Words: up("d1", "d2", "d3", "d4", "d5")},
		}},
	}
}

func TestAuditPage(t *testing.T) {
	term := newTerminal("")
	if code := term.run(t.Context(), []string{"audit", "--server", serve(t, &fake{})}); code != exitDone {
		t.Fatalf("got exit %d: %s", code, term.stderr.String())
	}
	golden(t, "audit", term.stdout.String())
}

// TestStatusShowsTheBoundsInForce only where more is asked for.
func TestStatusShowsTheBoundsInForce(t *testing.T) {
	s := eventful()
	s.Services[0].Sites[0].Detection = &api.Detection{Death: 0.84, Hang: 2.74}
	s.Services[0].Sites[1].Detection = &api.Detection{Death: 1.08}
	a := newTerminal("")
	if got := a.statusPage(s, false); strings.Contains(got, "agreed upon") {
		t.Errorf("without --verbose: got\n%s", got)
	}
	got := a.statusPage(s, true)
	for _, want := range []string{"a death is agreed upon within 0.8 s", "a hang is agreed upon within 2.7 s", "a death is agreed upon within 1.1 s"} {
		if !strings.Contains(got, want) {
			t.Errorf("with --verbose: want %q, got\n%s", want, got)
		}
	}
	if strings.Count(got, "a hang") != 1 {
		t.Errorf("a bound that is not known is shown:\n%s", got)
	}
}
