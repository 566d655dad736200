package director

import (
	"context"
	"fmt"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// What puts a director in doubt that tries a spec. A restart takes less.
const (
	trialSilence = 15 * time.Second // not heard
	trialMute    = 5 * time.Second  // its DNS does not say from which plan it answers
)

// seen gives what this director knows of the others, and of itself.
func (d *Director) seen(ctx context.Context) map[string]core.Seen {
	out := map[string]core.Seen{}
	sightings, alarms := d.mirror.seen(), d.links.Alarms()
	for _, p := range d.peers(ctx) {
		v := core.Seen{Acked: p.acked}
		sighting, looked := sightings[p.name]
		switch {
		case p.self:
		case alarms[p.name] != "":
			v.Alarm = alarms[p.name]
		case p.heard && p.silent > trialSilence:
			v.Alarm = "is silent for " + spec.FormatDuration(p.silent.Round(time.Second))
		case looked && sighting.fault != "" && time.Since(sighting.since) > trialMute:
			v.Alarm = "does not answer DNS: " + sighting.fault
		}
		out[p.name] = v
	}
	return out
}

// describeRollout shows the rollout under way, or the one that was stopped.
func (d *Director) describeRollout(ctx context.Context, out *api.Status, f *inForce) {
	r := f.sealed.Plan.GetRollout()
	if r == nil {
		return
	}
	v := &api.Rollout{
		ID: r.GetId(), On: r.GetOn(), State: "soaking", Author: r.GetAuthor(), Reason: r.GetReason(), Revision: r.GetRevision(),
		Start: r.GetStart().AsTime(), Until: r.GetEnd().AsTime(), Here: f.sealed.Plan.Canary(d.settings.Name), Why: r.GetWhy(),
	}
	out.Rollout = v
	if r.GetState() == plan.Rollout_STOPPED {
		v.State = "stopped"
		out.Alerts = append(out.Alerts, fmt.Sprintf("the rollout of revision %d was stopped and taken back: %s", r.GetRevision(), r.GetWhy()))
		return
	}
	states, observed, err := d.states(ctx)
	if err != nil {
		return
	}
	alarm, waits := core.Rolling(core.State{
		Plan: f.sealed, Doc: f.stable().doc, Spec: f.stable().spec, States: states, Observed: observed, Now: out.Now, Me: d.settings.Name,
		Trial: trialOf(f), Seen: d.seen(ctx), Places: d.loop.earth.Load().placesFor,
	})
	if v.Why, v.Waits = alarm, waits; alarm != "" {
		out.Alerts = append(out.Alerts, "the rollout is in doubt: "+alarm)
	}
	if out.Leader == "" {
		v.Waits = append(v.Waits, "nobody leads, and only a leader or a person ends it")
	}
}
