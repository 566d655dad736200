package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/policy"
)

func (a *app) policyCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "policy", GroupID: groupChange,
		Short: "Try, adopt and drop the rules that people's commands are judged by",
		Long: `A policy is a folder of rules in Rego (*.rego) with their data.json. deploy/opa is
one to copy and change: freeze windows, who may drain what, minimum sites,
residency by label.

It says what is denied at two points: data.divert.admission.deny of a spec that
is applied, reverted or rolled out, and data.divert.drain.deny of a drain and its
end. Each is a set of {"msg": …, "remedy": …}. And it may say of a spec, at
data.divert.residency.sets, which clusters alone serve which clients: the plan
holds that, directors answer by it, and nothing passes it. Rules have no network,
clock, random or host: the time is input.now.`,
		Example: `  divert policy test deploy/opa
  divert policy eval deploy/opa --input deploy/opa/examples/drain.json
  divert policy adopt deploy/opa --reason "who may drain what"
  divert policy status`,
	}
	return group(c, a.policyTestCommand(), a.policyEvalCommand(), a.policyAdoptCommand(), a.policyStatusCommand(), a.policyDropCommand())
}

// compiled reads a bundle, or says all that is wrong with it.
func compiled(dir string) (policy.Bundle, *policy.Policy, error) {
	b, problems := policy.ReadDir(dir)
	if len(problems) == 0 {
		var p *policy.Policy
		if p, problems = policy.Compile(b, dir); len(problems) == 0 {
			return b, p, nil
		}
	}
	return b, nil, &exit{
		code: exitRefused, err: fmt.Errorf("%s in the policy", count(len(problems), "error")), problems: problems,
	}
}

// testJSON is a test as JSON shows it.
type testJSON struct {
	Name    string  `json:"name"`
	File    string  `json:"file"`
	Line    int     `json:"line"`
	Result  string  `json:"result"` // pass, fail, error, skipped
	Problem string  `json:"problem,omitempty"`
	Took    float64 `json:"tookSeconds"`
}

