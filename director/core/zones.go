package core

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
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
func (w *work) serials() []*plan.ZoneSerial {
	old, revision := w.next.GetZones(), w.next.GetRevision()
	memo := &w.memo().zones
	memo.learn(w.set, steer.StandbysOf(w.set, w.next))
	out := make([]*plan.ZoneSerial, 0, len(w.set.Zones))
	for n, z := range w.set.Zones {
		sum := memo.sum(n)
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

// zoneMemo hashes what zones hold, and keeps the hashes of what has not changed.
type zoneMemo struct {
	set      *spec.Set
	standbys *steer.Standbys
	own      [][]byte   // of each zone's own text and settings
	hosts    [][]zoned  // of each zone, by name
	services [][32]byte // of what the hosts of each service answer
}

// zoned is a host in a zone.
type zoned struct {
	name    string
	service int
}

// learn hashes a spec under a plan's standbys: all of a new one, of the one before
// what the standbys may have moved.
func (m *zoneMemo) learn(set *spec.Set, standbys *steer.Standbys) {
	fresh := m.set != set
	if fresh {
		*m = zoneMemo{set: set, hosts: make([][]zoned, len(set.Zones)), services: make([][32]byte, len(set.Services))}
		for _, z := range set.Zones {
			own := *z
			own.File = "" // where it was read from is not what it says
			own.Forget()  // the same, whoever has let go of a large text already
			m.own = append(m.own, sum(own))
		}
		for i, svc := range set.Services {
			for _, name := range svc.Hosts {
				if z := slices.Index(set.Zones, set.ZoneOf(name)); z >= 0 {
					m.hosts[z] = append(m.hosts[z], zoned{name: name, service: i})
				}
			}
		}
		for _, hosts := range m.hosts {
			slices.SortFunc(hosts, func(a, b zoned) int { return cmp.Compare(a.name, b.name) })
		}
	}
	moved := standbys.Since(m.standbys)
	for i, svc := range set.Services {
		if fresh || moved(svc) {
			m.services[i] = [32]byte(sum(contentOf(set, svc, standbys)))
		}
	}
	m.standbys = standbys
}

// sum hashes all of a zone that does not depend on health, in an order of its own.
func (m *zoneMemo) sum(zone int) []byte {
	b := slices.Clone(m.own[zone])
	for _, h := range m.hosts[zone] {
		b = binary.AppendUvarint(b, uint64(len(h.name)))
		b = append(b, h.name...)
		b = append(b, m.services[h.service][:]...)
	}
	out := sha256.Sum256(b)
	return out[:]
}

// sum hashes structs of strings, numbers and addresses, which always encode.
func sum(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		b = []byte(err.Error())
	}
	out := sha256.Sum256(b)
	return out[:]
}

// content is what a service's hosts answer apart from health.
type content struct {
	TTL       int64
	Answers   int
	SiteNames bool
	Sites     []contentSite
	Order     []string
	Fallback  []netip.Addr `json:",omitempty"`
	Standby   steer.Standby
	CNAME     bool `json:",omitempty"`
}

type contentSite struct {
	Cluster   string
	Addresses []netip.Addr
	Hostname  string `json:",omitempty"`
}

func contentOf(set *spec.Set, svc *spec.GlobalService, standbys *steer.Standbys) content {
	c := content{TTL: int64(svc.TTL), Answers: svc.Steering.Answers, SiteNames: svc.SiteNames, Order: svc.Steering.Order, Fallback: svc.Fallback, Standby: standbys.Of(svc), CNAME: svc.CNAME}
	for _, e := range targets(set, svc.Name) {
		c.Sites = append(c.Sites, contentSite{Cluster: e.Cluster, Addresses: e.Addresses, Hostname: e.Hostname})
	}
	slices.SortFunc(c.Sites, func(a, b contentSite) int { return cmp.Compare(a.Cluster, b.Cluster) })
	return c
}
