package spec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxInterlocks bounds what one commit changes of them: as many rules gone, as many
	// new and as many switches fit one transaction of the store.
	maxInterlocks = 40
	maxMembers    = 1000
)

func (o *object) readInterlock(c cursor) {
	l := &Interlock{Name: o.raw.Name}
	o.interlock = l
	if !c.object(fields{
		"assert": func(c cursor) { l.Assert = readAssertion(c) },
		"gate":   func(c cursor) { l.Gate = readGate(c) },
	}) {
		return
	}
	switch asserts, gates := c.v.get("assert") != nil, c.v.get("gate") != nil; {
	case asserts && gates:
		c.fail("has both assert and gate", "make two interlocks of it")
	case !asserts && !gates:
		c.fail("has no rule", "add assert: {atLeast: 1, of: [cluster/fra, cluster/nyc]}, or gate: {switch: NAME, of: [cluster/fra]}")
	}
}

func readAssertion(c cursor) *Assertion {
	a := &Assertion{}
	c.object(fields{
		"atLeast": func(c cursor) { a.AtLeast = int(c.integer(1, maxMembers)) },
		"of":      func(c cursor) { a.Of = readMembers(c) },
	}, "atLeast", "of")
	return a
}

func readGate(c cursor) *Gate {
	g := &Gate{}
	c.object(fields{
		"switch": func(c cursor) { g.Switch = c.label() },
		"of":     func(c cursor) { g.Of = readMembers(c) },
	}, "switch", "of")
	return g
}

// readMembers keeps the places of what is wrong, as zero Members, for the checks to
// name the others by their index.
func readMembers(c cursor) []Member {
	var out []Member
	c.nonEmpty(func(c cursor) {
		m := readMember(c)
		if m.valid() && slices.ContainsFunc(out, func(o Member) bool { return o.String() == m.String() }) {
			c.fail(m.String()+" stands here twice", "keep one of the two")
			m = Member{}
		}
		out = append(out, m)
	})
	if len(out) > maxMembers {
		c.fail(fmt.Sprintf("has %d members, more than %d", len(out), maxMembers), "select clusters by a label: {clusters: {LABEL: VALUE}}")
	}
	return out
}

func readMember(c cursor) Member {
	var m Member
	if c.v.kind == kindMap {
		c.object(fields{"clusters": func(c cursor) { m.Clusters = readLabels(c) }}, "clusters")
		return m
	}
	if !c.is(kindString, "a scope such as cluster/fra, or {clusters: {LABEL: VALUE}}") {
		return m
	}
	kind, rest, _ := strings.Cut(c.v.text, "/")
	bad := false
	switch kind {
	case "cluster":
		m.Cluster, bad = rest, !isLabel(rest, false)
	case "domain":
		m.Domain, bad = rest, !isWord(rest)
	case "service":
		// A service's name may hold a slash (namespace/name), never an @.
		service, cluster, one := strings.Cut(rest, "@")
		m.Service, m.Cluster = service, cluster
		bad = service == "" || one && !isLabel(cluster, false)
	default:
		bad = true
	}
	if bad {
		c.fail(quote(c.v.text)+" is no scope", "write cluster/NAME, domain/NAME, service/NAME, service/NAME@CLUSTER, or {clusters: {LABEL: VALUE}}")
		return Member{}
	}
	return m
}

func (m Member) valid() bool {
	return m.Cluster != "" || m.Domain != "" || m.Service != "" || m.Clusters != nil
}

// String is the scope, as in a drain's; of a selection of clusters, its labels.
func (m Member) String() string {
	switch {
	case m.Service != "" && m.Cluster != "":
		return "service/" + m.Service + "@" + m.Cluster
	case m.Service != "":
		return "service/" + m.Service
	case m.Cluster != "":
		return "cluster/" + m.Cluster
	case m.Domain != "":
		return "domain/" + m.Domain
	case len(m.Clusters) > 0:
		return "clusters " + labelText(m.Clusters)
	case m.Clusters != nil:
		return "all clusters"
	default:
		return "unknown"
	}
}

// Of gives what an interlock counts or guards.
func (l *Interlock) Of() []Member {
	switch {
	case l.Assert != nil:
		return l.Assert.Of
	case l.Gate != nil:
		return l.Gate.Of
	default:
		return nil
	}
}

// Interlock returns the interlock of that name, nil where there is none.
func (s *Set) Interlock(name string) *Interlock {
	return find(s.Interlocks, name, func(l *Interlock) string { return l.Name })
}

