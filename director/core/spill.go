package core

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
)

// The regulation of loads (SEMANTICS section 2, Capacity), in points: per cent of a
// pool's capacity.
const (
	spillEach  = time.Minute
	spillEarly = 5 * time.Second // what an epoch may be short of that, for two clocks that differ
	spillStep  = 4.0             // that a pool's load may be changed by in an epoch
	spillLeast = 1.0             // what is less is not worth moving anybody for
	spillBack  = 3.0             // below the target, before anybody comes back
	spillGain  = 2               // a step is the distance to the target divided by it
	spillMoved = 5.0             // by which a load differs from what is written before it is written anew
	spillWait  = 10 * time.Minute

	maxPools  = 1000 // in a plan
	maxSpills = 16   // pools whose shares change in an epoch: the others come next
)

// spillID names the leader's write, so that none is done twice.
func spillID(p *plan.Sealed) string {
	return fmt.Sprintf("spill-%d.%d", p.Identity.Epoch, p.Plan.GetSpill().GetNumber()+1)
}

// spill writes what the samples came to, if that is another than what is written.
func (w *work) spill() {
	next, what := w.nextSpill()
	if next == nil {
		w.noop, w.done = true, "the loads are what the plan says"
		return
	}
	w.next.Spill = next
	if len(what) == 0 {
		what = []string{"loads noted"}
	}
	w.what, w.done = "spill: "+list(what), "spill: "+list(what)
}

// nextSpill says what the plan is to say of loads next; nil: what it says already.
func (w *work) nextSpill() (*plan.Spill, []string) {
	old := w.s.Plan.Plan.GetSpill()
	if w.s.Loads == nil || w.still() || early(old.GetAt(), w.s.Now) {
		return nil, nil
	}
	if old, _ := w.tooOld(plan.ReaderSpill); len(old) > 0 && w.s.Plan.Plan.GetMinReader() < plan.ReaderSpill {
		return nil, nil // balancing begins when all can follow it: a fleet that is being upgraded must not lose half of itself
	}
	r := w.regulator(old)
	if len(r.gauges) > 0 {
		r.regulate()
		r.note()
	}
	next := &plan.Spill{Number: old.GetNumber() + 1, At: timestamppb.New(w.s.Now)}
	room := w.spillRoom()
	next.Pools = r.pools(old, min(poolsRoom, room))
	next.Trips = fit(w.trips(old.GetTrips()), min(tripsRoom, room-sizeOf(next.Pools)))
	samePools := slices.EqualFunc(next.GetPools(), old.GetPools(), func(a, b *plan.Pool) bool { return proto.Equal(a, b) })
	sameTrips := slices.EqualFunc(next.GetTrips(), old.GetTrips(), func(a, b *plan.Trip) bool { return proto.Equal(a, b) })
	if samePools && sameTrips {
		return nil, nil
	}
	if !sameTrips {
		r.what = append(r.what, "round trips noted")
	}
	return next, r.what
}

// early tells whether the last epoch is not over. One from the future is, since a clock
// was wrong then.
func early(at *timestamppb.Timestamp, now time.Time) bool {
	if at == nil {
		return false
	}
	since := now.Sub(at.AsTime())
	return since < spillEach-spillEarly && since > -spillEach
}

// still tells whether nothing of the fleet may move.
func (w *work) still() bool {
	return w.set.Fleet.Automation == spec.AutomationObserve || slices.ContainsFunc(w.s.Plan.Plan.GetOverrides(), func(o *plan.Override) bool {
		return o.GetKind() == plan.Override_OBSERVE && o.GetScope() == fleetScope
	})
}

// frozenServices lists those that a person has frozen.
func (w *work) frozenServices() map[string]bool {
	out := map[string]bool{}
	for _, o := range w.s.Plan.Plan.GetOverrides() {
		if scope, err := steer.ParseScope(o.GetScope()); err == nil && o.GetKind() == plan.Override_OBSERVE && scope.Kind == steer.ScopeService && o.GetAuthor() != SpecAuthor {
			out[scope.Service] = true
		}
	}
	return out
}

// By how much a round trip must differ from what is written before it is written anew:
// who is nearest must not change with the weather.
const (
	tripMoved = 5.0 // milliseconds
	tripPart  = 0.2 // of what is written
	maxTrips  = 2000
)

// trips lists the round trips that the plan is to say. One that nobody measures any more
// stays while there are directors in its site.
func (w *work) trips(old []*plan.Trip) []*plan.Trip {
	if !w.set.GoesByLatency() {
		return nil
	}
	sites, clusters := map[string]bool{}, clustersOf(w.set)
	for _, d := range w.next.Active() {
		sites[d.GetSite()] = true
	}
	written := map[Trip]*plan.Trip{}
	for _, t := range old {
		written[Trip{t.GetSite(), t.GetCluster()}] = t
	}
	for at, ms := range w.s.Loads.Trips {
		was := float64(written[at].GetMillis())
		if written[at] == nil || math.Abs(ms-was) > math.Max(tripMoved, tripPart*was) {
			written[at] = &plan.Trip{Site: at.Site, Cluster: at.Cluster, Millis: uint32(math.Round(math.Min(ms, 60_000)))}
		}
	}
	var out []*plan.Trip
	for at, t := range written {
		if sites[at.Site] && clusters[at.Cluster] != nil {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b *plan.Trip) int {
		return cmp.Or(cmp.Compare(a.GetSite(), b.GetSite()), cmp.Compare(a.GetCluster(), b.GetCluster()))
	})
	return out[:min(len(out), maxTrips)]
}

// checkSpill holds what a plan says of loads against what can be said: a share is of some
// clients, and each pool has one entry.
func checkSpill(p *plan.Plan) error {
	last := ""
	for _, l := range p.GetSpill().GetPools() {
		scope, err := steer.ParseScope(l.GetScope())
		switch {
		case err != nil || scope.Kind != steer.ScopeCluster && scope.Kind != steer.ScopeEndpoint:
			return fmt.Errorf("it says something of the load of %q, which is no site", l.GetScope())
		case l.GetShare() >= 100 || l.GetRefuses() > mostRefused:
			return fmt.Errorf("%s is to keep %d %% of its clients and refuse %d %% of others'", l.GetScope(), l.GetShare(), l.GetRefuses())
		case l.GetScope() <= last:
			return fmt.Errorf("what it says of loads is not in order at %s", l.GetScope())
		}
		last = l.GetScope()
	}
	return nil
}
