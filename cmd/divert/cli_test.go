package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/dnsserver/geo/mmdb/mmdbtest"
)

// walk visits every command of the tree but cobra's own help.
func walk(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, child := range c.Commands() {
		if child.Name() != "help" && !child.Hidden {
			walk(child, visit)
		}
	}
}

func TestEveryCommandIsDocumented(t *testing.T) {
	walk(newTerminal("").root(), func(c *cobra.Command) {
		path := c.CommandPath()
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: its short help must be one phrase without a period", path)
		}
		if len(c.Long) < 80 {
			t.Errorf("%s: its long help says too little", path)
		}
		if !strings.Contains(c.Example, "  divert ") {
			t.Errorf("%s: it has no example", path)
		}
		for line := range strings.Lines(c.Long) {
			if len(strings.TrimRight(line, "\n")) > 84 {
				t.Errorf("%s: a line of its help is longer than 84 columns: %s", path, line)
			}
		}
	})
}

// TestExamplesParse: what help shows can be typed.
func TestExamplesParse(t *testing.T) {
	examples := 0
	walk(newTerminal("").root(), func(c *cobra.Command) {
		for line := range strings.Lines(c.Example) {
			words := shellWords(strings.TrimSpace(line))
			if len(words) == 0 || words[0] != "divert" {
				t.Errorf("%s: %q is no command line of divert", c.CommandPath(), line)
				continue
			}
			examples++
			root := newTerminal("").root()
			found, rest, err := root.Find(words[1:])
			if err != nil {
				t.Errorf("%q: %v", line, err)
				continue
			}
			if c.HasParent() && c.Runnable() && !c.HasSubCommands() && found.CommandPath() != c.CommandPath() {
				t.Errorf("%q is an example of %s, not of %s", line, found.CommandPath(), c.CommandPath())
			}
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%q: %v", line, err)
				continue
			}
			if err := found.ValidateRequiredFlags(); err != nil {
				t.Errorf("%q: %v", line, err)
			}
			if found.Annotations[groupMark] != "" {
				t.Errorf("%q stops at %s, which has commands below it", line, found.CommandPath())
			}
			if found.Args != nil {
				if err := found.Args(found, found.Flags().Args()); err != nil {
					t.Errorf("%q: %v", line, err)
				}
			}
		}
	})
	if examples < 40 {
		t.Errorf("only %d examples were tried", examples)
	}
}

// shellWords splits a line as a shell does, up to a pipe or a redirection.
func shellWords(line string) []string {
	var out []string
	word, quoted, have := "", false, false
	for _, r := range line + " " {
		switch {
		case r == '"':
			quoted, have = !quoted, true
		case r == ' ' && !quoted:
			if word == "|" || word == ">" {
				return out
			}
			if have {
				out = append(out, word)
			}
			word, have = "", false
		default:
			word, have = word+string(r), true
		}
	}
	return out
}

