package director

import (
	"net/netip"
	"slices"
	"time"

	"github.com/divertdns/divert/director/resolve"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/dnsserver/answer"
)

// minFlat is the least TTL of an answer because of what a hostname's own is.
const minFlat = 5 * time.Second

// flat is what the hostnames of a service resolved to when its answers were described:
// what the decision has as stand-ins is answered as addresses. Which site is chosen
// never depends on it, or directors that resolve differently would decide differently;
// only where none of the chosen has an address the rest answers (steer.Set.Rest). A nil
// flat is that of a service without such hostnames.
type flat struct {
	names []flatName
}

type flatName struct {
	hostname string
	standIn  netip.Addr
	records  *resolve.Records // nil = nothing is known
}

// rename looks up what a group's hostnames resolve to, and tells whether that is
// other than what its names answer.
func (d *describer) rename(g *group) (renamed bool) {
	if g.plain {
		return false
	}
	def := d.spec.Services[g.members[0]]
	if g.plain = !def.Flattened(); g.plain {
		return false
	}
	if g.flat == nil {
		g.flat = &flat{}
		for _, name := range flattenedOf(def) {
			g.flat.names = append(g.flat.names, flatName{hostname: name, standIn: spec.StandIn(name)})
		}
		renamed = true
	}
	now := g.flat
	for i := range now.names {
		n := &now.names[i]
		var r *resolve.Records
		if d.resolved != nil {
			r = d.resolved(n.hostname)
		}
		if r == n.records {
			continue
		}
		if now == g.flat { // what the last description was made of may still be looked at
			now = &flat{names: slices.Clone(g.flat.names)}
			n = &now.names[i]
		}
		n.records, renamed = r, true
	}
	g.flat = now
	return renamed
}

// of gives what a stand-in resolves to; nil = nothing is known.
func (fl *flat) of(standIn netip.Addr) *resolve.Records {
	for i := range fl.names {
		if fl.names[i].standIn == standIn {
			return fl.names[i].records
		}
	}
	return nil
}

// ttl bounds a service's by what the hostnames' own allow.
func (fl *flat) ttl(ttl time.Duration) time.Duration {
	if fl == nil {
		return ttl
	}
	for i := range fl.names {
		if r := fl.names[i].records; r != nil {
			ttl = min(ttl, max(minFlat, r.TTL))
		}
	}
	return ttl
}

// shared tells whether every hostname has addresses of a family, so that the answers
// have the shape of those of any service that steers alike.
func (fl *flat) shared(f int) bool {
	if fl == nil {
		return true
	}
	for i := range fl.names {
		if r := fl.names[i].records; r == nil || len(r.Addrs[f]) == 0 {
			return false
		}
	}
	return true
}

// addrs gives the addresses of a service's choices.
func (fl *flat) addrs(svc *steer.Service) func(steer.Family, *steer.Choice) []netip.Addr {
	if fl == nil {
		return svc.Addrs
	}
	return func(f steer.Family, c *steer.Choice) []netip.Addr {
		list := svc.Addrs(f, c)
		if len(list) != 1 || !spec.IsStandIn(list[0]) {
			return list
		}
		if r := fl.of(list[0]); r != nil {
			return r.Addrs[f]
		}
		return nil
	}
}

// unknown tells whether nothing at all is known of a choice's hostname yet. Where one
// family is, the other is taken to have none: servers that fail for AAAA alone are
// common, and a client that is told SERVFAIL for that may give up the other.
func (fl *flat) unknown(svc *steer.Service, f steer.Family, c *steer.Choice) bool {
	list := svc.Addrs(f, c)
	if len(list) != 1 || !spec.IsStandIn(list[0]) {
		return false
	}
	r := fl.of(list[0])
	return r == nil || r.Known == [2]bool{}
}

// with leaves of some choices those that have an address.
func (fl *flat) with(svc *steer.Service, f steer.Family) func([]steer.Choice) []steer.Choice {
	addrs := fl.addrs(svc)
	return func(list []steer.Choice) []steer.Choice {
		return slices.DeleteFunc(slices.Clone(list), func(c steer.Choice) bool { return len(addrs(f, &c)) == 0 })
	}
}

// instead names, of each service of which the rest answers somebody, the clusters that
// do, by family: nothing that was decided says that they serve.
func (d *describer) instead(decision steer.Decision) map[int][2][]string {
	out := map[int][2][]string{}
	for i := range d.groups {
		g := &d.groups[i]
		var by [2][]string
		for f := range by {
			if !g.flat.shared(f) {
				by[f] = g.flat.instead(&decision.Services[g.first], steer.Family(f))
			}
		}
		if len(by[0])+len(by[1]) == 0 {
			continue
		}
		for _, m := range g.members {
			out[m] = by
		}
	}
	return out
}

func (fl *flat) instead(svc *steer.Service, f steer.Family) (clusters []string) {
	with := fl.with(svc, f)
	view := viewOf(svc, -1, f)
	for i := range view.Sets {
		if len(with(view.Sets[i].Choices)) > 0 {
			continue
		}
		rest := with(view.Sets[i].Rest)
		for _, c := range rest[:min(len(rest), max(svc.Answers, 1))] {
			if !slices.Contains(clusters, c.Cluster) {
				clusters = append(clusters, c.Cluster)
			}
		}
	}
	return clusters
}

// view makes a view of which some sites have no address: those are left out, and where
// none is left the rest answers.
func (fl *flat) view(svc *steer.Service, v *steer.View, f steer.Family) answer.View {
	with := fl.with(svc, f)
	some, unknown := false, false
	left := steer.View{Sets: make([]steer.Set, len(v.Sets)), ByPlace: v.ByPlace, ByPrefix: v.ByPrefix}
	missing := func(list []steer.Choice) bool {
		return slices.ContainsFunc(list, func(c steer.Choice) bool { return fl.unknown(svc, f, &c) })
	}
	for i := range v.Sets {
		set := steer.Set{Choices: with(v.Sets[i].Choices), Weighted: v.Sets[i].Weighted, FailOpen: v.Sets[i].FailOpen}
		if len(set.Choices) == 0 {
			set.Choices, set.Weighted = with(v.Sets[i].Rest), false
		}
		some = some || len(set.Choices) > 0
		if len(set.Choices) == 0 && (missing(v.Sets[i].Choices) || missing(v.Sets[i].Rest)) {
			set.Choices, unknown = v.Sets[i].Choices, true // without addresses: see below
		}
		left.Sets[i] = set
	}
	switch {
	case !some && unknown:
		return answer.View{Sets: []answer.Set{{Unresolved: true}}}
	case !some:
		return answer.View{} // to everybody the same: there is none of this family
	}
	out := newShape(&left, svc.Answers <= 1).view(f, fl.addrs(svc), nil, nil, nil)
	for i := range out.Sets {
		set := &out.Sets[i]
		set.Unresolved = len(set.Sites) > 0 && !slices.ContainsFunc(set.Sites, func(s answer.Site) bool { return len(s.Addrs) > 0 })
	}
	return out
}
