package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/divertdns/divert/director/api"
)

// TestJSONErrors: with -o json every failure is JSON on standard output, with
// the names that an outcome has, and the exit code is in it.
func TestJSONErrors(t *testing.T) {
	bad := write(t, "shop.yaml", strings.Replace(service, "cluster: fra,", "cluster: fro,", 1))
	d := drainer()
	server := serve(t, d)
	tests := []struct {
		args     string
		code     int
		problems int
	}{
		{"status --server unix:/nowhere/control.sock", exitRefused, 0},
		{"status --server bogus", exitRefused, 0},
		{"explain www.example.net", exitRefused, 0},
		{"explain shop.example.org --client nobody", exitUsage, 0},
		{"audit --limit 0", exitUsage, 0},
		{"director", exitUsage, 0},
		{"drain cluster/fra", exitUsage, 0},
		{"drain cluster/sin --reason x", exitRefused, 0},
		{"drain cluster/nyc --reason x", exitIncomplete, 0},
		{"drain cluster/sin --reason x --force", exitUsage, 0},
		{"store recover", exitRefused, 0},
		{"apply -f " + bad, exitRefused, 1},
		{"diff -f " + bad, exitRefused, 1},
		{"check", exitUsage, 0},
		{"status --nonsense", exitUsage, 0},
		{"statu", exitUsage, 0},
		{"explain", exitUsage, 0},
		{"serve -c " + bad, exitRefused, 1},
	}
	for _, tc := range tests {
		t.Run(tc.args, func(t *testing.T) {
			term := newTerminal("")
			term.env = func(name string) string { return map[string]string{"DIVERT_SERVER": server}[name] }
			if code := term.run(t.Context(), append(strings.Fields(tc.args), "-o", "json")); code != tc.code {
				t.Errorf("got exit %d, want %d", code, tc.code)
			}
			var got fault
			if err := json.Unmarshal(term.stdout.Bytes(), &got); err != nil || got.Code != tc.code || got.Error == "" || len(got.Problems) < tc.problems {
				t.Errorf("got %q, %v", term.stdout.String(), err)
			}
			if term.stderr.Len() != 0 {
				t.Errorf("got %q on standard error, want nothing", term.stderr.String())
			}
		})
	}
}

// TestClockIsUTC: two who are on call in two zones read the same time, and the
// one that a director's own sentences name.
func TestClockIsUTC(t *testing.T) {
	for _, zone := range []*time.Location{time.UTC, time.FixedZone("JST", 9*3600), time.FixedZone("PST", -8*3600)} {
		term := newTerminal("")
		term.now = func() time.Time { return noon.In(zone) }
		for _, tc := range []struct {
			at   time.Time
			want string
		}{
			{noon.Add(time.Hour), "13:00:00 UTC"},
			{noon.In(zone), "12:00:00 UTC"},
			{noon.Add(12 * time.Hour), "2026-03-15 00:00:00 UTC"},
		} {
			if got := term.clock(tc.at); got != tc.want {
				t.Errorf("%s: got %s, want %s", zone, got, tc.want)
			}
		}
	}
}

