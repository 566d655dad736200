package health

import (
	"cmp"
	"net/netip"
	"slices"
)

// maxObservers is how many directors probe one target at most.
const maxObservers = 5

// Quorum is how many votes a transition needs, by the plan's roster and never
// by who happens to be alive.
type Quorum struct {
	Directors int // N: names in the roster, those without a key too
	Observers int // k = min(N, 5)
	Votes     int // q = ⌊k/2⌋+1, or more if the spec says so
	Domains   int // distinct fault domains that the votes come from
}

// QuorumOf gives the quorum of a roster. Observers may raise q up to k, never
// lower it.
func QuorumOf(roster []Director, observers int) Quorum {
	q := Quorum{Directors: len(roster), Observers: min(len(roster), maxObservers)}
	q.Votes = max(q.Observers/2+1, min(observers, q.Observers))
	sites := map[string]struct{}{}
	for _, d := range roster {
		sites[d.domain()] = struct{}{}
	}
	q.Domains = min(2, len(sites))
	return q
}

// majority is how many directors one must hear, itself included, not to be
// isolated (S8).
func (q Quorum) majority() int { return q.Directors/2 + 1 }

func (d Director) domain() string { return cmp.Or(d.Site, d.Name) }

// Assign names the directors that probe an address: min(N, 5) by rendezvous
// hashing, distinct fault domains first, ordered by name. All subjects of one
// address and port have the same observers, because a signal is judged beside
// the deep probes of its port.
func Assign(roster []Director, addr netip.AddrPort) []string {
	k := min(len(roster), maxObservers)
	type bid struct {
		director Director
		score    uint64
	}
	target := subjectHash(Subject{Kind: KindSignal, Addr: addr})
	bids := make([]bid, 0, len(roster))
	for _, d := range roster {
		bids = append(bids, bid{d, mix(target ^ mix(fnv([]byte(d.Name))))})
	}
	slices.SortFunc(bids, func(a, b bid) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.director.Name, b.director.Name))
	})
	out := make([]string, 0, k)
	seen := map[string]struct{}{}
	rest := make([]string, 0, len(bids))
	for _, b := range bids {
		if _, again := seen[b.director.domain()]; again {
			rest = append(rest, b.director.Name)
			continue
		}
		seen[b.director.domain()] = struct{}{}
		out = append(out, b.director.Name)
	}
	out = append(out, rest...)[:k]
	slices.Sort(out)
	return out
}
