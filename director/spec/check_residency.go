package spec

import (
	"fmt"
	"slices"
	"strings"
)

// residency checks the rules of one service: that every client class has some
// cluster (S11 beats availability, so an empty set is an empty answer for ever),
// and each family that the host has, since existence never depends on the
// client (S14).
type residency struct {
	k       *checker
	o       *object
	g       *GlobalService
	usable  []Endpoint
	allowed [][]bool // by rule, by usable endpoint
	said    map[string]bool
}

func (k *checker) checkResidency(o *object, g *GlobalService) {
	if len(g.Residency) == 0 {
		if g.ResidencyUnknown == ResidencyUnknownAllow {
			k.warn(o, "spec.residencyUnknown", "says nothing without residency rules", "take it out, or add rules")
		}
		return
	}
	r := &residency{k: k, o: o, g: g, usable: k.usable(g), said: map[string]bool{}}
	// What was not read whole would be judged wrongly.
	if slices.ContainsFunc([]string{"spec.residency", "spec.endpoints", "spec.environment"}, o.isBroken) {
		return
	}
	for _, e := range g.Endpoints {
		c := k.set.Cluster(e.Cluster)
		if c == nil || k.object(KindCluster, c.Name).isBroken("metadata.labels") || k.object(KindCluster, c.Name).isBroken("spec.environment") {
			return
		}
	}
	if len(r.usable) == 0 || !r.rules() {
		return
	}
	r.unknown()
	places := r.places()
	for _, match := range places {
		r.class(match, "")
	}
	for _, match := range r.prefixes() {
		r.class(match, "")
		for _, place := range places {
			both := slices.Clone(match)
			for i := range both {
				both[i] = both[i] || place[i]
			}
			r.class(both, "a client of the prefix may be there too")
		}
	}
}

// rules computes what each rule allows, and reports those that allow nothing.
func (r *residency) rules() bool {
	ok := true
	for i := range r.g.Residency {
		rule := &r.g.Residency[i]
		allowed := make([]bool, len(r.usable))
		for j, e := range r.usable {
			allowed[j] = rule.Allows(r.k.set.Cluster(e.Cluster))
		}
		r.allowed = append(r.allowed, allowed)
		if slices.Contains(allowed, true) {
			continue
		}
		ok = false
		message, remedy := "no endpoint of this service is in a cluster labelled ", "add such an endpoint, or label a cluster so"
		if !slices.ContainsFunc(r.k.set.Clusters, func(c *Cluster) bool { return rule.Allows(c) }) {
			message = "no cluster is labelled "
			remedy = "label one so in its metadata"
		}
		r.k.fail(r.o, item("spec.residency", i)+".clusters", message+labelText(rule.Clusters)+": these clients would have no answer", remedy)
	}
	return ok
}

func labelText(labels map[string]string) string {
	words := make([]string, 0, len(labels))
	for k, v := range labels {
		words = append(words, k+"="+v)
	}
	slices.Sort(words)
	return strings.Join(words, ",")
}

// unknown checks what a client of unknown place may have.
func (r *residency) unknown() {
	if r.g.ResidencyUnknown != ResidencyUnknownIntersect {
		return
	}
	all := make([]bool, len(r.g.Residency))
	for i := range all {
		all[i] = true
	}
	path := "spec.residencyUnknown"
	if r.o.root.get("spec").get("residencyUnknown") == nil {
		path = "spec.residency"
	}
	left := r.left(all)
	if len(left) == 0 {
		r.k.fail(r.o, path, "a client of unknown place may have only what every rule allows, and no cluster is allowed by all",
			"write residencyUnknown: allow if those clients may be served anywhere, or label a cluster so that every rule allows it")
		return
	}
	r.lacking(left, r.k.fail, path, "a client of unknown place", "", "write residencyUnknown: allow if those clients may be served anywhere")
}

