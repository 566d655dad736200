package director

import (
	"slices"

	"github.com/divertdns/divert/director/resolve"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/dnsserver/answer"
)

// describer turns decisions about clusters into zones of records. Services that
// are decided as one are one Steered of many names, and those that are answered as
// before keep their slices, so that answer.Compile can know them again. The zero
// describer is ready; it has one owner, and what it gives must not be written to.
type describer struct {
	resolved func(hostname string) *resolve.Records // nil: nothing is
	spec     *spec.Set
	hosts    [][]zoned // of each service; made when first needed
	alike    []int32
	groups   []group
	shapes   map[shapeKey]*shape
	made     [][2]answer.View // scratch
	steps    map[[2]*shape][]int32
	lastStep [2]*shape // of steps, with lastFrom
	lastFrom []int32
}

// zoned is a host with the index of its zone in the spec.
type zoned struct {
	zone int
	name string // fully qualified
}

// group is services that are decided as one.
type group struct {
	first    int // in the decision
	members  []int
	from     steer.Service // the decision that it is made from
	standby  steer.Standby
	standbys *steer.Standbys // that standby is of
	plain    bool            // none of its hostnames are flattened; false until looked at
	flat     *flat           // what its hostnames resolve to; nil = they stand in no answer
	shapes   []*shape        // of the hosts\' views, then of each site\'s, by family; nil where a view was not made of one
	names    []names         // copied into each description, so that they can be written to
}

// names are those that answer alike in one zone: the hosts, or one site's own.
type names struct {
	zone int
	site int // in Service.SiteViews, -1 = the hosts
	answer.Steered
}

func (d *describer) describe(f *inForce, decision steer.Decision) []answer.Zone {
	if d.spec != f.spec || len(d.hosts) != len(decision.Services) {
		*d = describer{resolved: d.resolved, spec: f.spec, hosts: make([][]zoned, len(decision.Services))}
	}
	if !same(d.alike, decision.Alike, equal) {
		d.divide(decision)
	}
	used := make(map[shapeKey]*shape, len(d.shapes))
	count := make([]int, len(f.zones))
	for i := range d.groups {
		g := &d.groups[i]
		svc := &decision.Services[g.first]
		if renamed := d.rename(g); renamed || !sameService(&g.from, svc) {
			d.views(g, svc, f.spec, used)
		} else {
			d.keep(g, svc, used)
		}
		if g.standbys != f.standbys { // another plan
			standby := f.standbys.Of(f.spec.Services[g.first])
			if !sameStandby(&g.standby, &standby) {
				g.standBy(&standby)
			}
			g.standby, g.standbys = standby, f.standbys
		}
		if g.from.Ruling == nil && !svc.Next.IsZero() || g.from.Ruling != nil && !g.from.Next.Equal(svc.Next) {
			g.schedule(svc)
		}
		g.from = *svc
		for j := range g.names {
			count[g.names[j].zone]++
		}
	}
	d.shapes = used
	clear(d.steps)
	d.lastStep, d.lastFrom = [2]*shape{}, nil
	zones := slices.Clone(f.zones)
	for i := range zones {
		zones[i].Steered = make([]answer.Steered, 0, count[i])
	}
	for i := range d.groups {
		for _, n := range d.groups[i].names {
			zones[n.zone].Steered = append(zones[n.zone].Steered, n.Steered)
		}
	}
	return zones
}

// divide makes the groups; those whose members are as before stay as they are.
func (d *describer) divide(decision steer.Decision) {
	before := make(map[int]group, len(d.groups))
	for _, g := range d.groups {
		before[g.first] = g
	}
	d.alike, d.groups = decision.Alike, nil
	at := make(map[int32]int)
	for i, first := range decision.Alike {
		n, ok := at[first]
		if !ok {
			n = len(d.groups)
			at[first] = n
			d.groups = append(d.groups, group{first: i})
		}
		d.groups[n].members = append(d.groups[n].members, i)
	}
	for i := range d.groups {
		g := &d.groups[i]
		if old, ok := before[g.first]; ok && slices.Equal(old.members, g.members) {
			*g = old
			continue
		}
		d.name(g, &decision.Services[g.first])
	}
}

