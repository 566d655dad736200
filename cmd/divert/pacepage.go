package main

import (
	"fmt"

	"github.com/divertdns/divert/director/api"
)

// pace says where a drain in steps stands, and for what its next step waits.
func (a *app) pace(p *api.Pace) []cell {
	if p == nil || len(p.Steps) == 0 {
		return nil
	}
	look := warn
	if p.State == "done" {
		look = good
	}
	out := []cell{{p.State + ": " + pacePlace(p), look}}
	if away, due := nextAway(p); due {
		out = append(out, cell{fmt.Sprintf("next: %s, at %s at the earliest", away, a.clock(*p.Next)), plain})
	}
	if p.Why != "" {
		out = append(out, cell{"because " + p.Why, bad})
	}
	if p.Waits != "" {
		out = append(out, cell{"waits for: " + p.Waits, plain})
	}
	if p.Stalled {
		out = append(out, cell{"stalls: later than three in four of its own steps were", bad})
	}
	return out
}

// pacePlace says at which step one is, and what has left. The first of what comes back is
// where it began, and no step.
func pacePlace(p *api.Pace) string {
	n, of := p.Step, len(p.Steps)
	away := permille(p.Moved) + " of its clients are away"
	switch p.State {
	case "returning", "rolling back":
		n, of = n-1, of-1
	case "rolled back":
		return away
	}
	if n == 0 {
		return "not begun, " + away
	}
	return fmt.Sprintf("step %d of %d, %s", n, of, away)
}

// nextAway says how many are away by the step after this one, which is due at Next.
func nextAway(p *api.Pace) (away string, due bool) {
	if p.Next == nil || p.Step >= len(p.Steps) || p.State != "moving" && p.State != "returning" {
		return "", false
	}
	return permille(p.Steps[p.Step]) + " away", true
}
