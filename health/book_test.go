package health

import (
	"errors"
	"testing"
	"time"
)

func TestS7JudgeTable(t *testing.T) {
	const s = time.Second
	down, up := Vote{Subject: signal(1), N: 1, To: Down}, Vote{Subject: signal(1), N: 1, To: Up}
	tests := []struct {
		name   string
		roster []Director
		votes  map[string]Vote          // received at 0
		ages   map[string]time.Duration // how much before the judgement; default 0
		want   bool
	}{
		{"two of three", rosterOf(3), map[string]Vote{"d1": down, "d2": down}, nil, true},
		{"two of three against one", rosterOf(3), map[string]Vote{"d1": up, "d2": down, "d3": down}, nil, true},
		{"one of three", rosterOf(3), map[string]Vote{"d1": down, "d2": up}, nil, false},
		{"one alone says all", rosterOf(1), map[string]Vote{"d1": down}, nil, true},
		{"one of two", rosterOf(2), map[string]Vote{"d1": down, "d2": up}, nil, false},
		{"two of five", rosterOf(5), map[string]Vote{"d1": down, "d2": down, "d3": up}, nil, false},
		{"three of five", rosterOf(5), map[string]Vote{"d1": down, "d2": down, "d3": down, "d4": up, "d5": up}, nil, true},
		{"three of six against three", rosterOf(6), map[string]Vote{"d1": down, "d2": down, "d3": down, "d4": up, "d5": up, "d6": up}, nil, false},
		{"against must be fresh to count", rosterOf(6), map[string]Vote{"d1": down, "d2": down, "d3": down, "d4": up, "d5": up, "d6": up}, map[string]time.Duration{"d6": s + 1}, true},
		{"for must be fresh to count", rosterOf(3), map[string]Vote{"d2": down, "d3": down}, map[string]time.Duration{"d3": s + 1}, false},
		{"fresh is up to a second", rosterOf(3), map[string]Vote{"d2": down, "d3": down}, map[string]time.Duration{"d3": s}, true},
		{"one fault domain is not two", []Director{{"d1", "a"}, {"d2", "a"}, {"d3", "b"}}, map[string]Vote{"d1": down, "d2": down, "d3": up}, nil, false},
		{"one site has only one domain", []Director{{"d1", "a"}, {"d2", "a"}, {"d3", "a"}}, map[string]Vote{"d1": down, "d2": down}, nil, true},
		{"a vote on another transition", rosterOf(3), map[string]Vote{"d1": down, "d2": {Subject: signal(1), N: 3, To: Up}}, nil, false},
		{"a return nobody fell for", rosterOf(3), map[string]Vote{"d1": {Subject: signal(1), N: 2, To: Up}, "d2": {Subject: signal(1), N: 2, To: Up}}, nil, false},
		{"withdrawn", rosterOf(3), map[string]Vote{"d1": down, "d2": {Subject: signal(1), N: 1, To: Unknown}}, nil, false},
		{"a stranger has no vote", rosterOf(3), map[string]Vote{"d1": down, "d9": down}, nil, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			b := NewBook("d1", tc.roster, 0)
			b.SetSubjects(subjectsOf(2), epoch)
			for d, v := range tc.votes {
				_, _ = b.Ballot(sign(d, 1, 1, v), at(2*s-tc.ages[d]))
			}
			for _, d := range tc.roster { // nobody is isolated here
				_ = b.Heartbeat(Heartbeat{Director: d.Name, Boot: 1, Seq: 2, Votes: 1}, at(2*s))
			}
			got := b.Judge(at(2 * s))
			if (len(got) == 1) != tc.want {
				t.Fatalf("Judge = %v, want a certificate: %v", got, tc.want)
			}
			if !tc.want {
				return
			}
			if st := b.States()[signal(1)]; st != Down || b.Chain(signal(1)).N != 1 {
				t.Errorf("state = %s", st)
			}
			if len(b.Judge(at(2*s))) != 0 {
				t.Error("judged twice")
			}
			other := NewBook("d2", tc.roster, 0)
			other.SetSubjects(subjectsOf(2), epoch)
			if applied, refused := other.Merge(got, verifyFor(tc.roster), at(3*s)); len(applied) != 1 || refused != 0 {
				t.Errorf("its proof is refused by another: %d applied, %d refused", len(applied), refused)
			}
		})
	}
}

