package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/divertdns/divert/director/api"
)

const (
	probedShown = 20  // addresses, past which those that pass everywhere are counted
	probeWidth  = 120 // columns that a table has where nothing says how many there are
	probeIndent = 4
	probeRoom   = 20 // columns that there are at least for what a probe is called
	nameRoom    = 14 // columns that a director's name may ask for: as many as "failed 160ms *"
)

// probePage draws who sees what: a table for each service, a row for each probe, a column
// for each director.
func (a *app) probePage(p api.Probing, verbose bool) string {
	out := &page{width: a.width(), colour: a.colour}
	var directors []api.Observer
	var from []string
	for _, o := range p.Observers {
		if o.State == "answered" {
			directors, from = append(directors, o), append(from, whereabouts(o))
		}
	}
	out.wrapped(0, "", bold, fmt.Sprintf("%s: %d of %s answered in %s, plan %s", p.Target, len(directors), count(len(p.Observers), "director"), took(p.Took), p.Plan))
	if len(from) > 0 {
		out.wrapped(2, "", plain, "seen from "+strings.Join(from, ", "))
	}
	for _, o := range p.Observers {
		switch {
		case o.State != "answered":
			out.wrapped(2, "! ", bad, o.Name+" "+withWhy(o.State, o.Why))
		case o.Plan != p.Plan:
			out.wrapped(2, "! ", warn, o.Name+" probed by plan "+o.Plan)
		}
	}
	groups, addresses := byService(p.Targets)
	hidden, starred := 0, false
	for _, g := range groups {
		if addresses > probedShown && !verbose {
			hidden += g.hidePassing()
		}
		if len(g.addresses) > 0 && drawGroup(out, directors, g) {
			starred = true
		}
	}
	out.line("")
	if hidden > 0 {
		out.line(count(hidden, "target") + " more, all of whose probes pass (--verbose shows them)")
	}
	if starred {
		out.wrapped(0, "* ", dim, "not assigned to it: its vote would not count")
	}
	out.line(probeTotal(out, p))
	return out.b.String()
}

// whereabouts says who a director is: "d1 at fra-dc1 (this)".
func whereabouts(o api.Observer) string {
	text := o.Name
	if o.Site != "" && o.Site != o.Name {
		text += " at " + o.Site
	}
	if o.This {
		text += " (this)"
	}
	return text
}

// withWhy puts a state and its reason together where the reason does not say it itself.
func withWhy(state, why string) string {
	switch {
	case why == "":
		return state
	case strings.HasPrefix(why, state):
		return why
	case state == "refused":
		return "refused: " + why
	default:
		return why
	}
}

// probed is what is probed for a service, or for all that share it, by address.
type probed struct {
	services  []string
	addresses []probedAt
}

// probedAt is the probes of one address.
type probedAt struct {
	address  string
	clusters []string
	probes   []api.Probed
	names    []string // of the probes: no two are the same
}

// byService groups what was probed, and counts the addresses of all groups.
func byService(targets []api.Probed) (out []*probed, addresses int) {
	at := map[string]*probed{}
	for _, t := range targets {
		services, clusters := parties(t.Endpoints)
		key := strings.Join(services, "\n")
		g := at[key]
		if g == nil {
			g = &probed{services: services}
			at[key] = g
			out = append(out, g)
		}
		i := slices.IndexFunc(g.addresses, func(a probedAt) bool { return a.address == t.Address })
		if i < 0 {
			i = len(g.addresses)
			g.addresses = append(g.addresses, probedAt{address: t.Address})
			addresses++
		}
		g.addresses[i].add(t, clusters)
	}
	return out, addresses
}

func (a *probedAt) add(t api.Probed, clusters []string) {
	for _, c := range clusters {
		if !slices.Contains(a.clusters, c) {
			a.clusters = append(a.clusters, c)
		}
	}
	name := clean(t.Probe)
	for n := 2; slices.Contains(a.names, name); n++ { // alike in all that their names say
		name = fmt.Sprintf("%s (%d)", clean(t.Probe), n)
	}
	a.probes, a.names = append(a.probes, t), append(a.names, name)
}

