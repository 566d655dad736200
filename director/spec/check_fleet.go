package spec

import (
	"fmt"
	"slices"
	"strings"
)

// checkFleet warns of rosters that cannot do what people expect of them.
func (k *checker) checkFleet(o *object) {
	f := o.fleet
	n := len(f.Directors)
	sites := map[string]bool{}
	for _, d := range f.Directors {
		sites[d.Site] = true
	}
	switch {
	case n == 2:
		k.warn(o, "spec.directors", "of two directors both are needed to agree: losing either stops automatic failover", "add a third, if only a witness with dns: {listen: []}")
	case n > 2 && len(sites) == 1:
		k.warn(o, "spec.directors", "all directors are in one site: its failure is taken for everybody else's", "place them in two fault domains or more")
	}
	if n == 0 {
		return
	}
	observers := min(n, 5)
	quorum := observers/2 + 1
	switch {
	case f.QuorumObservers > observers:
		k.fail(o, "spec.quorum.observers", fmt.Sprintf("%d must agree, and a target is probed by %d of %d directors", f.QuorumObservers, observers, n),
			fmt.Sprintf("write at most %d", observers))
	case f.QuorumObservers > 0 && f.QuorumObservers < quorum:
		k.warn(o, "spec.quorum.observers", fmt.Sprintf("%d changes nothing: %d of %d must agree anyway", f.QuorumObservers, quorum, observers), "it may only be raised")
	}
}

// checkCluster warns of API servers that are found through the fleet's own DNS.
func (k *checker) checkCluster(c *Cluster) {
	if c.ControlPlane == nil {
		return
	}
	o := k.object(KindCluster, c.Name)
	for _, u := range c.ControlPlane.Endpoints {
		if z := k.set.ZoneOf(hostOf(u)); z != nil {
			k.warn(o, o.itemPath("spec.controlPlane.endpoints", strings.ToLower(u)), hostOf(u)+" is in zone "+z.Name+" of this fleet: a director would ask itself where it is", "write an address")
		}
	}
}

// checkZone checks what a zone's text says beside the steered hosts, and has it
// read record by record.
func (k *checker) checkZone(z *Zone, check ZoneChecker) {
	o := k.object(KindZone, z.Name)
	before := len(k.problems)
	if check != nil && !o.isBroken("spec.records") && !o.isBroken("spec.nameservers") {
		for _, p := range check(z) {
			k.problems = append(k.problems, o.placed(p))
		}
	}
	said := map[int]int{}
	for i, p := range k.problems[before:] {
		if !p.Warning && p.Line > 0 {
			said[p.Line] = before + i
		}
	}
	// Each record is complained of once: the checker knows more of it, and may
	// lack a remedy.
	for _, p := range slices.Concat(o.text.problems, o.text.conflicts(z)) {
		p = o.placed(p)
		if i, found := said[p.Line]; !found {
			k.problems = append(k.problems, p)
		} else if k.problems[i].Remedy == "" {
			k.problems[i].Remedy = p.Remedy
		}
	}
	k.checkNameservers(o, z)
	k.checkMinimum(o, z)
}

// conflicts finds what static records do to steered hosts.
func (t zoneText) conflicts(z *Zone) []Problem {
	beside := map[string]zoneRecord{} // by owner
	cuts := map[string]zoneRecord{}   // delegations and DNAMEs, by owner
	for _, r := range t.records {
		switch r.kind {
		case "A", "AAAA", "CNAME":
			beside[r.owner] = r
		case "NS", "DNAME":
			if r.owner != z.Name || r.kind == "DNAME" {
				cuts[r.owner] = r
			}
		}
	}
	var problems []Problem
	for _, host := range z.Steered {
		if r, found := beside[host]; found {
			problems = append(problems, Problem{
				Line: r.line, Remedy: "take one of the two out",
				Message: fmt.Sprintf("the %s record of %s stands beside a GlobalService's host of that name", r.kind, r.owner),
			})
		}
		for name := host; len(cuts) > 0 && name != ""; _, name, _ = strings.Cut(name, ".") {
			// A DNAME leaves its own owner alone (RFC 6672 section 2.3).
			if r, found := cuts[name]; found && (r.kind == "NS" || name != host) {
				problems = append(problems, Problem{
					Line: r.line, Remedy: "take one of the two out",
					Message: fmt.Sprintf("the %s record of %s takes the steered host %s away from this zone", r.kind, r.owner, host),
				})
				break
			}
			if name == z.Name {
				break
			}
		}
	}
	return problems
}

func (k *checker) checkNameservers(o *object, z *Zone) {
	addressed := map[string]bool{}
	for _, r := range o.text.records {
		if r.kind == "A" || r.kind == "AAAA" {
			addressed[r.owner] = true
		}
	}
	for i, n := range z.Nameservers {
		if k.set.ZoneOf(n) != z || addressed[n] || slices.Contains(z.Steered, n) {
			continue
		}
		_, parent, _ := strings.Cut(n, ".")
		if addressed["*."+parent] {
			continue
		}
		k.warn(o, item("spec.nameservers", i), n+" has no address in its own zone: resolvers cannot find it", "add an A or AAAA record to spec.records")
	}
}

// checkMinimum warns where "no such record" outlives the records.
func (k *checker) checkMinimum(o *object, z *Zone) {
	c, found := k.shortest[z]
	if z.OwnApex || !found || z.SOA.Minimum <= c.service.TTL {
		return
	}
	ttl := formatDuration(c.service.TTL)
	k.warn(o, "spec.soa.minimum", fmt.Sprintf("resolvers remember for %s that a record is missing, and a record of %s for %s only",
		formatDuration(z.SOA.Minimum), c.host, ttl), "write at most "+ttl)
}
