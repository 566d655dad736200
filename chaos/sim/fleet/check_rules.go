package fleet

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// What is promised of drains in steps, interlocks and rollouts has no row of INVARIANTS:
// SEMANTICS, section 4.
const (
	rowPace      = "Pace"
	rowInterlock = "Interlock"
	rowRollout   = "Rollout"
	rowSpill     = "Spill"
)

// specOf finds what follows from the spec that a reference names.
func (w *world) specOf(ref *plan.SpecRef) *prepared {
	return w.docs[plan.Hash(ref.GetHash())]
}

// meant tells whether people let a site serve: by no drain that takes, whatever its step.
func meant(p *plan.Plan, set *spec.Set, svc *spec.GlobalService, e *spec.Endpoint) bool {
	c := set.Cluster(e.Cluster)
	if c == nil || svc.Steering.Policy == spec.PolicyWeighted && e.Weight == 0 {
		return false
	}
	return !slices.ContainsFunc(p.GetOverrides(), func(o *plan.Override) bool {
		scope, err := steer.ParseScope(o.GetScope())
		if err != nil || o.GetKind() != plan.Override_DRAIN || !scope.Covers(svc.Name, c) {
			return false
		}
		switch o.GetPace().GetState() {
		case plan.Pace_RETURNING, plan.Pace_ROLLING_BACK, plan.Pace_ROLLED_BACK:
			return false
		}
		return true
	})
}

// inService counts the clusters of which people let some site serve that has not failed.
func inService(p *plan.Plan, set *spec.Set, states map[health.Subject]health.State) int {
	n := 0
	for _, c := range set.Clusters {
		if slices.ContainsFunc(set.Services, func(svc *spec.GlobalService) bool {
			e := svc.Endpoint(c.Name)
			return e != nil && meant(p, set, svc, e) && !slices.ContainsFunc(e.Addresses, func(a netip.Addr) bool {
				return slices.ContainsFunc(steer.Subjects(svc, a), func(s steer.SubjectOf) bool { return states[s.Subject] == health.Down })
			})
		}) {
			n++
		}
	}
	return n
}

// checkStep: more clients leave only when every registered director has the step before
// (S6), its wait is over, and who takes over is well; never where a person has said that
// nothing moves.
func (w *world) checkStep(old *plan.Override, prev, next *plan.Sealed, c *commit) {
	pace := old.GetPace()
	for _, d := range next.Plan.Active() {
		if has := w.ledger.ackeds[d.GetName()]; has.Revision < pace.GetRevision() {
			w.wrong("S6", "a step of the drain of %s in %s, and %s has acknowledged %s only", old.GetScope(), order(next.Identity), d.GetName(), order(has))
		}
	}
	if c.term == nil {
		return // a person hastens it
	}
	if early := pace.GetNext().AsTime().Sub(next.Plan.GetWritten().AsTime()); early > 0 {
		w.wrong(rowPace, "%s takes a step of the drain of %s, %s before its wait is over", c.cmd.ID, old.GetScope(), early)
	}
	scope, err := steer.ParseScope(old.GetScope())
	if err != nil {
		return
	}
	// By clocks that agree, the wait counts from the last acknowledgement.
	wait := pace.GetWait().AsDuration()
	if old.Keep() == plan.Whole {
		wait = leastTTL
	}
	since := c.at - w.ledger.allAcked(next.Plan.Active(), pace.GetRevision())
	if since < wait && !slices.ContainsFunc(w.faults, func(f *fault) bool { return f.What == "clock" }) {
		w.wrong(rowPace, "%s takes a step of the drain of %s, %s after the last director has acknowledged the one before, and not %s", c.cmd.ID, old.GetScope(), since, wait)
	}
	for _, svc := range c.stable.set.Services {
		within := func(e spec.Endpoint) bool { return scope.Covers(svc.Name, c.stable.set.Cluster(e.Cluster)) }
		if !slices.ContainsFunc(svc.Endpoints, within) {
			continue
		}
		for _, o := range prev.Plan.GetOverrides() {
			if o.GetKind() == plan.Override_OBSERVE && o.GetAuthor() != core.SpecAuthor && (o.GetScope() == "fleet" || o.GetScope() == "service/"+svc.Name) {
				w.wrong("S18", "%s takes a step of the drain of %s, in spite of a freeze of %s", c.cmd.ID, old.GetScope(), o.GetScope())
			}
		}
		for _, e := range svc.Endpoints {
			if within(e) || !meant(prev.Plan, c.stable.set, svc, &e) || slices.Contains(pace.GetExcused(), svc.Name+"@"+e.Cluster) || slices.Contains(pace.GetExcused(), "service/"+svc.Name+"@"+e.Cluster) {
				continue
			}
			if slices.ContainsFunc(e.Addresses, func(a netip.Addr) bool { return w.dead(a, c.at-6*time.Second) }) {
				w.wrong(rowPace, "%s takes a step of the drain of %s onto %s@%s, which is dead", c.cmd.ID, old.GetScope(), svc.Name, e.Cluster)
			}
		}
	}
}

