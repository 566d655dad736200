package health

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Merge takes in certificates from a peer. Those that say nothing new cost no
// verification; those on subjects not in the spec, or not proven, are refused.
// Applied are the ones that changed what is in force. An isolated director
// applies proven ones too.
func (b *Book) Merge(certs []Certificate, verify Verify, now time.Time) (applied []Certificate, refused int) {
	opened := map[string]*Ballot{}
	open := func(raw []byte) *Ballot {
		v, ok := opened[string(raw)]
		if !ok && len(opened) < maxOpened {
			if ballot, err := verify(raw); err == nil {
				v = &ballot
			}
			opened[string(raw)] = v
		}
		return v
	}
	for _, c := range certs {
		t := b.topics[c.Subject]
		if t == nil || !t.known || c.N == 0 || len(c.Proof) == 0 || len(c.Proof) > maxProof {
			refused++
			continue
		}
		c.Reason = printable(c.Reason, maxReason)
		if c.N < t.chain.N || (c.N == t.chain.N && compareProofs(c, t.cert) >= 0) {
			continue
		}
		if !b.proven(t, c, open, now) {
			refused++
			continue
		}
		if c.N == t.chain.N {
			t.cert = c
			continue
		}
		b.advance(t, c, now)
		applied = append(applied, c)
	}
	return applied, refused
}

// proven reports whether the proof holds the votes of a quorum: of directors in
// the roster, each counted once, none of whom is known to have withdrawn since.
func (b *Book) proven(t *topic, c Certificate, open func([]byte) *Ballot, now time.Time) bool {
	votes := crowd{}
	b.begin()
	seen := make([]bool, len(b.authors))
	for _, raw := range c.Proof {
		v := open(raw)
		if v == nil {
			continue
		}
		a := b.byName[v.Director]
		if a == nil || seen[a.index] {
			continue
		}
		i := slices.IndexFunc(v.Votes, func(vote Vote) bool { return vote.Subject == c.Subject && vote.N == c.N })
		if i < 0 {
			continue
		}
		if w := min(b.quorum.Weight(v.Votes[i]), b.left(a, t, v, c.N, now)); w > 0 {
			seen[a.index] = true
			b.join(&votes, a, w)
		}
	}
	return b.quorate(votes)
}

// left is what the author is known to have left of its vote for transition n since
// it signed the ballot: less by another word on it, nothing by a restart, or
// because what it stands by now, all of which is held, has no such vote. Who has
// gone on to vote on a later transition has seen this one in force.
func (b *Book) left(a *author, t *topic, v *Ballot, n uint64, now time.Time) int {
	switch {
	case v.Boot < a.boot:
		return 0
	case a.renewed.IsZero() && now.Sub(b.began) < settling:
		return 0 // what it stands by now is still to be heard
	}
	h := &t.votes[a.index]
	complete := !a.renewed.IsZero() && now.Sub(a.renewed) <= fresh && a.beat.Seq > v.Seq && a.beat.Votes == a.digest
	switch {
	case v.Boot > a.boot, h.seq > 0 && h.n > n:
		return b.quorum.Cap()
	case h.seq <= v.Seq && !complete:
		return b.quorum.Cap()
	case h.seq == 0 || h.n < n:
		return 0
	default:
		return b.quorum.Weight(h.vote(t.subject))
	}
}

// Standing is one transition in force, without its proof.
type Standing struct {
	Subject Subject
	N       uint64
}

// Summary gives the transitions in force of the subjects in the spec, ordered
// by subject: what is sent to a peer that differs.
func (b *Book) Summary() []Standing {
	var out []Standing
	for s, t := range b.topics {
		if t.known && t.chain.N > 0 {
			out = append(out, Standing{Subject: s, N: t.chain.N})
		}
	}
	slices.SortFunc(out, func(x, y Standing) int { return x.Subject.Compare(y.Subject) })
	return out
}

// MergeSummary takes in what a peer, by a signed message, reports in force, and
// adopts what a quorum of current directors in enough fault domains reports:
// the way out for one who cannot verify a proof. A report of a later transition
// is one of those before it too.
func (b *Book) MergeSummary(from string, summary []Standing, now time.Time) []Certificate {
	a := b.byName[from]
	if a == nil || from == b.self {
		return nil
	}
	for _, t := range b.topics {
		t.reported[a.index] = 0 // a summary is whole: what it took back is not in it
	}
	a.summed, a.summary = true, 0
	for _, s := range summary {
		a.summary ^= transitionHash(subjectHash(s.Subject), s.N)
		if t := b.topics[s.Subject]; t != nil && t.known {
			t.reported[a.index] = s.N
		}
	}
	var out []Certificate
	for _, t := range b.topics {
		b.consider(t)
		if _, ok := b.ahead[t]; !ok {
			continue
		}
		if c, ok := b.reported(t, now); ok {
			b.advance(t, c, now)
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(x, y Certificate) int { return x.Subject.Compare(y.Subject) })
	return out
}

// reports tells whether what an author reported is still so: its heartbeat's
// digest is that of its last summary. One who has taken a transition back since,
// or has gone silent, must not help another to bring it in.
func (b *Book) reports(a *author, now time.Time) bool {
	return a.summed && a.summary == a.beat.Certificates && !a.beatAt.IsZero() && now.Sub(a.beatAt) <= fresh
}

// reported finds the latest transition that a quorum reports in force.
func (b *Book) reported(t *topic, now time.Time) (Certificate, bool) {
	best, found := t.chain.N, crowd{}
	for _, n := range t.reported {
		if n <= best {
			continue
		}
		c := crowd{}
		b.begin()
		for _, a := range b.authors {
			if t.reported[a.index] >= n && b.reports(a, now) {
				b.join(&c, a, b.quorum.Cap())
				c.names = append(c.names, a.Name)
			}
		}
		if b.quorate(c) {
			best, found = n, c
		}
	}
	if best == t.chain.N {
		return Certificate{}, false
	}
	reason := fmt.Sprintf("%s, as %s report it in force", After(best), strings.Join(found.names, ", "))
	return Certificate{Subject: t.subject, N: best, Reason: printable(reason, maxReason)}, true
}

// Lacking gives the proven transitions in force here that a peer with this
// summary has not reached, ordered by subject.
func (b *Book) Lacking(summary []Standing) []Certificate {
	has := make(map[Subject]uint64, len(summary))
	for _, s := range summary {
		has[s.Subject] = s.N
	}
	var out []Certificate
	for s, t := range b.topics {
		if t.known && t.chain.N > has[s] && len(t.cert.Proof) > 0 {
			out = append(out, t.cert)
		}
	}
	slices.SortFunc(out, func(x, y Certificate) int { return x.Subject.Compare(y.Subject) })
	return out
}
