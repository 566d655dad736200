package steer

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
)

// Family is an address family. The pipeline runs once for each.
type Family uint8

// The address families.
const (
	IPv4 Family = iota
	IPv6
)

func (f Family) String() string {
	if f == IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

// FamilyOf gives the family that an address is answered in; a v4-mapped address
// is an IPv4 one.
func FamilyOf(a netip.Addr) Family {
	if a.Unmap().Is4() {
		return IPv4
	}
	return IPv6
}

// Has tells whether an address is one of the family's. What stands for a hostname
// is of both: which families a name has is found out, by each director for itself, and
// what differs between directors must not enter a decision.
func (f Family) Has(a netip.Addr) bool {
	return spec.IsStandIn(a) || FamilyOf(a) == f
}

// SubjectText writes a subject for who goes by it (JSON, `divert probe`): by the hostname,
// where its address stands for one of the spec's. People are told what SubjectOf.String and
// Prepared.Name say.
func SubjectText(set *spec.Set, s health.Subject) string {
	return subjectText(s, set.Hostname(s.Addr.Addr()))
}

func subjectText(s health.Subject, hostname string) string {
	text := s.String()
	if hostname == "" || !spec.IsStandIn(s.Addr.Addr()) {
		return text
	}
	return strings.TrimSuffix(text, s.Addr.String()) + hostname + ":" + strconv.Itoa(int(s.Addr.Port()))
}

// SubjectOf is one thing to watch for an address of a service.
type SubjectOf struct {
	Subject health.Subject
	Probe   *spec.Probe // of a signal: the probe of that port with the shortest Fast
	Fast    bool        // the fast signal, not the deep probe
	Cluster string      // the endpoint's; of a template, of soft ones alone
	signed  bool        // of a check: its probe has a fast signal, which counts for it too
	weight  int64       // of a check
}

// String names what is watched as people know it: "http :8080/healthz", "fast :8080". A
// query is the one that is asked about this site.
func (s SubjectOf) String() string {
	switch {
	case s.Fast:
		return fastText(s.Subject)
	case s.Probe.Prometheus != nil:
		return s.Probe.Prometheus.ForCluster(s.Cluster).String()
	default:
		return s.Probe.String()
	}
}

func fastText(s health.Subject) string { return fmt.Sprintf("fast :%d", s.Addr.Port()) }

// Subjects lists what is watched for one address of a service: one signal for
// each distinct port that has a fast signal, then one check for each distinct
// probe, then the soft ones, in an order of their own. Two services with the same address, port and probe give the same
// subjects, and so share them.
func Subjects(svc *spec.GlobalService, addr netip.Addr) []SubjectOf {
	addr = addr.Unmap()
	out, cluster := template(svc), ""
	for i := range svc.Endpoints {
		if e := &svc.Endpoints[i]; slices.Contains(e.Watched(), addr) {
			cluster = e.Cluster
			out = append(out, soften(svc, cluster)...)
			break // a spec in order has an address once
		}
	}
	out = at(out, addr)
	for i := range out {
		out[i].Cluster = cluster
	}
	return out
}

// soften is the template of the soft subjects of one site: what is asked about it is
// asked of its cluster, so that another cluster's is another subject. They are of the
// address as a whole, port 0; with one, soft evidence concerns every service of that port.
func soften(svc *spec.GlobalService, cluster string) (out []SubjectOf) {
	for i := range svc.Probes {
		p := &svc.Probes[i]
		if !p.Soft() {
			continue
		}
		s := health.Subject{Kind: health.KindSoft, Def: define(p.Definition() + " cluster=" + cluster)}
		if !slices.ContainsFunc(out, func(o SubjectOf) bool { return o.Subject == s }) {
			out = append(out, SubjectOf{Subject: s, Probe: p, Cluster: cluster})
		}
	}
	slices.SortFunc(out, func(a, b SubjectOf) int { return compareSubjects(a.Subject, b.Subject) })
	return out
}

// template is Subjects without the address, so that the hashing of a
// definition is done once for a service. Soft subjects are not in it: see soften.
func template(svc *spec.GlobalService) []SubjectOf {
	out := make([]SubjectOf, 0, 2*len(svc.Probes))
	for i := range svc.Probes {
		p := &svc.Probes[i]
		if p.Fast <= 0 {
			continue
		}
		s := health.Subject{Kind: health.KindSignal, Addr: netip.AddrPortFrom(netip.Addr{}, p.Port())}
		if j := slices.IndexFunc(out, func(o SubjectOf) bool { return o.Subject == s }); j < 0 {
			out = append(out, SubjectOf{Subject: s, Probe: p, Fast: true})
		} else if p.Fast < out[j].Probe.Fast {
			out[j].Probe = p
		}
	}
	for i := range svc.Probes {
		p := &svc.Probes[i]
		if p.Soft() {
			continue
		}
		s := health.Subject{
			Kind: health.KindCheck, Addr: netip.AddrPortFrom(netip.Addr{}, p.Port()),
			Def: define(p.Definition()),
		}
		j := slices.IndexFunc(out, func(o SubjectOf) bool { return o.Subject == s })
		if j < 0 {
			j = len(out)
			out = append(out, SubjectOf{Subject: s, Probe: p})
		}
		out[j].signed = out[j].signed || p.Fast > 0
		out[j].weight = max(out[j].weight, p.Weight, 1)
	}
	slices.SortStableFunc(out, func(a, b SubjectOf) int { return compareSubjects(a.Subject, b.Subject) })
	return out
}

// at puts an address into a template.
func at(tmpl []SubjectOf, addr netip.Addr) []SubjectOf {
	out := slices.Clone(tmpl)
	for i := range out {
		out[i].Subject.Addr = netip.AddrPortFrom(addr, out[i].Subject.Addr.Port())
	}
	return out
}

// define gives the first 16 hexadecimal digits of a definition's SHA-256.
func define(definition string) string {
	sum := sha256.Sum256([]byte(definition))
	return hex.EncodeToString(sum[:8])
}

// Roll is the roll-up of one endpoint's subjects in one address family.
type Roll struct {
	Health Health
	Seen   bool             // one that lives is known to be up: Degraded may be said of what nobody sees
	brief  byte             // what a verdict depends on of the lists
	All    []netip.Addr     // configured, in their own order
	Live   []netip.Addr     // not failed: no signal and no check of it is down
	Alive  []netip.Addr     // failed or not: a signal of it is watched and not down
	Down   []health.Subject // the signals and checks that are down
	Soft   []health.Subject // the soft subjects that are down
	short  *shortfall       // of the worst address of a service that counts its probes; nil: all of them pass
	back   back
}

// Rollup gives an endpoint's standing in one family; states says what each
// subject is agreed to be. The zero Roll has no address of the family. A state
// that is unknown counts as up for steering (S1): it only keeps the roll-up
// from saying Healthy.
func Rollup(svc *spec.GlobalService, e *spec.Endpoint, states map[health.Subject]health.State, f Family) Roll {
	return NewRoller(states).Rollup(svc, e, f)
}

// Roller gives the standings of many endpoints by the same states, which must not
// change meanwhile.
type Roller struct {
	src  source
	svc  *spec.GlobalService // of tmpl
	tmpl []SubjectOf
}

// NewRoller goes through the states once.
func NewRoller(states map[health.Subject]health.State) *Roller {
	return &Roller{src: source{states: states, soft: softOf(states)}}
}

// Rollup is the function of that name.
func (r *Roller) Rollup(svc *spec.GlobalService, e *spec.Endpoint, f Family) Roll {
	if r.svc != svc {
		r.svc, r.tmpl = svc, template(svc)
	}
	var addrs []address
	for _, a := range sorted(e.Watched()) {
		if f.Has(a) {
			addrs = append(addrs, address{addr: a, subjects: at(r.tmpl, a), soft: at(soften(svc, e.Cluster), a), combine: combination(svc)})
		}
	}
	return roll(addrs, r.src)
}

// address is one configured address with what is watched for it.
type address struct {
	addr     netip.Addr
	subjects []SubjectOf
	soft     []SubjectOf   // the soft ones that its service asks for
	combine  *spec.Combine // nil: all must pass
}

// source is where the states of subjects come from: certificates, or the set
// that an observation stored.
type source struct {
	states map[health.Subject]health.State
	soft   map[netip.Addr][]health.Subject // soft subjects by address, ordered

	returns map[health.Subject]Return // of what an observation stored: those that it found under way
}

// softOf gathers the soft subjects that are down, by address.
func softOf(states map[health.Subject]health.State) map[netip.Addr][]health.Subject {
	var out map[netip.Addr][]health.Subject
	for s, st := range states {
		if s.Kind != health.KindSoft || st != health.Down {
			continue
		}
		if out == nil {
			out = map[netip.Addr][]health.Subject{}
		}
		a := s.Addr.Addr().Unmap()
		out[a] = append(out[a], s)
	}
	for _, list := range out {
		slices.SortFunc(list, compareSubjects)
	}
	return out
}

// compareSubjects orders signals before checks, then by address and definition.
func compareSubjects(a, b health.Subject) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), a.Addr.Compare(b.Addr), cmp.Compare(a.Def, b.Def))
}

