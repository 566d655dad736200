package health

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// heardOf is one message as the twin remembers it.
type heardOf struct {
	at     time.Duration
	ballot *Ballot
	beat   *Heartbeat
}

// twin is the dumb double of a Book's judgement: it keeps every message in the
// order of arrival and answers each question by reading all of them again.
type twin struct {
	roster []Director
	log    []heardOf
	n      map[Subject]uint64
	since  map[Subject]time.Duration // a quorum votes against the one in force
}

// standing replays one director's messages: its votes, when each was last
// renewed, whether it is heard, whether it abstains.
func (w *twin) standing(name string, now time.Duration) (votes map[Subject]Vote, fresh map[Subject]bool, heard, abstains bool) {
	votes, renewed := map[Subject]Vote{}, map[Subject]time.Duration{}
	last, beatAt, claim := -time.Hour, -time.Hour, uint64(0)
	boot := uint64(0)
	for _, m := range w.log {
		author, mboot := "", uint64(0)
		if m.ballot != nil {
			author, mboot = m.ballot.Director, m.ballot.Boot
		} else {
			author, mboot = m.beat.Director, m.beat.Boot
		}
		if author != name {
			continue
		}
		if mboot > boot {
			clear(votes)
			boot, beatAt, abstains = mboot, -time.Hour, false
		}
		last = m.at
		if m.ballot != nil {
			for _, v := range m.ballot.Votes {
				votes[v.Subject], renewed[v.Subject] = v, m.at
			}
		} else {
			beatAt, claim, abstains = m.at, m.beat.Votes, m.beat.Abstaining
		}
		digest := uint64(0)
		for s, v := range votes {
			digest ^= voteHash(subjectHash(s), v.N, v.To, v.Suspicion)
		}
		if digest == claim && m.at-beatAt <= time.Second {
			for s := range votes {
				renewed[s] = max(renewed[s], beatAt)
			}
		}
	}
	fresh = map[Subject]bool{}
	for s := range votes {
		fresh[s] = now-renewed[s] <= time.Second
	}
	return votes, fresh, now-last <= time.Second, abstains && now-beatAt <= time.Second
}

func (w *twin) judge(now time.Duration, subjects []Subject) map[Subject]uint64 {
	out := map[Subject]uint64{}
	heard := 1
	for _, d := range w.roster[1:] {
		if _, _, h, _ := w.standing(d.Name, now); h {
			heard++
		}
	}
	if heard < len(w.roster)/2+1 {
		clear(w.since)
		return out
	}
	for _, s := range subjects {
		n := w.n[s] + 1
		pro, contra, weights := 0, 0, map[string]int{}
		for _, d := range w.roster {
			votes, fresh, _, abstains := w.standing(d.Name, now)
			v, ok := votes[s]
			if d.Name == "d1" {
				abstains, fresh[s] = false, true // its own words are always fresh
			}
			if !ok || v.N != n || v.To == Unknown || !fresh[s] || abstains {
				continue
			}
			switch falls := n%2 == 1; {
			case falls && v.To == Up && v.Suspicion == 1:
			case falls && v.Suspicion > 0:
				pro++
				weights[d.Site] += min(int(v.Suspicion), w.most())
			case falls == (v.To == Down):
				pro++
				weights[d.Site] += w.most()
			default:
				contra++
			}
		}
		if w.enough(weights) && pro > contra {
			out[s] = n
		} else {
			// Or who votes on a later one has it in force.
			for m := n; m < n+3; m++ {
				if _, enough := w.count(s, now, func(name string, v Vote) bool { return name != "d1" && v.N > m }); enough {
					out[s] = m
				}
			}
			// Or those who have it in force and those who vote for it are enough.
			same, enough := w.count(s, now, func(name string, v Vote) bool { return (name != "d1" || v.N == n) && v.N >= n && word(v) == After(n) })
			other, _ := w.count(s, now, func(name string, v Vote) bool {
				return (name != "d1" || v.N == n) && v.N >= n && word(v) != Unknown && word(v) != After(n)
			})
			if out[s] == 0 && enough && same > other {
				out[s] = n
			}
		}
		if out[s] > 0 {
			w.n[s] = out[s]
			delete(w.since, s)
			continue
		}
		n--
		speaks := func(name string, v Vote) bool { return name != "d1" || v.N == n+1 }
		state := Unknown
		for _, st := range []State{Up, Down} {
			pro, enough := w.count(s, now, func(name string, v Vote) bool { return speaks(name, v) && word(v) == st })
			other, _ := w.count(s, now, func(name string, v Vote) bool { return speaks(name, v) && word(v) != Unknown && word(v) != st })
			if enough && pro > other {
				state = st
			}
		}
		enough := func(m uint64) bool {
			_, enough := w.count(s, now, func(name string, v Vote) bool { return speaks(name, v) && v.N > m && word(v) == state })
			return enough
		}
		late, _ := w.count(s, now, func(_ string, v Vote) bool { return v.N <= n })
		if late == 0 || enough(n) {
			delete(w.since, s)
			continue
		}
		stateOf := map[bool]State{true: Down, false: Up}
		back := n - 1
		if state == stateOf[n%2 == 1] {
			back = n
			if n > 1 && !enough(n-1) {
				back = n - 2
			}
		}
		since, known := w.since[s]
		switch {
		case state == Unknown || back == n:
			delete(w.since, s)
		case !known:
			w.since[s] = now
		case now-since >= disputeFor:
			out[s] = back
			w.n[s] = back
			delete(w.since, s)
		}
	}
	return out
}

