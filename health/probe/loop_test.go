package probe

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/divertdns/divert/health"
)

func address(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 443)
}

func fast(i int) Target {
	return Target{Subject: health.Subject{Kind: health.KindSignal, Addr: address(i)}, Fast: true}
}

func deep(i int, interval time.Duration) Target {
	return Target{
		Subject: health.Subject{Kind: health.KindCheck, Addr: address(i), Def: fmt.Sprintf("%016x", i)}, Interval: interval,
		HTTP: &HTTP{Scheme: "http", Addr: address(i), Host: "shop.example.org"},
	}
}

// world is a scheduler on virtual time, whose targets answer as told.
type world struct {
	*Scheduler
	t *testing.T

	mu      sync.Mutex
	answer  func(ctx context.Context, r *request) outcome
	starts  map[netip.AddrPort]map[kind][]time.Time
	current map[*request]int
	most    int // deep probes of one target that may be out at once
	reports []health.Report
	onRep   func(health.Report)
	stalls  int
	addrs   []netip.Addr // of every hostname
}

// run gives the test a running scheduler inside a bubble, and checks at the
// end that nothing outlives Run.
func run(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, starts: map[netip.AddrPort]map[kind][]time.Time{}, current: map[*request]int{}, most: 1}
		w.answer = func(context.Context, *request) outcome { return outcome{ok: true} }
		w.Scheduler = New(Options{Report: w.report, Lookup: w.known, Stalled: func(time.Time, time.Duration) { w.stalls++ }, Registerer: prometheus.NewPedanticRegistry()})
		w.sockets, w.ask = false, w.asked
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- w.Run(ctx) }()
		test(w)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
	})
}

func (w *world) asked(ctx context.Context, r *request) outcome {
	w.mu.Lock()
	if w.starts[r.addr] == nil {
		w.starts[r.addr] = map[kind][]time.Time{}
	}
	w.starts[r.addr][r.kind] = append(w.starts[r.addr][r.kind], time.Now())
	if w.current[r]++; r.kind != kindFast && w.current[r] > w.most {
		w.t.Errorf("%d probes of %s %s at once", w.current[r], r.kind, r.addr)
	}
	answer := w.answer
	w.mu.Unlock()
	o := answer(ctx, r)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.current[r]--
	return o
}

func (w *world) report(r health.Report) {
	w.mu.Lock()
	w.reports = append(w.reports, r)
	hook := w.onRep
	w.mu.Unlock()
	if hook != nil {
		hook(r)
	}
}

func (w *world) known(string) []netip.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.addrs
}

func (w *world) set(answer func(ctx context.Context, r *request) outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = answer
}

// allow says how many deep probes of one target may be out at once.
func (w *world) allow(most int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.most = most
}

// since gives the times at which a probe started at or after a moment.
func (w *world) since(addr netip.AddrPort, k kind, from time.Time) (out []time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, at := range w.starts[addr][k] {
		if !at.Before(from) {
			out = append(out, at)
		}
	}
	return out
}

func gaps(times []time.Time) (shortest, longest time.Duration) {
	for i := 1; i < len(times); i++ {
		gap := times[i].Sub(times[i-1])
		if i == 1 {
			shortest = gap
		}
		shortest, longest = min(shortest, gap), max(longest, gap)
	}
	return shortest, longest
}

func hang(ctx context.Context, _ *request) outcome {
	<-ctx.Done()
	return outcome{reason: "timeout", timeout: true}
}

