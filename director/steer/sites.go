package steer

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"github.com/divertdns/divert/health"
)

// Sites gives every endpoint's standing, in the order of the spec: what is observed of
// it and what people said, side by side. It is worked out for whoever asks.
func (r *Ruling) Sites() []Site {
	out := make([]Site, len(r.c.sites))
	for i := range out {
		out[i] = r.Site(i)
	}
	return out
}

// Healths gives the health of each site, in the order of the spec, for people and
// metrics: one that never fell has no certificate, and is healthy once up says so of
// all that is watched of one of its addresses.
func (r *Ruling) Healths(up func(health.Subject) bool) iter.Seq[Health] {
	return func(yield func(Health) bool) {
		for i := range r.c.sites {
			if !yield(r.Health(i, up)) {
				return
			}
		}
	}
}

// Health is one of Healths.
func (r *Ruling) Health(i int, up func(health.Subject) bool) Health {
	h := worse(r.real[i])
	if h == HealthUnknown && r.c.sites[i].passes(up) {
		return Healthy
	}
	return h
}

// passes tells whether of one address all that must passes.
func (s *site) passes(up func(health.Subject) bool) bool {
	for f := range s.addrs {
		for i := range s.addrs[f] {
			if s.addrs[f][i].passes(up) {
				return true
			}
		}
	}
	return false
}

// Site is one of Sites.
func (r *Ruling) Site(i int) Site {
	s, dr := &r.c.sites[i], r.drainOf(i)
	o := Site{Cluster: s.end.Cluster, Domain: s.cluster.FaultDomain, Health: worse(r.real[i]), Serving: r.serving[i], Share: r.Share(i), Kept: r.Keeps(i)}
	var why []string
	if !s.target {
		why = append(why, "environment: "+s.end.Cluster+" is "+s.cluster.Environment+", the service "+r.c.svc.Environment)
	}
	if dr != nil {
		o.Drained = dr.o.GetId()
		why = append(why, DrainWhy(s.end.Cluster, dr.o))
	}
	if dr := r.pacedOf(i); dr != nil {
		o.Paced = dr.o.GetId()
		why = append(why, PaceWhy(s.end.Cluster, dr.o))
	}
	for f := range r.real[i] {
		seen, used := &r.real[i][f], &r.used[i][f]
		o.All, o.Live = joined(o.All, seen.All), joined(o.Live, seen.Live)
		if w := s.healthWhy(seen); w != "" && !slices.Contains(why, w) {
			why = append(why, w)
		}
		if r.Observing && !sameRoll(seen, used) {
			why = append(why, "automation observes: "+Family(f).String()+" answers as if "+asIf(s.end.Cluster, used))
		}
		if w := rampWhy(s.end.Cluster, &used.back); r.Share(i) < allShare && !used.back.next.IsZero() && !slices.Contains(why, w) {
			why = append(why, w)
		}
		if f == 0 && o.Kept < allShare {
			why = append(why, fmt.Sprintf("too busy: %s keeps %d %% of its clients", s.end.Cluster, o.Kept))
		}
		if seen.Health == Degraded && r.overBudget[f] != "" && !r.Observing && s.target && dr == nil {
			why = append(why, "over the budget for the degraded: ranks as healthy")
		}
	}
	o.Why = strings.Join(slices.Compact(why), "; ")
	return o
}

func (r *Ruling) drainOf(i int) *drain {
	if len(r.drained) == 0 {
		return nil
	}
	return r.drained[i]
}

func (r *Ruling) pacedOf(i int) *drain {
	if len(r.paced) == 0 {
		return nil
	}
	return r.paced[i]
}

// Glance is of a site what costs nothing to tell: its health by certificates alone, so
// that of one that never fell is unknown.
func (r *Ruling) Glance(i int) (cluster string, h Health, serving bool) {
	return r.c.sites[i].end.Cluster, worse(r.real[i]), r.serving[i]
}

// Well counts the undrained sites that are healthy, as far as is known.
func (r *Ruling) Well() int {
	n := 0
	for i := range r.real {
		if h := worse(r.real[i]); r.drainOf(i) == nil && (h == Healthy || h == HealthUnknown) {
			n++
		}
	}
	return n
}

// Moved lists the sites that stand otherwise than in an older ruling: whose health or
// drain is another, or to whom clients are sent now or no more, or another share of them. One that was not there
// and is healthy is none. What never fell ranks as healthy (S1), so that it is no move when
// the first certificate says so, or a probe is added that none is of.
func (r *Ruling) Moved(old *Ruling) []int {
	if r == old {
		return nil
	}
	var out []int
	for i := range r.c.sites {
		cluster, h, serving := r.Glance(i)
		h = ranking(h)
		at := -1
		if old != nil && old.c == r.c {
			at = i
		} else if old != nil {
			at = slices.IndexFunc(old.c.sites, func(s site) bool { return s.end.Cluster == cluster })
		}
		switch {
		case at < 0 && h == Healthy:
		case at >= 0 && old.serving[at] == serving && old.Share(at) == r.Share(i) && old.Keeps(at) == r.Keeps(i) && ranking(worse(old.real[at])) == h && idOf(old.drainOf(at)) == idOf(r.drainOf(i)):
		default:
			out = append(out, i)
		}
	}
	return out
}

