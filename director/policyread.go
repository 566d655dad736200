package director

import (
	"bytes"
	"context"
	"log/slog"
	"time"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/policy"
)

// beingRead is why a policy that is not compiled yet cannot be used.
const beingRead = "it is being read"

// heldPolicy is a bundle at hand. One that cannot be used is held all the same: it need not
// be read again to say so.
type heldPolicy struct {
	hash   plan.Hash
	octets []byte

	read    chan struct{} // closed once it is compiled; the next ones stand from then on
	policy  *policy.Policy
	problem string
}

func hold(octets []byte) *heldPolicy {
	return &heldPolicy{hash: plan.Sum(octets), octets: octets, read: make(chan struct{})}
}

// done notes what a bundle comes to, once.
func (h *heldPolicy) done(p *policy.Policy, problem string) {
	h.policy, h.problem = p, problem
	close(h.read)
}

// get gives what a bundle comes to, or why it cannot be used; read is false before that is
// known.
func (h *heldPolicy) get() (p *policy.Policy, problem string, read bool) {
	select {
	case <-h.read:
		return h.policy, h.problem, true
	default:
		return nil, "", false
	}
}

// compiled reads a bundle, or says why it cannot be used.
func compiled(octets []byte) (p *policy.Policy, problem string) {
	b, err := policy.Decode(octets)
	if err != nil {
		return nil, "it " + err.Error()
	}
	p, problems := policy.Compile(b, "")
	if err := problemsError(problems); err != nil {
		return nil, "it cannot be compiled: " + err.Error()
	}
	return p, ""
}

// run compiles the bundle at hand, which may take seconds: no start, no plan and no answer
// waits for it.
func (p *policies) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.unread:
		}
		p.mu.Lock()
		h := p.held
		p.mu.Unlock()
		if h == nil {
			continue
		}
		if _, _, read := h.get(); read {
			continue
		}
		h.done(p.compile(h.octets))
		p.mu.Lock()
		now := p.held == h
		p.mu.Unlock()
		if now { // else the next one is up
			p.tell(h.problem)
			p.change()
		}
	}
}

// adopted gives the bundle of a hash where it was adopted here, and so is compiled.
func (p *policies) adopted(hash []byte) *heldPolicy {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked == nil || !bytes.Equal(p.asked.hash[:], hash) {
		return nil
	}
	return p.asked
}

// keep has a bundle at hand, on the disk and compiled.
func (p *policies) keep(h *heldPolicy) *heldPolicy {
	p.mu.Lock()
	if p.held != nil && p.held.hash == h.hash {
		h = p.held // somebody else was first
	}
	p.held, p.said, p.asked = h, "", nil
	p.mu.Unlock()
	p.unread.up()
	p.save.up()
	p.change()
	return h
}

// tell shows and logs why the policy in force cannot be used; "": it can.
func (p *policies) tell(why string) {
	p.shown.unusable.Set(yes(why != ""))
	p.mu.Lock()
	news := p.said != why
	p.said = why
	p.mu.Unlock()
	if !news {
		return
	}
	if why != "" {
		p.log.Error("the policy cannot be used: people's commands are refused here, answers go on", slog.String("why", why))
	}
	p.change()
}

// wait gives the policy of a bundle, or why there is none: that it is being read where it
// takes longer than anybody waits.
func (p *policies) wait(ctx context.Context, h *heldPolicy) (asked *policy.Policy, problem string) {
	late := time.NewTimer(p.patience)
	defer late.Stop()
	select {
	case <-h.read:
	case <-late.C:
	case <-ctx.Done():
	}
	switch asked, problem, read := h.get(); {
	case !read:
		return nil, "the policy is being read; repeat the command in a moment"
	case problem != "":
		return nil, "the policy cannot be used: " + problem
	default:
		return asked, ""
	}
}