func TestBallotOrder(t *testing.T) {
	down, up := Vote{Subject: signal(1), N: 1, To: Down}, Vote{Subject: signal(1), N: 1, To: Up}
	tests := []struct {
		name   string
		feed   func(b *Book) error
		stale  bool
		counts State // d2's vote afterwards
	}{
		{"a later word counts", func(b *Book) error {
			_, _ = b.Ballot(sign("d2", 1, 5, down), epoch)
			_, err := b.Ballot(sign("d2", 1, 6, up), epoch)
			return err
		}, false, Up},
		{"an earlier one does not", func(b *Book) error {
			_, _ = b.Ballot(sign("d2", 1, 6, up), epoch)
			_, err := b.Ballot(sign("d2", 1, 5, down), epoch)
			return err
		}, true, Up},
		{"a replay is stale", func(b *Book) error {
			_, _ = b.Ballot(sign("d2", 1, 6, up), epoch)
			_, err := b.Ballot(sign("d2", 1, 6, up), epoch)
			return err
		}, true, Up},
		{"a withdrawn vote is not brought back", func(b *Book) error {
			_, _ = b.Ballot(sign("d2", 1, 6, down), epoch)
			_, _ = b.Ballot(sign("d2", 1, 7, Vote{Subject: signal(1), N: 1, To: Unknown}), epoch)
			_, err := b.Ballot(sign("d2", 1, 6, down), epoch)
			return err
		}, true, Unknown},
		{"reordered within a second, other subjects count", func(b *Book) error {
			_, _ = b.Ballot(sign("d2", 1, 6, Vote{Subject: signal(2), N: 1, To: Down}), epoch)
			_, err := b.Ballot(sign("d2", 1, 5, down), at(900*ms))
			return err
		}, false, Down},
		{"later than a second they do not", func(b *Book) error {
			_, _ = b.Ballot(sign("d2", 1, 6, Vote{Subject: signal(2), N: 1, To: Down}), epoch)
			_, err := b.Ballot(sign("d2", 1, 5, down), at(time.Second))
			return err
		}, true, Unknown},
		{"another boot knows nothing of the one before", func(b *Book) error {
			_, _ = b.Ballot(sign("d2", 1, 6, down), epoch)
			_, err := b.Ballot(sign("d2", 2, 1, Vote{Subject: signal(2), N: 1, To: Down}), epoch)
			return err
		}, false, Unknown},
		{"an earlier boot is stale", func(b *Book) error {
			_, _ = b.Ballot(sign("d2", 2, 1, up), epoch)
			_, err := b.Ballot(sign("d2", 1, 99, down), epoch)
			return err
		}, true, Up},
		{"a heartbeat is not taken twice", func(b *Book) error {
			_ = b.Heartbeat(Heartbeat{Director: "d2", Boot: 1, Seq: 5}, epoch)
			return b.Heartbeat(Heartbeat{Director: "d2", Boot: 1, Seq: 5}, epoch)
		}, true, Unknown},
		{"nor an older one", func(b *Book) error {
			_ = b.Heartbeat(Heartbeat{Director: "d2", Boot: 1, Seq: 5}, epoch)
			return b.Heartbeat(Heartbeat{Director: "d2", Boot: 1, Seq: 4}, epoch)
		}, true, Unknown},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			b := newTestBook(3, 2)
			if err := tc.feed(b); errors.Is(err, ErrStale) != tc.stale {
				t.Errorf("err = %v, want stale %v", err, tc.stale)
			}
			if got := b.Opinions(signal(1), epoch)[1].State; got != tc.counts {
				t.Errorf("d2's vote = %s, want %s", got, tc.counts)
			}
		})
	}
	if _, err := newTestBook(3, 1).Ballot(sign("d4", 1, 1, down), epoch); !errors.Is(err, ErrForeign) {
		t.Errorf("a stranger's ballot: %v", err)
	}
	if err := newTestBook(3, 1).Heartbeat(Heartbeat{Director: "d4", Boot: 1, Seq: 1}, epoch); !errors.Is(err, ErrForeign) {
		t.Errorf("a stranger's heartbeat: %v", err)
	}
}

