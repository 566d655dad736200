package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/divertdns/divert/director/api"
)

const (
	probedShown = 20 // addresses, past which those that pass everywhere are counted
	probeHead   = 32 // columns of a probe's name above its column
)

// probePage draws who sees what: a table for each address, a row for each director.
func (a *app) probePage(p api.Probing, verbose bool) string {
	out := &page{width: a.width(), colour: a.colour}
	answered := 0
	for _, o := range p.Observers {
		if o.State == "answered" {
			answered++
		}
	}
	out.wrapped(0, "", bold, fmt.Sprintf("%s: %d of %s answered in %s, plan %s", p.Target, answered, count(len(p.Observers), "director"), took(p.Took), p.Plan))
	for _, o := range p.Observers {
		switch {
		case o.State != "answered":
			out.wrapped(2, "! ", bad, o.Name+" "+withWhy(o.State, o.Why))
		case o.Plan != p.Plan:
			out.wrapped(2, "! ", warn, o.Name+" probed by plan "+o.Plan)
		}
	}
	groups := byAddress(p.Targets)
	hidden, starred := 0, false
	for _, g := range groups {
		if len(groups) > probedShown && !verbose && !slices.ContainsFunc(g, func(t api.Probed) bool { return t.Verdict != "pass" }) {
			hidden++
			continue
		}
		out.line("")
		out.wrapped(0, clean(g[0].Address)+"  ", bold, endpoints(g))
		if drawMatrix(out, p.Observers, g) {
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

func byAddress(targets []api.Probed) [][]api.Probed {
	var out [][]api.Probed
	at := map[string]int{}
	for _, t := range targets {
		i, ok := at[t.Address]
		if !ok {
			i = len(out)
			at[t.Address] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], t)
	}
	return out
}

// endpoints lists for what an address is probed, the first few.
func endpoints(g []api.Probed) string {
	const most = 4
	var all []string
	for _, t := range g {
		for _, e := range t.Endpoints {
			if !slices.Contains(all, e) {
				all = append(all, e)
			}
		}
	}
	text := strings.Join(all[:min(most, len(all))], " ")
	if more := len(all) - most; more > 0 {
		text += fmt.Sprintf(" +%d", more)
	}
	return text
}

// drawMatrix draws the directors that answered against the probes of one address, in
// as many tables as the width takes, and below each what the probes come to.
func drawMatrix(out *page, observers []api.Observer, probes []api.Probed) (starred bool) {
	for len(probes) > 0 {
		n := fitting(out.width, observers, probes)
		part := probes[:n]
		probes = probes[n:]
		header := []string{"DIRECTOR", "SITE"}
		for _, t := range part {
			header = append(header, probeName(t))
		}
		var rows []row
		for _, o := range observers {
			if o.State != "answered" {
				continue
			}
			r := row{cells: []cell{text(directorName(o)), text(o.Site)}}
			for _, t := range part {
				c, why, star := sight(o.Name, t)
				starred = starred || star
				r.cells = append(r.cells, c)
				if why != "" {
					r.remarks = append(r.remarks, cell{clean(t.Probe + ": " + why), c.style})
				}
			}
			rows = append(rows, r)
		}
		out.table(2, header, rows)
		if !slices.ContainsFunc(part, func(t api.Probed) bool { return t.Summary != part[0].Summary }) {
			out.wrapped(2, "= ", verdictStyle(part[0].Verdict), part[0].Summary)
			continue
		}
		for _, t := range part {
			out.wrapped(2, "= ", verdictStyle(t.Verdict), t.Probe+": "+t.Summary)
		}
	}
	return starred
}

// fitting is how many columns a table has room for: one at least.
func fitting(width int, observers []api.Observer, probes []api.Probed) int {
	if width == 0 {
		return len(probes)
	}
	name, site := len("DIRECTOR"), len("SITE")
	for _, o := range observers {
		name, site = max(name, utf8.RuneCountInString(directorName(o))), max(site, utf8.RuneCountInString(o.Site))
	}
	used := 2 + name + 2 + site
	for i, t := range probes {
		column := utf8.RuneCountInString(probeName(t))
		for _, o := range observers {
			c, _, _ := sight(o.Name, t)
			column = max(column, utf8.RuneCountInString(c.text))
		}
		if used += 2 + column; used > width && i > 0 {
			return i
		}
	}
	return len(probes)
}

func directorName(o api.Observer) string {
	if o.This {
		return o.Name + " (this)"
	}
	return o.Name
}

func probeName(t api.Probed) string {
	r := []rune(clean(t.Probe))
	if len(r) <= probeHead {
		return string(r)
	}
	return string(r[:probeHead-1]) + "…"
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

func took(d time.Duration) string {
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
