package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/divertdns/divert/director/api"
)

// evidence says what the sites that are not healthy, or all, are judged by.
func (a *app) evidence(p *page, sites []api.Evidence, all bool) {
	begun := false
	for _, site := range sites {
		if site.Health == "healthy" && !all {
			continue
		}
		if !begun {
			p.heading("EVIDENCE")
			begun = true
		}
		line := site.Cluster + " " + site.Health
		if site.Why != "" {
			line += ": " + strings.TrimPrefix(site.Why, line+": ")
		}
		p.wrapped(2, "", healthCell(site.Health).style, line)
		for _, s := range site.Subjects {
			if all || site.Health == "unknown" || matters(s) {
				a.subjectEvidence(p, s)
			}
		}
	}
}

// matters tells whether a subject may have to do with its site's trouble.
func matters(s api.SubjectEvidence) bool {
	return s.State == "down" || s.Weight > 0 || slices.ContainsFunc(s.Words, func(w api.Word) bool {
		return w.Counted && w.Word != "up" || !w.Counted && w.Assigned
	})
}

func (a *app) subjectEvidence(p *page, s api.SubjectEvidence) {
	line, look := s.Probe+" at "+s.Address, plain
	if s.State == "down" {
		look = bad
	}
	if s.Transition == 0 {
		line += " has not fallen"
	} else {
		line += fmt.Sprintf(" is %s by certificate %d", s.State, s.Transition)
	}
	if s.Since != nil {
		line += " since " + a.clock(*s.Since)
	}
	reason := s.Reason
	if len(s.Voters) > 0 {
		line += ", proved by " + strings.Join(s.Voters, ", ")
		_, reason, _ = strings.Cut(reason, "): ") // whose votes they are, its maker says before
	}
	if reason != "" {
		line += ": " + reason
	}
	p.wrapped(4, "", look, line)
	switch {
	case s.Next == "": // of the past, of which no votes are kept
	case s.Votes > 0:
		p.wrapped(6, "", dim, fmt.Sprintf("%s when %s agree", s.Next, count(s.Votes, "vote")))
	default:
		p.wrapped(6, "", dim, fmt.Sprintf("suspicion %.1f of %.1f, at most %.1f of one director", s.Weight, s.Needed, s.Cap))
	}
	for _, g := range alike(s) {
		p.wrapped(6, strings.Join(g.names, " ")+"  ", plain, g.text)
	}
}

// saying is directors that say the same.
type saying struct {
	text  string
	names []string
}

// alike groups directors by what they say, in their order.
func alike(s api.SubjectEvidence) []saying {
	var out []saying
next:
	for _, w := range s.Words {
		text := word(s, w)
		for i := range out {
			if out[i].text == text {
				out[i].names = append(out[i].names, w.Director)
				continue next
			}
		}
		out = append(out, saying{text, []string{w.Director}})
	}
	return out
}

func word(s api.SubjectEvidence, w api.Word) string {
	if !w.Counted {
		return "left out: " + w.LeftOut
	}
	text := w.Word
	if s.Votes == 0 && w.Weight > 0 {
		text += fmt.Sprintf(" %.1f", w.Weight)
	}
	if !w.Assigned {
		text += ", though not assigned"
	}
	if w.Why != "" {
		text += ": " + w.Why
	}
	return text
}
