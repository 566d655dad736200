package steer

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
)

// Decider decides as Decide does, and keeps what has not changed: the classes
// of clients of a spec, and the last decision of each kind of service, so that a
// flip of one subject costs what one kind costs, and a drain what it covers. The
// zero Decider is ready. It has one owner; what it returns is shared with later
// decisions and must not be written to.
type Decider struct {
	prepared *Prepared
	memory   memory
	kinds    []kind
	watchers *watchers // made when first asked for
	soft     map[netip.Addr][]health.Subject
	returns  map[health.Subject]Return
	earlier  map[health.Subject][]Return
	acting   bool
	drains   []drain // last decided by
	observes []drain
	pools    map[Scope]pooled
	single   []string  // services that an override names, or a pool, in order
	services []Service // as last decided
	alike    []int32
	narrowed *spec.Set // see fenced
}

// kind is what is remembered of one of Prepared.
type kind struct {
	seen
	parts []part // by the overrides that name single ones
	due   bool   // some part is to be decided anew
}

// part is those of a kind that the same overrides cover.
type part struct {
	members []int
	ruling  *Ruling // the last one, of the first; nil = none is valid
}

// Decide gives the decision for an input.
func (d *Decider) Decide(in Input) Decision {
	if in.Spec = d.fenced(&in); in.Spec == nil {
		return Decision{}
	}
	d.prepare(in)
	began := d.kinds != nil
	if !began || in.Changed == nil || slices.ContainsFunc(in.Changed, func(c health.Change) bool { return c.Subject.Kind == health.KindSoft }) {
		d.soft = softOf(in.States)
	}
	now := d.memory.facts(in, d.soft)
	d.account(now)
	d.look(in, now, began)
	if began {
		d.comeBack(now)
	}
	d.returns, d.earlier = in.Returns, in.Earlier
	d.services = slices.Clone(d.services)
	for i := range d.kinds {
		k := &d.kinds[i]
		if !k.due {
			continue
		}
		k.due, k.fresh = false, false
		for j := range k.parts {
			p := &k.parts[j]
			if p.ruling != nil {
				continue
			}
			p.ruling = d.rule(d.prepared.kinds[i].compiled, in.Spec.Services[p.members[0]].Name, now, k.rolls)
			for _, m := range p.members {
				d.services[m].Ruling = p.ruling
			}
		}
	}
	return Decision{Services: d.services, Alike: d.alike}
}

// look finds what has changed of what is observed, and forgets what was decided by
// it.
func (d *Decider) look(in Input, now *facts, began bool) {
	if !began || in.Changed == nil {
		for i := range d.kinds {
			if d.kinds[i].look(d.prepared.kinds[i].compiled, now.real) {
				d.kinds[i].forget()
			}
		}
		return
	}
	if len(in.Changed) == 0 {
		return
	}
	if d.watchers == nil {
		d.watchers = newWatchers(d.prepared)
	}
	var at netip.Addr
	var there, moved []watcher
	for i := range in.Changed {
		c := &in.Changed[i]
		if a := c.Subject.Addr.Addr(); i == 0 || a != at {
			at, there = a, d.watchers.of(a)
		}
		for _, w := range there {
			if d.kinds[w.kind].tell(&d.prepared.kinds[w.kind].sites[w.site], int(w.site), c, now.real) {
				moved = append(moved, w)
			}
		}
	}
	for _, w := range moved {
		d.kinds[w.kind].rollUp(&d.prepared.kinds[w.kind].sites[w.site], int(w.site), now.real)
		d.kinds[w.kind].forget()
	}
}

// forget drops what was decided for a kind.
func (k *kind) forget() {
	k.due = true
	for j := range k.parts {
		k.parts[j].ruling = nil
	}
}

// Observed keeps what is observed of services, for whoever decides several times by
// the same states. The zero Observed is ready.
type Observed struct {
	soft  map[netip.Addr][]health.Subject
	rolls map[*compiled][]*rolls
}

