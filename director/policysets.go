package director

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/policy"
)

// both asks a policy of residency and then of the command, once it is decided and before it
// is written; decide decides it again, with what the policy says of residency.
func (p *policies) both(ctx context.Context, j judged, decide func(core.State) (core.Change, error)) (core.Change, error) {
	resided, problem, err := p.reside(ctx, j)
	switch {
	case err != nil:
		return core.Change{}, err
	case problem != "" && !j.cmd.BreakGlass:
		if _, err := p.judge(ctx, j); err != nil {
			return core.Change{}, err // what it denies says more
		}
		return core.Change{}, &core.Refusal{
			Reason: "the policy could not say where clients may be served (residency), which denies: " + problem,
			Remedy: "the sets of before stay in force; `divert policy eval DIR --input FILE --point residency` shows what is wrong, `divert policy adopt` puts another in its place",
		}
	case problem != "":
		resided = &core.Resided{Kept: true} // break-glass passes what a policy denies, and never S11
	}
	if problem != "" && j.cmd.Reason == "" {
		return core.Change{}, &core.Refusal{Reason: "break-glass needs a reason", Remedy: "give --reason, such as --reason INC-1"}
	}
	if resided != nil {
		j.state.Resided = resided
		change, err := decide(j.state)
		if err != nil {
			if _, denied := p.judge(ctx, j); denied != nil {
				err = denied
			}
			return core.Change{}, err
		}
		j.change = change
	}
	change, err := p.judge(ctx, j)
	if err != nil || problem == "" {
		return change, err
	}
	text := "residency by policy stays as it was: " + problem
	change.Preview.Warnings = append(change.Preview.Warnings, text)
	if change.Audit != nil {
		change.Audit.Policy, change.Audit.Passed = j.base.sealed.Plan.GetPolicy().GetBundle().GetHash(), append(change.Audit.Passed, text)
		change.Audit.What += "; by break-glass, " + text
	}
	return change, nil
}

// reside asks the policy that is in force after a command what it says of residency, where
// the command changes the spec or the policy; nil: there is nothing to be said. What all take
// of a rollout was asked for when some began with it.
func (p *policies) reside(ctx context.Context, j judged) (resided *core.Resided, problem string, err error) {
	now, soaking := j.base.sealed.Plan, j.base.tried()
	var asked *policy.Policy
	switch j.cmd.Verb {
	case core.PolicyAdopt:
		if j.change.Noop && !j.cmd.DryRun {
			return nil, "", nil
		}
		if asked, err = p.admit(j.cmd); err != nil { // once it is known that he may
			return nil, "", err
		}
	case core.Apply, core.Revert, core.Restore:
		if j.change.After == nil || now.GetPolicy() == nil {
			return nil, "", nil
		}
		if asked, problem = p.usable(ctx, now); problem != "" {
			return nil, problem, nil
		}
	default:
		return nil, "", nil
	}
	if !asked.Resides() && !now.GetResidencyKept() {
		return nil, "", nil
	}
	said := &core.Resided{}
	adopts := j.cmd.Verb == core.PolicyAdopt
	switch {
	case adopts:
		if said.Spec, problem = p.setsOf(ctx, asked, j.base.doc); problem == "" && soaking != nil {
			said.Trial, problem = p.setsOf(ctx, asked, soaking.doc)
		}
	case len(j.cmd.Canary) > 0:
		said.Trial, problem = p.setsOf(ctx, asked, j.change.After)
	default:
		said.Spec, problem = p.setsOf(ctx, asked, j.change.After)
	}
	if problem != "" && adopts {
		return nil, "", &core.Refusal{Reason: "this policy cannot say where clients may be served (residency): " + problem, Remedy: "`divert policy eval DIR --input FILE --point residency` shows what it says of a spec"}
	}
	if problem != "" {
		return nil, problem, nil
	}
	if said.Spec == nil && said.Trial == nil && (adopts || now.GetResidency() == nil && !now.GetResidencyKept()) {
		return nil, "", nil // as it was decided
	}
	return said, problem, nil
}

// setsOf asks a policy of one document.
func (p *policies) setsOf(ctx context.Context, asked *policy.Policy, doc *plan.SpecDoc) (*plan.Residency, string) {
	resources, err := policy.NewResources(core.Raws(doc))
	if err != nil {
		return nil, err.Error()
	}
	out, v := asked.Reside(ctx, resources)
	p.shown.resided(v)
	return out, v.Problem
}

