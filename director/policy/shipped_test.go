package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/spec"
)

// TestShippedTests runs the tests of the bundle that users copy, and would find one that
// is no test.
func TestShippedTests(t *testing.T) {
	_, p := loaded(t, shipped)
	results := p.Test(t.Context())
	if len(results) < 20 {
		t.Errorf("%d tests only", len(results))
	}
	for _, r := range results {
		if !r.Passed {
			t.Errorf("%s:%d: %s: %s", r.File, r.Line, r.Name, r.Problem)
		}
	}
}

// TestTests: one that is false, undefined or cannot be evaluated does not pass.
func TestTests(t *testing.T) {
	files := both("deny contains \"no\" if input.x\n")
	files["drain_test.rego"] = `package divert.drain_test

import data.divert.drain

test_true if "no" in drain.deny with input.x as true

test_undefined if "no" in drain.deny with input.x as false

test_false := false

test_text := "true"

test_error if time.parse_rfc3339_ns("noon") > 1

todo_test_later if false

helper_test if false
`
	dir := write(t, files)
	_, p := loaded(t, dir)
	got := map[string]string{}
	for _, r := range p.Test(t.Context()) {
		got[r.Name] = map[bool]string{true: "passed", false: "failed"}[r.Passed]
		if r.Skipped {
			got[r.Name] = "skipped"
		}
		if r.Problem != "" {
			got[r.Name] = "error"
		}
		if r.Line == 0 || r.File == "" {
			t.Errorf("%+v has no place", r)
		}
	}
	want := map[string]string{"test_true": "passed", "test_undefined": "failed", "test_false": "failed", "test_text": "failed", "test_error": "error", "todo_test_later": "skipped"}
	for name, what := range want {
		if got["data.divert.drain_test."+name] != what {
			t.Errorf("%s: %q, want %q", name, got["data.divert.drain_test."+name], what)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
}

// example reads one of the inputs that users try a policy with, which have no field that a
// director does not give.
func example(t *testing.T, name string) Input {
	t.Helper()
	octets, err := os.ReadFile(filepath.Join(shipped, "examples", name))
	if err != nil {
		t.Fatal(err)
	}
	var in Input
	d := json.NewDecoder(bytes.NewReader(octets))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return in
}

// TestShippedDecisions holds what the shipped bundle decides, with other data, against a
// table.
func TestShippedDecisions(t *testing.T) {
	const nothing = `{"rules": {"freeze": {"windows": [], "weekly": [], "verbs": [], "except": []}, "drainers": {}, "minimum": {"sites": 0, "services": {}},
		"residency": {"service_label": "none", "cluster_label": "none"}}}`
	peak := strings.Replace(nothing, `"windows": [], "weekly": [], "verbs": []`,
		`"windows": [{"name": "peak season", "from": "2026-11-20T00:00:00Z", "to": "2026-12-02T00:00:00Z"}], "weekly": [], "verbs": ["drain", "apply"]`, 1)
	drainers := strings.Replace(nothing, `"drainers": {}`, `"drainers": {"cluster/fra": ["unix:bob", "role:admin"]}`, 1)
	minimum := strings.Replace(nothing, `"minimum": {"sites": 0, "services": {}}`, `"minimum": {"sites": 1, "services": {"shop": 2}}`, 1)
	residency := strings.Replace(nothing, `"service_label": "none", "cluster_label": "none"`, `"service_label": "residency", "cluster_label": "jurisdiction"`, 1)
	for _, tc := range []struct {
		name, data string
		example    string
		change     func(*Input)
		want       string
	}{
		{name: "as shipped, a drain", example: "drain.json"},
		{name: "as shipped, an apply", example: "apply.json", want: "shop must stay in eu, and nyc is not there"},
		{name: "no rule at all", data: nothing, example: "apply.json"},
		{name: "frozen", data: peak, example: "drain.json", want: "drain is frozen by peak season, until 2026-12-02T00:00:00Z"},
		{name: "frozen, an apply", data: peak, example: "apply.json", want: "apply is frozen by peak season, until 2026-12-02T00:00:00Z"},
		{name: "after the window", data: peak, example: "drain.json", change: func(in *Input) { in.At(time.Date(2026, 12, 2, 0, 0, 0, 0, time.UTC)) }},
		{name: "not its drainer", data: drainers, example: "drain.json", want: "unix:alice may not drain cluster/fra"},
		{name: "not the end either", data: drainers, example: "drain.json", change: func(in *Input) { in.Command.Verb = "undrain" }, want: "unix:alice may not undrain cluster/fra"},
		{name: "its drainer", data: drainers, example: "drain.json", change: func(in *Input) { in.Author = "unix:bob" }},
		{name: "by role", data: drainers, example: "drain.json", change: func(in *Input) { in.Roles = []string{"admin"} }},
		{name: "a label makes nobody", data: drainers, example: "drain.json", change: func(in *Input) { in.Label = "unix:bob" }, want: "unix:alice may not drain cluster/fra"},
		{name: "too few sites", data: minimum, example: "drain.json", want: "it would leave shop 1 healthy sites, and at least 2 are wanted"},
		{name: "enough sites", data: minimum, example: "drain.json", change: func(in *Input) { in.Preview.Effects[0].Healthy = 2 }},
		{name: "abroad", data: residency, example: "apply.json", want: "shop must stay in eu, and nyc is not there"},
		{name: "a drain is no residency", data: residency, example: "drain.json"},
		{name: "data that lack a list", data: strings.Replace(nothing, `"drainers": {}, `, "", 1), example: "drain.json", want: "data.json has no rules.drainers"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, problems := ReadDir(shipped)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			for i := range b.Files {
				if b.Files[i].Path == dataFile && tc.data != "" {
					b.Files[i].Text = []byte(tc.data)
				}
			}
			p, problems := Compile(b, shipped)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			in := example(t, tc.example)
			if tc.change != nil {
				tc.change(&in)
			}
			octets, err := in.JSON()
			if err != nil {
				t.Fatal(err)
			}
			v := p.judge(t.Context(), PointOf(core.Verb(in.Command.Verb)), octets, testDeadline)
			var got []string
			for _, d := range v.Denied {
				got = append(got, d.Msg)
				if d.Remedy == "" {
					t.Errorf("%q has no remedy", d.Msg)
				}
			}
			if v.Problem != "" || strings.Join(got, "; ") != tc.want {
				t.Errorf("got %+v, want %q", v, tc.want)
			}
		})
	}
}

// TestRecordsStayOut: the records of a zone are no part of an input, which is bounded.
func TestRecordsStayOut(t *testing.T) {
	r, err := NewResources([]spec.Raw{
		{Kind: spec.KindZone, Name: "example.org", JSON: []byte(`{"kind":"Zone","spec":{"nameservers":["ns1.example.org"],"records":"@ A 192.0.2.1"}}`)},
		{Kind: spec.KindZone, Name: "example.net", JSON: []byte(`{"kind":"Zone"}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(r[spec.KindZone]["example.org"]), `{"kind":"Zone","spec":{"nameservers":["ns1.example.org"]}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := string(r[spec.KindZone]["example.net"]); got != `{"kind":"Zone"}` {
		t.Errorf("got %s", got)
	}
}

// TestCommandOf: a rule sees each field of a command that is there for it.
func TestCommandOf(t *testing.T) {
	var in Input
	in.Command.Of(core.Command{
		Verb: core.Drain, Scope: "cluster/fra", Reason: "INC-1", For: time.Hour, Paced: true, Now: true, LastResort: true, Force: true, DryRun: true, BreakGlass: true,
		Prune: true, Canary: []string{"d2"}, Folder: "d1",
	})
	octets, err := json.Marshal(in.Command)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"verb":"drain","scope":"cluster/fra","reason":"INC-1","forSeconds":3600,"paced":true,"now":true,"lastResort":true,"force":true,"dryRun":true,"breakGlass":true,"prune":true,"canary":["d2"],"folder":"d1"}`
	if string(octets) != want {
		t.Errorf("got %s, want %s", octets, want)
	}
}

// BenchmarkJudge judges a drain in a fleet of a thousand services by the shipped bundle.
func BenchmarkJudge(b *testing.B) {
	bundle, _ := ReadDir(shipped)
	p, problems := Compile(bundle, "")
	if len(problems) > 0 {
		b.Fatal(problems)
	}
	for _, services := range []int{3, 1000} {
		in := Input{Command: Command{Verb: "apply"}, Spec: Specs{Before: large(services)}}
		in.Spec.After = in.Spec.Before
		octets, err := in.JSON()
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("services=%d", services), func(b *testing.B) {
			b.ReportMetric(float64(len(octets)), "octets")
			for b.Loop() {
				if v := p.judge(b.Context(), Admission, octets, time.Minute); !v.Allowed() {
					b.Fatal(v)
				}
			}
		})
	}
}

func large(services int) Resources {
	out := Resources{"GlobalService": {}, "Cluster": {}}
	for i := range 3 {
		out["Cluster"][fmt.Sprintf("c%d", i)] = []byte(`{"metadata":{"labels":{"jurisdiction":"eu"}}}`)
	}
	for i := range services {
		out["GlobalService"][fmt.Sprintf("s%d", i)] = fmt.Appendf(nil, `{"apiVersion":"divert.dev/v1alpha1","kind":"GlobalService","metadata":{"name":"s%d","labels":{"residency":"eu"}},"spec":{"hosts":["s%d.example.org"],"siteNames":true,
			"endpoints":[{"cluster":"c0","addresses":["192.0.2.1"]},{"cluster":"c1","addresses":["192.0.2.2"]},{"cluster":"c2","addresses":["192.0.2.3"]}],
			"probes":[{"http":{"port":80,"path":"/healthz"},"interval":"1s","timeout":"1s"}],"steering":{"policy":"failover","order":["c0","c1","c2"]}}}`, i, i)
	}
	return out
}

// BenchmarkCompile compiles the shipped bundle, its tests left out, as a director does.
func BenchmarkCompile(b *testing.B) {
	bundle, _ := ReadDir(shipped)
	read, err := Decode(bundle.Encode())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, problems := Compile(read, ""); len(problems) > 0 {
			b.Fatal(problems)
		}
	}
}
