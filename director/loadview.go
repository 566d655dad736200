package director

import (
	"fmt"
	"math"
	"strings"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
)

// describe tells people how busy the sites are that have a capacity, and what of their
// clients they keep.
func (l *loads) describe(out *api.Status, f *inForce) {
	known := l.merged()
	out.Pools = l.views(f, known)
	if why := known.Odd(); why != "" {
		out.Alerts = append(out.Alerts, why+": give the endpoints a `load`, or leave the capacities out")
	}
	for _, p := range out.Pools {
		if !p.Unknown && p.Used > 100 {
			out.Alerts = append(out.Alerts, fmt.Sprintf("%s has more load than its capacity: %d %%", strings.TrimPrefix(p.Pool, "cluster/"), p.Used))
		}
	}
}

func (l *loads) views(f *inForce, known *core.Loads) []api.Pool {
	l.mu.Lock()
	pools := l.poolsOf(f.spec)
	l.mu.Unlock()
	said := map[string]*plan.Pool{}
	for _, p := range f.sealed.Plan.GetSpill().GetPools() {
		said[p.GetScope()] = p
	}
	var out []api.Pool
	for _, p := range pools {
		v := api.Pool{Pool: p.Scope.String(), Capacity: p.Capacity, Target: f.spec.Fleet.TargetUtilised, Unknown: true}
		if known != nil {
			if load, ok := known.Pools[p.Scope]; ok {
				v.Unknown, v.Load = false, math.Round(load*10)/10
				v.Used = int(math.Round(load / float64(p.Capacity) * 100))
			}
		}
		if s := said[v.Pool]; s != nil {
			v.Keeps, v.Refuses = int(s.GetShare()), int(s.GetRefuses())
		}
		out = append(out, v)
	}
	return out
}

// maxShown bounds the series of pools.
const maxShown = 1000

// show puts the same into metrics.
func (l *loads) show(f *inForce) {
	l.shown.used.Reset()
	l.shown.kept.Reset()
	for i, p := range l.views(f, l.merged()) {
		if i == maxShown {
			return
		}
		if !p.Unknown {
			l.shown.used.WithLabelValues(p.Pool).Set(p.Load / float64(p.Capacity))
		}
		kept := 1.0
		if p.Keeps > 0 {
			kept = float64(p.Keeps) / 100
		}
		l.shown.kept.WithLabelValues(p.Pool).Set(kept)
	}
}
