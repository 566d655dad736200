package health

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// viaFailing is the suspicion from which a subject counts as failing when what it
	// is reached through is judged: a live one shows three silent misses in a row once
	// in 150 probes, and a wrong answer as seldom.
	viaFailing = 2.0

	// viaGrace is how long a subject behind a shared dependency must fail before it
	// may fall: in less, the others behind it would not yet have shown that they fail
	// too.
	viaGrace = 500 * time.Millisecond
)

// dependency is what several groups of subjects are reached through, as a proxy or
// a transit link. Where two groups or more fail at once, it is the likelier cause:
// all behind it are unknown, and none is failed (S17).
type dependency struct {
	name    string
	failing map[string]int // by group: how many of its subjects fail
	groups  int            // that fail
	since   time.Time      // two or more do; zero: they do not
	entries []*entry
}

// relateVias rebuilds the dependencies. Those with one group tell nothing.
func (o *Observer) relateVias() {
	old := o.vias
	o.vias = map[string]*dependency{}
	for _, e := range o.order {
		e.via, e.failing = nil, false
		if e.Via == "" {
			continue
		}
		d := o.vias[e.Via]
		if d == nil {
			d = &dependency{name: e.Via, failing: map[string]int{}}
			if was := old[e.Via]; was != nil {
				d.since = was.since // until its subjects are looked at, soon
			}
			o.vias[e.Via] = d
		}
		d.failing[e.Group] = 0
		d.entries = append(d.entries, e)
	}
	for name, d := range o.vias {
		if len(d.failing) < 2 {
			delete(o.vias, name)
			continue
		}
		for _, e := range d.entries {
			e.via = d
		}
	}
}

// depend counts a subject among those that fail, or no longer. One that has fallen
// by itself is no sign that the others fail for the same cause, and neither is one
// whose failing says nothing of its target: a mistyped probe would else keep all that
// is reached through the same from ever falling.
func (o *Observer) depend(e *entry, now time.Time) {
	d := e.via
	if d == nil {
		return
	}
	failing := !e.fallen && e.suspicion.Phi() >= viaFailing && now.Before(e.stale()) && !e.suspect() && !e.excused()
	if failing != e.failing {
		before := d.failing[e.Group]
		switch e.failing = failing; {
		case failing:
			d.failing[e.Group]++
		default:
			d.failing[e.Group]--
		}
		switch after := d.failing[e.Group]; {
		case before == 0:
			d.groups++
		case after == 0:
			d.groups--
		}
	}
	if (d.groups >= 2) == d.shared() {
		return
	}
	if d.since = now; d.groups < 2 {
		d.since = time.Time{}
	}
	for _, other := range d.entries {
		o.touch(other)
	}
}

// shared reports whether what fails behind it fails for its sake.
func (d *dependency) shared() bool { return d != nil && !d.since.IsZero() }

func (d *dependency) why() string {
	return fmt.Sprintf("reached through %s, behind which several fail at once: %s", d.name, strings.Join(d.names(), ", "))
}

// names lists the groups that fail.
func (d *dependency) names() []string {
	var out []string
	for name, n := range d.failing {
		if n > 0 {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Dependency is what several clusters are reached through, and seems to fail.
type Dependency struct {
	Via    string
	Groups []string // that fail at once
	Since  time.Time
}

// Dependencies lists those to alert about, by name.
func (o *Observer) Dependencies() []Dependency {
	var out []Dependency
	for _, d := range o.vias {
		if d.shared() {
			out = append(out, Dependency{Via: d.name, Groups: d.names(), Since: d.since})
		}
	}
	slices.SortFunc(out, func(a, b Dependency) int { return strings.Compare(a.Via, b.Via) })
	return out
}
