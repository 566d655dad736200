package main

import (
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/divertdns/divert/director/spec"
)

// randomID names a command: 130 bits of crypto/rand, so that no other command
// has it (C7).
func randomID() string { return strings.ToLower(rand.Text()) }

// short shows a duration without its empty units, as people say it: 1h, 90s,
// 250ms.
func short(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		d = d.Round(time.Second)
	case d >= time.Second:
		d = d.Round(100 * time.Millisecond)
	case d >= time.Millisecond:
		d = d.Round(time.Millisecond)
	}
	if d >= 48*time.Hour && d%time.Hour == 0 {
		days, rest := d/(24*time.Hour), d%(24*time.Hour)
		if rest == 0 {
			return fmt.Sprintf("%dd", days)
		}
		return fmt.Sprintf("%dd%s", days, short(rest))
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// rough is short with one unit, for ages: 3m, 2h, 5d.
func rough(d time.Duration) string {
	switch {
	case d < time.Second:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	default:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
}

// ago is rough as a phrase.
func ago(d time.Duration) string {
	if s := rough(d); s != "now" {
		return s + " ago"
	}
	return "just now"
}

// clock shows a time of day, with its date where that is not today's: in UTC, as
// the directors' own sentences do, since who is on call sits in several zones.
func (a *app) clock(t time.Time) string {
	t = t.UTC()
	if t.Format(time.DateOnly) == a.now().UTC().Format(time.DateOnly) {
		return t.Format("15:04:05 UTC")
	}
	return t.Format("2006-01-02 15:04:05 UTC")
}

// permille shows a share: 12.5 %.
func permille(n int) string {
	if n%10 == 0 {
		return fmt.Sprintf("%d %%", n/10)
	}
	return fmt.Sprintf("%.1f %%", float64(n)/10)
}

// count is "1 zone", "2 zones".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// changes shows what differs, one line for each field or resource.
func changes(p *page, indent int, list []spec.Change) {
	for _, c := range list {
		name := c.Kind + "/" + c.Name
		if c.Path != "" {
			name += " " + c.Path
		}
		switch {
		case c.Old == "" && c.New == "":
			p.wrapped(indent, "~ ", warn, name)
		case c.Old == "":
			p.wrapped(indent, "+ ", good, name+unlessWhole(c, c.New))
		case c.New == "":
			p.wrapped(indent, "- ", bad, name+unlessWhole(c, c.Old))
		default:
			p.wrapped(indent, "~ ", warn, fmt.Sprintf("%s: %s -> %s", name, brief(c.Old), brief(c.New)))
		}
	}
}

// unlessWhole shows the value of a field; a whole resource is only named.
func unlessWhole(c spec.Change, value string) string {
	if c.Path == "" {
		return ""
	}
	return ": " + brief(value)
}

// brief cuts what would fill a screen, such as a zone file.
func brief(s string) string {
	const most = 160
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
