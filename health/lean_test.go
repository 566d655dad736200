package health

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestS7AFallIsByTheCappedSum: who must suspect how much. Each word of votes is
// one director's: u (against), "-" (no vote), D (for, of a version that knows no
// suspicion) or the suspicion with which it leans.
func TestS7AFallIsByTheCappedSum(t *testing.T) {
	five, three, two := []string{"a", "b", "c", "d", "e"}, []string{"a", "b", "c"}, []string{"a", "b"}
	tests := []struct {
		name      string
		sites     []string
		observers int // the spec's
		votes     []any
		want      bool
	}{
		{"one director alone", []string{"a"}, 0, []any{2000}, true},
		{"one that does not suspect enough", []string{"a"}, 0, []any{1999}, false},
		{"two need both in full", two, 0, []any{1000, 1000}, true},
		{"however much one suspects", two, 0, []any{9999, 999}, false},
		{"two of three in full", three, 0, []any{1000, 1000, "u"}, true},
		{"two of three, one not in full", three, 0, []any{1000, 999, "u"}, false},
		{"two of three, and a bit of the third", three, 0, []any{1000, 800, 200}, true},
		{"three of three, each a third", three, 0, []any{667, 667, 667}, true},
		{"three of three, each a little less", three, 0, []any{666, 667, 666}, false},
		{"two of three who are in one site", []string{"a", "a", "b"}, 0, []any{1000, 1000, "-"}, false},
		{"who count together as one", []string{"a", "a", "b"}, 0, []any{1000, 1000, 999}, false},
		{"and the other", []string{"a", "a", "b"}, 0, []any{500, 500, 1000}, true},
		{"all in one site", []string{"a", "a", "a"}, 0, []any{1000, 1000, "u"}, true},
		{"five, 28 misses in all", five, 0, []any{432, 432, 432, 432, 432}, true},
		{"five, some see nothing", five, 0, []any{667, 667, 667, "u", "u"}, true},
		{"as many against as for", five, 0, []any{667, 667, "u", "u", "-"}, false},
		{"two of five however sure", five, 0, []any{9999, 9999, "-", "-", "-"}, false},
		{"four of five", five, 0, []any{500, 500, 500, 500, "u"}, true},
		{"two sites, the large one alone", []string{"a", "a", "a", "b", "b"}, 0, []any{667, 667, 667, "-", "-"}, false},
		{"two sites, both", []string{"a", "a", "a", "b", "b"}, 0, []any{667, 667, 667, 666, "-"}, true},
		{"q raised to all of three", three, 3, []any{667, 667, 666}, true},
		{"q raised, one against", three, 3, []any{667, 667, "u"}, false},
		{"q raised to five", five, 5, []any{400, 400, 400, 400, 400}, true},
		{"q raised to five, four in full", five, 5, []any{9999, 9999, 9999, 9999, 399}, false},
		{"of a version without suspicion", three, 0, []any{"D", "D", "u"}, true},
		{"some with and some without", five, 0, []any{"D", 667, 666, "u", "u"}, true},
		{"those that are only late weigh nothing", three, 0, []any{1000, 1, 1}, false},
		{"nor speak against", five, 0, []any{667, 667, 667, 1, 1}, true},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			roster := rosterOf(len(tc.sites))
			for i := range roster {
				roster[i].Site = tc.sites[i]
			}
			b := NewBook("d1", roster, tc.observers)
			b.SetSubjects(subjectsOf(1), epoch)
			s := signal(1)
			var proof [][]byte
			for i, d := range roster {
				vote := Vote{Subject: s, N: 1, To: Up}
				switch v := tc.votes[i].(type) {
				case int:
					vote.Suspicion = uint16(v)
				case string:
					switch v {
					case "-":
						vote.To = Unknown
					case "D":
						vote.To = Down
					}
				}
				ballot := sign(d.Name, 1, 1, vote)
				proof = append(proof, ballot.Raw)
				_, _ = b.Ballot(ballot, epoch)
				_ = b.Heartbeat(Heartbeat{Director: d.Name, Boot: 1, Seq: 2}, epoch)
			}
			made := b.Judge(epoch)
			if got := len(made) == 1; got != tc.want {
				t.Errorf("fell: %v, want %v (%v)", got, tc.want, made)
			}
			// And who was not there takes the proof, if there is one.
			other := NewBook("d9", roster, tc.observers)
			other.SetSubjects(subjectsOf(1), epoch)
			for _, c := range made {
				if applied, refused := other.Merge([]Certificate{c}, verifyFor(roster), epoch); len(applied) != 1 {
					t.Errorf("another refuses %d: %v", refused, c)
				}
			}
			if tc.want {
				return
			}
			if slices.Contains(tc.votes, any("u")) { // what is against is in no proof
				return
			}
			if applied, _ := other.Merge([]Certificate{{Subject: s, N: 1, Proof: proof}}, verifyFor(roster), epoch); len(applied) != 0 {
				t.Errorf("another takes all that was said for a proof: %v", applied)
			}
		})
	}
}