// TestHeartbeatRenewsOnlyWhatIsHeld: one lost ballot must not be renewed by
// accident.
func TestHeartbeatRenewsOnlyWhatIsHeld(t *testing.T) {
	b := newTestBook(3, 2)
	d2, d3 := newVoice("d2"), newVoice("d3")
	counted := func(d time.Duration) (n int) {
		for _, o := range b.Opinions(signal(1), at(d)) {
			if o.Counted {
				n++
			}
		}
		return n
	}
	_, _ = b.Ballot(d2.cast(Vote{Subject: signal(1), N: 1, To: Down}), epoch)
	_, _ = b.Ballot(d3.cast(Vote{Subject: signal(1), N: 1, To: Up}), epoch)
	_ = b.Heartbeat(d2.beat(), at(900*ms))
	lost := d3.cast(Vote{Subject: signal(2), N: 1, To: Up})
	_ = b.Heartbeat(d3.beat(), at(900*ms))
	if got := counted(time.Second); got != 2 {
		t.Errorf("%d votes fresh at 1 s, want both", got)
	}
	if got := counted(1500 * ms); got != 1 {
		t.Errorf("%d votes fresh at 1.5 s, want d2's alone", got)
	}
	_, _ = b.Ballot(lost, at(1600*ms)) // overtaken by the heartbeat that spoke of it
	if got := counted(1700 * ms); got != 2 {
		t.Errorf("%d votes fresh once the lost ballot is here, want both", got)
	}
	if got := counted(3 * time.Second); got != 0 {
		t.Errorf("%d votes fresh in silence", got)
	}
}

func TestAbstainersVotesDoNotCount(t *testing.T) {
	b := newTestBook(3, 1)
	d2, d3 := newVoice("d2"), newVoice("d3")
	_, _ = b.Ballot(d2.cast(Vote{Subject: signal(1), N: 1, To: Down}), epoch)
	_, _ = b.Ballot(d3.cast(Vote{Subject: signal(1), N: 1, To: Down}), epoch)
	beat := d3.beat()
	beat.Abstaining = true
	_ = b.Heartbeat(beat, epoch)
	if got := b.Judge(epoch); len(got) != 0 {
		t.Errorf("judged with the vote of an abstainer: %v", got)
	}
	_ = b.Heartbeat(d3.beat(), epoch)
	b.Abstain(true)
	if got := b.Judge(epoch); len(got) != 0 {
		t.Errorf("judged while abstaining: %v", got)
	}
	if applied, _ := b.Merge([]Certificate{certify(signal(1), 1, 1, 1, "d2", "d3")}, verifyFor(rosterOf(3)), epoch); len(applied) != 1 {
		t.Error("an abstaining director applies what is proven")
	}
}

// TestS8Isolated: who hears too few makes nothing, up or down, and applies what
// is proven.
func TestS8Isolated(t *testing.T) {
	for n, need := range map[int]int{1: 1, 2: 2, 3: 2, 4: 3, 5: 3, 6: 4, 7: 4} {
		roster := rosterOf(n)
		b := NewBook("d1", roster, 0)
		for heard := 1; heard <= n; heard++ {
			if heard > 1 {
				_ = b.Heartbeat(Heartbeat{Director: roster[heard-1].Name, Boot: 1, Seq: 1}, epoch)
			}
			if got := b.Hears(at(time.Second)); got != heard {
				t.Errorf("N=%d: hears %d, want %d", n, got, heard)
			}
			if got := b.Isolated(at(time.Second)); got != (heard < need) {
				t.Errorf("N=%d hearing %d: isolated %v", n, heard, got)
			}
		}
		if got := b.Hears(at(time.Second + 1)); got != 1 {
			t.Errorf("N=%d: hears %d in silence", n, got)
		}
	}

	// Three of seven are a quorum of votes, yet not enough to hear.
	seven := NewBook("d1", rosterOf(7), 0)
	seven.SetSubjects(subjectsOf(1), epoch)
	for _, d := range []string{"d1", "d2", "d3"} {
		_, _ = seven.Ballot(sign(d, 1, 1, Vote{Subject: signal(1), N: 1, To: Down}), epoch)
	}
	if got := seven.Judge(epoch); len(got) != 0 {
		t.Errorf("one that hears three of seven judged: %v", got)
	}
	_ = seven.Heartbeat(Heartbeat{Director: "d4", Boot: 1, Seq: 1}, epoch)
	if got := seven.Judge(epoch); len(got) != 1 {
		t.Errorf("one that hears four of seven judged: %v", got)
	}

	b := NewBook("d1", rosterOf(5), 0)
	b.SetSubjects(subjectsOf(1), epoch)
	_, _ = b.Ballot(sign("d1", 1, 1, Vote{Subject: signal(1), N: 1, To: Down}), epoch)
	_, _ = b.Ballot(sign("d2", 1, 1, Vote{Subject: signal(1), N: 1, To: Down}), epoch)
	if _, _ = b.Ballot(sign("d3", 1, 1, Vote{Subject: signal(1), N: 1, To: Down}), epoch); b.Isolated(epoch) {
		t.Fatal("isolated though it hears three")
	}
	late := at(1100 * ms)
	if got := b.Judge(late); len(got) != 0 || !b.Isolated(late) {
		t.Errorf("an isolated director judged: %v", got)
	}
	if applied, _ := b.Merge([]Certificate{certify(signal(1), 1, 1, 9, "d2", "d3", "d4")}, verifyFor(rosterOf(5)), late); len(applied) != 1 {
		t.Error("an isolated director applies what is proven")
	}
}

