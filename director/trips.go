package director

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
)

// tripLooks is over how many samples the least round trip counts: a minute.
const tripLooks = 6

// trips keeps the least round trips of late from this director to the clusters of
// services that go by them, by the fast signals that are sent anyway.
type trips struct {
	mu       sync.Mutex
	clusters map[netip.Addr][]string // nil: nobody goes by them
	looks    []map[string]time.Duration
}

// watch takes the addresses of a spec.
func (t *trips) watch(set *spec.Set) {
	var clusters map[netip.Addr][]string
	for _, svc := range set.Services {
		if svc.Steering.Policy != spec.PolicyLatency {
			continue
		}
		for i := range svc.Endpoints {
			e := &svc.Endpoints[i]
			for _, a := range e.Watched() {
				if clusters == nil {
					clusters = map[netip.Addr][]string{}
				}
				if a = a.Unmap(); !slices.Contains(clusters[a], e.Cluster) {
					clusters[a] = append(clusters[a], e.Cluster)
				}
			}
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clusters = clusters
}

// note takes in the outcome of a probe.
func (t *trips) note(r health.Report) {
	if !r.OK || r.Late || r.Void || r.Latency <= 0 || r.Subject.Kind != health.KindSignal {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.looks) == 0 {
		return
	}
	for _, c := range t.clusters[r.Subject.Addr.Addr().Unmap()] {
		last := t.looks[len(t.looks)-1]
		if least, ok := last[c]; !ok || r.Latency < least {
			last[c] = r.Latency
		}
	}
}

// least gives the least of each, in milliseconds, and begins another look.
func (t *trips) least() map[string]float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[string]float64{}
	for _, look := range t.looks {
		for c, d := range look {
			ms := float64(d) / float64(time.Millisecond)
			if least, ok := out[c]; !ok || ms < least {
				out[c] = ms
			}
		}
	}
	maps.DeleteFunc(out, func(string, float64) bool { return t.clusters == nil })
	if t.looks = append(t.looks, map[string]time.Duration{}); len(t.looks) > tripLooks {
		t.looks = t.looks[1:]
	}
	return out
}