func TestExitCodes(t *testing.T) {
	server := serve(t, &fake{status: eventful()})
	tests := []struct {
		args string
		code int
		errs string // in stderr
	}{
		{"", exitDone, ""},
		{"--help", exitDone, ""},
		{"help drain", exitDone, ""},
		{"help drian", exitUsage, "unknown command"},
		{"version", exitDone, ""},
		{"version -o json", exitDone, ""},
		{"version -o yaml", exitUsage, "neither text nor json"},
		{"version now", exitUsage, "--help"},
		{"statu", exitUsage, "unknown command"},
		{"--nonsense", exitUsage, "unknown flag"},
		{"status --nonsense", exitUsage, "unknown flag"},
		{"explain", exitUsage, "accepts 1 arg"},
		{"drain cluster/fra --reason INC-1 --key oncall.key", exitUsage, "for --emergency"},
		{"undrain cluster/fra --key oncall.key", exitUsage, "for --emergency"},
		{"undrain cluster/fra --operator-key oncall.key", exitUsage, "for --emergency"},
		{"drain cluster/fra --reason INC-1 --cert c.pem --key c.key --server http://127.0.0.1:1", exitRefused, "no director answers"},
		{"drain cluster/fra --reason INC-1 --paced --wait 0s", exitUsage, "--wait 0s is no time"},
		{"diff", exitUsage, `required flag(s) "file" not set`},
		{"etcd", exitUsage, `required flag(s) "data" not set`},
		{"check", exitUsage, "nothing to check"},
		{"director", exitUsage, "which one"},
		{"director lits", exitUsage, "unknown command"},
		{"director approve d4 --key abc", exitUsage, "ed25519"},
		{"store", exitUsage, "which one"},
		{"store init", exitDone, ""},
		{"store recover", exitRefused, "d2 holds a higher plan"},
		{"audit --limit 0", exitUsage, "--limit"},
		{"audit --since 24h", exitDone, ""},
		{"audit --since 2026-03-14T11:58:00Z --limit 3", exitDone, ""},
		{"audit --since yesterday", exitUsage, "is no time"},
		{"audit --since 24h --from 3", exitUsage, "two ways to begin"},
		{"audit nonsense", exitUsage, "unknown command"},
		{"audit export", exitUsage, "accepts 1 arg"},
		{"audit verify --key d1=ed25519:LXVaO4Vd4hLLZR3uBpsBJbGFAJCjVMpxSS9lLFJ0nXI=", exitUsage, "is for a FILE"},
		{"audit verify f --key d1=abc", exitUsage, "ed25519"},
		{"audit verify f --key abc", exitUsage, "NAME="},
		{"fleet init --sites fra=192.0.2.1 --out nowhere --members nyc", exitUsage, "none of the sites"},
		{"fleet init --sites fra=192.0.2.1 --out nowhere --dns-port 99999", exitUsage, "99999"},
		{"fleet init --sites fra=192.0.2.1,nyc=192.0.2.2 --out nowhere --members fra,nyc", exitUsage, "odd number"},
		{"token create ci --role root --scope fleet --reason x", exitUsage, "viewer, operator or admin"},
		{"token create ci --role viewer --scope host/x --reason x", exitUsage, "no scope of access"},
		{"audit verify /nowhere/f", exitRefused, "no such file"},
		{"completion", exitUsage, "accepts 1 arg"},
		{"completion tcsh", exitUsage, "invalid argument"},
		{"completion bash", exitDone, ""},
		{"completion zsh", exitDone, ""},
		{"completion fish", exitDone, ""},
		{"completion powershell", exitDone, ""},
		{"undrain cluster/fra", exitDone, ""},
		{"undrain", exitUsage, "requires at least 1 arg"},
		{"undrain cluster/fra cluster/fra", exitUsage, "given twice"},
		{"readmit cluster/fra", exitDone, ""},
		{"freeze --reason INC-1", exitDone, ""},
		{"freeze", exitUsage, "a reason is required"},
		{"freeze cluster/fra --reason INC-1", exitUsage, "neither fleet nor service/NAME"},
		{"thaw service/shop", exitDone, ""},
		{"director remove d2 --reason gone", exitDone, ""},
		{"director remove d2", exitUsage, "a reason is required"},
		{"status --server ftp://127.0.0.1", exitRefused, "neither http"},
		{"status --server unix:/nowhere/control.sock", exitRefused, "not there"},
		{"drain cluster/fra --reason INC-1 --server http://127.0.0.1:1", exitRefused, "no director answers at http://127.0.0.1:1"},
	}
	for _, tc := range tests {
		t.Run(tc.args, func(t *testing.T) {
			term := newTerminal("")
			term.env = func(name string) string { return map[string]string{"DIVERT_SERVER": server}[name] }
			if code := term.run(t.Context(), strings.Fields(tc.args)); code != tc.code {
				t.Errorf("got exit %d, want %d: %s", code, tc.code, term.stderr.String())
			}
			if !strings.Contains(term.stderr.String(), tc.errs) {
				t.Errorf("got %q, want %q in it", term.stderr.String(), tc.errs)
			}
			if tc.code != exitDone && strings.Contains(term.stderr.String(), "Usage:") {
				t.Error("an error is buried under the whole usage")
			}
		})
	}
}

