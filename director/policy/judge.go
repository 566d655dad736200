package policy

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"
)

const (
	// Deadline is how long one judgement may take.
	Deadline = 200 * time.Millisecond
	// MaxInput is the largest input that is judged, in octets of JSON.
	MaxInput = 4 << 20

	maxDenials = 16
	maxText    = 400 // octets of a msg and of a remedy
)

// Denial is one reason of a policy's "no".
type Denial struct {
	Msg    string `json:"msg"`
	Remedy string `json:"remedy,omitempty"`
}

func (d Denial) String() string {
	if d.Remedy == "" {
		return d.Msg
	}
	return d.Msg + " (" + d.Remedy + ")"
}

// Verdict is what a policy says of one input. It allows what it has no denial of, and only
// where it could be asked.
type Verdict struct {
	Denied []Denial // ordered by text
	// Problem is why no answer could be had: an error in a rule, the deadline, an input too
	// large, or an answer that is none. It denies.
	Problem string
	Late    bool // the problem is the deadline
	Took    time.Duration
}

// Allowed tells whether nothing is denied.
func (v Verdict) Allowed() bool { return v.Problem == "" && len(v.Denied) == 0 }

// Judge asks a policy about an input, which is one JSON object (see Input). It ends within
// Deadline, and soon when ctx does.
func (p *Policy) Judge(ctx context.Context, at Point, input []byte) Verdict {
	return p.judge(ctx, at, input, Deadline)
}

func (p *Policy) judge(ctx context.Context, at Point, input []byte, deadline time.Duration) Verdict {
	return p.asking(ctx, at, input, deadline, func(answer any) Verdict { return read(at, answer) })
}

// asking evaluates a point, and has read make a verdict of what it came to.
func (p *Policy) asking(ctx context.Context, at Point, input []byte, deadline time.Duration, read func(answer any) Verdict) (v Verdict) {
	begun := time.Now()
	defer func() {
		if r := recover(); r != nil { // of an evaluator that others wrote: a command is refused, and no director ends
			v = Verdict{Problem: fmt.Sprintf("the policy could not be evaluated: %v", r)}
		}
		v.Took = time.Since(begun)
	}()
	q, ok := p.asked[at]
	if !ok {
		return Verdict{Problem: fmt.Sprintf("there is no point %q", at)}
	}
	if len(input) > MaxInput {
		return Verdict{Problem: fmt.Sprintf("what is to be judged has %d octets, and at most %d are", len(input), MaxInput)}
	}
	value, err := ast.ValueFromReader(bytes.NewReader(input))
	if err != nil {
		return Verdict{Problem: "the input is no JSON: " + err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	answer, problem := ask(ctx, q, value)
	if problem != "" {
		return Verdict{Problem: problem, Late: errors.Is(ctx.Err(), context.DeadlineExceeded)}
	}
	return read(answer)
}

// ask evaluates a query; nil, "" where it is undefined.
func ask(ctx context.Context, q rego.PreparedEvalQuery, input ast.Value) (answer any, problem string) {
	results, err := q.Eval(ctx, rego.EvalParsedInput(input))
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Sprintf("the policy did not answer within %s", Deadline)
	case err != nil:
		return nil, "the policy could not be evaluated: " + placed(err)
	case len(results) == 0:
		return nil, ""
	case len(results) > 1 || len(results[0].Expressions) != 1:
		return nil, "the policy has several answers"
	}
	return results[0].Expressions[0].Value, ""
}

// placed names an error's file and line.
func placed(err error) string {
	var e *topdown.Error
	if errors.As(err, &e) && e.Location != nil {
		return short(fmt.Sprintf("%s:%d: %s", e.Location.File, e.Location.Row, e.Message))
	}
	return short(err.Error())
}

// read makes a verdict of what a deny rule came to. What is no set of denials denies: who
// wrote `deny := true` meant something, and it is not known what.
func read(at Point, answer any) Verdict {
	set, ok := answer.(ast.Set)
	switch {
	case answer == nil:
		return Verdict{Problem: "the policy says nothing: " + at.rule() + " is undefined"}
	case !ok:
		return Verdict{Problem: fmt.Sprintf("the policy's answer is odd: %s is %s, and not a set of {\"msg\", \"remedy\"}", at.rule(), kindOf(answer))}
	}
	var v Verdict
	set.Foreach(func(t *ast.Term) {
		d, ok := denial(t.Value)
		if !ok && v.Problem == "" {
			v.Problem = fmt.Sprintf("the policy's answer is odd: %s holds %s, and not {\"msg\", \"remedy\"}", at.rule(), short(t.String()))
		}
		if ok {
			v.Denied = append(v.Denied, d)
		}
	})
	slices.SortFunc(v.Denied, func(a, b Denial) int { return cmp.Or(cmp.Compare(a.Msg, b.Msg), cmp.Compare(a.Remedy, b.Remedy)) })
	if more := len(v.Denied) - maxDenials; more > 0 {
		v.Denied = append(v.Denied[:maxDenials], Denial{Msg: fmt.Sprintf("and %d more", more)})
	}
	return v
}

// denial reads one member of the set: an object with a msg, or a bare text.
func denial(v ast.Value) (Denial, bool) {
	switch v := v.(type) {
	case ast.String:
		return Denial{Msg: short(string(v))}, v != ""
	case ast.Object:
		msg, remedy := v.Get(ast.StringTerm("msg")), v.Get(ast.StringTerm("remedy"))
		text, ok := stringOf(msg)
		if !ok || text == "" {
			return Denial{}, false
		}
		then, ok := stringOf(remedy)
		return Denial{Msg: short(text), Remedy: short(then)}, ok || remedy == nil
	default:
		return Denial{}, false
	}
}

func stringOf(t *ast.Term) (string, bool) {
	if t == nil {
		return "", false
	}
	s, ok := t.Value.(ast.String)
	return string(s), ok
}

func kindOf(answer any) string {
	if v, ok := answer.(ast.Value); ok {
		return ast.ValueName(v) + " " + short(v.String())
	}
	return fmt.Sprintf("%T", answer)
}

// short makes a text fit for one line of a terminal or a record.
func short(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "…"
}