// TestS8ReplayIsNotHearing: old messages played again by someone on the path do
// not make a director believe that it has company.
func TestS8ReplayIsNotHearing(t *testing.T) {
	b := newTestBook(3, 1)
	beat := Heartbeat{Director: "d2", Boot: 1, Seq: 7}
	_ = b.Heartbeat(beat, epoch)
	for d := 250 * ms; d < 3*time.Second; d += 250 * ms {
		_ = b.Heartbeat(beat, at(d))
		_, _ = b.Ballot(sign("d2", 1, 6, Vote{Subject: signal(1), N: 1, To: Up}), at(d))
		if alone := d > time.Second; b.Isolated(at(d)) != alone {
			t.Errorf("at %s isolated %v: replays count as company", d, !alone)
		}
	}
}

func TestUnknownSubjectsAreHeldNotCounted(t *testing.T) {
	b := newTestBook(3, 1)
	d2 := newVoice("d2")
	unknown, err := b.Ballot(d2.cast(Vote{Subject: signal(1), N: 1, To: Up}, Vote{Subject: signal(9), N: 1, To: Down}), epoch)
	if unknown != 1 || err != nil {
		t.Errorf("Ballot = %d, %v", unknown, err)
	}
	_, _ = b.Ballot(sign("d3", 1, 1, Vote{Subject: signal(9), N: 1, To: Down}), epoch)
	if got := b.Judge(epoch); len(got) != 0 {
		t.Errorf("judged what is not in the spec: %v", got)
	}
	if _, ok := b.States()[signal(9)]; ok {
		t.Error("state of a subject that is not in the spec")
	}
	if b.Heard()[0].Votes != d2.digest() {
		t.Error("the digest does not cover a vote on a subject that only its author knows")
	}
	b.SetSubjects(subjectsOf(9), epoch) // the spec arrives here too
	if got := b.Judge(epoch); len(got) != 1 {
		t.Errorf("Judge = %v once the subject is known", got)
	}
}

func TestL5BookIsBounded(t *testing.T) {
	b := newTestBook(3, 1)
	seq := uint64(0)
	flood := func(boot uint64) {
		for i := range 400 {
			var votes []Vote
			for j := range 30 {
				s := signal(1)
				s.Addr = at4(i*30+j, uint16(boot))
				votes = append(votes, Vote{Subject: s, N: 1, To: Down})
			}
			seq++
			_, _ = b.Ballot(sign("d2", boot, seq, votes...), epoch)
		}
	}
	for boot := uint64(1); boot <= 3; boot++ {
		flood(boot)
		if got := b.Size(); got.Votes > maxVotesHeld || got.Retired > maxVotesHeld {
			t.Fatalf("boot %d: %+v", boot, got)
		}
	}
	_, _ = b.Ballot(sign("d2", 4, 1), epoch)
	if got := b.Size(); got.Votes != 0 || got.Retired != 0 {
		t.Errorf("after a restart of the flooder: %+v", got)
	}
	b.SetRoster(rosterOf(1), 0)
	if got := b.Size(); got != (Size{Subjects: 1}) {
		t.Errorf("after its removal: %+v", got)
	}
}