func TestRhythm(t *testing.T) {
	run(t, func(w *world) {
		began := time.Now()
		var targets []Target
		for i := range 50 {
			targets = append(targets, deep(i, time.Second))
		}
		w.Set(targets)
		time.Sleep(200 * time.Second)
		firsts := map[time.Time]bool{}
		for i := range 50 {
			times := w.since(address(i), kindHTTP, began)
			if n := len(times); n < 185 || n > 215 {
				t.Errorf("probes of %d in 200 s: got %d, want about 200", i, n)
			}
			if first := times[0].Sub(began); first > time.Second {
				t.Errorf("first delay: got %v, want at most the interval", first)
			}
			firsts[times[0]] = true
			shortest, longest := gaps(times)
			if shortest < 800*time.Millisecond-maxSlack || longest > 1200*time.Millisecond+maxSlack {
				t.Errorf("gaps: got %v to %v, want 1 s ± 20 %%", shortest, longest)
			}
		}
		if len(firsts) < 15 {
			t.Errorf("first delays: got %d different ones of 50, want them spread", len(firsts))
		}
	})
}

// TestHangDelaysNoOther: a target that is known to hang is probed one at a time, never
// longer than its interval, and the others do not notice (F3).
func TestHangDelaysNoOther(t *testing.T) {
	run(t, func(w *world) {
		w.set(func(ctx context.Context, r *request) outcome {
			if r.addr == address(1) {
				return hang(ctx, r)
			}
			return outcome{ok: true, latency: time.Millisecond}
		})
		patient := deep(1, time.Second)
		patient.Timeout = time.Minute // more than the interval allows
		w.allow(atOnce)
		w.Set([]Target{patient, fast(1), fast(2), deep(2, time.Second)})
		time.Sleep(10 * time.Second)
		w.allow(1) // doubt is over
		from := time.Now()
		time.Sleep(60 * time.Second)
		if _, longest := gaps(w.since(address(2), kindFast, from)); longest > 120*time.Millisecond+maxSlack {
			t.Errorf("gap of the other's fast signals: got %v, want at most 120 ms", longest)
		}
		if n := len(w.since(address(1), kindHTTP, from)); n < 50 {
			t.Errorf("deep probes of the hung target in 60 s: got %d, want about one a second", n)
		}
		if n := len(w.since(address(1), kindFast, from)); n < 570 || n > 630 {
			t.Errorf("fast signals to the silent address in 60 s: got %d, want about 600: none waits for the one before", n)
		}
	})
}

// TestBurst: the first failure, or a peer's doubt, halves the fast interval at
// that address and brings its deep probes forward; it ends by itself.
func TestBurst(t *testing.T) {
	for _, own := range []bool{true, false} {
		t.Run(fmt.Sprintf("own failure %t", own), func(t *testing.T) {
			run(t, func(w *world) {
				w.Set([]Target{fast(1), deep(1, time.Minute), fast(2)})
				time.Sleep(90 * time.Second)
				from := time.Now()
				if own {
					w.set(func(_ context.Context, r *request) outcome {
						return outcome{ok: r.addr != address(1), reason: "connection refused"}
					})
				} else {
					w.Doubt(health.Subject{Kind: health.KindSignal, Addr: address(1)})
					synctest.Wait()
					if n := len(w.since(address(1), kindFast, from)); n != 1 {
						t.Errorf("fast signals at a peer's doubt: got %d, want one at once", n)
					}
				}
				time.Sleep(time.Second)
				if n := len(w.since(address(1), kindHTTP, from)); n == 0 || n > 2 {
					t.Errorf("deep probes within a second: got %d, want one at once, and at most one to confirm", n)
				}
				if n := len(w.since(address(1), kindFast, from)); n < 16 || n > 24 {
					t.Errorf("fast signals in the second: got %d, want about 20", n)
				}
				if n := len(w.since(address(2), kindFast, from)); n > 13 {
					t.Errorf("fast signals of the other: got %d, want about 10", n)
				}
				over := doubtFor
				if own {
					over = longestDoubt // a probe a minute takes long to be sure of
				}
				time.Sleep(over)
				from = time.Now()
				time.Sleep(time.Second)
				if n := len(w.since(address(1), kindFast, from)); n > 13 {
					t.Errorf("fast signals after the doubt: got %d, want about 10", n)
				}
			})
		})
	}
}

