package director

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/policy"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/store"
)

// policies holds the bundle that the plan names, compiled, and has it judge people's
// commands. Answers, failover and the leader's own writes never ask it. The bundle is read
// from the store, which every commit reads anyway, and kept on the disk, so that a store
// that was lost gets it back.
type policies struct {
	store  *store.Store
	log    *slog.Logger
	shown  *policyMetrics
	change func() // status changed
	save   wake   // there is something new to write to the disk
	unread wake   // there is something new to compile
	// compile is compiled, and patience how long a command waits for it: an adopted one takes
	// no longer.
	compile  func(octets []byte) (*policy.Policy, string)
	patience time.Duration

	mu     sync.Mutex
	held   *heldPolicy // the last one; nil: none was seen
	asked  *heldPolicy // compiled, for whoever asked last to have it adopted here; nil once the plan names it
	said   string      // why the last could not be had: a line per change
	sound  soundness   // of the residency in the plan in force
	before struct {    // what a spec in force comes to as input: by who judges
		doc       *plan.SpecDoc
		resources policy.Resources
	}
}

// compileLimit is the longest that a bundle which is adopted may take to compile: the shipped
// one takes a hundredth of it.
const compileLimit = 3 * time.Second

// put takes a bundle that was on the disk.
func (p *policies) put(octets []byte) {
	if len(octets) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = hold(octets)
	p.unread.up()
}

// at gives the bundle at hand where it is the one that a plan names; nil where it is not.
func (p *policies) at(of *plan.Plan) *heldPolicy {
	p.mu.Lock()
	defer p.mu.Unlock()
	ref := of.GetPolicy().GetBundle()
	if ref == nil || p.held == nil || !bytes.Equal(p.held.hash[:], ref.GetHash()) {
		return nil
	}
	return p.held
}

// octets gives the bundle that a plan names, where it is at hand.
func (p *policies) octets(of *plan.Plan) []byte {
	if p == nil || of.GetPolicy() == nil {
		return nil
	}
	if h := p.at(of); h != nil {
		return h.octets
	}
	return nil
}

// with gives all chunks at hand of what a plan in force names.
func (p *policies) with(f *inForce) map[plan.Hash][]byte {
	out := maps.Clone(f.all())
	if octets := p.octets(f.sealed.Plan); octets != nil {
		out[plan.Sum(octets)] = octets // which fit one chunk
	}
	return out
}

// get gives the bundle that a plan names, from the store where it is not at hand.
func (p *policies) get(ctx context.Context, of *plan.Plan) (*heldPolicy, error) {
	if h := p.at(of); h != nil {
		return h, nil
	}
	ref := of.GetPolicy().GetBundle()
	if h := p.adopted(ref.GetHash()); h != nil {
		return p.keep(h), nil
	}
	octets, err := p.read(ctx, ref)
	if err != nil {
		return nil, err
	}
	return p.keep(hold(octets)), nil
}

// saved gives the bundle for a backup: with local, what is at hand. A backup of the store
// without it would not be whole.
func (p *policies) saved(ctx context.Context, of *plan.Plan, local bool) ([]byte, error) {
	if of.GetPolicy() == nil || local {
		return p.octets(of), nil
	}
	h, err := p.get(ctx, of)
	if err != nil {
		return nil, &core.Refusal{
			Reason: "the policy cannot be had: " + err.Error(),
			Remedy: "`divert policy adopt DIR` or `divert policy drop` puts that right; `divert backup --local` makes one without it",
		}
	}
	return h.octets, nil
}

