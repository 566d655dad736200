package core

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
)

// Bounds of a soak.
const (
	defaultSoak = 5 * time.Minute
	longestSoak = 24 * time.Hour
)

// Trial is the spec that the directors of a rollout answer from.
type Trial struct {
	Doc  *plan.SpecDoc
	Spec *spec.Set
}

// Seen is what one director knows of another.
type Seen struct {
	Acked plan.Identity // the highest plan that it has acknowledged
	Alarm string        // why it is in doubt: silent, or its DNS answers from something else; "" = it is not
}

// stage makes a new spec one that some directors try first. The plan's spec stays, and
// with it all that others answer and all that commands are decided on meanwhile.
func (w *work) stage() error {
	on := slices.Clone(w.c.Canary)
	slices.Sort(on)
	soak := w.c.Soak
	if soak == 0 {
		soak = defaultSoak
	}
	active := w.next.Active()
	there := 0 // who has not joined yet stays out of nothing
	for _, d := range active {
		if len(d.GetKey()) > 0 {
			there++
		}
	}
	for i, name := range on {
		d := w.next.Director(name)
		switch {
		case i > 0 && on[i-1] == name:
			return &Refusal{Reason: name + " is named twice as a canary", Remedy: "name each once"}
		case d == nil || d.GetStanding() != plan.Director_ACTIVE:
			return known("director", name, directorNames(active), "")
		case len(d.GetKey()) == 0:
			return &Refusal{Reason: name + " has not joined yet, so it tries nothing", Remedy: "name one that is there: " + list(directorNames(active))}
		}
	}
	switch {
	case len(on) >= there:
		return &Refusal{Reason: "these are all directors there are: nobody would be left who does not try it", Remedy: "name some of them, or leave --canary out"}
	case soak < 0 || soak > longestSoak:
		return &Refusal{Reason: fmt.Sprintf("a soak of %s", spec.FormatDuration(soak)), Remedy: "give one of at most " + spec.FormatDuration(longestSoak)}
	case len(w.prev.Changes) == 0:
		w.noop, w.done = true, "nothing to try: all of it is in force already"
		w.doc, w.set = nil, w.s.Spec
		return nil
	}
	// The rules are asked now what they say of it, and at its end again.
	switches := slices.Clone(w.next.GetSwitches())
	if err := w.interlocked(); err != nil {
		return err
	}
	w.next.Switches = switches
	w.trial, w.tries = w.doc, w.set
	w.doc, w.set = nil, w.s.Spec
	w.next.Rollout = &plan.Rollout{
		Id: w.c.ID, On: on, Author: w.c.Who(), Reason: w.c.Reason, State: plan.Rollout_SOAKING, Revision: w.next.GetRevision(), Forced: w.forced,
		Start: timestamppb.New(w.s.Now), End: timestamppb.New(w.s.Now.Add(soak)), Canary: &plan.SpecRef{},
	}
	w.done = fmt.Sprintf("%s %s it first, until %s: %s", list(on), tryVerb(len(on)), steer.Until(w.s.Now, w.s.Now.Add(soak)), w.done)
	w.what = w.done
	return nil
}

func directorNames(list []*plan.Director) []string {
	out := make([]string, 0, len(list))
	for _, d := range list {
		out = append(out, d.GetName())
	}
	return out
}

func underWay(r *plan.Rollout) *Refusal {
	return &Refusal{
		Reason: fmt.Sprintf("a rollout is under way: %s %s another spec since revision %d", list(r.GetOn()), tryVerb(len(r.GetOn())), r.GetRevision()),
		Remedy: "`divert rollout go-on` has all directors take it, `divert rollout abort` takes it back",
	}
}

func tryVerb(n int) string {
	if n == 1 {
		return "tries"
	}
	return "try"
}

// goOn has all directors take what some have tried.
func (w *work) goOn() error {
	r := w.next.Soaking()
	switch {
	case r == nil:
		w.noop, w.done = true, "no rollout is under way"
		return nil
	case w.s.Trial == nil:
		return &Refusal{Reason: "the spec that is tried is not at hand here", Remedy: "try again, or another director with --server"}
	}
	if strings.HasPrefix(w.c.ID, goOnID) { // on the plan that it finds: a person may have frozen it since
		if alarm, waits := Rolling(w.s); alarm != "" || len(waits) > 0 {
			w.noop, w.done = true, "the rollout waits: "+cmp.Or(alarm, strings.Join(waits, "; "))
			return nil
		}
	}
	on, without := r.GetOn(), w.s.laggards(r)
	w.c.Force = w.c.Force || r.GetForced()
	if err := w.resolve(w.s.Trial.Doc); err != nil {
		return err
	}
	w.endRollout()
	w.renew()
	w.tellApply(nil)
	w.done = fmt.Sprintf("%s tried it, and all go on with it: %s", list(on), w.done)
	w.what = w.done
	if len(without) > 0 {
		w.aside = fmt.Sprintf("; without %s, which may still answer otherwise", list(without))
		w.done += w.aside
	}
	w.keepPrevious()
	return nil
}

