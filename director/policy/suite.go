package policy

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// testDeadline is how long one test may take: a machine that builds is slower than a
// director, and a rule's own deadline is not what is tested.
const testDeadline = 5 * time.Second

// Result is what became of one test: a rule test_… in a file *_test.rego.
type Result struct {
	Name    string // data.divert.drain_test.test_freeze
	File    string
	Line    int
	Passed  bool
	Skipped bool   // its name begins with todo_
	Problem string // why it could not be evaluated
	Took    time.Duration
}

// Test runs the tests of a compiled bundle, ordered by file and line, until ctx ends. As
// with `opa test`, one passes that is true.
func (p *Policy) Test(ctx context.Context) []Result {
	var out []Result
	seen := map[string]bool{}
	for file, m := range p.compiler.Modules {
		if !strings.HasSuffix(file, testSuffix) {
			continue
		}
		for _, r := range m.Rules {
			name := r.Head.Ref().String()
			full := m.Package.Path.String() + "." + name
			skip := strings.HasPrefix(name, "todo_test_")
			if !skip && !strings.HasPrefix(name, "test_") || len(r.Head.Args) > 0 || seen[full] {
				continue
			}
			seen[full] = true
			out = append(out, Result{Name: full, File: file, Line: r.Location.Row, Skipped: skip})
		}
	}
	slices.SortFunc(out, func(a, b Result) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Name, b.Name))
	})
	for i := range out {
		if !out[i].Skipped {
			p.test(ctx, &out[i])
		}
	}
	return out
}

// test evaluates one test.
func (p *Policy) test(ctx context.Context, r *Result) {
	begun := time.Now()
	defer func() {
		if e := recover(); e != nil {
			r.Passed, r.Problem = false, fmt.Sprint(e)
		}
		r.Took = time.Since(begun)
	}()
	q, err := p.prepare(r.Name)
	if err != nil {
		r.Problem = err.Error()
		return
	}
	ctx, cancel := context.WithTimeout(ctx, testDeadline)
	defer cancel()
	results, err := q.Eval(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		r.Problem = fmt.Sprintf("it took longer than %s", testDeadline)
	case err != nil:
		r.Problem = placed(err)
	case len(results) == 1 && len(results[0].Expressions) == 1:
		v, ok := results[0].Expressions[0].Value.(ast.Boolean)
		r.Passed = ok && bool(v)
	}
}
