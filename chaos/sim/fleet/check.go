package fleet

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// check looks at what a step has changed.
func (w *world) check(p *director) {
	if p != nil && p.up && p.force != nil && len(p.words.judged) > 0 {
		w.checkEmergencies(p)
	}
	if p != nil && p.up && p.changed {
		p.changed = false
		w.checkAnswers(p)
	}
}

// checkAnswers holds what one director answers from against S1, S2, S9 and S11, all
// worked out from the rules alone.
func (w *world) checkAnswers(p *director) {
	f := p.force
	if f == nil {
		return
	}
	states, with := p.book.Standing(), p.overlaid(f)
	for i := range p.decision.Services {
		s := &p.decision.Services[i]
		side := f.prepared
		if tries(f.sealed.Plan, p.name) {
			side = f.trial
		}
		svc := side.set.Service(s.Name)
		if svc == nil {
			w.wrong("S2", "%s answers for %s, which its plan does not have", p.name, s.Name)
			return
		}
		sites := w.sites(svc, side.set, with, states)
		for n := range places {
			set := s.V4.For(netip.Prefix{}, uint16(n))
			w.checkSet(p, svc, s, set, sites, n)
			if !s.Observing && !slices.ContainsFunc(sites, func(s site) bool { return s.moving }) {
				w.checkRamps(p, svc, s, set)
			}
		}
	}
}

// site is the standing of an endpoint, by the rules.
type site struct {
	cluster           *spec.Cluster
	addresses         []netip.Addr
	failed, degraded  bool
	drained, lastOnly bool
	moving            bool // some of its clients have left, or are back
	present           bool
}

func (w *world) sites(svc *spec.GlobalService, set *spec.Set, of *plan.Plan, states map[health.Subject]health.State) []site {
	var out []site
	for _, e := range svc.Endpoints {
		s := site{cluster: set.Cluster(e.Cluster), addresses: e.Addresses, present: svc.Steering.Policy != spec.PolicyWeighted || e.Weight > 0, lastOnly: true}
		live, sound := 0, 0
		for _, a := range e.Addresses {
			down, soft := false, false
			for _, of := range steer.Subjects(svc, a) {
				down = down || states[of.Subject] == health.Down
				soft = soft || of.Fast && states[health.Gray(of.Subject.Addr)] == health.Down
			}
			if !down {
				live++
				if !soft {
					sound++
				}
			}
		}
		s.failed, s.degraded = live == 0, live > 0 && sound == 0
		for _, o := range of.GetOverrides() {
			if scope, err := steer.ParseScope(o.GetScope()); err == nil && o.GetKind() == plan.Override_DRAIN && scope.Covers(svc.Name, s.cluster) {
				s.drained, s.lastOnly = s.drained || o.Keep() == 0, s.lastOnly && o.GetLastResort()
				s.moving = s.moving || o.GetPace() != nil && o.Keep() > 0
			}
		}
		out = append(out, s)
	}
	return out
}

// allows is residency, for the clients of a place; nobody knows where those of the
// first are, and they may have what every rule allows.
func allows(svc *spec.GlobalService, place int, c *spec.Cluster) bool {
	p := places[place]
	for i := range svc.Residency {
		r := &svc.Residency[i]
		covers := place == 0 && svc.ResidencyUnknown != spec.ResidencyUnknownAllow || place > 0 && r.Clients.Has(p.Country, p.Continent)
		if covers && !r.Allows(c) {
			return false
		}
	}
	return true
}