// confirm holds the residency of a plan against what its policy says of its spec, where that
// is at hand here (S7, S11); nil: it is so, or nobody here can tell. Core holds it against
// the plan before where neither policy nor spec is another (base, which may be nil).
//
// A plan that says to have kept the sets that stood is taken with those of the base, though
// the policy says others by now: else a policy that was late once would stop the fleet
// (S12). Where revisions were missed, what stood is not known, and a director that has
// vouched for it tells. Examine alerts.
func (p *policies) confirm(ctx context.Context, base, next *inForce, vouched bool) error {
	if p == nil || next.sealed.Plan.GetPolicy() == nil {
		return nil
	}
	if base != nil && base.sealed.Identity.Epoch == next.sealed.Identity.Epoch && saysOf(base.sealed.Plan) == saysOf(next.sealed.Plan) {
		return nil
	}
	return p.compare(ctx, next, func(is *plan.Residency) bool {
		if base == nil || vouched {
			return true
		}
		was := base.sealed.Plan
		return proto.Equal(was.GetResidency(), is) || was.Soaking() != nil && proto.Equal(was.GetCanaryResidency(), is)
	})
}

// compare says whose sets are others than the policy says, apart from those that the plan
// says to have kept and that may be.
func (p *policies) compare(ctx context.Context, f *inForce, may func(kept *plan.Residency) bool) error {
	f = f.stable()
	of := f.sealed.Plan
	h := p.at(of)
	if h == nil {
		h = p.adopted(of.GetPolicy().GetBundle().GetHash())
	}
	if h == nil {
		return nil
	}
	asked, problem, read := h.get()
	if !read || problem != "" || !asked.Resides() && of.GetResidency() == nil && of.GetCanaryResidency() == nil {
		return nil
	}
	type side struct {
		doc  *plan.SpecDoc
		is   *plan.Residency
		kept bool
	}
	sides := []side{{f.doc, of.GetResidency(), of.GetResidencyKept()}}
	if t := f.tried(); t != nil {
		sides = append(sides, side{t.doc, of.GetCanaryResidency(), of.GetCanaryResidencyKept()})
	}
	for _, side := range sides {
		if side.kept && may(side.is) {
			continue
		}
		said, problem := p.setsOf(ctx, asked, side.doc)
		if problem != "" || proto.Equal(said, side.is) {
			continue
		}
		text := fmt.Sprintf("plan %d.%d of %s: its residency is another than policy %s says of its spec (S11)", f.sealed.Identity.Epoch, f.sealed.Identity.Revision, f.sealed.Signer, h.hash.Short())
		if side.kept {
			text += ": it is what stood before, since the policy could not be asked then; `divert apply` of the same spec asks it anew"
		}
		return errors.New(text)
	}
	return nil
}

// saysOf tells plans apart by what a policy's word on residency depends on, and by the word.
func saysOf(p *plan.Plan) string {
	kept := []byte(fmt.Sprint(p.GetResidencyKept(), p.GetCanaryResidencyKept()))
	key := bytes.Join([][]byte{kept, p.GetPolicy().GetBundle().GetHash(), p.GetSpec().GetHash(), p.Soaking().GetCanary().GetHash()}, []byte{0})
	for _, r := range []*plan.Residency{p.GetResidency(), p.GetCanaryResidency()} {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
		if err != nil { // of texts that are no UTF-8, which no plan can have
			continue
		}
		sum := plan.Sum(b)
		key = append(key, sum[:]...)
	}
	return string(key)
}

// soundness is whether the residency of the plan in force is what its policy says.
type soundness struct {
	of  string // saysOf the plan that was looked at
	why string // it is not; "": it is, or nobody can tell
}

// examine holds the plan in force against its policy, once that can be asked: it may have
// come into force before, since no plan waits for a bundle.
func (p *policies) examine(ctx context.Context, f *inForce) {
	if h := p.at(f.sealed.Plan); h == nil {
		return
	} else if asked, _, _ := h.get(); asked == nil {
		return // it is being read, or cannot be used
	}
	of := saysOf(f.sealed.Plan)
	p.mu.Lock()
	known := p.sound.of == of
	p.mu.Unlock()
	if known {
		return
	}
	why := ""
	if err := p.compare(ctx, f, func(*plan.Residency) bool { return false }); err != nil {
		why = err.Error()
		p.log.Error("the residency of the plan is not what its policy says", slog.Any("err", err))
	}
	p.mu.Lock()
	news := p.sound.why != why
	p.sound = soundness{of: of, why: why}
	p.mu.Unlock()
	if news {
		p.change()
	}
}

// unsound says why the residency of a plan is not what its policy says; "": it is, as far as
// is known.
func (p *policies) unsound(of *plan.Plan) string {
	key := saysOf(of)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sound.of != key {
		return ""
	}
	return p.sound.why
}