// checkRules holds a write against the interlocks that were in force before it: nothing but
// a person's force takes more away than they allow, nor moves what a closed gate guards.
func (w *world) checkRules(prev, next *plan.Sealed, c *commit) {
	before, after := w.specOf(prev.Plan.GetSpec()), w.specOf(next.Plan.GetSpec())
	forced := c.does.Force || c.does.Verb == core.GoOn && prev.Plan.GetRollout().GetForced()
	if before == nil || after == nil || len(before.set.Interlocks) == 0 || forced {
		return
	}
	if had, left := inService(prev.Plan, before.set, c.states), inService(next.Plan, after.set, c.states); left < atLeast && left < had {
		w.wrong(rowInterlock, "%s %s %s leaves %d clusters in service of %d, and %d are wanted", c.cmd.ID, c.cmd.Verb, c.cmd.Scope, left, had, atLeast)
	}
	if prev.Plan.Switch(switchName).GetOn() {
		return
	}
	name := clusters[gated].name
	for _, svc := range before.set.Services {
		was, is := false, false
		if e := svc.Endpoint(name); e != nil {
			was = meant(prev.Plan, before.set, svc, e)
		} else {
			continue // it served nobody yet
		}
		if now := after.set.Service(svc.Name); now != nil {
			if e := now.Endpoint(name); e != nil {
				is = meant(next.Plan, after.set, now, e)
			}
		}
		if was != is {
			w.wrong(rowInterlock, "%s %s %s moves %s@%s, which a closed gate guards", c.cmd.ID, c.cmd.Verb, c.cmd.Scope, svc.Name, name)
		}
	}
}

// checkRollout holds what begins, ends and takes back a rollout against what was said of
// it: the soak is over and acknowledged, nothing is worse by it, and nobody else has it.
func (w *world) checkRollout(prev, next *plan.Sealed, c *commit) {
	r, now := prev.Plan.Soaking(), next.Plan.Soaking()
	spec := string(next.Plan.GetSpec().GetHash())
	verb := c.does.Verb
	switch {
	case verb == core.Revert && r == nil:
		w.checkRevert(prev, next)
	case r == nil:
	case verb == core.GoOn:
		if spec != string(r.GetCanary().GetHash()) && !sameObjects(w.specOf(next.Plan.GetSpec()), w.specOf(r.GetCanary())) {
			w.wrong(rowRollout, "%s has all take another spec than the one that was tried", c.cmd.ID)
		}
		if c.term != nil {
			w.checkSoak(r, next, c)
		}
	case now != nil && string(now.GetCanary().GetHash()) != string(r.GetCanary().GetHash()):
		w.wrong(rowRollout, "%s %s changes what is tried", c.cmd.ID, verb)
	case spec != string(prev.Plan.GetSpec().GetHash()):
		w.wrong(rowRollout, "%s %s changes the spec of all in a rollout", c.cmd.ID, verb)
	case now == nil && verb != core.Abort && verb != core.Revert:
		w.wrong(rowRollout, "%s %s ends a rollout", c.cmd.ID, verb)
	}
}

