package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/local"
	"github.com/divertdns/divert/director/api"
)

// bundle copies the shipped policy into a folder, with a change of its data.
func bundle(t *testing.T, from, to string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.CopyFS(dir, os.DirFS("../../deploy/opa")))
	name := filepath.Join(dir, "data.json")
	text, err := os.ReadFile(name)
	must(t, err)
	if !strings.Contains(string(text), from) {
		t.Fatalf("data.json has no %s", from)
	}
	must(t, os.WriteFile(name, []byte(strings.Replace(string(text), from, to, 1)), 0o600))
	return dir
}

// TestPolicy: a policy that one director is given judges commands on all of them: a freeze
// window denies a drain with its reason, dry runs too; a cluster that dies fails over and
// comes back all the same; break-glass passes it and is on record; a rule that does not end
// denies.
func TestPolicy(t *testing.T) {
	long(t)
	r := start(t, local.Options{})
	r.settle()
	now := time.Now().UTC()
	frozen := bundle(t, `"windows": []`, fmt.Sprintf(`"windows": [{"name": "peak season", "from": %q, "to": %q}]`,
		now.Add(-time.Hour).Format(time.RFC3339), now.Add(24*time.Hour).Format(time.RFC3339)))
	out := decode[api.Outcome](t, r.must(1, "policy", "adopt", frozen, "--reason", "peak season", "-o", "json"))
	if len(out.Applied) != 3 {
		t.Errorf("adopted on %v", out.Applied)
	}
	tested := decode[struct{ Hash string }](t, r.must(1, "policy", "test", frozen, "-o", "json"))
	for i := 1; i <= 3; i++ {
		for _, more := range [][]string{nil, {"--dry-run"}, {"--force", "--confirm", "cluster/nyc"}} {
			text, code := r.divert(i, append([]string{"drain", "cluster/nyc", "--reason", "INC-1"}, more...)...)
			if code != 1 || !strings.Contains(text, "the policy denies it: drain is frozen by peak season, until ") || !strings.Contains(text, "--break-glass") {
				t.Errorf("on %s with %q: exit %d\n%s", local.Name(i), more, code, text)
			}
		}
		r.until(10*time.Second, "it is at hand", func() error {
			s := decode[struct{ Policy *api.Policy }](t, r.must(i, "policy", "status", "-o", "json"))
			if s.Policy == nil || s.Policy.Hash != tested.Hash || len(s.Policy.Files) == 0 {
				return fmt.Errorf("%+v", s.Policy)
			}
			return nil
		})
	}

	// Nothing that happens by itself asks it.
	must(t, r.Kill("fra"))
	r.until(10*time.Second, "a dead cluster fails over", r.answers(2, "pay.example.org", "nyc"))
	must(t, r.Start(t.Context(), "fra"))
	r.settle()

	text := r.must(2, "drain", "cluster/nyc", "--reason", "INC-2", "--break-glass")
	if !strings.Contains(text, "break-glass passes the policy, which says: drain is frozen by peak season") {
		t.Errorf("break-glass:\n%s", text)
	}
	var records []api.AuditRecord
	must(t, json.Unmarshal([]byte(r.must(3, "audit", "-o", "json")), &records))
	if !slices.ContainsFunc(records, func(a api.AuditRecord) bool {
		return a.Why == "INC-2" && len(a.Passed) == 1 && a.Policy == tested.Hash && strings.Contains(a.What, "by break-glass, past the policy")
	}) {
		t.Errorf("the record: %+v", records)
	}
	if text, code := r.divert(1, "undrain", "cluster/nyc"); code != 1 || !strings.Contains(text, "undrain is frozen by peak season") {
		t.Errorf("undrain: exit %d\n%s", code, text)
	}
	r.must(1, "undrain", "cluster/nyc", "--reason", "over", "--break-glass")

	// Its own tests do not end either, and so it is not sent; without them it is.
	endless := bundle(t, `"sites": 1`, `"sites": 1`)
	must(t, os.WriteFile(filepath.Join(endless, "endless.rego"), []byte(`package divert.drain

deny contains "never" if {
	input.command.reason
	some a in numbers.range(1, 100000)
	some b in numbers.range(1, 100000)
	a + b == -1
}
`), 0o600))
	must(t, os.WriteFile(filepath.Join(endless, "endless_test.rego"), []byte(`package divert.endless_test

import data.divert.drain

test_ends if count(drain.deny) == 0 with input as {"command": {"reason": "x"}}
`), 0o600))
	if text, code := r.divert(3, "policy", "adopt", endless, "--reason", "a mistake"); code != 1 || !strings.Contains(text, "the policy's own tests do not pass: data.divert.endless_test.test_ends") {
		t.Errorf("what fails its tests: exit %d\n%s", code, text)
	}
	must(t, os.Remove(filepath.Join(endless, "endless_test.rego")))
	if text, code := r.divert(3, "policy", "adopt", endless, "--reason", "a mistake"); code != 1 || !strings.Contains(text, "too slow for this fleet") {
		t.Errorf("what does not end on its trial: exit %d\n%s", code, text)
	}
	r.must(3, "policy", "adopt", endless, "--reason", "a mistake", "--force", "--confirm", "policy")
	if text, code := r.divert(2, "drain", "cluster/nyc", "--reason", "INC-3"); code != 1 || !strings.Contains(text, "the policy did not answer within 200ms") {
		t.Errorf("a rule that does not end: exit %d\n%s", code, text)
	}
	if sites, err := r.sites(2, "pay.example.org"); err != nil || len(sites) == 0 {
		t.Errorf("answers: %v, %v", sites, err)
	}
	r.must(2, "policy", "drop", "--reason", "it was a mistake")
	r.must(1, "drain", "cluster/nyc", "--reason", "INC-3")
}
