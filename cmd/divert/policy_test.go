package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const shippedPolicy = "../../deploy/opa"

// TestPolicyTest: the shipped policy's tests pass; one that fails is an exit of 1, with
// file and line, and so is a policy that cannot be compiled.
func TestPolicyTest(t *testing.T) {
	term := newTerminal("")
	if code := term.run(t.Context(), []string{"policy", "test", shippedPolicy}); code != exitDone || !strings.Contains(term.stdout.String(), "PASS: ") || strings.Contains(term.stdout.String(), "FAIL") {
		t.Errorf("exit %d:\n%s%s", code, term.stdout.String(), term.stderr.String())
	}
	copied := t.TempDir() // and of what people change in data.json, as its README says
	if err := os.CopyFS(copied, os.DirFS(shippedPolicy)); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(copied, "data.json"))
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer(`"clients": {}`, `"clients": {"eu": {"continents": ["EU"]}}`, `"cluster_label": "jurisdiction"`, `"cluster_label": "where"`).Replace(string(data))
	if err := os.WriteFile(filepath.Join(copied, "data.json"), []byte(changed), 0o600); err != nil || changed == string(data) {
		t.Fatal(err)
	}
	term = newTerminal("")
	if code := term.run(t.Context(), []string{"policy", "test", copied}); code != exitDone || strings.Contains(term.stdout.String(), "FAIL") {
		t.Errorf("with other data: exit %d:\n%s%s", code, term.stdout.String(), term.stderr.String())
	}
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("drain.rego", "package divert.drain\ndeny contains \"no\" if input.x\n")
	put("admission.rego", "package divert.admission\ndeny contains \"no\" if input.x\n")
	put("drain_test.rego", "package divert.drain_test\n\ntest_good if true\n\ntest_bad if false\n")
	term = newTerminal("")
	if code := term.run(t.Context(), []string{"policy", "test", dir}); code != exitRefused {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{filepath.Join(dir, "drain_test.rego") + ":5: data.divert.drain_test.test_bad: FAIL", "PASS: 1/2", "FAIL: 1/2"} {
		if !strings.Contains(term.stdout.String(), want) {
			t.Errorf("got\n%swant %q", term.stdout.String(), want)
		}
	}
	term = newTerminal("")
	code := term.run(t.Context(), []string{"policy", "test", dir, "-o", "json"})
	var got struct {
		Hash  string
		Tests []testJSON
	}
	if err := json.Unmarshal(term.stdout.Bytes(), &got); err != nil || code != exitRefused || len(got.Hash) != 64 || len(got.Tests) != 2 || got.Tests[1].Result != "fail" || got.Tests[1].Line != 5 {
		t.Errorf("exit %d, %v: %s", code, err, term.stdout.String())
	}
	put("admission.rego", "package divert.admission\n\ndeny contains \"no\" if http.send({}).status_code == 200\n")
	term = newTerminal("")
	if code := term.run(t.Context(), []string{"policy", "test", dir}); code != exitRefused || !strings.Contains(term.stderr.String(), filepath.Join(dir, "admission.rego")+":3: error: http.send may not be used") {
		t.Errorf("exit %d: %s", code, term.stderr.String())
	}
	term = newTerminal("")
	if code := term.run(t.Context(), []string{"policy", "test", filepath.Join(dir, "nowhere")}); code != exitRefused || !strings.Contains(term.stderr.String(), "no such file") {
		t.Errorf("exit %d: %s", code, term.stderr.String())
	}
}

// TestPolicyEval: what is denied is an exit of 1 with the rule's own words and remedy.
func TestPolicyEval(t *testing.T) {
	drain, apply := filepath.Join(shippedPolicy, "examples", "drain.json"), filepath.Join(shippedPolicy, "examples", "apply.json")
	for _, tc := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"allowed", []string{"--input", drain}, exitDone, "allowed"},
		{"denied", []string{"--input", apply}, exitRefused, "denied: shop must stay in eu, and nyc is not there\n        take nyc out of its endpoints"},
		{"at another point", []string{"--input", apply, "--point", "drain"}, exitDone, "allowed"},
		{"of residency", []string{"--input", apply, "--point", "residency"}, exitDone, "residency of shop: all clients only on fra (residency: eu)"},
		{"of residency, where there is none", []string{"--input", filepath.Join(shippedPolicy, "data.json"), "--point", "residency"}, exitDone, "says nothing of residency"},
		{"no such point", []string{"--input", apply, "--point", "elsewhere"}, exitUsage, "neither admission nor drain nor residency"},
		{"no input", []string{"--input", filepath.Join(shippedPolicy, "nowhere.json")}, exitRefused, "no such file"},
		{"no JSON", []string{"--input", filepath.Join(shippedPolicy, "drain.rego")}, exitRefused, "no JSON of a command"},
		{"no verb", []string{"--input", filepath.Join(shippedPolicy, "data.json")}, exitRefused, `command.verb is ""`},
		{"no flag", nil, exitUsage, "input"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			term := newTerminal("")
			code := term.run(t.Context(), append([]string{"policy", "eval", shippedPolicy}, tc.args...))
			if all := term.stdout.String() + term.stderr.String(); code != tc.code || !strings.Contains(all, tc.want) {
				t.Errorf("exit %d, want %d:\n%s", code, tc.code, all)
			}
		})
	}
	octets, err := os.ReadFile(apply)
	if err != nil {
		t.Fatal(err)
	}
	term := newTerminal(string(octets))
	code := term.run(t.Context(), []string{"policy", "eval", shippedPolicy, "--input", "-", "-o", "json"})
	var got verdictJSON
	if err := json.Unmarshal(term.stdout.Bytes(), &got); err != nil || code != exitRefused || got.Allowed || got.Point != "admission" || len(got.Denied) != 1 || got.Denied[0].Remedy == "" || len(got.Hash) != 64 || len(got.Residency) != 1 {
		t.Errorf("exit %d, %v: %s", code, err, term.stdout.String())
	}
}
