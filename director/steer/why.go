package steer

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
)

// names lists sites by cluster in the order given: "fra, ams".
func (d *decision) names(sites []int) string {
	parts := make([]string, len(sites))
	for n, i := range sites {
		parts[n] = d.c.sites[i].end.Cluster
	}
	return strings.Join(parts, ", ")
}

func verb(of []int, one, many string) string {
	if len(of) == 1 {
		return one
	}
	return many
}

func percent(n int64) string { return strconv.FormatInt(n, 10) + " %" }

// DrainWhy says who drained a site, until when and why: the sentence of every
// place that shows a drain. It has no clock, so it names the day unless the
// drain begins and ends on the same one.
func DrainWhy(cluster string, o *plan.Override) string {
	var b strings.Builder
	b.WriteString(cluster + " drained by " + o.GetAuthor())
	if o.GetEnd() != nil {
		b.WriteString(" until " + Until(o.GetStart().AsTime(), o.GetEnd().AsTime()))
	}
	if r := o.GetReason(); r != "" {
		b.WriteString(" (" + r + ")")
	}
	return b.String()
}

// Until shows a deadline in UTC: the hour alone if it is on the day of the
// start, else with the date.
func Until(start, end time.Time) string {
	start, end = start.UTC(), end.UTC()
	if y1, m1, d1 := start.Date(); start.Unix() > 0 {
		if y2, m2, d2 := end.Date(); y1 == y2 && m1 == m2 && d1 == d2 {
			return end.Format("15:04 UTC")
		}
	}
	return end.Format("2006-01-02 15:04 UTC")
}

// downText names the first of the site's subjects that are down, and counts the others.
func (s *site) downText(list []health.Subject) string {
	if len(list) == 0 {
		return ""
	}
	text := s.subjectText(list[0])
	if n := len(list) - 1; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}

// subjectText says what is watched, as people know it, and where: "fast :443 at
// 192.0.2.10". What is asked about the site as a whole has no place.
func (s *site) subjectText(sub health.Subject) string {
	where := sub.Addr.Addr().String()
	if s.end.Hostname != "" && spec.IsStandIn(sub.Addr.Addr()) {
		where = s.end.Hostname
	}
	for f := range s.addrs {
		for i := range s.addrs[f] {
			a := &s.addrs[f][i]
			if j := slices.IndexFunc(a.subjects, func(o SubjectOf) bool { return o.Subject == sub }); j >= 0 {
				return a.subjects[j].String() + " at " + where
			}
			if j := slices.IndexFunc(a.soft, func(o SubjectOf) bool { return o.Subject == sub }); j >= 0 {
				return a.soft[j].String()
			}
		}
	}
	if sub == health.Gray(sub.Addr) {
		return "gray failure at " + sub.Addr.String()
	}
	return subjectText(sub, s.end.Hostname)
}

// unwell tells whether healthWhy has something to say.
func (r *Roll) unwell() bool {
	return r.Health == Failed || r.Health == Degraded || len(r.Live) < len(r.All) || r.short != nil
}

// healthWhy says what is wrong with a site in a family; "" when nothing is.
func (s *site) healthWhy(r *Roll) string {
	cluster, down, rule := s.end.Cluster, s.downText(r.Down)+" down", ""
	if r.short != nil {
		rule = " (" + r.short.String() + ")"
	}
	switch {
	case r.Health == Failed:
		return cluster + " failed: " + down + rule
	case len(r.Live) < len(r.All):
		gone := slices.DeleteFunc(slices.Clone(r.All), func(a netip.Addr) bool { return slices.Contains(r.Live, a) })
		text := cluster + " has lost " + gone[0].String()
		if n := len(gone) - 1; n > 0 {
			text += fmt.Sprintf(" and %d more", n)
		}
		return text + ": " + down + rule
	case r.Health == Degraded && len(r.Soft) > 0:
		return cluster + " degraded: " + s.softText(r.Soft)
	case r.Health == Degraded:
		return cluster + " degraded: " + down + rule
	case r.short != nil:
		return cluster + ": " + down + rule
	default:
		return ""
	}
}

// softText names the soft subjects that are down, each once however many addresses it
// is of, as the service asks for them.
func (s *site) softText(list []health.Subject) string {
	var names []string
	for _, sub := range list {
		name := s.subjectText(sub)
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	text := names[0]
	if n := len(names) - 1; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}

// fenceWhy gives one sentence for each residency rule that leaves a site out,
// sorted, so that the order of the rules never shows.
func (d *decision) fenceWhy(f Family, n int) []string {
	if d.fenceWhys[f] == nil {
		d.fenceWhys[f] = make([][]string, len(d.c.fences))
	}
	if d.fenceWhys[f][n] == nil {
		d.fenceWhys[f][n] = append(make([]string, 0, 1), d.leftOut(f, n)...)
	}
	return d.fenceWhys[f][n]
}

func (d *decision) leftOut(f Family, n int) []string {
	fe := &d.c.fences[n]
	var out []string
	for _, r := range fe.rules {
		rule := &d.c.svc.Residency[r]
		var left []int
		for _, i := range d.c.targets[f] {
			if !rule.Allows(d.c.sites[i].cluster) {
				left = append(left, i)
			}
		}
		if len(left) > 0 {
			out = append(out, d.c.rules[r]+": "+d.names(left)+" left out")
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	if fe.unknown && len(out) > 0 {
		out = append([]string{"residency: place not known well enough, so only what every such rule allows"}, out...)
	}
	return out
}