// TestS7LeaningIsNoReturn: it counts in no transition to up, and does not hold one
// up either.
func TestS7LeaningIsNoReturn(t *testing.T) {
	b := newTestBook(3, 1)
	for i, d := range []string{"d1", "d2", "d3"} {
		vote := Vote{Subject: signal(1), N: 2, To: Up}
		if i > 0 {
			vote.N, vote.Suspicion = 1, 500
		}
		_, _ = b.Ballot(sign(d, 1, 1, vote), epoch)
	}
	b.advance(b.topics[signal(1)], Certificate{Subject: signal(1), N: 1}, epoch)
	if made := b.Judge(epoch); len(made) != 0 {
		t.Errorf("one vote for the return, two that lean: %v", made)
	}
	for _, o := range b.Opinions(signal(1), epoch) {
		if o.Leans != (o.Director != "d1") {
			t.Errorf("%+v", o)
		}
	}
}

// TestLeaningIsPending: peers are to doubt what one leans to, be it only late.
func TestLeaningIsPending(t *testing.T) {
	b := newTestBook(3, 2)
	v := newVoice("d2")
	_, _ = b.Ballot(v.cast(Vote{Subject: signal(2), N: 1, To: Up, Suspicion: late}), epoch)
	if got := b.Pending(); len(got) != 1 || got[0] != signal(2) {
		t.Errorf("Pending = %v", got)
	}
	_, _ = b.Ballot(v.cast(Vote{Subject: signal(2), N: 1, To: Up}), epoch)
	if got := b.Pending(); len(got) != 0 {
		t.Errorf("Pending = %v", got)
	}
}

// TestOwnVoteCountsWhileItsAuthorStandsByIt: what was signed counts for no more
// than this director still thinks.
func TestOwnVoteCountsWhileItsAuthorStandsByIt(t *testing.T) {
	tests := []struct {
		name           string
		signed, thinks Vote
		want           bool
	}{
		{"leaning as signed", Vote{To: Up, Suspicion: 300}, Vote{To: Up, Suspicion: 300}, true},
		{"leaning more", Vote{To: Up, Suspicion: 300}, Vote{To: Up, Suspicion: 301}, true},
		{"for it by now", Vote{To: Up, Suspicion: 300}, Vote{To: Down, Suspicion: 1000}, true},
		{"leaning less", Vote{To: Up, Suspicion: 300}, Vote{To: Up, Suspicion: 299}, false},
		{"answered since", Vote{To: Up, Suspicion: 300}, Vote{To: Up}, false},
		{"down no more", Vote{To: Down, Suspicion: 1000}, Vote{To: Up, Suspicion: 900}, false},
		{"down", Vote{To: Down, Suspicion: 1000}, Vote{To: Down, Suspicion: 1000}, true},
		{"up", Vote{To: Up}, Vote{To: Up}, true},
		{"leaning by now", Vote{To: Up}, Vote{To: Up, Suspicion: late}, false},
		{"withdrawn", Vote{To: Up, Suspicion: 300}, Vote{}, false},
	}
	for _, tc := range tests {
		tc.signed.N, tc.thinks.N = 1, 1
		tc.signed.Subject, tc.thinks.Subject = signal(1), signal(1)
		if got := tc.thinks.backs(tc.signed); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
		tc.thinks.N = 2
		if tc.thinks.backs(tc.signed) {
			t.Errorf("%s: on another transition", tc.name)
		}
	}
}

