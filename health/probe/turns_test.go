package probe

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/divertdns/divert/health"
)

// TestTurns: the deep probes of five directors are spread over an interval, so that a hang
// is met by one of them soon; each keeps its own rhythm, ± 20 %. A director whose clock is
// set, and one whose target has been in doubt, is back in its place within two intervals.
func TestTurns(t *testing.T) {
	const directors, interval = 5, time.Second
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	subject := health.Subject{Kind: health.KindCheck, Def: "0123456789abcdef", Addr: netip.MustParseAddrPort("192.0.2.1:443")}
	starts := func(turn int, skew time.Duration) []time.Time {
		s := newSchedule()
		target := Target{Subject: subject, Interval: interval, TCP: &TCP{Addr: subject.Addr}, Turn: turn, Turns: directors}
		added, _ := s.set([]Target{target}, func(Target) *request { return &request{addr: subject.Addr} }, start)
		e := added[0]
		var out []time.Time
		for now := start; now.Sub(start) < 200*interval; now = now.Add(10 * time.Millisecond) {
			if now.Sub(start) == 100*interval {
				s.press(e, now)
			}
			clock := now
			if now.Sub(start) > 50*interval {
				clock = now.Add(skew)
			}
			s.settle(clock)
			for s.next(clock) != nil {
				out = append(out, now)
				s.ended(e, clock)
			}
		}
		return out
	}
	calm := func(at time.Time) bool {
		d := at.Sub(start) / interval
		return d > 2 && d < 50 || d > 53 && d < 99 || d > 110
	}
	var all []time.Time
	for turn := range directors {
		skew := time.Duration(0)
		if turn == 2 {
			skew = interval / 50
		}
		own := starts(turn, skew)
		for i := 1; i < len(own); i++ {
			if gap := own[i].Sub(own[i-1]); calm(own[i]) && calm(own[i-1]) && (gap < interval*75/100 || gap > interval*125/100) {
				t.Errorf("director %d starts %v after it did before, at %v", turn, gap, own[i].Sub(start))
			}
		}
		all = append(all, own...)
	}
	slices.SortFunc(all, time.Time.Compare)
	longest := time.Duration(0)
	for i := 1; i < len(all); i++ {
		if calm(all[i]) && calm(all[i-1]) {
			longest = max(longest, all[i].Sub(all[i-1]))
		}
	}
	if longest > interval*45/100 {
		t.Errorf("nobody asks for %v of an interval of %v", longest, interval)
	}
}

// TestTurnsSpreadTargets: one director's targets do not take their turns at the same time.
func TestTurnsSpreadTargets(t *testing.T) {
	places := map[uint64]bool{}
	for i := range 100 {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 443)
		places[seedOf(health.Subject{Kind: health.KindCheck, Def: "0123456789abcdef", Addr: addr})%1000/100] = true
	}
	if len(places) < 8 {
		t.Errorf("100 targets start in %d tenths of an interval", len(places))
	}
}

// TestTurnsKeepTheLimitOfAHost: one flapping check among many at one address changes all
// their intervals, time and again; the address is asked no more often than the limit says.
func TestTurnsKeepTheLimitOfAHost(t *testing.T) {
	const targets, seconds = 2 * hostLimit, 60
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	addr := netip.MustParseAddrPort("192.0.2.1:443")
	var list []Target
	for i := range targets {
		subject := health.Subject{Kind: health.KindCheck, Def: fmt.Sprintf("%016x", i), Addr: addr}
		list = append(list, Target{Subject: subject, Interval: time.Second, TCP: &TCP{Addr: addr}, Turn: 1, Turns: 5})
	}
	s := newSchedule()
	added, _ := s.set(list, func(Target) *request { return &request{addr: addr} }, start)
	starts := 0
	for now := start; now.Sub(start) < seconds*time.Second; now = now.Add(10 * time.Millisecond) {
		if now.Sub(start)%(4*time.Second) == 0 {
			s.press(added[0], now) // for three seconds
		}
		s.settle(now)
		for e := s.next(now); e != nil; e = s.next(now) {
			if now.Sub(start) >= 10*time.Second {
				starts++
			}
			s.ended(e, now)
		}
	}
	if most := hostLimit * (seconds - 10) * 11 / 10; starts > most {
		t.Errorf("%d starts, more than %d", starts, most)
	}
}
