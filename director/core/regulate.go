package core

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
)

// gauge is one pool in an epoch.
type gauge struct {
	*pool
	now    *plan.Pool // as the plan is to say next
	load   float64    // points
	guests float64    // of them, whose first choice is another site
	known  bool
	held   bool // a person has frozen a service of it
	away   bool // most of its sites are drained or failed
}

// regulator works out what a plan says of loads next.
type regulator struct {
	w        *work
	gauges   []*gauge
	by       map[steer.Scope]*gauge
	predict  *predictor
	services []int // that have a pool
	target   float64
	out      bool // some pool that had clients is away: what is written of loads stays
	what     []string
}

func (w *work) regulator(old *plan.Spill) *regulator {
	r := &regulator{w: w, by: map[steer.Scope]*gauge{}, target: float64(w.set.Fleet.TargetUtilised)}
	list := poolsOf(w.set)
	before := map[string]*plan.Pool{}
	for _, p := range old.GetPools() {
		before[p.GetScope()] = p
	}
	frozen := w.frozenServices()
	for _, p := range list {
		g := &gauge{pool: p, now: &plan.Pool{Scope: p.Scope.String()}}
		if was := before[g.now.GetScope()]; was != nil {
			g.now = proto.CloneOf(was)
		}
		var load float64
		load, g.known = w.s.Loads.Pools[p.Scope]
		g.load = p.per(load)
		g.held = slices.ContainsFunc(p.sites, func(s site) bool { return frozen[s.service.Name] })
		r.gauges, r.by[p.Scope] = append(r.gauges, g), g
	}
	r.predict = newPredictor(w.s.Loads, list, w.clientsOf(w.set))
	r.services = pooledServices(w.set, r.predict)
	return r
}

// pooledServices lists the services that have a site in a pool.
func pooledServices(set *spec.Set, p *predictor) []int {
	var out []int
	for i, svc := range set.Services {
		if slices.ContainsFunc(svc.Endpoints, func(e spec.Endpoint) bool { return p.of[endpoint(svc.Name, e.Cluster)] != nil }) {
			out = append(out, i)
		}
	}
	return out
}

// decide decides by what the plan is to say of loads.
func (r *regulator) decide() []steer.Service {
	w := r.w
	var places []steer.Place
	if w.s.Places != nil {
		places = w.s.Places(w.set)
	}
	p := proto.CloneOf(w.s.Plan.Plan)
	p.Spill = &plan.Spill{}
	for _, g := range r.gauges {
		p.Spill.Pools = append(p.Spill.Pools, proto.CloneOf(g.now))
	}
	return w.memo().decider.DecideSome(steer.Input{Spec: w.set, Plan: p, States: w.s.States, Places: places, Prepared: w.s.Prepared}, r.services, new(steer.Observed))
}

// regulate moves the shares of those that are above the target, and brings back what
// those that are below it have shed. One after the other, the busiest first: each step is
// taken only if, with those before it, nobody is predicted to pass the target by it, and
// no load changes by more than an epoch allows.
func (r *regulator) regulate() {
	now := r.decide()
	r.lookAway(now)
	guests := r.predict.guests(now)
	for _, g := range r.gauges {
		g.guests = guests[g.Scope] * g.load
	}
	order := slices.Clone(r.gauges)
	slices.SortStableFunc(order, func(a, b *gauge) int { return cmp.Compare(b.load, a.load) })
	tried := 0
	for _, g := range order {
		if tried == maxSpills {
			return
		}
		if !g.known || g.held || g.away || r.w.s.Now.Sub(g.now.GetSince().AsTime()) < g.wait() {
			continue
		}
		over := g.load - r.target
		switch {
		case over > spillLeast:
			tried++
			r.shed(g, math.Min(spillStep, math.Max(spillLeast, over/spillGain)), now)
		case over < -spillBack && (g.now.GetShare() > 0 || g.now.GetRefuses() > 0):
			tried++
			r.takeBack(g, math.Min(spillStep, -over/spillGain))
		}
	}
}

// wait is how long a step needs to show: resolvers keep what they were told for a TTL,
// and some for longer.
func (g *gauge) wait() time.Duration {
	return min(max(spillEach-spillEarly, 2*g.ttl), spillWait)
}