// follow has the bundle of the plan in force at hand before anybody asks. It waits for the
// store alone, as who calls it does: run compiles it.
func (p *policies) follow(ctx context.Context, f *inForce) {
	if p == nil || f == nil {
		return
	}
	adopted := f.sealed.Plan.GetPolicy() != nil
	p.shown.adopted.Set(yes(adopted))
	if !adopted {
		p.shown.unusable.Set(0)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	h, err := p.get(ctx, f.sealed.Plan)
	switch {
	case err != nil && (errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil):
		return // that the store is silent is told elsewhere, and no command is committed meanwhile
	case err != nil:
		p.tell(err.Error())
	default:
		if _, why, read := h.get(); read { // until then the one before is told
			p.tell(why)
		}
		p.examine(ctx, f)
	}
}

// problem says why the policy of a plan cannot be used here; "" = it can, or there is none.
func (p *policies) problem(of *plan.Plan) string {
	if of.GetPolicy() == nil {
		return ""
	}
	if h := p.at(of); h != nil {
		if _, why, read := h.get(); read {
			return why
		}
		return beingRead
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.said != "":
		return p.said
	default:
		return "its bundle is not here yet"
	}
}

// judged is what a policy is asked about.
type judged struct {
	base   *inForce
	change core.Change
	cmd    core.Command
	asked  string // who asked for what is approved; "": nobody else did
	state  core.State
}

// by has a request judged by who approves it: who asked for it was judged then, with the
// roles that he had.
func (j judged) by(cmd core.Command) judged {
	if cmd.Verb == core.Approve {
		j.asked = core.Identity(j.cmd.Author)
		j.cmd.Author, j.cmd.Label, j.cmd.By = cmd.Author, cmd.Label, cmd.By
	}
	return j
}

// judge asks the policy in force of a person's command, once it is decided and before it is
// written. It refuses what the policy denies, and all where it cannot be asked; break-glass
// passes both, and the record says so.
func (p *policies) judge(ctx context.Context, j judged) (core.Change, error) {
	if j.cmd.Verb == core.PolicyAdopt {
		adopted, err := p.admit(j.cmd)
		if err != nil {
			return core.Change{}, err
		}
		return p.tried(ctx, adopted, j)
	}
	point := policy.PointOf(j.cmd.Verb)
	named := j.base.sealed.Plan.GetPolicy()
	if named == nil || point == "" || j.change.Noop && !j.cmd.DryRun {
		return j.change, nil
	}
	if j.cmd.Folder != "" && len(j.change.Preview.Changes) == 0 {
		return j.change, nil // it is only noted what the folder holds
	}
	v := p.verdict(ctx, point, j)
	p.shown.of(v, j.cmd.BreakGlass)
	if j.change.Audit != nil {
		j.change.Audit.Policy = named.GetBundle().GetHash()
	}
	if v.Allowed() {
		return j.change, nil
	}
	if !j.cmd.BreakGlass {
		return core.Change{}, denied(v)
	}
	if j.cmd.Reason == "" {
		return core.Change{}, &core.Refusal{Reason: "break-glass needs a reason", Remedy: "give --reason, such as --reason INC-1"}
	}
	said := sayings(v)
	j.change.Preview.Warnings = append(j.change.Preview.Warnings, "break-glass passes the policy, which says: "+strings.Join(said, "; "))
	if j.change.Audit != nil {
		j.change.Audit.Passed = said
		for _, o := range j.change.Plan.GetOverrides() {
			o.Glass = o.GetGlass() || o.GetId() == j.cmd.ID
		}
		j.change.Audit.What += "; by break-glass, past the policy: " + strings.Join(said, "; ")
		p.log.Warn("break-glass passes the policy", slog.String("command", j.cmd.ID), slog.String("verb", string(j.cmd.Verb)), slog.String("scope", j.cmd.Scope),
			slog.String("who", j.cmd.Who()), slog.String("reason", j.cmd.Reason), slog.String("policy", strings.Join(said, "; ")))
	}
	return j.change, nil
}

// verdict asks the policy; one that is not at hand, or cannot be used, denies.
func (p *policies) verdict(ctx context.Context, point policy.Point, j judged) policy.Verdict {
	asked, problem := p.usable(ctx, j.base.sealed.Plan)
	if problem != "" {
		return policy.Verdict{Problem: problem}
	}
	input, err := p.input(j)
	if err != nil {
		return policy.Verdict{Problem: err.Error()}
	}
	return asked.Judge(ctx, point, input)
}

// usable gives the policy that a plan names, or why there is none.
func (p *policies) usable(ctx context.Context, of *plan.Plan) (asked *policy.Policy, problem string) {
	reading, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	h, err := p.get(reading, of)
	if err != nil {
		return nil, "the policy cannot be had: " + err.Error()
	}
	return p.wait(ctx, h)
}

// input puts together what a policy may know of a command.
func (p *policies) input(j judged) ([]byte, error) {
	roles, groups := rights(j.cmd.By)
	in := policy.Input{Author: j.cmd.Author, Label: j.cmd.Label, Roles: roles, Groups: groups, RequestedBy: j.asked, Plan: policy.Summarize(j.base.sealed), Preview: j.change.Preview}
	in.Command.Of(j.cmd)
	in.At(j.state.Now)
	in.Sites = sitesOf(j.base.spec, j.cmd)
	var err error
	if in.Spec.Before, err = p.resources(j.base.doc); err != nil {
		return nil, err
	}
	if j.change.After != nil {
		if in.Spec.After, err = policy.NewResources(core.Raws(j.change.After)); err != nil {
			return nil, err
		}
	}
	return in.JSON()
}

// resources gives the spec in force as input: it is the same for many commands, and takes a
// while where it has large zones.
func (p *policies) resources(doc *plan.SpecDoc) (policy.Resources, error) {
	p.mu.Lock()
	was := p.before
	p.mu.Unlock()
	if was.doc == doc && was.resources != nil {
		return was.resources, nil
	}
	out, err := policy.NewResources(core.Raws(doc))
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before.doc, p.before.resources = doc, out
	return out, nil
}

// rights lists what roles and groups who gives a command has; how far a role reaches was
// judged before (core.Authorise).
func rights(id *access.Identity) (roles, groups []string) {
	if id == nil {
		return nil, nil
	}
	for _, g := range id.Grants {
		roles = append(roles, g.Role.String())
	}
	slices.Sort(roles)
	return slices.Compact(roles), id.Groups
}

// sitesOf lists what a drain, or its end, is about.
func sitesOf(set *spec.Set, cmd core.Command) []policy.Site {
	if policy.PointOf(cmd.Verb) != policy.Drain {
		return nil
	}
	var out []policy.Site
	for _, s := range core.Sites(set, cmd.Scope) {
		out = append(out, policy.Site{Service: s.Service, Cluster: s.Cluster.Name, FaultDomain: s.Cluster.FaultDomain, Environment: s.Cluster.Environment, ClusterLabels: s.Cluster.Labels})
	}
	return out
}

// denied makes a refusal of a verdict.
func denied(v policy.Verdict) error {
	const glass = "--break-glass passes it in an emergency, and is recorded"
	if v.Problem != "" {
		return &core.Refusal{
			Reason: "the policy could not be asked, which denies: " + v.Problem,
			Remedy: "`divert policy status` shows it, `divert policy adopt` puts another in its place; " + glass,
		}
	}
	var remedies []string
	for _, d := range v.Denied {
		if d.Remedy != "" {
			remedies = append(remedies, d.Remedy)
		}
	}
	if len(remedies) == 0 {
		remedies = []string{glass}
	}
	return &core.Refusal{Reason: "the policy denies it: " + strings.Join(sayings(v), "; "), Remedy: strings.Join(remedies, "; ")}
}

// sayings lists what a verdict holds against a command.
func sayings(v policy.Verdict) []string {
	var out []string
	for _, d := range v.Denied {
		out = append(out, d.Msg)
	}
	if v.Problem != "" {
		out = append(out, v.Problem)
	}
	return out
}
