package health

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Judge makes the certificates that fresh votes now prove, puts them in force
// and gives them ordered by subject. It looks only at subjects for which
// someone votes for a transition. An isolated or abstaining director makes
// none, nor does one that has just slept. A transition that it takes back shows as the one that it goes back to,
// without a proof.
func (b *Book) Judge(now time.Time) []Certificate {
	if len(b.pending) == 0 && len(b.contested) == 0 && len(b.ahead) == 0 {
		return nil
	}
	if b.abstaining || b.Isolated(now) || now.Before(b.awake()) {
		for t := range b.contested {
			t.disputed = time.Time{} // what it heard last, it does not hear now
		}
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
		} else if c, ok := b.joined(t, now); ok {
			made = append(made, ruling{t, c})
		}
	}
	for t := range b.ahead {
		if c, ok := b.reported(t, now); ok {
			made = append(made, ruling{t, c})
		}
	}
	for t := range b.contested {
		if c, ok := b.overrule(t, now); ok {
			made = append(made, ruling{t, c})
		}
	}
	slices.SortFunc(made, func(x, y ruling) int {
		return cmp.Or(x.cert.Subject.Compare(y.cert.Subject), cmp.Compare(y.cert.N, x.cert.N))
	})
	var out []Certificate
	for i, r := range made {
		if i > 0 && made[i-1].topic == r.topic {
			continue // the latest transition that is found counts
		}
		if r.cert.N > r.topic.chain.N {
			b.advance(r.topic, r.cert, now)
		} else {
			b.takeBack(r.topic, r.cert.N)
		}
		out = append(out, r.cert)
	}
	return out
}

// rule counts the fresh votes on a subject's next transition.
func (b *Book) rule(t *topic, now time.Time) (Certificate, bool) {
	n := t.chain.N + 1
	to := After(n)
	votes, against := crowd{}, 0
	b.begin()
	for _, a := range b.authors {
		h := &t.votes[a.index]
		if h.n != n || h.to == Unknown || !b.counts(a, t, h, now) {
			continue
		}
		v := h.vote(t.subject)
		if w := b.quorum.Weight(v); w > 0 {
			b.join(&votes, a, w)
		} else if v.To != to && !v.Leans() {
			against++
		}
	}
	if !b.quorate(votes) || votes.count <= against {
		return Certificate{}, false
	}
	c := Certificate{Subject: t.subject, N: n}
	var names []string
	for _, a := range b.authors {
		h := &t.votes[a.index]
		if h.n == n && b.quorum.Weight(h.vote(t.subject)) > 0 && b.counts(a, t, h, now) {
			c.Proof = append(c.Proof, h.raw)
			names = append(names, a.Name)
		}
	}
	c.Reason = fmt.Sprintf("%s for %d of %d observers (%s)", to, votes.count, b.quorum.Observers, strings.Join(names, ", "))
	if t.thought && t.own.To == to && t.why != "" {
		c.Reason += ": " + t.why
	}
	c.Reason = printable(c.Reason, maxReason)
	return c, true
}

// counts reports whether a held vote is fresh and its author stands by it.
func (b *Book) counts(a *author, t *topic, h *held, now time.Time) bool {
	if len(h.raw) == 0 && b.quorum.Weight(h.vote(t.subject)) > 0 {
		return false // could not be proved
	}
	if a.Name == b.self {
		return !t.thought || t.own.of(t.subject).backs(h.vote(t.subject))
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

// backs reports whether who now thinks so still stands by what it has signed: at
// least as much suspicion, or as little.
func (v Vote) backs(signed Vote) bool {
	switch {
	case v.N != signed.N:
		return false
	case signed.Leans():
		return v.To == After(v.N) || v.Leans() && v.Suspicion >= signed.Suspicion
	default:
		return v.To == signed.To && !v.Leans()
	}
}

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
