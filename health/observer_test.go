package health

import (
	"strings"
	"testing"
	"time"
)

// probed is a script of reports on one or more subjects, for an observer.
type probed struct {
	t *testing.T
	o *Observer
	b *Book
}

// newProbed watches signal(1), signal(2) and their checks; both have passed
// once by time 0, so that nothing is suspect and the first round is over.
func newProbed(t *testing.T) *probed {
	p := &probed{t: t, o: NewObserver(epoch), b: NewBook("d1", rosterOf(5), 0)}
	p.o.quorum = p.b.Quorum()
	watched := []Watched{}
	for i := 1; i <= 2; i++ {
		watched = append(watched, Watched{Subject: signal(i)}, Watched{Subject: check(i), Signal: signal(i)})
	}
	p.o.Set(watched)
	p.b.SetSubjects([]Subject{signal(1), signal(2), check(1), check(2)}, epoch)
	for i := 1; i <= 2; i++ {
		p.ok(signal(i), 0)
		p.ok(check(i), 0)
	}
	return p
}

func (p *probed) ok(s Subject, d time.Duration) {
	p.o.Report(Report{Subject: s, OK: true, At: at(d), Latency: time.Millisecond})
}

func (p *probed) miss(s Subject, ds ...time.Duration) {
	sign := SignRefused
	if s.Kind != KindSignal {
		sign = SignWrong
	}
	for _, d := range ds {
		p.o.Report(Report{Subject: s, At: at(d), Latency: time.Millisecond, Sign: sign, Reason: "connection refused"})
	}
}

// fails gives as many misses, 50 ms apart.
func (p *probed) fails(s Subject, from time.Duration, misses int) {
	for i := range misses {
		p.miss(s, from+time.Duration(i)*50*ms)
	}
}

// What makes one of five observers vote down.
const (
	fastMisses = 10 // refused: 10 × 0.72 ≥ 20/3
	deepMisses = 4  // wrong: 4 × 2 ≥ 20/3
)

func (p *probed) want(s Subject, d time.Duration, want State) string {
	p.t.Helper()
	got, why := p.o.Opinion(s, p.b.Chain(s), at(d))
	if got != want {
		p.t.Errorf("opinion of %s at %s = %s (%s), want %s", s, d, got, why, want)
	}
	return why
}

// fell puts a fall of the subject in force.
func (p *probed) fell(s Subject, d time.Duration) {
	t := p.b.topics[s]
	p.b.advance(t, Certificate{Subject: s, N: t.chain.N + 1}, at(d))
}

const ms = time.Millisecond

func TestMissesMustBeInARow(t *testing.T) {
	p := newProbed(t)
	p.fails(signal(1), 100*ms, fastMisses-1)
	p.ok(signal(1), 600*ms)
	p.fails(signal(1), 700*ms, fastMisses-1)
	p.want(signal(1), 1200*ms, Up)
}

func TestVoidNeitherHelpsNorHurts(t *testing.T) {
	p := newProbed(t)
	p.fails(signal(1), 100*ms, fastMisses-1)
	p.o.Report(Report{Subject: signal(1), Void: true, At: at(600 * ms)})
	p.o.Report(Report{Subject: signal(1), Void: true, OK: true, At: at(600 * ms)})
	p.want(signal(1), 600*ms, Up)
	p.miss(signal(1), 700*ms)
	p.want(signal(1), 700*ms, Down)
}

func TestDeepSuccessKeepsASignalUp(t *testing.T) {
	p := newProbed(t)
	p.miss(signal(1), 100*ms, 200*ms)
	p.ok(check(1), 250*ms)
	p.fails(signal(1), 300*ms, fastMisses)
	p.voted(signal(1), 800*ms, Up, 0)
	if why := p.want(signal(1), 800*ms, Up); !strings.Contains(why, "deep probe passes") {
		t.Errorf("reason = %q", why)
	}
	// A deep success before the first miss is no excuse; one of another
	// address is none either.
	p.fails(signal(2), 500*ms, fastMisses)
	p.ok(check(1), time.Second)
	p.want(signal(2), time.Second, Down)
	// Once the deep probe fails too, this signal only says nothing: the check
	// is what falls.
	p.fails(check(1), 1100*ms, deepMisses)
	p.want(signal(1), 1300*ms, Unknown)
	p.want(check(1), 1300*ms, Down)
}

