package steer

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/divertdns/divert/director/spec"
)

// set runs the pipeline for one class of clients.
func (d *decision) set(f Family, k class) Set {
	fe := &d.c.fences[k.fence]
	why := sentences(slices.Concat(d.c.envWhy[f], d.fenceWhy(f, k.fence), d.observeWhy())...)
	var allowed, present []int
	for _, i := range d.c.targets[f] {
		if !fe.allowed[i] {
			continue
		}
		allowed = append(allowed, i)
		if d.c.sites[i].present {
			present = append(present, i)
		}
	}
	if len(allowed) == 0 {
		d.alert(f.String() + ": " + d.nothing(f, k.fence))
		return Set{why: append(why, reason{text: d.nothing(f, k.fence)})}
	}
	equal := len(present) == 0 // weight 0 is absent, unless nothing else is allowed
	if equal {
		present = allowed
	}
	why = append(why, d.standingWhy(f, k.fence, allowed)...)

	t, pinned, pinWhy := d.tiersWithPin(f, k.pin, allowed, present, len(fe.rules) == 0)
	why = append(why, sentences(t.why...)...)
	s := Set{Tier: t.tier, FailOpen: t.failOpen}
	d.alertTier(f, &t)
	var returns []reason
	switch {
	case t.fallback:
		s.Choices = []Choice{{Cluster: FallbackSite, Domain: FallbackSite, which: whichFallback}}
	case pinned:
		pinWhy, returns = d.pinned(f, k, &t, &s, pinWhy, equal)
	default:
		sites, sentence := d.prefer(k, t.sites, equal)
		s.Weighted = d.c.svc.Steering.Policy == spec.PolicyWeighted && len(sites) > 1
		s.Choices = d.choices(sites, &t, s.Weighted, equal)
		returns = d.ramp(f, sites, sites, s.Choices)
		if sentence != "" {
			pinWhy = append(pinWhy, sentence)
		}
	}
	s.why = append(append(why, sentences(pinWhy...)...), returns...)
	if d.c.svc.Flattened() && !t.fallback {
		s.Rest = d.rest(f, k, allowed, s.Choices)
	}
	return s
}

func sentences(texts ...string) []reason {
	out := make([]reason, len(texts), len(texts)+4)
	for i, text := range texts {
		out[i].text = text
	}
	return out
}

// FallbackSite stands for the cluster in a Choice of fallback addresses.
const FallbackSite = "(fallback)"

// tiersWithPin prefers the pinned cluster where the best tier holds it. A pin
// bypasses preference, weights included; it never bypasses health or drains.
func (d *decision) tiersWithPin(f Family, pin int, allowed, present []int, unfenced bool) (t tiered, pinned bool, why []string) {
	if pin < 0 {
		return d.tiers(f, present, unfenced), false, nil
	}
	cluster := d.c.svc.Pins[pin].Cluster
	var to []int
	with := make([]int, 0, len(allowed))
	for _, i := range allowed {
		is := d.c.sites[i].end.Cluster == cluster
		if is {
			to = append(to, i)
		}
		if is || slices.Contains(present, i) {
			with = append(with, i)
		}
	}
	t = d.tiers(f, with, unfenced)
	if len(to) > 0 && slices.Contains(t.sites, to[0]) {
		if len(t.sites) > 1 {
			why = []string{"pin: these clients go to " + cluster}
		}
		return t, true, why
	}
	return d.tiers(f, present, unfenced), false, []string{"pin: " + cluster + " cannot serve these clients now"}
}

// pinned gives the pinned cluster alone, except to those whom it may not have yet while
// it returns: they are where they would be without it.
func (d *decision) pinned(f Family, k class, t *tiered, s *Set, why []string, equal bool) (pinWhy []string, returns []reason) {
	cluster := d.c.svc.Pins[k.pin].Cluster
	at := slices.IndexFunc(t.sites, func(i int) bool { return d.c.sites[i].end.Cluster == cluster })
	to := t.sites[at : at+1 : at+1]
	s.Choices = d.choices(to, t, false, false)
	if returns = d.ramp(f, t.sites, to, s.Choices); len(returns) == 0 {
		return why, nil
	}
	sites, sentence := d.prefer(k, slices.Concat(t.sites[:at], t.sites[at+1:]), equal)
	if sentence != "" {
		why = append(why, sentence)
	}
	s.Pinned = true
	s.Weighted = d.c.svc.Steering.Policy == spec.PolicyWeighted && len(sites) > 1
	if s.Weighted {
		s.Choices[0].Weight = 1 // it is alone, and without one it would be absent
	}
	others := d.choices(sites, t, s.Weighted, equal)
	returns = append(returns, d.ramp(f, t.sites, sites, others)...)
	s.Choices = append(s.Choices, others...)
	return why, returns
}

// prefer orders the sites of a tier for a class, and says how.
func (d *decision) prefer(k class, sites []int, equal bool) ([]int, string) {
	if len(sites) < 2 {
		return sites, ""
	}
	st := &d.c.svc.Steering
	switch st.Policy {
	case spec.PolicyGeo:
		order := slices.DeleteFunc(slices.Clone(d.c.orders[k.order].sites), func(i int) bool { return !slices.Contains(sites, i) })
		if k.region < 0 {
			if d.c.orders[k.order].unknown {
				return order, "geo: distance unknown, so in order: " + d.names(order)
			}
			return order, "geo: nearest first: " + d.names(order)
		}
		r := &st.Regions[k.region]
		slices.SortStableFunc(order, func(a, b int) int {
			return cmp.Compare(position(r.Order, d.c.sites[a].end.Cluster), position(r.Order, d.c.sites[b].end.Cluster))
		})
		return order, "region " + d.c.regions[k.region] + ": in order: " + d.names(order)
	case spec.PolicyWeighted:
		return sites, "weighted: " + d.shares(sites, equal)
	default:
		return sites, "failover: in order: " + d.names(sites)
	}
}

// shares shows each site's share of the clients.
func (d *decision) shares(sites []int, equal bool) string {
	weight := func(i int) float64 {
		if equal {
			return 1
		}
		return float64(d.c.sites[i].weight)
	}
	total := 0.0
	for _, i := range sites {
		total += weight(i)
	}
	parts := make([]string, len(sites))
	for n, i := range sites {
		parts[n] = d.c.sites[i].end.Cluster + " " + strconv.FormatFloat(math.Round(1000*weight(i)/total)/10, 'f', -1, 64) + " %"
	}
	return strings.Join(parts, ", ")
}

// choices puts sites into an answer. Only a weighted one carries weights.
func (d *decision) choices(sites []int, t *tiered, weighted, equal bool) []Choice {
	out := make([]Choice, len(sites))
	for n, i := range sites {
		s := &d.c.sites[i]
		out[n] = Choice{Cluster: s.end.Cluster, Domain: s.cluster.FaultDomain, site: int32(s.rank), which: t.which(i)}
		switch {
		case weighted && equal:
			out[n].Weight = 1
		case weighted:
			out[n].Weight = s.weight
		}
	}
	return out
}
