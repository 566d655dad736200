package steer

import (
	"cmp"
	"slices"

	"github.com/divertdns/divert/director/spec"
)

// Tier says which of S1's steps a Set comes from.
type Tier uint8

// The tiers, from the best to the worst.
const (
	TierNone        Tier = iota // residency leaves nothing
	TierHealthy                 // the rule
	TierDegraded                // nothing healthy is left
	TierLastResort              // only what is drained "as a last resort" is up
	TierAllDown                 // the all-down policy, over the undrained
	TierDrainedLast             // people have drained everything
)

func (t Tier) String() string {
	switch t {
	case TierHealthy:
		return "healthy"
	case TierDegraded:
		return "degraded"
	case TierLastResort:
		return "last resort"
	case TierAllDown:
		return "all down"
	case TierDrainedLast:
		return "drained last"
	default:
		return "none"
	}
}

// standing is a site's state in one decision.
type standing struct {
	drain *drain  // the oldest that covers it as a whole; nil: undrained
	paced *drain  // the one in steps that leaves it the fewest clients; nil: none, or it is drained as a whole
	last  bool    // every drain that covers it as a whole says lastResort
	since uint64  // revision of the oldest drain
	rolls *rolls  // as steering sees it
	real  *rolls  // as observed: another thing while automation observes
	soft  [2]bool // degraded, and S9's budget lets it leave the healthy tier
	sized bool    // its capacity was written
	pool  pooled
}

// tiered is the outcome of the health tiers for some sites.
type tiered struct {
	tier     Tier
	sites    []int // in the service's order
	degraded []int // of the healthy tier: those below it, who help out while all of it returns
	which    func(site int) which
	fallback bool // the fallback addresses instead of sites
	why      []string
	failOpen bool
}

// tiers takes sites in the service's order through S1's order. It is empty only
// when in is.
func (d *decision) tiers(f Family, in []int, unfenced bool) tiered {
	if len(in) == 0 {
		return tiered{tier: TierNone, which: live}
	}
	var healthy, degraded, undrained, last []int
	for _, i := range in {
		s := &d.stand[i]
		failed := s.rolls[f].Health == Failed
		switch {
		case s.drain != nil && s.last && !failed:
			last = append(last, i)
		case s.drain != nil:
		case failed:
			undrained = append(undrained, i)
		case s.soft[f]:
			undrained, degraded = append(undrained, i), append(degraded, i)
		default:
			undrained, healthy = append(undrained, i), append(healthy, i)
		}
	}
	switch {
	case len(healthy) > 0:
		return tiered{tier: TierHealthy, sites: healthy, degraded: degraded, which: live}
	case len(degraded) > 0:
		return tiered{
			tier: TierDegraded, sites: degraded, which: live,
			why: []string{"nothing healthy is left: degraded " + d.names(degraded) + " " + verb(degraded, "serves", "serve")},
		}
	case len(last) > 0:
		return d.lastResort(f, last)
	case len(undrained) > 0:
		return d.allDown(f, undrained, unfenced)
	default:
		return d.drainedLast(f, in)
	}
}

func live(int) which { return whichLive }

// lastResort serves from what is drained but may serve when nothing else can;
// the healthy before the degraded.
func (d *decision) lastResort(f Family, last []int) tiered {
	sound := slices.DeleteFunc(slices.Clone(last), func(i int) bool { return d.stand[i].rolls[f].Health == Degraded })
	if len(sound) > 0 {
		last = sound
	}
	return tiered{
		tier: TierLastResort, sites: last, which: live,
		why: []string{"no undrained site is up: drained " + d.names(last) + " " + verb(last, "serves", "serve") + " as the last resort"},
	}
}

// allDown fails open over the undrained. Fallback addresses belong to no
// cluster, so that no residency rule can allow them: only clients whom no rule
// covers get them.
func (d *decision) allDown(f Family, undrained []int, unfenced bool) tiered {
	t := tiered{tier: TierAllDown, sites: undrained, failOpen: true}
	policy := d.c.svc.AllDown
	if policy == spec.AllDownFallback {
		given := d.c.fallback[f]
		switch {
		case len(given) > 0 && unfenced:
			t.sites, t.fallback = nil, true
			t.why = []string{"all down (fallback): the fallback addresses answer"}
			return t
		case len(given) > 0:
			t.why = []string{"all down (fallback): the fallback addresses are in no cluster that residency allows"}
		}
	}
	if policy != spec.AllDownAll {
		alive := slices.DeleteFunc(slices.Clone(undrained), func(i int) bool { return len(d.stand[i].rolls[f].Alive) == 0 })
		if len(alive) > 0 {
			t.sites = alive
			t.which = func(int) which { return whichAlive }
			t.why = append(t.why, "all down (alive): the signal of "+d.names(alive)+" still answers")
			return t
		}
	}
	t.which = func(int) which { return whichAll }
	t.why = append(t.why, "all down (all): every undrained site answers: "+d.names(undrained))
	return t
}

// drainedLast keeps what was drained last when people have drained everything:
// the sites of the newest drain, by the revision since which each is drained.
func (d *decision) drainedLast(f Family, in []int) tiered {
	newest := slices.MaxFunc(in, func(a, b int) int { return cmp.Compare(d.stand[a].since, d.stand[b].since) })
	kept := slices.DeleteFunc(slices.Clone(in), func(i int) bool { return d.stand[i].since != d.stand[newest].since })
	// Of several that one drain took away together, those that are up.
	up := slices.DeleteFunc(slices.Clone(kept), func(i int) bool { return d.stand[i].rolls[f].Health == Failed })
	t := tiered{tier: TierDrainedLast, sites: kept}
	if len(up) > 0 {
		t.sites = up
	} else {
		t.failOpen = true
	}
	t.which = func(i int) which {
		if len(d.stand[i].rolls[f].Live) > 0 {
			return whichLive
		}
		return whichAll
	}
	t.why = []string{"everything is drained: " + d.names(t.sites) + ", drained last, " + verb(t.sites, "stays", "stay")}
	return t
}

// budget applies S9: degraded sites may leave the healthy tier while they are
// all in one fault domain or hold no more than the share that the fleet allows of
// the capacity of all targets of the family; past that all of them rank as healthy
// again. It is a function of the set of verdicts, never of who came first.
func (d *decision) budget(f Family) {
	// What is drained has left for another reason.
	leaves := func(i int) bool { return d.stand[i].drain == nil && d.stand[i].rolls[f].Health == Degraded }
	if !slices.ContainsFunc(d.c.targets[f], leaves) {
		return
	}
	var degraded []int
	var capacity, all int64
	domains := map[string]bool{}
	for _, i := range d.c.targets[f] {
		s := &d.c.sites[i]
		share := s.capacity
		if !s.present {
			share = 0 // weight 0 is absent: it can take over from nobody
		}
		all += share
		if leaves(i) {
			degraded = append(degraded, i)
			capacity += share
			if share > 0 {
				domains[s.cluster.FaultDomain] = true
			}
		}
	}
	share := int64(d.c.fleet.DegradedEjected)
	// Divided, not multiplied, so that no capacity overflows.
	if len(domains) > 1 && float64(capacity) > float64(all)*float64(share)/100 {
		d.overBudget[f] = d.names(degraded)
		d.alert("degraded " + d.names(degraded) + " are more than may leave for it (" + percent(share) + " of capacity): they rank as healthy")
		return
	}
	for _, i := range degraded {
		d.stand[i].soft[f] = true
	}
}
