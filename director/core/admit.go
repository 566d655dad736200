package core

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/steer"
)

// Utilisation is how full a site is, and is predicted to be after a change.
type Utilisation struct {
	Pool   string `json:"pool"` // cluster/ams, service/shop@ams of one with a capacity of its own
	Now    int    `json:"now"`  // per cent of its capacity
	Then   int    `json:"then"`
	Target int    `json:"target"` // safety.targetUtilisation
}

// beyondWhy says what Loads.Beyond means.
const beyondWhy = "more than twice as many answers a second are handed out as all capacities come to, so they are in another unit, or this is a flood"

// Odd says why nothing can be held against capacities; "" = it can.
func (l *Loads) Odd() string {
	if l == nil || !l.Beyond {
		return ""
	}
	return beyondWhy
}

// settling is how long loads may lack what a drain has moved: they are rates of a minute,
// of five at most where TTLs are long, and those who were told before ask again later.
const settling = 6 * time.Minute

// unsettled compares with the plan in force as it were without the drains of other scopes
// of which the loads may not know yet; nil where there is none, or nobody wrote a capacity. Since who was moved by
// them is looked for where the loads have him, nobody is counted twice once these have
// caught up.
func (w *work) unsettled(scope steer.Scope) *verdict {
	if w.s.Plan == nil || w.s.Loads == nil || len(poolsOf(w.set)) == 0 {
		return nil // nothing is predicted
	}
	young := func(o *plan.Override) bool {
		from := o.GetStart().AsTime()
		if p := o.GetPace(); p != nil {
			from = p.GetSince().AsTime()
		}
		return o.GetKind() == plan.Override_DRAIN && o.GetScope() != scope.String() && w.s.Now.Sub(from) < settling
	}
	if !slices.ContainsFunc(w.s.Plan.Plan.GetOverrides(), young) {
		return nil
	}
	was := proto.CloneOf(w.s.Plan.Plan)
	was.Overrides = slices.DeleteFunc(was.Overrides, young)
	if undo := w.foresee(); undo != nil {
		defer undo()
	}
	return w.compareTo(was)
}

// predicted says how full the sites would be that get clients by a change, the fullest
// first, and warns where nobody can say. Of two comparisons the worse counts.
func (w *work) predicted(v, unsettled *verdict) []Utilisation {
	list := poolsOf(w.set)
	if len(list) == 0 {
		return nil // nobody wrote a capacity
	}
	if w.s.Loads == nil {
		w.prev.Warnings = append(w.prev.Warnings, "how busy the sites are is not known yet, so nobody can say whether the others have room")
		return nil
	}
	if w.s.Loads.Beyond {
		w.prev.Warnings = append(w.prev.Warnings, beyondWhy+", so nobody can say whether the others have room")
	}
	p := newPredictor(w.s.Loads, list, w.clientsOf(w.s.Spec, w.set))
	shift := p.shift(v.services)
	if unsettled != nil {
		for at, by := range p.shift(unsettled.services) {
			shift[at] = max(shift[at], by)
		}
	}
	var out []Utilisation
	for _, p := range list {
		by := p.per(shift[p.Scope])
		if by < 0.5 {
			continue
		}
		load, known := w.s.Loads.Pools[p.Scope]
		if !known {
			if !w.s.Loads.Beyond { // which says it of all
				w.prev.Warnings = append(w.prev.Warnings, fmt.Sprintf("how busy %s is is not known, and it gets clients", p.Scope))
			}
			continue
		}
		out = append(out, Utilisation{
			Pool: p.Scope.String(), Now: int(math.Round(p.per(load))), Then: int(math.Round(p.per(load) + by)), Target: w.set.Fleet.TargetUtilised,
		})
	}
	slices.SortStableFunc(out, func(a, b Utilisation) int { return b.Then - a.Then })
	return out
}

// admit refuses a drain that the others have no room for, as far as that can be
// predicted: the failure of one site must not crash the next, nor may a person's drain.
func (w *work) admit(v *verdict, scope steer.Scope, o *plan.Override) error {
	w.prev.Utilisation = w.predicted(v, w.unsettled(scope))
	var over, near []string
	for _, u := range w.prev.Utilisation {
		text := fmt.Sprintf("%s to %d %% of its capacity (now %d %%)", strings.TrimPrefix(u.Pool, "cluster/"), u.Then, u.Now)
		switch {
		case u.Then > 100:
			over = append(over, text)
		case u.Then > u.Target:
			near = append(near, text)
		}
	}
	if len(near) > 0 {
		w.prev.Warnings = append(w.prev.Warnings, fmt.Sprintf("is predicted to bring %s: above the target of %d %%", list(near), w.set.Fleet.TargetUtilised))
	}
	if len(over) == 0 {
		return nil
	}
	if !w.c.Force {
		return &Refusal{
			Reason: fmt.Sprintf("draining %s is predicted to bring %s", scope, list(over)),
			Remedy: "restore another site first, wait for a quieter hour, or repeat it with --force, which is recorded", Force: true,
		}
	}
	o.Forced, w.forced = true, true
	w.prev.Warnings = append(w.prev.Warnings, "is predicted to bring "+list(over))
	return nil
}
