package director

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/divertdns/divert/health"
)

// TestReportWakesTheLoop: what failed is decided upon at once, what passed at
// the next tick at the latest.
func TestReportWakesTheLoop(t *testing.T) {
	subject := health.Subject{Kind: health.KindSignal, Addr: netip.MustParseAddrPort("192.0.2.1:8080")}
	tests := []struct {
		name   string
		report health.Report
		times  int
		left   int // in the queue while no time passes
	}{
		{"passed", health.Report{Subject: subject, OK: true}, 1, 1},
		{"void", health.Report{Subject: subject, Void: true}, 1, 1},
		{"failed", health.Report{Subject: subject, Reason: "connection refused"}, 1, 0},
		{"more than half of the queue", health.Report{Subject: subject, OK: true}, 33, 0},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, m *mesh) {
				n := m.nodes[0]
				time.Sleep(loopTick / 2) // between two ticks
				synctest.Wait()
				d := &Director{loop: n.loop, loads: &loads{}}
				for range tc.times {
					d.report(tc.report)
				}
				synctest.Wait()
				if got := len(n.reports); got != tc.left {
					t.Errorf("reports left without a tick: got %d, want %d", got, tc.left)
				}
				time.Sleep(loopTick)
				synctest.Wait()
				if got := len(n.reports); got != 0 {
					t.Errorf("reports left after a tick: got %d, want none", got)
				}
			})
		})
	}
}
