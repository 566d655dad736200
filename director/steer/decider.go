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
// of clients of a spec, and the last decision of each kind of service, so that a
// flip of one subject costs what one kind costs. The zero Decider is ready. It
// has one owner; what it returns is shared with later decisions and must not be
// written to.
type Decider struct {
	set       *spec.Set
	places    []Place
	atlas     *atlas
	kinds     []kind
	overrides []byte
	alike     []int32
}

// kind is services that differ in their names and hosts alone.
type kind struct {
	*compiled        // of the first
	members   []int  // indices in the spec
	parts     []part // by the overrides that name single ones
	states    []health.State
	soft      []health.Subject
}

// part is those of a kind that the same overrides cover.
type part struct {
	members []int
	service *Service // the last decision, of the first; nil = none is valid
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
	drains, observations := overrides(in.Plan)
	if key := overridesKey(in); string(key) != string(d.overrides) {
		d.overrides = key
		d.divide(append(slices.Clone(drains), observations...))
	}
	seen := source{states: in.States, soft: softOf(in.States)}
	frozen := map[*plan.Override]source{nil: {}}
	out := Decision{Services: make([]Service, len(in.Spec.Services)), Alike: d.alike}
	for i := range d.kinds {
		k := &d.kinds[i]
		same := k.same(seen)
		for j := range k.parts {
			p := &k.parts[j]
			if !same || p.service == nil {
				svc := in.Spec.Services[p.members[0]]
				o := observationOf(svc.Name, observations)
				if in.Acting {
					o = nil
				}
				src, ok := frozen[o]
				if !ok {
					src = frozenSource(o)
					frozen[o] = src
				}
				now := inputs{drains: drains, observe: o, frozen: src, real: seen, acting: in.Acting, observations: observations}
				s := k.decide(svc.Name, now)
				s.Next = k.next(svc.Name, &s, now)
				p.service = &s
			}
			for _, m := range p.members {
				o := &out.Services[m]
				*o = *p.service
				o.Name, o.Hosts = in.Spec.Services[m].Name, in.Spec.Services[m].Hosts
			}
		}
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
	d.atlas = newAtlas(in.Spec, in.Places)
	d.kinds = nil
	known := map[string]int{}
	for i, svc := range in.Spec.Services {
		key := d.atlas.keys.service(svc)
		n, ok := known[key]
		if !ok {
			n = len(d.kinds)
			known[key] = n
			d.kinds = append(d.kinds, kind{compiled: compile(svc, in.Spec, clusters, d.atlas)})
		}
		d.kinds[n].members = append(d.kinds[n].members, i)
	}
	d.atlas.keys = nil // it was for this
	d.overrides = nil
}

// divide sets apart the services that some override names, and forgets all
// decisions.
func (d *Decider) divide(named []drain) {
	single := map[string]bool{}
	for _, o := range named {
		if o.scope.Service != "" {
			single[o.scope.Service] = true
		}
	}
	d.alike = make([]int32, len(d.set.Services))
	for i := range d.kinds {
		k := &d.kinds[i]
		clear(k.verdicts)
		k.parts = nil
		var rest []int
		for _, m := range k.members {
			if single[d.set.Services[m].Name] {
				k.parts = append(k.parts, part{members: []int{m}})
			} else {
				rest = append(rest, m)
			}
		}
		if len(rest) > 0 {
			k.parts = append(k.parts, part{members: rest})
		}
		for _, p := range k.parts {
			for _, m := range p.members {
				d.alike[m] = int32(p.members[0])
			}
		}
	}
}

// samePlaces compares the tables, at once when they are the same one.
func samePlaces(a, b []Place) bool {
	if len(a) == len(b) && len(a) > 0 && &a[0] == &b[0] {
		return true
	}
	return slices.Equal(a, b)
}

// same tells whether nothing that the kind's decisions depend on has changed, and
// remembers what they depend on now.
func (k *kind) same(seen source) bool {
	same := k.states != nil
	if !same {
		k.states = make([]health.State, len(k.subjects))
	}
	for i, s := range k.subjects {
		if st := seen.states[s]; st != k.states[i] {
			k.states[i], same = st, false
		}
	}
	var soft []health.Subject
	if len(seen.soft) > 0 {
		for i := range k.sites {
			for f := range k.sites[i].addrs {
				for _, a := range k.sites[i].addrs[f] {
					soft = append(soft, seen.softAt(a)...)
				}
			}
		}
	}
	if !slices.Equal(soft, k.soft) {
		k.soft, same = soft, false
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
