package director

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
)

// gates gives what the steps of drains wait for: what each registered director is known to
// answer from, and which subjects enough fresh votes see up. Who is not heard now has
// acknowledged nothing, and what nobody sees is not up.
// Votes are looked at for who takes over from the drains of a plan, and from a further scope.
func (d *Director) gates(ctx context.Context, set *spec.Set, p *plan.Plan, scope string) (acks map[string]plan.Identity, fresh map[health.Subject]bool) {
	acks = map[string]plan.Identity{}
	seen := d.mirror.seen()
	for _, p := range d.peers(ctx) {
		if id := p.answersFrom(seen); !id.IsZero() {
			acks[p.name] = id
		}
	}
	fresh = core.Watched(set, p, scope)
	err := d.loop.inspect(ctx, func(now time.Time) {
		maps.DeleteFunc(fresh, func(s health.Subject, _ bool) bool { return !d.loop.book.VotedUp(s, now) })
	})
	if err != nil {
		return nil, nil
	}
	return acks, fresh
}

// answersFrom gives the plan that a director has acknowledged, and that its DNS was last
// seen to answer from where it has one (S6); the zero Identity for none.
func (p peerView) answersFrom(seen map[string]sighting) plan.Identity {
	s, looked := seen[p.name]
	switch {
	case p.self:
		return p.acked
	case !p.heard || p.silent > time.Second:
		return plan.Identity{}
	case p.dns == "" && p.member: // a witness
		return p.acked
	case !looked || s.fault != "" || s.plan.Fleet != p.acked.Fleet:
		return plan.Identity{}
	case s.plan.Compare(p.acked) < 0:
		return s.plan
	default:
		return p.acked
	}
}

// describePaces says where drains in steps stand, and alerts of those that do not go on.
func (d *Director) describePaces(ctx context.Context, out *api.Status, f *inForce) {
	if !f.sealed.Plan.Paced() {
		return
	}
	states, observed, err := d.states(ctx)
	if err != nil {
		return
	}
	acks, fresh := d.gates(ctx, f.stable().spec, f.sealed.Plan, "")
	for _, p := range core.Pacing(core.State{
		Plan: f.sealed, Doc: f.stable().doc, Spec: f.stable().spec, States: states, Observed: observed, Acks: acks, Fresh: fresh, Now: out.Now, Me: d.settings.Name,
		Places: d.loop.earth.Load().placesFor,
	}) {
		if p.Waits == "" && out.Leader == "" && p.Override.GetPace().GetNext() != nil {
			p.Waits = "nobody leads, and only a leader takes steps"
		}
		for i := range out.Overrides {
			if o := &out.Overrides[i]; o.ID == p.Override.GetId() && o.Pace != nil {
				o.Pace.Waits, o.Pace.Stalled = p.Waits, p.Stalled
			}
		}
		if alert := paceAlert(p); alert != "" {
			out.Alerts = append(out.Alerts, alert)
		}
	}
}

// paceAlert says what a person should know of a drain in steps; "" while it goes on.
func paceAlert(p core.Paced) string {
	scope, of := p.Override.GetScope(), p.Override.GetPace()
	switch of.GetState() {
	case plan.Pace_HELD:
		return fmt.Sprintf("drain of %s is held: %s; it waits for %s", scope, of.GetWhy(), cmp.Or(p.Waits, "the leader"))
	case plan.Pace_ROLLING_BACK:
		text := fmt.Sprintf("drain of %s is rolled back: %s", scope, of.GetWhy())
		if p.Stalled {
			text += "; it waits for " + cmp.Or(p.Waits, "the leader")
		}
		return text
	case plan.Pace_ROLLED_BACK:
		return fmt.Sprintf("drain of %s was rolled back: %s; undrain it, or drain it again", scope, of.GetWhy())
	}
	if !p.Stalled {
		return ""
	}
	return fmt.Sprintf("drain of %s stalls: later than three in four of its steps were, it waits for %s", scope, cmp.Or(p.Waits, "the leader"))
}

// paceView shows how far a drain in steps has come; nil of one that is whole.
func paceView(o *plan.Override) *api.Pace {
	p := o.GetPace()
	if p == nil {
		return nil
	}
	v := &api.Pace{
		State: paceState(p.GetState()), Step: int(p.GetStep()) + 1, Moved: int(plan.Whole - o.Keep()),
		Wait: p.GetWait().AsDuration().Seconds(), Since: p.GetSince().AsTime(), Why: p.GetWhy(),
	}
	for _, keep := range p.GetSteps() {
		v.Steps = append(v.Steps, plan.Whole-int(min(keep, plan.Whole)))
	}
	if p.GetNext() != nil {
		next := p.GetNext().AsTime()
		v.Next = &next
	}
	return v
}

func paceState(s plan.Pace_State) string {
	return strings.ToLower(strings.ReplaceAll(s.String(), "_", " "))
}

// paces shows how far drains in steps have come.
func (m *metrics) paces(f *inForce, now time.Time) {
	m.paced.Reset()
	m.stalled.Reset()
	if f == nil {
		return
	}
	for _, o := range f.sealed.Plan.GetOverrides() {
		p := o.GetPace()
		if p == nil {
			continue
		}
		m.paced.WithLabelValues(o.GetScope(), paceState(p.GetState())).Set(float64(plan.Whole-o.Keep()) / plan.Whole)
		m.stalled.WithLabelValues(o.GetScope()).Set(yes(core.Stalled(f.sealed.Plan, o, now)))
	}
}