// abort has those who try another spec answer from that of all others again. Where the
// leader does it, by itself, the plan says so until a person begins something else.
func (w *work) abort() error {
	r := w.next.Soaking()
	switch {
	case r == nil && w.next.GetRollout() != nil:
		w.done, w.what = "the rollout that was stopped is put away", "put away the rollout of revision "+fmt.Sprint(w.next.GetRollout().GetRevision())
		w.next.Rollout = nil
		return nil
	case r == nil:
		w.noop, w.done = true, "no rollout is under way"
		return nil
	}
	w.done = fmt.Sprintf("taken back from %s: what revision %d had tried", list(r.GetOn()), r.GetRevision())
	w.what = w.done
	w.endRollout()
	if strings.HasPrefix(w.c.ID, stopID) {
		r.Canary, r.State, r.Why = nil, plan.Rollout_STOPPED, w.c.Reason
		w.next.Rollout = r
	}
	return nil
}

// endRollout takes the rollout out of the plan. The zones of those who tried it have had
// the serial of each revision since: all get a higher one (S13).
func (w *work) endRollout() {
	w.next.Rollout, w.next.CanaryResidency, w.next.CanaryResidencyKept = nil, nil, false
	for _, z := range w.next.GetZones() {
		z.Hash = nil
	}
}

// tried is what a director must know to read a plan whose rollout tries something.
func (w *work) tried() uint32 {
	switch {
	case w.next.Soaking() == nil:
		return 0
	case w.tries != nil:
		return max(plan.ReaderRollout, minReader(w.tries, w.next))
	default: // as its beginning said
		return max(plan.ReaderRollout, w.s.Plan.Plan.GetMinReader())
	}
}

// The IDs of the leader's own ends of a rollout follow from its beginning, so that two
// leaders cannot end it twice.
const (
	stopID = "rollout-stop-"
	goOnID = "rollout-on-"
)

// rolloutDue is the end of a rollout, if it is due: at the end of the soak where all that
// it needs is there, at once where something alarms.
func rolloutDue(s State) *Command {
	r := s.Plan.Plan.Soaking()
	if r == nil {
		return nil
	}
	id := fmt.Sprintf("%d.%d", s.Plan.Identity.Epoch, r.GetRevision())
	alarm, waits := Rolling(s)
	over := !s.Now.Before(r.GetEnd().AsTime())
	soak := r.GetEnd().AsTime().Sub(r.GetStart().AsTime())
	if alarm == "" && !s.Now.Before(r.GetEnd().AsTime().Add(max(soak, overtime))) {
		alarm = "nobody could go on with it, long after its soak" // refused by a rule, or there was no leader
		if len(waits) > 0 {
			alarm = "it still waits, long after its soak: " + strings.Join(waits, "; ")
		}
	}
	switch {
	case alarm != "":
		return &Command{ID: stopID + id, Verb: Abort, Author: s.Me, Reason: cut(alarm)}
	case over && len(waits) == 0:
		return &Command{ID: goOnID + id, Verb: GoOn, Author: s.Me, Reason: "nothing alarmed in the soak of " + spec.FormatDuration(soak)}
	}
	return nil
}

// overtime is how long at least a rollout waits after its soak for what is missing.
const overtime = time.Minute

