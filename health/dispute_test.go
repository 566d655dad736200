package health

import (
	"slices"
	"testing"
	"time"
)

// unheard makes d3 hear the others and be heard by nobody: a one-way wire, or an
// identity in doubt.
func unheard(from, _ string) bool { return from == "d3" }

// TestL2WhatTheFleetNeverHadIsTakenBack: one director, heard by nobody, proves a
// fall with the vote of another, who withdraws it before the wire is whole.
// Nobody takes the proof then, and nobody could vote for a return: without a way
// back that director would differ for ever.
func TestL2WhatTheFleetNeverHadIsTakenBack(t *testing.T) {
	for _, restart := range []bool{false, true} {
		f := newFleet(t, 7, 3, 2)
		f.delay = 20 * ms
		f.advance(3 * time.Second)
		f.cut = unheard
		f.dead = onlyFor(1, "d1", "d3")
		f.advance(3 * time.Second)
		f.agree(1, Down, "d3")
		f.agree(1, Up, "d1", "d2") // S7: two of them count one vote
		f.dead = onlyFor(0)
		f.advance(time.Second)
		if restart {
			f.crash("d3")
			f.start("d3")
		}
		f.cut = func(string, string) bool { return false }
		f.advance(5 * time.Second)
		f.agree(1, Up)
		f.same()

		// And what really falls then falls everywhere, once, and stays down.
		f.dead = onlyFor(1, "d1", "d2", "d3")
		f.advance(2 * time.Second)
		f.agree(1, Down)
		f.moves = nil
		f.advance(30 * time.Second)
		f.still()
		f.same()
	}
}

// TestL2OneVoteAgainstTakesNothingBack: it takes the quorum that a return takes,
// and the time that a proof may be under way.
func TestL2OneVoteAgainstTakesNothingBack(t *testing.T) {
	tests := []struct {
		name    string
		against []string
		of      []string // who votes again after each half second
		lasts   time.Duration
		want    State
	}{
		{"a quorum, long enough", []string{"d2", "d3"}, []string{"d2", "d3"}, disputeFor, Up},
		{"a quorum, not long enough", []string{"d2", "d3"}, []string{"d2", "d3"}, disputeFor - 600*ms, Down},
		{"one alone", []string{"d2"}, []string{"d2", "d3"}, 2 * disputeFor, Down},
		{"a quorum that falls silent", []string{"d2", "d3"}, nil, 2 * disputeFor, Down},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			b := newTestBook(3, 1)
			s := signal(1)
			now := at(0)
			for _, n := range []uint64{1, 2, 3} { // down, up, down
				b.advance(b.topics[s], certify(s, n, 1, n, "d1", "d2"), now)
			}
			vote := func(seq uint64, who ...string) {
				for _, name := range who {
					v := Vote{Subject: s, N: 4, To: Down} // has it in force, and stands by it
					if slices.Contains(tc.against, name) {
						v = Vote{Subject: s, N: 3, To: Up}
					}
					if _, err := b.Ballot(sign(name, 1, seq, v), now); err != nil {
						t.Fatal(err)
					}
				}
			}
			vote(10, "d2", "d3")
			b.Judge(now)
			for seq := uint64(11); now.Before(at(tc.lasts)); seq++ {
				now = now.Add(500 * ms)
				vote(seq, tc.of...)
				b.Judge(now)
			}
			if got := b.Chain(s).State(); got != tc.want {
				t.Errorf("got %s at transition %d, want %s", got, b.Chain(s).N, tc.want)
			}
			back := NewBook("d1", rosterOf(3), 0)
			if err := back.Restore(b.Save(now), now); err != nil {
				t.Errorf("what is left does not survive a restart: %v", err)
			}
			if got, want := back.Chain(s).N, b.Chain(s).N; got != want {
				t.Errorf("transition %d after a restart, want %d", got, want)
			}
		})
	}
}

// TestL2LossKeepsNothingInForce: where packets are lost on the way to the target, an
// answer is late all the time (F4), which is no doubt of what a quorum says: what the
// fleet never had is taken back there too.
func TestL2LossKeepsNothingInForce(t *testing.T) {
	b := newTestBook(3, 1)
	s := signal(1)
	now := at(0)
	b.advance(b.topics[s], certify(s, 1, 1, 1, "d1", "d2"), now)
	for seq := uint64(2); now.Before(at(2 * disputeFor)); seq++ {
		now = now.Add(100 * ms)
		for i, name := range []string{"d2", "d3"} {
			v := Vote{Subject: s, N: 1, To: Up}
			if (seq+uint64(i))%5 == 0 {
				v.Suspicion = late
			}
			if _, err := b.Ballot(sign(name, 1, seq, v), now); err != nil {
				t.Fatal(err)
			}
		}
		b.Judge(now)
	}
	if got := b.Chain(s); got.N != 0 {
		t.Errorf("still %s at transition %d", got.State(), got.N)
	}
}

