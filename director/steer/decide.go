package steer

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
)

// Decide says who answers for whom: a pure function of its input. Equal inputs,
// in whatever order their lists and maps are, give equal decisions.
func Decide(in Input) Decision { return new(Decider).Decide(in) }

// decision is one service's decision in the making.
type decision struct {
	c          *compiled
	stand      []standing
	targets    [2][]int // sites of the service's environment with an address of the family, by rank
	overBudget [2]string
	envWhy     [2][]string
	observe    *plan.Override // whose set of the down is used; nil: certificates
	observing  bool
	differs    bool // what is observed is not what is used
	alerts     map[string]struct{}
}

// inputs is what changes a service's decision without a change of its spec.
type inputs struct {
	drains  []drain
	observe *plan.Override
	frozen  source // what the observation stored
	real    source
	acting  bool
}

// drain is a parsed override of kind DRAIN.
type drain struct {
	scope Scope
	o     *plan.Override
}

func (c *compiled) decide(in inputs) Service {
	d := &decision{c: c, observe: in.observe, alerts: map[string]struct{}{}}
	svc := c.svc
	// A spec that says `observe` before the plan holds the observation is obeyed
	// at once, as if born in it.
	d.observing = !in.acting && (in.observe != nil ||
		svc.Automation == spec.AutomationObserve || c.fleet.Automation == spec.AutomationObserve)
	d.takeStock(in)
	out := Service{
		Name: svc.Name, Hosts: svc.Hosts, TTL: svc.TTL, Answers: max(1, svc.Steering.Answers),
		Observing: d.observing,
	}
	serving := make([]bool, len(c.sites))
	out.V4 = d.view(IPv4, out.Answers, serving)
	out.V6 = d.view(IPv6, out.Answers, serving)
	out.Sites = d.sites(serving)
	if svc.SiteNames {
		out.SiteViews = d.siteViews()
	}
	d.alertHealthy()
	for a := range d.alerts {
		out.Alerts = append(out.Alerts, a)
	}
	slices.Sort(out.Alerts)
	return out
}

func (d *decision) alert(s string) { d.alerts[s] = struct{}{} }

// takeStock works out every site's standing.
func (d *decision) takeStock(in inputs) {
	c := d.c
	used := in.real
	if d.observing {
		used = in.frozen
	}
	d.stand = make([]standing, len(c.sites))
	for i := range c.sites {
		s, st := &c.sites[i], &d.stand[i]
		st.last = true
		for _, dr := range in.drains {
			if !dr.scope.Covers(c.svc.Name, s.cluster) {
				continue
			}
			st.last = st.last && dr.o.GetLastResort()
			if st.drain == nil || cmp.Or(cmp.Compare(dr.o.GetRevision(), st.since), cmp.Compare(dr.o.GetId(), st.drain.GetId())) < 0 {
				st.drain, st.since = dr.o, dr.o.GetRevision()
			}
		}
		for f := range s.addrs {
			st.real[f] = roll(s.addrs[f], in.real)
			st.rolls[f] = st.real[f]
			if d.observing {
				st.rolls[f] = roll(s.addrs[f], used)
				d.differs = d.differs || !sameRoll(&st.real[f], &st.rolls[f])
			}
		}
	}
	for f := range d.targets {
		d.takeTargets(Family(f))
		d.budget(Family(f))
	}
}

// sameRoll compares what steering would make of two roll-ups.
func sameRoll(a, b *Roll) bool {
	return slices.Equal(a.Live, b.Live) && slices.Equal(a.Alive, b.Alive) && (a.Health == Degraded) == (b.Health == Degraded)
}

// takeTargets lists the family's possible sites: a cluster of another
// environment is never one, whatever else is down.
func (d *decision) takeTargets(f Family) {
	for _, i := range d.c.byRank {
		s := &d.c.sites[i]
		switch {
		case len(s.addrs[f]) == 0:
		case s.target:
			d.targets[f] = append(d.targets[f], i)
		default:
			d.envWhy[f] = append(d.envWhy[f], "environment: "+s.end.Cluster+" is "+s.cluster.Environment+", the service "+d.c.svc.Environment)
		}
	}
}

// configured tells whether the family has an address at all.
func (d *decision) configured(f Family) bool {
	return slices.ContainsFunc(d.c.sites, func(s site) bool { return len(s.addrs[f]) > 0 })
}

// view decides for one family and marks the sites that some client is sent to.
func (d *decision) view(f Family, answers int, serving []bool) View {
	if !d.configured(f) {
		return View{}
	}
	// The first class of each fence first: should the sets ever outgrow their
	// index, the rest of its classes share that one, and residency holds.
	b := newBuilder(len(d.c.classes))
	first := map[int]bool{}
	for pass := range 2 {
		for n, k := range d.c.classes {
			if lead := !first[k.fence]; pass == 0 && lead || pass == 1 && !b.has(n) {
				first[k.fence] = true
				b.add(n, k.fence, d.set(f, k))
			}
		}
	}
	for i := range b.view.Sets {
		d.markServing(&b.view.Sets[i], answers, serving)
	}
	return b.fill(d.c)
}

