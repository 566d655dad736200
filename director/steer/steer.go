// Package steer decides who answers for whom, and why: a pure function of
// spec, plan and verdicts, the same on every director (SEMANTICS, Steering).
// It never measures, waits or remembers.
package steer

import (
	"net/netip"
	"slices"
	"time"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
)

// Place is where a client may be, as the geo table knows places. Index 0 of
// Input.Places is the unknown place.
type Place struct {
	Country   string // ISO 3166-1 alpha-2; "" for the unknown place
	Continent string
	Latitude  float64
	Longitude float64
}

// Input is all that a decision depends on.
type Input struct {
	Spec   *spec.Set
	Plan   *plan.Plan
	States map[health.Subject]health.State // by certificates in force; missing = Unknown
	// Returns lists the subjects that have come back within the last of Steps. The map
	// is not changed once it has been given.
	Returns map[health.Subject]Return
	// Earlier lists the returns that would count still, had the subject not fallen after
	// them, oldest first: under an observation it has not. It is not changed either.
	Earlier map[health.Subject][]Return
	Places  []Place
	// Acting decides as if no automation observed: what would be done, beside
	// what is done.
	Acting bool
	// Changed lists every subject whose state is another than in the decider's last
	// input, for one that has many, with its state in States; others in it do no harm.
	// nil: the decider compares.
	Changed []health.Change
	// Prepared saves compiling the spec, where it is of this one and these places;
	// it may be nil.
	Prepared *Prepared
}

// Decision says for each service who answers for whom.
type Decision struct {
	Services []Service // by name, as in Spec
	// Alike is for each service the first one that is decided as one with it: they
	// share their Ruling.
	Alike []int32
}

// Service is the decision for one service.
type Service struct {
	Name  string
	Hosts []string
	*Ruling
}

// Ruling is all of a decision but whose it is: services that are decided as one
// share it.
type Ruling struct {
	*Verdict
	TTL       time.Duration
	Observing bool // automation: observe, by spec or by freeze
	// Next is when the answers of the hosts change by themselves, as far as it is
	// known now: the end of a drain, or of an observation, a step of a return. Zero = never.
	Next time.Time

	c          *compiled
	real, used []*rolls  // of each site: as observed, and as steering sees it
	drained    []*drain  // of each site; none = nothing is drained
	paced      []*drain  // of each site that is drained in steps and has clients yet; none = no site is
	overBudget [2]string // by family
}

// Verdict is what services share that differ in their addresses alone.
type Verdict struct {
	Answers int
	V4, V6  View
	Alerts  []string // below minHealthy, all down, budget exceeded, drained last …; ordered
	// SiteViews is what the names of single sites answer (siteNames: true), in
	// spec order: that site alone whatever its health, its drains and the policy
	// say, to every client that residency lets it serve, and nothing to others.
	SiteViews []SiteView

	serving []bool  // by site
	kept    []uint8 // by site, as shares, of those that are too busy
	shares  []uint8 // by site, of those that return: the least percentage of their clients that they have; 0 = all. nil: of all
}

// SiteView is the decision for one site's own names.
type SiteView struct {
	Cluster string
	V4, V6  View
}

// View is one address family. The zero View has no address configured.
type View struct {
	Sets     []Set
	ByPlace  []uint16       // index in Input.Places -> index in Sets
	ByPrefix []PrefixPlaces // by address, then length: what holds another comes before it
}

// PrefixPlaces overrides ByPlace for the clients of a configured prefix
// (regions, pins, residency); the longest match alone counts.
type PrefixPlaces struct {
	Prefix  netip.Prefix
	ByPlace []uint16
}

// Set is one distinct answer with its reason, for which see Service.Why. Services
// that steer alike share it.
type Set struct {
	Choices  []Choice // by level, in order of preference; empty: residency leaves nothing
	Rest     []Choice // of a service whose hostnames are flattened: what answers where no choice has an address, the first that has
	Weighted bool
	FailOpen bool
	Tier     Tier
	why      []reason
}

// reason is one sentence, or the rank of the site whose health is one, or whose return.
type reason struct {
	text string
	site int32
	ramp bool
}

