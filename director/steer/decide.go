package steer

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"github.com/divertdns/divert/director/spec"
)

// Decide says who answers for whom: a pure function of its input. Equal inputs,
// in whatever order their lists and maps are, give equal decisions.
func Decide(in Input) Decision { return new(Decider).Decide(in) }

// decision is one service's decision in the making.
type decision struct {
	c          *compiled
	known      *remembered
	name       string // of the service
	stand      []standing
	overBudget [2]string
	fenceWhys  [2][][]string // of each fence, once made
	standWhys  [2][][]reason // of each fence, once made
	observe    *drain        // whose set of the down is used; nil: certificates
	observing  bool
	differs    bool // what is observed is not what is used
	pooled     bool // the plan says something of the sites' loads
	alerts     map[string]struct{}
	key        []byte // scratch
}

// inputs is what changes a service's decision without a change of its spec.
type inputs struct {
	*facts
	drains  []drain // at the time that is asked for
	observe *drain
	frozen  source // what the observation stored
}

// decide decides for a service whose sites are observed as given.
func (c *compiled) decide(name string, in inputs, observed []*rolls, m *memory) *Ruling {
	d := &m.scratch
	d.begin(c, name, in, m)
	svc := c.svc
	// A spec that says `observe` before the plan holds the observation is obeyed
	// at once, as if born in it.
	d.observing = !in.acting && (in.observe != nil ||
		svc.Automation == spec.AutomationObserve || c.fleet.Automation == spec.AutomationObserve)
	used := d.takeStock(in, observed)
	return &Ruling{
		Verdict: d.verdict(), TTL: svc.TTL, Observing: d.observing,
		c: c, real: observed, used: used, overBudget: d.overBudget,
		drained: d.drainsBy(func(st *standing) *drain { return st.drain }), paced: d.drainsBy(func(st *standing) *drain { return st.paced }),
	}
}

// begin clears what the decision before left, and keeps its room.
func (d *decision) begin(c *compiled, name string, in inputs, m *memory) {
	old := *d
	clear(old.alerts)
	*d = decision{c: c, known: m.of(c.layout), name: name, observe: in.observe, alerts: old.alerts, stand: old.stand[:0], key: old.key[:0]}
	if d.alerts == nil {
		d.alerts = map[string]struct{}{}
	}
}

// drainsBy lists a drain of each site; nil where there is none.
func (d *decision) drainsBy(of func(*standing) *drain) (out []*drain) {
	for i := range d.stand {
		dr := of(&d.stand[i])
		if dr == nil {
			continue
		}
		if out == nil {
			out = make([]*drain, len(d.stand))
		}
		out[i] = dr
	}
	return out
}

// verdict works out who answers, or finds that done for a service of which all is
// the same but its addresses.
func (d *decision) verdict() *Verdict {
	key := d.pattern()
	if v := d.known.verdicts.get(key); v != nil {
		return v
	}
	v := &Verdict{Answers: max(1, d.c.svc.Steering.Answers), serving: make([]bool, len(d.c.sites))}
	v.V4, v.V6 = d.view(IPv4, v.Answers, v.serving), d.view(IPv6, v.Answers, v.serving)
	v.noteShares(d.c, &v.V4)
	v.noteShares(d.c, &v.V6)
	v.noteKept(d.c, &v.V4)
	v.noteKept(d.c, &v.V6)
	if d.c.svc.SiteNames {
		v.SiteViews = d.siteViews()
	}
	d.alertHealthy()
	for a := range d.alerts {
		v.Alerts = append(v.Alerts, a)
	}
	slices.Sort(v.Alerts)
	d.known.verdicts.put(string(key), v)
	return v
}

// pattern writes all that a verdict depends on besides the layout.
func (d *decision) pattern() []byte {
	override := func(b []byte, o *drain) []byte {
		if o == nil {
			return append(b, 0)
		}
		return binary.AppendUvarint(b, uint64(o.number))
	}
	b := binary.AppendUvarint(d.key, uint64(d.c.fixed))
	b = override(append(b, bit(d.observing), bit(d.differs)), d.observe)
	for i := range d.stand {
		st := &d.stand[i]
		b = override(append(override(b, st.drain), bit(st.last)), st.paced)
		for f := range st.rolls {
			r := &st.rolls[f]
			b = append(b, byte(r.Health)<<4|byte(st.real[f].Health), r.brief)
		}
	}
	b = d.pooling(d.returning(b))
	d.key = b
	return b
}

func (d *decision) alert(s string) { d.alerts[s] = struct{}{} }