// lookAway notes which pools serve nobody, since most of their sites are drained or
// failed: what they had is kept on record, since that is what the others have to bear.
func (r *regulator) lookAway(services []steer.Service) {
	sites, gone := map[*gauge]int{}, map[*gauge]int{}
	for i := range services {
		s := &services[i]
		for n := range s.Len() {
			cluster, _, _ := s.Glance(n)
			of := r.predict.of[endpoint(s.Name, cluster)]
			if of == nil {
				continue
			}
			g := r.by[of.Scope]
			sites[g]++
			if s.Away(n) {
				gone[g]++
			}
		}
	}
	for _, g := range r.gauges {
		g.away = gone[g]*2 > sites[g]
		r.out = r.out || g.away && g.per(float64(g.now.GetLoad())/1000) > spillMoved
	}
}

// shed takes so many points from a pool: of what it has from others first, then of its
// own. Where the next in its clients' order has no room, that one is to refuse them.
func (r *regulator) shed(g *gauge, points float64, now []steer.Service) {
	for range 3 {
		share, refuses := share(g.now), g.now.GetRefuses()
		if g.guests > spillLeast && refuses < mostRefused {
			refuses = 100 - uint32(float64(100-refuses)*math.Max(0, 1-points/g.guests))
		} else {
			share = max(1, min(share-1, uint32(math.Ceil(float64(share)*math.Max(0, 1-points/g.load)))))
		}
		if r.try(g, share, refuses, now) {
			return
		}
		points /= 2
	}
}

// mostRefused is short of all, since a share of nothing cannot be said.
const mostRefused = 99

// takeBack brings so many points back to a pool: its own clients first. What comes is
// worked out from where it belongs, since nobody has more by it but this pool.
func (r *regulator) takeBack(g *gauge, points float64) {
	share, refuses := g.share(), g.now.GetRefuses()
	switch all := r.shedByOthers(g); {
	case share < 100:
		more := 25.0
		if g.load > 0 {
			more = math.Min(more, math.Floor(float64(share)*points/g.load))
		}
		share = min(100, share+uint32(math.Max(1, more)))
	case all <= 0:
		refuses = 0
	default:
		refuses -= min(refuses, uint32(math.Max(1, math.Min(25, math.Floor(100*points/g.per(all))))))
	}
	r.set(g, share, refuses)
	r.what = append(r.what, g.text())
}

// shedByOthers is the load that all other pools shed: what may come to one at most.
func (r *regulator) shedByOthers(g *gauge) float64 {
	sum := 0.0
	for _, o := range r.gauges {
		if o != g && o.known {
			sum += o.load / 100 * float64(o.Capacity) * (100/float64(o.share()) - 1)
		}
	}
	return sum
}

func share(p *plan.Pool) uint32 {
	if p.GetShare() == 0 {
		return 100
	}
	return p.GetShare()
}

// try sets what a pool keeps and refuses, if nobody is predicted to have too much by it.
// Who is, is to refuse it; if that does not help either, all stays as it was.
func (r *regulator) try(g *gauge, share, refuses uint32, now []steer.Service) bool {
	undo := map[*gauge]*plan.Pool{g: g.now}
	r.set(g, share, refuses)
	crowded, steep := r.judge(now)
	for _, c := range crowded {
		if c.gauge == g || c.held || c.now.GetRefuses() == mostRefused {
			steep = true
			break
		}
		undo[c.gauge] = c.now
		// Of its guests, old and new, as many as were there.
		takes := float64(100-c.now.GetRefuses()) * c.guests / (c.guests + c.by)
		r.set(c.gauge, c.share(), 100-uint32(takes))
	}
	if len(crowded) > 0 && !steep {
		crowded, steep = r.judge(now)
		steep = steep || len(crowded) > 0
	}
	if steep {
		for c, was := range undo {
			c.now = was
		}
		return false
	}
	for _, c := range slices.SortedFunc(maps.Keys(undo), func(a, b *gauge) int { return cmp.Compare(a.now.GetScope(), b.now.GetScope()) }) {
		r.what = append(r.what, c.text())
	}
	return true
}

func (g *gauge) share() uint32 { return share(g.now) }

