package core

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
)

// How a drain goes in steps of which nothing is said, by its command or by the last of its
// scope: a small step first, since a query of death would follow the traffic.
const pacedWait = 30 * time.Second

var pacedMoves = [...]int{1, 5, 25, 50, 100} // percent that have left

// What a drain in steps may ask for.
const (
	mostSteps   = 20
	longestWait = 24 * time.Hour
	mostExcused = 100
)

// asksForPaces tells whether a director that knows no drains in steps would take an
// override for something else. One that ends in steps it takes for whole until it has
// ended, which harms nobody.
func asksForPaces(o *plan.Override) bool {
	return o.GetPace() != nil && !o.Ends() || strings.HasPrefix(o.GetScope(), "selector/")
}

// checkPace refuses steps that are none.
func checkPace(c Command) error {
	bad := func(reason string) error {
		return &Refusal{Reason: reason, Remedy: "write the percent that have left after each step, such as --steps 1,5,25,50,100"}
	}
	switch {
	case !c.Paced && (len(c.Steps) > 0 || c.Wait != 0):
		return bad("steps and a wait are of a drain in steps (--paced)")
	case c.Wait != 0 && (c.Wait < time.Second || c.Wait > longestWait):
		return &Refusal{Reason: fmt.Sprintf("a wait of %s at each step is not between 1s and 24h", spec.FormatDuration(c.Wait)), Remedy: "give --wait, such as --wait 30s"}
	case len(c.Steps) > mostSteps:
		return bad(fmt.Sprintf("%d steps are more than %d", len(c.Steps), mostSteps))
	case len(c.Steps) == 0:
		return nil
	}
	for i, s := range c.Steps {
		if s < 1 || s > 100 || i > 0 && s <= c.Steps[i-1] {
			return bad(fmt.Sprintf("the steps %v do not rise from 1 to 100", c.Steps))
		}
	}
	if c.Steps[len(c.Steps)-1] != 100 {
		return bad(fmt.Sprintf("the last of the steps %v is not 100: a drain is whole in the end", c.Steps))
	}
	return nil
}

// pace makes a drain go in steps, from where an older one of its scope has come to. The
// first lowers the TTL and moves nobody: who was told the old one waits for it to pass.
func (w *work) pace(o, old *plan.Override, scope steer.Scope) error {
	from, writes := uint32(plan.Whole), uint32(0)
	switch {
	case old == nil:
	case old.GetPace() == nil:
		w.prev.Warnings = append(w.prev.Warnings, scope.String()+" is drained already, as a whole, and stays so")
		return nil
	default:
		from, writes = old.Keep(), old.GetPace().GetWrites()
		goes := old.GetPace().GetState() == plan.Pace_MOVING || old.GetPace().GetState() == plan.Pace_DONE
		if goes && len(w.c.Steps) == 0 && w.c.Wait == 0 {
			o.Pace = proto.CloneOf(old.GetPace()) // only longer
			latest := w.s.Now.Add(max(o.GetPace().GetWait().AsDuration(), w.oldTTL(scope)))
			if next := o.GetPace().GetNext(); next != nil && next.AsTime().After(latest) {
				o.Pace.Next = timestamppb.New(latest) // a clock that was ahead has said when
			}
			w.previewSteps(o.GetPace())
			return nil
		}
	}
	moves, wait := w.wanted(scope)
	p := &plan.Pace{
		Steps: []uint32{from}, Wait: durationpb.New(wait), Since: timestamppb.New(w.s.Now), State: plan.Pace_MOVING,
		Revision: w.next.GetRevision(), Writes: writes,
	}
	for _, m := range moves {
		if keep := plan.Whole - m; keep < from {
			p.Steps = append(p.Steps, keep)
		}
	}
	first := wait
	if from == plan.Whole {
		first = w.oldTTL(scope)
	}
	p.Next = timestamppb.New(w.s.Now.Add(first))
	if need := first + time.Duration(len(p.GetSteps())-2)*wait; len(p.GetSteps()) > 1 && need >= w.c.For {
		return &Refusal{
			Reason: fmt.Sprintf("its steps take %s at least, and it ends after %s", spec.FormatDuration(need), spec.FormatDuration(w.c.For)),
			Remedy: "give a longer --for, a shorter --wait or fewer --steps",
		}
	}
	if err := w.excuse(o, p, scope); err != nil {
		return err
	}
	if away := w.unacknowledged(&plan.Pace{}); len(away) > 0 {
		w.prev.Warnings = append(w.prev.Warnings, fmt.Sprintf("no step is taken until every registered director is heard and answers by the one before: not so now %s, which may still answer otherwise", list(away)))
	}
	o.Pace = p
	w.previewSteps(p)
	w.keepRun(scope.String(), moves, wait)
	return nil
}

// wanted gives the steps of a drain, in per mille that have left, and their wait: as its
// command says, else as the last of its scope went.
func (w *work) wanted(scope steer.Scope) (moves []uint32, wait time.Duration) {
	moves, wait = w.lastRun(scope.String())
	if len(w.c.Steps) > 0 {
		moves = permille(w.c.Steps)
	}
	if w.c.Wait > 0 {
		wait = w.c.Wait
	}
	return moves, wait
}

func permille(percent []int) []uint32 {
	out := make([]uint32, len(percent))
	for i, p := range percent {
		out[i] = uint32(10 * p)
	}
	return out
}