// parties takes endpoints such as "shop@fra" apart.
func parties(endpoints []string) (services, clusters []string) {
	for _, e := range endpoints {
		service, cluster := e, ""
		if i := strings.LastIndexByte(e, '@'); i >= 0 {
			service, cluster = e[:i], e[i+1:]
		}
		if !slices.Contains(services, service) {
			services = append(services, service)
		}
		if !slices.Contains(clusters, cluster) {
			clusters = append(clusters, cluster)
		}
	}
	return services, clusters
}

// hidePassing takes out the addresses all of whose probes pass, and counts them.
func (g *probed) hidePassing() int {
	all := len(g.addresses)
	g.addresses = slices.DeleteFunc(g.addresses, func(a probedAt) bool {
		return !slices.ContainsFunc(a.probes, func(t api.Probed) bool { return t.Verdict != "pass" })
	})
	return all - len(g.addresses)
}

// title lists the services, the first few.
func (g *probed) title() string {
	const most = 4
	text := strings.Join(g.services[:min(most, len(g.services))], ", ")
	if more := len(g.services) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// drawGroup draws the probes against the directors that answered, in as many tables as the
// width takes.
func drawGroup(out *page, directors []api.Observer, g *probed) (starred bool) {
	out.line("")
	out.wrapped(0, "", bold, g.title())
	var names []string
	for _, d := range directors {
		names = append(names, clean(d.Name))
	}
	names = cut(names, nameRoom)
	var labels []string
	longest := 0
	for _, a := range g.addresses {
		for _, name := range a.names {
			labels, longest = append(labels, name), max(longest, utf8.RuneCountInString(name))
		}
	}
	for from, to := 0, 0; ; from = to {
		least := min(longest, probeRoom)
		left := cmp.Or(out.width, probeWidth) - probeIndent - least
		for to = from; to < len(directors); to++ {
			n := 2 + g.columns(directors[to].Name, names[to])
			if n > left && to > from {
				break
			}
			left -= n
		}
		part := sights{directors: directors[from:to], names: names[from:to], labels: cut(labels, least+max(left, 0)), last: to == len(directors)}
		starred = part.draw(out, g) || starred
		if part.last {
			return starred
		}
	}
}

// columns is how wide a director's column is.
func (g *probed) columns(director, name string) int {
	widest := utf8.RuneCountInString(name)
	for _, a := range g.addresses {
		for _, t := range a.probes {
			c, _, _ := sight(director, t)
			widest = max(widest, utf8.RuneCountInString(c.text))
		}
	}
	return widest
}

// sights is one table of a group: some of the directors.
type sights struct {
	directors []api.Observer
	names     []string // of the directors
	labels    []string // of the probes, in order
	last      bool     // no table of the group follows, so that what the probes come to is said
}

func (s sights) draw(out *page, g *probed) (starred bool) {
	var rows []row
	for _, a := range g.addresses {
		for i, t := range a.probes {
			r := row{cells: []cell{text(s.labels[len(rows)])}}
			if i == 0 {
				r.above = strings.TrimSpace(strings.Join(a.clusters, ", ") + " " + a.address)
			}
			for _, d := range s.directors {
				c, _, star := sight(d.Name, t)
				starred = starred || star
				r.cells = append(r.cells, c)
			}
			r.remarks = reasons(s.directors, t)
			if s.last && t.Verdict != "pass" {
				r.remarks = append(r.remarks, cell{"= " + clean(t.Summary), verdictStyle(t.Verdict)})
			}
			rows = append(rows, r)
		}
	}
	out.table(probeIndent, append([]string{"PROBE"}, s.names...), rows)
	return starred
}

// reasons says why the directors of a table say what they do of a probe: once where several
// say the same.
func reasons(directors []api.Observer, t api.Probed) []cell {
	var said []saying
	var styles []style
	for _, d := range directors {
		c, why, _ := sight(d.Name, t)
		if why == "" {
			continue
		}
		i := slices.IndexFunc(said, func(s saying) bool { return s.text == why })
		if i < 0 || styles[i] != c.style {
			i = len(said)
			said, styles = append(said, saying{text: why}), append(styles, c.style)
		}
		said[i].names = append(said[i].names, d.Name)
	}
	out := make([]cell, len(said))
	for i, s := range said {
		who := strings.Join(s.names, ", ")
		if len(s.names) == len(directors) && len(directors) > 2 {
			who = "all"
		}
		out[i] = cell{who + ": " + s.text, styles[i]}
	}
	return out
}

// cut shortens names to so many columns, and to more where they would look the same: in
// the middle, or else to what follows on that in which the long ones are alike.
func cut(names []string, columns int) []string {
	for ; ; columns++ {
		alike := alikeUntil(names, columns)
		for _, shorten := range []func([]rune) string{
			func(r []rune) string { return middle(r, columns) },
			func(r []rune) string { return window(r, max(alike-1, 0), columns) },
		} {
			out, of, clash := make([]string, len(names)), make(map[string]string, len(names)), false
			for i, name := range names {
				if out[i] = name; utf8.RuneCountInString(name) > columns {
					out[i] = shorten([]rune(name))
				}
				other, known := of[out[i]]
				clash = clash || known && other != name
				of[out[i]] = name
			}
			if !clash { // at the latest when none is cut
				return out
			}
		}
	}
}

// alikeUntil is how many runes the names that are longer than that begin with alike.
func alikeUntil(names []string, columns int) int {
	var first []rune
	n := -1
	for _, name := range names {
		r := []rune(name)
		switch {
		case len(r) <= columns:
			continue
		case n < 0:
			first, n = r, len(r)
		}
		n = min(n, len(r))
		for i := range n {
			if r[i] != first[i] {
				n = i
				break
			}
		}
	}
	return n
}

func middle(r []rune, columns int) string {
	end := (columns - 1) / 2
	return string(r[:columns-1-end]) + "…" + string(r[len(r)-end:])
}

func window(r []rune, from, columns int) string {
	switch {
	case from == 0:
		return string(r[:columns-1]) + "…"
	case from+columns-1 >= len(r):
		return "…" + string(r[len(r)-columns+1:])
	default:
		return "…" + string(r[from:from+columns-2]) + "…"
	}
}

// sight is the cell of one director and one probe, and what is to be said of it.
func sight(director string, t api.Probed) (c cell, why string, star bool) {
	i := slices.IndexFunc(t.Results, func(r api.ProbeResult) bool { return r.Director == director })
	if i < 0 {
		return cell{}, "", false
	}
	r := t.Results[i]
	switch r.Outcome {
	case "ok":
		c = cell{"ok " + took(r.Took), good}
	case "failed":
		c = cell{"failed " + took(r.Took), bad}
	default:
		c = cell{"not probed", warn}
	}
	if star = !slices.Contains(t.Assigned, director); star {
		c.text += " *"
	}
	return c, r.Reason, star
}

func took(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d < time.Millisecond {
		return "<1ms"
	}
	return short(d)
}

func verdictStyle(verdict string) style {
	switch verdict {
	case "pass":
		return good
	case "fail":
		return bad
	default:
		return warn
	}
}

// probeTotal sums the verdicts up.
func probeTotal(out *page, p api.Probing) string {
	counts := map[string]int{}
	for _, t := range p.Targets {
		counts[t.Verdict]++
	}
	var parts []string
	for _, v := range []struct{ verdict, text string }{
		{"pass", "%d pass"}, {"fail", "%d fail everywhere"}, {"disagree", "%d disagreed on"}, {"unknown", "%d unknown"},
	} {
		if n := counts[v.verdict]; n > 0 {
			parts = append(parts, out.paint(verdictStyle(v.verdict), fmt.Sprintf(v.text, n)))
		}
	}
	return fmt.Sprintf("%s: %s", count(len(p.Targets), "probe"), strings.Join(parts, ", "))
}
