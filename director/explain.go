package director

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/dnsserver/geo"
)

// Explain says what a client is told for a host, and why: the answer by the
// table that serves, the reasons by the decision that it was compiled from.
func (d *Director) Explain(host, client string) (api.Explanation, error) {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	asker, err := parseClient(client)
	if err != nil {
		return api.Explanation{}, &core.Refusal{Reason: fmt.Sprintf("client %q is neither an address nor a prefix", client), Remedy: "give one like 81.2.69.142 or 2001:db8::/48"}
	}
	var f *inForce
	var table *answer.Table
	var decision steer.Decision
	var ground *geo.Table
	var evidence []siteEvidence
	ctx, cancel := context.WithTimeout(context.Background(), statusPatience)
	defer cancel()
	// All at one instant: a plan that comes between may bring a service.
	err = d.loop.inspect(ctx, func(now time.Time) {
		f, table, decision, ground = d.horizon.current(), d.table.Load(), d.loop.decision, d.loop.earth.Load().table
		if f == nil {
			return
		}
		if svc, _ := find(f.spec, decision, host); svc != nil {
			evidence = d.loop.evidence(f, svc, now)
		}
	})
	if err != nil {
		return api.Explanation{}, err
	}
	if f == nil {
		return api.Explanation{}, errNoPlan
	}
	out := api.Explanation{Host: host, Client: client, Plan: fmt.Sprintf("%d.%d", f.sealed.Identity.Epoch, f.sealed.Identity.Revision)}
	svc, site := find(f.spec, decision, host)
	if svc == nil {
		return api.Explanation{}, &core.Refusal{Reason: host + " is not the host of any service", Remedy: "`divert status` lists them"}
	}
	out.Service = svc.Name
	// The table that answers has merged places. What the whole one says is shown.
	place, _ := ground.Lookup(asker.Addr())
	out.Place, out.Geo = placeName(ground.Places()[place]), ground.Origin().String()
	out.Answers = answersOf(f.spec, table, svc, site, host, asker, d.loop.now(), func(set *steer.Set, aaaa bool, clusters []string) []string {
		return d.passedOver(f.spec, svc, set, aaaa, clusters)
	})
	def := f.spec.Service(svc.Name)
	for i := range def.Endpoints {
		if name := def.Endpoints[i].Hostname; name != "" {
			out.Hostnames = append(out.Hostnames, *hostnameView(d.resolver, name))
		}
	}
	out.Evidence = proved(evidence, d.loop.verify())
	if len(out.Answers) == 0 {
		return api.Explanation{}, errors.New(host + " has no address")
	}
	return out, nil
}

// answersOf says what a table answers about a host of a service, or of its one site,
// and why; passedOver says, of hostnames that are flattened, who was passed over.
func answersOf(set *spec.Set, table *answer.Table, svc *steer.Service, site *steer.SiteView, host string, asker netip.Prefix, now time.Time,
	passedOver func(set *steer.Set, aaaa bool, clusters []string) []string,
) (out []api.Family) {
	for _, aaaa := range []bool{false, true} {
		view := svc.V4
		if aaaa {
			view = svc.V6
		}
		if site != nil {
			view = site.V4
			if aaaa {
				view = site.V6
			}
		}
		if len(view.Sets) == 0 {
			continue
		}
		trace, ok := table.Trace(host+".", aaaa, asker)
		if !ok || trace.Set < 0 {
			continue
		}
		chosen := view.For(trace.Prefix, trace.Place)
		out = append(out, family(aaaa, trace, chosen, svc, now))
		if last := &out[len(out)-1]; set.Service(svc.Name).Flattened() {
			last.Steps = append(last.Steps, passedOver(chosen, aaaa, last.Clusters)...)
		}
		if set.Service(svc.Name).CNAME { // the one answer to every type
			out[0].Type = "CNAME"
			break
		}
	}
	return out
}

func family(aaaa bool, trace answer.Trace, set *steer.Set, svc *steer.Service, now time.Time) api.Family {
	kind, f := "A", steer.IPv4
	if aaaa {
		kind, f = "AAAA", steer.IPv6
	}
	out := api.Family{
		Type: kind, TTL: trace.Left(now), Scope: trace.Scope, Steps: svc.Why(f, set), Addresses: []string{}, Clusters: []string{},
	}
	for _, p := range trace.Picks {
		if p.Target != "" {
			out.Addresses = append(out.Addresses, strings.TrimSuffix(p.Target, "."))
		} else {
			out.Addresses = append(out.Addresses, p.Addr.String())
		}
		out.Clusters = append(out.Clusters, p.Cluster)
	}
	return out
}

// find gives the service that owns a host, and the site if the host is one
// site's own name.
func find(set *spec.Set, decision steer.Decision, host string) (*steer.Service, *steer.SiteView) {
	for i := range decision.Services {
		svc := &decision.Services[i]
		if slices.Contains(svc.Hosts, host) {
			return svc, nil
		}
		for j := range svc.SiteViews {
			if slices.Contains(set.Service(svc.Name).SiteHosts(svc.SiteViews[j].Cluster), host) {
				return svc, &svc.SiteViews[j]
			}
		}
	}
	// A wildcard serves what no nearer name does.
	for i := range decision.Services {
		svc := &decision.Services[i]
		for _, h := range svc.Hosts {
			if suffix, ok := strings.CutPrefix(h, "*"); ok && strings.HasSuffix(host, suffix) {
				return svc, nil
			}
		}
	}
	return nil, nil
}

// parseClient reads an address or a prefix; "" is a client of unknown place.
func parseClient(s string) (netip.Prefix, error) {
	if s == "" {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 32), nil
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return a.Prefix(a.BitLen())
}
