package core

import (
	"bytes"
	"errors"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
)

// MaxBundle is the largest policy bundle that a plan names, in octets as encoded.
const MaxBundle = 300 << 10

// adoptPolicy names a bundle that people's commands are judged by from the next one on. It
// is judged by none itself: what a policy denies would else include its own end. Whether it
// compiles is the caller's to find out before.
func (w *work) adoptPolicy() error {
	b := w.c.Bundle
	switch {
	case len(b) == 0:
		return &Refusal{Reason: "no policy is given", Remedy: "`divert policy adopt DIR` sends one"}
	case len(b) > MaxBundle:
		return &Refusal{Reason: fmt.Sprintf("the policy has %d KiB, more than the %d KiB that one may", (len(b)+1023)>>10, MaxBundle>>10), Remedy: "shorten its data.json"}
	case w.c.Reason == "":
		return &Refusal{Reason: "adopting a policy needs a reason", Remedy: "give --reason, such as --reason \"frozen over the holidays\""}
	}
	sum := plan.Sum(b)
	old := w.next.GetPolicy()
	if bytes.Equal(old.GetBundle().GetHash(), sum[:]) && old != nil {
		w.done = fmt.Sprintf("policy %s is in force since revision %d", sum.Short(), old.GetRevision())
		w.noop = true
		return nil
	}
	w.next.Policy = &plan.Policy{
		Bundle: &plan.SpecRef{Hash: sum[:], Size: uint64(len(b))}, // its chunks are the writer's to name
		Author: w.c.Who(), Reason: w.c.Reason, Since: timestamppb.New(w.s.Now), Revision: w.next.GetRevision(),
	}
	w.bundle = b
	w.resideAnew()
	w.done = fmt.Sprintf("policy %s judges people's commands", sum.Short())
	w.what = "adopt policy " + sum.Short()
	if old != nil {
		w.done += fmt.Sprintf(", in the place of %s", shortHash(old.GetBundle()))
		w.what += " in the place of " + shortHash(old.GetBundle())
	}
	return nil
}

// dropPolicy has people's commands judged by nothing.
func (w *work) dropPolicy() error {
	old := w.next.GetPolicy()
	switch {
	case old == nil:
		w.noop, w.done = true, "there is no policy"
		return nil
	case w.c.Reason == "":
		return &Refusal{Reason: "dropping the policy needs a reason", Remedy: "give --reason, such as --reason INC-1"}
	}
	w.next.Policy = nil
	w.resideAnew()
	w.done = fmt.Sprintf("policy %s is dropped: people's commands are judged by none", shortHash(old.GetBundle()))
	w.what = "drop policy " + shortHash(old.GetBundle())
	return nil
}

// policyDangers says what a change of the policy takes two persons for: without it, or by
// another one, people may do what nobody could, and its sets keep clients from clusters. A
// first one that has none only denies.
func policyDangers(before, after *plan.Plan) []string {
	was, is := before.GetPolicy(), after.GetPolicy()
	switch {
	case bytes.Equal(was.GetBundle().GetHash(), is.GetBundle().GetHash()):
		return nil
	case is == nil:
		return []string{"it drops the policy that people's commands are judged by"}
	case was != nil:
		return []string{"it puts another policy in the place of the one that people's commands are judged by"}
	case after.GetResidency() != nil:
		return []string{"it keeps clients from clusters by policy"}
	default:
		return nil
	}
}

// knowsPolicyDangers tells whether whoever writes the plan after p knows of them: no plan is
// refused for a rule that its writer did not have (S12).
func knowsPolicyDangers(p *plan.Plan) bool { return p.GetMinReader() >= plan.ReaderResidency }

// Split cuts a change's bundle into blobs, and puts what they are where the plan names it.
func (c *Change) Split(split func([]byte) ([][]byte, *plan.SpecRef)) [][]byte {
	blobs, ref := split(c.Bundle)
	if r := c.Request; r.GetState() == plan.Request_OPEN && r.GetBundle() != nil {
		r.Bundle = ref
	} else {
		c.Plan.Policy.Bundle = ref
	}
	return blobs
}

func shortHash(ref *plan.SpecRef) string {
	if len(ref.GetHash()) != len(plan.Hash{}) {
		return "?"
	}
	return plan.Hash(ref.GetHash()).Short()
}

// checkPolicy refuses a plan whose policy names no bundle: nobody could be judged by it.
func checkPolicy(p *plan.Plan) error {
	if p.GetPolicy() == nil {
		return nil
	}
	ref := p.GetPolicy().GetBundle()
	if len(ref.GetHash()) == 0 || len(ref.GetChunks()) == 0 || ref.GetSize() > MaxBundle {
		return errors.New("it names a policy without a bundle, or one that is too large")
	}
	return nil
}

// after is the document that a change brings, dry runs included; nil: the spec stays.
func (w *work) after() *plan.SpecDoc {
	switch {
	case w.noop:
		return nil
	case w.asksFor != nil:
		return w.asksFor
	case w.trial != nil:
		return w.trial
	default:
		return w.doc
	}
}

// Site is one endpoint that a scope covers.
type Site struct {
	Service string
	Cluster *spec.Cluster
}

// Sites lists what a scope covers, in the order of the spec; of one that cannot be read
// nothing.
func Sites(set *spec.Set, scope string) []Site {
	s, err := steer.ParseScope(scope)
	if err != nil {
		return nil
	}
	var out []Site
	for _, c := range covered(set, s) {
		out = append(out, Site{Service: c.service.Name, Cluster: c.cluster})
	}
	return out
}
