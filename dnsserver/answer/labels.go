package answer

import (
	"maps"
	"slices"

	"github.com/divertdns/divert/dnsserver/geo"
)

// maxNamed is how many zones, or services, keep a metric label of their own;
// beyond it the label is "other", so that metrics stay bounded.
const maxNamed = 1000

const otherLabel = "other"

// labels numbers the label sets. Those of one zone, service and cluster are a
// group: the first without a continent, then one for each continent. The first
// group is the empty one.
type labels struct {
	all      []Label
	groups   map[Label]uint32
	zones    map[string]bool // that are named
	services map[string]bool
	followed bool // all and groups are another's: to be copied before they grow
}

func newLabels(zones []Zone) *labels {
	l := &labels{groups: make(map[Label]uint32), zones: make(map[string]bool), services: make(map[string]bool)}
	for i := range zones {
		note(l.zones, zones[i].Origin)
		last := ""
		for j := range zones[i].Steered {
			for _, service := range zones[i].Steered[j].names {
				if len(l.services) > maxNamed {
					break
				}
				if service != last { // a service's names come together
					note(l.services, service)
					last = service
				}
			}
		}
	}
	if len(l.zones) > maxNamed {
		l.zones = nil
	}
	if len(l.services) > maxNamed {
		l.services = nil
	}
	l.group("", "", "")
	return l
}

// follow takes the numbering of an earlier table, and adds to it what is new:
// false where zones or services are not the same, so that what is gone does not
// stay for ever.
func (l *labels) follow(before *labels) bool {
	if !maps.Equal(l.zones, before.zones) || !maps.Equal(l.services, before.services) ||
		(l.zones == nil) != (before.zones == nil) || (l.services == nil) != (before.services == nil) {
		return false
	}
	l.all, l.groups, l.followed = slices.Clip(before.all), before.groups, true
	return true
}

func note(set map[string]bool, value string) {
	if len(set) <= maxNamed {
		set[value] = true
	}
}

// group gives the index of a group's first label set.
func (l *labels) group(zone, service, cluster string) uint32 {
	if zone != "" && l.zones == nil {
		zone = otherLabel
	}
	if service != "" && l.services == nil {
		service = otherLabel
	}
	label := Label{Zone: zone, Service: service, Cluster: cluster}
	if i, ok := l.groups[label]; ok {
		return i
	}
	if l.followed {
		l.groups, l.followed = maps.Clone(l.groups), false
	}
	i := uint32(len(l.all))
	l.groups[label] = i
	l.all = append(l.all, label)
	for _, continent := range geo.Continents() {
		label.Continent = continent
		l.all = append(l.all, label)
	}
	return i
}