func (a *app) policyTestCommand() *cobra.Command {
	return &cobra.Command{
		Use: "test DIR", Short: "Run a policy's own tests",
		Long: `Read a policy, compile it as a director would, and run its tests: the rules
test_… in its files *_test.rego, each of which passes that is true. Nobody is
asked; a policy that uses what it may not, or lacks one of the two points, is
refused with file and line.

Exit codes: 0 all pass; 1 a test fails, or the policy has errors; 2 usage.`,
		Example: `  divert policy test deploy/opa
  divert policy test deploy/opa -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			b, p, err := compiled(args[0])
			if err != nil {
				return err
			}
			results := p.Test(c.Context())
			if a.json() {
				err = a.printJSON(map[string]any{"hash": b.Hash().String(), "files": p.Files(), "tests": testsJSON(results)})
			} else {
				a.tests(b, results)
			}
			if err == nil && !passed(results) {
				err = &exit{code: exitRefused}
			}
			return err
		},
	}
}

func passed(results []policy.Result) bool {
	for _, r := range results {
		if !r.Passed && !r.Skipped {
			return false
		}
	}
	return true
}

func outcome(r policy.Result) string {
	switch {
	case r.Skipped:
		return "skipped"
	case r.Problem != "":
		return "error"
	case r.Passed:
		return "pass"
	default:
		return "fail"
	}
}

func testsJSON(results []policy.Result) []testJSON {
	out := make([]testJSON, 0, len(results))
	for _, r := range results {
		out = append(out, testJSON{Name: r.Name, File: r.File, Line: r.Line, Result: outcome(r), Problem: r.Problem, Took: r.Took.Seconds()})
	}
	return out
}

// tests prints what does not pass, and the sums, as `opa test` does.
func (a *app) tests(b policy.Bundle, results []policy.Result) {
	p := &page{width: a.width(), colour: a.colour}
	sums, told := map[string]int{}, false
	for _, r := range results {
		what := outcome(r)
		sums[what]++
		if what == "pass" {
			continue
		}
		told = true
		style := bad
		if r.Skipped {
			style = dim
		}
		p.line(fmt.Sprintf("%s:%d: %s: %s (%s)", clean(r.File), r.Line, clean(r.Name), p.paint(style, strings.ToUpper(what)), r.Took.Round(time.Microsecond)))
		if r.Problem != "" {
			p.line("  " + clean(r.Problem))
		}
	}
	if told {
		p.line(strings.Repeat("-", 80))
	}
	for _, what := range []string{"pass", "fail", "error", "skipped"} {
		if n := sums[what]; n > 0 || what == "pass" {
			p.line(fmt.Sprintf("%s: %d/%d", strings.ToUpper(what), n, len(results)))
		}
	}
	if len(results) == 0 {
		p.line("it has no tests: write rules test_… in files *_test.rego")
	}
	p.line(fmt.Sprintf("policy %s, %s", b.Hash().Short(), count(len(b.Files), "file")))
	fmt.Fprint(a.out, p.b.String())
}

// verdictJSON is a verdict as JSON shows it.
type verdictJSON struct {
	Point   policy.Point    `json:"point"`
	Allowed bool            `json:"allowed"`
	Denied  []policy.Denial `json:"denied"`
	Problem string          `json:"problem,omitempty"` // why no answer could be had, which denies
	Hash    string          `json:"hash"`
	Took    float64         `json:"tookSeconds"`
	// Residency is what it says of the spec that the command leaves, one line a set.
	Residency        []string `json:"residency,omitempty"`
	ResidencyProblem string   `json:"residencyProblem,omitempty"` // why it says none, which denies
}

func (v *verdictJSON) allowed() bool { return v.Allowed && v.ResidencyProblem == "" }

func (a *app) policyEvalCommand() *cobra.Command {
	var file, point string
	c := &cobra.Command{
		Use: "eval DIR --input FILE", Short: "Ask a policy about one command",
		Long: fmt.Sprintf(`Ask a policy what a director would ask it: the input is a file of JSON, as in
deploy/opa/examples, - for standard input, and director/policy/DESIGN.md says
what it holds. Its command.verb says at which point it is asked, unless --point
does. As in a director, it has %s, and one that errs or is late denies.

Where the input has a spec after the command, and with --point residency, it also
shows which clusters alone would serve which clients by the policy.

Exit codes: 0 allowed; 1 denied, or the policy has errors; 2 usage.`, policy.Deadline),
		Example: `  divert policy eval deploy/opa --input deploy/opa/examples/drain.json
  divert policy eval deploy/opa --input apply.json -o json`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&file, "input", "", "`FILE` of the input")
	c.Flags().StringVar(&point, "point", "", "`POINT` to ask at: admission, drain or residency (default: by the verb)")
	must(c.MarkFlagRequired("input"))
	c.RunE = func(c *cobra.Command, args []string) error {
		b, p, err := compiled(args[0])
		if err != nil {
			return err
		}
		input, err := a.input(file)
		if err != nil {
			return err
		}
		at, err := pointOf(point, input)
		if err != nil {
			return err
		}
		var v policy.Verdict
		if at != policy.Residency {
			v = p.Judge(c.Context(), at, input)
		}
		out := verdictJSON{Point: at, Allowed: v.Allowed(), Denied: v.Denied, Problem: v.Problem, Hash: b.Hash().String(), Took: v.Took.Seconds()}
		if out.Denied == nil {
			out.Denied = []policy.Denial{}
		}
		if at != policy.Drain {
			if err := out.reside(c.Context(), p, input); err != nil {
				return err
			}
		}
		if a.json() {
			err = a.printJSON(out)
		} else {
			a.verdict(v, &out)
		}
		if err == nil && !out.allowed() {
			err = &exit{code: exitRefused}
		}
		return err
	}
	return c
}

// reside asks of the residency of the spec that an input leaves.
func (v *verdictJSON) reside(ctx context.Context, p *policy.Policy, input []byte) error {
	of, err := policy.SpecOf(input)
	if err != nil || of == nil && v.Point != policy.Residency {
		return err
	}
	said, verdict := p.Reside(ctx, of)
	v.ResidencyProblem = verdict.Problem
	for _, s := range said.GetSets() {
		v.Residency = append(v.Residency, policy.SetText(s))
	}
	v.Took += verdict.Took.Seconds()
	return nil
}

func (a *app) verdict(v policy.Verdict, out *verdictJSON) {
	p := &page{width: a.width(), colour: a.colour}
	for _, d := range v.Denied {
		p.line(p.paint(bad, "denied: ") + clean(d.Msg))
		if d.Remedy != "" {
			p.line("        " + clean(d.Remedy))
		}
	}
	if v.Problem != "" {
		p.line(p.paint(bad, "denied: ") + clean(v.Problem))
	}
	if out.ResidencyProblem != "" {
		p.line(p.paint(bad, "denied: ") + "residency: " + clean(out.ResidencyProblem))
	}
	for _, text := range out.Residency {
		p.line("residency of " + clean(text))
	}
	switch {
	case out.Point == policy.Residency && out.allowed() && len(out.Residency) == 0:
		p.line("the policy says nothing of residency for this spec")
	case out.Point != policy.Residency && out.allowed():
		p.line(p.paint(good, "allowed") + ", in " + v.Took.Round(time.Microsecond).String())
	}
	fmt.Fprint(a.out, p.b.String())
}

// input reads the input of an evaluation.
func (a *app) input(file string) ([]byte, error) {
	var from io.Reader = a.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		from = f
	}
	input, err := io.ReadAll(io.LimitReader(from, policy.MaxInput+1))
	if err != nil {
		return nil, fmt.Errorf("reading the input: %w", err)
	}
	return input, nil
}

// pointOf finds out at which point an input is judged.
func pointOf(point string, input []byte) (policy.Point, error) {
	switch at := policy.Point(point); at {
	case policy.Admission, policy.Drain, policy.Residency:
		return at, nil
	case "":
	default:
		return "", usage("--point %q is neither admission nor drain nor residency", point)
	}
	verb, err := policy.VerbOf(input)
	if err != nil {
		return "", err
	}
	if at := policy.PointOf(core.Verb(verb)); at != "" {
		return at, nil
	}
	return "", &exit{
		code: exitRefused, err: fmt.Errorf("the input's command.verb is %q, of which no policy is asked", verb),
		remedy: "give --point admission or --point drain, or one of drain, undrain, apply, revert, rollout-go-on",
	}
}
