package core

import (
	"fmt"

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
		now := serviceOf(next, svc.Name)
		for i := range svc.Endpoints {
			total++
			if now == nil || !hasEndpoint(now, svc.Endpoints[i].Cluster) {
				gone++
			}
		}
		before, after := families(svc), families(now)
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

func hasEndpoint(svc *spec.GlobalService, cluster string) bool {
	for i := range svc.Endpoints {
		if svc.Endpoints[i].Cluster == cluster {
			return true
		}
	}
	return false
}

// families tells which address families a service has; nil has none.
func families(svc *spec.GlobalService) [2]bool {
	var out [2]bool
	if svc == nil {
		return out
	}
	for i := range svc.Endpoints {
		for _, a := range svc.Endpoints[i].Addresses {
			out[steer.FamilyOf(a)] = true
		}
	}
	return out
}

// holdBack divides what a folder may apply once more: whatever takes away too
// much waits for a person, the rest goes on. A folder removes no resource, so
// only services that lose endpoints or addresses can.
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
	before := serviceOf(old, r.Name)
	next, _ := spec.Resolve(Raws(merge(doc, []spec.Raw{r})))
	if before == nil || next == nil {
		return before != nil
	}
	after := serviceOf(next, r.Name)
	if after == nil {
		return true
	}
	for i := range before.Endpoints {
		if !hasEndpoint(after, before.Endpoints[i].Cluster) {
			return true
		}
	}
	x, y := families(before), families(after)
	return x[0] && !y[0] || x[1] && !y[1]
}