// DecideSome decides for some services alone, by their indices in the spec, and
// gives them in that order. Next is not asked for, and is zero.
func (d *Decider) DecideSome(in Input, services []int, observed *Observed) []Service {
	if in.Spec = d.fenced(&in); in.Spec == nil {
		return nil
	}
	d.prepare(in)
	if observed.rolls == nil {
		observed.soft, observed.rolls = softOf(in.States), map[*compiled][]*rolls{}
	}
	now := d.memory.facts(in, observed.soft)
	single := singled(now)
	shared := map[int32]*Ruling{} // of those of a kind that nothing names
	out := make([]Service, len(services))
	for i, n := range services {
		svc, k := in.Spec.Services[n], d.prepared.kindOf[n]
		_, alone := slices.BinarySearch(single, svc.Name)
		r := shared[k]
		if r == nil || alone {
			c := d.prepared.kinds[k].compiled
			if observed.rolls[c] == nil {
				observed.rolls[c] = c.observe(now.real)
			}
			r = c.decide(svc.Name, now.of(svc.Name), observed.rolls[c], &d.memory)
		}
		if !alone {
			shared[k] = r
		}
		out[i] = Service{Name: svc.Name, Hosts: svc.Hosts, Ruling: r}
	}
	return out
}

// Prepared gives what the decider has compiled last; nil before its first decision.
func (d *Decider) Prepared() *Prepared { return d.prepared }

// prepare compiles a new spec, or takes what is compiled already.
func (d *Decider) prepare(in Input) {
	places := in.Places
	if len(places) == 0 {
		places = []Place{{}}
	}
	trips := tripsOf(in.Spec, in.Plan)
	if d.prepared.of(in.Spec, places, trips) {
		return
	}
	p := in.Prepared
	if !p.of(in.Spec, places, trips) {
		p = prepare(in.Spec, places, trips)
	}
	*d = Decider{prepared: p}
}

// rule decides for a service.
func (d *Decider) rule(c *compiled, name string, now *facts, of []*rolls) *Ruling {
	in := now.of(name)
	r := c.decide(name, in, of, &d.memory)
	r.Next = c.next(name, r, in, &d.memory)
	if step := r.nextStep(); !step.IsZero() && (r.Next.IsZero() || step.Before(r.Next)) {
		r.Next = step
	}
	return r
}

// account takes note of overrides: it sets apart the services that some name, and
// forgets what was decided for those whom a change of them covers.
func (d *Decider) account(now *facts) {
	if d.kinds == nil {
		d.kinds = make([]kind, len(d.prepared.kinds))
		d.alike = make([]int32, len(d.prepared.kindOf))
		d.services = make([]Service, len(d.prepared.kindOf))
		for i, svc := range d.prepared.set.Services {
			d.services[i] = Service{Name: svc.Name, Hosts: svc.Hosts}
		}
		d.single = singled(now)
		for i := range d.kinds {
			d.divide(i)
		}
	} else {
		moved := slices.Concat(changed(d.drains, now.drains), changed(d.observes, now.observations))
		if len(moved) > 0 || !maps.Equal(d.pools, now.pools) {
			d.name(singled(now))
		}
		if len(moved) > 0 {
			d.forget(moved)
		}
		d.busier(d.pools, now.pools)
	}
	if d.acting != now.acting {
		for i := range d.kinds {
			d.kinds[i].forget()
		}
	}
	d.acting, d.drains, d.observes, d.pools = now.acting, now.drains, now.observations, now.pools
}

// singled lists the services that overrides or pools name, in order.
func singled(f *facts) []string {
	out := append(named(f.drains, f.observations), spilled(f.pools)...)
	slices.Sort(out)
	return slices.Compact(out)
}

// name divides the kinds anew of which other services are named than before.
func (d *Decider) name(single []string) {
	var moved []string
	for _, lists := range [][2][]string{{d.single, single}, {single, d.single}} {
		for _, s := range lists[0] {
			if _, found := slices.BinarySearch(lists[1], s); !found {
				moved = append(moved, s)
			}
		}
	}
	d.single = single
	if len(moved) == 0 {
		return
	}
	d.alike = slices.Clone(d.alike)
	again := map[int32]bool{}
	for i, svc := range d.prepared.set.Services {
		if k := d.prepared.kindOf[i]; slices.Contains(moved, svc.Name) && !again[k] {
			again[k] = true
			d.divide(int(k))
		}
	}
}

