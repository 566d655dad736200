// Package steer decides who answers for whom, and why: a pure function of
// spec, plan and verdicts, the same on every director (SEMANTICS, Steering).
// It never measures, waits or remembers.
package steer

import (
	"net/netip"
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
	Places []Place
	// Acting decides as if no automation observed: what would be done, beside
	// what is done.
	Acting bool
}

// Decision says for each service who answers for whom.
type Decision struct {
	Services []Service // by name, as in Spec
}

// Service is the decision for one service.
type Service struct {
	Name      string
	Hosts     []string
	TTL       time.Duration
	Answers   int
	V4, V6    View
	Sites     []Site   // every endpoint's standing, in spec order; for status and siteNames
	Alerts    []string // below minHealthy, all down, budget exceeded, drained last …; ordered
	Observing bool     // automation: observe, by spec or by freeze
	// SiteViews is what the names of single sites answer (siteNames: true), in
	// spec order: that site alone whatever its health, its drains and the policy
	// say, to every client that residency lets it serve, and nothing to others.
	SiteViews []SiteView
}

// SiteView is the decision for one site's own names.
type SiteView struct {
	Cluster string
	V4, V6  View
}

// View is one address family. The zero View has no address configured.
type View struct {
	Sets     []Set
	ByPlace  []uint16 // index in Input.Places -> index in Sets
	ByPrefix []PrefixPlaces
}

// PrefixPlaces overrides ByPlace for the clients of a configured prefix
// (regions, pins, residency); the longest match alone counts.
type PrefixPlaces struct {
	Prefix  netip.Prefix
	ByPlace []uint16
}

// Set is one distinct answer with its reason.
type Set struct {
	Choices  []Choice // in order of preference; empty: residency leaves nothing
	Weighted bool
	FailOpen bool
	Tier     Tier
	Why      []string // one sentence per step of the pipeline that changed something
}

// Choice is one site of a Set.
type Choice struct {
	Cluster string
	Domain  string
	Weight  uint32
	Addrs   []netip.Addr
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
	Live    []netip.Addr
	All     []netip.Addr
	Why     string
	Serving bool // some client is sent here
}
