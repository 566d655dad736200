package core

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// stock is what is in service under one spec and plan, by what certificates say: a
// frozen fleet's answers do not know what is really up.
type stock struct {
	set      *spec.Set
	clusters map[string]*spec.Cluster
	drains   []inDrain
	vitals   *vitals
}

// vitals tells which sites have failed, each worked out once: a cluster that is down has
// as many as there are services.
type vitals struct {
	roller *steer.Roller
	dead   map[*spec.Endpoint]bool
}

func newVitals(states map[health.Subject]health.State) *vitals {
	return &vitals{roller: steer.NewRoller(states), dead: map[*spec.Endpoint]bool{}}
}

// failed tells whether a site has failed in a family that it has.
func (v *vitals) failed(s site) bool {
	dead, known := v.dead[s.end]
	if !known {
		dead = len(v.down(s)) > 0
		v.dead[s.end] = dead
	}
	return dead
}

// down lists what of a site is down in the first family in which it has failed.
func (v *vitals) down(s site) []health.Subject {
	for _, f := range []steer.Family{steer.IPv4, steer.IPv6} {
		if r := v.roller.Rollup(s.service, s.end, f); len(r.All) > 0 && r.Health == steer.Failed {
			return r.Down
		}
	}
	return nil
}

type inDrain struct {
	scope steer.Scope
	o     *plan.Override
}

func newStock(set *spec.Set, p *plan.Plan, v *vitals) *stock {
	k := &stock{set: set, clusters: clustersOf(set), vitals: v}
	for _, o := range p.GetOverrides() {
		if o.GetKind() != plan.Override_DRAIN || o.GivesBack() {
			continue
		}
		if scope, err := steer.ParseScope(o.GetScope()); err == nil {
			k.drains = append(k.drains, inDrain{scope, o})
		}
	}
	return k
}

func (k *stock) site(svc *spec.GlobalService, i int) site {
	e := &svc.Endpoints[i]
	return site{service: svc, end: e, cluster: k.clusters[e.Cluster]}
}

// siteOf finds a service's site by its cluster; the zero site where there is none.
func (k *stock) siteOf(svc *spec.GlobalService, cluster string) site {
	if svc == nil || k.clusters[cluster] == nil {
		return site{}
	}
	for i := range svc.Endpoints {
		if svc.Endpoints[i].Cluster == cluster {
			return k.site(svc, i)
		}
	}
	return site{}
}

// meant tells whether people let a site serve, whatever its health: it is of the
// service's environment, has a weight, and no drain covers it.
func (k *stock) meant(s site) bool {
	return s.end != nil && s.cluster.Environment == s.service.Environment && !weightless(s) && k.drain(s) == nil
}

// weightless tells whether a site takes no part, as weight 0 says where weights count.
func weightless(s site) bool {
	return s.end.Weight == 0 && s.service.Steering.Policy == spec.PolicyWeighted
}

// drain finds the first drain of a site; nil for none.
func (k *stock) drain(s site) *plan.Override {
	for _, d := range k.drains {
		if d.scope.Covers(s.service.Name, s.cluster) {
			return d.o
		}
	}
	return nil
}

// serves tells whether a site is in service: meant to serve, and failed in no family
// that it has.
func (k *stock) serves(s site) bool {
	return k.meant(s) && !k.vitals.failed(s)
}

// counts tells whether a member of an interlock is in service: some site in it is.
func (k *stock) counts(m spec.Member) bool {
	scope := scopeOf(m)
	return slices.ContainsFunc(k.set.Services, func(svc *spec.GlobalService) bool {
		if scope.Service != "" && scope.Service != svc.Name {
			return false
		}
		for i := range svc.Endpoints {
			if holds(k.clusters, scope, svc, &svc.Endpoints[i]) && k.serves(k.site(svc, i)) {
				return true
			}
		}
		return false
	})
}

func (k *stock) count(a *spec.Assertion) int {
	n := 0
	for _, m := range k.set.Members(a.Of) {
		if k.counts(m) {
			n++
		}
	}
	return n
}

// out says why a member does not count: the one drain that covers all of it, else what
// is the matter with its first site.
func (k *stock) out(m spec.Member) string {
	sites := covered(k.set, scopeOf(m))
	if len(sites) == 0 {
		return m.String() + " is no site of any service"
	}
	if o := k.drain(sites[0]); o != nil && !slices.ContainsFunc(sites, func(s site) bool { return k.drain(s) != o }) {
		return steer.DrainWhy(m.String(), o)
	}
	s := sites[0]
	why := s.String() + " has weight 0"
	if o := k.drain(s); o != nil {
		why = steer.DrainWhy(s.String(), o)
	} else if down := k.vitals.down(s); len(down) > 0 {
		why = fmt.Sprintf("%s is failed: %s is down", s, steer.SubjectText(k.set, down[0]))
	}
	if n := len(sites) - 1; n > 0 {
		why = fmt.Sprintf("%s: %s, and %d more out of service", m, why, n)
	}
	return why
}