func TestRetiredChainsComeBackAndAreForgotten(t *testing.T) {
	b := newTestBook(1, 2)
	b.advance(b.topics[signal(2)], Certificate{Subject: signal(2), N: 1}, epoch)
	digest := b.Digest()
	b.SetSubjects(subjectsOf(1), epoch)
	if b.Digest() != 0 || len(b.Summary()) != 0 || len(b.States()) != 1 {
		t.Error("a subject that is gone is still summed up")
	}
	b.SetSubjects(subjectsOf(2), at(time.Hour))
	if b.Digest() != digest || b.States()[signal(2)] != Down {
		t.Error("the chain of a subject that came back is lost")
	}
	b.SetSubjects(subjectsOf(1), at(time.Hour))
	b.SetSubjects(subjectsOf(1), at(25*time.Hour))
	if got := b.Size(); got != (Size{Subjects: 1}) {
		t.Errorf("a day later: %+v", got)
	}
}

func TestRosterChangeKeepsWhatStays(t *testing.T) {
	b := newTestBook(3, 2)
	b.advance(b.topics[signal(2)], Certificate{Subject: signal(2), N: 1}, epoch)
	_, _ = b.Ballot(sign("d2", 1, 1, Vote{Subject: signal(1), N: 1, To: Down}), epoch)
	_, _ = b.Ballot(sign("d3", 1, 5, Vote{Subject: signal(1), N: 1, To: Down}), epoch)
	b.SetRoster([]Director{{"d0", "dc0"}, {"d1", "dc1"}, {"d3", "dc3"}}, 0)
	if b.States()[signal(2)] != Down {
		t.Error("a certificate in force survives changes of the roster")
	}
	if got := b.Judge(epoch); len(got) != 0 {
		t.Errorf("judged with the vote of a removed director: %v", got)
	}
	if got := b.Opinions(signal(1), epoch); got[0].State != Unknown || got[2].State != Down {
		t.Errorf("votes after the change: %+v", got)
	}
	b.SetRoster(rosterOf(3), 0)
	if _, err := b.Ballot(sign("d2", 1, 1, Vote{Subject: signal(1), N: 1, To: Down}), at(1)); !errors.Is(err, ErrStale) {
		t.Errorf("a replay begins where a removed name comes back: %v", err)
	}
}

func TestOwnVoteFollowsOwnOpinion(t *testing.T) {
	b := newTestBook(1, 1)
	_, _ = b.Ballot(sign("d1", 1, 1, Vote{Subject: signal(1), N: 1, To: Down}), epoch)
	b.think(Vote{Subject: signal(1), N: 1, To: Up}, "", false)
	if got := b.Judge(epoch); len(got) != 0 {
		t.Errorf("judged by a ballot that it no longer stands by: %v", got)
	}
	b.think(Vote{Subject: signal(1), N: 1, To: Down}, "status 503", false)
	got := b.Judge(epoch)
	if len(got) != 1 || got[0].Reason != "down for 1 of 1 observers (d1): status 503" {
		t.Errorf("Judge = %+v", got)
	}
}

// What a later word has overtaken within a moment is told from what came too late to count.
func TestOvertaken(t *testing.T) {
	down := Vote{Subject: signal(1), N: 1, To: Down}
	tests := []struct {
		what string
		at   time.Duration // after the later word
		seq  uint64
		want bool
	}{
		{"within the second", 900 * time.Millisecond, 5, true},
		{"after it", 2 * time.Second, 5, false},
	}
	for _, tc := range tests {
		b := newTestBook(3, 2)
		_ = b.Heartbeat(Heartbeat{Director: "d2", Boot: 1, Seq: 6}, epoch)
		_ = b.Heartbeat(Heartbeat{Director: "d2", Boot: 1, Seq: 7}, at(tc.at))
		if err := b.Heartbeat(Heartbeat{Director: "d2", Boot: 1, Seq: tc.seq}, at(tc.at)); errors.Is(err, ErrOvertaken) != tc.want || !errors.Is(err, ErrStale) {
			t.Errorf("a heartbeat %s: %v", tc.what, err)
		}
		b = newTestBook(3, 2)
		_, _ = b.Ballot(sign("d2", 1, 6, down), epoch)
		_, _ = b.Ballot(sign("d2", 1, 7, Vote{Subject: signal(1), N: 2, To: Up}), at(tc.at))
		if _, err := b.Ballot(sign("d2", 1, tc.seq, down), at(tc.at)); errors.Is(err, ErrOvertaken) != tc.want || !errors.Is(err, ErrStale) {
			t.Errorf("a ballot %s: %v", tc.what, err)
		}
	}
}
