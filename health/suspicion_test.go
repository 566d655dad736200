package health

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestThresholdFollowsTheWantedRate: SEMANTICS section 1, Θ is about 20 for one
// false fall in a million endpoint-years.
func TestThresholdFollowsTheWantedRate(t *testing.T) {
	if got := Threshold(wantedRate) * 100; got != theta {
		t.Errorf("Threshold(%g) = %g hundredths, theta is %d", wantedRate, got, theta)
	}
	for _, tc := range []struct{ rate, want float64 }{{1, 14}, {1e-3, 17}, {1e-5, 19}, {1e-9, 23}} {
		if got := Threshold(tc.rate); got != tc.want {
			t.Errorf("Threshold(%g) = %g, want %g", tc.rate, got, tc.want)
		}
	}
}

// TestS7MissesThatMakeAFall: what so many observers must each miss, on paths that
// have shown nothing.
func TestS7MissesThatMakeAFall(t *testing.T) {
	tests := []struct {
		observers, seeing int
		sign              Sign
		want              int
	}{
		{1, 1, SignSilent, 28},
		{1, 1, SignWrong, 10},
		{2, 2, SignSilent, 14},
		{3, 2, SignSilent, 14},
		{3, 3, SignSilent, 10},
		{3, 3, SignRefused, 10},
		{3, 3, SignMute, 4},
		{4, 4, SignSilent, 7},
		{4, 3, SignSilent, 10},
		{5, 5, SignSilent, 6},
		{5, 4, SignSilent, 7},
		{5, 3, SignSilent, 10},
		{5, 5, SignMute, 2},
		{5, 3, SignWrong, 4},
	}
	for _, tc := range tests {
		q := QuorumOf(rosterOf(tc.observers), 0)
		got := 0
		for misses := 1; got == 0 && misses < 50; misses++ {
			sum := 0
			for range tc.seeing {
				var s Suspicion
				for i := range misses {
					s.Missed(at(time.Duration(i)*50*ms), at(time.Duration(i)*50*ms), tc.sign)
				}
				sum += min(int(s.Hundredths()), q.Cap())
			}
			if sum >= q.Theta() {
				got = misses
			}
		}
		if got != tc.want {
			t.Errorf("%d of %d observers, %s: a fall takes %d misses of each, want %d", tc.seeing, tc.observers, tc.sign, got, tc.want)
		}
		var s Suspicion
		share := float64(min((q.Theta()+tc.seeing-1)/tc.seeing, q.Cap())) / 100
		if need := s.Needed(share, tc.sign); need != tc.want {
			t.Errorf("%d of %d observers, %s: Needed = %d, want %d", tc.seeing, tc.observers, tc.sign, need, tc.want)
		}
	}
}

// TestS7CapsMakeQuorums: q full votes in two domains are enough, fewer than q, or
// all of one domain, never are.
func TestS7CapsMakeQuorums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := QuorumOf(rosterOf(rapid.IntRange(1, 9).Draw(t, "directors")), rapid.IntRange(0, 5).Draw(t, "observers"))
		if full := q.Votes * q.Cap(); full < q.Theta() {
			t.Fatalf("%+v: %d full votes weigh %d", q, q.Votes, full)
		}
		if less := (q.Votes - 1) * q.Cap(); less >= q.Theta() {
			t.Fatalf("%+v: %d full votes weigh %d", q, q.Votes-1, less)
		}
		if q.Domains > 1 && (q.DomainCap() >= q.Theta() || q.DomainCap() < (q.Votes-1)*q.Cap()) {
			t.Fatalf("%+v: a domain counts %d", q, q.DomainCap())
		}
	})
}

