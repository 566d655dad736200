package steer

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
)

// The steps of a return (SEMANTICS section 1): so many percent of its clients for the
// first third of the ramp, then so many until its end.
const (
	firstShare = 10
	thenShare  = 50
	allShare   = 100
)

// together is how far apart sites come back that came back as one. Directors learn of a
// return within a second of each other, so they order two by more than that.
const together = 5 * time.Second

// Return is the up-certificate in force of a subject that had fallen.
type Return struct {
	At  time.Time     // when it came into force on this director
	Age time.Duration // the last of Steps that it has passed; 0 = none
}

// Steps lists the ages at which a return counts otherwise for some service of a spec, in
// order. Past the last of them it counts no more.
func Steps(set *spec.Set) []time.Duration {
	var out []time.Duration
	last := time.Duration(0)
	for _, svc := range set.Services {
		if ramp := svc.Steering.Ramp; ramp > 0 && ramp != last {
			out, last = append(out, ramp/3, ramp, ramp+together), ramp
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// back is how far a site has come back, in a family. The zero back is of one that never
// was away, or has been back for long.
type back struct {
	at    time.Time
	next  time.Time // when its share changes; zero: it has all of it
	share uint8     // percent
}

func backOf(r Return, ramp time.Duration) back {
	switch {
	case ramp <= 0 || r.Age >= ramp+together:
		return back{}
	case r.Age >= ramp:
		return back{at: r.At, share: allShare}
	case r.Age >= ramp/3:
		return back{at: r.At, next: r.At.Add(ramp), share: thenShare}
	default:
		return back{at: r.At, next: r.At.Add(ramp / 3), share: firstShare}
	}
}

// back rolls the returns of a site's subjects up: an address is back with the last of
// those that it needs, the site with the first of its addresses. One of which some address
// never fell has its clients already, and another address that returns takes none from it.
func (s *site) back(f int, states []health.State, src source) back {
	first, found := Return{}, false
	for i := range s.addrs[f] {
		a := &s.addrs[f][i]
		of := states[:len(a.subjects)]
		states = states[len(of):]
		if a.combine == nil && slices.Contains(of, health.Down) || a.combine != nil && a.short(func(j int) health.State { return of[j] }) {
			continue
		}
		r, ok := a.back(of, src.returns)
		if !ok {
			return back{}
		}
		if !found || r.At.Before(first.At) {
			first, found = r, true
		}
	}
	if !found {
		return back{}
	}
	return backOf(first, s.ramp)
}

// back finds the return by which an address that is not down was so no more: the first
// with which, and those before it, all that must pass did. Not ok: it was not down for
// lack of any of them.
func (a *address) back(states []health.State, returns map[health.Subject]Return) (r Return, ok bool) {
	if a.combine == nil { // the last
		for j := range a.subjects {
			if one, known := returns[a.subjects[j].Subject]; known && one.At.After(r.At) {
				r, ok = one, true
			}
		}
		return r, ok
	}
	of := make([]Return, len(a.subjects)) // of each subject
	var list []Return
	for j := range a.subjects {
		if one, known := returns[a.subjects[j].Subject]; known {
			of[j], list = one, append(list, one)
		}
	}
	// at gives the states as they were at an instant.
	at := func(t time.Time) func(j int) health.State {
		return func(j int) health.State {
			if !of[j].At.IsZero() && of[j].At.After(t) {
				return health.Down
			}
			return states[j]
		}
	}
	if len(list) == 0 || !a.short(at(time.Time{})) {
		return Return{}, false
	}
	slices.SortFunc(list, func(x, y Return) int { return x.At.Compare(y.At) })
	for _, r := range list {
		if !a.short(at(r.At)) {
			return r, true
		}
	}
	return Return{}, false
}

// short tells whether too few of what a service counts passes, by some states.
func (a *address) short(state func(j int) health.State) bool {
	t := a.tally(state)
	return t.passing < t.need(a.combine)
}

// comeBack looks at the returns of a site whose states are as they were, and tells whether
// they make a difference.
func (k *seen) comeBack(s *site, i int, src source) bool {
	r := s.rollUp(k.states[i], src)
	if old := k.rolls[i]; r[IPv4].back == old[IPv4].back && r[IPv6].back == old[IPv6].back {
		return false
	}
	k.own()
	k.rolls[i] = r
	return true
}

// comeBack decides anew for the sites whose subjects have other returns.
func (d *Decider) comeBack(now *facts) {
	moved := map[netip.Addr]struct{}{}
	note := func(a, b map[health.Subject]Return) {
		for s, r := range a {
			if other, ok := b[s]; !ok || other != r {
				moved[s.Addr.Addr()] = struct{}{}
			}
		}
	}
	note(d.returns, now.real.returns)
	note(now.real.returns, d.returns)
	if len(now.observations) > 0 { // which alone ask for them
		note := func(a, b map[health.Subject][]Return) {
			for s, list := range a {
				if !slices.Equal(list, b[s]) {
					moved[s.Addr.Addr()] = struct{}{}
				}
			}
		}
		note(d.earlier, now.earlier)
		note(now.earlier, d.earlier)
	}
	if len(moved) > 0 && d.watchers == nil {
		d.watchers = newWatchers(d.prepared)
	}
	for addr := range moved {
		for _, w := range d.watchers.of(addr) {
			// Under an observation it may be otherwise than what is observed.
			if d.kinds[w.kind].comeBack(&d.prepared.kinds[w.kind].sites[w.site], int(w.site), now.real) || len(now.observations) > 0 {
				d.kinds[w.kind].forget()
			}
		}
	}
}

// begun lists the returns that an observation found under way, which go on under it: were
// they over, it would send a site at once all the clients that it is to have in steps.
// Whatever falls meanwhile, and comes back, has not fallen, and goes on as it was, by the
// same clock. What was up when it began cannot have fallen and come back within together.
func begun(returns map[health.Subject]Return, earlier map[health.Subject][]Return, o *plan.Override) map[health.Subject]Return {
	if len(returns)+len(earlier) == 0 || o.GetStart() == nil {
		return nil
	}
	until := o.GetStart().AsTime().Add(together)
	out := make(map[health.Subject]Return, len(returns)+len(earlier))
	for s, list := range earlier {
		for _, r := range list {
			if r.At.Before(until) {
				out[s] = r
			}
		}
	}
	for s, r := range returns {
		if r.At.Before(until) {
			out[s] = r
		}
	}
	return out
}

// returned gives the percentage of its clients that a site which has come back may have
// among those who may have clients, 0 = all. Somebody must take the others: where all sites
// have come back of late, those that came first have all of theirs, and whoever came with
// them. It goes by when they came, not by their steps, which pass at different times: a site
// would have all, and lose some again when another is a step ahead. Those that are drained in
// steps take nobody's (see share).
func (d *decision) returned(f Family, i int, sites []int) uint8 {
	b := &d.stand[i].rolls[f].back
	if b.share == 0 || b.share == allShare {
		return 0
	}
	first := true
	for _, j := range sites {
		if d.stand[j].leaves() {
			continue
		}
		switch other := &d.stand[j].rolls[f].back; {
		case other.share == 0:
			return b.share
		case before(other, b):
			first = false
		}
	}
	if first {
		return 0
	}
	return b.share
}

func before(a, b *back) bool { return b.at.Sub(a.at) >= together }

// ramp gives choices their shares among those who may have clients, and says so.
func (d *decision) ramp(f Family, serving, sites []int, choices []Choice) (why []reason) {
	for n, i := range sites {
		st := &d.stand[i]
		switch choices[n].Share = d.share(f, i, serving); {
		case choices[n].Share == 0:
		case st.leaves() && choices[n].Share == st.keeps():
			why = append(why, reason{text: PaceWhy(choices[n].Cluster, st.paced.o)})
		default:
			why = append(why, reason{site: choices[n].site, ramp: true})
		}
	}
	return why
}

// returning writes all that shares depend on.
func (d *decision) returning(b []byte) []byte {
	for f := range d.c.targets {
		from := len(b)
		some := false
		for i := range d.stand {
			share := d.stand[i].rolls[f].back.share
			some = some || share > 0
			b = append(b, share)
		}
		if !some {
			b = append(b[:from], 0xff)
			continue
		}
		for i := range d.stand {
			for j := range d.stand[:i] {
				x, y := &d.stand[i].rolls[f].back, &d.stand[j].rolls[f].back
				if x.share > 0 && y.share > 0 {
					b = append(b, bit(before(x, y))|bit(before(y, x))<<1)
				}
			}
		}
	}
	return b
}

// rampWhy says how far a site has come back.
func rampWhy(cluster string, b *back) string {
	return fmt.Sprintf("%s has returned: it gets %d %% of its clients until %s", cluster, b.share, b.next.UTC().Format("15:04:05 UTC"))
}

// noteShares lists the least share that a site has among the sets of a view of which some
// client is sent to it: the return of one that stands by changes no answer.
func (v *Verdict) noteShares(c *compiled, view *View) {
	for i := range view.Sets {
		for _, choice := range Picked(&view.Sets[i], v.Answers) {
			share := choice.Share
			if choice.spilt {
				share = choice.ramp
			}
			if share == 0 {
				continue
			}
			if v.shares == nil {
				v.shares = make([]uint8, len(c.sites))
			}
			if at := &v.shares[c.byRank[choice.site]]; *at == 0 || share < *at {
				*at = share
			}
		}
	}
}

// Share gives the percentage of its clients that a site has, by its index in Sites: less
// than 100 while it returns, as long as there are others to serve the rest.
func (v *Verdict) Share(i int) int {
	if len(v.shares) == 0 || v.shares[i] == 0 {
		return allShare
	}
	return int(v.shares[i])
}

// Shares gives those that Share has below 100.
func (v *Verdict) Shares() iter.Seq[int] {
	return func(yield func(int) bool) {
		for _, share := range v.shares {
			if share > 0 && !yield(int(share)) {
				return
			}
		}
	}
}

// nextStep gives when some site's share changes; zero: none has one.
func (r *Ruling) nextStep() (next time.Time) {
	for i := range r.shares {
		if r.shares[i] == 0 {
			continue
		}
		for f := range r.used[i] {
			if at := r.used[i][f].back.next; !at.IsZero() && (next.IsZero() || at.Before(next)) {
				next = at
			}
		}
	}
	return next
}

// First lists the choices of which a reply with one address has one: some are not there
// for all clients.
func (s *Set) First() []Choice {
	for i := range s.Choices {
		if !s.Weighted && s.Choices[i].Share == 0 {
			return s.Choices[:i+1]
		}
	}
	return s.Choices
}