// markServing marks the sites among the first n of a set, different fault
// domains first; every site of a weighted one.
func (d *decision) markServing(s *Set, n int, serving []bool) {
	for _, c := range Picked(s, n) {
		for i := range d.c.sites {
			if d.c.sites[i].end.Cluster == c.Cluster {
				serving[i] = true
			}
		}
	}
}

// Picked lists the choices of a set that some client of it is sent to when a
// reply has room for n addresses: different fault domains come first.
func Picked(s *Set, n int) []Choice {
	if s.Weighted || len(s.Choices) <= n {
		return s.Choices
	}
	out := make([]Choice, 0, n)
	taken := make([]bool, len(s.Choices))
	for _, spread := range []bool{true, false} {
		for i, c := range s.Choices {
			if len(out) == n {
				return out
			}
			same := slices.ContainsFunc(out, func(o Choice) bool { return o.Domain == c.Domain })
			if taken[i] || spread && same {
				continue
			}
			taken[i] = true
			out = append(out, c)
		}
	}
	return out
}

// siteViews answers the names of single sites.
func (d *decision) siteViews() []SiteView {
	out := make([]SiteView, len(d.c.sites))
	for i := range d.c.sites {
		out[i] = SiteView{Cluster: d.c.sites[i].end.Cluster, V4: d.siteView(IPv4, i), V6: d.siteView(IPv6, i)}
	}
	return out
}

func (d *decision) siteView(f Family, i int) View {
	s := &d.c.sites[i]
	if len(s.addrs[f]) == 0 {
		return View{}
	}
	b := newBuilder(len(d.c.classes))
	for n, k := range d.c.classes {
		set := Set{Tier: TierNone}
		switch {
		case !s.target:
			set.Why = []string{"environment: " + s.end.Cluster + " is " + s.cluster.Environment + ", the service " + d.c.svc.Environment}
		case !d.c.fences[k.fence].allowed[i]:
			set.Why = append(d.fenceWhy(f, k.fence), d.nothing(f, k.fence))
		default:
			set.Tier = TierHealthy
			set.Choices = []Choice{{Cluster: s.end.Cluster, Domain: s.cluster.FaultDomain, Addrs: d.stand[i].rolls[f].All}}
			set.Why = []string{"site name: " + s.end.Cluster + " alone, whatever its health"}
		}
		b.add(n, k.fence, set)
	}
	return b.fill(d.c)
}

// builder numbers distinct sets and spreads them over places and prefixes.
type builder struct {
	view    View
	byKey   map[string]uint16
	byFence map[int]uint16
	index   []int32 // class -> set, -1 before it is known
}

func newBuilder(classes int) *builder {
	b := &builder{byKey: map[string]uint16{}, byFence: map[int]uint16{}, index: make([]int32, classes)}
	for i := range b.index {
		b.index[i] = -1
	}
	return b
}

func (b *builder) has(class int) bool { return b.index[class] >= 0 }

func (b *builder) add(class, fence int, s Set) {
	key := keyOf(&s)
	n, ok := b.byKey[key]
	if !ok && len(b.view.Sets) > math.MaxUint16 {
		n, ok = b.byFence[fence], true
	}
	if !ok {
		n = uint16(len(b.view.Sets))
		b.byKey[key] = n
		b.view.Sets = append(b.view.Sets, s)
	}
	if _, has := b.byFence[fence]; !has {
		b.byFence[fence] = n
	}
	b.index[class] = int32(n)
}

func (b *builder) fill(c *compiled) View {
	spread := func(classes []int32) []uint16 {
		out := make([]uint16, len(classes))
		for i, k := range classes {
			out[i] = uint16(b.index[k])
		}
		return out
	}
	b.view.ByPlace = spread(c.base)
	for _, r := range c.rows {
		b.view.ByPrefix = append(b.view.ByPrefix, PrefixPlaces{Prefix: r.prefix, ByPlace: spread(r.classes)})
	}
	return b.view
}

// keyOf writes all of a set, so that equal sets are shared.
func keyOf(s *Set) string {
	b := make([]byte, 0, 256)
	b = append(b, byte(s.Tier), bit(s.Weighted), bit(s.FailOpen))
	for _, c := range s.Choices {
		b = append(append(b, c.Cluster...), 0)
		b = strconv.AppendUint(b, uint64(c.Weight), 10)
		for _, a := range c.Addrs {
			b = append(b, 1)
			b = a.AppendTo(b)
		}
		b = append(b, 2)
	}
	for _, w := range s.Why {
		b = append(append(b, 3), w...)
	}
	return string(b)
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
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
