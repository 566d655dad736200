package steer

import (
	"cmp"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// Pool is what one capacity is of: the endpoints of a cluster, but for those that have
// a capacity of their own, or one of those. Loads are held against it.
type Pool struct {
	Scope    Scope
	Capacity int64
}

// PoolOf gives the pool of an endpoint. Where nobody wrote a capacity there is none: the
// default says nothing of how much a site can take.
func PoolOf(service string, e *spec.Endpoint, c *spec.Cluster) (Pool, bool) {
	switch {
	case e.Sized:
		return Pool{Scope: Scope{Kind: ScopeEndpoint, Service: service, Cluster: e.Cluster}, Capacity: e.Capacity}, true
	case c.Sized:
		return Pool{Scope: Scope{Kind: ScopeCluster, Cluster: c.Name}, Capacity: c.Capacity}, true
	default:
		return Pool{}, false
	}
}

// Loads and capacities are compared in thousandths of the capacity's unit, in whole
// numbers, so that directors on different machines decide alike.
const thousandths = 1000

// maxLoad bounds what a plan can say, so that no sum overflows.
const maxLoad = math.MaxInt64 / 4096

// pooled is what the plan says of a pool. The zero pooled is of one of which it says
// nothing.
type pooled struct {
	load    uint64
	share   uint8 // percent of its own clients that it keeps; 0 = all
	refuses uint8 // percent of other sites' clients that it does not take
}

// mostRefused is short of all, since a share of nothing cannot be said.
const mostRefused = allShare - 1

// pools reads what a plan says of loads; what this version does not know is left alone.
func pools(p *plan.Plan) map[Scope]pooled {
	list := p.GetSpill().GetPools()
	if len(list) == 0 {
		return nil
	}
	out := make(map[Scope]pooled, len(list))
	for _, l := range list {
		scope, err := ParseScope(l.GetScope())
		if err != nil || scope.Kind != ScopeCluster && scope.Kind != ScopeEndpoint {
			continue
		}
		one := pooled{load: min(l.GetLoad(), maxLoad), refuses: uint8(min(l.GetRefuses(), mostRefused))}
		if share := l.GetShare(); share < allShare {
			one.share = uint8(share)
		}
		out[scope] = one
	}
	return out
}

// takePools notes what the plan says of the sites' pools. A service that is to move
// nothing, by its spec, sheds nothing.
func (d *decision) takePools(all map[Scope]pooled) {
	if len(all) == 0 || d.c.svc.Automation == spec.AutomationObserve {
		return
	}
	for i := range d.stand {
		s, st := &d.c.sites[i], &d.stand[i]
		pool, ok := PoolOf(d.name, s.end, s.cluster)
		if !ok {
			continue
		}
		st.sized = true
		if st.pool, ok = all[pool.Scope]; ok {
			d.pooled = true
		}
	}
}

func (d *decision) target(i int) uint64 {
	return uint64(d.c.sites[i].capacity) * (thousandths / allShare) * uint64(d.c.fleet.TargetUtilised)
}

// spill keeps sites below their target (SEMANTICS section 2, Capacity): those that the
// leader found above it keep a share of their clients, and the others go to the next
// preference, which may refuse a share of them for the same reason. Where sites have left
// the tier and the next in the order could not take all of their clients, these go to all
// that are left, by what room each has, at once and without the leader: the failure of
// one site must not crash the next. It never empties a set, since somebody has all (S1),
// and it adds nobody to one (S11).
func (d *decision) spill(f Family, k class, present []int, t *tiered, s *Set, equal bool) []reason {
	if !d.pooled || t.tier != TierHealthy || len(s.Choices) < 2 {
		return nil
	}
	if s.Weighted {
		return d.shedByWeight(s)
	}
	order, _ := d.prefer(k, present, equal)
	home := order[0]
	there := d.siteOf(&s.Choices[0]) == home
	if !there || s.Choices[0].Share > 0 { // it is away, or not back with all yet
		rest := s.Choices
		if there {
			rest = rest[1:]
		}
		lost, rooms := d.loss(f, t.sites, s.Choices, rest, home)
		if len(rest) > 1 && lost.Cmp(rooms[0]) > 0 {
			return []reason{d.spread(s, rest, rooms, lost, home, there)}
		}
	}
	return d.shed(s, there)
}

func (d *decision) siteOf(c *Choice) int { return d.c.byRank[c.site] }

// loss says how much load is to be borne by others than the sites that had it, since they
// have left the tier or are not back with all of it, and what room each of the rest has.
// Of what their own first choice sheds, the clients of a set have to be borne, too; where
// these are now is room again. In fractions, so that a factor common to all loads and
// capacities cancels out.
func (d *decision) loss(f Family, tier []int, choices, rest []Choice, home int) (lost *big.Rat, rooms []*big.Rat) {
	lost = new(big.Rat)
	shed := new(big.Rat) // by the first choice
	for _, i := range d.c.targets[f] {
		st := &d.stand[i]
		if st.pool.load == 0 {
			continue
		}
		away := uint64(0) // percent
		at := slices.IndexFunc(choices, func(c Choice) bool { return d.siteOf(&c) == i })
		switch {
		case at >= 0 && choices[at].Share > 0:
			away = allShare - uint64(choices[at].Share)
		case at < 0 && !slices.Contains(tier, i) && (st.drain != nil || st.soft[f] || st.rolls[f].Health == Failed):
			away = allShare
		}
		load := new(big.Rat).SetUint64(st.pool.load)
		if i == home && st.pool.share > 0 {
			all := new(big.Rat).Mul(load, big.NewRat(allShare, int64(st.pool.share)))
			shed.Sub(all, load)
			load = all
		}
		lost.Add(lost, load.Mul(load, big.NewRat(int64(away), allShare)))
	}
	for n := range rest {
		i := d.siteOf(&rest[n])
		st := &d.stand[i]
		if !st.sized { // without end
			rooms = append(rooms, new(big.Rat).SetUint64(maxLoad))
			continue
		}
		own := new(big.Rat).SetUint64(st.pool.load)
		guests := new(big.Rat).Set(shed)
		if n < len(rest)-1 {
			guests.Mul(guests, big.NewRat(int64(allShare-st.pool.refuses), allShare))
		}
		shed.Sub(shed, guests)
		if own.Sub(own, guests); own.Sign() < 0 {
			own.SetInt64(0)
		}
		room := new(big.Rat).SetUint64(d.target(i))
		if room.Sub(room, own); room.Sign() < 0 {
			room.SetInt64(0)
		}
		rooms = append(rooms, room)
	}
	return lost, rooms
}

// shed gives the choices of an order the share that they keep or take. Behind the first
// that has all nobody is asked; where none has, the last does. So a step of one site moves
// no more clients than the step.
func (d *decision) shed(s *Set, there bool) (why []reason) {
	for n := range s.Choices[:len(s.Choices)-1] {
		c := &s.Choices[n]
		i := d.siteOf(c)
		own := n == 0 && there
		share := d.stand[i].pool.share
		if !own {
			share = (allShare - d.stand[i].pool.refuses) % allShare
		}
		if !c.limit(share) {
			if c.Share == 0 {
				return why
			}
			continue
		}
		if own {
			why = append(why, reason{text: d.shedWhy(i)})
		} else {
			why = append(why, reason{text: d.refuseWhy(i)})
		}
	}
	// The last may be returning, too: then the first that is not has all, as before.
	if last := &s.Choices[len(s.Choices)-1]; last.Share > 0 {
		for n := range s.Choices {
			if c := &s.Choices[n]; c.spilt && c.ramp == 0 {
				c.Share, c.spilt = 0, false
				return why
			}
		}
	}
	return why
}

// shedByWeight gives the sites that are too busy the share that they keep; where all
// are, the one that keeps most has all.
func (d *decision) shedByWeight(s *Set) (why []reason) {
	taker := -1
	for n := range s.Choices {
		if c := &s.Choices[n]; c.Share == 0 && (taker < 0 || d.keeps(c, &s.Choices[taker]) > 0) {
			taker = n
		}
	}
	for n := range s.Choices {
		if c := &s.Choices[n]; n != taker && taker >= 0 && c.limit(d.stand[d.siteOf(c)].pool.share) {
			why = append(why, reason{text: d.shedWhy(d.siteOf(c))})
		}
	}
	return why
}

// limit lowers a choice's share for want of room, and tells whether it did.
func (c *Choice) limit(share uint8) bool {
	if share == 0 || c.Share > 0 && c.Share <= share {
		return false
	}
	c.ramp, c.spilt, c.Share = c.Share, true, share
	return true
}

// keeps orders two choices by what they keep, the greater capacity before the smaller.
func (d *decision) keeps(a, b *Choice) int {
	x, y := &d.stand[d.siteOf(a)].pool, &d.stand[d.siteOf(b)].pool
	return cmp.Or(cmp.Compare(x.share-1, y.share-1), // 0, all, becomes the greatest
		cmp.Compare(d.c.sites[d.siteOf(a)].capacity, d.c.sites[d.siteOf(b)].capacity))
}

func (d *decision) shedWhy(i int) string {
	return fmt.Sprintf("capacity: %s keeps %d %% of its clients, since it was above the target of %d %% (it has %s)",
		d.c.sites[i].end.Cluster, d.stand[i].pool.share, d.c.fleet.TargetUtilised, d.used(i))
}

// used shows the load that is known of a site.
func (d *decision) used(i int) string {
	capacity := uint64(d.c.sites[i].capacity) * (thousandths / allShare)
	return percent(int64((d.stand[i].pool.load + capacity/2) / capacity))
}

func (d *decision) refuseWhy(i int) string {
	return fmt.Sprintf("capacity: %s takes %d %% of the clients of others, since it is near the target of %d %% (it has %s)",
		d.c.sites[i].end.Cluster, allShare-d.stand[i].pool.refuses, d.c.fleet.TargetUtilised, d.used(i))
}

// spread divides the clients of a site that is away among the rest by the room that
// each has; what is more than all of it, by capacity.
func (d *decision) spread(s *Set, rest []Choice, rooms []*big.Rat, lost *big.Rat, home int, there bool) reason {
	sum := new(big.Rat)
	capacity := int64(0)
	for n := range rest {
		if rooms[n].Cmp(lost) > 0 {
			rooms[n] = lost
		}
		sum.Add(sum, rooms[n])
		capacity += d.c.sites[d.siteOf(&rest[n])].capacity
	}
	more := new(big.Rat).Sub(lost, sum)
	if more.Sign() > 0 {
		sum = lost
	}
	parts := make([]string, len(rest))
	for n := range rest {
		c := &rest[n]
		part := new(big.Rat).Set(rooms[n])
		if more.Sign() > 0 {
			part.Add(part, new(big.Rat).Mul(more, big.NewRat(d.c.sites[d.siteOf(c)].capacity, capacity)))
		}
		part.Quo(part, sum).Mul(part, big.NewRat(thousandths, 1))
		c.Weight = uint32(max(1, new(big.Int).Quo(part.Num(), part.Denom()).Int64()))
		parts[n] = c.Cluster + " " + percent(int64(c.Weight+5)/10)
	}
	next := rest[0].Cluster
	s.Weighted = true
	if there { // for whom it has already; the others are on the next level
		s.Choices[0].Weight = 1 // it is alone, and without one it would be absent
		for n := range rest {
			rest[n].Level = 1
		}
	}
	return reason{text: "capacity: " + next + " has no room for all clients of " + d.c.sites[home].end.Cluster + ", which are spread: " + strings.Join(parts, ", ")}
}

// pooling writes all that spilling depends on.
func (d *decision) pooling(b []byte) []byte {
	if !d.pooled {
		return append(b, 0)
	}
	b = append(b, 1)
	for i := range d.stand {
		st := &d.stand[i]
		b = append(b, st.pool.share, st.pool.refuses, bit(st.sized))
		for at := 0; at < 64; at += 8 {
			b = append(b, byte(st.pool.load>>at))
		}
	}
	return b
}

// noteKept lists the least share that a site keeps, being too busy, among the sets of a
// view of which some client is sent to it.
func (v *Verdict) noteKept(c *compiled, view *View) {
	for i := range view.Sets {
		for _, choice := range Picked(&view.Sets[i], v.Answers) {
			if !choice.spilt {
				continue
			}
			if v.kept == nil {
				v.kept = make([]uint8, len(c.sites))
			}
			if at := &v.kept[c.byRank[choice.site]]; *at == 0 || choice.Share < *at {
				*at = choice.Share
			}
		}
	}
}

// Keeps gives the percentage of its clients that a site keeps, by its index in Sites: less
// than 100 while it is too busy to have all.
func (v *Verdict) Keeps(i int) int {
	if len(v.kept) == 0 || v.kept[i] == 0 {
		return allShare
	}
	return int(v.kept[i])
}

// spilled lists the services that a plan's loads name, in order.
func spilled(all map[Scope]pooled) []string {
	var out []string
	for scope := range all {
		if scope.Service != "" {
			out = append(out, scope.Service)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// busier forgets what was decided for those of whose pools something else is said.
func (d *Decider) busier(old, now map[Scope]pooled) {
	moved := map[Scope]bool{}
	for _, lists := range [2][2]map[Scope]pooled{{old, now}, {now, old}} {
		for scope, one := range lists[0] {
			if other, ok := lists[1][scope]; !ok || other != one {
				moved[scope] = true
			}
		}
	}
	if len(moved) == 0 {
		return
	}
	for i := range d.kinds {
		c := d.prepared.kinds[i].compiled
		for j := range d.kinds[i].parts {
			p := &d.kinds[i].parts[j]
			name := d.prepared.set.Services[p.members[0]].Name
			if slices.ContainsFunc(c.sites, func(s site) bool {
				pool, ok := PoolOf(name, s.end, s.cluster)
				return ok && moved[pool.Scope]
			}) {
				p.ruling, d.kinds[i].due = nil, true
			}
		}
	}
}

// Len is how many sites there are.
func (r *Ruling) Len() int { return len(r.c.sites) }

// Away tells whether a site, by its index in Sites, is drained or failed, as far as
// steering sees.
func (r *Ruling) Away(i int) bool { return r.drainOf(i) != nil || worse(r.used[i]) == Failed }