// name lists a group's names, by zone: its hosts, then those of its single sites.
func (d *describer) name(g *group, svc *steer.Service) {
	at := make(map[[2]int]int) // by zone and site
	add := func(zone, site int, host, service string) {
		n, ok := at[[2]int{zone, site}]
		if !ok {
			at[[2]int{zone, site}] = len(g.names)
			g.names = append(g.names, names{zone: zone, site: site, Steered: answer.Steered{Name: host, Service: service}})
			return
		}
		s := &g.names[n]
		s.Alike = append(s.Alike, answer.Name{Name: host, Service: service})
	}
	for _, m := range g.members {
		service := d.spec.Services[m].Name
		for _, h := range d.hostsOf(m) {
			add(h.zone, -1, h.name, service)
		}
	}
	for site := range svc.SiteViews {
		for _, m := range g.members {
			def := d.spec.Services[m]
			for _, host := range def.SiteHosts(svc.SiteViews[site].Cluster) {
				if z := d.zoneOf(host); z >= 0 {
					add(z, site, host+".", def.Name)
				}
			}
		}
	}
}

// hostsOf lists a service's hosts.
func (d *describer) hostsOf(service int) []zoned {
	if d.hosts[service] == nil {
		for _, host := range d.spec.Services[service].Hosts {
			if z := d.zoneOf(host); z >= 0 { // else refused by the checks
				d.hosts[service] = append(d.hosts[service], zoned{zone: z, name: host + "."})
			}
		}
	}
	return d.hosts[service]
}

func (d *describer) zoneOf(host string) int {
	z := d.spec.ZoneOf(host)
	if z == nil {
		return -1
	}
	return slices.Index(d.spec.Zones, z)
}

// views makes anew what a group's names answer.
func (d *describer) views(g *group, svc *steer.Service, set *spec.Set, used map[shapeKey]*shape) {
	alias := set.Services[g.first].CNAME
	if len(g.shapes) != 2*(1+len(svc.SiteViews)) {
		g.shapes = make([]*shape, 2*(1+len(svc.SiteViews)))
	}
	made := d.made[:0] // the hosts', then each site's
	for site := range 1 + len(svc.SiteViews) {
		var v [2]answer.View
		old := g.viewsOf(site - 1)
		for f := range v {
			from := viewOf(svc, site-1, steer.Family(f))
			switch {
			case !g.flat.shared(f):
				g.shapes[2*site+f] = nil
				v[f] = g.flat.view(svc, from, steer.Family(f))
			case !alias:
				now := d.shape(svc, from, used)
				var step []int32
				if was := g.shapes[2*site+f]; was != nil && old[f] != nil {
					step = d.step(now, was)
				}
				v[f] = now.view(steer.Family(f), g.flat.addrs(svc), old[f], step, g.kept(svc))
				g.shapes[2*site+f] = now
			case steer.Family(f) == steer.IPv4: // a hostname is of both families: one view does
				v[f] = d.shape(svc, from, used).targets(svc, set)
			}
		}
		made = append(made, v)
	}
	d.made = made
	for i := range g.names {
		n := &g.names[i]
		n.TTL, n.Answers, n.CNAME = uint32(g.flat.ttl(svc.TTL).Seconds()), svc.Answers, alias
		n.A, n.AAAA = made[n.site+1][steer.IPv4], made[n.site+1][steer.IPv6]
	}
}

// step is shape.from, worked out once for all that step alike.
func (d *describer) step(now, old *shape) []int32 {
	key := [2]*shape{now, old}
	if key == d.lastStep {
		return d.lastFrom
	}
	from, ok := d.steps[key]
	if !ok {
		if d.steps == nil {
			d.steps = map[[2]*shape][]int32{}
		}
		from = now.from(old)
		d.steps[key] = from
	}
	d.lastStep, d.lastFrom = key, from
	return from
}