// places are the distinct sets of rules that countries and continents match.
func (r *residency) places() [][]bool {
	var out [][]bool
	seen := map[string]bool{}
	add := func(country, continent string) {
		match := make([]bool, len(r.g.Residency))
		for i := range match {
			match[i] = r.g.Residency[i].Clients.Has(country, continent)
		}
		if key := fmt.Sprint(match); slices.Contains(match, true) && !seen[key] {
			seen[key] = true
			out = append(out, match)
		}
	}
	for _, continent := range continentCodes() {
		add("", continent) // a country that no rule names
		for i := range r.g.Residency {
			for _, country := range r.g.Residency[i].Clients.Countries {
				if home, _ := continentOf(country); home == continent {
					add(country, continent)
				}
			}
		}
	}
	return out
}

// prefixes are the distinct sets of rules that the prefixes match.
func (r *residency) prefixes() [][]bool {
	var out [][]bool
	seen := map[string]bool{}
	for i := range r.g.Residency {
		for _, p := range r.g.Residency[i].Clients.Prefixes {
			match := make([]bool, len(r.g.Residency))
			for j := range match {
				match[j] = r.g.Residency[j].Clients.Covers(p)
			}
			if key := fmt.Sprint(match); !seen[key] {
				seen[key] = true
				out = append(out, match)
			}
		}
	}
	return out
}

// left are the endpoints that every matching rule allows.
func (r *residency) left(match []bool) []Endpoint {
	var out []Endpoint
	for j, e := range r.usable {
		ok := true
		for i, m := range match {
			ok = ok && (!m || r.allowed[i][j])
		}
		if ok {
			out = append(out, e)
		}
	}
	return out
}

// lacking reports the families that the hosts have and these endpoints lack. Where
// that is so only if a hostname has what it may have, it warns. The hosts of a CNAME
// have that in both.
func (r *residency) lacking(left []Endpoint, report reporter, path, clients, because, remedy string) {
	if r.g.CNAME {
		return
	}
	var assumed []string
	for _, f := range families() {
		had, has := familyOf(r.usable, f), familyOf(left, f)
		switch {
		case had == familyNone || has == familyWritten:
		case had == familyWritten && has == familyNone:
			report(r.o, path, fmt.Sprintf("%s may have only %s, without the %s address that the hosts have%s", clients, names(left), f.name, because),
				"give one of them an "+f.name+" address, or "+remedy)
		case has == familyNone:
			r.k.warn(r.o, path, fmt.Sprintf("%s may have only %s, without the %s address that the hosts have if a hostname of the others has one%s", clients, names(left), f.name, because),
				"see that it has none, or give one of them an "+f.name+" address")
		default:
			assumed = append(assumed, f.name)
		}
	}
	if len(assumed) > 0 && len(left) < len(r.usable) {
		r.k.warn(r.o, path, fmt.Sprintf("%s may have only %s, whose hostname is taken to have %s addresses as the hosts have%s", clients, names(left), strings.Join(assumed, " and "), because),
			"see that it has them: whether a name has an address never depends on the client")
	}
}

// class checks the clients that match just these rules; perhaps says that they
// may not exist, and makes a warning of an error.
func (r *residency) class(match []bool, perhaps string) {
	key := fmt.Sprint(match)
	if r.said[key] {
		return
	}
	r.said[key] = true
	last := 0
	var rules []string
	for i, m := range match {
		if m {
			last = i
			rules = append(rules, fmt.Sprintf("residency[%d] (%s)", i, r.g.Residency[i].Clients))
		}
	}
	report, because := r.k.fail, ""
	if perhaps != "" {
		report, because = r.k.warn, ": "+perhaps
	}
	path := item("spec.residency", last) + ".clients"
	left := r.left(match)
	if len(left) == 0 {
		report(r.o, path, "clients of both "+strings.Join(rules, " and ")+" may have no cluster at all"+because,
			"rules that overlap intersect: label a cluster so that all of them allow it, or make them apart")
		return
	}
	r.lacking(left, report, path, "clients of "+strings.Join(rules, " and "), because, "take the others' out: whether a name has one never depends on the client")
}

func names(endpoints []Endpoint) string {
	words := make([]string, len(endpoints))
	for i, e := range endpoints {
		words[i] = e.Cluster
	}
	return strings.Join(words, ", ")
}
