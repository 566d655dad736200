package health

import (
	"testing"
	"time"
)

// busy gives a director of five with 600 subjects, all votes held and in
// agreement, as it is nearly always.
func busy(tb testing.TB) (*Observer, *Book, *Publisher, []Subject) {
	tb.Helper()
	o, b := NewObserver(epoch), NewBook("d1", rosterOf(5), 0)
	var watched []Watched
	var subjects []Subject
	for i := range 300 {
		sig := Subject{Kind: KindSignal, Addr: at4(i, 443)}
		chk := Subject{Kind: KindCheck, Addr: sig.Addr, Def: check(1).Def}
		watched = append(watched, Watched{Subject: sig}, Watched{Subject: chk, Signal: sig})
		subjects = append(subjects, sig, chk)
	}
	o.Set(watched)
	b.SetSubjects(subjects, epoch)
	p := NewPublisher("d1", 1, []string{"d2", "d3", "d4", "d5"})
	for _, s := range subjects {
		o.Report(Report{Subject: s, OK: true, At: epoch})
	}
	votes := o.Votes(b, epoch)
	p.Cast(votes, epoch)
	seq := uint64(0)
	for _, out := range p.Due(epoch) {
		seq++
		for _, d := range b.roster {
			_, _ = b.Ballot(signPayload(d.Name, 1, seq, out.Payload), epoch)
		}
	}
	for _, d := range b.roster[1:] {
		h := Heartbeat{Director: d.Name, Boot: 1, Seq: seq + 1, Votes: p.Digest(), Heard: []Heard{{"d1", 1, p.Digest()}}}
		_ = b.Heartbeat(h, epoch)
		p.Acknowledged(h, epoch)
	}
	return o, b, p, subjects
}

func idle(o *Observer, b *Book, p *Publisher, now time.Time) int {
	p.Cast(o.Votes(b, now), now)
	return len(b.Judge(now)) + len(p.Due(now)) + len(b.Pending()) + len(b.States()) + len(b.Differing(now))
}

func TestIdleTickAllocatesNothing(t *testing.T) {
	o, b, p, _ := busy(t)
	b.States()
	if got := testing.AllocsPerRun(100, func() { idle(o, b, p, at(500*ms)) }); got != 0 {
		t.Errorf("an idle tick allocates %v times", got)
	}
}

// BenchmarkIdleTick is what a director's loop pays when nothing has changed.
func BenchmarkIdleTick(b *testing.B) {
	o, book, p, _ := busy(b)
	b.ReportAllocs()
	for b.Loop() {
		idle(o, book, p, at(500*ms))
	}
}

// BenchmarkSecond is a quiet second: 3,300 reports, 50 ticks, 16 heartbeats.
func BenchmarkSecond(b *testing.B) {
	o, book, p, subjects := busy(b)
	now, seq := epoch, uint64(1000)
	b.ReportAllocs()
	for b.Loop() {
		for tick := range 50 {
			now = now.Add(20 * ms)
			for i, s := range subjects {
				if (s.Kind == KindSignal && (tick+i/2)%5 == 0) || (s.Kind == KindCheck && (tick+i/2)%50 == 0) {
					o.Report(Report{Subject: s, OK: true, At: now})
				}
			}
			if tick%13 == 0 {
				seq++
				for _, d := range book.roster[1:] {
					h := Heartbeat{Director: d.Name, Boot: 1, Seq: seq, Votes: p.Digest(), Heard: []Heard{{"d1", 1, p.Digest()}}}
					_ = book.Heartbeat(h, now)
					p.Acknowledged(h, now)
				}
			}
			if idle(o, book, p, now) != len(subjects) {
				b.Fatal("something moved")
			}
		}
	}
}

// BenchmarkMassFailure is 600 subjects falling at once: votes, ballots, proofs.
func BenchmarkMassFailure(b *testing.B) {
	for b.Loop() {
		_, book, _, subjects := busy(b)
		var votes []Vote
		for _, s := range subjects {
			votes = append(votes, Vote{Subject: s, N: 1, To: Down})
		}
		for i, out := range pack(nil, "", votes) {
			for _, d := range book.roster {
				_, _ = book.Ballot(signPayload(d.Name, 1, uint64(5000+i), out.Payload), at(ms))
			}
		}
		if got := len(book.Judge(at(ms))); got != 300 && got != 600 {
			b.Fatalf("%d certificates", got)
		}
	}
}
