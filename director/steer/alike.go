package steer

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"

	"github.com/divertdns/divert/director/spec"
)

// keyer writes what services are made of, so that those that are alike are found:
// of 100,000 hosts most share everything but their names.
type keyer struct {
	known    map[any]int    // by the identity of a list, its number
	texts    map[string]int // by its content
	verdicts map[string]int // see verdict
	defs     map[string]definition
	b        []byte
}

// definition is one of a check or a soft subject, as Subject.Def has it, with what people
// call it.
type definition struct{ def, name string }

// define gives what is watched the one string of its definition that all share: comparing
// it is cheap then.
func (k *keyer) define(o *SubjectOf) {
	if o.Subject.Def == "" {
		return
	}
	known, ok := k.defs[o.Subject.Def]
	if !ok {
		known = definition{o.Subject.Def, o.String()}
		k.defs[known.def] = known
	}
	o.Subject.Def = known.def
}

func (k *keyer) number(n int64) { k.b = binary.AppendVarint(k.b, n) }

func (k *keyer) text(s string) {
	k.number(int64(len(s)))
	k.b = append(k.b, s...)
}

func (k *keyer) list(list []string) {
	k.number(int64(len(list)))
	for _, s := range list {
		k.text(s)
	}
}

func (k *keyer) prefixes(list []netip.Prefix) {
	k.number(int64(len(list)))
	for _, p := range list {
		a := p.Addr().As16()
		k.b = append(append(k.b, a[:]...), byte(p.Bits()), bit(p.Addr().Is4()))
	}
}

func (k *keyer) clients(c *spec.Clients) {
	k.list(c.Continents)
	k.list(c.Countries)
	k.prefixes(c.Prefixes)
	k.b = append(k.b, bit(c.Everybody))
}

// numbered writes the number of a list that may be long: it is read once, however
// many services share it, and equal ones have one number.
func numbered[T any](k *keyer, list []T, write func(*T)) {
	if len(list) == 0 {
		k.number(0)
		return
	}
	id := struct {
		first *T
		n     int
	}{&list[0], len(list)}
	n, ok := k.known[id]
	if !ok {
		outer := k.b
		k.b = nil
		for i := range list {
			write(&list[i])
		}
		if n, ok = k.texts[string(k.b)]; !ok {
			n = len(k.texts) + 1
			k.texts[string(k.b)] = n
		}
		k.known[id] = n
		k.b = outer
	}
	k.number(int64(n))
}

// rules writes what says which clients go where.
func (k *keyer) rules(svc *spec.GlobalService) {
	k.text(svc.Environment)
	k.number(int64(svc.Steering.Policy))
	k.list(svc.Steering.Order)
	numbered(k, svc.Steering.Regions, func(r *spec.Region) {
		k.clients(&r.Clients)
		k.list(r.Order)
	})
	numbered(k, svc.Pins, func(p *spec.Pin) {
		k.prefixes([]netip.Prefix{p.Prefix})
		k.text(p.Cluster)
	})
	numbered(k, svc.Residency, func(r *spec.ResidencyRule) {
		k.clients(&r.Clients)
		for _, name := range slices.Sorted(maps.Keys(r.Clusters)) {
			k.text(name)
			k.text(r.Clusters[name])
		}
		k.number(-1)
		k.list(r.Only)
		k.text(r.Why)
	})
	k.number(int64(svc.ResidencyUnknown))
}

// layout writes all that a service's classes of clients depend on.
func (k *keyer) layout(c *compiled) string {
	k.b = k.b[:0]
	k.rules(c.svc)
	for i := range c.sites {
		k.text(c.sites[i].end.Cluster)
	}
	return string(k.b)
}

// verdict numbers all that a service's verdict depends on in the spec besides its
// layout.
func (k *keyer) verdict(c *compiled) int {
	k.b = k.b[:0]
	svc := c.svc
	k.number(int64(svc.Steering.Answers))
	k.number(int64(svc.MinHealthy))
	k.b = append(k.b, byte(svc.AllDown), bit(svc.SiteNames), bit(svc.Flattened()), bit(len(c.fallback[IPv4]) > 0), bit(len(c.fallback[IPv6]) > 0))
	for i := range c.sites {
		k.number(int64(c.sites[i].weight))
		k.number(c.sites[i].capacity)
		k.b = append(k.b, bit(c.sites[i].end.Sized))
	}
	n, ok := k.verdicts[string(k.b)]
	if !ok {
		n = len(k.verdicts)
		k.verdicts[string(k.b)] = n
	}
	return n
}

// service writes all that a service's decision depends on but its name, its hosts
// and the overrides that name it.
func (k *keyer) service(svc *spec.GlobalService) string {
	k.b = k.b[:0]
	k.rules(svc)
	k.number(int64(svc.TTL))
	k.number(int64(svc.MinHealthy))
	k.number(int64(svc.Steering.Answers))
	k.number(int64(svc.Steering.Ramp))
	k.b = append(k.b, bit(svc.SiteNames), bit(svc.CNAME), byte(svc.AllDown), byte(svc.Automation))
	k.addresses(svc.Fallback)
	k.number(int64(len(svc.Endpoints)))
	for i := range svc.Endpoints {
		e := &svc.Endpoints[i]
		k.text(e.Cluster)
		k.number(e.Weight)
		k.number(e.Capacity)
		k.b = append(k.b, bit(e.Sized))
		k.addresses(e.Watched())
	}
	for i := range svc.Probes {
		p := &svc.Probes[i]
		k.text(p.Definition())
		k.number(int64(p.Port()))
		k.number(int64(p.Fast))
		k.number(p.Weight)
	}
	k.number(int64(svc.Combine.AtLeast))
	k.number(svc.Combine.DegradedBelow)
	return string(k.b)
}

func (k *keyer) addresses(list []netip.Addr) {
	k.number(int64(len(list)))
	for _, a := range list {
		b := a.As16()
		k.b = append(append(k.b, b[:]...), bit(a.Is4()))
	}
}