// TestChainBack: a chain that jumped over transitions goes back by one all the
// same, and stays one that can be saved.
func TestChainBack(t *testing.T) {
	chain := Chain{Subject: signal(1)}.next(1, at(0)).next(4, at(time.Second))
	for _, want := range []uint64{3, 2, 1, 0} {
		chain = chain.back()
		if chain.N != want {
			t.Fatalf("transition %d, want %d", chain.N, want)
		}
		if last := len(chain.Past) - 1; want == 0 && last >= 0 || want > 0 && (last < 0 || chain.Past[last].N != want) {
			t.Errorf("transition %d with past %v", want, chain.Past)
		}
	}
}

// TestL2WhatAQuorumHasGoneOnFrom: votes on n+1 that arrive instead of those on n,
// which they replace within milliseconds, tell that n is in force.
func TestL2WhatAQuorumHasGoneOnFrom(t *testing.T) {
	s := signal(1)
	tests := []struct {
		name  string
		votes map[string]Vote
		later time.Duration
		want  uint64
	}{
		{"a quorum stands by it", map[string]Vote{"d2": {Subject: s, N: 2, To: Down}, "d3": {Subject: s, N: 2, To: Down}}, 0, 1},
		{"or wants the next one already", map[string]Vote{"d2": {Subject: s, N: 2, To: Up}, "d3": {Subject: s, N: 2, To: Down}}, 0, 1},
		{"the latest that all of it has", map[string]Vote{"d2": {Subject: s, N: 4, To: Down}, "d3": {Subject: s, N: 3, To: Up}}, 0, 2},
		{"one alone", map[string]Vote{"d2": {Subject: s, N: 2, To: Down}}, 0, 0},
		{"one alone, by any other vote", map[string]Vote{"d2": {Subject: s, N: 4, To: Down}, "d3": {Subject: s, N: 1, To: Up}}, 0, 0},
		{"stale", map[string]Vote{"d2": {Subject: s, N: 2, To: Down}, "d3": {Subject: s, N: 2, To: Down}}, fresh + ms, 0},
		{"its own word is no report", map[string]Vote{"d1": {Subject: s, N: 2, To: Down}, "d2": {Subject: s, N: 2, To: Down}}, 0, 0},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			b := newTestBook(3, 1)
			for _, name := range []string{"d1", "d2", "d3"} {
				if v, ok := tc.votes[name]; ok {
					if _, err := b.Ballot(sign(name, 1, 5, v), at(0)); err != nil {
						t.Fatal(err)
					}
				}
			}
			if tc.later > 0 { // others are heard, these votes are not renewed
				for _, name := range []string{"d2", "d3"} {
					_ = b.Heartbeat(Heartbeat{Director: name, Boot: 1, Seq: 6, Votes: 1}, at(tc.later))
				}
			}
			b.Judge(at(tc.later))
			if got := b.Chain(s).N; got != tc.want {
				t.Errorf("transition %d, want %d", got, tc.want)
			}
		})
	}
}

// TestL2HolderAndVotersMakeOneQuorum: d1, heard by nobody, proves a fall with
// d3's vote, and d3 takes it back. Then d2 sees the fall too. d1 has it in force
// and stands by it, d2 votes for it: two of three say down, and so must all.
func TestL2HolderAndVotersMakeOneQuorum(t *testing.T) {
	f := newFleet(t, 8, 3, 2)
	f.delay = 20 * ms
	f.advance(3 * time.Second)
	f.cut = func(from, _ string) bool { return from == "d1" }
	f.dead = onlyFor(1, "d1", "d3")
	f.advance(3 * time.Second)
	f.agree(1, Down, "d1")
	f.agree(1, Up, "d2", "d3")
	f.dead = onlyFor(1, "d1", "d2")
	f.advance(1500 * ms)
	f.agree(1, Down, "d1")
	f.agree(1, Up, "d2", "d3")
	f.cut = func(string, string) bool { return false }
	f.advance(5 * time.Second)
	f.agree(1, Down)
	f.same()
}