func TestProbeThatNeverPassedIsTheSuspect(t *testing.T) {
	o, b := NewObserver(epoch), NewBook("d1", rosterOf(1), 0)
	o.Set([]Watched{
		{Subject: signal(1)},
		{Subject: check(1), Signal: signal(1)},
		{Subject: signal(2)},
		{Subject: check(2), Signal: signal(2)},
	})
	b.SetSubjects([]Subject{signal(1), signal(2), check(1), check(2)}, epoch)
	p := &probed{t, o, b}
	for i := 1; i <= 2; i++ {
		p.ok(signal(i), 0)
		p.fails(check(i), 2900*ms, 30)
		p.want(check(i), 3*time.Second, Unknown)
	}
	got := o.Suspects()
	if len(got) != 1 || got[0].Def != check(1).Def || len(got[0].Subjects) != 2 || got[0].Reason != "connection refused" {
		t.Errorf("Suspects = %+v", got)
	}
	p.ok(check(2), 4*time.Second) // it can pass: so the other one is really down
	p.want(check(1), 4*time.Second, Down)
	if got := o.Suspects(); len(got) != 0 {
		t.Errorf("Suspects = %+v after it has passed", got)
	}
}

func TestSuspicionIsOfASignalToo(t *testing.T) {
	o, b := NewObserver(epoch), NewBook("d1", rosterOf(1), 0)
	o.Set([]Watched{{Subject: signal(1)}, {Subject: check(1), Signal: signal(1)}, {Subject: signal(2)}})
	p := &probed{t, o, b}
	p.fails(signal(1), 100*ms, 28)
	p.fails(signal(2), 100*ms, 28)
	p.miss(check(1), 300*ms)
	p.want(signal(1), 1500*ms, Unknown) // a mistyped port
	p.want(signal(2), 1500*ms, Down)    // rides under no probe
	p.ok(signal(1), 1500*ms)
	p.fails(signal(1), 1600*ms, 28)
	p.want(signal(1), 3000*ms, Down)
}

func TestKnownTransitionClearsSuspicion(t *testing.T) {
	o, b := NewObserver(epoch), NewBook("d1", rosterOf(1), 0)
	b.SetSubjects([]Subject{check(1), check(2)}, epoch)
	o.Set([]Watched{{Subject: check(1)}, {Subject: check(2)}})
	p := &probed{t, o, b}
	p.fell(check(1), 0) // a quorum knew that it could pass
	p.fails(check(1), time.Second, 10)
	p.fails(check(2), time.Second, 10)
	got := o.Votes(b, at(2*time.Second))
	want := []Vote{{Subject: check(1), N: 2, To: Down}, {Subject: check(2), N: 1, To: Down, Suspicion: theta}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("Votes = %v, want %v", got, want)
	}
}

func TestS17NotProbedIsUnknown(t *testing.T) {
	p := newProbed(t)
	p.want(signal(3), 0, Unknown)
	p.o.Set([]Watched{{Subject: signal(1)}, {Subject: signal(3)}})
	p.want(signal(3), time.Second, Unknown)
	p.want(signal(1), time.Second, Up)
	p.want(signal(2), time.Second, Unknown)
	// Silence of one's own probes ages to unknown, never to down.
	p.fails(signal(1), 3500*ms, fastMisses)
	p.want(signal(1), 4*time.Second, Down)
	p.want(signal(1), 12*time.Second, Unknown)
}

