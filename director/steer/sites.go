package steer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// sites gives every endpoint's standing: what is observed of it and what people
// said, side by side.
func (d *decision) sites(serving []bool) []Site {
	out := make([]Site, len(d.c.sites))
	for i := range d.c.sites {
		s, st := &d.c.sites[i], &d.stand[i]
		o := Site{Cluster: s.end.Cluster, Domain: s.cluster.FaultDomain, Health: d.worse(i), Serving: serving[i]}
		var why []string
		if !s.target {
			why = append(why, "environment: "+s.end.Cluster+" is "+s.cluster.Environment+", the service "+d.c.svc.Environment)
		}
		if st.drain != nil {
			o.Drained = st.drain.o.GetId()
			why = append(why, DrainWhy(s.end.Cluster, st.drain.o))
		}
		for f := range st.real {
			r := &st.real[f]
			o.All, o.Live = joined(o.All, r.All), joined(o.Live, r.Live)
			if w := healthWhy(s.end, r); w != "" && !slices.Contains(why, w) {
				why = append(why, w)
			}
			if d.observing && !sameRoll(r, &st.rolls[f]) {
				why = append(why, "automation observes: "+Family(f).String()+" answers as if "+d.asIf(i, Family(f)))
			}
			if r.Health == Degraded && d.overBudget[f] != "" && !d.observing && s.target && st.drain == nil {
				why = append(why, "over the budget for the degraded: ranks as healthy")
			}
		}
		o.Why = strings.Join(slices.Compact(why), "; ")
		out[i] = o
	}
	return out
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
func (d *decision) asIf(i int, f Family) string {
	r := &d.stand[i].rolls[f]
	if len(r.Live) < len(r.All) && r.Health != Failed {
		return d.c.sites[i].end.Cluster + " had some of its addresses"
	}
	if r.Health == HealthUnknown {
		return d.c.sites[i].end.Cluster + " were healthy"
	}
	return d.c.sites[i].end.Cluster + " were " + r.Health.String()
}

// worse is the observed health of the worse of the families that a site has.
func (d *decision) worse(i int) Health {
	worst, met := HealthUnknown, false
	for f := range d.stand[i].real {
		r := &d.stand[i].real[f]
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
		h := d.worse(i)
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
	if len(d.targets[f]) == 0 {
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
