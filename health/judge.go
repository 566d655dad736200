package health

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
)

// disputeFor is how long a quorum must vote against the transition in force here
// before it is taken back: ten times what a proof needs to reach all.
const disputeFor = 3 * time.Second

// Judge makes the certificates that fresh votes now prove, puts them in force
// and gives them ordered by subject. It looks only at subjects for which
// someone votes for a transition. An isolated or abstaining director makes
// none. A transition that it takes back shows as the one before it, without a
// proof.
func (b *Book) Judge(now time.Time) []Certificate {
	if len(b.pending) == 0 && len(b.contested) == 0 || b.abstaining || b.Isolated(now) {
		return nil
	}
	type ruling struct {
		topic *topic
		cert  Certificate
	}
	var made []ruling
	for t := range b.pending {
		if c, ok := b.rule(t, now); ok {
			made = append(made, ruling{t, c})
		} else if c, ok := b.overtaken(t, now); ok {
			made = append(made, ruling{t, c})
		}
	}
	for t := range b.contested {
		if c, ok := b.overrule(t, now); ok {
			made = append(made, ruling{t, c})
		}
	}
	slices.SortFunc(made, func(x, y ruling) int { return x.cert.Subject.Compare(y.cert.Subject) })
	var out []Certificate
	for _, r := range made {
		switch {
		case r.cert.N > r.topic.chain.N:
			b.advance(r.topic, r.cert, now)
		case r.cert.N+1 == r.topic.chain.N:
			b.takeBack(r.topic)
		}
		out = append(out, r.cert)
	}
	return out
}

// rule counts the fresh votes on a subject's next transition.
func (b *Book) rule(t *topic, now time.Time) (Certificate, bool) {
	n := t.chain.N + 1
	to := After(n)
	votes, against := 0, 0
	sites := domains{}
	for _, a := range b.authors {
		h := &t.votes[a.index]
		if h.n != n || h.to == Unknown || !b.counts(a, t, h, now) {
			continue
		}
		if h.to != to {
			against++
			continue
		}
		votes++
		sites.add(a.domain())
	}
	if votes < b.quorum.Votes || votes <= against || sites.count() < b.quorum.Domains {
		return Certificate{}, false
	}
	c := Certificate{Subject: t.subject, N: n}
	var names []string
	for _, a := range b.authors {
		h := &t.votes[a.index]
		if h.n == n && h.to == to && b.counts(a, t, h, now) {
			c.Proof = append(c.Proof, h.raw)
			names = append(names, a.Name)
		}
	}
	c.Reason = fmt.Sprintf("%s for %d of %d observers (%s)", to, votes, b.quorum.Observers, strings.Join(names, ", "))
	if t.thought && t.own.To == to && t.why != "" {
		c.Reason += ": " + t.why
	}
	c.Reason = printable(c.Reason, maxReason)
	return c, true
}

// overtaken finds a transition that a quorum has in force and has gone on from:
// who votes on n+1 has n in force, so its fresh vote is a report of that. It is
// the short way for one whom their votes for n reached late, or too late: they
// are replaced within milliseconds.
func (b *Book) overtaken(t *topic, now time.Time) (Certificate, bool) {
	best := t.chain.N
	for i := range t.votes {
		n := t.votes[i].n
		if n <= best+1 {
			continue
		}
		if votes, sites, _ := b.beyond(t, n-1, now); votes >= b.quorum.Votes && sites >= b.quorum.Domains {
			best = n - 1
		}
	}
	if best == t.chain.N {
		return Certificate{}, false
	}
	_, _, names := b.beyond(t, best, now)
	reason := fmt.Sprintf("%s, as %s have it in force", After(best), strings.Join(names, ", "))
	return Certificate{Subject: t.subject, N: best, Reason: printable(reason, maxReason)}, true
}

