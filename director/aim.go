package director

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
	"github.com/divertdns/divert/health/probe"
)

const (
	// maxAim is the longest text that a probe may be aimed at.
	maxAim = 320 // octets; a name of 253, and what stands before it
	// maxAimed is how many subjects may be probed for one question, so that no question
	// takes minutes and every answer fits one message.
	maxAimed = 2048
)

// aimed is one subject of the spec in force that a person wants probed now.
type aimed struct {
	probe.Target
	of        steer.SubjectOf
	endpoints []string // that it is watched for: "shop@fra"
}

// aim finds what a text names in a spec: a service or one of its sites, a host, a
// cluster, a fault domain, an address, or a subject. Whatever the text says, all that
// it gives is watched by this spec already: an address only picks from those that are
// in it, so nobody makes a director probe what people did not write down (C12).
func aim(set *spec.Set, text string) ([]aimed, error) {
	wanted, err := aimOf(set, text)
	if err != nil {
		return nil, err
	}
	var out []aimed
	at := map[health.Subject]int{}
	eachService(set, func(svc *spec.GlobalService, cluster string, of steer.SubjectOf) {
		if !wanted(svc, cluster, of.Subject) {
			return
		}
		name, t := svc.Name+"@"+cluster, targetOf(set, of)
		i, again := at[of.Subject]
		switch {
		case !again:
			at[of.Subject] = len(out)
			out = append(out, aimed{Target: t, of: of, endpoints: []string{name}})
			return
		case t.Interval < out[i].Interval: // as it is probed, see targets
			out[i].Target = t
		}
		if !slices.Contains(out[i].endpoints, name) {
			out[i].endpoints = append(out[i].endpoints, name)
		}
	})
	switch {
	case len(out) == 0:
		return nil, &core.Refusal{Reason: fmt.Sprintf("the spec in force has nothing to probe at %s", text), Remedy: "`divert status -v` lists what is probed"}
	case len(out) > maxAimed:
		return nil, &core.Refusal{
			Reason: fmt.Sprintf("%s has %d probes, and at most %d are sent for one question", text, len(out), maxAimed),
			Remedy: "name a part of it, such as one service",
		}
	}
	return out, nil
}

// aimOf reads the text. What has no prefix is first a service, then a host, so that a
// service of a host's name is found by its own.
func aimOf(set *spec.Set, text string) (func(*spec.GlobalService, string, health.Subject) bool, error) {
	if text == "" || len(text) > maxAim || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }) {
		return nil, &core.Refusal{Reason: fmt.Sprintf("target %.80q names nothing that can be probed", text), Remedy: "give a service, service@cluster, a host, cluster/NAME or an address"}
	}
	if s, err := health.ParseSubject(text); err == nil {
		return func(_ *spec.GlobalService, _ string, have health.Subject) bool { return have == s }, nil
	}
	if a, err := netip.ParseAddrPort(text); err == nil {
		a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		return func(_ *spec.GlobalService, _ string, have health.Subject) bool { return have.Addr == a }, nil
	}
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return func(_ *spec.GlobalService, _ string, have health.Subject) bool { return have.Addr.Addr() == a.Unmap() }, nil
	}
	scope := text
	if kind, _, _ := strings.Cut(text, "/"); !slices.Contains([]string{"cluster", "domain", "service"}, kind) {
		name, _, _ := strings.Cut(text, "@")
		if wanted := aimAtHost(set, text); wanted != nil && set.Service(name) == nil {
			return wanted, nil
		}
		scope = "service/" + text
	}
	s, err := core.Named(set, scope)
	if err != nil {
		return nil, err
	}
	return func(svc *spec.GlobalService, cluster string, _ health.Subject) bool {
		c := set.Cluster(cluster)
		return c != nil && s.Covers(svc.Name, c)
	}, nil
}

// aimAtHost finds the services of a host, the one site of a site's own name, or what a
// hostname stands for; nil: nobody has it.
func aimAtHost(set *spec.Set, text string) func(*spec.GlobalService, string, health.Subject) bool {
	host := strings.ToLower(strings.TrimSuffix(text, "."))
	for stand, name := range set.Hostnames {
		if name == host {
			return func(_ *spec.GlobalService, _ string, have health.Subject) bool { return have.Addr.Addr() == stand }
		}
	}
	var wild *spec.GlobalService
	for _, svc := range set.Services {
		if slices.Contains(svc.Hosts, host) {
			return func(have *spec.GlobalService, _ string, _ health.Subject) bool { return have == svc }
		}
		for _, e := range svc.Endpoints {
			if slices.Contains(svc.SiteHosts(e.Cluster), host) {
				return func(have *spec.GlobalService, cluster string, _ health.Subject) bool {
					return have == svc && cluster == e.Cluster
				}
			}
		}
		for _, h := range svc.Hosts {
			if suffix, ok := strings.CutPrefix(h, "*"); ok && strings.HasSuffix(host, suffix) && wild == nil {
				wild = svc
			}
		}
	}
	if wild == nil {
		return nil
	}
	return func(have *spec.GlobalService, _ string, _ health.Subject) bool { return have == wild }
}
