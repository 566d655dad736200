package director

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/divertdns/divert/health"
)

// TestUnwrittenStateAlerts: a disk that takes no state is an alert for as long as that is so.
func TestUnwrittenStateAlerts(t *testing.T) {
	d := onDisk(t, sound, 7)
	told := func() bool {
		return slices.ContainsFunc(d.status().Alerts, func(a string) bool { return strings.Contains(a, "state cannot be written") })
	}
	if told() {
		t.Error("an alert before anything failed")
	}
	if d.saver.wrote(errors.New("no space left on device")); !told() {
		t.Error("no alert of a write that failed")
	}
	if d.saver.wrote(nil); told() {
		t.Error("an alert after a write that did not fail")
	}
}

// TestStepsAreSaved: the age of a return is written within seconds of each of its steps,
// so that a crash does not have a director begin them anew, and take clients from a site
// to which the others have long sent them back.
func TestStepsAreSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l := &loop{queries: make(chan func(time.Time)), book: health.NewBook("d1", nil, 0)}
		s := &saver{loop: l, horizon: &horizon{}, wanted: newWake(), renamed: newWake(), stepped: newWake(), told: newWake(), log: slog.New(slog.DiscardHandler)}
		var saves atomic.Int32
		go func() {
			for {
				select {
				case ask := <-l.queries:
					saves.Add(1)
					ask(time.Now())
				case <-ctx.Done():
					return
				}
			}
		}()
		go func() { _ = s.run(ctx) }()
		s.wanted.up()
		time.Sleep(5 * time.Second)
		s.stepped.up()
		time.Sleep(saveNames)
		s.stepped.up()
		time.Sleep(saveNames + time.Second)
		if saves.Load() != 3 {
			t.Errorf("%d saves of a change and two steps", saves.Load())
		}
		cancel()
		synctest.Wait()
	})
}
