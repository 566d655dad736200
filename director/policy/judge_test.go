package policy

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// TestForbidden: each builtin of OPA that is not on the list is refused when a bundle is
// read, with the place, however it is called; each that is may be used. Those that reach
// outside are named, so that a list which grew by mistake is found.
func TestForbidden(t *testing.T) {
	may := map[string]bool{}
	for _, name := range allowed() {
		may[name] = true
	}
	for _, name := range []string{
		"http.send", "net.lookup_ip_addr", "net.cidr_contains", "time.now_ns", "rand.intn", "uuid.rfc4122", "opa.runtime", "print", "trace",
		"rego.parse_module", "json.match_schema", "json.verify_schema", "io.jwt.encode_sign", "crypto.x509.parse_certificates",
		"providers.aws.sign_req", "strings.render_template", "bits.lsh", "regex.globs_match",
	} {
		if may[name] {
			t.Errorf("%s is on the list", name)
		}
	}
	tried := 0
	for _, b := range ast.Builtins {
		if may[b.Name] || strings.HasPrefix(b.Name, "internal.") && b.Name != "internal.print" {
			continue
		}
		tried++
		args := make([]string, len(b.Decl.NamedFuncArgs().Args))
		for i := range args {
			args[i] = "input.x"
		}
		call := fmt.Sprintf("%s(%s)", b.Name, strings.Join(args, ", "))
		for _, rule := range []string{
			"deny contains \"x\" if {\n\t" + call + "\n}\n",
			"deny contains x if {\n\tx := " + call + "\n}\n",
			"deny contains \"x\" if {\n\tcount([y | y := " + call + "]) > 0\n}\n",
		} {
			if b.Relation {
				continue
			}
			_, problems := Compile(bundleOf(both(rule)), "")
			if len(problems) == 0 {
				t.Errorf("%s may be used:\n%s", b.Name, rule)
			} else if p := problems[0]; p.File != "drain.rego" || p.Line != 3 || p.Remedy == "" || !strings.HasPrefix(p.Message, b.Name+" may not be used") {
				t.Errorf("%s: %+v", b.Name, p)
			}
		}
	}
	if tried < 50 {
		t.Errorf("%d builtins tried only", tried)
	}
	rule := "deny contains \"x\" if count(input.a) > 0 with count as http.send\n"
	if _, problems := Compile(bundleOf(both(rule)), ""); len(problems) == 0 || problems[0].Line != 2 || !strings.HasPrefix(problems[0].Message, "http.send may not be used") {
		t.Errorf("in the place of another: %v", problems)
	}
}

// TestAllowedExist: a name on the list that OPA does not have would be a mistake.
func TestAllowedExist(t *testing.T) {
	has := map[string]bool{}
	for _, b := range ast.Builtins {
		has[b.Name] = true
	}
	for _, name := range allowed() {
		if !has[name] {
			t.Errorf("OPA has no %s", name)
		}
	}
	if got, want := len(capabilities().Builtins), len(allowed()); got != want {
		t.Errorf("%d builtins, want %d", got, want)
	}
}

func bundleOf(files map[string]string) Bundle {
	var b Bundle
	for _, name := range []string{"admission.rego", "data.json", "drain.rego"} {
		if text, ok := files[name]; ok {
			b.Files = append(b.Files, File{Path: name, Text: []byte(text)})
		}
	}
	return b
}