func (w *world) checkSet(p *director, svc *spec.GlobalService, s *steer.Service, set *steer.Set, sites []site, place int) {
	who := fmt.Sprintf("%s, %s, clients of %q", p.name, svc.Name, places[place].Country)
	chosen := map[string]bool{}
	for i := range set.Choices {
		c := &set.Choices[i]
		chosen[c.Cluster] = true
		n := slices.IndexFunc(sites, func(s site) bool { return s.cluster.Name == c.Cluster })
		addrs := s.Addrs(steer.IPv4, c)
		switch {
		case n < 0 || slices.ContainsFunc(addrs, func(a netip.Addr) bool { return !slices.Contains(sites[n].addresses, a) }):
			w.wrong("S2", "%s: %s with %v is in no plan", who, c.Cluster, addrs)
			return
		case len(addrs) == 0:
			w.wrong("S1", "%s: %s is chosen and has no address", who, c.Cluster)
		case !allows(svc, place, sites[n].cluster):
			w.wrong("S11", "%s: sent to %s, which residency does not allow (%s)", who, c.Cluster, set.Tier)
		}
	}
	allowed := slices.DeleteFunc(slices.Clone(sites), func(s site) bool { return !allows(svc, place, s.cluster) || !s.present })
	if len(allowed) > 0 && len(chosen) == 0 {
		w.wrong("S1", "%s: no answer (%s)", who, set.Tier)
	}
	if s.Observing {
		return // by what was so when it was frozen
	}
	if slices.ContainsFunc(sites, func(s site) bool { return s.moving }) || svc.Steering.Ramp > 0 && !p.rampNext.IsZero() {
		return // by shares of the clients, which steer's own tests look at
	}
	// S9: which degraded sites may leave the healthy tier.
	var degraded, all int64
	domains := map[string]bool{}
	for _, s := range sites {
		if !s.present {
			continue
		}
		all += 100
		if s.degraded && !s.drained {
			degraded += 100
			domains[s.cluster.FaultDomain] = true
		}
	}
	leave := len(domains) <= 1 || 2*degraded <= all
	// rank orders sites as S1 does; lower serves.
	rank := func(s site) int {
		switch {
		case !s.drained && !s.failed && (!s.degraded || !leave):
			return 0
		case !s.drained && !s.failed:
			return 1
		case s.drained && s.lastOnly && !s.failed:
			return 2
		case !s.drained:
			return 3
		default:
			return 4
		}
	}
	best := 9
	for _, s := range allowed {
		best = min(best, rank(s))
	}
	for _, s := range allowed {
		is, ought := chosen[s.cluster.Name], rank(s) == best
		switch {
		case best <= 1 && is && !ought, best == 2 && is && rank(s) > 2, best == 3 && is && rank(s) > 3:
			row := "S1"
			if s.degraded && rank(s) < 2 {
				row = "S9"
			}
			w.wrong(row, "%s: sent to %s, though better stands (%s)", who, s.cluster.Name, set.Tier)
		case best == 0 && !is && ought && s.degraded:
			w.wrong("S9", "%s: degraded %s left the healthy, though too many are", who, s.cluster.Name)
		case best == 0 && !is && ought:
			w.wrong("S17", "%s: %s is well by all that is in force, and is left out (%s)", who, s.cluster.Name, set.Tier)
		}
	}
}

// swap holds a plan that comes into force against S3 and S12.
func (l *ledger) swap(p *director) {
	id := p.ids.Force
	if who := l.usurped[id.Hash]; who != "" && who != p.name && !p.live.IsZero() { // who begins with an empty disk has nothing to hold it against
		p.w.wrong("S7", "%s answers from plan %s, which %s may not write", p.name, order(id), who)
	}
	at := [2]uint64{id.Epoch, id.Revision}
	mine := l.forced[p.name]
	if mine == nil {
		mine = map[[2]uint64]plan.Hash{}
		l.forced[p.name] = mine
	}
	if old, ok := mine[at]; ok && old != id.Hash && !l.forgot(p) {
		p.w.wrong("S3", "%s answers from another plan %s than it did", p.name, order(id))
	}
	mine[at] = id.Hash
	if old, ok := l.orders[at]; ok && old != id.Hash && l.swaps == 0 {
		p.w.wrong("S3", "%s answers from a plan %s that is another's with another hash", p.name, order(id))
	}
	l.orders[at] = id.Hash
	if !p.live.IsZero() && id.Compare(p.live) <= 0 {
		p.w.wrong("S3", "%s went from plan %s back to %s", p.name, order(p.live), order(id))
	}
	p.live = id
	l.checkSerials(p, p.force)
}

// started holds a restart against S12: what the disk has is answered from, at once.
func (l *ledger) started(p *director) {
	g, _ := p.disk.load()
	if g == nil {
		return
	}
	s, err := plan.Open(g.plan)
	if err != nil {
		return
	}
	if p.force == nil || p.ids.Force != s.Identity {
		p.w.wrong("S12", "%s does not answer from its last good plan %s", p.name, order(s.Identity))
	}
	if now := p.downs(); !slices.Equal(now, g.down) {
		p.w.wrong("S12", "%s begins with %v down, and its disk has %v", p.name, now, g.down)
	}
}

// acked holds an acknowledgement against S6 and S3.
func (l *ledger) acked(p *director, id plan.Identity) {
	g, _ := p.disk.load()
	onDisk := g != nil && g.id == id
	switch {
	case id != p.ids.Force:
		p.w.wrong("S6", "%s acknowledges plan %s, and answers from %s", p.name, order(id), order(p.ids.Force))
	case !onDisk:
		p.w.wrong("S6", "%s acknowledges plan %s, which is not on its disk", p.name, order(id))
	case id.Compare(l.ackeds[p.name]) < 0 && l.forgot(p) && !p.hearsOf(id):
		// Of what it had, nobody is left who knows.
	case id.Compare(l.ackeds[p.name]) < 0:
		p.w.wrong("S3", "%s acknowledges plan %s, and had acknowledged %s", p.name, order(id), order(l.ackeds[p.name]))
	}
	if old := l.acks[p.name]; len(old) == 0 || old[len(old)-1].revision < id.Revision {
		l.acks[p.name] = append(old, ack{revision: id.Revision, at: p.w.now})
	}
	l.ackeds[p.name] = id
}