// beyond counts the others who vote, freshly, on what follows transition n.
func (b *Book) beyond(t *topic, n uint64, now time.Time) (votes, sites int, names []string) {
	found := domains{}
	for _, a := range b.authors {
		h := &t.votes[a.index]
		if a.Name == b.self || h.n <= n || h.to == Unknown || !b.counts(a, t, h, now) {
			continue
		}
		votes++
		found.add(a.domain())
		names = append(names, a.Name)
	}
	return votes, found.count(), names
}

// overrule finds a transition in force here that the fleet never had: its voters
// withdrew before the others knew of it, so nobody will take its proof, and
// nobody can vote on the next one. A quorum says so by fresh votes against it,
// for longer than a proof is under way.
func (b *Book) overrule(t *topic, now time.Time) (Certificate, bool) {
	n := t.chain.N
	votes, sites := 0, domains{}
	var names []string
	for _, a := range b.authors {
		h := &t.votes[a.index]
		if h.n != n || h.to == Unknown || h.to == After(n) || !b.counts(a, t, h, now) {
			continue
		}
		votes++
		sites.add(a.domain())
		names = append(names, a.Name)
	}
	if votes < b.quorum.Votes || sites.count() < b.quorum.Domains {
		t.disputed = time.Time{}
		return Certificate{}, false
	}
	if t.disputed.IsZero() {
		t.disputed = now
	}
	if now.Sub(t.disputed) < disputeFor {
		return Certificate{}, false
	}
	reason := fmt.Sprintf("%s taken back: only known here, and %s vote against it", After(n), strings.Join(names, ", "))
	return Certificate{Subject: t.subject, N: n - 1, Reason: printable(reason, maxReason)}, true
}

// counts reports whether a held vote is fresh and its author stands by it.
func (b *Book) counts(a *author, t *topic, h *held, now time.Time) bool {
	if len(h.raw) == 0 && h.to == After(h.n) {
		return false // could not be proved
	}
	if a.Name == b.self {
		return !t.thought || (t.own.N == h.n && t.own.To == h.to)
	}
	if a.beat.Abstaining && now.Sub(a.beatAt) <= fresh {
		return false
	}
	at := h.at
	if a.renewed.After(at) {
		at = a.renewed
	}
	return now.Sub(at) <= fresh
}

// domains counts distinct fault domains up to two, which is all that is ever
// asked.
type domains struct {
	first string
	n     int
}

func (d *domains) add(name string) {
	switch {
	case d.n == 0:
		d.first, d.n = name, 1
	case d.n == 1 && name != d.first:
		d.n = 2
	}
}

func (d *domains) count() int { return d.n }

// Abstain says that this director has reason to doubt itself beyond S8: it
// makes no certificates while it does. Its heartbeats must say so too.
func (b *Book) Abstain(yes bool) { b.abstaining = yes }

// Hears counts the directors of the roster, itself included, from whom a signed
// message arrived within the last second.
func (b *Book) Hears(now time.Time) int {
	n := 0
	for _, a := range b.authors {
		if a.Name == b.self || (!a.at.IsZero() && now.Sub(a.at) <= fresh) {
			n++
		}
	}
	return n
}

// Isolated reports whether this director hears fewer than ⌊N/2⌋+1 of the
// roster's N (S8).
func (b *Book) Isolated(now time.Time) bool { return b.Hears(now) < b.quorum.majority() }

// Merge is the law by which certificates of one subject are joined: the later
// transition; of the same one the lexicographically smaller proof, where none
// at all ranks last, and then the smaller reason. It is commutative,
// associative and idempotent, and asks no clock.
func Merge(x, y Certificate) Certificate {
	switch {
	case x.N > y.N:
		return x
	case x.N < y.N:
		return y
	case compareProofs(x, y) <= 0:
		return x
	default:
		return y
	}
}

func compareProofs(x, y Certificate) int {
	if (len(x.Proof) == 0) != (len(y.Proof) == 0) {
		if len(x.Proof) == 0 {
			return 1
		}
		return -1
	}
	if c := slices.CompareFunc(x.Proof, y.Proof, bytes.Compare); c != 0 {
		return c
	}
	return strings.Compare(x.Reason, y.Reason)
}