// kept tells of a choice that it has the addresses that it had, at a glance; nil: that
// takes a look at them.
func (g *group) kept(svc *steer.Service) func(*steer.Choice) bool {
	if g.flat != nil || g.from.Ruling == nil {
		return nil
	}
	return func(c *steer.Choice) bool { return svc.Kept(g.from.Ruling, c) }
}

// viewsOf gives what the names of a site, or the hosts, answer as yet, by family; nil
// where there are none.
func (g *group) viewsOf(site int) (old [2]*answer.View) {
	for i := range g.names {
		if n := &g.names[i]; n.site == site {
			return [2]*answer.View{&n.A, &n.AAAA}
		}
	}
	return old
}

// keep holds on to the shapes of a service that is answered as before.
func (d *describer) keep(g *group, svc *steer.Service, used map[shapeKey]*shape) {
	for site := range 1 + len(svc.SiteViews) {
		for f := range 2 {
			if g.flat.shared(f) {
				d.shape(svc, viewOf(svc, site-1, steer.Family(f)), used)
			}
		}
	}
}

func viewOf(svc *steer.Service, site int, f steer.Family) *steer.View {
	switch {
	case site < 0 && f == steer.IPv4:
		return &svc.V4
	case site < 0:
		return &svc.V6
	case f == steer.IPv4:
		return &svc.SiteViews[site].V4
	default:
		return &svc.SiteViews[site].V6
	}
}

// schedule gives the hosts the instant of their next change; single sites have none.
func (g *group) schedule(svc *steer.Service) {
	for i := range g.names {
		if g.names[i].site < 0 {
			g.names[i].Next = svc.Next
		}
	}
}

// standBy gives the names what transfers say of them. The views stay the very same,
// so that nothing is compiled for it.
func (g *group) standBy(standby *steer.Standby) {
	for i := range g.names {
		n := &g.names[i]
		n.Standby = answer.Standby{}
		switch {
		case n.site < 0:
			n.Standby = answer.Standby{A: standby.V4, AAAA: standby.V6, Target: rooted(standby.Target)}
		case n.site < len(standby.Sites):
			site := &standby.Sites[n.site]
			n.Standby = answer.Standby{A: site.V4, AAAA: site.V6, Target: rooted(site.Target)}
		}
	}
}

// sameService tells whether two decisions answer alike; why they do may differ.
func sameService(a, b *steer.Service) bool {
	if a.Ruling == b.Ruling || a.Ruling == nil {
		return a.Ruling != nil
	}
	if a.TTL != b.TTL || a.Answers != b.Answers || len(a.SiteViews) != len(b.SiteViews) || !a.SameAddrs(b.Ruling) {
		return false
	}
	for site := range 1 + len(a.SiteViews) {
		for f := range 2 {
			if !sameView(viewOf(a, site-1, steer.Family(f)), viewOf(b, site-1, steer.Family(f))) {
				return false
			}
		}
	}
	return true
}

func sameStandby(a, b *steer.Standby) bool {
	return a.Target == b.Target && same(a.V4, b.V4, equal) && same(a.V6, b.V6, equal) && same(a.Sites, b.Sites, func(a, b steer.StandbySite) bool {
		return a.Cluster == b.Cluster && a.Target == b.Target && same(a.V4, b.V4, equal) && same(a.V6, b.V6, equal)
	})
}

func sameView(a, b *steer.View) bool {
	return same(a.ByPlace, b.ByPlace, equal) &&
		same(a.Sets, b.Sets, func(a, b steer.Set) bool {
			return sameSet(a, b) && slices.Equal(a.Rest, b.Rest)
		}) &&
		same(a.ByPrefix, b.ByPrefix, func(a, b steer.PrefixPlaces) bool {
			return a.Prefix == b.Prefix && same(a.ByPlace, b.ByPlace, equal)
		})
}

// same compares by identity first: steer.Decider hands out the last decision
// again where nothing has changed.
func same[T any](a, b []T, eq func(a, b T) bool) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.EqualFunc(a, b, eq))
}

func equal[T comparable](a, b T) bool { return a == b }
