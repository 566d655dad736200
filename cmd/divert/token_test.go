package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
)

func runLine(t *testing.T, env map[string]string, line ...string) (*terminal, int) {
	t.Helper()
	term := newTerminal("")
	term.env = func(name string) string { return env[name] }
	return term, term.run(t.Context(), line)
}

// TestTokenCreate: the secret is made here, shown once and sent nowhere; what the directors
// get is its sum.
func TestTokenCreate(t *testing.T) {
	f := &fake{}
	server := serve(t, f)
	dir := t.TempDir()
	line := func(name string, more ...string) []string {
		return append([]string{"token", "create", name, "--server", server, "--role", "operator", "--scope", "cluster/fra", "--scope", "zone/example.org", "--reason", "a test"}, more...)
	}
	term, code := runLine(t, nil, line("ci")...)
	var secret string
	for l := range strings.Lines(term.stdout.String()) {
		if strings.HasPrefix(l, access.Prefix) {
			secret = strings.TrimSpace(l)
		}
	}
	sum, ok := access.SumSecret(secret)
	sent := f.sent()
	if code != exitDone || !ok || len(sent) != 1 {
		t.Fatalf("exit %d, %d sent:\n%s%s", code, len(sent), term.stdout.String(), term.stderr.String())
	}
	if c := sent[0]; c.Verb != core.TokenCreate || c.Token.Name != "ci" || string(c.Token.Sum) != string(sum[:]) || c.For != 30*24*time.Hour || c.Token.Role != "operator" || len(c.Token.Scopes) != 2 {
		t.Errorf("sent %+v of %+v", c, c.Token)
	}
	if raw, err := json.Marshal(sent[0]); err != nil || strings.Contains(string(raw), secret) || strings.Contains(string(raw), secret[len(access.Prefix):]) {
		t.Errorf("the secret was sent: %s, %v", raw, err)
	}

	file := filepath.Join(dir, "ci.token")
	term, code = runLine(t, nil, line("ci2", "--file", file, "-o", "json")...)
	raw, err := os.ReadFile(file)
	if code != exitDone || err != nil {
		t.Fatalf("exit %d, %v: %s", code, err, term.stderr.String())
	}
	secret = strings.TrimSpace(string(raw))
	if strings.Contains(term.stdout.String()+term.stderr.String(), secret) || !json.Valid(term.stdout.Bytes()) {
		t.Errorf("a token in a file is also printed:\n%s", term.stdout.String())
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, code = runLine(t, nil, line("ci3", "--file", file)...); code != exitRefused {
		t.Errorf("a file is written over: exit %d", code)
	}

	for _, tc := range []struct {
		what string
		args []string
		code int
	}{
		{"as JSON without a file", line("x", "-o", "json"), exitUsage},
		{"no duration", line("x", "--for", "soon"), exitUsage},
		{"negative", line("x", "--for", "-1h"), exitUsage},
		{"no role", []string{"token", "create", "x", "--server", server, "--scope", "fleet", "--reason", "a"}, exitUsage},
		{"dry run", line("x", "--dry-run"), exitDone},
	} {
		before := len(f.sent())
		term, code := runLine(t, nil, tc.args...)
		if code != tc.code || strings.Contains(term.stdout.String(), access.Prefix) || tc.code == exitUsage && len(f.sent()) != before {
			t.Errorf("%s: exit %d, want %d: %s%s", tc.what, code, tc.code, term.stdout.String(), term.stderr.String())
		}
	}

	f.outcome = func(core.Command) api.Outcome { return api.Outcome{Code: 1, Error: "there is a token ci"} }
	refused := filepath.Join(dir, "refused.token")
	term, code = runLine(t, nil, line("ci", "--file", refused)...)
	if _, err := os.Stat(refused); code != exitRefused || err == nil || strings.Contains(term.stdout.String(), access.Prefix) {
		t.Errorf("refused: exit %d, file %v", code, err)
	}
	f.outcome = func(core.Command) api.Outcome { return api.Outcome{Code: 3, Revision: 9, Error: "d2 is silent"} }
	if term, code = runLine(t, nil, line("ci")...); code != exitIncomplete || !strings.Contains(term.stdout.String(), access.Prefix) {
		t.Errorf("committed and not everywhere: exit %d, and the token is lost:\n%s", code, term.stdout.String())
	}
}

// TestTokenIsShown: the CLI brings a token from a file that only its user can read, or from
// the environment.
func TestTokenIsShown(t *testing.T) {
	f := &fake{tokens: []api.Token{
		{Name: "ci", Role: "operator", Scopes: []string{"cluster/fra"}, Expires: noon.Add(time.Hour), Author: "unix:ann", Reason: "a\x1b[2J test", Since: noon},
		{Name: "old", Role: "viewer", Scopes: []string{"fleet"}, Expires: noon, Expired: true, Author: "unix:ann", Since: noon},
	}}
	server := serve(t, f) // knows no token: whoever brings one is refused
	good := access.FormatSecret([access.SecretBytes]byte{1})
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(good+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		what string
		env  map[string]string
		args []string
		code int
		want string
	}{
		{"none", nil, nil, exitDone, "operator"},
		{"a file", nil, []string{"--token-file", file}, exitRefused, "not in force"},
		{"the environment", map[string]string{"DIVERT_TOKEN": good}, nil, exitRefused, "not in force"},
		{"a file that is not there", nil, []string{"--token-file", file + "x"}, exitRefused, "token's file"},
		{"a file that never ends", nil, []string{"--token-file", "/dev/zero"}, exitRefused, "holds no token"},
	} {
		term, code := runLine(t, tc.env, append([]string{"token", "list", "--server", server}, tc.args...)...)
		out := term.stdout.String() + term.stderr.String()
		if code != tc.code || !strings.Contains(out, tc.want) || strings.Contains(out, good) || strings.Contains(out, "\x1b[2J") {
			t.Errorf("%s: exit %d, want %d: %s", tc.what, code, tc.code, out)
		}
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if term, code := runLine(t, nil, "token", "list", "--server", server, "--token-file", file); code != exitRefused || !strings.Contains(term.stderr.String(), "chmod 600") {
		t.Errorf("a file that others read: exit %d, %s", code, term.stderr.String())
	}
	term, code := runLine(t, nil, "token", "list", "--server", server, "-o", "json")
	var list []api.Token
	if err := json.Unmarshal(term.stdout.Bytes(), &list); code != exitDone || err != nil || len(list) != 2 {
		t.Errorf("exit %d, %v: %s", code, err, term.stdout.String())
	}
	term, code = runLine(t, nil, "token", "revoke", "ci", "--server", server, "--reason", "it was in a log")
	if sent := f.sent(); code != exitDone || len(sent) != 1 || sent[0].Verb != core.TokenRevoke || sent[0].Token.Name != "ci" {
		t.Errorf("exit %d: %s", code, term.stderr.String())
	}
}

// TestWhoamiAndCan: the exit code says whether somebody may.
func TestWhoamiAndCan(t *testing.T) {
	server := serve(t, &fake{})
	for _, tc := range []struct {
		line string
		code int
		want string
	}{
		{"whoami", exitDone, "admin of fleet"},
		{"whoami -o json", exitDone, `"role": "admin"`},
		{"can drain cluster/fra", exitDone, "yes: unix:"},
		{"can drain cluster/fra -o json", exitDone, `"can": true`},
		{"can explode", exitUsage, "there is no action"},
		{"can", exitUsage, ""},
		{"openapi", exitDone, `"openapi": "3.1.0"`},
	} {
		term, code := runLine(t, nil, append(strings.Fields(tc.line), "--server", server)...)
		if out := term.stdout.String() + term.stderr.String(); code != tc.code || !strings.Contains(out, tc.want) {
			t.Errorf("%s: exit %d, want %d: %s", tc.line, code, tc.code, out)
		}
	}
	loopback, err := api.NewServer(api.Options{Director: &fake{}, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- loopback.Run(ctx) }()
	defer func() { cancel(); <-done }()
	term, code := runLine(t, nil, "can", "drain", "cluster/fra", "--server", "http://"+loopback.Addr())
	if code != exitRefused || !strings.Contains(term.stdout.String(), "no: ") {
		t.Errorf("exit %d: %s%s", code, term.stdout.String(), term.stderr.String())
	}
	if term, code = runLine(t, nil, "whoami", "--server", "http://"+loopback.Addr()); code != exitDone || !strings.Contains(term.stdout.String(), "nobody in particular") {
		t.Errorf("exit %d: %s", code, term.stdout.String())
	}
}
