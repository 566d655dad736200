package core

import (
	"maps"
	"slices"

	"github.com/divertdns/divert/director/spec"
)

// specDangers says what a spec takes away besides capacity: names that were answered, and
// the fence of residency (S11), whichever way it is moved.
func specDangers(before, after *spec.Set) []string {
	if before == after || before == nil || after == nil {
		return nil
	}
	owner := map[string]*spec.GlobalService{}
	for _, svc := range after.Services {
		for _, host := range svc.Hosts {
			owner[host] = svc
		}
	}
	moved := labelled(before, after)
	var gone, others, fenced []string
	for _, z := range before.Zones {
		if !slices.ContainsFunc(after.Zones, func(o *spec.Zone) bool { return o.Name == z.Name }) {
			gone = append(gone, "zone "+z.Name)
		}
	}
	for _, svc := range before.Services {
		fence := false
		for _, host := range svc.Hosts {
			switch now := owner[host]; {
			case now == nil:
				gone = append(gone, host)
			case now.Name != svc.Name: // whose sites, and what they may do, are others
				others = append(others, host)
			default:
				fence = fence || !sameFence(svc, now, moved)
			}
		}
		if fence {
			fenced = append(fenced, svc.Name)
		}
	}
	var out []string
	for _, said := range []struct {
		what string
		of   []string
	}{
		{"it takes names out of service: ", gone},
		{"it gives names to another service: ", others},
		{"it changes which clusters may serve which clients (residency): ", fenced},
	} {
		if len(said.of) > 0 {
			out = append(out, said.what+list(said.of))
		}
	}
	return out
}

// sameFence tells whether a service's residency is what it was: by its rules as written, and
// by the labels of the clusters that it has and had.
func sameFence(was, now *spec.GlobalService, moved map[string]bool) bool {
	same := slices.EqualFunc(was.Residency, now.Residency, func(a, b spec.ResidencyRule) bool {
		other := func(e spec.Endpoint) bool { // by a policy's: of the clusters that it had
			return slices.Contains(a.Only, e.Cluster) != slices.Contains(b.Only, e.Cluster)
		}
		return maps.Equal(a.Clusters, b.Clusters) && sameClients(a.Clients, b.Clients) && !slices.ContainsFunc(was.Endpoints, other)
	})
	if !same || len(now.Residency) > 0 && was.ResidencyUnknown != now.ResidencyUnknown {
		return false
	}
	return len(now.Residency) == 0 || !slices.ContainsFunc(was.Endpoints, func(e spec.Endpoint) bool { return moved[e.Cluster] })
}

func sameClients(a, b spec.Clients) bool {
	return a.Everybody == b.Everybody && slices.Equal(a.Continents, b.Continents) && slices.Equal(a.Countries, b.Countries) && slices.Equal(a.Prefixes, b.Prefixes)
}

// labelled lists the clusters whose labels are others than before.
func labelled(before, after *spec.Set) map[string]bool {
	now := clustersOf(after)
	out := map[string]bool{}
	for _, c := range before.Clusters {
		if next := now[c.Name]; next != nil && !maps.Equal(next.Labels, c.Labels) {
			out[c.Name] = true
		}
	}
	return out
}

// displaced lists the clusters that a spec takes out of service without a drain: those
// before the first one of an order by failover, which their clients have to leave for it.
// Such an order is judged as the drain that would do the same.
func (k *stock) displaced(was, now *spec.GlobalService) map[string]bool {
	if was == nil || now == nil || now.Steering.Policy != spec.PolicyFailover {
		return nil
	}
	first := k.first(now)
	if first == "" {
		return nil
	}
	out := map[string]bool{}
	if was.Steering.Policy != spec.PolicyFailover { // all served
		for i := range was.Endpoints {
			out[was.Endpoints[i].Cluster] = was.Endpoints[i].Cluster != first
		}
		return out
	}
	for _, cluster := range was.Steering.Order {
		if cluster == first {
			break
		}
		out[cluster] = true // all, where a site that is new stands first
	}
	return out
}

// first is the first site of an order that people mean to serve; "": none.
func (k *stock) first(svc *spec.GlobalService) string {
	for _, cluster := range svc.Steering.Order {
		if k.meant(k.siteOf(svc, cluster)) {
			return cluster
		}
	}
	return ""
}

// kept gives how much of a unit of capacity a site keeps where clients are shared out by
// weights: as much as it keeps of its share, at most all.
func kept(was, now *spec.GlobalService, cluster string, unit int64) int64 {
	if now == nil || now.Steering.Policy != spec.PolicyWeighted {
		return unit
	}
	share := func(svc *spec.GlobalService) (mine, all float64) {
		for i := range svc.Endpoints {
			e := &svc.Endpoints[i]
			w := float64(e.Weight)
			if svc.Steering.Policy != spec.PolicyWeighted { // all serve, each as much as it can
				w = float64(max(1, e.Capacity))
			}
			all += w
			if e.Cluster == cluster {
				mine += w
			}
		}
		return mine, all
	}
	had, of := share(was)
	has, in := share(now)
	if had <= 0 || in <= 0 || has*of >= had*in {
		return unit
	}
	return int64(float64(unit) * (has * of) / (had * in))
}
