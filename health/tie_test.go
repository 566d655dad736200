package health

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// tie is d1 with three transitions in force, who sees that the subject passes: only
// the wait for its return keeps its vote down.
type tie struct {
	t   interface{ Fatal(args ...any) }
	b   *Book
	s   Subject
	seq uint64
	now time.Time
}

func newTie(t interface{ Fatal(args ...any) }, roster []Director) *tie {
	f := &tie{t: t, b: NewBook("d1", roster, 0), s: signal(1), now: epoch}
	f.b.SetSubjects(subjectsOf(1), epoch)
	f.hold(1, 2, 3)
	return f
}

func (f *tie) hold(ns ...uint64) {
	for _, n := range ns {
		f.b.advance(f.b.topics[f.s], certify(f.s, n, 1, n, "d2", "d3"), f.now)
	}
}

// say is what all speak freshly for so long; d1 thinks what its own vote says.
func (f *tie) say(votes map[string]Vote, passes bool, lasts time.Duration) {
	for end := f.now.Add(lasts); f.now.Before(end); {
		f.now = f.now.Add(250 * ms)
		f.seq++
		for _, d := range f.b.roster {
			v, ok := votes[d.Name]
			if !ok {
				continue
			}
			if v.Subject = f.s; d.Name == "d1" {
				v.N = f.b.Chain(f.s).N + 1
				f.b.think(v, "", passes)
			}
			if _, err := f.b.Ballot(sign(d.Name, 1, 9+f.seq, v), f.now); err != nil {
				f.t.Fatal(err)
			}
		}
		f.b.Judge(f.now)
		if f.b.Chain(f.s).N != 3 {
			return
		}
	}
}

// TestL2TieEnds: half of the fleet has a fall in force, and the other half never had it
// and says up. The holders wait for the return (S10), so nobody can go on; what they see
// themselves ends it. What one liar can say ends no wait (S7, S10).
func TestL2TieEnds(t *testing.T) {
	waits, back := Vote{N: 4, To: Down}, Vote{N: 4, To: Up}
	lacks, fails := Vote{N: 3, To: Up}, Vote{N: 3, To: Down}
	sites := func(of ...string) []Director {
		out := rosterOf(len(of))
		for i := range out {
			out[i].Site = of[i]
		}
		return out
	}
	tests := []struct {
		name   string
		roster []Director
		votes  map[string]Vote
		fails  bool // for d1, too
		lasts  time.Duration
		want   uint64
	}{
		{"half have it, the others say up", rosterOf(4), map[string]Vote{"d1": waits, "d2": waits, "d3": lacks, "d4": lacks}, false, 4 * time.Second, 2},
		{"the other holder is silent", rosterOf(4), map[string]Vote{"d1": waits, "d3": lacks, "d4": lacks}, false, 4 * time.Second, 2},
		{"one of them is far behind", rosterOf(4), map[string]Vote{"d1": waits, "d2": waits, "d3": lacks, "d4": {N: 1, To: Up}}, false, 4 * time.Second, 2},
		{"in two fault domains", sites("a", "a", "b", "b"), map[string]Vote{"d1": waits, "d2": waits, "d3": lacks, "d4": lacks}, false, 4 * time.Second, 2},
		{"not for long enough", rosterOf(4), map[string]Vote{"d1": waits, "d2": waits, "d3": lacks, "d4": lacks}, false, disputeFor - 250*ms, 3},
		{"it fails for the holder", rosterOf(4), map[string]Vote{"d1": waits, "d2": waits, "d3": lacks, "d4": lacks}, true, 6 * time.Second, 3},
		{"one of the others leans", rosterOf(4), map[string]Vote{"d1": waits, "d2": waits, "d3": lacks, "d4": {N: 3, To: Up, Suspicion: 100}}, false, 6 * time.Second, 3},
		{"one of the others sees it fail", rosterOf(4), map[string]Vote{"d1": waits, "d2": waits, "d3": lacks, "d4": fails}, false, 6 * time.Second, 3},
		{"one of the others is silent", rosterOf(4), map[string]Vote{"d1": waits, "d2": waits, "d3": lacks}, false, 6 * time.Second, 3},
		{"the fleet has it, and one disowns it", rosterOf(4), map[string]Vote{"d1": waits, "d2": waits, "d3": waits, "d4": lacks}, false, 6 * time.Second, 3},
		{"the fleet has it, one is back, and one disowns it", rosterOf(4), map[string]Vote{"d1": waits, "d2": waits, "d3": back, "d4": lacks}, false, 6 * time.Second, 3},
		{"one is back, one disowns it, and one is silent, who may have it", rosterOf(4), map[string]Vote{"d1": waits, "d3": back, "d4": lacks}, false, 6 * time.Second, 3},
		{"all say up from one fault domain", sites("a", "b", "a", "a"), map[string]Vote{"d1": waits, "d2": waits, "d3": lacks, "d4": lacks}, false, 6 * time.Second, 3},
		{"a fleet of two, whose other may lie", rosterOf(2), map[string]Vote{"d1": waits, "d2": lacks}, false, 6 * time.Second, 3},
		{"of five the one who is silent may have it", rosterOf(5), map[string]Vote{"d1": waits, "d2": waits, "d3": lacks, "d4": lacks}, false, 6 * time.Second, 3},
		{"a quorum has it, as more vote than are assigned", sites("a", "b", "c", "d", "d", "d"), map[string]Vote{"d1": waits, "d2": waits, "d3": waits, "d4": lacks, "d5": lacks, "d6": lacks}, false, 6 * time.Second, 3},
		{"of six", rosterOf(6), map[string]Vote{"d1": waits, "d2": waits, "d3": waits, "d4": lacks, "d5": lacks}, false, 6 * time.Second, 3},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			f := newTie(t, tc.roster)
			f.say(tc.votes, !tc.fails, tc.lasts)
			if got := f.b.Chain(f.s).N; got != tc.want {
				t.Errorf("at transition %d, want %d", got, tc.want)
			}
		})
	}
}

