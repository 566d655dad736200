package spec

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
)

// Cluster returns the cluster of that name, nil where there is none.
func (s *Set) Cluster(name string) *Cluster {
	return find(s.Clusters, name, func(c *Cluster) string { return c.Name })
}

// Zone returns the zone of that name (lower case, no last dot), nil where there
// is none.
func (s *Set) Zone(name string) *Zone {
	return find(s.Zones, name, func(z *Zone) string { return z.Name })
}

// Service returns the service of that fleet name, nil where there is none.
func (s *Set) Service(name string) *GlobalService {
	return find(s.Services, name, func(g *GlobalService) string { return g.Name })
}

func find[T any](sorted []*T, name string, nameOf func(*T) string) *T {
	i, found := slices.BinarySearchFunc(sorted, name, func(t *T, name string) int { return strings.Compare(nameOf(t), name) })
	if !found {
		return nil
	}
	return sorted[i]
}

// Forget lets go of a large text, and keeps its sum: a zone of a million records is
// in the plan's document and in the table, and need not be here, too.
func (z *Zone) Forget() {
	if len(z.Records) < largeText {
		return
	}
	h := sha256.New()
	for text := z.Records; text != ""; { // without a copy of it
		n := min(len(text), 4096)
		h.Write([]byte(text[:n]))
		text = text[n:]
	}
	z.Records, z.Sum = "", hex.EncodeToString(h.Sum(nil))
}

const largeText = 1 << 20 // octets

// ZoneOf returns the zone that a host is in, nil for none: the one with the
// most labels in common, never a match by letters (C6).
func (s *Set) ZoneOf(host string) *Zone {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for host != "" {
		if z := s.Zone(host); z != nil {
			return z
		}
		_, host, _ = strings.Cut(host, ".")
	}
	return nil
}

// SiteHosts returns the names that answer with one cluster's site alone, in
// the order of Hosts: none without siteNames, and none for a wildcard.
func (g *GlobalService) SiteHosts(cluster string) []string {
	if !g.SiteNames {
		return nil
	}
	var hosts []string
	for _, h := range g.Hosts {
		if !strings.HasPrefix(h, "*.") {
			hosts = append(hosts, cluster+"."+h)
		}
	}
	return hosts
}

// Endpoint returns the service's endpoint in a cluster, nil for none.
func (g *GlobalService) Endpoint(cluster string) *Endpoint {
	for i := range g.Endpoints {
		if g.Endpoints[i].Cluster == cluster {
			return &g.Endpoints[i]
		}
	}
	return nil
}

// Allows reports whether a residency rule lets a cluster serve.
func (r *ResidencyRule) Allows(c *Cluster) bool {
	if r.Only != nil {
		return slices.Contains(r.Only, c.Name)
	}
	for k, v := range r.Clusters {
		if got, found := c.Labels[k]; !found || got != v {
			return false
		}
	}
	return true
}

// String names the clients, as in "continents EU or countries TR".
func (c Clients) String() string {
	if c.Everybody {
		return "all clients"
	}
	var parts []string
	if len(c.Continents) > 0 {
		parts = append(parts, "continents "+strings.Join(c.Continents, " "))
	}
	if len(c.Countries) > 0 {
		parts = append(parts, "countries "+strings.Join(c.Countries, " "))
	}
	if len(c.Prefixes) > 0 {
		words := make([]string, len(c.Prefixes))
		for i, p := range c.Prefixes {
			words[i] = p.String()
		}
		parts = append(parts, "prefixes "+strings.Join(words, " "))
	}
	if len(parts) == 0 {
		return "no clients"
	}
	return strings.Join(parts, " or ")
}

// Has reports whether a client is one of these by its place; "" is the
// unknown place, which is nowhere.
func (c Clients) Has(country, continent string) bool {
	return c.Everybody || country != "" && slices.Contains(c.Countries, country) ||
		continent != "" && slices.Contains(c.Continents, continent)
}

// Covers reports whether a prefix lies inside one of the client prefixes.
func (c Clients) Covers(p netip.Prefix) bool {
	return c.Everybody || slices.ContainsFunc(c.Prefixes, func(q netip.Prefix) bool {
		return q.Bits() <= p.Bits() && q.Contains(p.Addr())
	})
}
