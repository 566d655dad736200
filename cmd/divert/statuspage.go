package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
)

// statusPage draws a status for people, in 80 to 120 columns.
func (a *app) statusPage(s api.Status, verbose bool) string {
	p := &page{width: a.width(), colour: a.colour}
	a.head(p, s)
	if len(s.Alerts)+len(s.Problems) > 0 {
		p.heading("ALERTS")
		for _, alert := range slices.Concat(s.Alerts, s.Problems) {
			p.wrapped(2, "! ", bad, alert)
		}
	}
	if len(s.Clusters) > 0 {
		p.heading("CLUSTERS")
		p.table(2, []string{"NAME", "FAULT DOMAIN", "PLACE", "OBSERVED", "DRAINED", "SERVES", "CONTROL PLANE"}, a.clusterRows(s))
	}
	if len(s.Services) > 0 {
		p.heading("SERVICES")
		for i, svc := range s.Services {
			if i > 0 {
				p.line("")
			}
			a.service(p, s, svc, verbose)
		}
	}
	if len(s.Pools) > 0 {
		p.heading("CAPACITY")
		p.table(2, []string{"OF", "LOAD", "CAPACITY", "USED", "TARGET", "KEEPS"}, poolRows(s.Pools))
	}
	if len(s.Directors) > 0 {
		p.heading("DIRECTORS")
		p.table(2, []string{"NAME", "SITE", "STANDING", "HEARD", "PLAN", "DNS"}, directorRows(s, false))
	}
	if len(s.Overrides) > 0 {
		p.heading("OVERRIDES")
		p.table(2, []string{"KIND", "SCOPE", "BY", "ENDS", "REASON"}, a.overrideRows(s))
	}
	if rules := tight(s.Interlocks); len(rules) > 0 {
		p.heading("INTERLOCKS")
		p.table(2, []string{"NAME", "STATE", "RULE"}, interlockRows(rules, false))
		if more := len(s.Interlocks) - len(rules); more > 0 {
			p.line(fmt.Sprintf("  and %d more that forbid nothing now: `divert interlock`", more))
		}
	}
	if s.Policy != nil {
		p.heading("POLICY")
		policyPage(p, 2, s.Policy, s.Now)
	}
	if s.Rollout != nil {
		p.heading("ROLLOUT")
		a.rollout(p, 2, s.Rollout)
	}
	if len(s.Pending) > 0 {
		p.heading("PENDING")
		p.wrapped(2, "", plain, "This director's own spec folder differs from the plan. Nothing of it is applied until a person says so with `divert apply`:")
		const most = 20
		changes(p, 2, s.Pending[:min(most, len(s.Pending))])
		if more := len(s.Pending) - most; more > 0 {
			p.line(fmt.Sprintf("  and %d more", more))
		}
	}
	return p.b.String()
}

// head says who speaks, from which plan, and whether it can be acted upon.
func (a *app) head(p *page, s api.Status) {
	parts := []string{p.paint(bold, clean(s.Director))}
	if s.Plan != nil {
		parts = append(parts, fmt.Sprintf("plan %d.%d by %s, %s", s.Plan.Epoch, s.Plan.Revision, clean(s.Plan.Writer), ago(s.Now.Sub(s.Plan.Written))))
	} else {
		parts = append(parts, "no plan")
	}
	if s.Leader != "" {
		parts = append(parts, "leader "+clean(s.Leader))
	} else {
		parts = append(parts, "no leader known")
	}
	if s.Store == "ok" {
		parts = append(parts, "store ok")
	}
	parts = append(parts, a.clock(s.Now))
	p.line(strings.Join(parts, "  ·  "))
	q := s.Quorum
	if q.Directors > 1 || q.Directors > 0 && q.Note == "" {
		p.wrapped(0, "", plain, fmt.Sprintf("quorum: %d of %s of a target must agree, from %s; hears %d of %s",
			q.Needed, count(q.Observers, "observer"), count(q.Domains, "fault domain"), q.Hears, count(q.Directors, "director")))
	}
	if q.Note != "" {
		p.wrapped(0, "", warn, q.Note)
	}
	if s.Geo != nil {
		p.wrapped(0, "", plain, "geo: "+ground(*s.Geo, s.Now))
	}
	if s.Waiting != "" && s.Waiting != s.Store {
		p.wrapped(0, "WAITING  ", warn, s.Waiting)
	}
	if s.Store != "ok" && s.Store != "" {
		text := s.Store
		also := "answers, failover and return go on"
		if s.Plan == nil {
			also = "no plan is in hand: every query is answered REFUSED"
		}
		if !strings.Contains(text, "go on, commands are refused") { // as older directors say
			text += "; " + also
		}
		if !strings.Contains(text, "commands are refused") {
			text += ", commands are refused"
		}
		p.wrapped(0, "STORE  ", bad, text)
	}
	if s.Isolated {
		p.wrapped(0, "ISOLATED  ", bad, "hears too few directors: moves nothing and answers what it last knew")
	}
	if s.Abstaining != "" {
		p.wrapped(0, "ABSTAINING  ", warn, "does not vote: "+s.Abstaining)
	}
	if s.Behind {
		p.wrapped(0, "BEHIND  ", warn, "answers from an older plan than the newest known")
	}
	if f := s.Frozen; f != nil {
		text := fmt.Sprintf("nothing moves by itself, by %s: %s", f.Author, f.Reason)
		if f.End != nil {
			text += ", until " + a.clock(*f.End)
		}
		p.wrapped(0, "FROZEN  ", warn, text)
	}
}