// TestWhichFleet: where two directors answer, reading takes the first and says
// so, and nothing is changed in a fleet that may be another than was meant.
func TestWhichFleet(t *testing.T) {
	home, tmp := shortDir(t, "h"), shortDir(t, "t")
	t.Setenv("HOME", home)
	t.Setenv("TMPDIR", tmp)
	t.Setenv("XDG_RUNTIME_DIR", "")
	if _, err := os.Stat(api.Sockets()[0]); err == nil {
		t.Skip("a director has its state in /var/lib/divert here")
	}
	mine, demo := &fake{status: eventful()}, &fake{status: eventful()}
	state := filepath.Join(home, ".local", "state", "divert")
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(strings.TrimPrefix(serve(t, mine), "unix:"), filepath.Join(state, api.SocketName)); err != nil {
		t.Fatal(err)
	}
	unlink, err := linkDemo(map[string]string{api.SocketName: strings.TrimPrefix(serve(t, demo), "unix:")})
	if err != nil {
		t.Fatal(err)
	}
	defer unlink()
	for _, tc := range []struct {
		args string
		code int
	}{
		{"status", exitDone},
		{"drain cluster/fra --reason x", exitRefused},
		{"undrain cluster/fra", exitRefused},
		{"freeze --reason x", exitRefused},
		{"thaw", exitRefused},
		{"readmit cluster/fra", exitRefused},
		{"director approve d4", exitRefused},
		{"director remove d4 --reason x", exitRefused},
		{"store init", exitRefused},
		{"apply -f " + write(t, "all.yaml", clusters), exitRefused},
	} {
		term := newTerminal("")
		if code := term.run(t.Context(), strings.Fields(tc.args)); code != tc.code {
			t.Errorf("%s: got exit %d, want %d: %s", tc.args, code, tc.code, term.stderr.String())
		}
		if got := term.stderr.String(); !strings.Contains(got, "several directors answer") || !strings.Contains(got, "--server") {
			t.Errorf("%s: got %q", tc.args, got)
		}
	}
	if n := len(mine.sent()) + len(demo.sent()); n != 0 {
		t.Errorf("got %d commands, want none", n)
	}
	unlink() // the demo ends
	if code := newTerminal("").run(t.Context(), []string{"undrain", "cluster/fra"}); code != exitDone || len(mine.sent()) != 1 {
		t.Errorf("with one left: got exit %d and %d commands", code, len(mine.sent()))
	}
}

// TestFit: what is watched never scrolls its own alerts away.
func TestFit(t *testing.T) {
	page := ""
	for i := range 10 {
		page += fmt.Sprintf("line %d\n", i)
	}
	const red = "\x1b[31m0123456789\x1b[0m\n" // ten columns
	tests := []struct {
		name          string
		page          string
		rows, columns int
		want          string
	}{
		{"a file has no end", page, 0, 0, page},
		{"it fits", page, 11, 80, page},
		{"one row too few", page, 10, 80, strings.Join(strings.SplitAfter(page, "\n")[:9], "") + "… and 1 more lines; `divert status` shows them all"},
		{"colours take no room", red + red, 3, 10, red + red},
		{"a long line takes two rows", red + red, 4, 5, red + "… and 1 more lines; `divert status` shows them all"},
	}
	for _, tc := range tests {
		if got := fit(tc.page, tc.rows, tc.columns); got != tc.want {
			t.Errorf("%s: got\n%q, want\n%q", tc.name, got, tc.want)
		}
	}
}

// TestStoreSaidOnce: the director's own words may have the consequence already, in part or,
// as an older one's, in whole.
func TestStoreSaidOnce(t *testing.T) {
	for _, words := range []string{"", "; commands are refused until it does", "; answers and failover go on, commands are refused until it does"} {
		s := stranded()
		s.Store = "the store does not answer" + words + " (connection refused)"
		s.Waiting, s.Plan = s.Store, &api.Plan{Epoch: 1, Revision: 7}
		got := strings.Join(strings.Fields(newTerminal("").statusPage(s, false)), " ")
		if strings.Count(got, "commands are refused") != 1 || strings.Count(got, " go on") != 1 {
			t.Errorf("got %s", got)
		}
	}
}

// TestStoreWithoutPlan: without a plan nothing goes on, and nothing says so.
func TestStoreWithoutPlan(t *testing.T) {
	for _, store := range []string{"the store does not answer; commands are refused until it does (connection refused)", "the store holds a plan that is too new for this director: plan 1.7 wants a reader of format 17"} {
		s := stranded()
		s.Store, s.Waiting, s.Plan = store, store, nil
		got := strings.Join(strings.Fields(newTerminal("").statusPage(s, false)), " ")
		if strings.Contains(got, "go on") || !strings.Contains(got, store+"; no plan is in hand: every query is answered REFUSED") {
			t.Errorf("got %s", got)
		}
	}
}

