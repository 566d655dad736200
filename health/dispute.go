package health

import (
	"fmt"
	"strings"
	"time"
)

// disputeFor is how long a quorum must speak against the transition in force
// here before it is taken back: ten times what a proof needs to reach all.
const disputeFor = 3 * time.Second

// crowd is directors that count together.
type crowd struct {
	names  []string // of those who are looked for by name
	count  int
	weight int // of all, each and each fault domain no more than it may
}

// begin begins to count a crowd; the one before it must be complete.
func (b *Book) begin() { clear(b.shares) }

// join adds a director with what its vote weighs.
func (b *Book) join(c *crowd, a *author, weight int) {
	c.count++
	share, most := &b.shares[a.site], b.quorum.DomainCap()
	c.weight -= min(*share, most)
	*share += min(weight, b.quorum.Cap())
	c.weight += min(*share, most)
}

// quorate reports whether what these directors say is enough: of full votes those
// of a quorum, in enough fault domains.
func (b *Book) quorate(c crowd) bool { return c.weight >= b.quorum.Theta() }

// place numbers the fault domains.
func (b *Book) place() {
	sites := map[string]int{}
	for _, a := range b.authors {
		i, ok := sites[a.domain()]
		if !ok {
			i = len(sites)
			sites[a.domain()] = i
		}
		a.site = i
	}
	b.shares = make([]int, len(sites))
}

// speakers are those whose vote counts now and is on a transition after n: who
// votes on n+1 has n in force. What this director has in force it knows better
// than by a vote of its own that may be older.
func (b *Book) speakers(t *topic, n uint64, now time.Time, pick func(*author, *held) bool) crowd {
	out := crowd{}
	b.begin()
	for _, a := range b.authors {
		h := &t.votes[a.index]
		if a.Name == b.self && h.n != t.chain.N+1 {
			continue
		}
		if h.to != Unknown && h.n > n && pick(a, h) && b.counts(a, t, h, now) {
			b.join(&out, a, b.firm(t, h))
			out.names = append(out.names, a.Name)
		}
	}
	return out
}

// firm is what a vote weighs as a word on what is so: that for a fall by how much
// its author suspects, all others in full.
func (b *Book) firm(t *topic, h *held) int {
	if v := h.vote(t.subject); v.To == After(v.N) {
		return b.quorum.Weight(v)
	}
	return b.quorum.Cap()
}

// says reports whether a vote is a word that the subject is in this state. One
// that leans is no word on it, though it tells what its author has in force; one that
// is only late is: with packets lost on the way some always are.
func (t *topic) says(h *held, state State) bool {
	return h.to == state && (h.suspicion <= late || !h.vote(t.subject).Leans())
}

// overtaken finds a transition that a quorum has in force and has gone on from:
// who votes on n+1 has n in force, so its fresh vote is a report of that. It is
// the short way for one whom their votes for n reached late, or too late: they
// are replaced within milliseconds.
func (b *Book) overtaken(t *topic, now time.Time) (Certificate, bool) {
	others := func(a *author, _ *held) bool { return a.Name != b.self }
	best, found := t.chain.N, crowd{}
	for i := range t.votes {
		n := t.votes[i].n
		if n <= best+1 {
			continue
		}
		if c := b.speakers(t, n-1, now, others); b.quorate(c) {
			best, found = n-1, c
		}
	}
	if best == t.chain.N {
		return Certificate{}, false
	}
	reason := fmt.Sprintf("%s, as %s have it in force", After(best), strings.Join(found.names, ", "))
	return Certificate{Subject: t.subject, N: best, Reason: printable(reason, maxReason)}, true
}

// joined finds a quorum of which some vote for the next transition and some,
// too few to be followed, have it in force already and stand by it. Theirs are
// votes on later transitions, so there is no proof of the kind that travels;
// but all of them say freshly that the subject is so.
func (b *Book) joined(t *topic, now time.Time) (Certificate, bool) {
	n := t.chain.N + 1
	to := After(n)
	against := b.speakers(t, n-1, now, func(_ *author, h *held) bool { return h.to != to && t.says(h, h.to) })
	votes := b.speakers(t, n-1, now, func(_ *author, h *held) bool { return t.says(h, to) })
	if !b.quorate(votes) || len(votes.names) <= len(against.names) {
		return Certificate{}, false
	}
	reason := fmt.Sprintf("%s for %s, of whom some have it in force", to, strings.Join(votes.names, ", "))
	return Certificate{Subject: t.subject, N: n, Reason: printable(reason, maxReason)}, true
}

