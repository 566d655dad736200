package probe

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/divertdns/divert/health"
)

// of gives the reports about a kind of subject so far.
func (w *world) of(kind health.Kind) (out []health.Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.reports {
		if r.Subject.Kind == kind {
			out = append(out, r)
		}
	}
	return out
}

func (w *world) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reports = nil
}

// within answers each signal after so long, as the path is at that moment.
func within(latency func() time.Duration) func(context.Context, *request) outcome {
	return func(ctx context.Context, _ *request) outcome {
		d := latency()
		select {
		case <-ctx.Done():
			return outcome{reason: "timeout connecting", timeout: true}
		case <-time.After(d):
			return outcome{ok: true, latency: d}
		}
	}
}

// TestSilenceF1: of an address that falls silent every signal is a miss, each 300 ms
// after it left, and they leave at half the interval as soon as one is late: five
// observers with six misses each are done in well under a second.
func TestSilenceF1(t *testing.T) {
	run(t, func(w *world) {
		w.set(within(func() time.Duration { return time.Millisecond }))
		w.Set([]Target{fast(1)})
		time.Sleep(10 * time.Second)
		w.forget()
		from := time.Now()
		w.set(hang)
		time.Sleep(900 * time.Millisecond)
		var misses, late []health.Report
		for _, r := range w.of(health.KindSignal) {
			switch {
			case r.OK:
				t.Errorf("got %+v from a silent address", r)
			case r.Late:
				late = append(late, r)
			case r.Void:
				t.Errorf("got %+v, want no void", r)
			default:
				misses = append(misses, r)
			}
		}
		if len(late) != 1 || late[0].At.Sub(from) > 140*time.Millisecond+leastLate {
			t.Errorf("late: got %v, want one report, at most 30 ms after the first signal", late)
		}
		if len(misses) < 6 || misses[5].At.Sub(from) > 800*time.Millisecond {
			t.Fatalf("misses: got %v, want six within 800 ms", misses)
		}
		for _, r := range misses {
			if r.Sign != health.SignSilent || r.Reason == "" || r.Latency < leastPatience || r.Latency > leastPatience+5*time.Millisecond {
				t.Errorf("miss: got %+v, want a silence of 300 ms", r)
			}
		}
	})
}

// TestDelayF14: a delay that grows to 400 ms is two or three misses at most, before the
// late answers lengthen the patience; each late answer is reported as such.
func TestDelayF14(t *testing.T) {
	run(t, func(w *world) {
		delay := time.Millisecond
		w.set(within(func() time.Duration {
			w.mu.Lock()
			defer w.mu.Unlock()
			return delay
		}))
		w.Set([]Target{fast(1)})
		time.Sleep(10 * time.Second)
		w.forget()
		w.mu.Lock()
		delay = 400 * time.Millisecond
		w.mu.Unlock()
		time.Sleep(20 * time.Second)
		missed, late, row, worst := 0, 0, 0, 0
		for _, r := range w.of(health.KindSignal) {
			switch {
			case r.OK && r.Late:
				late, row = late+1, 0
			case r.OK:
				row = 0
			case !r.Late:
				if r.At.Add(-r.Latency).IsZero() {
					t.Errorf("miss %+v does not tell when it was sent", r)
				}
				missed, row = missed+1, row+1
				worst = max(worst, row)
			}
		}
		if missed == 0 || missed > 3 || worst > 3 || late != missed {
			t.Errorf("got %d misses, %d in a row, and %d late answers, want at most three, each answered late", missed, worst, late)
		}
		if p, ok := w.Pace(fast(1).Subject); !ok || p.Missed != 800*time.Millisecond {
			t.Errorf("patience: got %+v, %t, want 800 ms", p, ok)
		}
	})
}