// ranking is what steering takes a health for.
func ranking(h Health) Health {
	if h == HealthUnknown {
		return Healthy
	}
	return h
}

func idOf(d *drain) string {
	if d == nil {
		return ""
	}
	return d.o.GetId()
}

// joined appends the addresses that a list has not: what stands for a hostname is in
// both families.
func joined(list, more []netip.Addr) []netip.Addr {
	for _, a := range more {
		if !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// asIf says what an observing service takes a site for.
func asIf(cluster string, r *Roll) string {
	if len(r.Live) < len(r.All) && r.Health != Failed {
		return cluster + " had some of its addresses"
	}
	if r.Health == HealthUnknown {
		return cluster + " were healthy"
	}
	return cluster + " were " + r.Health.String()
}

// worse is the observed health of the worse of the families that a site has.
func worse(of *rolls) Health {
	worst, met := HealthUnknown, false
	for f := range of {
		r := &of[f]
		if len(r.All) == 0 {
			continue
		}
		if h := r.Health; !met || rankOf(h) > rankOf(worst) {
			worst = h
		}
		met = true
	}
	return worst
}

// rankOf orders verdicts for "worse": unknown lies between healthy and degraded.
func rankOf(h Health) int {
	switch h {
	case Healthy:
		return 0
	case Degraded:
		return 2
	case Failed:
		return 3
	default:
		return 1
	}
}

// alertHealthy raises the alert of minHealthy, by what is observed.
func (d *decision) alertHealthy() {
	var left []int
	for _, i := range d.c.byRank {
		h := worse(d.stand[i].real)
		if s := &d.c.sites[i]; s.target && s.present && d.stand[i].drain == nil && (h == Healthy || h == HealthUnknown) {
			left = append(left, i)
		}
	}
	want := d.c.svc.MinHealthy
	if len(left) >= want {
		return
	}
	text := fmt.Sprintf("below minHealthy: %d of %d wanted are healthy and undrained", len(left), want)
	if len(left) > 0 {
		text += ": " + d.names(left)
	}
	d.alert(text)
}

// alertTier raises the alert of every tier but the first.
func (d *decision) alertTier(f Family, t *tiered) {
	if t.tier == TierHealthy || t.tier == TierNone {
		return
	}
	for _, w := range t.why {
		d.alert(f.String() + ": " + w)
	}
}

// nothing says why some clients get no address of a family.
func (d *decision) nothing(f Family, fence int) string {
	if len(d.c.targets[f]) == 0 {
		return "environment: no cluster of " + d.c.svc.Environment + " has an address for these clients"
	}
	if d.c.fences[fence].unknown {
		return "residency: no cluster is allowed by every rule that may concern these clients"
	}
	return "residency: no cluster is allowed for these clients"
}

// standingWhy says, for the sites that residency allows, what takes each out of
// the first tier.
func (d *decision) standingWhy(f Family, fence int, allowed []int) []reason {
	if d.standWhys[f] == nil {
		d.standWhys[f] = make([][]reason, len(d.c.fences))
	}
	if d.standWhys[f][fence] == nil {
		d.standWhys[f][fence] = append(make([]reason, 0, 1), d.outOfTier(f, allowed)...)
	}
	return d.standWhys[f][fence]
}

func (d *decision) outOfTier(f Family, allowed []int) []reason {
	var drained, unwell []reason
	for _, i := range allowed {
		st := &d.stand[i]
		name := d.c.sites[i].end.Cluster
		if st.drain != nil {
			drained = append(drained, reason{text: DrainWhy(name, st.drain.o)})
			if !st.last {
				continue
			}
		}
		if st.rolls[f].unwell() {
			unwell = append(unwell, reason{site: int32(d.c.sites[i].rank)})
		}
	}
	if d.overBudget[f] != "" {
		unwell = append(unwell, reason{text: "degraded " + d.overBudget[f] + " are over the budget for the degraded: they rank as healthy"})
	}
	return append(drained, unwell...)
}

// observeWhy says that something else than what is observed is used.
func (d *decision) observeWhy() []string {
	switch {
	case !d.observing || !d.differs:
		return nil
	case d.observe == nil:
		return []string{"automation observes: health is not used"}
	default:
		return []string{fmt.Sprintf("automation observes (%s, %s): health as of revision %d is used",
			d.observe.o.GetAuthor(), d.observe.o.GetReason(), d.observe.o.GetRevision())}
	}
}