// whoIsOut lists who does not count of what of names in a spec that may be an older one,
// in brackets.
func (k *stock) whoIsOut(of []spec.Member, named *spec.Set) string {
	var out []string
	for _, m := range named.Members(of) {
		if !k.counts(m) {
			out = append(out, k.out(m))
		}
	}
	if len(out) == 0 {
		return ""
	}
	const most = 3
	if more := len(out) - most; more > 0 {
		out = append(out[:most], fmt.Sprintf("and %d more", more))
	}
	return " (" + strings.Join(out, "; ") + ")"
}

// scopeOf gives the scope of one of Set.Members.
func scopeOf(m spec.Member) steer.Scope {
	switch {
	case m.Service != "":
		return steer.Scope{Kind: steer.ScopeEndpoint, Service: m.Service, Cluster: m.Cluster}
	case m.Domain != "":
		return steer.Scope{Kind: steer.ScopeDomain, Domain: m.Domain}
	default:
		return steer.Scope{Kind: steer.ScopeCluster, Cluster: m.Cluster}
	}
}

func scopesOf(members []spec.Member) []steer.Scope {
	out := make([]steer.Scope, len(members))
	for i, m := range members {
		out[i] = scopeOf(m)
	}
	return out
}

func memberNames(members []spec.Member) []string {
	out := make([]string, len(members))
	for i, m := range members {
		out[i] = m.String()
	}
	return out
}

// The states of an interlock.
const (
	StandingHolds  = "holds"
	StandingLimit  = "at its limit" // one fewer would break it
	StandingBroken = "broken"       // too few are in service: by failures, or it was forced
	StandingOpen   = "open"         // of a gate: its switch is on
	StandingClosed = "closed"
)

// Standing is how an interlock stands: what it counts or guards, and why.
type Standing struct {
	Name      string           `json:"name"`
	State     string           `json:"state"`
	AtLeast   int              `json:"atLeast,omitempty"` // of an assertion
	InService int              `json:"inService"`
	Switch    *SwitchState     `json:"switch,omitempty"` // of a gate
	Members   []MemberStanding `json:"members"`
	Why       string           `json:"why"`
}

// SwitchState is how a switch was last turned, if ever.
type SwitchState struct {
	Name   string     `json:"name"`
	On     bool       `json:"on"`
	Author string     `json:"author,omitempty"`
	Reason string     `json:"reason,omitempty"`
	Since  *time.Time `json:"since,omitempty"`
}

// MemberStanding is one thing that an interlock counts or guards.
type MemberStanding struct {
	Scope     string `json:"scope"`
	InService bool   `json:"inService"`
	Why       string `json:"why,omitempty"` // it is not in service
}

// Interlocks says how the interlocks in force stand, by name.
func Interlocks(s State) []Standing {
	if s.Plan == nil || s.Spec == nil || len(s.Spec.Interlocks) == 0 {
		return nil
	}
	k := newStock(s.Spec, s.Plan.Plan, newVitals(s.States))
	out := make([]Standing, 0, len(s.Spec.Interlocks))
	for _, l := range s.Spec.Interlocks {
		st := Standing{Name: l.Name, Members: []MemberStanding{}}
		for _, m := range s.Spec.Members(l.Of()) {
			ms := MemberStanding{Scope: m.String(), InService: k.counts(m)}
			if ms.InService {
				st.InService++
			} else {
				ms.Why = k.out(m)
			}
			st.Members = append(st.Members, ms)
		}
		switch {
		case l.Assert != nil:
			st.assertion(l.Assert)
		case l.Gate != nil:
			st.gate(l.Gate.Switch, s.Plan.Plan.Switch(l.Gate.Switch))
		}
		out = append(out, st)
	}
	return out
}

func (st *Standing) assertion(a *spec.Assertion) {
	st.AtLeast, st.State = a.AtLeast, StandingHolds
	st.Why = fmt.Sprintf("%d of %d in service, at least %d wanted", st.InService, len(st.Members), a.AtLeast)
	switch {
	case st.InService < a.AtLeast:
		st.State = StandingBroken
		st.Why += ": nothing more of it may be taken away without --force"
	case st.InService == a.AtLeast:
		st.State = StandingLimit
		st.Why += ": none of them may be taken away without --force"
	}
}

func (st *Standing) gate(name string, s *plan.Switch) {
	st.Switch = &SwitchState{Name: name, On: s.GetOn(), Author: s.GetAuthor(), Reason: s.GetReason()}
	st.State = StandingClosed
	word, may := "off", "may not"
	if s.GetOn() {
		st.State, word, may = StandingOpen, "on", "may"
	}
	st.Why = fmt.Sprintf("switch %s is %s", name, word)
	if s != nil {
		at := s.GetSince().AsTime()
		st.Switch.Since = &at
		st.Why += fmt.Sprintf(" by %s since %s (%s)", s.GetAuthor(), at.UTC().Format("2006-01-02 15:04 UTC"), s.GetReason())
	} else {
		st.Why += ", never turned"
	}
	st.Why += fmt.Sprintf(": what it guards %s be taken away or brought back", may)
}