func TestWeightOfAVote(t *testing.T) {
	q := QuorumOf(rosterOf(3), 0)
	soft := check(1)
	soft.Kind = KindSoft
	tests := []struct {
		name string
		vote Vote
		want int
	}{
		{"a full vote", Vote{signal(1), 1, Down, 1000}, 1000},
		{"more than full", Vote{signal(1), 1, Down, maxSuspicion}, 1000},
		{"full where its author stood, not here", Vote{signal(1), 1, Down, 667}, 667},
		{"of a version without suspicion", Vote{signal(1), 1, Down, 0}, 1000},
		{"leaning", Vote{signal(1), 3, Up, 432}, 432},
		{"leaning more than it may", Vote{signal(1), 3, Up, 5000}, 1000},
		{"merely late", Vote{signal(1), 1, Up, late}, 0},
		{"against", Vote{signal(1), 1, Up, 0}, 0},
		{"withdrawn", Vote{signal(1), 1, Unknown, 900}, 0},
		{"on nothing", Vote{signal(1), 0, Down, 900}, 0},
		{"for a return", Vote{signal(1), 2, Up, 0}, 1000},
		{"for a return, with what says nothing there", Vote{signal(1), 2, Up, 5}, 1000},
		{"against a return", Vote{signal(1), 2, Down, 900}, 0},
		{"soft", Vote{soft, 1, Down, 5}, 1000},
		{"soft ones do not lean", Vote{soft, 1, Up, 900}, 0},
	}
	for _, tc := range tests {
		if got := q.Weight(tc.vote); got != tc.want {
			t.Errorf("%s: Weight = %d, want %d", tc.name, got, tc.want)
		}
	}
}

// pathOf feeds one suspicion with probes of a fixed pace, ended in the order sent.
type pathOf struct {
	s   Suspicion
	now time.Time
}

func (p *pathOf) probe(answered bool) {
	p.now = p.now.Add(100 * ms)
	if answered {
		p.s.Answered(p.now, p.now)
	} else {
		p.s.Missed(p.now, p.now, SignSilent)
	}
}

func TestPhiIsOfProbesSentSinceTheLastAnsweredOne(t *testing.T) {
	var s Suspicion
	s.Answered(at(0), at(1*ms))
	for i, want := range []float64{0.7212, 1.4425, 2.1637} {
		sent := at(time.Duration(i+1) * 100 * ms)
		if !s.Missed(sent, sent.Add(300*ms), SignSilent) {
			t.Fatalf("miss %d does not count", i+1)
		}
		if math.Abs(s.Phi()-want) > 1e-3 {
			t.Errorf("after %d misses phi = %g, want %g", i+1, s.Phi(), want)
		}
	}
	s.Answered(at(500*ms), at(501*ms))
	if s.Phi() != 0 || s.Misses() != 0 {
		t.Errorf("phi = %g of %d misses after an answer", s.Phi(), s.Misses())
	}
	if s.Missed(at(400*ms), at(700*ms), SignSilent) || s.Phi() != 0 { // F5, F14
		t.Errorf("a probe sent before the last answered one counts: phi = %g", s.Phi())
	}
	if !s.Missed(at(600*ms), at(900*ms), SignSilent) {
		t.Error("one sent after it does not")
	}
	s.AnsweredLate(at(600*ms), at(1200*ms))
	if s.Phi() != 0 {
		t.Errorf("phi = %g after a late answer", s.Phi())
	}
	if s.probes != 7 || s.misses != 5 {
		t.Errorf("%g probes and %g misses, want 7 and 5: a late answer is no probe of its own", s.probes, s.misses)
	}
}

// TestHistoryLearnsLoss: a path that loses more than 10 % each way takes more
// misses, and one that loses less no fewer.
func TestHistoryLearnsLoss(t *testing.T) {
	for _, tc := range []struct {
		name         string
		every        int // one of so many is lost
		least, most  float64
		needed, upTo int
	}{
		{"a good path", 1000, 0, 0.01, 10, 10},
		{"10 % each way", 5, 0.19, 0.21, 10, 10},
		{"half", 2, 0.48, 0.52, 21, 24},
	} {
		p := &pathOf{now: epoch}
		for i := range 6000 {
			p.probe(i%tc.every != 1)
		}
		if lost, _ := p.s.Loss(); lost < tc.least || lost > tc.most {
			t.Errorf("%s: loss = %g, want %g to %g", tc.name, lost, tc.least, tc.most)
		}
		if n := p.s.Needed(20.0/3, SignSilent); n < tc.needed || n > tc.upTo {
			t.Errorf("%s: %d misses needed, want %d to %d", tc.name, n, tc.needed, tc.upTo)
		}
	}
}

