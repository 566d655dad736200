package director

import (
	"errors"
	"slices"
	"strings"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/dnsserver/zone"
)

// CheckZone holds a zone's static records against the rules of DNS: what the
// spec package cannot, since it knows no record types.
func CheckZone(z *spec.Zone) []spec.Problem { return (*zoneTexts)(nil).check(z) }

// clashes finds what a zone's records and its steered names do to each other: a table
// made of both tells.
func clashes(z *spec.Zone, text zoneText) (out []spec.Problem) {
	trial := answer.Zone{Origin: z.Name + ".", Static: text.static}
	for _, host := range z.Steered {
		_, alias := slices.BinarySearch(z.CNAMEs, host)
		trial.Steered = append(trial.Steered, answer.Steered{Name: host + ".", TTL: 1, Answers: 1, CNAME: alias})
	}
	// The spec package finds these in the text, with their line, as far as they are
	// written by name. A director that has such in its plan leaves them as they are.
	for _, target := range text.hinted {
		if slices.Contains(z.Steered, strings.TrimSuffix(target, ".")) {
			out = append(out, spec.Problem{
				Message: "an HTTPS or SVCB record brings hints of its own for the steered host " + target + " itself",
				Remedy:  "leave ipv4hint and ipv6hint out: a record at the host gets those of each client's answer",
			})
		}
	}
	_, err := answer.Compile(answer.Options{Zones: []answer.Zone{trial}})
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

func zoneSource(z *spec.Zone) zone.Source {
	var aliases []string
	for _, host := range z.CNAMEs {
		aliases = append(aliases, host+".")
	}
	return zone.Source{
		Aliases: aliases,
		Origin:  z.Name, Text: z.Records, Nameservers: z.Nameservers, Hostmaster: z.Hostmaster,
		SOA: zone.Timers{Refresh: z.SOA.Refresh, Retry: z.SOA.Retry, Expire: z.SOA.Expire, Minimum: z.SOA.Minimum},
	}
}

// serialsOf gives the serials of a plan by zone. Those who try another spec have the
// plan's revision for all: it grows with whatever changes what they hold (S13).
func serialsOf(p *plan.Plan, tried bool) func(zone string) uint32 {
	if tried {
		return func(string) uint32 { return uint32(p.GetRevision()) }
	}
	out := make(map[string]uint32, len(p.GetZones()))
	for _, z := range p.GetZones() {
		out[z.GetName()] = z.GetSerial()
	}
	return func(zone string) uint32 { return out[zone] }
}