func TestCommandsAsSent(t *testing.T) {
	key := "ed25519:LXVaO4Vd4hLLZR3uBpsBJbGFAJCjVMpxSS9lLFJ0nXI="
	tests := []struct{ args, want string }{
		{"undrain cluster/fra", `{"id":"id1","verb":"undrain","scope":"cluster/fra"}`},
		{"freeze --reason x", `{"id":"id1","verb":"freeze","scope":"fleet","reason":"x","forSeconds":3600}`},
		{"thaw", `{"id":"id1","verb":"thaw","scope":"fleet"}`},
		{"readmit service/shop@fra", `{"id":"id1","verb":"readmit","scope":"service/shop@fra"}`},
		{"director approve d4", `{"id":"id1","verb":"director-approve","director":{"name":"d4","site":"ams-dc1","key":"LXVaO4Vd4hLLZR3uBpsBJbGFAJCjVMpxSS9lLFJ0nXI=","gossip":"192.0.2.54:7946"}}`},
		{"director approve d9 --site x --public-key " + key + " --cert c.pem --key c.key", `{"id":"id1","verb":"director-approve","director":{"name":"d9","site":"x","key":"LXVaO4Vd4hLLZR3uBpsBJbGFAJCjVMpxSS9lLFJ0nXI="}}`},
		{"director approve d9 --site x --key " + key, `{"id":"id1","verb":"director-approve","director":{"name":"d9","site":"x","key":"LXVaO4Vd4hLLZR3uBpsBJbGFAJCjVMpxSS9lLFJ0nXI="}}`},
		{"director remove d2 --reason gone", `{"id":"id1","verb":"director-remove","reason":"gone","director":{"name":"d2"}}`},
	}
	for _, tc := range tests {
		t.Run(tc.args, func(t *testing.T) {
			f := &fake{status: eventful()}
			term := newTerminal("")
			if code := term.run(t.Context(), append(strings.Fields(tc.args), "--server", serve(t, f))); code != exitDone {
				t.Fatalf("got exit %d: %s", code, term.stderr.String())
			}
			sent := f.sent()[0]
			sent.Author = ""
			if got, _ := json.Marshal(sent); string(got) != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

const (
	clusters = `apiVersion: divert.dev/v1alpha1
kind: Cluster
metadata: {name: fra}
spec: {location: {country: DE}}
---
apiVersion: divert.dev/v1alpha1
kind: Zone
metadata: {name: example.org}
spec:
  nameservers: [ns1.example.org]
  hostmaster: dns-admin@example.org
  records: |
    ns1 A 192.0.2.53
`
	service = `apiVersion: divert.dev/v1alpha1
kind: GlobalService
metadata: {name: shop}
spec:
  hosts: [shop.example.org]
  endpoints: [{cluster: fra, addresses: [192.0.2.10]}]
  probes: [{tcp: {port: 80}}]
  steering: {policy: failover, order: [fra]}
`
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCheck(t *testing.T) {
	good := write(t, "good.yaml", clusters+"---\n"+service)
	broken := write(t, "bad.yaml", strings.Replace(clusters, "192.0.2.53", "192.0.2.530", 1)+"---\n"+strings.Replace(service, "cluster: fra,", "cluster: fro,", 1))
	term := newTerminal("")
	if code := term.run(t.Context(), []string{"check", good}); code != exitDone || !strings.Contains(term.stdout.String(), "ok: 1 cluster, 1 zone, 1 service") {
		t.Errorf("got exit %d: %s%s", code, term.stdout.String(), term.stderr.String())
	}
	term = newTerminal("")
	code := term.run(t.Context(), []string{"check", broken})
	out := term.stdout.String()
	// The record and the endpoint, both at once, each with its line.
	if code != exitRefused || !strings.Contains(out, broken+":13: error") || !strings.Contains(out, broken+":20: error") {
		t.Errorf("got exit %d: %s", code, out)
	}
	term = newTerminal("")
	if code := term.run(t.Context(), []string{"check", "-o", "json", broken}); code != exitRefused {
		t.Errorf("got exit %d", code)
	}
	var got struct {
		Errors   int
		Problems []struct{ Line int }
	}
	if err := json.Unmarshal(term.stdout.Bytes(), &got); err != nil || got.Errors < 2 || got.Problems[0].Line == 0 {
		t.Errorf("got %+v, %v", got, err)
	}
	term = newTerminal("")
	if code := term.run(t.Context(), []string{"check", filepath.Join(t.TempDir(), "absent")}); code != exitRefused {
		t.Errorf("a path that is not there: got exit %d", code)
	}
}

// TestCheckSettings: files that are not on this machine are said and do no harm.
func TestCheckSettings(t *testing.T) {
	good := write(t, "good.yaml", clusters+"---\n"+service)
	config := write(t, "director.yaml", "name: d1\ngossip: {keyFile: absent.key}\nspec: [absent.d]\n")
	term := newTerminal("")
	code := term.run(t.Context(), []string{"check", "-c", config, good})
	out := term.stdout.String()
	if code != exitDone || !strings.Contains(out, config+":2: warning: gossip.keyFile: ") || !strings.Contains(out, config+":3: warning: spec[0]: ") || !strings.Contains(out, "2 warnings") {
		t.Errorf("got exit %d: %s%s", code, out, term.stderr.String())
	}
	// Without a path the spec itself is not there, which is an error, once.
	term = newTerminal("")
	code = term.run(t.Context(), []string{"check", "-c", config})
	if out = term.stdout.String(); code != exitRefused || strings.Count(out, "absent.d") != 1 {
		t.Errorf("got exit %d: %s%s", code, out, term.stderr.String())
	}
}

// TestCheckGeoDatabase: the file is read, so that a bad one is told before a director
// finds it.
func TestCheckGeoDatabase(t *testing.T) {
	good := write(t, "good.yaml", clusters+"---\n"+service)
	config := write(t, "director.yaml", "name: d1\ngeo: {database: cities.mmdb}\n")
	path := filepath.Join(filepath.Dir(config), "cities.mmdb")
	whole := mmdbtest.Make(t, mmdbwriter.Options{}, mmdbtest.Network{Prefix: "198.51.100.0/24", Record: mmdbtest.City("EU", "DE", 50, 8)})
	for _, tc := range []struct {
		name string
		data []byte // nil: it is not there
		code int
		want string
	}{
		{"missing", nil, exitDone, ":2: warning: geo.database: " + path + " is not there"},
		{"no database", []byte("no database"), exitRefused, ":2: error: geo.database: " + path + ": not a MaxMind DB file"},
		{"cut short", whole[:len(whole)/2], exitRefused, "put a MaxMind DB file of countries or cities there, whole"},
		{"good", whole, exitDone, "ok: "},
	} {
		if tc.data != nil {
			mmdbtest.Put(t, path, tc.data)
		}
		term := newTerminal("")
		code := term.run(t.Context(), []string{"check", "-c", config, good})
		if out := term.stdout.String(); code != tc.code || !strings.Contains(out, tc.want) {
			t.Errorf("%s: got exit %d: %s%s", tc.name, code, out, term.stderr.String())
		}
	}
}

func TestApplyAndDiff(t *testing.T) {
	fleet, problems := spec.Parse("fleet.yaml", []byte(clusters+"---\n"+service))
	if spec.Failed(problems) {
		t.Fatal(problems)
	}
	f := &fake{spec: fleet}
	server := serve(t, f)
	changed := strings.Replace(service, "192.0.2.10", "192.0.2.11", 1)

	t.Run("a part is completed by the fleet's spec", func(t *testing.T) {
		term := newTerminal("")
		if code := term.run(t.Context(), []string{"diff", "--server", server, "-f", write(t, "shop.yaml", changed)}); code != exitDone {
			t.Fatalf("got exit %d: %s", code, term.stderr.String())
		}
		golden(t, "diff", term.stdout.String())
	})
	t.Run("prune shows what goes", func(t *testing.T) {
		term := newTerminal("")
		if code := term.run(t.Context(), []string{"diff", "--prune", "--server", server, "-f", write(t, "all.yaml", clusters)}); code != exitDone {
			t.Fatalf("got exit %d: %s", code, term.stderr.String())
		}
		golden(t, "diff-prune", term.stdout.String())
	})
	t.Run("no difference", func(t *testing.T) {
		term := newTerminal("")
		if code := term.run(t.Context(), []string{"diff", "--server", server, "-f", write(t, "all.yaml", clusters+"---\n"+service)}); code != exitDone || term.stdout.String() != "no difference\n" {
			t.Errorf("got exit %d: %s%s", code, term.stdout.String(), term.stderr.String())
		}
	})
	t.Run("errors send nothing", func(t *testing.T) {
		term := newTerminal("")
		bad := write(t, "shop.yaml", strings.Replace(service, "cluster: fra,", "cluster: fro,", 1))
		if code := term.run(t.Context(), []string{"apply", "--server", server, "-f", bad}); code != exitRefused || !strings.Contains(term.stderr.String(), "nothing is applied") ||
			!strings.Contains(term.stderr.String(), bad+":") {
			t.Errorf("got exit %d: %s", code, term.stderr.String())
		}
		for _, got := range f.sent() {
			if !got.DryRun { // those of the diffs before
				t.Errorf("got %+v, want no command", got)
			}
		}
	})
	t.Run("apply sends what was written", func(t *testing.T) {
		term := newTerminal("")
		path := write(t, "all.yaml", clusters+"---\n"+changed)
		if code := term.run(t.Context(), []string{"apply", "--prune", "--server", server, "-f", path}); code != exitDone {
			t.Fatalf("got exit %d: %s", code, term.stderr.String())
		}
		sent := f.sent()
		got := sent[len(sent)-1]
		if got.Verb != core.Apply || got.Source != "files" || !got.Prune || len(got.Objects) != 3 {
			t.Errorf("got %+v", got)
		}
	})
}

// TestInterruptedQuestion: Ctrl-C at a question does nothing.
func TestInterruptedQuestion(t *testing.T) {
	term := newTerminal("")
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	term.in.Reset(reader)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := term.ask(ctx, "Reason: "); err == nil || !strings.Contains(err.Error(), "nothing was done") {
		t.Errorf("got %v", err)
	}
}

func TestShort(t *testing.T) {
	tests := []struct {
		d    time.Duration
		want string
	}{
		{time.Hour, "1h"},
		{90 * time.Minute, "1h30m"},
		{time.Hour + time.Second, "1h0m1s"},
		{10 * time.Minute, "10m"},
		{100 * time.Second, "1m40s"},
		{1500 * time.Millisecond, "1.5s"},
		{58312 * time.Microsecond, "58ms"},
		{72 * time.Hour, "3d"},
		{0, "0s"},
	}
	for _, tc := range tests {
		if got := short(tc.d); got != tc.want {
			t.Errorf("%d: got %s, want %s", tc.d, got, tc.want)
		}
	}
}
