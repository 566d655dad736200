package director

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/policy"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/store"
)

// admit refuses a bundle that cannot be used, before a plan names it.
func (p *policies) admit(cmd core.Command) (*policy.Policy, error) {
	sum := plan.Sum(cmd.Bundle)
	if h := p.adopted(sum[:]); h != nil {
		return h.policy, nil // just now
	}
	begun := time.Now()
	adopted, problem := p.compile(cmd.Bundle)
	if problem != "" {
		return nil, &core.Refusal{Reason: "this policy cannot be used: " + problem, Remedy: "`divert policy test DIR` says so with file and line"}
	}
	if took := time.Since(begun); took > compileLimit {
		return nil, &core.Refusal{
			Reason: fmt.Sprintf("this policy takes %s to compile, longer than the %s that each director may be kept busy by it", spec.FormatDuration(took.Round(time.Millisecond)), spec.FormatDuration(compileLimit)),
			Remedy: "shorten its rules; put what is data into data.json",
		}
	}
	h := hold(cmd.Bundle)
	h.done(adopted, "")
	p.mu.Lock()
	p.asked = h
	p.mu.Unlock()
	return adopted, nil
}

// foresee says what a policy would deny that changes nothing, as one that errs, is late on a
// spec as large as this one's, or freezes everything now: better known when it is adopted
// than in an incident. Late are those that say that it did not answer in time.
func (p *policies) foresee(ctx context.Context, adopted *policy.Policy, j judged) (warnings, late []string) {
	if j.change.Noop && !j.cmd.DryRun {
		return nil, nil
	}
	for _, verb := range []core.Verb{core.Apply, core.Drain} {
		asked := judged{base: j.base, state: j.state, cmd: core.Command{Verb: verb, Author: j.cmd.Author, Label: j.cmd.Label, By: j.cmd.By, Reason: j.cmd.Reason, DryRun: true}}
		name := "a drain"
		if verb == core.Apply {
			name, asked.change.After = "an apply", j.base.doc
		}
		input, err := p.input(asked)
		if err != nil {
			return append(warnings, err.Error()), late
		}
		v := adopted.Judge(ctx, policy.PointOf(verb), input)
		if v.Allowed() {
			continue
		}
		text := fmt.Sprintf("asked of %s that changes nothing it says: %s", name, strings.Join(sayings(v), "; "))
		warnings = append(warnings, text)
		if v.Late {
			late = append(late, text)
		}
	}
	return warnings, late
}

// tried has a policy that is adopted judge what changes nothing. One that is late even then
// would deny everything: it is not adopted, or forced.
func (p *policies) tried(ctx context.Context, adopted *policy.Policy, j judged) (core.Change, error) {
	warnings, late := p.foresee(ctx, adopted, j)
	j.change.Preview.Warnings = append(j.change.Preview.Warnings, warnings...)
	switch {
	case len(late) == 0:
	case !j.cmd.Force:
		return core.Change{}, &core.Refusal{
			Reason: "this policy is too slow for this fleet, and would deny what it is late for: " + strings.Join(late, "; "),
			Remedy: "`divert policy eval DIR --input FILE` shows how long it takes; shorten its rules, or repeat it with --force, which is recorded", Force: true,
		}
	case j.change.Audit != nil:
		j.change.Audit.Forced = true
		j.change.Audit.What += "; forced, though it is too slow: " + strings.Join(late, "; ")
	}
	return j.change, nil
}

// requested gives the command that is carried out where somebody approves a request, with the
// blob that the request names, which is the policy that it would adopt or what it applies; any
// other as it is.
func (p *policies) requested(ctx context.Context, of *plan.Plan, cmd core.Command) (core.Command, error) {
	wish := core.Wish(of, cmd)
	ref := of.Request(cmd.Scope).GetBundle()
	if cmd.Verb != core.Approve || ref == nil {
		return wish, nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	most, what := uint64(core.MaxBundle), "the policy"
	if wish.Verb == core.Apply {
		most, what = core.MaxWishes, "the spec"
	}
	octets, err := p.blob(ctx, ref, most)
	switch {
	case err != nil && (errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil):
		return wish, unavailable(err)
	case err != nil:
		return wish, &core.Refusal{Reason: what + " that was asked for cannot be had: " + err.Error(), Remedy: "have it said anew, without --id"}
	}
	wish.Bundle = octets
	return wish, nil
}

// read gives a bundle from the store.
func (p *policies) read(ctx context.Context, ref *plan.SpecRef) ([]byte, error) {
	return p.blob(ctx, ref, core.MaxBundle)
}

func (p *policies) blob(ctx context.Context, ref *plan.SpecRef, most uint64) ([]byte, error) {
	if ref.GetSize() > most {
		return nil, fmt.Errorf("its bundle has %d octets, at most %d", ref.GetSize(), most)
	}
	chunks, err := p.store.Chunks(ctx, ref.GetChunks())
	if err != nil {
		return nil, err
	}
	octets, err := store.Join(ref, chunks)
	if missing := (*store.Missing)(nil); errors.As(err, &missing) {
		return nil, errors.New("its bundle is gone from the store, and this director has none")
	}
	return octets, err
}
