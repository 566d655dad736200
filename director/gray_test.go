package director

import (
	"slices"
	"testing"

	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
	"github.com/divertdns/divert/health/probe"
)

// TestGrayIsWatched: beside each signal the book knows whether new connections and a
// standing one disagree there, the observer waits for reports of it, the prober is not
// asked for a probe of it, and down it degrades a site and never fails it.
func TestGrayIsWatched(t *testing.T) {
	f := planOver(t, meshSpec)
	probes, watched := targets(f.spec, nil, "d1")
	known := subjects(f.spec)
	signals := 0
	for _, p := range probes {
		if p.Subject.Kind == health.KindSoft {
			t.Errorf("%s is to be probed", p.Subject)
		}
		if !p.Fast {
			continue
		}
		signals++
		gray := health.Gray(p.Subject.Addr)
		if !gray.Valid() || !slices.Contains(known, gray) {
			t.Errorf("%s is not known", gray)
		}
		if is := slices.ContainsFunc(watched, func(w health.Watched) bool { return w.Subject == gray }); is != probe.KeepsWarm {
			t.Errorf("%s watched: %t, want %t", gray, is, probe.KeepsWarm)
		}
	}
	if signals == 0 {
		t.Fatal("no signal in the plan")
	}
	svc := f.spec.Services[0]
	states := map[health.Subject]health.State{}
	for _, s := range known {
		states[s] = health.Up
	}
	end := &svc.Endpoints[0]
	for _, s := range steer.Subjects(svc, end.Watched()[0]) {
		states[health.Gray(s.Subject.Addr)] = health.Down
	}
	if got := steer.Rollup(svc, end, states, steer.IPv4).Health; got != steer.Degraded {
		t.Errorf("a gray failure makes it %v, want %v", got, steer.Degraded)
	}
}