// ground says by what clients are placed, and how old that is.
func ground(g api.Geo, now time.Time) string {
	out := g.Name
	if g.Built != nil {
		out += " of " + g.Built.UTC().Format(time.DateOnly)
		if days := int(now.Sub(*g.Built) / (24 * time.Hour)); days > 0 {
			out += ", " + count(days, "day") + " old"
		}
	}
	return out + ", " + g.Hash
}

func healthCell(h string) cell {
	switch h {
	case "healthy":
		return cell{h, good}
	case "degraded":
		return cell{h, warn}
	case "failed":
		return cell{h, bad}
	default:
		return cell{clean(h), dim}
	}
}

// drainedCell keeps the column narrow; who, why and until when are a remark.
func drainedCell(drained, paced string) cell {
	switch {
	case drained != "":
		return cell{"drained", warn}
	case paced != "":
		return cell{"in steps", warn}
	default:
		return cell{}
	}
}

func remarks(pairs ...cell) []cell {
	return slices.DeleteFunc(pairs, func(c cell) bool { return c.text == "" })
}

// labelled is empty where the text is.
func labelled(label, text string, s style) cell {
	if text == "" {
		return cell{}
	}
	return cell{label + text, s}
}

// drain says who drained and why: nothing where the site's own sentence says it
// already. What names no override is shown as it came.
func (a *app) drain(s api.Status, drained, why string) cell {
	i := slices.IndexFunc(s.Overrides, func(o api.Override) bool { return o.ID == drained })
	switch {
	case i < 0:
		return labelled("drained: ", drained, plain)
	case strings.Contains(why, "drained"):
		return cell{}
	}
	o := s.Overrides[i]
	text := "drained by " + o.Author
	if o.End != nil {
		text += " until " + a.clock(*o.End)
	}
	return cell{text + " (" + o.Reason + ")", plain}
}

func (a *app) clusterRows(s api.Status) []row {
	rows := make([]row, 0, len(s.Clusters))
	for _, c := range s.Clusters {
		plane, detail := cell{}, ""
		if c.ControlPlane != "" {
			head, rest, cut := strings.Cut(c.ControlPlane, ":")
			plane = cell{clean(head), good}
			if head != "ok" {
				plane.style = warn
			}
			if cut {
				detail = strings.TrimSpace(rest)
			}
		}
		serves := cell{text: fmt.Sprintf("%d of %d", c.Serving, c.Endpoints)}
		if c.Serving == 0 && c.Endpoints > 0 {
			serves.style = warn
		}
		rows = append(rows, row{
			cells:   []cell{text(c.Name), text(c.FaultDomain), text(c.Location), healthCell(c.Health), drainedCell(c.Drained, c.Paced), serves, plane},
			remarks: remarks(a.drain(s, c.Drained, c.Why), labelled("", c.Why, plain), labelled("control plane: ", detail, plain)),
		})
	}
	return rows
}