// divide sets apart the services of a kind that some override names. What was
// decided for those who are named still, and for those who are not, stays.
func (d *Decider) divide(i int) {
	k, p := &d.kinds[i], &d.prepared.kinds[i]
	before := k.parts
	k.parts, k.due = nil, true
	var rest []int
	for _, m := range p.members {
		if _, found := slices.BinarySearch(d.single, d.prepared.set.Services[m].Name); found {
			k.parts = append(k.parts, part{members: []int{m}})
		} else {
			rest = append(rest, m)
		}
	}
	if len(rest) > 0 {
		k.parts = append(k.parts, part{members: rest})
	}
	for j := range k.parts {
		p := &k.parts[j]
		for _, old := range before {
			if len(old.members) == len(p.members) && old.members[0] == p.members[0] {
				p.ruling = old.ruling // forgotten if what covers it has changed
			}
		}
		for _, m := range p.members {
			d.alike[m] = int32(p.members[0])
		}
	}
}

// forget drops what was decided for those whom some overrides cover.
func (d *Decider) forget(moved []drain) {
	for i := range d.kinds {
		c := d.prepared.kinds[i].compiled
		for j := range d.kinds[i].parts {
			p := &d.kinds[i].parts[j]
			name := d.prepared.set.Services[p.members[0]].Name
			for n := range moved {
				if moved[n].touches(name, c) {
					p.ruling, d.kinds[i].due = nil, true
				}
			}
		}
	}
}

// touches tells whether an override may change a service's decision.
func (o *drain) touches(name string, c *compiled) bool {
	switch o.scope.Kind {
	case ScopeFleet:
		return true
	case ScopeService, ScopeEndpoint:
		return o.scope.Service == name
	default:
		return slices.ContainsFunc(c.sites, func(s site) bool { return o.scope.Covers(name, s.cluster) })
	}
}

// changed lists the overrides that are in one of two lists alone.
func changed(old, now []drain) []drain {
	var out []drain
	for _, lists := range [][2][]drain{{old, now}, {now, old}} {
		for _, o := range lists[0] {
			if !slices.ContainsFunc(lists[1], func(p drain) bool { return p.number == o.number }) {
				out = append(out, o)
			}
		}
	}
	return out
}

// named lists the services that overrides name, in order.
func named(lists ...[]drain) []string {
	var out []string
	for _, list := range lists {
		for i := range list {
			if s := list[i].scope.Service; s != "" {
				out = append(out, s)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// overrides parses a plan's drains and observations; what this version does not
// know is left alone.
func overrides(p *plan.Plan) (drains, observations []drain) {
	for _, o := range p.GetOverrides() {
		s, err := ParseScope(o.GetScope())
		if err != nil {
			continue
		}
		switch o.GetKind() {
		case plan.Override_DRAIN:
			drains = append(drains, drain{scope: s, o: o, keep: o.Keep()})
		case plan.Override_OBSERVE:
			if s.Kind == ScopeFleet || s.Kind == ScopeService {
				observations = append(observations, drain{scope: s, o: o})
			}
		}
	}
	return drains, observations
}

// observationOf finds the observation whose set of the down a service uses: the
// oldest that covers it, since under a later one nothing may move either.
func observationOf(service string, observations []drain) *drain {
	var best *drain
	for i := range observations {
		o := &observations[i]
		if o.scope.Kind == ScopeService && o.scope.Service != service {
			continue
		}
		if best == nil || cmp.Or(cmp.Compare(o.o.GetRevision(), best.o.GetRevision()), cmp.Compare(o.o.GetId(), best.o.GetId())) < 0 {
			best = o
		}
	}
	return best
}

// ObservedBy gives the observation in force for a service; nil when it acts on
// certificates.
func ObservedBy(p *plan.Plan, service string) *plan.Override {
	_, observations := overrides(p)
	if o := observationOf(service, observations); o != nil {
		return o.o
	}
	return nil
}