// TestBurstOfLossF5: of what is lost in a burst of 200 ms nothing is a miss before an
// answer to a later signal has come, which voids it.
func TestBurstOfLossF5(t *testing.T) {
	run(t, func(w *world) {
		lost := false
		w.set(func(ctx context.Context, r *request) outcome {
			w.mu.Lock()
			gone := lost
			w.mu.Unlock()
			if gone {
				return hang(ctx, r)
			}
			return outcome{ok: true, latency: time.Millisecond}
		})
		w.Set([]Target{fast(1)})
		time.Sleep(10 * time.Second)
		set := func(l bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			lost = l
		}
		for range 50 {
			w.forget()
			set(true)
			time.Sleep(200 * time.Millisecond)
			set(false)
			time.Sleep(3 * time.Second)
			answered := time.Time{} // when the last answered signal had been sent
			for _, r := range w.of(health.KindSignal) {
				sent := r.At.Add(-r.Latency)
				switch {
				case r.OK:
					answered = sent
				case !r.Late && !sent.Before(answered):
					t.Errorf("miss of a signal sent at %v, and no later one answered by %v", sent, r.At)
				}
			}
		}
	})
}

// TestHangF3: a target that begins to hang is late after 150 ms, and then four probes of
// it are out at once, so that the second failure comes an eighth of a second after the
// first and not a timeout later.
func TestHangF3(t *testing.T) {
	run(t, func(w *world) {
		w.set(func(context.Context, *request) outcome { return outcome{ok: true, latency: 5 * time.Millisecond} })
		w.Set([]Target{fast(1), deep(1, time.Second)})
		time.Sleep(10 * time.Second)
		w.allow(atOnce)
		w.forget()
		w.set(func(ctx context.Context, r *request) outcome {
			if r.kind == kindFast {
				return outcome{ok: true, latency: time.Millisecond}
			}
			<-ctx.Done()
			return outcome{reason: "timeout waiting for the answer", sign: health.SignMute}
		})
		from := time.Now()
		time.Sleep(3 * time.Second)
		var first time.Time
		var failed []time.Time
		for _, r := range w.of(health.KindCheck) {
			if r.Late && first.IsZero() {
				first = r.At.Add(-r.Latency)
				if r.OK || r.Latency < leastLateProbe || r.Latency > leastLateProbe+5*time.Millisecond {
					t.Errorf("late: got %+v, want it after 150 ms", r)
				}
			} else if r.Late {
				t.Errorf("got %+v: late twice and no answer between", r)
			} else {
				failed = append(failed, r.At)
			}
		}
		if first.IsZero() || len(failed) < 3 || failed[1].Sub(first) > 1160*time.Millisecond || failed[2].Sub(first) > 1340*time.Millisecond {
			t.Errorf("first sent at %v, failures at %v, want the second 150 ms and the third some 300 ms after the first", first.Sub(from), failed)
		}
	})
}

// TestPeersDoubtF3: what a peer finds late is probed at once, whatever the interval, and
// twice; what it finds to fail, once: errors of one instant are no two.
func TestPeersDoubtF3(t *testing.T) {
	for want, doubt := range []func(*world, health.Subject){
		1: func(w *world, s health.Subject) { w.Doubt(s) },
		2: func(w *world, s health.Subject) { w.Awaited(s) },
	} {
		if doubt == nil {
			continue
		}
		run(t, func(w *world) {
			w.allow(2)
			w.Set([]Target{deep(1, 10*time.Second)})
			time.Sleep(35 * time.Second)
			from := time.Now()
			doubt(w, deep(1, 0).Subject)
			synctest.Wait()
			if n := len(w.since(address(1), kindHTTP, from)); n != want {
				t.Errorf("deep probes at a peer's doubt: got %d, want %d at once", n, want)
			}
		})
	}
}

