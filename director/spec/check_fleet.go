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
	if o.records == nil && o.root.get("spec").get("records") != nil {
		return // unread: whatever it holds is unknown
	}
	conflicts, hosts := o.text.conflicts(z)
	said := map[int]int{} // line of the text -> what the checker says of it
	if check != nil && !o.isBroken("spec.records") && !o.isBroken("spec.nameservers") {
		// The conflicts found here are said better here, with their line.
		rest := *z
		rest.Steered = slices.DeleteFunc(slices.Clone(z.Steered), func(host string) bool { return slices.Contains(hosts, host) })
		for _, p := range check(&rest) {
			if p.Line == 0 && p.Warning && !z.OwnApex {
				continue // of the name servers in the fields: see checkNameservers
			}
			if !p.Warning && p.Line > 0 {
				said[p.Line] = len(k.problems)
			}
			k.problems = append(k.problems, o.placed(p))
		}
	}
	// Each record is complained of once: the checker knows more of it, and may
	// lack a remedy.
	for _, p := range slices.Concat(o.text.problems, conflicts) {
		if i, found := said[p.Line]; !found {
			k.problems = append(k.problems, o.placed(p))
		} else if k.problems[i].Remedy == "" {
			k.problems[i].Remedy = p.Remedy
		}
	}
	for _, i := range said {
		switch p := &k.problems[i]; {
		case p.Remedy != "":
		case strings.Contains(p.Message, "$"):
			p.Remedy = "correct this directive, or write its records out"
		default:
			p.Remedy = "correct this record: its name, TTL if any, type and data; names without a last dot end in ." + z.Name
		}
	}
	k.checkShadowed(o, z)
	k.checkNameservers(o, z)
	k.checkMinimum(o, z)
}

// checkShadowed warns of records that another zone of the fleet hides, since it
// answers for their names. A delegation to it, with glue, may stand.
func (k *checker) checkShadowed(o *object, z *Zone) {
	if !slices.ContainsFunc(k.set.Zones, func(other *Zone) bool { return strings.HasSuffix(other.Name, "."+z.Name) }) {
		return
	}
	delegated := map[string]bool{}
	for r := range o.text.records {
		if r.kind == "NS" && k.set.Zone(r.owner) != nil {
			delegated[r.owner] = true
		}
	}
	for r := range o.text.records {
		if in := k.set.ZoneOf(r.owner); in != nil && in != z && !delegated[in.Name] && strings.HasSuffix(in.Name, "."+z.Name) {
			k.problems = append(k.problems, o.placed(Problem{
				Line: r.line, Message: "the " + r.kind + " record of " + r.owner + " is never served: zone " + in.Name + " of this fleet answers for it",
				Remedy: "move it there", Warning: true,
			}))
		}
	}
}

// conflicts finds what static records do to steered hosts, and to which.
func (t *zoneText) conflicts(z *Zone) (problems []Problem, hosts []string) {
	if len(z.Steered) == 0 {
		return nil, nil
	}
	beside := map[string]zoneRecord{} // by owner; of the hosts alone, since a zone may have a million owners
	cuts := map[string]zoneRecord{}   // delegations and DNAMEs, by owner; of what is above hosts alone
	above := map[string]bool{}
	for _, host := range z.Steered {
		for name := host; name != "" && !above[name]; _, name, _ = strings.Cut(name, ".") {
			above[name] = true
		}
	}
	for r := range t.records {
		if _, alias := slices.BinarySearch(z.CNAMEs, r.owner); alias && r.kind != "NS" {
			beside[r.owner] = r
		}
		switch r.kind {
		case "A", "AAAA", "CNAME":
			if _, steered := slices.BinarySearch(z.Steered, r.owner); steered {
				beside[r.owner] = r
			}
		case "NS", "DNAME":
			if above[r.owner] && (r.owner != z.Name || r.kind == "DNAME") {
				cuts[r.owner] = r
			}
		}
	}
	for _, host := range z.Steered {
		if r, found := beside[host]; found {
			hosts = append(hosts, host)
			p := Problem{
				Line: r.line, Remedy: "take one of the two out",
				Message: fmt.Sprintf("the %s record of %s stands beside a GlobalService's host of that name", r.kind, r.owner),
			}
			if _, alias := slices.BinarySearch(z.CNAMEs, host); alias && r.kind != "A" && r.kind != "AAAA" && r.kind != "CNAME" {
				p.Message += ", whose endpoints are hostnames: it has a CNAME, and beside that nothing (RFC 1034 section 3.6.2)"
				p.Remedy = "take the record out, or write in the GlobalService " + remedyAlias
			}
			problems = append(problems, p)
		}
		for name := host; len(cuts) > 0 && name != ""; _, name, _ = strings.Cut(name, ".") {
			// A DNAME leaves its own owner alone (RFC 6672 section 2.3).
			if r, found := cuts[name]; found && (r.kind == "NS" || name != host) {
				hosts = append(hosts, host)
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
	for r := range t.records {
		if r.hinted != "" && slices.Contains(z.Steered, r.hinted) {
			hosts = append(hosts, r.hinted)
			problems = append(problems, Problem{
				Line:    r.line,
				Message: fmt.Sprintf("the %s record of %s brings hints of its own for the steered host %s, which would send clients where steering does not", r.kind, r.owner, r.hinted),
				Remedy:  "leave ipv4hint and ipv6hint out: a record at the host itself gets those of each client's answer",
			})
		}
	}
	return problems, hosts
}

func (k *checker) checkNameservers(o *object, z *Zone) {
	addressed := map[string]bool{} // what gives a name server its address
	for _, n := range z.Nameservers {
		_, parent, _ := strings.Cut(n, ".")
		addressed[n], addressed["*."+parent] = false, false
	}
	if len(addressed) == 0 {
		return
	}
	for r := range o.text.records {
		if r.kind == "A" || r.kind == "AAAA" {
			if _, wanted := addressed[r.owner]; wanted {
				addressed[r.owner] = true
			}
		}
	}
	for i, n := range z.Nameservers {
		if in := k.set.ZoneOf(n); in != nil && slices.Contains(in.CNAMEs, n) {
			k.fail(o, item("spec.nameservers", i), n+" is answered by a CNAME, since the endpoints of its service are hostnames: the name of a name server must be no alias (RFC 2181 section 10.3)",
				"name one that has addresses")
			continue
		}
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
	ttl := FormatDuration(c.service.TTL)
	k.warn(o, "spec.soa.minimum", fmt.Sprintf("resolvers remember for %s that a record is missing, and a record of %s for %s only",
		FormatDuration(z.SOA.Minimum), c.host, ttl), "write at most "+ttl)
}
