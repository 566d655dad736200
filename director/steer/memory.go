package steer

import (
	"net/netip"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/health"
)

// memory is what decisions have in common that were made one after the other.
// Losing it costs time alone. The zero memory is empty.
type memory struct {
	layouts   map[*layout]*remembered
	overrides map[string]uint32 // numbers, by all that they say
	last      uint32
	scratch   decision
	same      map[[4]*Set]bool // see sameAnswers
}

// remembered is of the services of one layout.
type remembered struct {
	verdicts kept[Verdict]
	spreads  kept[View] // rows of views, by the set of each class
}

// maxOverrides is how many overrides have numbers at once.
const maxOverrides = 4096

// of gives what is remembered of a layout.
func (m *memory) of(l *layout) *remembered {
	r := m.layouts[l]
	if r == nil {
		if m.layouts == nil {
			m.layouts = map[*layout]*remembered{}
		}
		r = &remembered{}
		m.layouts[l] = r
	}
	return r
}

// kept is what was made, to be found again by all that it depends on: what was
// asked for among the last maxKept, and some more.
type kept[V any] struct {
	young, old map[string]*V
}

// maxKept bounds each half.
const maxKept = 128

func (k *kept[V]) get(key []byte) *V {
	if v := k.young[string(key)]; v != nil {
		return v
	}
	v := k.old[string(key)]
	if v != nil {
		k.put(string(key), v)
	}
	return v
}

func (k *kept[V]) put(key string, v *V) {
	if k.young == nil || len(k.young) >= maxKept {
		k.young, k.old = map[string]*V{}, k.young
	}
	k.young[key] = v
}

// drain is a parsed override that decisions depend on.
type drain struct {
	scope  Scope
	o      *plan.Override
	number uint32 // the same for all that say the same
	keep   uint32 // per mille of its clients that the scope has; 0 = the drain is whole
	then   *drain // of one whose next step is ahead: as which it will end; nil = it is gone then
}

// read parses a plan's drains and observations; what this version does not know
// is left alone.
func (m *memory) read(p *plan.Plan) (drains, observations []drain) {
	drains, observations = overrides(p)
	if len(m.overrides) > maxOverrides {
		*m = memory{last: m.last}
	}
	for _, list := range [][]drain{drains, observations} {
		for i := range list {
			list[i].number = m.number(list[i].o)
			if then := becomes(&list[i]); then != nil {
				then.number = m.number(then.o)
				list[i].then = then
			}
		}
	}
	return drains, observations
}

// number tells overrides apart by all that they say.
func (m *memory) number(o *plan.Override) uint32 {
	// Marshalling a valid message into memory does not fail. Were it to, the
	// override would have a number of its own each time: that costs time alone.
	text, err := proto.MarshalOptions{Deterministic: true}.Marshal(o)
	if n, ok := m.overrides[string(text)]; ok && err == nil {
		return n
	}
	m.last++
	if m.overrides == nil {
		m.overrides = map[string]uint32{}
	}
	if err == nil {
		m.overrides[string(text)] = m.last
	}
	return m.last
}

// facts reads what changes decisions without a change of the spec. Soft is what is
// soft among the states.
func (m *memory) facts(in Input, soft map[netip.Addr][]health.Subject) *facts {
	f := &facts{real: source{states: in.States, soft: soft, returns: in.Returns}, earlier: in.Earlier, acting: in.Acting, frozen: map[uint32]source{}}
	f.drains, f.observations = m.read(in.Plan)
	f.pools = pools(in.Plan)
	return f
}

// facts is what all services' decisions depend on besides the spec.
type facts struct {
	drains       []drain
	observations []drain
	pools        map[Scope]pooled
	real         source
	earlier      map[health.Subject][]Return
	acting       bool
	frozen       map[uint32]source // what observations stored, by their number; made when asked for
}

// of gives those that concern a service.
func (f *facts) of(service string) inputs {
	in := inputs{facts: f, drains: f.drains}
	if !f.acting {
		in.observe = observationOf(service, f.observations)
	}
	in.frozen = f.stored(in.observe)
	return in
}

// stored gives the states that an observation stored; none of nil.
func (f *facts) stored(o *drain) source {
	if o == nil {
		return source{}
	}
	s, ok := f.frozen[o.number]
	if !ok {
		s = frozenSource(o.o)
		s.returns = begun(f.real.returns, f.earlier, o.o)
		f.frozen[o.number] = s
	}
	return s
}

// frozenSource makes the states that an observation stored.
func frozenSource(o *plan.Override) source {
	states := make(map[health.Subject]health.State, len(o.GetDown()))
	for _, text := range o.GetDown() {
		if s, err := health.ParseSubject(text); err == nil {
			states[s] = health.Down
		}
	}
	return source{states: states, soft: softOf(states)}
}