// takeStock works out every site's standing, and gives what steering sees of each.
func (d *decision) takeStock(in inputs, observed []*rolls) (used []*rolls) {
	c := d.c
	used = observed
	if d.observing {
		used = c.observe(in.frozen)
	}
	for i := range c.sites {
		s, st := &c.sites[i], standing{last: true, real: observed[i], rolls: used[i]}
		for j := range in.drains {
			dr := &in.drains[j]
			if !dr.scope.Covers(d.name, s.cluster) {
				continue
			}
			if dr.keep > 0 {
				if st.paced == nil || cmp.Or(cmp.Compare(dr.keep, st.paced.keep), cmp.Compare(dr.o.GetId(), st.paced.o.GetId())) < 0 {
					st.paced = dr
				}
				continue
			}
			st.last = st.last && dr.o.GetLastResort()
			if st.drain == nil || cmp.Or(cmp.Compare(dr.o.GetRevision(), st.since), cmp.Compare(dr.o.GetId(), st.drain.o.GetId())) < 0 {
				st.drain, st.since = dr, dr.o.GetRevision()
			}
		}
		if st.drain != nil {
			st.paced = nil
		}
		for f := range st.real {
			d.differs = d.differs || d.observing && !sameRoll(&st.real[f], &st.rolls[f])
		}
		d.stand = append(d.stand, st)
	}
	for f := range c.targets {
		d.budget(Family(f))
	}
	d.takePools(in.pools)
	return used
}

// sameRoll compares what steering would make of two roll-ups.
func sameRoll(a, b *Roll) bool {
	return slices.Equal(a.Live, b.Live) && slices.Equal(a.Alive, b.Alive) && (a.Health == Degraded) == (b.Health == Degraded)
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
	return b.fill(d)
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
	var out []Choice
	for rest := s.Choices; len(rest) > 0; {
		level := rest
		if next := slices.IndexFunc(rest, func(c Choice) bool { return c.Level != rest[0].Level }); next > 0 {
			level = rest[:next]
		}
		rest = rest[len(level):]
		// with gives those that are there for all clients, and one that is not.
		with := func(site int32) []Choice {
			return slices.DeleteFunc(slices.Clone(level), func(c Choice) bool { return c.Share > 0 && c.site != site })
		}
		out = append(out, picked(with(-1), n)...)
		for _, c := range level {
			// Who is known to fewer has the better of it the fewer others there are.
			if c.Share > 0 && slices.Contains(picked(with(c.site), n), c) {
				out = append(out, c)
			}
		}
	}
	return out
}

func picked(choices []Choice, n int) []Choice {
	if len(choices) <= n {
		return choices
	}
	out := make([]Choice, 0, n)
	taken := make([]bool, len(choices))
	for _, spread := range []bool{true, false} {
		for i, c := range choices {
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
			set.why = sentences("environment: " + s.end.Cluster + " is " + s.cluster.Environment + ", the service " + d.c.svc.Environment)
		case !d.c.fences[k.fence].allowed[i]:
			set.why = sentences(append(slices.Clone(d.fenceWhy(f, k.fence)), d.nothing(f, k.fence))...)
		default:
			set.Tier = TierHealthy
			set.Choices = []Choice{{Cluster: s.end.Cluster, Domain: s.cluster.FaultDomain, site: int32(s.rank), which: whichAll}}
			set.why = sentences("site name: " + s.end.Cluster + " alone, whatever its health")
		}
		b.add(n, k.fence, set)
	}
	return b.fill(d)
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

func (b *builder) fill(d *decision) View {
	key := make([]byte, 0, 2*len(b.index))
	for _, n := range b.index {
		key = append(key, byte(n>>8), byte(n))
	}
	rows := d.known.spreads.get(key)
	if rows == nil {
		rows = d.c.spread(b.index)
		d.known.spreads.put(string(key), rows)
	}
	b.view.ByPlace, b.view.ByPrefix = rows.ByPlace, rows.ByPrefix
	return b.view
}

// spread gives places and prefixes the sets of their classes. Prefixes of one row
// share it here too.
func (l *layout) spread(index []int32) *View {
	rows := make([][]uint16, len(l.rows))
	for i, classes := range l.rows {
		rows[i] = make([]uint16, len(classes))
		for place, k := range classes {
			rows[i][place] = uint16(index[k])
		}
	}
	v := &View{ByPlace: rows[0]}
	for _, p := range l.prefixes {
		v.ByPrefix = append(v.ByPrefix, PrefixPlaces{Prefix: p.prefix, ByPlace: rows[p.row]})
	}
	return v
}

// keyOf writes all of a set, so that equal sets are shared.
func keyOf(s *Set) string {
	b := make([]byte, 0, 256)
	b = append(b, byte(s.Tier), bit(s.Weighted), bit(s.FailOpen))
	b = binary.AppendUvarint(b, uint64(len(s.Choices)))
	for _, c := range slices.Concat(s.Choices, s.Rest) {
		b = binary.AppendUvarint(b, uint64(c.site))
		b = binary.AppendUvarint(b, uint64(c.Weight))
		b = append(b, byte(c.which), c.Share, c.ramp, bit(c.spilt), c.Level, 2)
	}
	for _, w := range s.why {
		b = binary.AppendUvarint(append(b, 3, bit(w.ramp)), uint64(w.site))
		b = append(b, w.text...)
	}
	return string(b)
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}