// TestConfirm: the first failure of a deep probe is followed at once by another, and by
// one each eighth of the interval until doubt ends.
func TestConfirm(t *testing.T) {
	run(t, func(w *world) {
		w.Set([]Target{deep(1, 8*time.Second)})
		time.Sleep(15 * time.Second)
		from := time.Now()
		w.set(func(context.Context, *request) outcome { return outcome{reason: "status 503"} })
		time.Sleep(50 * time.Second)
		times := w.since(address(1), kindHTTP, from)
		if len(times) < 12 || times[1].Sub(times[0]) > tick || times[2].Sub(times[1]) > 1250*time.Millisecond {
			t.Fatalf("got probes at %v, want the second at once and the third after an eighth of the interval", times)
		}
		if last := times[len(times)-2:]; last[1].Sub(last[0]) < 6*time.Second {
			t.Errorf("got probes at %v, want the last after an interval each", times)
		}
	})
}

// TestConfirmInDoubt: the same where doubt about the address is older.
func TestConfirmInDoubt(t *testing.T) {
	run(t, func(w *world) {
		w.Set([]Target{deep(1, 4*time.Second)})
		for range 10 {
			time.Sleep(time.Second)
			w.Doubt(deep(1, 0).Subject)
		}
		from := time.Now()
		w.set(func(context.Context, *request) outcome { return outcome{reason: "status 503"} })
		time.Sleep(2500 * time.Millisecond)
		if times := w.since(address(1), kindHTTP, from); len(times) < 2 || times[1].Sub(times[0]) > tick {
			t.Errorf("got probes at %v, want the second at once", times)
		}
	})
}

// TestFastLimit: no more than 500 fast signals a second leave a director, in
// doubt neither; what that does to the interval is told.
func TestFastLimit(t *testing.T) {
	run(t, func(w *world) {
		var targets []Target
		for i := range 100 {
			targets = append(targets, fast(i))
		}
		w.Set(targets)
		count := func() (n int) {
			from := time.Now()
			time.Sleep(10 * time.Second)
			for i := range 100 {
				n += len(w.since(address(i), kindFast, from))
			}
			return n
		}
		time.Sleep(time.Second)
		if got := count(); got > 5100 || got < 4700 {
			t.Errorf("fast signals in 10 s: got %d, want about 5,000", got)
		}
		if got := w.Stretch(); got != 2 {
			t.Errorf("stretch: got %v, want 2", got)
		}
		if got := testutil.ToFloat64(w.metrics.interval); got != 0.2 {
			t.Errorf("exported interval: got %v, want 0.2", got)
		}
		w.set(func(context.Context, *request) outcome { return outcome{reason: "connection refused"} })
		if got := count(); got > 5600 {
			t.Errorf("fast signals in 10 s with all in doubt: got %d, want about 5,000", got)
		}
		w.Set(targets[:10])
		time.Sleep(3 * time.Second)
		if got := w.Stretch(); got != 1 {
			t.Errorf("stretch with ten targets: got %v, want 1", got)
		}
	})
}

// TestStallF12: what was in flight while the scheduler did not run is void.
func TestStallF12(t *testing.T) {
	run(t, func(w *world) {
		once := true
		w.onRep = func(r health.Report) {
			if r.Subject.Kind == health.KindSignal && once && len(w.reports) > 200 {
				once = false
				time.Sleep(400 * time.Millisecond)
			}
		}
		w.set(func(ctx context.Context, r *request) outcome {
			if r.kind == kindHTTP {
				time.Sleep(200 * time.Millisecond)
			}
			return outcome{ok: true, latency: 200 * time.Millisecond}
		})
		w.allow(atOnce) // until it is known that they are slow
		targets := []Target{fast(1)}
		for i := range 8 { // two thirds of the time each is in flight
			targets = append(targets, deep(2+i, 300*time.Millisecond))
		}
		w.Set(targets)
		time.Sleep(30 * time.Second)
		w.mu.Lock()
		defer w.mu.Unlock()
		void := 0
		for _, r := range w.reports {
			if r.Void {
				void++
				if r.OK || r.Reason == "" {
					t.Errorf("void report: got %+v, want no outcome and a reason", r)
				}
			}
		}
		if w.stalls != 1 || void == 0 || void > 8*atOnce {
			t.Errorf("got %d stalls and %d void reports, want one, and those that were in flight", w.stalls, void)
		}
	})
}

