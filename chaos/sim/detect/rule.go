package detect

import (
	"fmt"

	"github.com/divertdns/divert/health"
)

// Rule is how the suspicion of all observers becomes a fall: health's own, with
// another threshold where a rate is to be validated by counting, and broken on
// purpose where a test shows that the simulation would notice.
type Rule struct {
	Quorum health.Quorum
	Theta  int // hundredths; 0 = health's own

	noCap, noDomainCap, missIsDown, lateIsMiss bool
}

// RuleOf is the rule of so many directors in so many sites, one after another.
func RuleOf(observers, sites int) Rule {
	return Rule{Quorum: health.QuorumOf(rosterOf(observers, sites), 0)}
}

// rosterOf gives d0, d1, … in sites s0, s1, … by turns.
func rosterOf(observers, sites int) []health.Director {
	roster := make([]health.Director, observers)
	for i := range roster {
		roster[i] = health.Director{Name: fmt.Sprintf("d%d", i), Site: fmt.Sprintf("s%d", i%sites)}
	}
	return roster
}

func (r Rule) theta() int {
	if r.Theta > 0 {
		return r.Theta
	}
	return r.Quorum.Theta()
}

// limit is what one observer counts at most.
func (r Rule) limit() int {
	if r.Theta > 0 {
		return (r.Theta + r.Quorum.Votes - 1) / r.Quorum.Votes
	}
	return r.Quorum.Cap()
}

// domainLimit is what one site counts at most.
func (r Rule) domainLimit() int {
	if r.noDomainCap {
		return 1 << 30
	}
	if r.Theta > 0 && r.Quorum.Votes > 1 && r.Quorum.Domains > 1 {
		return (r.Quorum.Votes - 1) * r.limit()
	}
	return r.Quorum.DomainCap()
}

// weight is what an observer's word counts: its suspicion in hundredths, where 1 is
// "merely late".
func (r Rule) weight(word uint16) int {
	switch {
	case r.missIsDown && word > 1:
		return r.limit()
	case r.noCap && word > 1:
		return int(word)
	case r.Theta > 0 && word > 1:
		return min(int(word), r.limit())
	case r.Theta > 0:
		return 0
	}
	return r.Quorum.Weight(r.vote(word))
}

// vote is the word as health's observers cast it.
func (r Rule) vote(word uint16) health.Vote {
	v := health.Vote{N: 1, To: health.Up, Suspicion: word}
	if int(word) >= r.limit() {
		v.To = health.Down
	}
	return v
}

// sum is what all words weigh together, and whether it is a fall: enough, and more
// observers for it than fully against it.
func (r Rule) sum(words []uint16, sites []int) (sum int, falls bool) {
	var shares [maxObservers]int
	forIt, against := 0, 0
	most := r.domainLimit()
	for i, word := range words {
		w := r.weight(word)
		switch {
		case w > 0:
			forIt++
			share := &shares[sites[i]]
			sum -= min(*share, most)
			*share += w
			sum += min(*share, most)
		case word == 0:
			against++
		}
	}
	return sum, sum >= r.theta() && forIt > against
}

// maxObservers is how many health assigns to a target at most.
const maxObservers = 5