// checkSoak: the leader goes on only after the soak, when all who try it have it, and
// onto nothing that is worse for a site that is well.
func (w *world) checkSoak(r *plan.Rollout, next *plan.Sealed, c *commit) {
	if early := r.GetEnd().AsTime().Sub(next.Plan.GetWritten().AsTime()); early > 0 {
		w.wrong(rowRollout, "%s has all go on %s before the end of the soak", c.cmd.ID, early)
	}
	for _, name := range r.GetOn() {
		if has := w.ledger.ackeds[name]; has.Revision < r.GetRevision() {
			w.wrong("S6", "%s has all go on with what %s tries, which has acknowledged %s only", c.cmd.ID, name, order(has))
		}
	}
	// All acknowledge what is tried, unless a few do not for the soak and 15 s more.
	var lacking []string
	active := next.Plan.Active()
	for _, d := range active {
		if w.ledger.ackeds[d.GetName()].Revision < r.GetRevision() {
			lacking = append(lacking, d.GetName())
		}
	}
	if long := next.Plan.GetWritten().AsTime().Sub(r.GetEnd().AsTime()); len(lacking) > 0 && (long < 15*time.Second || 2*len(lacking) >= len(active)) {
		w.wrong("S6", "%s has all go on %s after the soak, and %s of %d have not acknowledged it", c.cmd.ID, long, strings.Join(lacking, ", "), len(active))
	}
	tried, all := w.specOf(r.GetCanary()), c.stable
	if tried == nil || !slices.ContainsFunc(tried.subjects, func(s health.Subject) bool {
		is := slices.ContainsFunc(all.subjects, func(o health.Subject) bool { return o.Addr.Addr() == s.Addr.Addr() && !shut(o.Addr) })
		held := slices.ContainsFunc(all.subjects, func(o health.Subject) bool { return o.Addr.Addr() == s.Addr.Addr() && c.states[o] == health.Down })
		return shut(s.Addr) && is && !held && w.soundFor(s, 20*time.Second)
	}) {
		return // a site that is new may be down, as may one that S10 holds out by both
	}
	w.wrong(rowRollout, "%s has all go on with a probe that sites fail which are well", c.cmd.ID)
}

// soundFor tells whether nothing at all was wrong with a subject's cluster for so long.
func (w *world) soundFor(s health.Subject, long time.Duration) bool {
	return !slices.ContainsFunc(w.faults, func(f *fault) bool {
		return f.At <= w.now && f.until > w.now-long && (f.What == "lie" || slices.Contains(f.Args, clusterOf(s.Addr.Addr())))
	})
}

// checkSpill: balancing is the leader's, moves nothing where a person has said that nothing
// moves, comes once a minute, and changes nothing else of what people or failures have said;
// nobody else changes what a plan says of loads.
func (w *world) checkSpill(prev, next *plan.Sealed, c *commit) {
	was, is := prev.Plan.GetSpill(), next.Plan.GetSpill()
	switch {
	case c.does.Verb != core.Spill:
		if !proto.Equal(was, is) && string(prev.Plan.GetSpec().GetHash()) == string(next.Plan.GetSpec().GetHash()) {
			w.wrong(rowSpill, "%s %s changes what the plan says of loads", c.cmd.ID, c.cmd.Verb)
		}
		return
	case !slices.EqualFunc(prev.Plan.GetOverrides(), next.Plan.GetOverrides(), func(a, b *plan.Override) bool { return proto.Equal(a, b) }),
		string(prev.Plan.GetSpec().GetHash()) != string(next.Plan.GetSpec().GetHash()):
		w.wrong("S18", "%s changes more than what the plan says of loads", c.cmd.ID)
	case slices.ContainsFunc(prev.Plan.GetOverrides(), func(o *plan.Override) bool {
		return o.GetKind() == plan.Override_OBSERVE && o.GetScope() == "fleet"
	}):
		w.wrong("S18", "%s moves clients of a frozen fleet", c.cmd.ID)
	}
	if since := is.GetAt().AsTime().Sub(was.GetAt().AsTime()); was.GetAt() != nil && since > 0 && since < 50*time.Second {
		w.wrong(rowSpill, "%s comes %s after the last", c.cmd.ID, since)
	}
	for _, p := range is.GetPools() {
		old := shareOf(was, p.GetScope())
		if name, _ := strings.CutPrefix(p.GetScope(), "cluster/"); left(p.GetShare()) < left(old) && !w.busyLately(name) {
			w.wrong(rowSpill, "%s sends clients of %s away, which has room", c.cmd.ID, name)
		}
	}
}

// busyLately tells whether a cluster has had too many clients in the last minute.
func (w *world) busyLately(name string) bool {
	return slices.ContainsFunc(w.faults, func(f *fault) bool {
		return f.What == "busy" && f.of(name) && f.At <= w.now && f.until > w.now-time.Minute
	})
}

