package spec

import (
	"fmt"
	"slices"
	"strings"
)

// ResidencyRule names the clusters that may serve some clients (S11).
type ResidencyRule struct {
	Clients  Clients
	Clusters map[string]string // labels that a cluster must have
	// Only, of a rule that a policy made (see Set.Narrow), names the clusters instead; it is
	// never empty there, and nil in all others.
	Only []string `json:",omitempty"`
	Why  string   `json:",omitempty"` // of a policy's
}

// ResidencyUnknown is what a client of unknown place may have.
type ResidencyUnknown int

// The zero value is not valid in a Set.
const (
	ResidencyUnknownUnset ResidencyUnknown = iota
	ResidencyUnknownIntersect
	ResidencyUnknownAllow
)

// Narrowed is where a set comes from whose residency a policy has narrowed.
type Narrowed struct {
	Base *Set
	By   any // for whoever did to know again
}

// Narrow adds rules to the residency of services, by their names: a set that differs in
// those services alone. Rules intersect, so that more of them allow less, whatever they say
// (S11). What was added before is left out. Neither set may be written to.
func (s *Set) Narrow(by any, rules map[string][]ResidencyRule) *Set {
	base := s.Base()
	next := *base
	next.Narrowed = &Narrowed{Base: base, By: by}
	next.Services = slices.Clone(base.Services)
	shared := map[string][]ResidencyRule{} // services of the same rules share their list
	for i, svc := range next.Services {
		added := rules[svc.Name]
		if len(added) == 0 {
			continue
		}
		narrow := *svc
		key := fmt.Sprintf("%p", &added[0])
		if len(svc.Residency) > 0 {
			key += fmt.Sprintf(" %p %d", &svc.Residency[0], len(svc.Residency))
		}
		if shared[key] == nil {
			shared[key] = slices.Concat(svc.Residency, added)
		}
		narrow.Residency = shared[key]
		next.Services[i] = &narrow
	}
	return &next
}

// Base is the set as the spec has it, whatever has narrowed it.
func (s *Set) Base() *Set {
	if s != nil && s.Narrowed != nil {
		return s.Narrowed.Base
	}
	return s
}

// Stranded says which clients of the services a policy leaves nobody, or no address of a
// family that the hosts have (S14), and the spec alone does not: at most so many, ordered by
// service.
func (s *Set) Stranded(most int) (out []string) {
	if s.Narrowed == nil {
		return nil
	}
	for i, svc := range s.Services {
		before := s.Narrowed.Base.Services[i]
		if before == svc {
			continue
		}
		already := s.stranded(before)
		for _, text := range s.stranded(svc) {
			if len(already) == 0 && len(out) < most {
				out = append(out, svc.Name+": "+text)
			}
		}
	}
	return out
}

// stranded lists the classes of clients of a service that its rules leave too little.
func (s *Set) stranded(g *GlobalService) (out []string) {
	r := &residency{g: g, usable: (&checker{set: s}).usable(g)}
	if len(r.usable) == 0 || len(g.Residency) == 0 {
		return nil
	}
	for i := range g.Residency {
		allowed := make([]bool, len(r.usable))
		for j, e := range r.usable {
			allowed[j] = g.Residency[i].Allows(s.Cluster(e.Cluster))
		}
		r.allowed = append(r.allowed, allowed)
	}
	say := func(who string, match []bool) {
		left := r.left(match)
		if len(left) == 0 {
			out = append(out, who+" would have no cluster at all")
			return
		}
		for _, f := range families() {
			if !g.CNAME && familyOf(r.usable, f) == familyWritten && familyOf(left, f) == familyNone {
				out = append(out, fmt.Sprintf("%s would have only %s, without the %s address that the hosts have", who, names(left), f.name))
			}
		}
	}
	seen := map[string]bool{}
	for _, match := range slices.Concat(r.places(), r.prefixes()) {
		var who []string
		for i, m := range match {
			if text := g.Residency[i].Clients.String(); m && !slices.Contains(who, text) {
				who = append(who, text)
			}
		}
		if text := strings.Join(who, " and "); !seen[text] {
			seen[text] = true
			say("clients of "+text, match)
		}
	}
	if len(out) == 0 && g.ResidencyUnknown == ResidencyUnknownIntersect {
		all := slices.Repeat([]bool{true}, len(g.Residency))
		say("clients of unknown place, who may have only what every rule allows,", all)
	}
	return out
}

// IsContinent tells whether a code is a continent's, and IsCountry whether it is a
// country's, as clients are written by them.
func IsContinent(code string) bool { return slices.Contains(continentCodes(), code) }

// IsCountry tells whether a code is a country's: ISO 3166-1 alpha-2, and XK.
func IsCountry(code string) bool {
	_, found := continentOf(code)
	return found
}