// Choice is one site of a Set, for whose addresses see Service.Addrs.
type Choice struct {
	Cluster string
	Domain  string
	Weight  uint32
	Share   uint8 // percent of its clients, while it returns, is drained in steps or is too busy; 0 = all
	Level   uint8 // it is for clients whom no choice of a lesser one may have, and alone with its like
	ramp    uint8 // of one that is too busy: what it would have else
	spilt   bool
	site    int32
	which   which
}

// which says which of a site's addresses answer.
type which uint8

const (
	whichNone     which = iota
	whichLive           // those that are up
	whichAlive          // those whose signal answers
	whichAll            // all that are configured
	whichFallback       // the service's fallback addresses
)

// Addrs gives the addresses of a choice of one of the service's sets, with those that
// stand for a hostname (spec.StandIn) as such. They must not be written to.
func (r *Ruling) Addrs(f Family, c *Choice) []netip.Addr {
	switch c.which {
	case whichLive:
		return r.ranked(c.site)[f].Live
	case whichAlive:
		return r.ranked(c.site)[f].Alive
	case whichAll:
		return r.ranked(c.site)[f].All
	case whichFallback:
		return r.c.fallback[f]
	default:
		return nil
	}
}

// ranked gives what steering sees of a site, by its rank.
func (r *Ruling) ranked(rank int32) *rolls { return r.used[r.c.byRank[rank]] }

// Kept tells, at a glance, whether a choice has the addresses that an equal one of an
// older ruling had.
func (r *Ruling) Kept(old *Ruling, c *Choice) bool {
	i := r.c.byRank[max(c.site, 0)]
	return old.c == r.c && r.used[i] == old.used[i]
}

// SameAddrs tells whether the sites of two decisions have the same addresses, by
// their rank.
func (r *Ruling) SameAddrs(other *Ruling) bool {
	if len(r.used) != len(other.used) {
		return false
	}
	for i := range r.used {
		a, b := r.ranked(int32(i)), other.ranked(int32(i))
		if a == b {
			continue
		}
		for f := range a {
			if !slices.Equal(a[f].Live, b[f].Live) || !slices.Equal(a[f].Alive, b[f].Alive) || !slices.Equal(a[f].All, b[f].All) {
				return false
			}
		}
	}
	return slices.Equal(r.c.fallback[IPv4], other.c.fallback[IPv4]) && slices.Equal(r.c.fallback[IPv6], other.c.fallback[IPv6])
}

// Why says how one of the service's sets came about: one sentence per step of the
// pipeline that changed something.
func (r *Ruling) Why(f Family, set *Set) []string {
	var out []string
	for _, w := range set.why {
		switch {
		case w.ramp:
			w.text = rampWhy(r.c.sites[r.c.byRank[w.site]].end.Cluster, &r.ranked(w.site)[f].back)
		case w.text == "":
			w.text = r.c.sites[r.c.byRank[w.site]].healthWhy(&r.ranked(w.site)[f])
		}
		out = append(out, w.text)
	}
	return out
}

// For finds the set of the clients of a place within a configured prefix, the zero
// Prefix for none.
func (v *View) For(prefix netip.Prefix, place uint16) *Set {
	row := v.ByPlace
	for i := range v.ByPrefix {
		if v.ByPrefix[i].Prefix == prefix {
			row = v.ByPrefix[i].ByPlace
		}
	}
	switch {
	case int(place) < len(row):
		return &v.Sets[row[place]]
	case len(row) > 0:
		return &v.Sets[row[0]]
	}
	return &v.Sets[0]
}

// Health is the roll-up of an endpoint's subjects.
type Health uint8

// The verdicts of an endpoint.
const (
	HealthUnknown Health = iota
	Healthy
	Degraded
	Failed
)

func (h Health) String() string {
	switch h {
	case Healthy:
		return "healthy"
	case Degraded:
		return "degraded"
	case Failed:
		return "failed"
	default:
		return "unknown"
	}
}

// Site is the standing of one endpoint: observed health and drain side by side.
type Site struct {
	Cluster string
	Domain  string
	Health  Health // the worse family's
	Drained string // ID of the drain in force, "" for none
	Paced   string // ID of the drain in steps that leaves it clients yet, "" for none
	Live    []netip.Addr
	All     []netip.Addr
	Why     string
	Serving bool // some client is sent here
	Share   int  // percent of its clients; below 100 while it returns or is drained in steps
	Kept    int  // percent of its clients; below 100 while it is too busy
}