// oldTTL is the longest that somebody may have been told before a drain: of the services
// that have a site in its scope.
func (w *work) oldTTL(scope steer.Scope) time.Duration {
	longest := time.Second
	for _, s := range covered(w.set, scope) {
		longest = max(longest, s.service.TTL)
	}
	return longest
}

// excuse notes which of the sites that take over are not known to be well now: they
// hold nothing up later. Each service needs one that is; a person may force it.
func (w *work) excuse(o *plan.Override, p *plan.Pace, scope steer.Scope) error {
	var lacking []string
	w.takers(o, scope, func(s site, takers []site) {
		well := 0
		for _, t := range takers {
			if why, _ := w.green(t); why == "" {
				well++
			} else if !slices.Contains(p.Excused, t.String()) {
				p.Excused = append(p.Excused, t.String())
			}
		}
		if well == 0 {
			lacking = append(lacking, s.service.Name)
		}
	})
	slices.Sort(p.Excused)
	slices.Sort(lacking)
	lacking = slices.Compact(lacking)
	switch {
	case len(lacking) > 0 && !w.c.Force:
		return &Refusal{
			Reason: fmt.Sprintf("nothing that would take over is known to be well now, by fresh votes, for %s", list(lacking)),
			Remedy: "look at `divert status` and repeat it in a moment, or with --force, which is recorded", Force: true,
		}
	case len(p.GetExcused()) > mostExcused:
		return &Refusal{
			Reason: fmt.Sprintf("%d sites that would take over are not known to be well now, more than the %d that a drain in steps passes over", len(p.GetExcused()), mostExcused),
			Remedy: "restore them first, drain a part of it, or drain at once with --now",
		}
	case len(lacking) > 0:
		o.Forced, w.forced = true, true
	}
	if len(p.GetExcused()) > 0 {
		w.prev.Warnings = append(w.prev.Warnings, "not known to be well now, so passed over by its steps: "+list(p.GetExcused()))
	}
	return nil
}

// takers visits, for each service that has a site in a scope, the sites that may take over
// from it: those that no drain takes, and of them none without a weight.
func (w *work) takers(o *plan.Override, scope steer.Scope, visit func(s site, takers []site)) {
	others := drainScopes(w.next, func(d *plan.Override) bool { return d.GetId() != o.GetId() && !d.GivesBack() })
	clusters := clustersOf(w.set)
	var last *site
	for _, s := range covered(w.set, scope) {
		if last != nil && last.service == s.service {
			continue
		}
		last = &s
		var takers []site
		for i := range s.service.Endpoints {
			e := &s.service.Endpoints[i]
			t := site{service: s.service, end: e, cluster: clusters[e.Cluster]}
			if t.cluster == nil || t.cluster.Environment != s.service.Environment || scope.Covers(s.service.Name, t.cluster) || weightless(t) {
				continue
			}
			if !slices.ContainsFunc(others, func(k steer.Scope) bool { return k.Covers(s.service.Name, t.cluster) }) {
				takers = append(takers, t)
			}
		}
		visit(s, takers)
	}
}

// foresee makes every drain of the next plan that is on its way what it comes to, until it
// is told to undo that; nil: none is. A last site is to be seen before it goes.
func (w *work) foresee() (undo func()) {
	held := map[*plan.Override]*plan.Pace{}
	for _, o := range w.next.GetOverrides() {
		if s := o.GetPace().GetState(); s == plan.Pace_MOVING || s == plan.Pace_HELD {
			held[o], o.Pace = o.GetPace(), nil
		}
	}
	if len(held) == 0 {
		return nil
	}
	return func() {
		for o, p := range held {
			o.Pace = p
		}
	}
}

// giveBack begins the return of what a drain has taken, in as many steps as it was taken
// in; the first at once where the site is well. It tells whether that is all.
func (w *work) giveBack(o *plan.Override, well bool) (ended bool) {
	old, from := o.GetPace(), o.Keep()
	moves, wait := w.lastRun(o.GetScope())
	if old != nil {
		wait = old.GetWait().AsDuration()
	}
	p := &plan.Pace{
		Steps: []uint32{from}, Wait: durationpb.New(wait), Since: timestamppb.New(w.s.Now), Next: timestamppb.New(w.s.Now),
		State: plan.Pace_RETURNING, Why: old.GetWhy(), Revision: w.next.GetRevision(), Writes: old.GetWrites() + 1,
	}
	for _, m := range moves {
		if m > from && m < plan.Whole {
			p.Steps = append(p.Steps, m)
		}
	}
	p.Steps = append(p.Steps, plan.Whole)
	if from >= plan.Whole || well && len(p.GetSteps()) == 2 {
		return true
	}
	if well {
		p.Step, p.Next = 1, timestamppb.New(w.s.Now.Add(wait))
	}
	o.Pace = p
	return false
}

// previewSteps shows the steps to come.
func (w *work) previewSteps(p *plan.Pace) {
	after := time.Duration(0)
	for i, keep := range p.GetSteps() {
		if i < int(p.GetStep()) {
			continue
		}
		if i > 0 || p.GetState() != plan.Pace_RETURNING { // a return's first is where it begins, and no step
			w.prev.Steps = append(w.prev.Steps, PaceStep{Moved: int(plan.Whole - keep), After: after.Seconds()})
		}
		if i == int(p.GetStep()) {
			after += max(p.GetNext().AsTime().Sub(w.s.Now), 0)
		} else {
			after += p.GetWait().AsDuration()
		}
	}
}
