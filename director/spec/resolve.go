package spec

import (
	"fmt"
	"slices"
	"strings"
)

// ZoneChecker checks a zone's text record by record; dnsserver/zone has the
// parser, which this package must not know. Its problems carry Line within
// Records (from 1; 0 for none), Message, Remedy and Warning; file, line and path
// are filled in here. It is asked only for zones that can be read so far.
type ZoneChecker func(z *Zone) []Problem

// Resolve makes a Set of stored or gossiped objects: unknown fields pass,
// defaults are filled in, and all is checked against each other. The Set is nil
// where an object cannot be read; with any other problem it is there and holds
// what makes sense (an endpoint of an unknown cluster is left out), since a spec
// that an older version accepted must go on being answered from.
func Resolve(stored []Raw) (*Set, []Problem) { return ResolveWith(stored, nil) }

// ResolveWith is Resolve with a checker of zone text.
func ResolveWith(stored []Raw, check ZoneChecker) (*Set, []Problem) {
	objects, problems := decodeStored(stored)
	readable := !Failed(problems)
	set, more := assemble(objects, check)
	problems = tidy(append(problems, more...))
	if !readable {
		return nil, problems
	}
	return set, problems
}

// decodeStored reads stored objects, each by itself.
func decodeStored(stored []Raw) ([]*object, []Problem) {
	var problems []Problem
	var docs []document
	for _, raw := range stored {
		root, err := parseJSON(raw.JSON)
		if err != nil {
			problems = append(problems, Problem{Path: raw.Kind + "/" + raw.Name, Message: err.Error(), Remedy: "apply it again"})
			continue
		}
		docs = append(docs, document{root: root, raw: raw, inlined: true})
	}
	objects, more := decodeAll(docs, false)
	problems = append(problems, more...)
	names := make(map[string]bool, len(stored))
	for _, raw := range stored {
		names[raw.Kind+"/"+raw.Name] = true
	}
	for _, o := range objects {
		if !names[o.id()] {
			problems = append(problems, Problem{Path: o.id(), Message: "is stored under another name", Remedy: "apply it again"})
		}
	}
	return objects, problems
}

// checker checks objects against each other.
type checker struct {
	set      *Set
	objects  map[string]*object // by kind/name
	shortest map[*Zone]claim    // the host with the lowest TTL
	problems []Problem
}

// reporter is fail or warn.
type reporter = func(o *object, path, message, remedy string)

// fail reports an error, unless the place is wrong already.
func (k *checker) fail(o *object, path, message, remedy string) {
	k.report(o, path, message, remedy, false)
}

func (k *checker) warn(o *object, path, message, remedy string) {
	k.report(o, path, message, remedy, true)
}

func (k *checker) report(o *object, path, message, remedy string, warning bool) {
	if o.isBroken(path) {
		return
	}
	k.problems = append(k.problems, Problem{
		File: o.file, Line: o.root.lineOf(path), Path: join(o.id(), path),
		Message: message, Remedy: remedy, Warning: warning,
	})
}

func (k *checker) object(kind, name string) *object { return k.objects[kind+"/"+name] }

// where tells a person where an object stands, "" where that is no file.
func (o *object) where() string {
	if o.file == "" {
		return ""
	}
	return fmt.Sprintf(" at %s:%d", o.file, o.root.line)
}

// unique drops objects that are there twice.
func unique(objects []*object) ([]*object, []Problem) {
	var problems []Problem
	first := make(map[string]*object, len(objects))
	var fleet *object
	kept := make([]*object, 0, len(objects))
	twice := func(o *object, message, remedy string) {
		problems = append(problems, Problem{File: o.file, Line: o.root.line, Path: o.id(), Message: message, Remedy: remedy})
	}
	for _, o := range objects {
		if before := first[o.id()]; before != nil {
			twice(o, "is defined already"+before.where(), "keep one of the two")
			continue
		}
		first[o.id()] = o
		if o.fleet != nil {
			if fleet != nil {
				twice(o, "there is a Fleet already, "+quote(fleet.raw.Name)+fleet.where(), "keep one of the two")
				continue
			}
			fleet = o
		}
		kept = append(kept, o)
	}
	return kept, problems
}

// assemble makes a Set and checks it.
func assemble(objects []*object, check ZoneChecker) (*Set, []Problem) {
	k := newChecker(objects)
	k.nameHostnames(StandIn)
	for _, c := range k.set.Clusters {
		k.checkCluster(c)
	}
	for _, g := range k.set.Services {
		k.checkService(g)
	}
	k.checkShared()
	k.checkHosts()
	for _, z := range k.set.Zones {
		k.checkZone(z, check)
	}
	k.checkInterlocks()
	for _, g := range k.set.Services {
		k.complete(g)
	}
	for _, l := range k.set.Interlocks {
		k.completeInterlock(l)
	}
	return k.set, k.problems
}

// newChecker puts the objects into a Set.
func newChecker(objects []*object) *checker {
	objects, problems := unique(objects)
	k := &checker{set: &Set{Fleet: *defaultFleet()}, objects: make(map[string]*object, len(objects)), shortest: map[*Zone]claim{}, problems: problems}
	for _, o := range objects {
		k.objects[o.id()] = o
		switch {
		case o.cluster != nil:
			k.set.Clusters = append(k.set.Clusters, o.cluster)
		case o.zone != nil:
			k.set.Zones = append(k.set.Zones, o.zone)
		case o.service != nil:
			k.set.Services = append(k.set.Services, o.service)
		case o.interlock != nil:
			k.set.Interlocks = append(k.set.Interlocks, o.interlock)
		case o.fleet != nil:
			k.set.Fleet = *o.fleet
			k.checkFleet(o)
		}
	}
	slices.SortFunc(k.set.Clusters, func(a, b *Cluster) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(k.set.Zones, func(a, b *Zone) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(k.set.Services, func(a, b *GlobalService) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(k.set.Interlocks, func(a, b *Interlock) int { return strings.Compare(a.Name, b.Name) })
	return k
}

// complete fills in the defaults that come from other objects and leaves out
// what names nothing, so that a Set never refers to what it does not hold.
func (k *checker) complete(g *GlobalService) {
	var endpoints []Endpoint
	var names []string
	for _, e := range g.Endpoints {
		c := k.set.Cluster(e.Cluster)
		if c == nil || slices.Contains(names, e.Cluster) {
			continue
		}
		if e.Capacity == 0 {
			e.Capacity = c.Capacity
		}
		names = append(names, e.Cluster)
		endpoints = append(endpoints, e)
	}
	g.Endpoints = endpoints
	known := func(order []string) []string {
		var out []string
		for _, name := range order {
			if slices.Contains(names, name) && !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
		return out
	}
	g.Steering.Order = known(g.Steering.Order)
	for i := range g.Steering.Regions {
		g.Steering.Regions[i].Order = known(g.Steering.Regions[i].Order)
	}
	slices.Sort(names)
	g.Steering.Order = known(append(g.Steering.Order, names...))
	g.Pins = slices.DeleteFunc(g.Pins, func(p Pin) bool {
		return !p.Prefix.IsValid() || !slices.Contains(names, p.Cluster)
	})
}
