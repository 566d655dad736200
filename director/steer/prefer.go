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

	t, to := d.tiersWithPin(f, k.pin, allowed, present, len(fe.rules) == 0)
	why = append(why, sentences(t.why...)...)
	s := Set{Tier: t.tier, FailOpen: t.failOpen}
	d.alertTier(f, &t)
	levels := d.levels(f, &t, to)
	why = append(why, sentences(d.pinWhy(k.pin, to, &t, levels)...)...)
	if t.fallback {
		s.Choices = []Choice{{Cluster: FallbackSite, Domain: FallbackSite, which: whichFallback}}
		s.why = why
	} else {
		s.why = append(why, d.fill(f, k, &t, levels, equal, &s)...)
		if len(levels) == 1 { // else who is not there for all, the pinned and the returning, says who has the others
			s.why = append(s.why, d.spill(f, k, present, &t, &s, equal)...)
		}
	}
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

// tiersWithPin has the pinned site take part whatever its weight: a pin bypasses
// preference, weights included; it never bypasses health or drains. It gives that site
// too, -1 for none that residency allows.
func (d *decision) tiersWithPin(f Family, pin int, allowed, present []int, unfenced bool) (t tiered, to int) {
	if pin < 0 {
		return d.tiers(f, present, unfenced), -1
	}
	to = -1
	with := make([]int, 0, len(allowed))
	for _, i := range allowed {
		is := d.c.sites[i].end.Cluster == d.c.svc.Pins[pin].Cluster
		if is {
			to = i
		}
		if is || slices.Contains(present, i) {
			with = append(with, i)
		}
	}
	t = d.tiers(f, with, unfenced)
	if t.tier == TierHealthy || slices.Contains(t.sites, to) {
		return t, to
	}
	return d.tiers(f, present, unfenced), to
}

// levels says who of a tier comes first, and who has the clients that those before may
// not have yet: the pinned site alone, the others, and the degraded where all that is
// healthy returns. Nobody comes after one that has all of its clients.
func (d *decision) levels(f Family, t *tiered, to int) (out [][]int) {
	serving := t.serving()
	add := func(sites []int) (all bool) {
		if len(sites) > 0 {
			out = append(out, sites)
		}
		return slices.ContainsFunc(sites, func(i int) bool { return d.share(f, i, serving) == 0 })
	}
	for _, list := range [][]int{t.sites, t.degraded} {
		if at := slices.Index(list, to); at >= 0 {
			if add(list[at : at+1 : at+1]) {
				return out
			}
			list = slices.Concat(list[:at], list[at+1:])
		}
		if add(list) {
			return out
		}
	}
	return out
}

// serving lists who may have clients of a tier.
func (t *tiered) serving() []int {
	if len(t.degraded) == 0 {
		return t.sites
	}
	return slices.Concat(t.sites, t.degraded)
}

// pinWhy says what became of a pin.
func (d *decision) pinWhy(pin, to int, t *tiered, levels [][]int) []string {
	if pin < 0 {
		return nil
	}
	cluster := d.c.svc.Pins[pin].Cluster
	switch {
	case !slices.ContainsFunc(levels, func(sites []int) bool { return slices.Contains(sites, to) }):
		return []string{"pin: " + cluster + " cannot serve these clients now"}
	case len(t.sites) > 1 || len(levels) > 1:
		return []string{"pin: these clients go to " + cluster}
	default:
		return nil
	}
}

// fill puts the sites of each level into a set, and says how.
func (d *decision) fill(f Family, k class, t *tiered, levels [][]int, equal bool, s *Set) []reason {
	var why []string
	var returns []reason
	serving := t.serving()
	s.Weighted = d.c.svc.Steering.Policy == spec.PolicyWeighted && slices.ContainsFunc(levels, func(sites []int) bool { return len(sites) > 1 })
	for n, level := range levels {
		sites, sentence := d.prefer(k, level, equal)
		choices := d.choices(sites, t, s.Weighted, equal)
		for i := range choices {
			choices[i].Level = uint8(n) // there are four at most
		}
		if sentence != "" {
			why = append(why, sentence)
		}
		if slices.Contains(t.degraded, level[0]) {
			why = append(why, "all that is healthy returns: degraded "+d.names(sites)+" "+verb(sites, "serves", "serve")+" the others meanwhile")
		}
		returns = append(returns, d.ramp(f, serving, sites, choices)...)
		s.Choices = append(s.Choices, choices...)
	}
	return append(sentences(why...), returns...)
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
	case spec.PolicyLatency:
		by := &d.c.orders[k.order]
		order := slices.DeleteFunc(slices.Clone(by.sites), func(i int) bool { return !slices.Contains(sites, i) })
		switch {
		case by.trips != "":
			return order, by.trips
		case by.unknown:
			return order, "latency: nothing is measured near, and distance is unknown, so in order: " + d.names(order)
		default:
			return order, "latency: nothing is measured near, so nearest first: " + d.names(order)
		}
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
			out[n].Weight = max(1, s.weight) // a pinned one may have none, and is alone
		}
	}
	return out
}