func TestFirstRoundHoldsEverything(t *testing.T) {
	o, b := NewObserver(epoch), NewBook("d1", rosterOf(1), 0)
	o.Set([]Watched{{Subject: signal(1)}, {Subject: signal(2)}})
	p := &probed{t, o, b}
	p.fails(signal(1), 100*ms, 28)
	p.want(signal(1), 300*ms, Unknown)
	if votes := o.Votes(b, at(300*ms)); len(votes) != 0 {
		t.Errorf("votes before the first full round: %v", votes)
	}
	o.Report(Report{Subject: signal(2), Void: true, At: at(400 * ms)}) // no route: probed all the same
	p.want(signal(1), 400*ms, Down)
	if votes := o.Votes(b, at(400*ms)); len(votes) != 1 || votes[0] != (Vote{Subject: signal(1), N: 1, To: Down, Suspicion: theta}) {
		t.Errorf("votes after it: %v", votes)
	}
}

func TestFirstRoundEndsWithoutTheLastTarget(t *testing.T) {
	o, b := NewObserver(epoch), NewBook("d1", rosterOf(1), 0)
	o.Set([]Watched{{Subject: signal(1)}, {Subject: signal(2)}})
	p := &probed{t, o, b}
	p.ok(signal(1), 9*time.Second)
	o.Votes(b, at(9*time.Second))
	if votes := o.Votes(b, at(10*time.Second)); len(votes) != 1 || votes[0] != (Vote{Subject: signal(1), N: 1, To: Up}) {
		t.Errorf("votes when the round is given up: %v", votes)
	}
}

func TestStallVoidsWhatWasInFlight(t *testing.T) {
	p := newProbed(t)
	p.fails(signal(1), 0, fastMisses-1)
	p.o.Stalled(at(500 * ms))
	p.voted(signal(1), 500*ms, Unknown, 0)                                     // nor does it lean
	p.o.Report(Report{Subject: signal(1), At: at(510 * ms), Latency: 50 * ms}) // began before
	p.want(signal(1), 510*ms, Unknown)
	p.miss(signal(1), 600*ms)
	p.want(signal(1), 600*ms, Down)
	p.o.Stalled(at(700 * ms))
	p.want(signal(1), 700*ms, Unknown) // votes again after a fresh probe
	p.want(signal(2), 700*ms, Up)      // the state in force needs none
	p.miss(signal(1), 800*ms)
	p.want(signal(1), 800*ms, Down)
}

// TestSleeperVotesForNothing (L2): who slept, and so makes no transition yet, votes for none
// either, or others would put in force what it has not when it sleeps again.
func TestSleeperVotesForNothing(t *testing.T) {
	s := time.Second
	p := newProbed(t)
	p.fell(signal(2), 0)
	for d := s; d < 13*s; d += s {
		p.ok(signal(2), d)
	}
	p.fails(signal(1), 12*s, fastMisses)
	p.voted(signal(1), 13*s, Down, uint16(p.b.Quorum().Cap()))
	p.voted(signal(2), 13*s, Up, 0)
	const woken = 14500 * ms
	p.o.Stalled(at(woken))
	p.b.Slept(1500*ms, at(woken))
	for d := woken + 50*ms; d < woken+waking; d += 50 * ms {
		p.miss(signal(1), d)
		p.ok(signal(2), d)
		p.voted(signal(1), d, Unknown, 0)
		p.voted(signal(2), d, Unknown, 0)
	}
	p.voted(signal(1), woken+waking, Down, uint16(p.b.Quorum().Cap())) // without a report of its own
	p.voted(signal(2), woken+waking, Up, 0)
}

func TestS10ReturnWaits(t *testing.T) {
	p := newProbed(t)
	p.fell(signal(1), 0)
	s := time.Second
	p.miss(signal(1), s, s, s)
	p.want(signal(1), s, Down)
	for d := 2 * s; d < 12*s; d += s {
		p.ok(signal(1), d)
		p.want(signal(1), d, Down)
	}
	w, waits := p.o.Waits(signal(1), p.b.Chain(signal(1)), at(5*s))
	if !waits || w.For != 7*s || w.Healthy != 3*s || !strings.Contains(w.Why, "healthy for 10s") {
		t.Errorf("Waits = %+v, %v", w, waits)
	}
	p.want(signal(1), 12*s, Up)
	if w, waits := p.o.Waits(signal(1), p.b.Chain(signal(1)), at(12*s)); waits {
		t.Errorf("still waits: %+v", w)
	}
	p.fails(signal(1), 13*s, 2) // a lossy path does not begin the wait again
	p.want(signal(1), 13*s+100*ms, Up)
	p.fails(signal(1), 13*s+100*ms, 4) // nor do these, but while it does not pass it is voted for by nobody
	p.want(signal(1), 13*s+300*ms, Down)
	p.ok(signal(1), 13*s+310*ms)
	p.want(signal(1), 13*s+310*ms, Up)
	p.fails(signal(1), 13*s+400*ms, 10) // what a live one shows once in 10⁵ does
	p.want(signal(1), 13*s+900*ms, Down)
	p.ok(signal(1), 14*s)
	p.ok(signal(1), 19*s)
	p.ok(signal(1), 23*s)
	p.want(signal(1), 23*s, Down)
	p.want(signal(1), 24*s, Up)
}