// TestL2TooFewHaveIt: the directors are where faults have left them, d1 with
// three transitions in force, and all speak freshly for six seconds.
func TestL2TooFewHaveIt(t *testing.T) {
	s := signal(1)
	tests := []struct {
		name   string
		roster []Director
		votes  map[string]Vote // d1's own too
		want   uint64          // of d1
	}{
		{"half have it, all say up", rosterOf(4), map[string]Vote{"d1": {Subject: s, N: 4, To: Up}, "d2": {Subject: s, N: 4, To: Up}, "d3": {Subject: s, N: 3, To: Up}, "d4": {Subject: s, N: 3, To: Up}}, 2},
		{"half have it, all say down", rosterOf(4), map[string]Vote{"d1": {Subject: s, N: 4, To: Down}, "d2": {Subject: s, N: 4, To: Down}, "d3": {Subject: s, N: 3, To: Down}, "d4": {Subject: s, N: 3, To: Down}}, 3},
		{"half have it, half say up", rosterOf(4), map[string]Vote{"d1": {Subject: s, N: 4, To: Down}, "d2": {Subject: s, N: 4, To: Down}, "d3": {Subject: s, N: 3, To: Up}, "d4": {Subject: s, N: 3, To: Up}}, 3},
		{"its holder and another say up, one is silent", rosterOf(3), map[string]Vote{"d1": {Subject: s, N: 4, To: Up}, "d2": {Subject: s, N: 3, To: Up}}, 2},
		{"two have it, in one fault domain", []Director{{"d1", "a"}, {"d2", "a"}, {"d3", "b"}}, map[string]Vote{"d1": {Subject: s, N: 4, To: Up}, "d2": {Subject: s, N: 4, To: Up}, "d3": {Subject: s, N: 3, To: Up}}, 2},
		{"two say up, in one fault domain", []Director{{"d1", "a"}, {"d2", "b"}, {"d3", "b"}}, map[string]Vote{"d1": {Subject: s, N: 4, To: Down}, "d2": {Subject: s, N: 3, To: Up}, "d3": {Subject: s, N: 3, To: Up}}, 3},
		{"nobody else has even the one before", rosterOf(3), map[string]Vote{"d1": {Subject: s, N: 4, To: Down}, "d2": {Subject: s, N: 2, To: Down}, "d3": {Subject: s, N: 2, To: Down}}, 1},
		{"the others are far behind", rosterOf(3), map[string]Vote{"d1": {Subject: s, N: 4, To: Down}, "d2": {Subject: s, N: 1, To: Up}, "d3": {Subject: s, N: 1, To: Up}}, 2},
		{"a liar would keep it", rosterOf(3), map[string]Vote{"d1": {Subject: s, N: 4, To: Up}, "d2": {Subject: s, N: 99, To: Down}, "d3": {Subject: s, N: 3, To: Up}}, 2},
		{"a quorum says up, one of it far behind", rosterOf(3), map[string]Vote{"d1": {Subject: s, N: 4, To: Down}, "d2": {Subject: s, N: 4, To: Up}, "d3": {Subject: s, N: 1, To: Up}}, 2},
		{"the one who lies about it", rosterOf(3), map[string]Vote{"d1": {Subject: s, N: 4, To: Down}, "d2": {Subject: s, N: 4, To: Down}, "d3": {Subject: s, N: 1, To: Up}}, 3},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			b := NewBook("d1", tc.roster, 0)
			b.SetSubjects(subjectsOf(1), epoch)
			for _, n := range []uint64{1, 2, 3} {
				b.advance(b.topics[s], certify(s, n, 1, n, "d1", "d2"), epoch)
			}
			got := uint64(3)
			for seq := uint64(1); seq <= 12; seq++ {
				now := at(time.Duration(seq) * 500 * ms)
				for _, d := range tc.roster {
					v, ok := tc.votes[d.Name]
					if !ok {
						continue
					}
					if _, err := b.Ballot(sign(d.Name, 1, 9+seq, v), now); err != nil {
						t.Fatal(err)
					}
				}
				for _, c := range b.Judge(now) {
					if now.Before(at(disputeFor)) {
						t.Errorf("at %s already: %v", now.Sub(epoch), c)
					}
					if got == 3 {
						got = c.N
					}
				}
			}
			if got != tc.want {
				t.Errorf("went to transition %d first, want %d", got, tc.want)
			}
		})
	}
}
