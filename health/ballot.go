package health

import "time"

// Ballot takes in a signed ballot whose signature has been checked, this
// director's own included: its own votes count as those of others do, by what
// it has signed. It gives the number of votes on subjects that are not in the
// spec here, which are held but never counted.
func (b *Book) Ballot(v Ballot, now time.Time) (unknown int, err error) {
	a := b.byName[v.Director]
	if a == nil {
		return 0, ErrForeign
	}
	if !b.admit(a, v.Boot, v.Seq, now) {
		return 0, ErrStale
	}
	applied := 0
	for _, vote := range v.Votes {
		t := b.topics[vote.Subject]
		if t == nil {
			if a.held >= maxVotesHeld || !vote.Subject.Valid() || vote.To == Unknown {
				unknown++
				continue
			}
			t = b.open(vote.Subject)
		}
		if !t.known {
			unknown++
		}
		if b.apply(a, t, vote, v, now) {
			applied++
		}
	}
	if v.Cover != nil {
		applied += b.cover(a, v)
	}
	if applied == 0 && len(v.Votes) > unknown {
		return unknown, ErrOvertaken
	}
	b.renew(a, now)
	return unknown, nil
}

// admit orders an author's messages: an earlier boot is stale, and so is what
// is older than something that arrived a second ago. Within that second UDP
// may reorder; there each subject's latest word counts.
func (b *Book) admit(a *author, boot, seq uint64, now time.Time) bool {
	if boot < a.boot || seq == 0 {
		return false
	}
	if boot > a.boot {
		b.forget(a)
		a.boot, a.seq, a.floor, a.marks = boot, 0, mark{}, a.marks[:0]
		a.beat, a.beatAt, a.renewed, a.summed = Heartbeat{}, time.Time{}, time.Time{}, false
	}
	for len(a.marks) > 0 && now.Sub(a.marks[0].at) >= fresh {
		a.floor = a.marks[0]
		a.marks = append(a.marks[:0], a.marks[1:]...)
	}
	if seq <= a.floor.seq {
		return false
	}
	if seq > a.seq {
		a.seq, a.at = seq, now
		if last := len(a.marks) - 1; last < 0 || now.Sub(a.marks[last].at) >= fresh/4 {
			a.marks = append(a.marks, mark{seq: seq, at: now})
		}
	}
	return true
}

// apply takes one vote in, unless a later word of its author is held.
func (b *Book) apply(a *author, t *topic, vote Vote, v Ballot, now time.Time) bool {
	h := &t.votes[a.index]
	if v.Seq <= h.seq {
		return false
	}
	if h.seq == 0 {
		a.held++
	}
	a.digest ^= voteHash(t.hash, h.n, h.to, h.suspicion) ^ voteHash(t.hash, vote.N, vote.To, vote.Suspicion)
	same := h.n == vote.N && h.to == vote.To && h.suspicion == vote.Suspicion
	*h = held{n: vote.N, to: vote.To, suspicion: vote.Suspicion, seq: v.Seq, at: now}
	if b.quorum.Weight(vote) > 0 {
		h.raw = v.Raw
	}
	if !same {
		b.consider(t)
	}
	return true
}

// cover withdraws what the author no longer names within the ballot's range.
func (b *Book) cover(a *author, v Ballot) int {
	named := make(map[Subject]struct{}, len(v.Votes))
	for _, vote := range v.Votes {
		named[vote.Subject] = struct{}{}
	}
	cleared := 0
	for s, t := range b.topics {
		h := &t.votes[a.index]
		if h.seq == 0 || h.seq >= v.Seq || t.hash < v.Cover.Low || t.hash > v.Cover.High {
			continue
		}
		if _, ok := named[s]; ok || h.to == Unknown {
			continue
		}
		a.digest ^= voteHash(t.hash, h.n, h.to, h.suspicion)
		*h = held{n: h.n, seq: v.Seq}
		b.consider(t)
		cleared++
	}
	return cleared
}

// forget drops all that is held of an author's votes: another boot of it knows
// nothing of them.
func (b *Book) forget(a *author) {
	for _, t := range b.topics {
		if t.votes[a.index].seq > 0 || t.reported[a.index] > 0 {
			t.votes[a.index], t.reported[a.index] = held{}, 0
			b.consider(t)
		}
		b.sweep(t)
	}
	a.digest, a.held = 0, 0
}

// Heartbeat takes in a signed heartbeat. It renews the author's votes if they
// are, by digest, those that are held.
func (b *Book) Heartbeat(h Heartbeat, now time.Time) error {
	a := b.byName[h.Director]
	if a == nil {
		return ErrForeign
	}
	if !b.admit(a, h.Boot, h.Seq, now) {
		return ErrStale
	}
	if h.Seq <= a.beat.Seq {
		return ErrOvertaken
	}
	a.beat, a.beatAt = h, now
	b.renew(a, now)
	switch {
	case h.Certificates == b.digest:
		a.differs, a.wait = time.Time{}, 0
	case a.differs.IsZero():
		a.differs = now
	}
	return nil
}

// renew makes the votes held fresh as of the author's latest heartbeat, if that
// speaks of exactly these.
func (b *Book) renew(a *author, now time.Time) {
	if !a.beatAt.IsZero() && now.Sub(a.beatAt) <= fresh && a.beat.Votes == a.digest {
		a.renewed = a.beatAt
	}
}

// Differing names the peers that hold other transitions in force than this
// director for more than a moment, and marks them as told: each is due a
// summary now, and again with growing pauses while neither side moves.
func (b *Book) Differing(now time.Time) []string {
	var out []string
	for _, a := range b.authors {
		if a.Name == b.self || a.differs.IsZero() || now.Sub(a.differs) < differGrace || now.Sub(a.beatAt) > fresh {
			continue
		}
		if a.beat.Certificates == b.digest {
			continue // settled since its heartbeat
		}
		pair := [2]uint64{b.digest, a.beat.Certificates}
		if pair != a.askedFor {
			a.wait = 0
		}
		if now.Sub(a.asked) < max(a.wait, differWait) {
			continue
		}
		a.wait = min(max(2*a.wait, differWait), differMost)
		a.asked, a.askedFor = now, pair
		out = append(out, a.Name)
	}
	return out
}

// Heard acknowledges, for this director's own heartbeat: what it holds of each
// peer's votes, also that it holds none. In a large fleet one heartbeat has room
// for some of the peers; the next goes on with those that follow.
func (b *Book) Heard() []Heard {
	out := make([]Heard, 0, min(len(b.authors), maxHeard))
	size := 0
	for range b.authors {
		a := b.authors[b.acked%len(b.authors)]
		if a.Name != b.self {
			h := Heard{Director: a.Name, Boot: a.boot, Votes: a.digest}
			if size += 2 + len(encodeHeard(h)); size > maxHeardBytes || len(out) == maxHeard {
				break
			}
			out = append(out, h)
		}
		b.acked = (b.acked + 1) % len(b.authors)
	}
	return out
}
