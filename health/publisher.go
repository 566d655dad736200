package health

import (
	"cmp"
	"slices"
	"time"
)

// The pace of a publisher.
const (
	repeatFirst = 50 * time.Millisecond // after the first send; UDP loses
	repeatNext  = 100 * time.Millisecond
	repeatThen  = 250 * time.Millisecond // a heartbeat's interval: no acknowledgement comes sooner
	fullAfter   = time.Second            // a digest unknown here for so long: send all
	fullWait    = 500 * time.Millisecond // between full sets, doubling …
	fullMost    = 8 * time.Second        // … up to this
	peerLife    = 2 * time.Second        // who is silent for longer is not repeated to

	remembered = 64 // digests, to recognise an acknowledgement that is behind
)

// Outgoing is one ballot to be sealed and sent. What goes to all is sent even
// if nobody is there: the director counts its own sealed ballots too.
type Outgoing struct {
	To      string // "" = every peer at once
	Votes   []Vote
	Cover   *Range
	Payload []byte // both, encoded: what is sealed
}

// Publisher owns this director's votes in force, and repeats them to each peer
// until its heartbeats say that it holds them. The director's loop owns it; it
// is not for concurrent use.
type Publisher struct {
	self    string
	boot    uint64
	votes   map[Subject]*cast
	digest  uint64
	version uint64
	gone    int                 // withdrawals among the votes
	past    [remembered]version // a ring by version
	unsent  []*cast
	peers   []*peer // by name
}

// cast is one vote in force, or the withdrawal of one until all know.
type cast struct {
	vote    Vote
	hash    uint64
	version uint64
	unsent  bool
}

// share is the vote's part of the digest.
func (c *cast) share() uint64 { return voteHash(c.hash, c.vote.N, c.vote.To, c.vote.Suspicion) }

type version struct{ n, digest uint64 }

// peer is what one director is known to hold of these votes.
type peer struct {
	name    string
	boot    uint64
	seq     uint64
	at      time.Time // its last heartbeat
	acked   uint64    // it holds all up to this version
	next    time.Time // the next repeat
	attempt int
	lost    time.Time // what it holds has come no closer since
	full    bool      // it is sent everything, with cover
	filled  uint64    // the version that it was last sent everything of, while full
	wait    time.Duration
	whole   time.Time // all votes were last sent to it
}

// NewPublisher makes the publisher of a director without votes.
func NewPublisher(self string, boot uint64, peers []string) *Publisher {
	p := &Publisher{self: self, boot: boot, votes: map[Subject]*cast{}}
	p.SetPeers(peers)
	return p
}

// SetPeers gives the names of the roster; this director's own is ignored.
func (p *Publisher) SetPeers(names []string) {
	old := p.peers
	p.peers = nil
	names = slices.Clone(names)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if name == p.self {
			continue
		}
		i := slices.IndexFunc(old, func(q *peer) bool { return q.name == name })
		if i < 0 {
			p.peers = append(p.peers, &peer{name: name})
			continue
		}
		p.peers = append(p.peers, old[i])
	}
}

// Digest covers the votes in force, for the heartbeat.
func (p *Publisher) Digest() uint64 { return p.digest }

// Cast changes votes: those given, and no others.
func (p *Publisher) Cast(votes []Vote, now time.Time) {
	changed := false
	for _, v := range votes {
		c := p.votes[v.Subject]
		if c == nil {
			if v.To == Unknown || !v.Subject.Valid() {
				continue
			}
			c = &cast{vote: Vote{Subject: v.Subject}, hash: subjectHash(v.Subject)}
			p.votes[v.Subject] = c
		}
		if c.vote == v || (c.vote.To == Unknown && v.To == Unknown) {
			continue
		}
		if !changed {
			changed = true
			p.version++
		}
		p.digest ^= c.share() ^ (&cast{vote: v, hash: c.hash}).share()
		switch {
		case v.To == Unknown:
			p.gone++
		case c.vote.To == Unknown && c.version > 0:
			p.gone--
		}
		c.vote, c.version = v, p.version
		if !c.unsent {
			c.unsent = true
			p.unsent = append(p.unsent, c)
		}
	}
	if !changed {
		return
	}
	p.past[p.version%remembered] = version{n: p.version, digest: p.digest}
	for _, q := range p.peers {
		if q.acked == p.version-1 || q.attempt > 1 && !q.full {
			q.attempt, q.next = 0, now.Add(repeatFirst)
		}
	}
}

