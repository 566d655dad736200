package director

import (
	"bytes"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/divertdns/divert/director/gossip"
)

// TestFetchPace: each heartbeat that names a newer plan wakes the librarian. One
// that cannot be used here, of a newer version, is asked for once a second and
// told of once.
func TestFetchPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, n := standing(t)
		top := n.horizon.current().sealed.Identity
		top.Revision++
		n.horizon.setPeer("d2", top)
		var asked atomic.Int64
		var log bytes.Buffer
		l := &librarian{
			horizon: n.horizon, courier: newCourier(func(string, uint8, []byte) error { asked.Add(1); return nil }, slog.New(slog.DiscardHandler)),
			offered: newWake(), ask: newWake(), log: slog.New(slog.NewTextHandler(&log, nil)), changed: func() {},
		}
		for range 8 {
			l.fetch()
			l.message(t.Context(), gossip.Message{Kind: kindPlan, From: "d2", Payload: []byte("of a later format")})
			synctest.Wait()
			time.Sleep(fetchTick / 4)
		}
		if got := asked.Load(); got != 2 {
			t.Errorf("asked %d times in two seconds, want 2", got)
		}
		if got := strings.Count(log.String(), "refused"); got != 1 {
			t.Errorf("told %d times, want once:\n%s", got, log.String())
		}
		top.Revision++
		n.horizon.setPeer("d2", top)
		l.fetch()
		synctest.Wait()
		if got := asked.Load(); got != 3 {
			t.Errorf("a newer one still: asked %d times, want at once", got)
		}
	})
}