func shareOf(s *plan.Spill, scope string) uint32 {
	for _, p := range s.GetPools() {
		if p.GetScope() == scope {
			return p.GetShare()
		}
	}
	return 0
}

// left is the share of its clients that a pool keeps; 0 says all.
func left(share uint32) uint32 {
	if share == 0 {
		return 100
	}
	return share
}

// checkRevert: a revert says what the spec before said, and nothing else.
func (w *world) checkRevert(prev, next *plan.Sealed) {
	was := prev.Plan.GetPrevious()
	if was == nil || !sameObjects(w.specOf(next.Plan.GetSpec()), w.specOf(was)) {
		w.wrong(rowRollout, "plan %s reverts to another spec than the one before", order(next.Identity))
	}
}

// sameObjects tells whether two documents say the same, whoever brought it.
func sameObjects(a, b *prepared) bool {
	text := func(p *prepared) (out []string) {
		if p == nil {
			return nil
		}
		for _, o := range p.doc.GetObjects() {
			if !o.GetRemoved() {
				out = append(out, o.GetKind()+"/"+o.GetName()+string(o.GetJson()))
			}
		}
		slices.Sort(out)
		return out
	}
	return slices.Equal(text(a), text(b))
}

// checkSerials holds the serials that a director answers with against S13: none goes back while
// it lives, also from what it alone tries to what all have.
func (l *ledger) checkSerials(p *director, f *inForce) {
	if tries(f.sealed.Plan, p.name) != (f.trial != nil && f.on(p.name) == f.trial) {
		p.w.wrong(rowRollout, "%s is not to answer from what it answers from in plan %s", p.name, order(f.sealed.Identity))
	}
	old := p.serials
	p.serials = map[string]uint32{}
	for _, z := range f.sealed.Plan.GetZones() {
		p.serials[z.GetName()] = z.GetSerial()
		if tries(f.sealed.Plan, p.name) {
			p.serials[z.GetName()] = uint32(f.sealed.Plan.GetRevision())
		}
		if was, had := old[z.GetName()]; had && int32(p.serials[z.GetName()]-was) < 0 {
			p.w.wrong("S13", "%s answers with serial %d of %s, and had answered with %d", p.name, p.serials[z.GetName()], z.GetName(), was)
		}
	}
}

// tries tells whether a director is one that tries another spec.
func tries(p *plan.Plan, name string) bool {
	return p.GetRollout().GetState() == plan.Rollout_SOAKING && slices.Contains(p.GetRollout().GetOn(), name)
}

// checkRamps holds the shares of sites that have come back against their ages (S10): a
// tenth in the first third of the ramp, a half until its end, where others are well.
func (w *world) checkRamps(p *director, svc *spec.GlobalService, s *steer.Service, set *steer.Set) {
	ramp := svc.Steering.Ramp
	if ramp == 0 || set.Tier != steer.TierHealthy {
		return
	}
	age := func(c *steer.Choice) time.Duration { // since its return; long: it never was away
		least := time.Hour
		for _, a := range s.Addrs(steer.IPv4, c) {
			for _, of := range steer.Subjects(svc, a) {
				chain := p.book.Chain(of.Subject)
				if n := len(chain.Past); n > 1 && chain.State() == health.Up && health.After(chain.Past[n-2].N) == health.Down {
					least = min(least, w.time().Sub(chain.Since()))
				}
			}
		}
		return least
	}
	if !slices.ContainsFunc(set.Choices, func(c steer.Choice) bool { return age(&c) > ramp+10*time.Second }) {
		return // all return, or nobody else is there
	}
	for i := range set.Choices {
		c := &set.Choices[i]
		if c.Level > 0 {
			continue
		}
		back, most := age(c), 100
		switch {
		case back < ramp/3-loopTick:
			most = 10
		case back < ramp-loopTick:
			most = 50
		}
		if most < 100 && (c.Share == 0 || int(c.Share) > most) {
			w.wrong("S10", "%s, %s: %s came back %s ago and has %s of its clients", p.name, svc.Name, c.Cluster, back, share(c))
		}
	}
}

func share(c *steer.Choice) string {
	if c.Share == 0 {
		return "all"
	}
	return fmt.Sprintf("%d %%", c.Share)
}