// Acknowledged takes in what a peer's heartbeat says that it holds of this
// director's votes.
func (p *Publisher) Acknowledged(h Heartbeat, now time.Time) {
	i, ok := slices.BinarySearchFunc(p.peers, h.Director, func(q *peer, name string) int { return cmp.Compare(q.name, name) })
	if !ok {
		return
	}
	q := p.peers[i]
	if h.Boot < q.boot || (h.Boot == q.boot && h.Seq <= q.seq) {
		return
	}
	if h.Boot > q.boot || now.Sub(q.at) > peerLife {
		*q = peer{name: q.name, boot: h.Boot, next: q.notBefore(now), whole: q.whole}
	}
	q.seq, q.at = h.Seq, now
	mine := slices.IndexFunc(h.Heard, func(heard Heard) bool { return heard.Director == p.self })
	if mine < 0 {
		return // no room for it in this heartbeat
	}
	digest := uint64(0)
	if heard := h.Heard[mine]; heard.Boot == p.boot {
		digest = heard.Votes
	}
	n, known := p.recall(digest)
	switch {
	case known && n == p.version:
		*q = peer{name: q.name, boot: q.boot, seq: q.seq, at: now, acked: n, whole: q.whole}
		p.settle(now)
	case known && n == 0:
		p.fill(q, now) // it holds nothing at all
	case known && n > q.acked && n >= q.filled: // what came since is repeated
		if q.full { // not by the pace of what is sent whole
			q.attempt, q.next = 0, now.Add(repeatFirst)
		}
		q.acked, q.lost, q.full, q.filled = n, now, false, 0
	case q.lost.IsZero():
		q.lost = now
	case now.Sub(q.lost) >= fullAfter:
		p.fill(q, now)
	}
}

// recall finds the latest version that had this digest.
func (p *Publisher) recall(digest uint64) (uint64, bool) {
	for i := range uint64(remembered) {
		if i > p.version {
			break
		}
		n := p.version - i
		if n == 0 {
			return 0, digest == 0
		}
		if v := p.past[n%remembered]; v.n == n && v.digest == digest {
			return n, true
		}
	}
	return 0, digest == 0
}

// fill turns to sending a peer everything.
func (p *Publisher) fill(q *peer, now time.Time) {
	if q.full {
		return
	}
	q.full, q.acked, q.filled, q.wait = true, 0, p.version, 0
	if q.next.Before(now) { // else a repeat is planned anyway
		q.next = q.notBefore(now)
	}
}

// notBefore spaces what is sent whole: a peer that keeps forgetting, or keeps
// restarting, must not have all votes sealed anew for each of its heartbeats.
func (q *peer) notBefore(now time.Time) time.Time {
	if again := q.whole.Add(fullWait); again.After(now) {
		return again
	}
	return now
}

// settle forgets withdrawals that every peer that is there knows of.
func (p *Publisher) settle(now time.Time) {
	if p.gone == 0 {
		return
	}
	oldest := p.version
	for _, q := range p.peers {
		if p.live(q, now) {
			oldest = min(oldest, q.acked)
		}
	}
	if oldest < p.version {
		return
	}
	for s, c := range p.votes {
		if c.vote.To == Unknown && !c.unsent {
			delete(p.votes, s)
			p.gone--
		}
	}
}

func (p *Publisher) live(q *peer, now time.Time) bool {
	return !q.at.IsZero() && now.Sub(q.at) <= peerLife
}

// lacks reports whether a peer that is there needs a repeat.
func (p *Publisher) lacks(q *peer, now time.Time) bool {
	return p.live(q, now) && (q.full || q.acked < p.version)
}