// TestTableKeepsToItsColumns: what people wrote, such as a reason, stands in the last column
// and may be long; it goes on below itself.
func TestTableKeepsToItsColumns(t *testing.T) {
	p := &page{width: 60}
	p.table(2, []string{"SCOPE", "REASON"}, []row{{cells: []cell{text("cluster/fra"), text("the power company works on both feeds until tomorrow night")}}})
	want := `  SCOPE        REASON
  cluster/fra  the power company works on both feeds until
               tomorrow night
`
	if got := p.b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestOverrideEndsWhenItSays: what is left is to the nearest minute, and of less than one
// the seconds that are left.
func TestOverrideEndsWhenItSays(t *testing.T) {
	for left, want := range map[time.Duration]string{
		300 * time.Millisecond: "(in 1s)", 2500 * time.Millisecond: "(in 2s)", 59 * time.Second: "(in 59s)", 9*time.Minute + 58*time.Second: "(in 10m)",
	} {
		end := noon.Add(left)
		got := newTerminal("").statusPage(api.Status{Now: noon, Overrides: []api.Override{{Kind: "drain", Scope: "cluster/fra", Author: "ada", End: &end}}}, false)
		if !strings.Contains(got, want) {
			t.Errorf("%s are left: want %s in\n%s", left, want, got)
		}
	}
}

// TestOverrideKeepsToItsColumns: who it was by may be long, and does not push what follows
// out of 80 columns.
func TestOverrideKeepsToItsColumns(t *testing.T) {
	term := newTerminal("")
	term.width = func() int { return 80 }
	end := noon.Add(time.Hour)
	got := term.statusPage(api.Status{Now: noon, Overrides: []api.Override{{
		Kind: "drain", Scope: "cluster/fra", Author: "operator oncall in an emergency", Reason: "INC-1", End: &end, Emergency: &api.EmergencyState{State: "in force", Has: []string{"d1"}},
	}}}, false)
	_, got, _ = strings.Cut(got, "OVERRIDES\n")
	want := `  KIND   SCOPE        BY                  ENDS                  REASON
  drain  cluster/fra  operator oncall i…  13:00:00 UTC (in 1h)  INC-1
    by operator oncall in an emergency
    emergency, in force here; in force on d1; in no plan yet
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	key := "ed25519:kRu+ii1jnFgfmhCqWQHnUjNAupsLaXFUzmqI2fZ/5QI="
	p := &page{width: 80}
	p.table(0, []string{"NAME", "LISTED BY", "SINCE", "REASON"}, operatorRows([]api.Operator{{Name: "oncall", Key: key, Author: "root", Reason: "on call", Since: noon}}))
	for line := range strings.SplitSeq(p.b.String(), "\n") {
		if len(line) > 80 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
	if !strings.Contains(p.b.String(), key) {
		t.Error("the key is not shown whole")
	}
}

// TestPatience: who waits at a terminal is told for what, and what Ctrl-C does; a script is
// not, and nothing is told of what is over soon.
func TestPatience(t *testing.T) {
	for _, tc := range []struct {
		name string
		live bool
		took time.Duration
		want string
	}{{"long", true, patient + 1, "still looking\n"}, {"short", true, patient - 1, ""}, {"a script", false, patient + 1, ""}} {
		synctest.Test(t, func(t *testing.T) {
			term := newTerminal("")
			term.live = tc.live
			done := term.patience("still looking")
			time.Sleep(tc.took)
			done()
			if got := term.stderr.String(); got != tc.want {
				t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
			}
		})
	}
}

// TestErrorsAreClean: what others wrote brings no control character to the terminal with an
// error; its lines stay lines.
func TestErrorsAreClean(t *testing.T) {
	term := newTerminal("")
	term.begun = true
	err := &exit{code: exitRefused, err: errors.New("d2 \x1b[31msays\nno"), remedy: "wait\x07"}
	if code := term.conclude(nil, err); code != exitRefused || term.stderr.String() != "divert: d2  [31msays\nno\n        wait \n" {
		t.Errorf("exit %d, got %q", code, term.stderr.String())
	}
}
