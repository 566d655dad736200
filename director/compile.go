package director

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/dnsserver"
	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/dnsserver/zone"
)

// CheckZone holds a zone's static records against the rules of DNS: what the
// spec package cannot, since it knows no record types.
func CheckZone(z *spec.Zone) []spec.Problem {
	records, problems := zone.Parse(zoneSource(z, 0))
	out := make([]spec.Problem, 0, len(problems))
	for _, p := range problems {
		out = append(out, spec.Problem{Line: p.Line, Message: p.Message, Warning: p.Warning})
	}
	if zone.Failed(problems) {
		return out
	}
	// A steered name may clash with a static one: a table made of both tells.
	static, err := answer.Pack(z.Name+".", records.List)
	for _, e := range each(err) {
		out = append(out, spec.Problem{Message: e.Error()})
	}
	if err != nil {
		return out
	}
	trial := answer.Zone{Origin: z.Name + ".", Static: static}
	for _, host := range z.Steered {
		_, alias := slices.BinarySearch(z.CNAMEs, host)
		trial.Steered = append(trial.Steered, answer.Steered{Name: host + ".", TTL: 1, Answers: 1, CNAME: alias})
	}
	// The spec package finds these in the text, with their line, as far as they are
	// written by name. A director that has such in its plan leaves them as they are.
	for _, target := range records.Hinted {
		if slices.Contains(z.Steered, strings.TrimSuffix(target, ".")) {
			out = append(out, spec.Problem{
				Message: "an HTTPS or SVCB record brings hints of its own for the steered host " + target + " itself",
				Remedy:  "leave ipv4hint and ipv6hint out: a record at the host gets those of each client's answer",
			})
		}
	}
	_, err = answer.Compile(answer.Options{Zones: []answer.Zone{trial}})
	for _, e := range each(err) {
		out = append(out, spec.Problem{Message: e.Error(), Remedy: "a host of a service has no static A, AAAA or CNAME, and stands under no delegation or DNAME: rename the host, or take the record out"})
	}
	return out
}

// each takes joined errors apart; none of nil.
func each(err error) []error {
	var joined interface{ Unwrap() []error }
	switch {
	case err == nil:
		return nil
	case errors.As(err, &joined):
		return joined.Unwrap()
	default:
		return []error{err}
	}
}

func zoneSource(z *spec.Zone, serial uint32) zone.Source {
	var aliases []string
	for _, host := range z.CNAMEs {
		aliases = append(aliases, host+".")
	}
	return zone.Source{
		Aliases: aliases,
		Origin:  z.Name, Text: z.Records, Nameservers: z.Nameservers, Hostmaster: z.Hostmaster, Serial: serial,
		SOA: zone.Timers{Refresh: z.SOA.Refresh, Retry: z.SOA.Retry, Expire: z.SOA.Expire, Minimum: z.SOA.Minimum},
	}
}

// staticZones parses what does not depend on health or client, each zone with
// the serial that the plan gives it (S13). It serves all that it can read: doubts
// are what CheckZone would refuse here and now, and whoever committed it did not.
func staticZones(set *spec.Set, p *plan.Plan) (out []answer.Zone, doubts []error, err error) {
	serials := serialsOf(p)
	for _, z := range set.Zones {
		records, problems := zone.Parse(zoneSource(z, serials[z.Name]))
		for _, problem := range problems {
			if !problem.Warning {
				doubts = append(doubts, fmt.Errorf("zone %s: %s", z.Name, problem))
			}
		}
		static, err := answer.Pack(z.Name+".", records.List)
		if err != nil {
			return nil, nil, fmt.Errorf("zone %s: %w", z.Name, errors.Join(append(doubts, err)...))
		}
		dnsserver.LargePages(static)
		out = append(out, answer.Zone{Origin: z.Name + ".", Static: static, Serial: serials[z.Name]})
	}
	return out, doubts, nil
}

// serialsOf gives the serials of a plan by zone.
func serialsOf(p *plan.Plan) map[string]uint32 {
	out := make(map[string]uint32, len(p.GetZones()))
	for _, z := range p.GetZones() {
		out[z.GetName()] = z.GetSerial()
	}
	return out
}