// Due gives the ballots to send now: new votes at once and to all, then to each
// peer what it has not acknowledged.
func (p *Publisher) Due(now time.Time) []Outgoing {
	var out []Outgoing
	if len(p.unsent) > 0 {
		votes := make([]Vote, 0, len(p.unsent))
		for _, c := range p.unsent {
			votes = append(votes, c.vote)
			c.unsent = false
		}
		p.unsent = p.unsent[:0]
		out = pack(out, "", votes)
		if len(p.peers) == 0 {
			p.settle(now)
		}
	}
	var due []*peer
	together := true
	for _, q := range p.peers {
		if !p.lacks(q, now) {
			continue
		}
		if now.Before(q.next) {
			together = false
			continue
		}
		due = append(due, q)
		together = together && !q.full && q.acked == due[0].acked
	}
	if together && len(due) > 1 { // one signature serves all
		if votes := p.since(due[0].acked); len(votes) > 0 {
			out = pack(out, "", votes)
		}
	}
	for _, q := range due {
		switch {
		case q.full:
			out, q.filled = p.packAll(out, q.name), p.version
		case !together || len(due) == 1:
			out = pack(out, q.name, p.since(q.acked))
		}
		if q.full || q.acked == 0 {
			q.whole = now
		}
		q.next = now.Add(q.pause())
		q.attempt++
	}
	return out
}

// pause is how long to wait for an acknowledgement before the next repeat.
func (q *peer) pause() time.Duration {
	switch {
	case q.full:
		q.wait = min(max(2*q.wait, fullWait), fullMost)
		return q.wait
	case q.attempt == 0:
		return repeatNext
	default:
		return repeatThen
	}
}

// Next says when Due has something to do; zero: not before the next Cast or
// Acknowledged.
func (p *Publisher) Next(now time.Time) time.Time {
	if len(p.unsent) > 0 {
		return now
	}
	var next time.Time
	for _, q := range p.peers {
		if p.lacks(q, now) && (next.IsZero() || q.next.Before(next)) {
			next = q.next
		}
	}
	return next
}

// since gives the votes and withdrawals changed after a version, by subject.
func (p *Publisher) since(acked uint64) []Vote {
	var out []Vote
	for _, c := range p.votes {
		if c.version > acked {
			out = append(out, c.vote)
		}
	}
	slices.SortFunc(out, func(a, b Vote) int { return a.Subject.Compare(b.Subject) })
	return out
}

// pack splits votes into ballots that fit in a datagram each.
func pack(out []Outgoing, to string, votes []Vote) []Outgoing {
	for len(votes) > 0 {
		n := fitting(votes)
		out = append(out, Outgoing{To: to, Votes: votes[:n:n], Payload: EncodeVotes(votes[:n], nil)})
		votes = votes[n:]
	}
	return out
}

// fitting counts the leading votes that fit in a datagram.
func fitting(votes []Vote) int {
	var buf [64]byte
	size, n := 2+18, 0 // format and cover
	for n < len(votes) && n < maxBallotVotes {
		size += len(appendVote(buf[:0], votes[n])) + 2
		if size > maxPayload && n > 0 {
			break
		}
		n++
	}
	return n
}

// packAll gives every vote in force in ballots that together cover all hashes,
// so that a peer also loses what was withdrawn while it was away.
func (p *Publisher) packAll(out []Outgoing, to string) []Outgoing {
	type hashed struct {
		vote Vote
		hash uint64
	}
	all := make([]hashed, 0, len(p.votes))
	for _, c := range p.votes {
		if c.vote.To != Unknown {
			all = append(all, hashed{c.vote, c.hash})
		}
	}
	slices.SortFunc(all, func(a, b hashed) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), a.vote.Subject.Compare(b.vote.Subject))
	})
	votes := make([]Vote, len(all))
	for i, h := range all {
		votes[i] = h.vote
	}
	low := uint64(0)
	for first := true; first || len(votes) > 0; first = false {
		n := fitting(votes)
		cover := &Range{Low: low, High: ^uint64(0)}
		if n < len(votes) {
			cover.High = all[n].hash - 1
		}
		out = append(out, Outgoing{To: to, Votes: votes[:n:n], Cover: cover, Payload: EncodeVotes(votes[:n], cover)})
		low = cover.High + 1
		votes, all = votes[n:], all[n:]
	}
	return out
}