// Rolling judges the rollout under way: what alarms, and what its end waits for beside
// the soak. What is not known is waited for, since missing is not green; but not for ever for
// a few that try nothing and do not acknowledge it, as no return of clients does (see back):
// one dead director would hold up every rollout. They had the soak for it, and who has just
// come back has a little more.
func Rolling(s State) (alarm string, waits []string) {
	r := s.Plan.Plan.Soaking()
	if r == nil {
		return "", nil
	}
	for _, name := range r.GetOn() {
		switch seen := s.Seen[name]; {
		case s.Plan.Plan.Director(name).GetStanding() != plan.Director_ACTIVE:
			return name + " has left the roster", nil
		case seen.Alarm != "":
			return name + " " + seen.Alarm, nil
		}
	}
	lacking := s.laggards(r)
	few, until := 2*len(lacking) < len(Voters(s.Plan.Plan)), r.GetEnd().AsTime().Add(absence)
	for _, name := range lacking {
		switch {
		case slices.Contains(r.GetOn(), name) || !few:
			waits = append(waits, name+" has not acknowledged it")
		case s.Now.Before(until):
			waits = append(waits, fmt.Sprintf("%s has not acknowledged it (until %s: then it goes on without)", name, clock(until)))
		}
	}
	if s.Trial == nil {
		return "", append(waits, "the spec that is tried is not at hand here")
	}
	worse, unseen := s.worse()
	if worse != "" {
		return worse, nil
	}
	if rule := s.ruledOut(r); rule != "" {
		waits = append(waits, rule)
	}
	if o := (&work{next: s.Plan.Plan}).find(plan.Override_OBSERVE, fleetScope, false); o != nil {
		waits = append(waits, fmt.Sprintf("fleet is frozen by %s (%s): nothing moves by itself", o.GetAuthor(), o.GetReason()))
	}
	return "", append(waits, unseen...)
}

// laggards names those whose votes count that are not known to have acknowledged the plan
// that began a rollout, whether they try its spec or not (SEMANTICS section 4): until then they
// do not probe what it asks for, and do not have it when all go on.
func (s State) laggards(r *plan.Rollout) (lacking []string) {
	in := s.Plan.Identity
	for _, d := range Voters(s.Plan.Plan) {
		id := s.Seen[d.Name].Acked
		if id.Fleet != in.Fleet || id.Epoch < in.Epoch || id.Revision < r.GetRevision() {
			lacking = append(lacking, d.Name)
		}
	}
	return lacking
}

// worse holds the spec that is tried against the one in force, by the same certificates
// and votes: a site that the one knows to be well and the other to be down, and an alert
// that only the other raises, are reasons to stop; what the other does not know yet is
// waited for.
func (s State) worse() (alarm string, unseen []string) {
	w := &work{s: s, set: s.Spec}
	for _, svc := range s.Trial.Spec.Services {
		old := s.Spec.Service(svc.Name)
		if !svc.Probed() {
			continue
		}
		for i := range svc.Endpoints {
			e := &svc.Endpoints[i]
			c := s.Trial.Spec.Cluster(e.Cluster)
			if c == nil || c.Environment != svc.Environment {
				continue
			}
			now := site{service: svc, end: e, cluster: c}
			why := w.waitsFor(now)
			if why == "" {
				continue
			}
			var before *spec.Endpoint
			if old != nil {
				before = old.Endpoint(e.Cluster)
			}
			switch down := w.down(now); {
			case before == nil || !old.Probed():
				// A site that is new may be down; one that nobody has seen is waited for.
				if !down {
					unseen = append(unseen, why+", by the spec that is tried")
				}
			case w.down(site{service: old, end: before}):
				// It is no worse than by the spec in force.
			case down && w.waitsFor(site{service: old, end: before, cluster: s.Spec.Cluster(e.Cluster)}) == "":
				return why + " by the spec that is tried, and well by the one in force", nil
			default: // or nobody knows what it is by the one in force: missing is not green
				unseen = append(unseen, why+" by the probes of the spec that is tried")
			}
		}
	}
	if alerts := s.newAlerts(); len(alerts) > 0 {
		return "by the spec that is tried: " + list(alerts), nil
	}
	return "", unseen
}

// down tells whether a family of a site has failed.
func (w *work) down(s site) bool {
	for _, f := range []steer.Family{steer.IPv4, steer.IPv6} {
		if r := w.known().Rollup(s.service, s.end, f); len(r.All) > 0 && r.Health == steer.Failed {
			return true
		}
	}
	return false
}

// newAlerts lists the alerts that the spec that is tried raises, and not the one in force.
func (s State) newAlerts() (out []string) {
	if s.Memo == nil {
		s.Memo = new(Memo)
	}
	var places []steer.Place
	if s.Places != nil {
		places = s.Places(s.Spec, s.Trial.Spec)
	}
	in := steer.Input{Spec: s.Spec, Plan: s.Plan.Plan, States: s.States, Places: places}
	before := map[string][]string{}
	for _, svc := range s.Memo.decider.Decide(in).Services {
		before[svc.Name] = svc.Alerts
	}
	in.Spec = s.Trial.Spec
	for _, svc := range s.Memo.trial.Decide(in).Services {
		for _, alert := range svc.Alerts {
			if !slices.Contains(before[svc.Name], alert) {
				out = append(out, svc.Name+": "+alert)
			}
		}
	}
	return out
}