func (r *regulator) set(g *gauge, share, refuses uint32) {
	next := proto.CloneOf(g.now)
	if next.Share = share; share >= 100 {
		next.Share = 0
	}
	next.Refuses = min(refuses, mostRefused) // 100, of nobody, is not said
	next.Since = timestamppb.New(r.w.s.Now)
	g.now = next
}

// judge predicts what the loads would be: who would come above the target by it, or is
// not known and would have more, and whether some load would change by too much.
func (r *regulator) judge(now []steer.Service) (found []filled, steep bool) {
	then := r.decide()
	list := make([]compared, len(now))
	for i := range now {
		list[i] = compared{name: now[i].Name, before: &now[i], after: &then[i]}
	}
	shift := r.predict.shift(list)
	const nothing = 0.1 // who refuses most still takes a hundredth of a step
	for _, g := range r.gauges {
		by := g.per(shift[g.Scope])
		switch {
		case math.Abs(by) > math.Max(spillStep, g.load/100)+nothing: // no less than a hundredth can be moved
			steep = true
		case by > nothing && (!g.known || g.load+by > r.target):
			found = append(found, filled{g, by})
		}
	}
	return found, steep
}

// filled is a pool that would have so many points more, and too much.
type filled struct {
	*gauge
	by float64
}

func (g *gauge) text() string {
	text := fmt.Sprintf("%s at %.0f %%", strings.TrimPrefix(g.now.GetScope(), "cluster/"), g.load)
	if g.now.GetShare() > 0 {
		text += fmt.Sprintf(" keeps %d %% of its clients", g.now.GetShare())
	}
	if g.now.GetRefuses() > 0 {
		text += fmt.Sprintf(" takes %d %% of others'", 100-g.now.GetRefuses())
	}
	if g.now.GetShare() == 0 && g.now.GetRefuses() == 0 {
		text += " takes all again"
	}
	return text
}

// note writes the loads down, in whole points, where they differ from what is written by
// more than noise: by these the directors divide the clients of a site that fails. While
// one is away they stay: what the others have then, they have from it.
func (r *regulator) note() {
	for _, g := range r.gauges {
		if !g.known || r.out || g.away || g.held {
			continue
		}
		was := g.per(float64(g.now.GetLoad()) / 1000)
		if math.Abs(g.load-was) < spillMoved {
			continue
		}
		next := proto.CloneOf(g.now)
		next.Load = uint64(math.Round(math.Min(g.load, maxPoints))) * uint64(g.Capacity) * 10
		g.now = next
	}
}

// maxPoints bounds what is written of a load.
const maxPoints = 10_000

// pools lists what the plan is to say: nothing, while all loads together would fit into
// any one of the pools, so that no failure can be too much for another.
// Where there are more than fit, those that have most are.
func (r *regulator) pools(old *plan.Spill, room int) []*plan.Pool {
	sum, least := 0.0, math.Inf(1)
	for _, g := range r.gauges {
		load := float64(g.now.GetLoad()) / 1000
		if g.known {
			load = math.Max(load, g.load/100*float64(g.Capacity))
		}
		sum += load
		least = math.Min(least, float64(g.Capacity)*r.target/100)
	}
	if len(old.GetPools()) > 0 {
		least *= 0.9 // and not on and off
	}
	var out []*plan.Pool
	for _, g := range r.gauges {
		if g.now.GetShare() > 0 || g.now.GetRefuses() > 0 || sum > least && g.now.GetLoad() > 0 {
			out = append(out, g.now)
		}
	}
	if len(out) > maxPools || sizeOf(out) > room {
		slices.SortStableFunc(out, func(a, b *plan.Pool) int { return cmp.Compare(r.point(b), r.point(a)) })
		out = fit(out[:min(len(out), maxPools)], room)
		slices.SortFunc(out, func(a, b *plan.Pool) int { return cmp.Compare(a.GetScope(), b.GetScope()) })
	}
	return out
}

// point is what is written of a load, in points.
func (r *regulator) point(p *plan.Pool) float64 {
	scope, err := steer.ParseScope(p.GetScope())
	if err != nil || r.by[scope] == nil {
		return 0
	}
	return r.by[scope].per(float64(p.GetLoad()) / 1000)
}
