package health

import (
	"cmp"
	"iter"
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

// Assignment says who probes what in one roster: min(N, 5) directors an address,
// by rendezvous hashing, spread over the fault domains as evenly as these allow.
// Each domain gives its first, then each its second, and so on; where the places
// left are fewer than the domains, the higher bids have them. So a director that
// comes or goes changes at most one observer of an address, and none of those
// that it has no part in.
//
// All subjects of one address and port have the same observers, because a signal
// is judged beside the deep probes of its port. It does not change once made, and
// may be used by several goroutines.
type Assignment struct {
	names   []string // in order
	salts   []uint64 // hashes of the names
	domains []int    // indices of the fault domains
	count   int      // of the domains
	k       int
}

// NewAssignment prepares the assignment of a roster. Only the first entry of a
// name counts.
func NewAssignment(roster []Director) *Assignment {
	roster = slices.Clone(roster)
	slices.SortStableFunc(roster, func(x, y Director) int { return cmp.Compare(x.Name, y.Name) })
	roster = slices.CompactFunc(roster, func(x, y Director) bool { return x.Name == y.Name })
	a := &Assignment{k: min(len(roster), maxObservers)}
	index := map[string]int{}
	for _, d := range roster {
		i, ok := index[d.domain()]
		if !ok {
			i = len(index)
			index[d.domain()] = i
		}
		a.names, a.salts, a.domains = append(a.names, d.Name), append(a.salts, mix(fnv([]byte(d.Name)))), append(a.domains, i)
	}
	a.count = len(index)
	return a
}

// Observers names the directors that probe an address, in order.
func (a *Assignment) Observers(addr netip.AddrPort) []string {
	out := make([]string, 0, a.k)
	for i := range a.chosen(addr) {
		out = append(out, a.names[i])
	}
	slices.Sort(out)
	return out
}

// Observes tells whether a director probes an address.
func (a *Assignment) Observes(name string, addr netip.AddrPort) bool {
	_, turns := a.Turn(name, addr)
	return turns > 0
}

// Turn gives a director's place among those that probe an address, from 0, and how
// many they are. 0: it does not probe it.
func (a *Assignment) Turn(name string, addr netip.AddrPort) (turn, turns int) {
	me, ok := slices.BinarySearch(a.names, name)
	switch {
	case !ok:
		return 0, 0
	case a.k == len(a.names):
		return me, a.k
	}
	for i := range a.chosen(addr) {
		switch {
		case i == me:
			turns = a.k
		case i < me:
			turn++
		}
	}
	if turns == 0 {
		return 0, 0
	}
	return turn, turns
}

// bid is what one director offers for one address.
type bid struct {
	score    uint64
	director int
	round    int // how many of its own fault domain bid more
}

// chosen gives the indices of an address's observers, in no order.
func (a *Assignment) chosen(addr netip.AddrPort) iter.Seq[int] {
	return func(yield func(int) bool) {
		target := subjectHash(Subject{Kind: KindSignal, Addr: addr})
		var room [64]bid
		bids := room[:0]
		for i, salt := range a.salts {
			bids = append(bids, bid{score: mix(target ^ salt), director: i})
		}
		if a.k < len(bids) {
			slices.SortFunc(bids, func(x, y bid) int {
				return cmp.Or(cmp.Compare(y.score, x.score), cmp.Compare(x.director, y.director))
			})
			var space [64]int
			rounds := append(space[:0], make([]int, a.count)...)
			for i := range bids {
				in := a.domains[bids[i].director]
				bids[i].round = rounds[in]
				rounds[in]++
			}
			slices.SortStableFunc(bids, func(x, y bid) int { return cmp.Compare(x.round, y.round) })
		}
		for _, b := range bids[:a.k] {
			if !yield(b.director) {
				return
			}
		}
	}
}
