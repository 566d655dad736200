package director

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/divertdns/divert/health"
)

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