func (a *app) service(p *page, s api.Status, svc api.Service, verbose bool) {
	title := fmt.Sprintf("  %s  %s  %s", p.paint(bold, clean(svc.Name)), clean(svc.Policy), clean(hosts(svc.Hosts)))
	if svc.Observing {
		title += "  " + p.paint(warn, "observes only")
	}
	p.line(title)
	for _, alert := range svc.Alerts {
		if !slices.Contains(s.Alerts, svc.Name+": "+alert) { // it is above already
			p.wrapped(4, "! ", bad, alert)
		}
	}
	rows := make([]row, 0, len(svc.Sites))
	for _, site := range svc.Sites {
		serves := cell{"yes", good}
		switch {
		case !site.Serving:
			serves = cell{"no", dim}
		case site.Share > 0:
			serves = cell{fmt.Sprintf("%d %%", site.Share), warn}
		case site.Kept > 0:
			serves = cell{fmt.Sprintf("%d %%", site.Kept), warn}
		}
		notes := remarks(a.drain(s, site.Drained, site.Why), labelled("", site.Why, plain), labelled("returns: ", site.Returns, warn))
		if verbose {
			notes = append(notes, detection(site.Detection)...)
		}
		rows = append(rows, row{
			cells:   []cell{text(site.Cluster), healthCell(site.Health), drainedCell(site.Drained, site.Paced), serves, text(addresses(site.Addresses))},
			remarks: slices.Concat(notes, a.hostnames(s, site), a.subjects(site, verbose)),
		})
	}
	p.table(4, []string{"SITE", "OBSERVED", "DRAINED", "SERVES", "ADDRESSES"}, rows)
}

// poolRows says how busy the sites are that have a capacity.
func poolRows(pools []api.Pool) []row {
	rows := make([]row, 0, len(pools))
	for _, v := range pools {
		load, used := text("unknown"), cell{"unknown", dim}
		if !v.Unknown {
			load, used = text(strconv.FormatFloat(v.Load, 'f', -1, 64)), cell{fmt.Sprintf("%d %%", v.Used), good}
			switch {
			case v.Used > 100:
				used.style = bad
			case v.Used > v.Target:
				used.style = warn
			}
		}
		keeps := text("all")
		switch {
		case v.Keeps > 0 && v.Refuses > 0:
			keeps = cell{fmt.Sprintf("%d %%, and takes %d %% of others'", v.Keeps, 100-v.Refuses), warn}
		case v.Keeps > 0:
			keeps = cell{fmt.Sprintf("%d %%", v.Keeps), warn}
		case v.Refuses > 0:
			keeps = cell{fmt.Sprintf("all, and takes %d %% of others'", 100-v.Refuses), warn}
		}
		rows = append(rows, row{cells: []cell{text(v.Pool), load, text(strconv.FormatInt(v.Capacity, 10)), used, text(fmt.Sprintf("%d %%", v.Target)), keeps}})
	}
	return rows
}

// detection says how soon faults of a site are seen.
func detection(d *api.Detection) []cell {
	var out []cell
	if d == nil {
		return nil
	}
	within := func(what string, seconds float64) {
		if seconds > 0 {
			out = append(out, cell{fmt.Sprintf("%s is agreed upon within %.1f s", what, seconds), dim})
		}
	}
	within("a death", d.Death)
	within("a hang", d.Hang)
	return out
}

// hosts lists the first few.
func hosts(list []string) string {
	const most = 3
	out := strings.Join(list[:min(most, len(list))], " ")
	if more := len(list) - most; more > 0 {
		out += fmt.Sprintf(" +%d", more)
	}
	return out
}

// addresses lists them, the dead ones marked.
func addresses(list []api.Address) string {
	const most = 3
	var out []string
	for _, a := range list[:min(most, len(list))] {
		if a.Live {
			out = append(out, a.Address)
		} else {
			out = append(out, a.Address+" (down)")
		}
	}
	if more := len(list) - most; more > 0 {
		out = append(out, fmt.Sprintf("+%d", more))
	}
	return strings.Join(out, ", ")
}

// hostnames says what those of a site resolve to, for the director that was asked.
func (a *app) hostnames(s api.Status, site api.Site) []cell {
	var out []cell
	for _, addr := range site.Addresses {
		if addr.Resolved != nil {
			out = append(out, resolved(*addr.Resolved, s.Now))
		}
	}
	return out
}