// TestHoldBeginsWithTheFall: a director that saw nothing wrong waits as well.
func TestHoldBeginsWithTheFall(t *testing.T) {
	p := newProbed(t)
	for d := time.Duration(1); d <= 40; d++ {
		p.ok(signal(1), d*time.Second)
	}
	p.fell(signal(1), 30*time.Second)
	p.want(signal(1), 39*time.Second, Down)
	p.want(signal(1), 40*time.Second, Up)
}

func TestReadmitEndsTheWait(t *testing.T) {
	p := newProbed(t)
	s := time.Second
	p.fell(signal(1), 0)
	p.miss(signal(1), s, s, s)
	for d := 2 * s; d < 5*s; d += s {
		p.ok(signal(1), d)
	}
	p.want(signal(1), 5*s, Down)
	p.o.Votes(p.b, at(5*s))
	p.o.Readmits(map[Subject]time.Time{signal(1): at(5 * s)})
	p.want(signal(1), 5*s, Up)
	if votes := p.o.Votes(p.b, at(5*s)); len(votes) != 1 || votes[0].To != Up {
		t.Errorf("Votes = %v after readmit", votes)
	}
	p.o.Readmits(nil)
	if votes := p.o.Votes(p.b, at(5*s)); len(votes) != 1 || votes[0].To != Down {
		t.Errorf("Votes = %v after its end", votes)
	}
}

// TestVotesFollowTime shows that waits and staleness change votes without any
// new report, and that nothing is said twice.
func TestVotesFollowTime(t *testing.T) {
	p := newProbed(t)
	s := time.Second
	if votes := p.o.Votes(p.b, at(0)); len(votes) != 4 {
		t.Fatalf("first votes: %v", votes)
	}
	if votes := p.o.Votes(p.b, at(s)); len(votes) != 0 {
		t.Fatalf("votes said twice: %v", votes)
	}
	p.fell(signal(1), s)
	if votes := p.o.Votes(p.b, at(s)); len(votes) != 1 || votes[0] != (Vote{Subject: signal(1), N: 2, To: Down}) {
		t.Fatalf("votes after a transition: %v", votes)
	}
	for d := s; d <= 9*s; d += s {
		for _, x := range []Subject{signal(1), signal(2), check(1), check(2)} {
			p.ok(x, d)
		}
	}
	if votes := p.o.Votes(p.b, at(11*s-1)); len(votes) != 0 {
		t.Fatalf("votes while the hold lasts: %v", votes)
	}
	if votes := p.o.Votes(p.b, at(11*s)); len(votes) != 1 || votes[0] != (Vote{Subject: signal(1), N: 2, To: Up}) {
		t.Fatalf("votes when the hold ends: %v", votes)
	}
	votes := p.o.Votes(p.b, at(30*s))
	if len(votes) != 4 {
		t.Fatalf("votes when all is stale: %v", votes)
	}
	for _, v := range votes {
		if v.To != Unknown {
			t.Errorf("stale vote %v", v)
		}
	}
	for after, want := range map[time.Duration]string{40 * s: "40s", 10 * time.Minute: "10m", 2 * time.Hour: "2h", time.Hour + s: "1h0m1s"} {
		if _, why := p.o.Opinion(signal(1), p.b.Chain(signal(1)), at(9*s+after)); why != "no report since "+want {
			t.Errorf("after %s: %q", after, why)
		}
	}
}