// word is what a vote says that the subject is; Unknown, if it says nothing.
func word(v Vote) State {
	if v.N%2 == 1 && v.To == Up && v.Suspicion > 1 { // 1 is only late
		return Unknown
	}
	return v.To
}

// most is what one vote weighs at most.
func (w *twin) most() int {
	need := min(5, len(w.roster))/2 + 1
	return int(math.Ceil(2000 / float64(need)))
}

// enough tells whether what the sites weigh is a transition.
func (w *twin) enough(weights map[string]int) bool {
	need, sites := min(5, len(w.roster))/2+1, map[string]bool{}
	for _, d := range w.roster {
		sites[d.Site] = true
	}
	sum := 0
	for _, weight := range weights {
		if need > 1 && len(sites) > 1 {
			weight = min(weight, (need-1)*w.most())
		}
		sum += weight
	}
	return sum >= 2000
}

// count counts the directors whose fresh vote on a subject is such, and tells
// whether they are enough.
func (w *twin) count(s Subject, now time.Duration, such func(name string, v Vote) bool) (votes int, enough bool) {
	weights := map[string]int{}
	for _, d := range w.roster {
		held, fresh, _, abstains := w.standing(d.Name, now)
		if d.Name == "d1" {
			abstains, fresh[s] = false, true
		}
		if v, ok := held[s]; ok && v.To != Unknown && fresh[s] && !abstains && such(d.Name, v) {
			votes++
			if v.N%2 == 1 && v.To == Down && v.Suspicion > 0 {
				weights[d.Site] += min(int(v.Suspicion), w.most())
			} else {
				weights[d.Site] += w.most()
			}
		}
	}
	return votes, w.enough(weights)
}

// TestS7JudgeAgreesWithItsTwin feeds both the same random conversations, with
// losses, repeats, restarts and silence.
func TestS7JudgeAgreesWithItsTwin(t *testing.T) {
	subjects := subjectsOf(3)
	made := 0
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 6).Draw(t, "directors")
		roster := rosterOf(size)
		for i := range roster {
			roster[i].Site = fmt.Sprintf("dc%d", rapid.IntRange(0, 2).Draw(t, "site"))
		}
		b := NewBook("d1", roster, 0)
		b.SetSubjects(subjects, epoch)
		w := &twin{roster: roster, n: map[Subject]uint64{}, since: map[Subject]time.Duration{}}
		voices := make([]*voice, size)
		for i, d := range roster {
			voices[i] = newVoice(d.Name)
		}
		now := time.Duration(0)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			v := voices[rapid.IntRange(0, size-1).Draw(t, "who")]
			lost := rapid.IntRange(0, 9).Draw(t, "lost") == 0
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				now += time.Duration(rapid.SampledFrom([]int{1, 250, 400, 1000}).Draw(t, "wait")) * ms
			case 1, 2:
				beat := v.beat()
				beat.Abstaining = rapid.IntRange(0, 9).Draw(t, "abstains") == 0
				if !lost {
					_ = b.Heartbeat(beat, at(now))
					w.log = append(w.log, heardOf{at: now, beat: &beat})
				}
			case 3:
				v.boot, v.seq = v.boot+1, 0
				clear(v.votes)
			default:
				s := rapid.SampledFrom(subjects).Draw(t, "subject")
				vote := Vote{Subject: s, N: w.n[s] + uint64(rapid.SampledFrom([]int{0, 1, 1, 1, 1, 2}).Draw(t, "n")), To: State(rapid.SampledFrom([]int{0, 1, 2, 2}).Draw(t, "to"))}
				if vote.N == 0 {
					vote.N = 1
				}
				if vote.N%2 == 1 && vote.To != Unknown {
					vote.Suspicion = rapid.SampledFrom([]uint16{0, 0, 0, 0, 1, 300, 500, 667, 1000, 2000, maxSuspicion}).Draw(t, "suspicion")
				}
				ballot := v.cast(vote)
				if !lost {
					_, _ = b.Ballot(ballot, at(now))
					w.log = append(w.log, heardOf{at: now, ballot: &ballot})
					if rapid.Bool().Draw(t, "doubled") {
						_, _ = b.Ballot(ballot, at(now))
					}
				}
			}
			got := map[Subject]uint64{}
			for _, c := range b.Judge(at(now)) {
				got[c.Subject] = c.N
			}
			want := w.judge(now, subjects)
			made += len(want)
			if !maps.Equal(got, want) {
				t.Fatalf("at %s Judge made %v, its twin %v", now, got, want)
			}
		}
		checkBooks(t, b)
	})
	if made == 0 {
		t.Error("no certificate in any run: the test proves nothing")
	}
}