func TestSet(t *testing.T) {
	run(t, func(w *world) {
		w.Set([]Target{fast(1), deep(1, time.Minute), deep(1, time.Second), deep(2, time.Second)})
		time.Sleep(10 * time.Second)
		if n := len(w.since(address(1), kindHTTP, time.Time{})); n < 8 {
			t.Errorf("probes of the target that is wanted twice: got %d in 10 s, want the shorter interval", n)
		}
		from := time.Now()
		w.allow(atOnce)
		w.set(hang)
		time.Sleep(1500 * time.Millisecond)
		w.Set([]Target{deep(1, time.Second)}) // fast(1) and deep(2) go, in flight or not
		synctest.Wait()
		w.mu.Lock()
		reported := len(w.reports)
		w.mu.Unlock()
		for range 100 {
			w.Set([]Target{deep(1, time.Second)})
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(w.since(address(1), kindHTTP, from)); n < 8 {
			t.Errorf("probes of the target that stays: got %d in 11.5 s, want its rhythm kept, at the shorter interval", n)
		}
		w.mu.Lock()
		for _, r := range w.reports[reported:] {
			if r.Subject != deep(1, 0).Subject {
				t.Errorf("report of a target no longer wanted: %v", r.Subject)
			}
		}
		w.mu.Unlock()
		from = time.Now()
		w.Set(nil)
		time.Sleep(10 * time.Second)
		if n := len(w.since(address(1), kindHTTP, from)); n != 0 {
			t.Errorf("probes with nothing wanted: got %d, want 0", n)
		}
	})
}

// TestRefused: what must not be dialled is never sent, and void (C12). The log says which
// probe it is, as people know it.
func TestRefused(t *testing.T) {
	run(t, func(w *world) {
		var log strings.Builder
		w.log = slog.New(slog.NewTextHandler(&log, nil))
		metadata := deep(1, time.Second)
		metadata.Name = "http :80/"
		metadata.HTTP.Addr = netip.MustParseAddrPort("169.254.169.254:80")
		smuggler := deep(2, time.Second)
		smuggler.HTTP.Path = "/\r\nX: y"
		w.Set([]Target{metadata, smuggler})
		time.Sleep(5 * time.Second)
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.starts) != 0 {
			t.Errorf("sent: got %v, want nothing", w.starts)
		}
		if len(w.reports) == 0 {
			t.Error("got no report, want void ones")
		}
		for _, r := range w.reports {
			if !r.Void || !strings.Contains(r.Reason, "link-local") && !strings.Contains(r.Reason, "metadata") && !strings.Contains(r.Reason, "path") {
				t.Errorf("got %+v, want it void and why", r)
			}
		}
		if got := testutil.ToFloat64(w.metrics.refused); got != 2 {
			t.Errorf("refused targets: got %v, want 2", got)
		}
		if want := `probe="http :80/" address=` + metadata.Subject.Addr.Addr().String() + " "; !strings.Contains(log.String(), want) {
			t.Errorf("got %s, want %s in it", &log, want)
		}
	})
}

func TestNow(t *testing.T) {
	run(t, func(w *world) {
		w.set(hang)
		ctx, cancel := context.WithTimeout(w.t.Context(), 100*time.Millisecond)
		defer cancel()
		if r := w.Now(ctx, deep(1, time.Second)); !r.Void {
			t.Errorf("called off: got %+v, want void", r)
		}
		start := time.Now()
		if r := w.Now(w.t.Context(), deep(1, time.Second)); r.Void || r.OK || time.Since(start) != time.Second {
			t.Errorf("hung: got %+v after %v, want a failure after 1 s", r, time.Since(start))
		}
	})
}

func TestMetricsLint(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	New(Options{Registerer: registry})
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("got %v, %v, want no problems", problems, err)
	}
}
