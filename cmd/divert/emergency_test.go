package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// urgentFake is a fake that takes operators' words.
type urgentFake struct {
	*fake
	known api.Emergencies
	words []*plan.Word
}

func (f *urgentFake) Emergencies() (api.Emergencies, error) { return f.known, nil }

func (f *urgentFake) Emergency(_ context.Context, raw []byte, dryRun bool, progress func(api.Outcome)) (api.Outcome, error) {
	w, err := plan.OpenWord(raw)
	if err != nil {
		return api.Outcome{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.words = append(f.words, w)
	o := api.Outcome{ID: w.GetId(), Summary: w.GetScope() + " is away", Took: 0.09}
	if !dryRun {
		o.Applied = []string{"d1", "d2"}
		progress(o)
	}
	return o, nil
}

// TestOperatorKeys: a key is made once, for its owner's eyes, and read only where it is
// that; nothing but its public half is ever printed or sent.
func TestOperatorKeys(t *testing.T) {
	f := &fake{}
	server := serve(t, f)
	path := filepath.Join(t.TempDir(), "oncall.key")
	term := newTerminal("")
	run := func(want int, args ...string) string {
		t.Helper()
		term.stdout.Reset()
		term.stderr.Reset()
		if code := term.run(t.Context(), append([]string{"--server", server}, args...)); code != want {
			t.Fatalf("%v: exit %d, want %d\n%s%s", args, code, want, term.stdout.String(), term.stderr.String())
		}
		return term.stdout.String() + term.stderr.String()
	}
	public := strings.TrimSpace(run(exitDone, "keys", "operator", "new", path))
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	before, _ := os.ReadFile(path)
	run(exitRefused, "keys", "operator", "new", path)
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("a key was written over")
	}
	var shown publicKey
	if err := json.Unmarshal([]byte(run(exitDone, "keys", "operator", "public", path, "-o", "json")), &shown); err != nil || shown.Key != public {
		t.Errorf("got %+v, %v, want %s", shown, err, public)
	}
	term.output = "text"
	run(exitDone, "keys", "operator", "add", "oncall", path, "--reason", "on call")
	run(exitDone, "keys", "operator", "remove", "oncall", "--reason", "left")
	sent := f.sent()
	if len(sent) != 2 || sent[0].Operator == nil || spec.FormatKey(sent[0].Operator.Key) != public || sent[1].Operator.Key != nil {
		t.Errorf("sent %+v", sent)
	}
	run(exitDone, "keys", "operator", "add", "oncall", path, "--reason", "on call", "--force", "--confirm", "oncall")
	if sent = f.sent(); !sent[len(sent)-1].Force || sent[len(sent)-1].DryRun {
		t.Errorf("sent %+v, want it forced", sent)
	}
	run(exitUsage, "keys", "operator", "add", "oncall", "ed25519:short", "--reason", "on call")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if out := run(exitRefused, "keys", "operator", "public", path); !strings.Contains(out, "chmod 600") {
		t.Errorf("a key that others can read: %s", out)
	}
	for name, text := range map[string]string{"no key": "hello", "two": string(before) + string(before), "another kind": "-----BEGIN RSA PRIVATE KEY-----\nMAA=\n-----END RSA PRIVATE KEY-----\n"} {
		bad := filepath.Join(t.TempDir(), "bad.key")
		if err := os.WriteFile(bad, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out := run(exitRefused, "keys", "operator", "public", bad); !strings.Contains(out, "no key file") {
			t.Errorf("%s: %s", name, out)
		}
	}
}

// TestSaysEmergency: a word has the next counter, the listing and the plan that the
// director knows, and is signed before it is sent; an undrain names the drain that it ends.
func TestSaysEmergency(t *testing.T) {
	dir := t.TempDir()
	path, stranger := filepath.Join(dir, "a.key"), filepath.Join(dir, "b.key")
	term := newTerminal("")
	for _, p := range []string{path, stranger} {
		if code := term.run(t.Context(), []string{"keys", "operator", "new", p}); code != exitDone {
			t.Fatal(term.stderr.String())
		}
	}
	key, err := readOperatorKey(path)
	if err != nil {
		t.Fatal(err)
	}
	f := &urgentFake{fake: &fake{}, known: api.Emergencies{
		Fleet: "f", Epoch: 1, Revision: 44, Counter: 6,
		Operators: []api.Operator{{Name: "oncall", Key: spec.FormatKey(key.Public().(ed25519.PublicKey)), Revision: 9}},
		Drains: []api.Override{
			{ID: "old", Scope: "cluster/nyc", Emergency: &api.EmergencyState{State: "undrained"}},
			{ID: "now", Scope: "cluster/nyc", Emergency: &api.EmergencyState{State: "in force"}},
			{ID: "one", Scope: "cluster/ams", Reason: "INC-1", Emergency: &api.EmergencyState{State: "in force"}},
			{ID: "two", Scope: "cluster/ams", Reason: "INC-2", Emergency: &api.EmergencyState{State: "skipped"}},
			{ID: "mine", Scope: "cluster/lhr", Emergency: &api.EmergencyState{State: "in force", Has: []string{"d1", "d2"}}},
			{ID: "late", Scope: "cluster/lhr", Emergency: &api.EmergencyState{State: "in force", Has: []string{"d1"}, Missing: []api.Missing{{Director: "d2", Why: "has not said that it has it"}}}},
		},
	}}
	server := serve(t, f)
	tests := []struct {
		name string
		args string
		code int
		want string // in what is printed
	}{
		{"a drain", "drain cluster/fra --emergency --for 30m --reason INC-1 --key " + path, exitDone, "on all 2 directors"},
		{"two of them", "drain cluster/fra --emergency --reason INC-1 --key " + path + " --operator-key " + path, exitUsage, "leave one of the two out"},
		{"a dry run", "drain cluster/fra --emergency --reason INC-1 --dry-run --key " + path, exitDone, "dry run"},
		{"an undrain", "undrain cluster/nyc --emergency --reason over --key " + path, exitDone, "is away"},
		{"what is not drained", "undrain cluster/sin --emergency --reason over --key " + path, exitRefused, "no emergency drain"},
		{"a key that is not listed", "drain cluster/fra --emergency --reason INC-1 --key " + stranger, exitRefused, "no operator with this key"},
		{"no key", "drain cluster/fra --emergency --reason INC-1", exitUsage, "--operator-key"},
		{"no reason", "drain cluster/fra --emergency --key " + path, exitUsage, "reason"},
		{"too long", "drain cluster/fra --emergency --for 2h --reason INC-1 --key " + path, exitUsage, "1h"},
		{"in steps", "drain cluster/fra --emergency --paced --reason INC-1 --key " + path, exitUsage, "--paced"},
		{"an undrain of what was drained twice", "undrain cluster/ams --emergency --reason over --key " + path, exitDone, "the drain of reason INC-1; 1 more after it"},
		{"that in a dry run", "undrain cluster/ams --emergency --reason over --dry-run --key " + path, exitDone, "1 more after it"},
		{"that under one ID", "undrain cluster/ams --emergency --reason over --id x --key " + path, exitUsage, "2 emergency drains"},
		{"what was said before", "drain cluster/lhr --emergency --reason INC-1 --id mine --key " + path, exitDone, "as was said before; on all 2 directors"},
		{"and is not complete", "drain cluster/lhr --emergency --reason INC-1 --id late --key " + path, exitIncomplete, "d2 does not have it"},
		{"the ID of another", "drain cluster/fra --emergency --reason INC-1 --id mine --key " + path, exitRefused, "emergency drain of cluster/lhr"},
		{"the ID of what is over", "drain cluster/nyc --emergency --reason INC-1 --id old --key " + path, exitRefused, "said before, and is undrained"},
		{"by the key's own flag, beside a client's certificate", "drain cluster/fra --emergency --reason INC-1 --dry-run --cert c.pem --key c.key --operator-key " + path, exitDone, "dry run"},
		{"forced", "drain cluster/fra --emergency --force --confirm cluster/fra --reason INC-1 --key " + path, exitUsage, "--force"},
	}
	for _, tc := range tests {
		term := newTerminal("")
		code := term.run(t.Context(), append([]string{"--server", server}, strings.Fields(tc.args)...))
		if out := term.stdout.String() + term.stderr.String(); code != tc.code || !strings.Contains(out, tc.want) {
			t.Errorf("%s: exit %d, want %d and %q:\n%s", tc.name, code, tc.code, tc.want, out)
		}
	}
	if len(f.words) != 8 { // a dry run's is sent, too
		t.Fatalf("%d words were sent, want 8", len(f.words))
	}
	if w := f.words[0]; w.Fleet != "f" || w.GetCounter() != 7 || w.GetEnrolled() != 9 || w.GetRevision() != 44 || w.GetOperator() != "oncall" || w.GetLasts().AsDuration() != 30*time.Minute || w.GetReason() != "INC-1" {
		t.Errorf("said %v", w.Emergency)
	}
	for i, ends := range map[int]string{2: "now", 3: "one", 4: "two", 5: "one", 6: "two"} {
		if w := f.words[i]; w.GetEnds() != ends {
			t.Errorf("said %v, want the end of %s", w.Emergency, ends)
		}
	}
}

// TestCompletesNames: the shell offers the operators that are listed, and for --canary the
// directors that are registered.
func TestCompletesNames(t *testing.T) {
	f := &urgentFake{fake: &fake{status: eventful()}, known: api.Emergencies{Operators: []api.Operator{{Name: "oncall"}, {Name: "night"}}}}
	server := serve(t, f)
	for _, tc := range []struct{ line, want string }{
		{"keys operator remove onc", "oncall"}, {"keys operator remove x", ""}, {"apply --canary d", "d1"},
	} {
		term := newTerminal("")
		words := strings.Fields(tc.line)
		args := append(append([]string{"__complete", "--server", server}, words[:len(words)-1]...), words[len(words)-1])
		code := term.run(t.Context(), args)
		first, _, _ := strings.Cut(term.stdout.String(), "\n")
		if code != exitDone || first != tc.want && !(tc.want == "" && strings.HasPrefix(first, ":")) {
			t.Errorf("%s: exit %d, %q, want %q", tc.line, code, term.stdout.String(), tc.want)
		}
	}
}