// checkBooks recomputes from nothing all that a book keeps incrementally.
func checkBooks(t *rapid.T, b *Book) {
	digest := uint64(0)
	digests, counts := map[string]uint64{}, map[string]int{}
	pending := map[Subject]bool{}
	for s, topic := range b.topics {
		if topic.known {
			digest ^= transitionHash(subjectHash(s), topic.chain.N)
		}
		for i, h := range topic.votes {
			digests[b.authors[i].Name] ^= voteHash(subjectHash(s), h.n, h.to, h.suspicion)
			if h.seq > 0 {
				counts[b.authors[i].Name]++
			}
			if next := topic.chain.N + 1; topic.known && (h.n > next || h.n == next && (h.to == After(h.n) || h.to == Up && h.suspicion > 0)) {
				pending[s] = true
			}
		}
	}
	if digest != b.Digest() {
		t.Fatalf("digest %x, from nothing %x", b.Digest(), digest)
	}
	for _, a := range b.authors {
		if a.digest != digests[a.Name] || a.held != counts[a.Name] {
			t.Fatalf("%s: digest %x of %d votes, from nothing %x of %d", a.Name, a.digest, a.held, digests[a.Name], counts[a.Name])
		}
	}
	if got := b.Pending(); len(got) != len(pending) || slices.ContainsFunc(got, func(s Subject) bool { return !pending[s] }) {
		t.Fatalf("pending %v, from nothing %v", got, pending)
	}
}

// TestS7OneLiarChangesNothing: whatever one director of three to five says, by
// ballots, heartbeats, summaries and certificates made of all that it ever
// heard, moves nothing while the others see nothing wrong.
func TestS7OneLiarChangesNothing(t *testing.T) {
	subjects := subjectsOf(3)
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(3, 5).Draw(t, "directors")
		roster := rosterOf(size)
		b := NewBook("d1", roster, 0)
		b.SetSubjects(subjects, epoch)
		honest := []*voice{newVoice("d1")}
		for _, d := range roster[2:] {
			honest = append(honest, newVoice(d.Name))
		}
		liar := newVoice("d2")
		var tape [][]byte // every honest ballot, transient doubts included
		say := func(v *voice, now time.Duration, votes ...Vote) {
			ballot := v.cast(votes...)
			tape = append(tape, ballot.Raw)
			_, _ = b.Ballot(ballot, at(now))
		}
		now := time.Duration(0)
		for _, s := range subjects { // each doubts once, alone, and takes it back
			for _, v := range honest {
				switch rapid.IntRange(0, 3).Draw(t, "doubts") {
				case 0:
					say(v, now, Vote{Subject: s, N: 1, To: Down})
				case 1:
					say(v, now, Vote{Subject: s, N: 1, To: Up, Suspicion: 900})
				}
				say(v, now, Vote{Subject: s, N: 1, To: Up})
			}
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now += time.Duration(rapid.SampledFrom([]int{0, 20, 250, 900}).Draw(t, "wait")) * ms
			for _, v := range honest {
				_ = b.Heartbeat(v.beat(), at(now))
			}
			s := rapid.SampledFrom(subjects).Draw(t, "subject")
			n := uint64(rapid.IntRange(1, 3).Draw(t, "n"))
			switch rapid.IntRange(0, 5).Draw(t, "lie") {
			case 0:
				vote := Vote{Subject: s, N: n, To: After(n), Suspicion: uint16(rapid.IntRange(0, maxSuspicion).Draw(t, "suspicion"))}
				if rapid.Bool().Draw(t, "leans") {
					vote.To = Up
				}
				ballot := liar.cast(vote)
				ballot.Boot = uint64(rapid.IntRange(1, 3).Draw(t, "boot"))
				_, _ = b.Ballot(ballot, at(now))
			case 1:
				beat := liar.beat()
				beat.Votes, beat.Certificates = rapid.Uint64().Draw(t, "digest"), rapid.Uint64().Draw(t, "certificates")
				_ = b.Heartbeat(beat, at(now))
			case 2:
				b.MergeSummary("d2", []Standing{{s, n}, {s, n + 2}}, at(now))
			case 3: // replays
				old, err := openBallot(rapid.SampledFrom(tape).Draw(t, "old"))
				if err == nil {
					_, _ = b.Ballot(old, at(now))
				}
			default: // a certificate of its own and others' old votes
				c := Certificate{Subject: s, N: n, Proof: [][]byte{sign("d2", 9, 9, Vote{Subject: s, N: n, To: After(n), Suspicion: maxSuspicion}).Raw}}
				c.Proof = append(c.Proof, rapid.SliceOfN(rapid.SampledFrom(tape), 0, 8).Draw(t, "proof")...)
				b.Merge([]Certificate{c}, verifyFor(roster), at(now))
			}
			if made := b.Judge(at(now)); len(made) != 0 {
				t.Fatalf("one liar made %v", made)
			}
		}
		for s, state := range b.States() {
			if state != Unknown {
				t.Fatalf("one liar made %s %s", s, state)
			}
		}
		checkBooks(t, b)
	})
}