// Switches lists the switches of the gates, by name.
func (s *Set) Switches() []string {
	var out []string
	for _, l := range s.Interlocks {
		if l.Gate != nil && l.Gate.Switch != "" {
			out = append(out, l.Gate.Switch)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Members gives each thing of an interlock that counts as one: a cluster, also one that
// is selected by labels, a fault domain, or one site of a service. What this spec does
// not hold is none.
func (s *Set) Members(of []Member) []Member {
	var out []Member
	seen := map[string]bool{}
	add := func(m Member) {
		if name := m.String(); !seen[name] {
			seen[name] = true
			out = append(out, m)
		}
	}
	for _, m := range of {
		switch {
		case m.Clusters != nil:
			for _, c := range s.Clusters {
				if m.selects(c) {
					add(Member{Cluster: c.Name})
				}
			}
		case m.Service != "" && m.Cluster == "":
			if g := s.Service(m.Service); g != nil {
				for i := range g.Endpoints {
					add(Member{Service: m.Service, Cluster: g.Endpoints[i].Cluster})
				}
			}
		case m.valid() && s.known(m):
			add(m)
		}
	}
	return out
}

func (m Member) selects(c *Cluster) bool {
	rule := ResidencyRule{Clusters: m.Clusters}
	return rule.Allows(c)
}

// known tells whether a member that names one thing names one of this spec.
func (s *Set) known(m Member) bool {
	switch {
	case m.Service != "":
		g := s.Service(m.Service)
		return g != nil && (m.Cluster == "" || g.Endpoint(m.Cluster) != nil)
	case m.Cluster != "":
		return s.Cluster(m.Cluster) != nil
	default:
		return slices.ContainsFunc(s.Clusters, func(c *Cluster) bool { return c.FaultDomain == m.Domain })
	}
}

// checkInterlocks checks what the interlocks are about, against all else.
func (k *checker) checkInterlocks() {
	for i, l := range k.set.Interlocks {
		o := k.object(KindInterlock, l.Name)
		if i == maxInterlocks {
			k.fail(o, "spec", fmt.Sprintf("there are %d interlocks, more than %d", len(k.set.Interlocks), maxInterlocks), "join some: one may select many clusters by a label")
		}
		path := "spec.gate.of"
		if l.Assert != nil {
			path = "spec.assert.of"
		}
		ok := true
		for j, m := range l.Of() {
			ok = k.checkMember(o, item(path, j), m) && ok
		}
		if l.Assert != nil && ok && !o.isBroken(path) && !o.isBroken("spec.assert.atLeast") {
			k.checkAssertion(o, l.Assert)
		}
	}
}

// checkMember reports a member that names nothing; true where all is well.
func (k *checker) checkMember(o *object, path string, m Member) bool {
	switch {
	case !m.valid():
	case m.Clusters != nil:
		if len(k.set.Members([]Member{m})) == 0 {
			k.fail(o, path, "no cluster is labelled "+labelText(m.Clusters), "label one so in its metadata")
			return false
		}
	case k.set.known(m):
	case m.Service != "" && k.set.Service(m.Service) != nil:
		return k.noSuch(o, path, m.Service+" has no endpoint in "+quote(m.Cluster), "add one", m.Cluster, endpointClusters(k.set.Service(m.Service)))
	case m.Service != "":
		names := make([]string, len(k.set.Services))
		for i, s := range k.set.Services {
			names[i] = s.Name
		}
		return k.noSuch(o, path, "there is no service "+quote(m.Service), "add a GlobalService of that name", m.Service, names)
	case m.Cluster != "":
		return k.checkClusterName(o, path, m.Cluster)
	default:
		names := make([]string, len(k.set.Clusters))
		for i, c := range k.set.Clusters {
			names[i] = c.FaultDomain
		}
		return k.noSuch(o, path, "no cluster is in fault domain "+quote(m.Domain), "give a cluster that faultDomain", m.Domain, names)
	}
	return true
}

func (k *checker) noSuch(o *object, path, message, remedy, name string, names []string) bool {
	if near := nearest(name, names); near != "" {
		remedy = "did you mean " + near + "? Else " + remedy
	}
	k.fail(o, path, message, remedy)
	return false
}

func endpointClusters(g *GlobalService) []string {
	out := make([]string, len(g.Endpoints))
	for i, e := range g.Endpoints {
		out[i] = e.Cluster
	}
	return out
}

func (k *checker) checkAssertion(o *object, a *Assertion) {
	able := 0
	for _, m := range k.set.Members(a.Of) {
		if k.serves(m) {
			able++
		}
	}
	for j, m := range a.Of { // what a label selects may well be idle
		if m.valid() && m.Clusters == nil && !slices.ContainsFunc(k.set.Members([]Member{m}), k.serves) {
			k.warn(o, item("spec.assert.of", j), m.String()+" has no endpoint that could ever serve, so that it never counts", "take it out, or give a service an endpoint there")
		}
	}
	switch {
	case a.AtLeast > able:
		k.fail(o, "spec.assert.atLeast", strconv.Itoa(a.AtLeast)+" are wanted in service and "+strconv.Itoa(able)+" can ever be", "write at most "+strconv.Itoa(max(able, 1)))
	case a.AtLeast == able:
		k.warn(o, "spec.assert.atLeast", "all "+strconv.Itoa(able)+" are wanted in service: none can be drained without --force", "write less, unless that is meant")
	}
}

// serves tells whether a member has an endpoint that can ever answer.
func (k *checker) serves(m Member) bool {
	return slices.ContainsFunc(k.set.Services, func(g *GlobalService) bool {
		if m.Service != "" && m.Service != g.Name {
			return false
		}
		return slices.ContainsFunc(k.usable(g), func(e Endpoint) bool {
			if m.Domain != "" {
				return k.set.Cluster(e.Cluster).FaultDomain == m.Domain
			}
			return e.Cluster == m.Cluster
		})
	})
}

// completeInterlock leaves out what names nothing.
func (k *checker) completeInterlock(l *Interlock) {
	known := func(of []Member) []Member {
		return slices.DeleteFunc(of, func(m Member) bool {
			return !m.valid() || m.Clusters == nil && !k.set.known(m)
		})
	}
	if l.Assert != nil {
		l.Assert.Of = known(l.Assert.Of)
	}
	if l.Gate != nil {
		l.Gate.Of = known(l.Gate.Of)
	}
}