// softAt lists the soft subjects down at an address that concern a service: those that
// its probes ask for, and those of one of its ports, which nobody's probes ask for.
func (s source) softAt(a address) []health.Subject {
	list := s.soft[a.addr]
	if len(list) == 0 {
		return nil
	}
	var out []health.Subject
	for _, sub := range list {
		port := sub.Addr.Port()
		if port == 0 && slices.ContainsFunc(a.soft, func(o SubjectOf) bool { return o.Subject == sub }) ||
			port != 0 && slices.ContainsFunc(a.subjects, func(o SubjectOf) bool { return o.Subject.Addr.Port() == port }) {
			out = append(out, sub)
		}
	}
	return out
}

// roll decides: failed when no address lives, degraded when every living one
// is, healthy when one is known to be up, else unknown.
func roll(addrs []address, src source) Roll {
	r := Roll{All: make([]netip.Addr, len(addrs))}
	for i := range addrs {
		r.All[i] = addrs[i].addr
	}
	var states []health.State
	for i := range addrs {
		for j := range addrs[i].subjects {
			states = append(states, src.states[addrs[i].subjects[j].Subject])
		}
	}
	r.of(addrs, states, src)
	return r
}

// of works out all but All, with which it shares what is the same, from the states of
// the addresses' subjects. It gives the states that follow.
func (r *Roll) of(addrs []address, states []health.State, src source) []health.State {
	sound, up := 0, 0
	alives, lives := 0, 0
	for i := range addrs {
		a := &addrs[i]
		down, known, alive := false, len(a.subjects) > 0, false
		of := states[:len(a.subjects)]
		states = states[len(of):]
		for j, st := range of {
			s := &a.subjects[j]
			if st == health.Down {
				down = true
				if r.Down == nil {
					r.Down = make([]health.Subject, 0, countDown(of)+countDown(states))
				}
				r.Down = append(r.Down, s.Subject)
			} else if s.Fast {
				alive = true
			}
			known = known && st == health.Up
		}
		light := false
		if a.combine != nil {
			down, known, light = r.combined(a, of)
		}
		if alive {
			r.Alive = note(r.Alive, r.All, alives, i)
			alives++
		}
		if down {
			continue
		}
		r.Live = note(r.Live, r.All, lives, i)
		lives++
		if known {
			up++
		}
		soft := src.softAt(*a)
		r.Soft = append(r.Soft, soft...)
		if len(soft) == 0 && !light {
			sound++
		}
	}
	switch {
	case len(r.All) == 0 || len(r.Live) > 0 && sound > 0 && up == 0:
		r.Health = HealthUnknown
	case len(r.Live) == 0:
		r.Health = Failed
	case sound == 0:
		r.Health = Degraded
	default:
		r.Health = Healthy
	}
	r.Seen = up > 0
	r.brief = bit(len(r.All) > 0) | bit(len(r.Live) > 0)<<1 | bit(len(r.Alive) > 0)<<2 | bit(len(r.Live) < len(r.All))<<3 | bit(r.short != nil)<<4
	return states
}

func countDown(states []health.State) (n int) {
	for _, st := range states {
		if st == health.Down {
			n++
		}
	}
	return n
}

// note adds the i-th of all as the n-th of a list, which is the front of all as
// long as nothing is left out.
func note(list, all []netip.Addr, n, i int) []netip.Addr {
	if n == i {
		return all[: n+1 : n+1]
	}
	return append(list, all[i])
}

// sorted gives addresses unmapped, once each and in their own order: that in
// which a spec lists them never shows.
func sorted(in []netip.Addr) []netip.Addr {
	out := make([]netip.Addr, len(in))
	for i, a := range in {
		out[i] = a.Unmap()
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}