func TestVerdicts(t *testing.T) {
	for _, tc := range []struct {
		name, rule string
		input      string
		denied     string
		problem    string
	}{
		{name: "nothing", rule: `deny contains "no" if input.x > 1`, input: `{"x": 1}`},
		{name: "a text", rule: `deny contains "no" if input.x > 1`, input: `{"x": 2}`, denied: "no"},
		{name: "with a remedy", rule: `deny contains {"msg": "no", "remedy": "wait"} if true`, input: `{}`, denied: "no (wait)"},
		{name: "ordered", rule: "deny contains \"b\" if true\ndeny contains \"a\" if true", input: `{}`, denied: "a; b"},
		{name: "many", rule: `deny contains sprintf("%02d", [i]) if some i in numbers.range(1, 18)`, input: `{}`, denied: "01; 02; 03; 04; 05; 06; 07; 08; 09; 10; 11; 12; 13; 14; 15; 16; and 2 more"},
		{name: "control characters", rule: `deny contains "a\u001b[31m\nb" if true`, input: `{}`, denied: "a [31m b"},
		{name: "a boolean", rule: `deny := true`, input: `{}`, problem: "is boolean true, and not a set"},
		{name: "false, too", rule: `deny := false`, input: `{}`, problem: "is boolean false, and not a set"},
		{name: "a list", rule: `deny := []`, input: `{}`, problem: "is array [], and not a set"},
		{name: "undefined", rule: `deny := {"x"} if input.x`, input: `{}`, problem: "the policy says nothing: data.divert.drain.deny is undefined"},
		{name: "a number in it", rule: `deny contains 7 if true`, input: `{}`, problem: "holds 7, and not"},
		{name: "no msg", rule: `deny contains {"remedy": "x"} if true`, input: `{}`, problem: "and not {\"msg\", \"remedy\"}"},
		{name: "an empty text", rule: `deny contains "" if true`, input: `{}`, problem: "and not {\"msg\", \"remedy\"}"},
		{name: "an error", rule: "deny contains \"x\" if {\n\ttime.parse_rfc3339_ns(input.at) > 1\n}", input: `{"at": "noon"}`, problem: "drain.rego:3: time.parse_rfc3339_ns: "},
		{name: "an error under not", rule: `deny contains "x" if not time.parse_rfc3339_ns(input.at) > 1`, input: `{"at": "noon"}`, problem: "time.parse_rfc3339_ns: "},
		{name: "division by zero", rule: `deny contains "x" if 1 / input.x > 2`, input: `{"x": 0}`, problem: "divide by zero"},
		{name: "two values", rule: "x := 1 if input.a\nx := 2 if input.b\ndeny contains \"x\" if x > 3", input: `{"a": true, "b": true}`, problem: "drain.rego:3: rule data.divert.drain.x produced conflicting values"},
		{name: "no JSON", rule: `deny contains "no" if false`, input: `{`, problem: "no JSON"},
		{name: "too large", rule: `deny contains "no" if false`, input: `{"a": "` + strings.Repeat("x", MaxInput) + `"}`, problem: "at most 4194304"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, problems := Compile(bundleOf(both(tc.rule+"\n")), "")
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			v := p.Judge(t.Context(), Drain, []byte(tc.input))
			var got []string
			for _, d := range v.Denied {
				got = append(got, d.String())
			}
			if strings.Join(got, "; ") != tc.denied || (tc.problem == "") != (v.Problem == "") || !strings.Contains(v.Problem, tc.problem) || v.Late {
				t.Errorf("got %+v, want %q, %q", v, tc.denied, tc.problem)
			}
			if v.Allowed() != (tc.denied == "" && tc.problem == "") {
				t.Errorf("allowed: %t", v.Allowed())
			}
		})
	}
}

// endless is a rule that no machine comes to the end of.
const endless = `deny contains "never" if {
	some a in numbers.range(1, 100000)
	some b in numbers.range(1, 100000)
	some c in numbers.range(1, 100000)
	a + b + c == -1
}
`

// TestDeadline: a rule that does not end is stopped, and denies, and says so.
func TestDeadline(t *testing.T) {
	p, problems := Compile(bundleOf(both(endless)), "")
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	v := p.Judge(t.Context(), Drain, []byte(`{}`))
	if v.Allowed() || !v.Late || v.Problem != "the policy did not answer within 200ms" {
		t.Errorf("got %+v", v)
	}
	if v.Took < Deadline {
		t.Errorf("it gave up after %s", v.Took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if v := p.Judge(ctx, Drain, []byte(`{}`)); v.Allowed() || v.Late {
		t.Errorf("whose asker is gone: %+v", v)
	}
	// It can be asked again, and the other point is as ever.
	if v := p.Judge(t.Context(), Admission, []byte(`{}`)); !v.Allowed() {
		t.Errorf("got %+v", v)
	}
	if v := p.Judge(t.Context(), "elsewhere", []byte(`{}`)); v.Allowed() {
		t.Errorf("got %+v", v)
	}
}

// TestManyAtOnce: a compiled policy is asked by many at once (with -race).
func TestManyAtOnce(t *testing.T) {
	p, _ := Compile(bundleOf(both(`deny contains sprintf("no %d", [input.x]) if input.x % 2 == 1`+"\n")), "")
	t.Run("group", func(t *testing.T) {
		for i := range 8 {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				v := p.judge(t.Context(), Drain, fmt.Appendf(nil, `{"x": %d}`, i), testDeadline)
				if v.Problem != "" || v.Allowed() != (i%2 == 0) || !v.Allowed() && v.Denied[0].Msg != fmt.Sprintf("no %d", i) {
					t.Errorf("got %+v", v)
				}
			})
		}
	})
}