// TestS7LiarsNeedHonestSuspicion: fewer than q liars, whatever they claim and
// whatever proofs they make of all that was ever signed, bring no fall about
// unless the honest ones now suspect as much as the others of a quorum would.
func TestS7LiarsNeedHonestSuspicion(t *testing.T) {
	falls := 0
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(2, 7).Draw(t, "directors")
		roster := rosterOf(size)
		for i := range roster {
			roster[i].Site = fmt.Sprintf("dc%d", rapid.IntRange(0, 3).Draw(t, "site"))
		}
		b := NewBook("d1", roster, 0)
		b.SetSubjects(subjectsOf(1), epoch)
		q, s := b.Quorum(), signal(1)
		liars := rapid.IntRange(0, min(q.Votes-1, size-1)).Draw(t, "liars")
		voices := make([]*voice, size)
		for i, d := range roster {
			voices[i] = newVoice(d.Name)
		}
		honest, bad := voices[:size-liars], voices[size-liars:]
		suspects := make([]int, len(honest))
		var tape [][]byte
		now := time.Duration(0)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now += time.Duration(rapid.SampledFrom([]int{0, 10, 250}).Draw(t, "wait")) * ms
			i := rapid.IntRange(0, len(honest)-1).Draw(t, "who")
			// It misses one more, or hears an answer.
			if suspects[i] = min(suspects[i]+rapid.SampledFrom([]int{72, 200}).Draw(t, "misses"), 9999); rapid.IntRange(0, 3).Draw(t, "answered") == 0 {
				suspects[i] = 0
			}
			vote := Vote{Subject: s, N: 1, To: Up, Suspicion: uint16(min(suspects[i], q.Cap()))}
			if suspects[i] >= q.Cap() {
				vote.To = Down
			}
			if ballot := honest[i].cast(vote); i == 0 || rapid.IntRange(0, 9).Draw(t, "lost") > 0 {
				_, _ = b.Ballot(ballot, at(now))
				tape = append(tape, ballot.Raw)
			} else {
				suspects[i] = max(suspects[i], int(b.topics[s].votes[i].suspicion)) // what is lost is not known here yet
			}
			for _, v := range bad {
				lie := Vote{Subject: s, N: uint64(rapid.IntRange(1, 3).Draw(t, "n")), To: State(rapid.IntRange(1, 2).Draw(t, "to")), Suspicion: uint16(rapid.IntRange(0, maxSuspicion).Draw(t, "suspicion"))}
				ballot := v.cast(lie)
				tape = append(tape, ballot.Raw)
				_, _ = b.Ballot(ballot, at(now))
			}
			for _, v := range voices {
				_ = b.Heartbeat(v.beat(), at(now))
			}
			sum := 0
			for _, x := range suspects {
				sum += min(x, q.Cap())
			}
			allowed := sum+liars*q.Cap() >= q.Theta()
			made := b.Judge(at(now))
			if len(made) == 0 && liars > 0 {
				proof := rapid.SliceOfN(rapid.SampledFrom(tape), 0, 12).Draw(t, "proof")
				made, _ = b.Merge([]Certificate{{Subject: s, N: 1, Proof: proof}}, verifyFor(roster), at(now))
			}
			if len(made) > 0 && !allowed {
				t.Fatalf("%d liars of %d and %v made %v", liars, size, suspects, made)
			}
			if len(made) > 0 {
				falls++
				return
			}
		}
	})
	if falls == 0 {
		t.Error("no fall in any run: the test proves nothing")
	}
}

// voted casts what is due and wants one vote on the subject.
func (p *probed) voted(s Subject, d time.Duration, want State, suspicion uint16) {
	p.t.Helper()
	p.o.Votes(p.b, at(d))
	if got := p.b.topics[s].own; got.To != want || got.Suspicion != suspicion {
		p.t.Errorf("vote on %s at %s = %v, want %s with suspicion %d (%s)", s, d, got, want, suspicion, p.b.topics[s].why)
	}
}

