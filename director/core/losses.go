package core

import (
	"fmt"
	"slices"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
)

// maxLoss is the share of a source's endpoints, in per cent, that may go without
// a person's word (S19).
const maxLoss = 25

// losses lists what a new spec takes away that S19 leaves to a person: a
// service's last address, of a family too, and more than a quarter of the
// endpoints.
func losses(old, next *spec.Set) []string {
	var out []string
	if old == nil {
		return nil
	}
	total, gone := 0, 0
	for _, svc := range old.Services {
		was, now := targets(old, svc.Name), targets(next, svc.Name)
		for _, e := range was {
			total++
			if !hasEndpoint(now, e.Cluster) {
				gone++
			}
		}
		before, after := families(was), families(now)
		switch {
		case before == [2]bool{}:
		case after == [2]bool{}:
			out = append(out, fmt.Sprintf("service %s loses its last address", svc.Name))
		default:
			for f := range before {
				if before[f] && !after[f] {
					out = append(out, fmt.Sprintf("service %s loses its last %s address", svc.Name, steer.Family(f)))
				}
			}
		}
	}
	if gone*100 > total*maxLoss {
		out = append(out, fmt.Sprintf("%d of %d endpoints go, more than %d %%", gone, total, maxLoss))
	}
	return out
}

// targets are the endpoints that a service can ever answer with: those in
// clusters of its environment. A service that is not there has none.
func targets(set *spec.Set, service string) []*spec.Endpoint {
	svc := set.Service(service)
	if svc == nil {
		return nil
	}
	var out []*spec.Endpoint
	for i := range svc.Endpoints {
		if c := set.Cluster(svc.Endpoints[i].Cluster); c != nil && c.Environment == svc.Environment {
			out = append(out, &svc.Endpoints[i])
		}
	}
	return out
}

func hasEndpoint(ends []*spec.Endpoint, cluster string) bool {
	return slices.ContainsFunc(ends, func(e *spec.Endpoint) bool { return e.Cluster == cluster })
}

// families tells which address families endpoints have; a hostname is taken to have
// both.
func families(ends []*spec.Endpoint) [2]bool {
	var out [2]bool
	for _, e := range ends {
		for _, a := range e.Watched() {
			for f := range out {
				out[f] = out[f] || steer.Family(f).Has(a)
			}
		}
	}
	return out
}

// holdBack divides what a folder may apply once more: whatever takes away too
// much waits for a person, the rest goes on. A folder removes no resource, so
// services that lose endpoints or addresses are looked at first; where it is
// not these alone (a cluster changes its environment), all of it waits.
func holdBack(doc *plan.SpecDoc, apply []spec.Raw) (safe, dangerous []spec.Raw) {
	old, problems := spec.Resolve(Raws(doc))
	if old == nil || spec.Failed(problems) {
		return apply, nil // nothing in force to lose by
	}
	dangerousTogether := func(raws []spec.Raw) bool {
		next, _ := spec.Resolve(Raws(merge(doc, raws)))
		return next != nil && len(losses(old, next)) > 0
	}
	if !dangerousTogether(apply) {
		return apply, nil
	}
	for _, r := range apply {
		now := objectOf(doc, r.Kind, r.Name)
		if r.Kind == spec.KindGlobalService && now != nil && shrinks(old, doc, r) {
			dangerous = append(dangerous, r)
			continue
		}
		safe = append(safe, r)
	}
	if dangerousTogether(safe) {
		return nil, apply
	}
	return safe, dangerous
}

// shrinks tells whether a service's new form has lost an endpoint or a family.
func shrinks(old *spec.Set, doc *plan.SpecDoc, r spec.Raw) bool {
	before := targets(old, r.Name)
	next, _ := spec.Resolve(Raws(merge(doc, []spec.Raw{r})))
	if len(before) == 0 || next == nil {
		return len(before) > 0
	}
	after := targets(next, r.Name)
	for _, e := range before {
		if !hasEndpoint(after, e.Cluster) {
			return true
		}
	}
	x, y := families(before), families(after)
	return x[0] && !y[0] || x[1] && !y[1]
}