func TestUnwatchedIsWithdrawn(t *testing.T) {
	p := newProbed(t)
	p.o.Votes(p.b, at(0))
	p.o.Set([]Watched{{Subject: signal(1)}})
	p.o.Report(Report{Subject: signal(2), OK: true, At: at(1)})
	votes := p.o.Votes(p.b, at(1))
	if len(votes) != 3 {
		t.Fatalf("Votes = %v", votes)
	}
	for _, v := range votes {
		if v.To != Unknown || v.Subject == signal(1) {
			t.Errorf("vote %v", v)
		}
	}
	if votes := p.o.Votes(p.b, at(2)); len(votes) != 0 {
		t.Errorf("withdrawn twice: %v", votes)
	}
}

func TestSlowProbeIsNotStaleBetweenItsIntervals(t *testing.T) {
	o, b := NewObserver(epoch), NewBook("d1", rosterOf(1), 0)
	o.Set([]Watched{{Subject: check(1), Interval: time.Minute}})
	p := &probed{t, o, b}
	p.ok(check(1), 0)
	p.want(check(1), 2*time.Minute, Up)
	p.want(check(1), 4*time.Minute, Unknown)
}

// TestS17WhatWasSeenLongAgoIsForgotten: after silence longer than an opinion
// lives, one probe does not make old misses a fall, nor an old pass a wait that
// is over; nor does the length of the silence prolong the next opinion.
func TestS17WhatWasSeenLongAgoIsForgotten(t *testing.T) {
	s := check(1)
	watch := []Watched{{Subject: s, Interval: time.Second}}
	report := func(o *Observer, d time.Duration, ok bool) {
		o.Report(Report{Subject: s, OK: ok, At: at(d), Reason: "status 503"})
	}
	up, down := Chain{Subject: s}, Chain{Subject: s}.next(1, at(0))

	o := NewObserver(at(0))
	o.Set(watch)
	report(o, time.Second, true)
	report(o, 2*time.Second, false)
	report(o, time.Hour, false)
	if got, why := o.Opinion(s, up, at(time.Hour)); got == Down {
		t.Errorf("two misses an hour apart: %s (%s)", got, why)
	}
	if phi := o.entries[s].suspicion.Phi(); phi > 1 {
		t.Errorf("two misses an hour apart: phi = %g", phi)
	}

	o = NewObserver(at(0))
	o.Set(watch)
	for d := time.Second; d < 30*time.Second; d += time.Second {
		report(o, d, true)
	}
	report(o, time.Hour, true)
	if got, why := o.Opinion(s, down, at(time.Hour)); got == Up {
		t.Errorf("one pass after an hour's silence ends the wait: %s (%s)", got, why)
	}
	if got, why := o.Opinion(s, up, at(time.Hour+2*time.Minute)); got != Unknown {
		t.Errorf("two minutes without a report: %s (%s)", got, why)
	}
}

// TestNoVoteWithoutEvidence: who has seen a subject fail, and never pass, does
// not say that it is up; it leans, or votes down.
func TestNoVoteWithoutEvidence(t *testing.T) {
	p := newProbed(t)
	third := Subject{Kind: KindCheck, Addr: site(3), Def: check(1).Def}
	p.o.Set([]Watched{{Subject: check(1)}, {Subject: third}})
	p.b.SetSubjects([]Subject{check(1), third}, epoch)
	p.ok(check(1), time.Second)
	p.o.Report(Report{Subject: third, Late: true, At: at(time.Second)})
	p.miss(third, time.Second)
	p.voted(third, time.Second, Up, 200)
	p.fails(third, 2*time.Second, deepMisses-1)
	p.voted(third, 3*time.Second, Down, 667)
	p.ok(third, 3*time.Second)
	p.voted(third, 3*time.Second, Up, 0)
	p.o.Set([]Watched{{Subject: check(1)}})
	p.o.Set([]Watched{{Subject: check(1)}, {Subject: third}})
	p.o.Report(Report{Subject: third, Late: true, At: at(4 * time.Second)})
	p.want(third, 4*time.Second, Unknown)
}