func TestS7SuspicionBecomesAVote(t *testing.T) {
	p := newProbed(t)
	p.voted(signal(1), 0, Up, 0)
	for i, want := range []uint16{72, 144, 216, 288, 361, 433, 505, 577, 649} {
		p.fails(signal(1), time.Duration(i)*50*ms+100*ms, 1)
		p.voted(signal(1), time.Second, Up, want)
	}
	p.miss(signal(1), time.Second)
	p.voted(signal(1), time.Second, Down, 667)
	if why := p.want(signal(1), time.Second, Down); why != "connection refused, 10 times in a row" {
		t.Errorf("reason = %q", why)
	}
	p.miss(signal(1), time.Second)
	p.voted(signal(1), time.Second, Down, 667) // it says no more for it
	for _, want := range []uint16{200, 400, 600} {
		p.miss(check(1), time.Second)
		p.voted(check(1), time.Second, Up, want)
	}
	p.miss(check(1), 2*time.Second)
	p.voted(check(1), 2*time.Second, Down, 667)
	p.want(signal(2), 2*time.Second, Up)
	p.ok(signal(1), 3*time.Second)
	p.voted(signal(1), 3*time.Second, Up, 0)
}

// TestLateLeans: an answer that is awaited for longer than usual makes others
// doubt, and weighs nothing.
func TestLateLeans(t *testing.T) {
	p := newProbed(t)
	probe := func(sent, end time.Duration, ok, late bool) {
		p.o.Report(Report{Subject: signal(1), OK: ok, Late: late, At: at(end), Latency: end - sent, Reason: "no answer"})
	}
	p.voted(signal(1), 0, Up, 0)
	probe(100*ms, 130*ms, false, true)
	p.voted(signal(1), 130*ms, Up, late)
	probe(100*ms, 140*ms, true, false)
	p.voted(signal(1), 140*ms, Up, 0)
	probe(150*ms, 200*ms, false, true)
	probe(200*ms, 210*ms, true, false) // it was lost
	p.voted(signal(1), 210*ms, Up, 0)
	probe(150*ms, 450*ms, false, false)
	p.voted(signal(1), 450*ms, Up, 0)
	probe(400*ms, 450*ms, false, true)
	probe(400*ms, 700*ms, false, false)
	probe(450*ms, 750*ms, false, false)
	p.voted(signal(1), 750*ms, Up, 144)
	probe(400*ms, 800*ms, true, true) // F14: it was slow
	p.voted(signal(1), 800*ms, Up, 0)
	if e := p.o.entries[signal(1)]; e.suspicion.probes != 6 || e.suspicion.misses != 3 {
		t.Errorf("history: %g probes, %g misses, want 6 and 3", e.suspicion.probes, e.suspicion.misses)
	}
	probe(900*ms, 930*ms, false, true)
	p.o.Stalled(at(950 * ms))
	p.voted(signal(1), 950*ms, Up, 0)
	p.o.Report(Report{Subject: signal(1), Void: true, At: at(960 * ms), Latency: 60 * ms})
	p.voted(signal(1), 960*ms, Up, 0)
}

// TestLateIsNoRound: what only waits has not been probed.
func TestLateIsNoRound(t *testing.T) {
	o := NewObserver(epoch)
	o.Set([]Watched{{Subject: signal(1)}})
	o.Report(Report{Subject: signal(1), Late: true, At: at(30 * ms), Latency: 30 * ms})
	if o.Round(at(30 * ms)) {
		t.Error("the first round is over")
	}
	o.Report(Report{Subject: signal(1), OK: true, At: at(40 * ms), Latency: 40 * ms})
	if !o.Round(at(40 * ms)) {
		t.Error("the first round is not over")
	}
}

// TestSoftHasCounters: soft subjects have no suspicion.
func TestSoftHasCounters(t *testing.T) {
	p := newProbed(t)
	soft := Subject{Kind: KindSoft, Addr: site(1), Def: check(1).Def}
	p.o.Set([]Watched{{Subject: soft}})
	p.b.SetSubjects([]Subject{soft}, epoch)
	p.ok(soft, 0)
	p.miss(soft, time.Second)
	p.voted(soft, time.Second, Up, 0)
	p.miss(soft, 2*time.Second)
	p.voted(soft, 2*time.Second, Down, 0)
	p.ok(soft, 3*time.Second)
	p.voted(soft, 3*time.Second, Up, 0)
}
