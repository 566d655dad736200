package probe

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/divertdns/divert/health"
)

// BenchmarkSchedule is what it costs to find out that one of 30,000 deep probes is due,
// and to give it its next time.
func BenchmarkSchedule(b *testing.B) {
	now := time.Now()
	s := newSchedule()
	var targets []Target
	for i := range 30_000 {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(2 + i%300/100), byte(1 + i%100)}), 80)
		targets = append(targets, Target{
			Subject: health.Subject{Kind: health.KindCheck, Addr: addr, Def: fmt.Sprintf("%016x", i/300)}, Interval: 10 * time.Second,
			TCP: &TCP{Addr: addr},
		})
	}
	s.set(targets, New(Options{}).prepare, now)
	s.settle(now)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; now = now.Add(maxSlack) {
		for e := s.next(now); e != nil && n < b.N; e = s.next(now) {
			n++
		}
		s.wait(now)
	}
}

// TestWheel holds it against a plain list: what is due comes out, nothing else does, and
// nobody sleeps beyond the first.
func TestWheel(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		now := time.Now()
		w, in := &wheel{}, map[*entry]bool{}
		slack := func(e *entry) time.Duration { return min(maxSlack, e.Interval/5) }
		push := func(e *entry) {
			e.due = now.Add(time.Duration(r.Int64N(int64(2*e.Interval))) - time.Second/10)
			w.push(e)
			in[e] = true
		}
		for range 200 {
			push(&entry{Target: &Target{Interval: []time.Duration{50 * time.Millisecond, time.Second, 45 * time.Second}[r.IntN(3)]}})
		}
		for step := range 3000 {
			earliest := time.Duration(time.Hour)
			for e := range in {
				earliest = min(earliest, max(e.due.Sub(now), 0))
			}
			wait := w.wait(now)
			if wait > earliest || wait < earliest && wait < time.Second {
				t.Fatalf("seed %d, step %d: wait %v, the first is due in %v", seed, step, wait, earliest)
			}
			switch {
			case r.IntN(500) == 0:
				now = now.Add(time.Minute) // a stall of several turns
			case r.IntN(3) == 0:
				now = now.Add(wait)
			default:
				now = now.Add(min(wait, time.Duration(r.Int64N(int64(30*time.Millisecond)))))
			}
			for e := w.first(now, slack); e != nil; e = w.first(now, slack) {
				if e.due.Sub(now) > slack(e) || !in[e] {
					t.Fatalf("seed %d, step %d: got one due in %v", seed, step, e.due.Sub(now))
				}
				w.remove(e)
				delete(in, e)
				if r.IntN(10) > 0 {
					e.due = now
					push(e)
					if e.due.Before(now) {
						w.remove(e)
						delete(in, e)
					}
				}
			}
			for e := range in {
				if !e.due.After(now) {
					t.Fatalf("seed %d, step %d: one due since %v stays", seed, step, now.Sub(e.due))
				}
			}
			if len(in) < 100 {
				push(&entry{Target: &Target{Interval: time.Second}})
			}
			if w.count != len(in) {
				t.Fatalf("seed %d, step %d: got %d entries, want %d", seed, step, w.count, len(in))
			}
		}
	}
}