func resolved(h api.Hostname, now time.Time) cell {
	const most = 4
	line, look := h.Hostname+": ", plain
	if len(h.Addresses) == 0 {
		line += "no address is known"
	} else {
		line += strings.Join(h.Addresses[:min(most, len(h.Addresses))], " ")
		if more := len(h.Addresses) - most; more > 0 {
			line += fmt.Sprintf(" +%d", more)
		}
	}
	if h.At != nil {
		line += ", resolved " + ago(now.Sub(*h.At))
	}
	if h.Problem != "" {
		line, look = line+"; "+h.Problem, warn
	}
	if h.Stale {
		look = bad
	}
	return cell{line, look}
}

// subjects says what is not up, or with verbose everything, and who votes how.
func (a *app) subjects(site api.Site, verbose bool) []cell {
	var out []cell
	for _, addr := range site.Addresses {
		for _, s := range addr.Subjects {
			if s.State != "down" && !verbose {
				continue
			}
			line := fmt.Sprintf("%s %s is %s", addr.Address, s.Probe, s.State)
			if s.Transition == 0 && s.State == "unknown" { // nothing was ever agreed on
				line = addr.Address + " " + s.Probe + " has not fallen"
			}
			if s.Since != nil {
				line += " since " + a.clock(*s.Since)
			}
			if s.Reason != "" {
				line += ": " + s.Reason
			}
			if len(s.Votes) > 0 {
				line += " (" + votes(s.Votes) + ")"
			}
			look := plain
			if s.State == "down" {
				look = bad
			}
			out = append(out, cell{line, look})
		}
	}
	return out
}

// votes groups directors by what they say: "down: d1 d2; stale: d3".
func votes(by map[string]string) string {
	groups := map[string][]string{}
	for _, director := range slices.Sorted(maps.Keys(by)) {
		groups[by[director]] = append(groups[by[director]], director)
	}
	parts := make([]string, 0, len(groups))
	for _, vote := range slices.Sorted(maps.Keys(groups)) {
		parts = append(parts, vote+": "+strings.Join(groups[vote], " "))
	}
	return strings.Join(parts, "; ")
}

func directorRows(s api.Status, full bool) []row {
	rows := make([]row, 0, len(s.Directors))
	for _, d := range s.Directors {
		name := text(d.Name)
		if d.Name == s.Director {
			name.text += " (this)"
		}
		heard := cell{"yes", good}
		if !d.Heard {
			heard = cell{"no", bad}
			if d.Silent > 0 {
				heard.text = "silent " + rough(core.Seconds(d.Silent))
			}
		}
		standing := text(d.Standing)
		if d.Standing != "active" {
			standing.style = warn
		}
		dns := text(d.DNS)
		if d.DNS != "ok" && d.DNS != "witness" {
			dns.style = warn
		}
		r := row{
			cells:   []cell{name, text(d.Site), standing, heard, text(d.Plan), dns},
			remarks: remarks(labelled("", d.Alarm, bad)),
		}
		if full {
			r.cells = append(r.cells, text(d.Address))
			r.remarks = append(r.remarks, remarks(labelled("", d.Key, dim))...)
		}
		rows = append(rows, r)
	}
	return rows
}

func (a *app) overrideRows(s api.Status) []row {
	rows := make([]row, 0, len(s.Overrides))
	for _, o := range s.Overrides {
		ends := cell{}
		if o.End != nil {
			ends.text = a.clock(*o.End)
			if left := o.End.Sub(s.Now); left > 0 {
				if left >= time.Minute { // to the nearest minute
					left += 30 * time.Second
				}
				ends.text += " (in " + rough(max(left, time.Second)) + ")"
			}
		}
		// Who it was may be a long word, and what comes after it must be found.
		const most = 18
		by, notes := o.Author, []cell(nil)
		if r := []rune(by); len(r) > most {
			by, notes = string(r[:most-1])+"…", []cell{{"by " + clean(o.Author), plain}}
		}
		notes = slices.Concat(notes, a.pace(o.Pace), emergencyNotes(o.Emergency))
		if o.Overdue {
			notes = append(notes, cell{"overdue: it stays until its end is safe, for which see the alerts", bad})
		}
		if o.Forced {
			notes = append(notes, cell{"forced", warn})
		}
		rows = append(rows, row{cells: []cell{text(o.Kind), text(o.Scope), text(by), ends, text(o.Reason)}, remarks: notes})
	}
	return rows
}
