package answer

import (
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// Trace is how a steered answer comes about.
type Trace struct {
	Zone    string
	Name    string // of the Steered that answers: behind aliases, or a wildcard
	Service string
	TTL     uint32       // at rest
	Next    time.Time    // see Steered.Next
	Set     int          // index in View.Sets; -1 where the family has no address
	Place   uint16       // of the client, in the geo table
	Prefix  netip.Prefix // of the PrefixPlaces that decided; the zero Prefix for none
	Scope   int          // what a client subnet would be told
	Picks   []Pick       // the addresses, in the order of the reply
}

// Left is the TTL that is answered at an instant.
func (t *Trace) Left(now time.Time) uint32 {
	s := steered{ttl: t.TTL}
	s.schedule(t.Next)
	return left(s.ttl, s.next, now.Unix())
}

// Pick is one address of a Trace.
type Pick struct {
	Cluster, Domain string
	Addr            netip.Addr
	Target          string // of an alias, in place of Addr
}

// Trace tells what Reply would answer about a name's A or AAAA records, or the CNAME in their place, to a
// client subnet, by the same code; ok is false where that is no steered name. A
// client of private use that no configured prefix covers is traced as its own
// resolver.
func (t *Table) Trace(name string, aaaa bool, client netip.Prefix) (trace Trace, ok bool) {
	client = client.Masked()
	who := asker{resolver: addressOf(client.Addr())}
	if client.Bits() > 0 {
		who.subnet, who.named = who.resolver, true
	}
	return t.trace(name, aaaa, who)
}

func (t *Table) trace(name string, aaaa bool, who asker) (trace Trace, ok bool) {
	packed, err := wire(name)
	if err != nil {
		return Trace{}, false
	}
	r := reply{table: t, ede: edeNone, who: who}
	r.q.qtype, r.q.qclass = typeA, classIN
	if aaaa {
		r.q.qtype = typeAAAA
	}
	r.w = writer{msg: append(make([]byte, headerLen, maxUDP), packed...), limit: maxTCP}
	z, at := (*zone)(nil), 0
	if r.q.name.set(packed) {
		z, at = t.zoneOf(&r.q.name)
	}
	if z == nil {
		return Trace{}, false
	}
	r.resolve(z, at)
	if r.from == nil {
		return Trace{}, false
	}
	return r.trace(), true
}

func (r *reply) trace() Trace {
	s := r.from
	name := r.zone.over.nameOf(r.place)
	source, v := &s.source.A, &s.a
	if r.q.qtype == typeAAAA && !s.source.CNAME {
		source, v = &s.source.AAAA, &s.aaaa
	}
	out := Trace{Zone: dns.CanonicalName(r.zone.name), Name: name.Name, Service: name.Service, TTL: s.ttl, Next: s.source.Next, Set: -1}
	if len(v.sets) == 0 {
		return out
	}
	d := &r.d
	out.Set, out.Place, out.Scope = d.set, d.place, d.scope
	if d.prefix >= 0 {
		out.Prefix = source.ByPrefix[d.prefix].Prefix
	}
	picks := d.picks[:d.n]
	if chosen := v.sets[d.set]; !chosen.hashed {
		picks = chosen.picks
	}
	for _, p := range picks {
		site := &source.Sets[d.set].Sites[p.site]
		next := Pick{Cluster: site.Cluster, Domain: site.Domain, Target: site.Target}
		if !s.source.CNAME {
			next.Addr = site.Addrs[p.addr]
		}
		out.Picks = append(out.Picks, next)
	}
	return out
}
