package spec

import (
	"fmt"
	"net/netip"
	"slices"
)

// CheckTogether checks a director's settings against the fleet's spec: above
// all that no name which this director must resolve lies in a zone that the
// fleet itself answers for, or none could start after all have stopped. A
// probe's Host and SNI are never resolved. A nil Set is an empty one.
func CheckTogether(s Settings, set *Set) []Problem {
	t := settingsOf(s, set)
	t.names()
	t.roster()
	t.probed()
	t.run()
	t.transferred()
	return tidy(t.problems)
}

// settingsOf reads the settings' file again, for line numbers only.
func settingsOf(s Settings, set *Set) *together {
	if set == nil {
		set = &Set{}
	}
	t := &together{s: s, set: set, root: &value{kind: kindMap}}
	if s.File != "" {
		// Who made s has reported what is wrong with it.
		if data, err := readRegular(s.File, maxSettings); err == nil {
			if docs, _ := parseYAML(s.File, data); len(docs) == 1 {
				t.root = docs[0].root
			}
		}
	}
	return t
}

type together struct {
	s        Settings
	set      *Set
	root     *value
	problems []Problem
}

func (t *together) report(path, message, remedy string, warning bool) {
	t.problems = append(t.problems, Problem{
		File: t.s.File, Line: t.root.lineOf(path), Path: path, Message: message, Remedy: remedy, Warning: warning,
	})
}

// names checks whatever this director resolves.
func (t *together) names() {
	resolve := func(path, host string) {
		z := t.set.ZoneOf(nameOnly(host))
		if z == nil {
			return
		}
		t.report(path, fmt.Sprintf("%s must be resolved, and is in zone %s, which this fleet answers for: after an outage of all directors none could start", host, z.Name),
			"write an address, or a name in a zone that others serve", false)
	}
	for i, j := range t.s.Gossip.Join {
		if host, _, ok := splitHostPort(j, DefaultGossipPort); ok {
			resolve(item("gossip.join", i), host)
		}
	}
	if host, _, ok := splitHostPort(t.s.Gossip.Advertise, DefaultGossipPort); ok {
		resolve("gossip.advertise", host)
	}
	for i, u := range t.s.Etcd.Endpoints {
		resolve(item("etcd.endpoints", i), hostOf(u))
	}
	for i, c := range t.s.Controls {
		if host, _, ok := splitHostPort(c, ""); ok {
			resolve(item("controls", i), host)
		}
	}
}

// roster compares what this director calls itself.
func (t *together) roster() {
	roster := t.set.Fleet.Directors
	i := slices.IndexFunc(roster, func(e RosterEntry) bool { return e.Name == t.s.Name })
	switch {
	case len(roster) == 0:
	case i < 0:
		t.report("name", quote(t.s.Name)+" is not in the roster: it will be pending, and not vote",
			"add it to the Fleet's directors, or `divert director approve "+t.s.Name+"`", true)
	case roster[i].Site != t.s.Site:
		t.report("site", fmt.Sprintf("%s differs from the roster's %s, which counts", quote(t.s.Site), quote(roster[i].Site)), "write the same in both", true)
	}
	if len(roster) > 1 && t.s.Etcd.Embedded {
		t.report("etcd", fmt.Sprintf("this director keeps its own store, while the roster has %d directors: they would share no plan", len(roster)),
			"add etcd: {endpoints: [...]}, the same for all", true)
	}
}

// probed warns of addresses that this director's probes refuse (C12).
func (t *together) probed() {
	refused := map[netip.Addr]bool{}
	for _, g := range t.set.Services {
		for _, e := range g.Endpoints {
			for _, a := range e.Addresses {
				special := a.IsLoopback() || a.IsLinkLocalUnicast()
				if !special || len(g.Probes) == 0 || refused[a] {
					continue
				}
				if slices.ContainsFunc(t.s.Probe.Allow, func(p netip.Prefix) bool { return p.Contains(a) }) {
					continue
				}
				refused[a] = true
				t.report("probe.allow", fmt.Sprintf("%s of %s in %s is loopback or link-local, which probes refuse", a, g.Name, e.Cluster),
					"add its prefix to probe: {allow: [...]} if that is meant", true)
			}
		}
	}
}

// run warns of programs that this director does not run for a spec, so that their
// probes say nothing.
func (t *together) run() {
	told := map[string]bool{}
	for _, g := range t.set.Services {
		for i := range g.Probes {
			e := g.Probes[i].Exec
			if e == nil || told[e.Command] || slices.Contains(t.s.Probe.Exec, e.Command) {
				continue
			}
			told[e.Command] = true
			t.report("probe.exec", fmt.Sprintf("%s, a probe of %s, is not run by this director: the probe says nothing, neither up nor down", e.Command, g.Name),
				"add it to probe: {exec: [...]} if whoever writes the spec may run it here, with any arguments", true)
		}
	}
}

// transferred warns of services that no secondary has an address of, since all their
// endpoints are flattened: whoever asks it is told that there is none.
func (t *together) transferred() {
	if len(t.s.DNS.Transfers.Allow)+len(t.s.DNS.Transfers.Keys) == 0 {
		return
	}
	for _, svc := range t.set.Services {
		if svc.Flattened() && !slices.ContainsFunc(svc.Endpoints, func(e Endpoint) bool { return e.Hostname == "" }) {
			t.report("dns.transfers", fmt.Sprintf("secondaries have no address of %s (service %s): all its endpoints are hostnames, whose addresses no serial could follow", svc.Hosts[0], svc.Name),
				"name no secondary in the zone's NS, or write addresses for one endpoint", true)
		}
	}
}