// TestPriority: those in doubt go at their pace although the limit stretches the rest,
// which gets what they leave.
func TestPriority(t *testing.T) {
	run(t, func(w *world) {
		var targets []Target
		for i := range 200 {
			targets = append(targets, fast(i))
		}
		w.Set(targets)
		time.Sleep(5 * time.Second)
		w.set(func(_ context.Context, r *request) outcome {
			return outcome{ok: r.addr.Addr().As4()[3] >= 10, reason: "connection refused"}
		})
		time.Sleep(time.Second)
		from := time.Now()
		for range 20 {
			w.Doubt(fast(0).Subject, fast(1).Subject, fast(2).Subject, fast(3).Subject, fast(4).Subject)
			time.Sleep(time.Second)
		}
		doubted, rest := 0, 0
		for i := range 200 {
			n := len(w.since(address(i), kindFast, from))
			if i < 5 {
				doubted += n
			} else {
				rest += n
			}
		}
		if doubted < 1900 || doubted > 2100 {
			t.Errorf("signals of five in doubt in 20 s: got %d, want about 2,000", doubted)
		}
		if rest < 7500 || rest > 8300 {
			t.Errorf("signals of the rest in 20 s: got %d, want about 8,000", rest)
		}
		if p, _ := w.Pace(fast(1).Subject); p.Doubt != 50*time.Millisecond || p.Interval < 400*time.Millisecond {
			t.Errorf("pace: got %+v, want 50 ms in doubt and more than 400 ms else", p)
		}
	})
}

// TestManyDieAtOnce: of so many that doubt itself is stretched, it lasts until a director
// that is alone can be sure of each, and no longer.
func TestManyDieAtOnce(t *testing.T) {
	run(t, func(w *world) {
		const dead = 60
		var targets []Target
		for i := range 200 {
			targets = append(targets, fast(i))
		}
		w.Set(targets)
		time.Sleep(5 * time.Second)
		w.set(func(_ context.Context, r *request) outcome {
			return outcome{ok: r.addr.Addr().As4()[3] >= dead, reason: "connection refused"}
		})
		from := time.Now()
		time.Sleep(6 * time.Second)
		for i := range dead {
			if n := len(w.since(address(i), kindFast, from)); n < 28 {
				t.Errorf("signals to dead address %d in 6 s: got %d, want 28 at least", i, n)
			}
		}
		time.Sleep(5 * time.Second)
		if p, _ := w.Pace(fast(0).Subject); p.Interval > 500*time.Millisecond {
			t.Errorf("pace: got %+v, want doubt to be over", p)
		}
	})
}

// TestDeepLimits: a director sends at most 200 deep probes a second to one address, and
// none in a volley, whatever is in doubt and however long it stood still.
func TestDeepLimits(t *testing.T) {
	run(t, func(w *world) {
		var targets []Target
		for i := range 1000 {
			target := deep(1, time.Second)
			target.Subject.Def = fmt.Sprintf("%016x", i)
			targets = append(targets, target)
		}
		w.Set(targets)
		count := func(d time.Duration) int {
			from := time.Now()
			time.Sleep(d)
			return len(w.since(address(1), kindHTTP, from))
		}
		time.Sleep(10 * time.Second)
		if n := count(10 * time.Second); n < 1900 || n > 2100 {
			t.Errorf("deep probes of one address in 10 s: got %d, want about 2,000", n)
		}
		w.Doubt(targets[0].Subject)
		if n := count(100 * time.Millisecond); n > 100 {
			t.Errorf("deep probes in the first 100 ms of doubt: got %d, want some of them at once and no volley", n)
		}
		if n := count(5 * time.Second); n > 1200 {
			t.Errorf("deep probes of one address in doubt: got %d in 5 s, want about 1,000", n)
		}
		once := true
		w.mu.Lock()
		w.onRep = func(health.Report) {
			if once {
				once = false
				time.Sleep(20 * time.Second)
			}
		}
		w.mu.Unlock()
		from := time.Now()
		time.Sleep(30 * time.Second)
		times := w.since(address(1), kindHTTP, from.Add(15*time.Second))
		most := 0
		for i := range times {
			n := 0
			for _, at := range times[i:] {
				if at.Sub(times[i]) >= 100*time.Millisecond {
					break
				}
				n++
			}
			most = max(most, n)
		}
		if len(times) == 0 || most > 100 {
			t.Errorf("after a stall: got %d deep probes within 100 ms, want no volley", most)
		}
	})
}