// TestS7FewerThanAQuorumChangeNothing: q-1 directors together, forging all that
// they can, move nothing, whichever they are.
func TestS7FewerThanAQuorumChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(2, 7).Draw(t, "directors")
		roster := rosterOf(size)
		b := NewBook("d1", roster, 0)
		b.SetSubjects(subjectsOf(2), epoch)
		q := b.Quorum().Votes
		names := make([]string, 0, size)
		for _, d := range roster[1:] {
			names = append(names, d.Name)
		}
		bad := rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, min(q-1, len(names)), rapid.ID[string]).Draw(t, "bad")
		for seq := range uint64(4) {
			for _, name := range bad {
				s := signal(rapid.IntRange(1, 2).Draw(t, "subject"))
				_, _ = b.Ballot(sign(name, 1, seq+1, Vote{Subject: s, N: 1, To: Down}, Vote{Subject: signal(3), N: 1, To: Down}), epoch)
				b.MergeSummary(name, []Standing{{s, uint64(rapid.IntRange(1, 9).Draw(t, "n"))}}, epoch)
				b.Merge([]Certificate{certify(s, 1, 1, 9, bad...), certify(s, 1, 1, 9, append(bad, bad...)...)}, verifyFor(roster), epoch)
			}
			for _, d := range roster[1:] {
				_ = b.Heartbeat(Heartbeat{Director: d.Name, Boot: 1, Seq: seq + 50}, epoch)
			}
			b.Judge(epoch)
		}
		for s, state := range b.States() {
			if state != Unknown {
				t.Fatalf("%d of %d directors (q=%d) made %s %s", len(bad), size, q, s, state)
			}
		}
	})
}

// TestSlept: votes that waited for a director that stood still for longer than they are
// fresh make no transition, though they come in at once, from whatever times (S7, F11).
func TestSlept(t *testing.T) {
	const late = 9 * time.Second
	for _, tc := range []struct {
		name string
		long time.Duration
		want bool
	}{{"for long", late, false}, {"less than a vote is fresh", 200 * time.Millisecond, true}} {
		b := newTestBook(5, 1)
		voices := []*voice{newVoice("d2"), newVoice("d3"), newVoice("d4")}
		b.Slept(tc.long, at(late))
		for _, v := range voices {
			if _, err := b.Ballot(v.cast(Vote{Subject: signal(1), N: 1, To: Down}), at(late)); err != nil {
				t.Fatal(err)
			}
		}
		if made := b.Judge(at(late + 50*time.Millisecond)); (len(made) > 0) != tc.want {
			t.Errorf("%s: %v", tc.name, made)
		}
		if tc.want {
			continue
		}
		// What they say when it is awake counts.
		for _, v := range voices {
			if _, err := b.Ballot(v.cast(Vote{Subject: signal(1), N: 1, To: Down}), at(late+waking)); err != nil {
				t.Fatal(err)
			}
		}
		if made := b.Judge(at(late + waking)); len(made) != 1 {
			t.Errorf("%s, and awake: %v", tc.name, made)
		}
	}
}
