//go:build unix

package director

import (
	"context"
	"fmt"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/divertdns/divert/director/store"
)

// cpu is what this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkHistory is what a history costs: the loop, for each transition and for a new
// segment, which is all that it ever waits for; the writer; and the disk.
func BenchmarkHistory(b *testing.B) {
	for _, services := range []int{100, 5000} { // 600 and 30,000 subjects
		b.Run(fmt.Sprintf("subjects=%d", services*6), func(b *testing.B) {
			n := newBench(b, services)
			h := &history{
				options: store.JournalOptions{Dir: b.TempDir(), For: 7 * 24 * time.Hour, Size: 64 << 20},
				name:    n.name, version: "v1", loop: n.loop, log: slog.New(slog.DiscardHandler), now: func() time.Time { return n.clock },
				doubt: func(context.Context) string { return "" }, wanted: newWake(), turn: make(chan struct{}, 1),
			}
			h.shown = newHistoryMetrics(prometheus.NewRegistry(), h)
			// write has the writer work while the loop answers it, and gives how long that took
			// the loop.
			write := func() (stall time.Duration) {
				done := make(chan struct{})
				go func() { defer close(done); h.write(b.Context(), true) }()
				for {
					select {
					case q := <-n.queries:
						start := time.Now()
						q(n.clock)
						stall = max(stall, time.Since(start))
					case <-done:
						if why := h.alert(); why != "" {
							b.Fatal(why)
						}
						return stall
					}
				}
			}
			n.history = h
			start := cpu(b)
			begun := write()
			segment := cpu(b) - start
			first := h.journal.Load().Span().Octets
			var wrote time.Duration
			flips := 0
			for b.Loop() {
				n.flip(b, n.subjects[flips/2*7%len(n.subjects)])
				flips++
				start := cpu(b)
				write()
				wrote += cpu(b) - start
			}
			octets := float64(h.journal.Load().Span().Octets-first) / float64(flips)
			for range 10 { // the least: others use this machine, too
				_ = h.journal.Load().Close()
				begun = min(begun, write())
			}
			b.ReportMetric(float64(begun.Microseconds()), "loop-µs/segment")
			b.ReportMetric(float64(segment.Microseconds()), "cpu-µs/segment")
			b.ReportMetric(float64(first), "octets/segment")
			b.ReportMetric(octets, "octets/transition")
			b.ReportMetric(float64(wrote.Microseconds())/float64(flips), "cpu-µs/transition")
		})
	}
}
