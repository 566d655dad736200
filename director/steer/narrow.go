package steer

import (
	"net/netip"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// Narrow puts what the policy made of residency, as a plan has it, into a spec: from then on
// it is residency like the spec's own, behind the one fence there is (S11). Tried tells that
// the spec is the one that a rollout has some directors try. It gives the same set for equal
// sets of the policy, and the spec's own where the plan has none.
func Narrow(set *spec.Set, p *plan.Plan, tried bool) *spec.Set {
	by := p.GetResidency()
	if tried {
		by = p.GetCanaryResidency()
	}
	if p.GetResidency() == nil && p.GetCanaryResidency() == nil {
		return set.Base()
	}
	return narrow(set, by)
}

// narrow marks a set as narrowed even where there is nothing to narrow it by: see fenced.
func narrow(set *spec.Set, by *plan.Residency) *spec.Set {
	if set.Narrowed != nil {
		if old, ok := set.Narrowed.By.(*plan.Residency); ok && (old == by || old != nil && by != nil && proto.Equal(old, by)) {
			return set
		}
	}
	groups := map[string][]*plan.ResidencySet{} // by service
	for _, s := range by.GetSets() {
		for _, name := range s.GetServices() {
			groups[name] = append(groups[name], s)
		}
	}
	known := map[string][]spec.ResidencyRule{} // services in the same sets share their rules
	rules := make(map[string][]spec.ResidencyRule, len(groups))
	for name, sets := range groups {
		var key []byte
		for _, s := range sets {
			key = append(key, binaryOf(s)...)
		}
		if known[string(key)] == nil {
			for _, s := range sets {
				known[string(key)] = append(known[string(key)], RuleOf(s))
			}
		}
		rules[name] = known[string(key)]
	}
	return set.Narrow(by, rules)
}

// binaryOf tells sets apart without the services that are in them.
func binaryOf(s *plan.ResidencySet) []byte {
	c := &plan.ResidencySet{Everybody: s.GetEverybody(), Continents: s.GetContinents(), Countries: s.GetCountries(), Prefixes: s.GetPrefixes(), Clusters: s.GetClusters(), Why: s.GetWhy()}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil { // of texts that are no UTF-8, which no plan can have
		return nil
	}
	return append([]byte{byte(len(b) >> 16), byte(len(b) >> 8), byte(len(b))}, b...)
}

// RuleOf reads a set as a rule of residency. What cannot be read of its clients (core.Check
// refuses it) is all clients: it is there to keep somebody from somewhere.
func RuleOf(s *plan.ResidencySet) spec.ResidencyRule {
	r := spec.ResidencyRule{Only: s.GetClusters(), Why: s.GetWhy()}
	if r.Only == nil {
		r.Only = []string{}
	}
	r.Clients = spec.Clients{Everybody: s.GetEverybody(), Continents: s.GetContinents(), Countries: s.GetCountries()}
	for _, text := range s.GetPrefixes() {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			r.Clients.Everybody = true
			continue
		}
		r.Clients.Prefixes = append(r.Clients.Prefixes, p)
	}
	return r
}

// fenced gives the spec of an input with the policy's residency. Whoever holds a plan in
// force has narrowed it once; who forgot to is fenced all the same.
func (d *Decider) fenced(in *Input) *spec.Set {
	by := in.Plan.GetResidency()
	switch {
	case in.Spec == nil || in.Spec.Narrowed != nil || by == nil:
		return in.Spec
	case d.narrowed == nil || d.narrowed.Base() != in.Spec:
		d.narrowed = narrow(in.Spec, by)
	default:
		d.narrowed = narrow(d.narrowed, by)
	}
	return d.narrowed
}