// forgot tells whether both have lost what they had: the disk of a director, and the
// store.
func (l *ledger) forgot(p *director) bool { return l.swaps > 0 && p.disk.hurtn > 0 }

// hearsOf tells whether a director hears another that answers from a later plan.
func (p *director) hearsOf(id plan.Identity) bool {
	return slices.ContainsFunc(p.w.directors, func(d *director) bool {
		at, heard := p.heard[d.name]
		return d.up && heard && p.w.now-at <= time.Second && d.ids.Force.Compare(id) > 0
	})
}

// has tells whether who holds one plan holds what another brought.
func has(id, other plan.Identity) bool {
	return id.Epoch > other.Epoch || id.Epoch == other.Epoch && id.Revision >= other.Revision
}

// complete holds "done, everywhere" against S6.
func (l *ledger) complete(p *director, op *operation) {
	for _, e := range p.force.sealed.Plan.Active() {
		d := p.w.director(e.GetName())
		if d == nil || !d.up || d.disk.hurtn > op.began {
			continue // what was on its disk is not its fault
		}
		if !has(d.ids.Force, op.got.id) {
			p.w.wrong("S6", "%s %s is told to be complete, and %s answers from %s", op.cmd.ID, op.cmd.Verb, d.name, order(d.ids.Force))
			return
		}
		g, _ := d.disk.load()
		if g != nil && !has(g.id, op.got.id) {
			p.w.wrong("S6", "%s %s is told to be complete, and the disk of %s has %s", op.cmd.ID, op.cmd.Verb, d.name, order(g.id))
		}
	}
}

// transition holds a transition that came into force on a director against S7, S8, S10
// and S17.
func (l *ledger) transition(p *director, c health.Certificate, judged bool) {
	w := p.w
	births := l.births[c.Subject]
	born := slices.ContainsFunc(births, func(b birth) bool { return b.n == c.N })
	if judged && p.hears() < p.book.Quorum().Directors/2+1 {
		w.wrong("S8", "%s hears %d of %d, and makes %s %s", p.name, p.hears(), p.book.Quorum().Directors, c.Subject, c.To())
	}
	if born || c.N == 0 {
		return
	}
	if !judged && len(births) > 0 && births[len(births)-1].n < c.N {
		w.wrong("S7", "%s has transition %d of %s in force, which nobody judged", p.name, c.N, c.Subject)
	}
	if c.To() == health.Down {
		w.report.Falls++
		var doubting []string
		for _, d := range w.directors {
			if w.hurts(d, c.Subject, w.now-5*time.Second) {
				doubting = append(doubting, d.name)
			}
		}
		if need := p.book.Quorum().Votes; len(doubting) == 0 {
			w.wrong("S17", "%s fell, and nobody had a reason (%s)", c.Subject, c.Reason)
		} else if len(doubting) < need {
			w.wrong("S7", "%s fell by %s alone, of whom %d are needed (%s)", c.Subject, strings.Join(doubting, ", "), need, c.Reason)
		}
	} else {
		l.checkBack(p, c, births)
	}
	l.births[c.Subject] = append(births, birth{n: c.N, at: w.now})
}

// checkBack is S10: not before ten seconds after the fall, and not while more than two
// transitions lie in ten minutes, unless a person has said so. It is L1 too: who has been dead
// for everybody for longer than the bound that is exported does not come back.
func (l *ledger) checkBack(p *director, c health.Certificate, births []birth) {
	if a := c.Subject.Addr.Addr(); c.Subject.Kind == health.KindCheck { // a signal passes where all hangs
		if known := p.w.known(p, clusterOf(a)); p.w.dead(a, p.w.now-known) {
			p.w.wrong("L1", "%s is back, and has been dead for everybody for more than %s", c.Subject, known)
		}
	}
	for _, d := range p.w.directors {
		if d.up && d.force != nil {
			if _, ok := core.Readmitted(d.force.sealed.Plan, d.force.set)[c.Subject]; ok {
				return
			}
		}
	}
	now, lately := p.w.now, 0
	for _, b := range births {
		if b.n == c.N-1 && now-b.at < 10*time.Second {
			p.w.wrong("S10", "%s is back %s after its fall", c.Subject, now-b.at)
		}
		if now-b.at < 10*time.Minute && b.n < c.N {
			lately++
		}
	}
	forgot := 0 // whose disk lost what it had of them: enough of those may vote for a return
	for _, d := range p.w.directors {
		if d.disk.hurtn > 0 && now-d.disk.hurtn < 10*time.Minute {
			forgot++
		}
	}
	if lately > 2 && forgot < p.book.Quorum().Votes {
		p.w.wrong("S10", "%s is back after %d transitions in ten minutes", c.Subject, lately)
	}
}

// hears counts the directors whose messages reached this one within a second, itself
// included.
func (p *director) hears() int {
	n := 1
	for _, at := range maps.All(p.heard) {
		if p.w.now-at <= time.Second {
			n++
		}
	}
	return n
}
