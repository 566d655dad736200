package core

import (
	"fmt"
	"slices"
	"time"

	"github.com/divertdns/divert/director/spec"
)

// Clocks compares this director's wall clock with what the others' heartbeats
// say. Timers never use it; but deadlines are people's, and a director whose
// clock is off may not lead or sign (F15).
type Clocks struct {
	seen map[string]offset
}

// offset is how far ahead a peer's clock was when last heard.
type offset struct {
	ahead time.Duration
	at    time.Time
}

const (
	clockLimit = 5 * time.Second  // beyond all delay on the way
	clockLife  = 10 * time.Second // of a comparison
)

// Note takes in what a peer's wall clock said when ours said now.
func (c *Clocks) Note(peer string, wall, now time.Time) {
	if c.seen == nil {
		c.seen = map[string]offset{}
	}
	// Round strips the monotonic reading: walls are compared with walls.
	c.seen[peer] = offset{ahead: wall.Sub(now.Round(0)), at: now}
}

// Doubt says that most others agree on another time; "" = they do not. With
// fewer than two others nobody can tell whose clock is off.
func (c *Clocks) Doubt(now time.Time) string {
	var ahead []time.Duration
	for name, o := range c.seen {
		if now.Sub(o.at) > clockLife {
			delete(c.seen, name)
			continue
		}
		ahead = append(ahead, o.ahead)
	}
	if len(ahead) < 2 {
		return ""
	}
	slices.Sort(ahead)
	median := ahead[len(ahead)/2]
	if low := ahead[(len(ahead)-1)/2]; low.Abs() < median.Abs() {
		median = low // of an even number the nearer to this one
	}
	if median.Abs() <= clockLimit {
		return ""
	}
	return fmt.Sprintf("its clock differs from that of most others by %s", spec.FormatDuration(median.Abs().Round(time.Second)))
}
