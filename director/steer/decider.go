package steer

import (
	"cmp"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
)

// Decider decides as Decide does, and keeps what has not changed: the classes
// of clients of a spec, and the last decision of each service, so that a flip
// of one subject costs what one service costs. The zero Decider is ready. It
// has one owner; what it returns is shared with later decisions and must not be
// written to.
type Decider struct {
	set       *spec.Set
	places    []Place
	compiled  []*compiled
	memos     []memo
	overrides []byte
}

// memo is the last decision of one service and what it depended on.
type memo struct {
	valid   bool
	states  []health.State
	soft    []health.Subject
	service Service
}

// Decide gives the decision for an input.
func (d *Decider) Decide(in Input) Decision {
	if in.Spec == nil {
		return Decision{}
	}
	if len(in.Places) == 0 {
		in.Places = []Place{{}}
	}
	if d.set != in.Spec || !samePlaces(d.places, in.Places) {
		d.prepare(in)
	}
	if key := overridesKey(in); string(key) != string(d.overrides) {
		d.overrides = key
		clear(d.memos)
	}
	drains, observations := overrides(in.Plan)
	seen := source{states: in.States, soft: softOf(in.States)}
	frozen := map[*plan.Override]source{nil: {}}
	out := Decision{Services: make([]Service, len(d.compiled))}
	for i, c := range d.compiled {
		m := &d.memos[i]
		if m.same(c, seen) {
			out.Services[i] = m.service
			continue
		}
		o := observationOf(c.svc.Name, observations)
		if in.Acting {
			o = nil
		}
		src, ok := frozen[o]
		if !ok {
			src = frozenSource(o)
			frozen[o] = src
		}
		m.service = c.decide(inputs{drains: drains, observe: o, frozen: src, real: seen, acting: in.Acting})
		m.valid = true
		out.Services[i] = m.service
	}
	return out
}

// prepare compiles a new spec.
func (d *Decider) prepare(in Input) {
	d.set, d.places = in.Spec, in.Places
	clusters := make(map[string]*spec.Cluster, len(in.Spec.Clusters))
	for _, c := range in.Spec.Clusters {
		clusters[c.Name] = c
	}
	a := newAtlas(in.Spec, in.Places)
	d.compiled = make([]*compiled, len(in.Spec.Services))
	for i, svc := range in.Spec.Services {
		d.compiled[i] = compile(svc, in.Spec, clusters, a)
	}
	d.memos = make([]memo, len(d.compiled))
	d.overrides = nil
}

// samePlaces compares the tables, at once when they are the same one.
func samePlaces(a, b []Place) bool {
	if len(a) == len(b) && len(a) > 0 && &a[0] == &b[0] {
		return true
	}
	return slices.Equal(a, b)
}

// same tells whether nothing that the service's decision depends on has
// changed, and remembers what it depends on now.
func (m *memo) same(c *compiled, seen source) bool {
	same := m.valid
	if m.states == nil {
		m.states = make([]health.State, len(c.subjects))
	}
	for i, s := range c.subjects {
		if st := seen.states[s]; st != m.states[i] {
			m.states[i], same = st, false
		}
	}
	var soft []health.Subject
	if len(seen.soft) > 0 {
		for i := range c.sites {
			for f := range c.sites[i].addrs {
				for _, a := range c.sites[i].addrs[f] {
					soft = append(soft, seen.softAt(a)...)
				}
			}
		}
	}
	if !slices.Equal(soft, m.soft) {
		m.soft, same = soft, false
	}
	return same
}

// overridesKey writes the overrides so that two inputs with the same ones, in
// whatever order, are known to have them.
func overridesKey(in Input) []byte {
	all := slices.Clone(in.Plan.GetOverrides())
	slices.SortFunc(all, func(a, b *plan.Override) int {
		return cmp.Or(cmp.Compare(a.GetRevision(), b.GetRevision()), cmp.Compare(a.GetId(), b.GetId()))
	})
	// Marshalling a valid message into memory does not fail; were it to, the
	// missing part would only cost a decision made anew or, at worst, one override
	// seen late, so the error is put into the key.
	out := []byte{bit(in.Acting)}
	for _, o := range all {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(o)
		if err != nil {
			b = []byte(err.Error())
		}
		out = append(append(out, b...), 0xff)
	}
	return out
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
			drains = append(drains, drain{scope: s, o: o})
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
func observationOf(service string, observations []drain) *plan.Override {
	var best *plan.Override
	for _, o := range observations {
		if o.scope.Kind == ScopeService && o.scope.Service != service {
			continue
		}
		if best == nil || cmp.Or(cmp.Compare(o.o.GetRevision(), best.GetRevision()), cmp.Compare(o.o.GetId(), best.GetId())) < 0 {
			best = o.o
		}
	}
	return best
}

// ObservedBy gives the observation in force for a service; nil when it acts on
// certificates.
func ObservedBy(p *plan.Plan, service string) *plan.Override {
	_, observations := overrides(p)
	return observationOf(service, observations)
}