// overrule finds a transition in force here that the fleet never had: its voters
// withdrew before the others knew of it, so nobody will take its proof, and
// nobody can vote on the next one. It is taken back where a quorum says freshly,
// for longer than a proof is under way, that the subject is as it was before, and
// those of them who have it in force are too few to bring about the next
// transition. Where the fleet never had the one before it either, and a quorum
// says what this director has in force, both go: the state stays, and the fleet
// can go on from where it is. A tie (see tied) is ended in the same way.
func (b *Book) overrule(t *topic, now time.Time) (Certificate, bool) {
	n, back := t.chain.N, t.chain.N-1
	votes, state := crowd{}, Unknown
	if b.behind(t, now) {
		votes, state = b.agreed(t, now)
	}
	tie := false
	if state == Unknown {
		if votes, tie = b.tied(t, now); tie {
			state = Up
		}
	}
	// Only those who agree count as having it: who claims to have it and says
	// otherwise may be lying, and must not keep it in force here.
	has := func(n uint64) bool {
		return b.quorate(b.speakers(t, n, now, func(_ *author, h *held) bool { return t.says(h, state) }))
	}
	if state == served(n) && n > 1 && !has(back) {
		back--
	}
	if state == Unknown || state != served(back) || has(n) {
		t.disputed = time.Time{}
		return Certificate{}, false
	}
	if t.disputed.IsZero() {
		t.disputed = now
	}
	if now.Sub(t.disputed) < disputeFor {
		return Certificate{}, false
	}
	reason := fmt.Sprintf("%s taken back: the fleet does not have it, and %s vote %s", After(n), strings.Join(votes.names, ", "), state)
	if state == Up {
		t.settled = now
	}
	if tie {
		reason = fmt.Sprintf("%s taken back: half of the fleet does not have it, and for %s it passes", After(n), strings.Join(votes.names, ", "))
	}
	return Certificate{Subject: t.subject, N: back, Reason: printable(reason, maxReason)}, true
}

// tied finds a fall that so many say up to, and do not have in force, that those who
// have it cannot be a quorum, while they are none themselves: an even split. Nobody can
// go on then, forward or back, until the holders' waits are over. It is enough for a
// quorum that the subject passes for this director too, and that only the wait for its
// return keeps its vote down: that wait is for a fall that the fleet never had.
//
// One who lies about what it has in force must not end a wait that the fleet has: there
// must be another besides. And since it could help to make such falls, and disown them,
// nobody ends a tie who has taken a fall of the subject back in the time that S10 looks
// back on.
func (b *Book) tied(t *topic, now time.Time) (crowd, bool) {
	n := t.chain.N
	if After(n) != Down || !t.thought || !t.held || !t.settled.IsZero() && now.Sub(t.settled) < dampWindow {
		return crowd{}, false
	}
	lacks := func(a *author, h *held) bool { return a.Name != b.self && h.n <= n && t.says(h, Up) }
	without := len(b.speakers(t, 0, now, lacks).names)
	if without < 2 || b.quorum.Observers-without >= b.quorum.Votes {
		return crowd{}, false
	}
	if b.quorate(b.speakers(t, n, now, func(*author, *held) bool { return true })) {
		return crowd{}, false
	}
	votes := b.speakers(t, 0, now, func(a *author, h *held) bool { return a.Name == b.self || lacks(a, h) })
	return votes, b.quorate(votes)
}

// behind reports whether anyone votes, freshly, as if the transition in force
// were not: who is gone leaves such votes behind, and they must cost nothing.
func (b *Book) behind(t *topic, now time.Time) bool {
	for _, a := range b.authors {
		if h := &t.votes[a.index]; h.to != Unknown && h.n <= t.chain.N && b.counts(a, t, h, now) {
			return true
		}
	}
	return false
}

// agreed gives the state that a quorum of all fresh votes is for, on whatever
// transition they are. Unknown: there is none.
func (b *Book) agreed(t *topic, now time.Time) (crowd, State) {
	up := b.speakers(t, 0, now, func(_ *author, h *held) bool { return t.says(h, Up) })
	down := b.speakers(t, 0, now, func(_ *author, h *held) bool { return t.says(h, Down) })
	switch {
	case len(up.names) > len(down.names) && b.quorate(up):
		return up, Up
	case len(down.names) > len(up.names) && b.quorate(down):
		return down, Down
	default:
		return crowd{}, Unknown
	}
}

// served is After, where a subject that never fell is up.
func served(n uint64) State {
	if n == 0 {
		return Up
	}
	return After(n)
}
