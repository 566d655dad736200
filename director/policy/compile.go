package policy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	_ "time/tzdata" // rules name zones, and a container of one binary has no table of them

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// Point is where a policy is asked.
type Point string

// The points.
const (
	Admission Point = "admission" // a spec that is applied, reverted or rolled out
	Drain     Point = "drain"     // a drain, and its end
)

// Points lists them.
func Points() []Point { return []Point{Admission, Drain} }

// rule is the set of denials that a bundle defines for a point.
func (p Point) rule() string { return "data.divert." + string(p) + ".deny" }

// Policy is a compiled bundle. Judge may be called by many at once.
type Policy struct {
	hash     plan.Hash
	files    int
	compiler *ast.Compiler
	store    storage.Store
	asked    map[Point]rego.PreparedEvalQuery
}

// Hash is that of the bundle.
func (p *Policy) Hash() plan.Hash { return p.hash }

// Files is how many of the bundle's files directors evaluate.
func (p *Policy) Files() int { return p.files }

const (
	// maxNesting is far above what people write: the compiler goes down a level of the
	// machine's stack for each.
	maxNesting  = 250
	maxProblems = 50
)

// Compile compiles a bundle, its tests too where it has them. All that is wrong is said at
// once, by file and line; dir, which may be "", stands before the files' names. Neither
// Policy nor problems is nil.
func Compile(b Bundle, dir string) (p *Policy, problems []spec.Problem) {
	defer func() {
		if r := recover(); r != nil { // of a compiler that others wrote: a command is refused, and no director ends
			p, problems = nil, []spec.Problem{{File: dir, Message: fmt.Sprintf("the compiler of OPA gave up: %v", r), Remedy: "leave out what was last added, and report it"}}
		}
	}()
	p = &Policy{hash: b.Hash(), files: len(b.rules()), asked: map[Point]rego.PreparedEvalQuery{}}
	modules, data, problems := parse(b, dir)
	if len(problems) > 0 {
		return nil, problems
	}
	p.compiler = ast.NewCompiler().WithCapabilities(capabilities()).WithDefaultRegoVersion(ast.RegoV1)
	if p.compiler.Compile(modules); p.compiler.Failed() {
		return nil, told(p.compiler.Errors)
	}
	p.store = inmem.NewFromObjectWithOpts(data, inmem.OptRoundTripOnWrite(false))
	for _, at := range Points() {
		if len(p.compiler.GetRulesExact(ast.MustParseRef(at.rule()))) == 0 {
			problems = append(problems, spec.Problem{
				File: dir, Message: "there is no rule " + at.rule(),
				Remedy: fmt.Sprintf("a policy says at each point what it denies; to deny nothing there, write: package divert.%s, and: deny contains {\"msg\": \"\"} if false", at),
			})
			continue
		}
		q, err := p.prepare(at.rule())
		if err != nil {
			return nil, failures(err, dir)
		}
		p.asked[at] = q
	}
	if len(problems) > 0 {
		return nil, problems
	}
	if len(p.compiler.GetRulesExact(ast.MustParseRef(setsRule))) > 0 { // it may say nothing of it
		q, err := p.prepare(setsRule)
		if err != nil {
			return nil, failures(err, dir)
		}
		p.asked[Residency] = q
	}
	return p, nil
}

// prepare makes a query that can be asked many times.
func (p *Policy) prepare(query string) (rego.PreparedEvalQuery, error) {
	return rego.New(
		rego.Query(query), rego.Compiler(p.compiler), rego.Store(p.store), rego.Capabilities(capabilities()),
		rego.SetRegoVersion(ast.RegoV1), rego.StrictBuiltinErrors(true),
		// A set must be told from a list, which JSON does not.
		rego.GenerateJSON(func(t *ast.Term, _ *rego.EvalContext) (any, error) { return t.Value, nil }),
	).PrepareForEval(context.Background())
}

// parse reads the files of a bundle.
func parse(b Bundle, dir string) (modules map[string]*ast.Module, data map[string]any, problems []spec.Problem) {
	modules, data = map[string]*ast.Module{}, map[string]any{}
	options := ast.ParserOptions{Capabilities: capabilities(), RegoVersion: ast.RegoV1}
	for _, f := range b.Files {
		name := filepath.Join(dir, filepath.FromSlash(f.Path))
		if f.Path == dataFile {
			if err := util.UnmarshalJSON(f.Text, &data); err != nil || data == nil {
				problems = append(problems, spec.Problem{File: name, Message: "is no JSON object: " + why(err)})
			} else if _, taken := data["divert"]; taken {
				problems = append(problems, spec.Problem{File: name, Message: "has the key divert, below which the rules are", Remedy: "give it another name"})
			}
			continue
		}
		if _, _, errs := ast.NewParser().WithFilename(name).WithReader(strings.NewReader(string(f.Text))).WithMaxRecursionDepth(maxNesting).
			WithProcessAnnotation(false).WithCapabilities(options.Capabilities).WithRegoVersion(ast.RegoV1).Parse(); len(errs) > 0 {
			problems = append(problems, told(errs)...)
			continue
		}
		m, err := ast.ParseModuleWithOpts(name, string(f.Text), options)
		switch {
		case err != nil:
			problems = append(problems, failures(err, name)...)
		case m == nil:
			problems = append(problems, spec.Problem{File: name, Message: "is empty", Remedy: "begin it with package divert.drain, or remove it"})
		default:
			problems = append(problems, reaching(m)...)
			modules[name] = m
		}
	}
	return modules, data, problems[:min(len(problems), maxProblems)]
}

func why(err error) string {
	if err == nil {
		return "it is null"
	}
	return err.Error()
}

// reaching finds each call of a builtin that a bundle may not use. The compiler would say
// it of most, of one at a time; calls of print it would leave out in silence.
func reaching(m *ast.Module) (problems []spec.Problem) {
	found := func(name string, at *ast.Location) {
		if forbidden(name) {
			text, remedy := explained("undefined function " + name)
			problems = append(problems, spec.Problem{File: at.File, Line: at.Row, Message: text, Remedy: remedy})
		}
	}
	ast.WalkExprs(m, func(e *ast.Expr) bool {
		if e.IsCall() {
			found(e.Operator().String(), e.Location)
		}
		for _, w := range e.With { // as a target, or in the place of another
			found(w.Target.String(), w.Location)
			found(w.Value.String(), w.Location)
		}
		return false
	})
	ast.WalkTerms(m, func(t *ast.Term) bool {
		if call, ok := t.Value.(ast.Call); ok && len(call) > 0 {
			found(call[0].String(), t.Location)
		}
		return false
	})
	return problems
}

// failures makes problems of an error of OPA's.
func failures(err error, file string) []spec.Problem {
	var many ast.Errors
	var regos rego.Errors
	switch {
	case errors.As(err, &many):
		return told(many)
	case errors.As(err, &regos):
		var out []spec.Problem
		for _, e := range regos {
			out = append(out, failures(e, file)...)
		}
		return out
	}
	return []spec.Problem{{File: file, Message: err.Error()}}
}

// told makes problems of OPA's errors, ordered by place.
func told(errs ast.Errors) []spec.Problem {
	seen := map[spec.Problem]bool{}
	for _, e := range errs {
		p := spec.Problem{}
		p.Message, p.Remedy = explained(e.Message)
		if e.Location != nil {
			p.File, p.Line = e.Location.File, e.Location.Row
		}
		seen[p] = true
	}
	out := slices.SortedFunc(maps.Keys(seen), func(a, b spec.Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Message, b.Message))
	})
	return out[:min(len(out), maxProblems)]
}
