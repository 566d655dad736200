package core

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"net/netip"
	"slices"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
)

// serials gives each zone its serial: the low 32 bits of the revision that last
// changed what the zone holds apart from health (S13). What a zone transfer hands
// out is of it, so a drain counts where it takes an address from there.
func serials(set *spec.Set, p *plan.Plan, old []*plan.ZoneSerial, revision uint64) []*plan.ZoneSerial {
	standbys := steer.StandbysOf(set, p)
	out := make([]*plan.ZoneSerial, 0, len(set.Zones))
	for _, z := range set.Zones {
		sum := contentOf(set, z, standbys)
		next := &plan.ZoneSerial{Name: z.Name, Serial: uint32(revision), Hash: sum}
		if i := slices.IndexFunc(old, func(o *plan.ZoneSerial) bool { return o.GetName() == z.Name }); i >= 0 {
			if bytes.Equal(old[i].GetHash(), sum) {
				out = append(out, old[i])
				continue
			}
			if !grows(old[i].GetSerial(), next.GetSerial()) {
				next.Serial = old[i].GetSerial() + 1
			}
		}
		out = append(out, next)
	}
	slices.SortFunc(out, func(a, b *plan.ZoneSerial) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return out
}

// grows compares serials as RFC 1982 section 3.2 does.
func grows(from, to uint32) bool { return from != to && to-from < 1<<31 }

// content is all of a zone that does not depend on health, in an order of its
// own.
type content struct {
	Zone  spec.Zone
	Hosts []host
}

type host struct {
	Name      string
	TTL       int64
	Answers   int
	SiteNames bool
	Sites     []hostSite
	Order     []string
	Fallback  []netip.Addr `json:",omitempty"`
	Standby   steer.Standby
	CNAME     bool `json:",omitempty"`
}

type hostSite struct {
	Cluster   string
	Addresses []netip.Addr
	Hostname  string `json:",omitempty"`
}

// contentOf hashes a zone's content.
func contentOf(set *spec.Set, z *spec.Zone, standbys *steer.Standbys) []byte {
	c := content{Zone: *z}
	c.Zone.File = "" // where it was read from is not what it says
	for _, svc := range set.Services {
		for _, name := range svc.Hosts {
			if in := set.ZoneOf(name); in == nil || in.Name != z.Name {
				continue
			}
			h := host{Name: name, TTL: int64(svc.TTL), Answers: svc.Steering.Answers, SiteNames: svc.SiteNames, Order: svc.Steering.Order, Fallback: svc.Fallback, Standby: standbys.Of(svc), CNAME: svc.CNAME}
			for _, e := range targets(set, svc.Name) {
				h.Sites = append(h.Sites, hostSite{Cluster: e.Cluster, Addresses: e.Addresses, Hostname: e.Hostname})
			}
			slices.SortFunc(h.Sites, func(a, b hostSite) int { return cmp.Compare(a.Cluster, b.Cluster) })
			c.Hosts = append(c.Hosts, h)
		}
	}
	slices.SortFunc(c.Hosts, func(a, b host) int { return cmp.Compare(a.Name, b.Name) })
	// Structs of strings, numbers and addresses always encode.
	b, err := json.Marshal(c)
	if err != nil {
		b = []byte(err.Error())
	}
	sum := sha256.Sum256(b)
	return sum[:]
}
