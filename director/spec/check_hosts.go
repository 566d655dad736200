package spec

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// itemPath is the path of the item of a list that was written as text, in
// whatever letter case and form.
func (o *object) itemPath(path, text string) string {
	v := o.root
	for rest := path; v != nil && rest != ""; {
		var step string
		step, rest = cutStep(rest)
		if i, ok := index(step); ok {
			if i >= len(v.list) {
				return path
			}
			v = v.list[i]
		} else {
			v = v.get(step)
		}
	}
	if v == nil {
		return path
	}
	known, found := o.items[path]
	if !found {
		known = make(map[string]int, len(v.list))
		for i, e := range v.list {
			written := strings.ToLower(strings.TrimSuffix(e.string(), "."))
			if a, err := netip.ParseAddr(written); err == nil {
				written = a.String()
			}
			known[written] = i
		}
		o.items[path] = known
	}
	if i, found := known[text]; found {
		return item(path, i)
	}
	return path
}

// claim is who has a host.
type claim struct {
	service *GlobalService
	host    string // the service's host that it comes from
	site    string // the cluster of a site name, "" for a host itself
}

func (c claim) String() string {
	if c.site == "" {
		return "a host of " + c.service.Name
	}
	return "the site name of " + c.site + " for " + c.host + " of " + c.service.Name
}

// checkHosts checks that each host lies in a zone and belongs to one service,
// site names included. The second of two owners loses the host.
func (k *checker) checkHosts() {
	claims := map[string]claim{}
	for _, g := range k.set.Services {
		o := k.object(KindGlobalService, g.Name)
		g.Hosts = slices.DeleteFunc(g.Hosts, func(host string) bool {
			return !k.claim(o, claims, host, claim{service: g, host: host})
		})
	}
	for _, g := range k.set.Services {
		if !g.SiteNames {
			continue
		}
		o := k.object(KindGlobalService, g.Name)
		for _, host := range g.Hosts {
			if host[0] == '*' {
				continue
			}
			for _, e := range g.Endpoints {
				if k.set.Cluster(e.Cluster) != nil {
					k.claim(o, claims, e.Cluster+"."+host, claim{service: g, host: host, site: e.Cluster})
				}
			}
		}
		if firstPlain(g.Hosts) == "" && len(g.Hosts) > 0 {
			k.warn(o, "spec.siteNames", "a wildcard host has no site names", "add a host without *")
		}
	}
	for _, z := range k.set.Zones {
		slices.Sort(z.Steered)
		z.Steered = slices.Compact(z.Steered)
		slices.Sort(z.CNAMEs)
	}
}

// claim reports whether the host is free and can be had.
func (k *checker) claim(o *object, claims map[string]claim, host string, c claim) bool {
	path := func() string {
		if c.site != "" {
			return "spec.siteNames"
		}
		return o.itemPath("spec.hosts", c.host)
	}
	if len(host) > maxHost {
		k.fail(o, path(), "the site name "+quote(host)+" is longer than 253 octets", "shorten the host")
		return false
	}
	z := k.set.ZoneOf(strings.TrimPrefix(host, "*."))
	if z == nil && c.site == "" {
		remedy := "add a Zone that holds it"
		plain := strings.TrimPrefix(host, "*.")
		if _, parent, found := strings.Cut(plain, "."); found && strings.Contains(parent, ".") {
			plain = parent
		}
		remedy += ", such as " + plain
		k.fail(o, path(), host+" is in no zone", remedy)
	}
	if before, found := claims[host]; found {
		other := k.object(KindGlobalService, before.service.Name)
		k.fail(o, path(), fmt.Sprintf("%s is %s already%s", host, before, other.where()), "give each host to one service")
		return false
	}
	claims[host] = c
	if z != nil {
		z.Steered = append(z.Steered, host)
		if c.service.CNAME {
			z.CNAMEs = append(z.CNAMEs, host)
		}
		if before, found := k.shortest[z]; !o.isBroken("spec.ttl") && (!found || c.service.TTL < before.service.TTL) {
			k.shortest[z] = c
		}
	}
	return true
}

// checkShared warns of addresses that services place in different clusters.
func (k *checker) checkShared() {
	type place struct {
		cluster string
		service string
	}
	places := map[netip.Addr]place{}
	for _, g := range k.set.Services {
		for i, e := range g.Endpoints {
			for _, a := range e.Watched() {
				before, found := places[a]
				if !found {
					places[a] = place{e.Cluster, g.Name}
				} else if before.cluster != e.Cluster && before.service != g.Name {
					o := k.object(KindGlobalService, g.Name)
					path, what := item("spec.endpoints", i)+".hostname", "the hostname"
					if e.Hostname == "" {
						path, what = o.itemPath(item("spec.endpoints", i)+".addresses", a.String()), "an address"
					}
					k.warn(o, path, fmt.Sprintf("%s is %s of %s here and of %s in %s", k.set.NameOf(a), what, e.Cluster, before.cluster, before.service),
						"which is it? A drain of one cluster leaves it in the other's answers")
				}
			}
		}
	}
}