// TestF5BurstsAreLearnt: bursts of 200 ms each few seconds make one more miss in a
// row likely, so it takes more of them; ten minutes later that fades.
func TestF5BurstsAreLearnt(t *testing.T) {
	p := &pathOf{now: epoch}
	quiet := p.s.Needed(20.0/3, SignSilent)
	for range 100 {
		for i := range 50 {
			p.probe(i >= 4)
		}
	}
	if _, again := p.s.Loss(); again < 0.6 || again > 0.75 {
		t.Errorf("P(miss | miss) = %g, want about 0.7", again)
	}
	bursty := p.s.Needed(20.0/3, SignSilent)
	if bursty < 2*quiet {
		t.Errorf("%d misses needed after bursts, %d before", bursty, quiet)
	}
	for range 2 * 60 * 60 * 10 {
		p.probe(true)
	}
	if again := p.s.Needed(20.0/3, SignSilent); again != quiet {
		t.Errorf("%d misses needed two hours later, want %d", again, quiet)
	}
}

// TestBurstsAreLearntWhenProbesOverlap: the misses of a burst are told after the
// answers to what was sent since.
func TestBurstsAreLearntWhenProbesOverlap(t *testing.T) {
	var s Suspicion
	for round := range 100 {
		sent := func(i int) time.Time { return at(time.Duration(round)*5*time.Second + time.Duration(i)*50*ms) }
		for i := range 100 {
			if i >= 4 {
				s.Answered(sent(i), sent(i).Add(10*ms))
			}
			if missed := i - 6; missed >= 0 && missed < 4 {
				s.Missed(sent(missed), sent(missed).Add(300*ms), SignSilent)
			}
		}
	}
	if _, again := s.Loss(); again < 0.6 || again > 0.76 {
		t.Errorf("P(miss | miss) = %g, want about 0.7", again)
	}
	var lone Suspicion // the same loss, every other one
	for round := range 100 {
		sent := func(i int) time.Time { return at(time.Duration(round)*5*time.Second + time.Duration(i)*50*ms) }
		for i := range 100 {
			if i > 7 || i%2 == 1 {
				lone.Answered(sent(i), sent(i).Add(10*ms))
			}
			if missed := i - 6; missed >= 0 && missed <= 7 && missed%2 == 0 {
				lone.Missed(sent(missed), sent(missed).Add(300*ms), SignSilent)
			}
		}
	}
	if _, again := lone.Loss(); again > 0.05 {
		t.Errorf("P(miss | miss) = %g of lone misses", again)
	}
}

// TestDeathTeachesNothing: neither what a death misses while it lasts, nor, once
// it is forgotten, what it has missed.
func TestDeathTeachesNothing(t *testing.T) {
	p := &pathOf{now: epoch}
	for range 100 {
		p.probe(true)
	}
	before := p.s.Needed(20, SignSilent)
	for range 1000 {
		p.probe(false)
	}
	if got := p.s.Needed(20, SignSilent); got != before {
		t.Errorf("%d misses needed in a death, %d before", got, before)
	}
	if got := p.s.Hundredths(); got != maxSuspicion {
		t.Errorf("suspicion = %d, want no more than %d", got, maxSuspicion)
	}
	p.s.Forget()
	p.probe(true)
	if got := p.s.Needed(20, SignSilent); got != before || p.s.Phi() != 0 {
		t.Errorf("%d misses needed after it, %d before", got, before)
	}
	for range 20 { // nor outages that nobody else saw, however many
		for i := range 20 {
			p.probe(i < 8)
		}
		for i := range 20 {
			p.probe(i >= 8)
		}
	}
	if got := p.s.Needed(20, SignSilent); got != before {
		t.Errorf("%d misses needed after outages, %d before", got, before)
	}
}

