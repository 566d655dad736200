package director

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/resolve"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health/probe"
)

// newResolver makes what keeps the addresses of hostnames. When they change, the loop
// describes anew what they are in, and the disk gets them.
func (d *Director) newResolver() *resolve.Resolver {
	return resolve.New(resolve.Options{
		Servers: d.settings.Resolvers, Permit: permitted(d.settings.Probe.Allow), Log: d.log, Registerer: d.registry,
		Changed: func(first bool) {
			d.loop.renamed.Store(true)
			d.loop.wakeup.up()
			d.saver.resolved(first)
			d.changes.tell()
		},
	})
}

// permitted says why what a hostname resolves to may not be used: as the prober does,
// and besides where it would be the stand-in of some hostname, which nobody may be sent
// to. Whoever owns a name could work out another's.
func permitted(allow []netip.Prefix) func(netip.Addr) error {
	permit := probe.Permit(allow)
	return func(a netip.Addr) error {
		if spec.IsStandIn(a) {
			return fmt.Errorf("%s is in 100::/64, the prefix for discarding (RFC 6666)", a)
		}
		return permit(a)
	}
}

// lookup gives the prober the addresses of a hostname.
func (d *Director) lookup(hostname string) []netip.Addr {
	if r := d.resolver.Records(hostname); r != nil {
		return r.All()
	}
	return nil
}

// restoreNames takes what hostnames resolved to from the disk. What cannot be read is
// found out again.
func restoreNames(r *resolve.Resolver, saved []byte, log *slog.Logger) {
	if err := r.Restore(saved); err != nil {
		log.Warn("what hostnames resolved to in the last good state is not used", slog.Any("err", err))
	}
}

// learn asks for the hostnames that a plan would be the first to answer by, before it
// is in force: what is not known then is answered by the other sites alone.
func learn(ctx context.Context, r *resolve.Resolver, f *inForce) {
	if names := flattened(f.spec); len(names) > 0 {
		r.Learn(ctx, names)
	}
}

// hostnames lists all hostnames of some specs: what is probed needs their addresses,
// however the hosts are answered.
func hostnames(sets ...*spec.Set) []string {
	var out []string
	for _, set := range sets {
		for _, name := range set.Hostnames {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// flattened lists those whose addresses stand in answers.
func flattened(set *spec.Set) []string {
	if len(set.Hostnames) == 0 {
		return nil
	}
	var out []string
	for _, svc := range set.Services {
		out = append(out, flattenedOf(svc)...)
	}
	return out
}

// flattenedOf lists those of a service, in the order of its endpoints.
func flattenedOf(svc *spec.GlobalService) []string {
	if svc.CNAME {
		return nil
	}
	var out []string
	for i := range svc.Endpoints {
		if name := svc.Endpoints[i].Hostname; name != "" {
			out = append(out, name)
		}
	}
	return out
}

// hostnameView shows what a hostname resolves to.
func hostnameView(r *resolve.Resolver, name string) *api.Hostname {
	out := &api.Hostname{Hostname: name, Addresses: []string{}}
	s, ok := r.Status(name)
	if !ok {
		out.Problem = "it is not asked for"
		return out
	}
	for _, a := range s.Addresses {
		out.Addresses = append(out.Addresses, a.String())
	}
	if !s.Resolved.IsZero() {
		out.At = &s.Resolved
	}
	out.TTL, out.Problem, out.Gone, out.Stale = uint32(s.TTL/time.Second), s.Problem, s.Gone, s.Stale
	return out
}

// staleNames alarms of what was not resolved for an hour; and at once where clients get
// nothing of a site that may be up: by a CNAME to a name that does not exist, or since
// no address of a name to flatten was ever known, as where it is mistyped.
func staleNames(svc api.Service, cname bool, now time.Time) (alerts []string) {
	by := "its last good addresses serve"
	if cname {
		by = "it is probed by its last good addresses"
	}
	for _, site := range svc.Sites {
		for _, a := range site.Addresses {
			r := a.Resolved
			switch {
			case r == nil:
			case cname && r.Gone:
				alerts = append(alerts, fmt.Sprintf("%s: %s does not exist (NXDOMAIN), and clients are sent there by a CNAME", svc.Name, r.Hostname))
			case !cname && nowhere(r) && r.Problem != "":
				alerts = append(alerts, fmt.Sprintf("%s: no address of %s is known, so %s serves nobody: %s", svc.Name, r.Hostname, site.Cluster, r.Problem))
			case !r.Stale:
			case r.At == nil:
				alerts = append(alerts, fmt.Sprintf("%s: %s never resolved: %s", svc.Name, r.Hostname, r.Problem))
			default:
				alerts = append(alerts, fmt.Sprintf("%s: %s was last resolved %s ago, and %s: %s", svc.Name, r.Hostname, spec.FormatDuration(now.Sub(*r.At).Round(time.Minute)), by, r.Problem))
			}
		}
	}
	return alerts
}

// nowhere tells that no address of a hostname is known.
func nowhere(r *api.Hostname) bool { return len(r.Addresses) == 0 }

// markAbsent marks the sites that nobody is sent to since no address of them is known.
func markAbsent(svc *api.Service) {
	for i := range svc.Sites {
		site := &svc.Sites[i]
		site.Serving = site.Serving && !slices.ContainsFunc(site.Addresses, func(a api.Address) bool { return a.Resolved != nil && nowhere(a.Resolved) })
	}
}

// markInstead marks the sites that answer since no chosen one has an address, and
// alarms of those that nobody would expect to (S1, S6).
func markInstead(svc *api.Service, by [2][]string) (alerts []string) {
	for f, clusters := range by {
		for i := range svc.Sites {
			site := &svc.Sites[i]
			if !slices.Contains(clusters, site.Cluster) {
				continue
			}
			site.Serving = true
			what := ""
			switch {
			case site.Drained != "":
				what = "drained "
			case site.Health == steer.Failed.String():
				what = "failed "
			default:
				continue
			}
			alerts = append(alerts, fmt.Sprintf("%s: %s: %s%s serves: no site that was chosen has an address that its hostname resolves to here", svc.Name, steer.Family(f), what, site.Cluster))
		}
	}
	return alerts
}

// passedOver says which of the chosen sites have no address that is known, so that
// one after them answers.
func (d *Director) passedOver(set *spec.Set, svc *steer.Service, chosen *steer.Set, aaaa bool, answered []string) (steps []string) {
	f := steer.IPv4
	if aaaa {
		f = steer.IPv6
	}
	for _, c := range chosen.Choices {
		list := svc.Addrs(f, &c)
		if len(list) != 1 || set.Hostname(list[0]) == "" {
			continue
		}
		name := set.Hostname(list[0])
		r := d.resolver.Records(name)
		switch {
		case r == nil || !r.Known[f]:
			steps = append(steps, fmt.Sprintf("hostname: %s of %s is not resolved here yet", name, c.Cluster))
		case len(r.Addrs[f]) == 0:
			steps = append(steps, fmt.Sprintf("hostname: %s of %s has no %s address", name, c.Cluster, f))
		}
	}
	if len(steps) > 0 && len(answered) > 0 && !slices.ContainsFunc(chosen.Choices, func(c steer.Choice) bool { return slices.Contains(answered, c.Cluster) }) {
		steps = append(steps, "hostname: none of these sites has an address, so the next that residency allows answers: "+join(answered))
	}
	return steps
}
