package director

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/divertdns/divert/dnsserver/geo"
	"github.com/divertdns/divert/health"
	"github.com/divertdns/divert/health/probe"
)

// testPace is what a prober with nothing to stretch it does.
func testPace(s health.Subject) (probe.Pace, bool) {
	if s.Kind == health.KindSignal {
		return probe.Pace{Interval: 100 * time.Millisecond, Doubt: 50 * time.Millisecond, Late: 30 * time.Millisecond, Missed: 300 * time.Millisecond}, true
	}
	return probe.Pace{Interval: time.Second, Doubt: 250 * time.Millisecond, Late: 150 * time.Millisecond, Missed: time.Second}, true
}

// TestL1BoundIsShown: by metric and status, for each endpoint; with one of three
// directors away it grows, and with two away there is none.
func TestL1BoundIsShown(t *testing.T) {
	table := geo.Default() // parsed out of the bubble
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, table)
		shown := func() (death float64, series int, status float64) {
			n := m.nodes[0]
			_ = n.inspect(m.ctx, func(now time.Time) {
				f := n.horizon.current()
				svc := f.spec.Services[0]
				if d := n.service(f, &n.decision.Services[0], now).Sites[0].Detection; d != nil {
					status = d.Death
				}
				death = testutil.ToFloat64(n.shown.bounds.WithLabelValues(svc.Name, svc.Endpoints[0].Cluster, faultDeath))
				series = testutil.CollectAndCount(n.shown.bounds)
			})
			return death, series, status
		}
		time.Sleep(4 * time.Second)
		death, series, status := shown()
		if want := (120 + 30 + 9*60 + 300 + 90) * 0.001; death < want-0.001 || death > want+0.001 || status != death || series < 2 {
			t.Errorf("bound of a death = %g s, status %g s, in %d series, want %g s", death, status, series, want)
		}
		m.nodes[2].cut.Store(true)
		time.Sleep(2 * time.Second)
		if again, _, _ := shown(); again <= death {
			t.Errorf("with one director away the bound is %g s, before %g s", again, death)
		}
		m.nodes[1].cut.Store(true)
		time.Sleep(2 * time.Second)
		if _, _, status := shown(); status != 0 {
			t.Errorf("with two directors away the bound is %g s", status)
		}
	})
}

// BenchmarkBounds is what showing the bounds adds to a heartbeat of 1,000 services
// with three endpoints each.
func BenchmarkBounds(b *testing.B) {
	n := newBench(b, 1000)
	set := n.horizon.current().spec
	for b.Loop() {
		n.showBounds(set, n.clock)
	}
}