// TestPhiIsThatOfADumbTwin: phi and history from a list of all probes, read again
// for each question.
func TestPhiIsThatOfADumbTwin(t *testing.T) {
	type probe struct {
		sent, end time.Duration
		ok        bool
	}
	rapid.Check(t, func(t *rapid.T) {
		var s Suspicion
		var ended []probe
		now := time.Duration(0)
		for range rapid.IntRange(1, 60).Draw(t, "probes") {
			now += time.Duration(rapid.IntRange(10, 100).Draw(t, "ms")) * ms
			p := probe{sent: now - time.Duration(rapid.IntRange(0, 300).Draw(t, "took"))*ms, end: now, ok: rapid.Bool().Draw(t, "ok")}
			if p.ok {
				s.Answered(at(p.sent), at(p.end))
			} else {
				s.Missed(at(p.sent), at(p.end), SignSilent)
			}
			ended = append(ended, p)
			last, run := time.Duration(math.MinInt64), 0
			for _, e := range ended {
				switch {
				case e.ok:
					last, run = max(last, e.sent), 0
				case e.sent >= last:
					run++
				}
			}
			if s.Misses() != run {
				t.Fatalf("phi is of %d misses, want %d", s.Misses(), run)
			}
			if least := float64(run) * 0.05; s.Phi() < least || s.Phi() > float64(run)*0.7213 {
				t.Fatalf("phi = %g of %d misses", s.Phi(), run)
			}
		}
	})
}

func TestSuspicionAllocatesNothing(t *testing.T) {
	p := &pathOf{now: epoch}
	if got := testing.AllocsPerRun(100, func() {
		p.probe(true)
		p.probe(false)
		p.s.Needed(20, SignSilent)
	}); got != 0 {
		t.Errorf("%v allocations a probe", got)
	}
}

func BenchmarkSuspicion(b *testing.B) {
	p := &pathOf{now: epoch}
	b.ReportAllocs()
	for b.Loop() {
		for i := range 10 {
			p.probe(i > 0)
		}
	}
}

// TestOutageTeachesNothing (S10, F19): a subject that is dead for a second and well for
// a second is missed as much each time. The last probes of an outage are missed when it
// is over, since their deadlines are 300 ms later: they are no loss of the path either.
// A fall amid an outage drops φ and changes none of that.
func TestOutageTeachesNothing(t *testing.T) {
	const (
		pace     = 50 * time.Millisecond
		deadline = 300 * time.Millisecond
	)
	for _, falls := range []bool{false, true} {
		s, start := &Suspicion{}, time.Unix(1000, 0)
		var first float64
		for cycle := range 6 {
			most, dead, began := 0.0, false, start.Add(time.Duration(cycle)*2*time.Second)
			for ago := time.Duration(0); ago < 2*time.Second; ago += pace {
				now := began.Add(ago)
				if sent := now.Add(-deadline); ago >= deadline && sent.Before(began.Add(time.Second)) {
					s.Missed(sent, now, SignSilent)
					most = max(most, s.Phi())
				}
				if falls && !dead && most > 4 {
					dead = true
					s.Forget()
				}
				if ago >= time.Second {
					s.Answered(now, now)
				}
			}
			if cycle == 0 {
				first = most
			} else if most < first-0.5 {
				t.Errorf("falls %v: outage %d made φ %.1f at most, the first %.1f", falls, cycle, most, first)
			}
		}
		if lost, again := s.Loss(); lost > 0.02 || again > 0.02 {
			t.Errorf("falls %v: the path is said to lose %.2f, and %.2f in a row, want what is supposed of any", falls, lost, again)
		}
	}
}

// TestShortDeathTeachesNothing (S10): who answers again in the very moment in which its fall
// is agreed has taught nothing, though the row of misses was short enough for a burst.
func TestShortDeathTeachesNothing(t *testing.T) {
	s, now := &Suspicion{}, time.Unix(1000, 0)
	for range 6 {
		for range 10 {
			now = now.Add(25 * time.Millisecond)
			s.Missed(now, now, SignWrong)
		}
		for range 2 {
			now = now.Add(25 * time.Millisecond)
			s.Answered(now, now)
		}
		s.Died(now)
		if got := s.Needed(20, SignWrong); got != 10 {
			t.Fatalf("the next fall needs %d misses, the first 10", got)
		}
	}
	s.Missed(now, now, SignSilent)
	s.Answered(now, now.Add(time.Millisecond))
	now = now.Add(time.Minute)
	s.Answered(now, now)
	lost, _ := s.Loss()
	if s.Died(now); lost == 0 {
		t.Error("a lone miss taught nothing")
	}
	if after, _ := s.Loss(); after != lost {
		t.Errorf("a fall took back what was learnt a minute ago: loss %.3f, was %.3f", after, lost)
	}
}
