package answer

import "github.com/divertdns/divert/dnsserver/geo"

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
}

func newLabels(zones []Zone) *labels {
	l := &labels{groups: make(map[Label]uint32), zones: make(map[string]bool), services: make(map[string]bool)}
	for i := range zones {
		note(l.zones, zones[i].Origin)
		for j := range zones[i].Steered {
			note(l.services, zones[i].Steered[j].Service)
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
	i := uint32(len(l.all))
	l.groups[label] = i
	l.all = append(l.all, label)
	for _, continent := range geo.Continents() {
		label.Continent = continent
		l.all = append(l.all, label)
	}
	return i
}
