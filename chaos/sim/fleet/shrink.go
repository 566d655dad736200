package fleet

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Shrink makes a scenario that breaks a row smaller while it breaks the same row: fewer
// events, the shortest time, fewer directors and clusters. Tries bounds the runs.
func Shrink(s Scenario, row string, tries int) Scenario {
	breaks := func(c Scenario) bool {
		if tries--; tries < 0 {
			return false
		}
		r := Run(c)
		return r.Broken != nil && r.Broken.Row == row
	}
	// What comes after the break has no part in it, unless it is what comes back too late.
	if r := Run(s); r.Broken != nil && r.Broken.At < s.Length {
		c := s
		c.Events = slices.DeleteFunc(slices.Clone(s.Events), func(e Event) bool { return e.At > r.Broken.At })
		c.Length = r.Broken.At + time.Second
		if breaks(c) {
			s = c
		}
	}
	for size := max(1, len(s.Events)/2); ; size /= 2 {
		for i := 0; i < len(s.Events); {
			c := s
			c.Events = slices.Delete(slices.Clone(s.Events), i, min(i+size, len(s.Events)))
			if breaks(c) {
				s = c
			} else {
				i += size
			}
		}
		if size <= 1 {
			break
		}
	}
	for s.Directors > 1 {
		c := s
		c.Directors--
		if names(c, nameOf(c.Directors)) || !breaks(c) {
			break
		}
		s = c
	}
	for s.Clusters > 2 {
		c := s
		c.Clusters--
		if names(c, clusters[c.Clusters].name) || !breaks(c) {
			break
		}
		s = c
	}
	return s
}

// names tells whether some event is about a director or a cluster.
func names(s Scenario, name string) bool {
	return slices.ContainsFunc(s.Events, func(e Event) bool {
		return slices.ContainsFunc(e.Args, func(a string) bool { return strings.Contains(a, name) })
	})
}

// File writes a scenario as testdata keeps it, with what it was found by.
func File(s Scenario, broken *Violation, from string) string {
	return fmt.Sprintf("# %s\n# Found by %s.\n%s", strings.ReplaceAll(broken.String(), "\n", "\n# "), from, s)
}