// TestS10TiesEndOnceInTenMinutes: who helps to make falls that it disowns then does not
// make a site flap with them, however the first of them was taken back.
func TestS10TiesEndOnceInTenMinutes(t *testing.T) {
	for name, first := range map[string]Vote{"a tie": {N: 4, To: Down}, "a quorum": {N: 3, To: Up}} {
		t.Run(name, func(t *testing.T) {
			votes := map[string]Vote{"d1": {To: Down}, "d2": first, "d3": {N: 3, To: Up}, "d4": {N: 3, To: Up}}
			f := newTie(t, rosterOf(4))
			f.say(votes, true, 4*time.Second)
			was := f.now
			if got := f.b.Chain(f.s).N; got != 2 {
				t.Fatalf("at transition %d", got)
			}
			f.hold(3)
			votes["d2"] = Vote{N: 4, To: Down}
			f.say(votes, true, time.Hour)
			if got, after := f.b.Chain(f.s).N, f.now.Sub(was); got != 2 || after < dampWindow || after > dampWindow+5*time.Second {
				t.Errorf("at transition %d, %s after the first", got, after)
			}
		})
	}
}

// TestS7OneLiarEndsNoWait: three of four have a fall in force and stand by it, at most
// one of the others with its wait over. Whatever the fourth says, and however often it
// says something else, the first, for whom the subject passes, waits on.
func TestS7OneLiarEndsNoWait(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newTie(t, rosterOf(4))
		votes := map[string]Vote{"d1": {To: Down}, "d2": {N: 4, To: Down}, "d3": {N: 4, To: Down}}
		who := rapid.SampledFrom([]string{"d2", "d3"}).Draw(t, "whose wait may be over")
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			votes[who] = Vote{N: 4, To: rapid.SampledFrom([]State{Down, Up}).Draw(t, "its vote")}
			votes["d4"] = Vote{
				N:         rapid.Uint64Range(1, 6).Draw(t, "n"),
				To:        rapid.SampledFrom([]State{Up, Down}).Draw(t, "to"),
				Suspicion: uint16(rapid.SampledFrom([]int{0, 1, 100, 667}).Draw(t, "suspicion")),
			}
			if rapid.IntRange(0, 9).Draw(t, "silent") == 0 {
				delete(votes, "d4")
			}
			f.say(votes, true, time.Duration(rapid.IntRange(250, 8000).Draw(t, "for"))*ms)
			switch got := f.b.Chain(f.s); {
			case got.State() != Down:
				t.Fatalf("%s at transition %d", got.State(), got.N)
			case got.N != 3:
				return // two went at once (see overrule): the state stays
			}
		}
	})
}

// TestL2TieOfAFleet: of four directors two have made a third transition, and those who
// voted for it with them have withdrawn. All see that the subject is well.
func TestL2TieOfAFleet(t *testing.T) {
	for _, quorum := range []bool{false, true} {
		f := newFleet(t, 11, 4, 2)
		f.delay = 20 * ms
		f.advance(3 * time.Second)
		for _, n := range f.nodes {
			for i := uint64(1); i <= 2; i++ {
				n.b.advance(n.b.topics[signal(1)], Certificate{Subject: signal(1), N: i}, at(f.now))
			}
		}
		f.advance(time.Second)
		f.agree(1, Up)
		for _, n := range f.nodes {
			if holds := slices.Contains([]string{"d3", "d4"}, n.name) || quorum && n.name == "d2"; holds {
				n.b.advance(n.b.topics[signal(1)], Certificate{Subject: signal(1), N: 3}, at(f.now))
			}
		}
		f.advance(5 * time.Second)
		want := Up
		if quorum { // a quorum has it: then so have all, and the return waits
			want = Down
		}
		f.agree(1, want)
		f.same()
		f.moves = nil
		f.advance(30 * time.Second)
		f.still()
		f.same()
	}
}
